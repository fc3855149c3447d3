//! Seeded noise, and what counts chance allows. Independent of the code under test except for its generator's bits.

use std::ops::RangeInclusive;

use mantissa_verdict::stats::Random;

/// A simulated world.
pub(super) struct World {
    random: Random,
    spare: Option<f64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), spare: None }
    }

    pub(super) fn unit(&mut self) -> f64 {
        self.random.unit()
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit)
    }

    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A standard normal number (Box & Muller, Ann. Math. Statist. 29(2), 1958).
    pub(super) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * self.unit());
        self.spare = Some(radius * sine);
        radius * cosine
    }

    pub(super) fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }

    /// Token scores of a sequence: an offset that its tokens share, and noise of which each token inherits a part.
    pub(super) fn sequence(&mut self, tokens: usize, dependence: Dependence) -> Vec<f64> {
        let offset = dependence.offset * self.normal();
        let innovation = libm::sqrt(1.0 - dependence.memory * dependence.memory);
        let mut noise = self.normal();
        let mut scores = Vec::with_capacity(tokens);
        for _ in 0..tokens {
            scores.push(offset + dependence.noise * noise);
            noise = dependence.memory * noise + innovation * self.normal();
        }
        scores
    }
}

/// How the tokens of a sequence hang together.
#[derive(Clone, Copy)]
pub(super) struct Dependence {
    /// Standard deviation of what all tokens of a sequence share.
    pub(super) offset: f64,
    /// Standard deviation of each token's own noise.
    pub(super) noise: f64,
    /// Correlation of the noise of neighbouring tokens: AR(1).
    pub(super) memory: f64,
}

pub(super) const INDEPENDENT: Dependence = Dependence { offset: 0.0, noise: 1.0, memory: 0.0 };
pub(super) const DEPENDENT: Dependence = Dependence { offset: 1.0, noise: 0.3, memory: 0.9 };

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "counts of a simulation are small")]
pub(super) fn real(count: usize) -> f64 {
    count as f64
}

/// The counts of Bin(trials, rate) without its tails: each tail left out has probability below 5 · 10⁻⁷.
pub(super) fn range(trials: usize, rate: f64) -> RangeInclusive<usize> {
    let log_choose = |k: usize| {
        libm::lgamma(real(trials) + 1.0) - libm::lgamma(real(k) + 1.0) - libm::lgamma(real(trials - k) + 1.0)
    };
    let probability = |k: usize| {
        libm::exp(log_choose(k) + real(k) * libm::log(rate) + real(trials - k) * libm::log1p(-rate))
    };
    let beyond_tail = |mut counts: Box<dyn Iterator<Item = usize>>| {
        let mut tail = 0.0;
        counts.find(|&k| {
            tail += probability(k);
            tail >= 5e-7
        })
    };
    beyond_tail(Box::new(0..=trials)).unwrap()..=beyond_tail(Box::new((0..=trials).rev())).unwrap()
}

/// Whether `count` of `trials` is what `rate` gives, but for chance.
#[track_caller]
pub(super) fn assert_rate(what: &str, count: usize, trials: usize, rate: f64) {
    let allowed = range(trials, rate);
    assert!(allowed.contains(&count), "{what}: {count} of {trials}; a rate of {rate} allows {allowed:?}");
}

/// Whether `count` of `trials` is no more than `rate` gives, but for chance.
#[track_caller]
pub(super) fn assert_at_most(what: &str, count: usize, trials: usize, rate: f64) {
    let allowed = range(trials, rate);
    assert!(
        count <= *allowed.end(),
        "{what}: {count} of {trials}; a rate of {rate} allows up to {}",
        allowed.end()
    );
}

/// Whether `count` of `trials` is more than `rate` can give by chance: the stated rate is broken.
#[track_caller]
pub(super) fn assert_breaks(what: &str, count: usize, trials: usize, rate: f64) {
    let allowed = range(trials, rate);
    assert!(
        count > *allowed.end(),
        "{what}: {count} of {trials} is still within a rate of {rate}: {allowed:?}"
    );
}

/// Bin(10, 1/2) by hand: no tail of it is rarer than 1/1024. Bin(40, 1/2): P(X ≤ 4) = 9.3 · 10⁻⁸ and
/// P(X ≤ 5) = 6.9 · 10⁻⁷ (sums of C(40, k) / 2⁴⁰).
#[test]
fn ranges_are_exact() {
    assert_eq!(range(10, 0.5), 0..=10);
    assert_eq!(range(40, 0.5), 5..=35);
    assert_eq!(range(1000, 1e-3).start(), &0);
}
