//! From values to places and paints: one scale for all pictures that are to be compared.
//!
//! Left out: how a picture is drawn.

use crate::words;

/// Values that are above zero and finite, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    least: f64,
    most: f64,
    logarithmic: bool,
}

/// Paints of a scale; `style.css` has as many.
pub(super) const STEPS: u8 = 11;

impl Scale {
    /// Of all values that can be placed; absent where there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let positive = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let (least, most) =
            positive.fold((f64::INFINITY, 0.0_f64), |(least, most), v| (least.min(v), most.max(v)));
        (most > 0.0).then(|| Self { least, most, logarithmic: most / least >= 20.0 })
    }

    /// The same, with whole decades at its ends, for an axis with ticks.
    pub(super) fn with_ticks(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let scale = Self::of(values)?;
        if scale.logarithmic {
            let decade = |exponent: f64| libm::pow(10.0, exponent);
            let low = decade(libm::floor(libm::log10(scale.least))).max(f64::MIN_POSITIVE);
            let high = decade(libm::ceil(libm::log10(scale.most)));
            let most = if high.is_finite() { high } else { f64::MAX };
            return Some(Self { least: low.min(scale.least), most: most.max(scale.most), ..scale });
        }
        let step = scale.step();
        let most = libm::ceil(scale.most / step) * step;
        Some(Self { most: if most.is_finite() { most } else { scale.most }, ..scale })
    }

    pub(super) const fn is_logarithmic(self) -> bool {
        self.logarithmic
    }

    pub(super) const fn ends(self) -> (f64, f64) {
        (if self.logarithmic { self.least } else { 0.0 }, self.most)
    }

    /// Where a value lies, from 0 to 1. Zero lies at 0 on a linear scale, and below the others on a logarithmic one.
    pub(super) fn share(self, value: f64) -> f64 {
        let share = match (self.logarithmic, value > 0.0) {
            (false, _) => value / self.most,
            (true, false) => 0.0,
            (true, true) => {
                // Differences of logarithms, so that no quotient is too large.
                let decades = |from: f64, to: f64| libm::log10(to) - libm::log10(from);
                ZERO + (1.0 - ZERO) * decades(self.least, value) / decades(self.least, self.most)
            }
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The paint of a distance.
    pub(super) fn step_of(self, value: f64) -> u8 {
        let share = self.share(value);
        let share = if self.logarithmic { (share - ZERO) / (1.0 - ZERO) } else { share };
        let mut step = 0;
        while step < STEPS - 1 && share >= f64::from(step + 1) / f64::from(STEPS) {
            step += 1;
        }
        step
    }

    /// Values beside which a number is written.
    pub(super) fn ticks(self) -> Vec<f64> {
        if !self.logarithmic {
            let step = self.step();
            return (0..16)
                .map(|i| f64::from(i) * step)
                .take_while(|tick| *tick <= self.most * 1.001)
                .collect();
        }
        let (first, last) = (libm::ceil(libm::log10(self.least) - 1e-9), libm::log10(self.most) + 1e-9);
        let step = libm::ceil((last - first) / 6.0).max(1.0);
        (0..16)
            .map(|i| first + f64::from(i) * step)
            .take_while(|e| *e <= last)
            .map(|e| libm::pow(10.0, e))
            .collect()
    }

    fn step(self) -> f64 {
        let mut step = libm::pow(10.0, libm::floor(libm::log10(self.most)));
        for factor in [0.5, 0.4, 0.5].into_iter().cycle().take(12) {
            if self.most / step >= 2.5 {
                break;
            }
            step *= factor;
        }
        if step > 0.0 { step } else { self.most }
    }
}

/// A tick's number.
pub(super) fn label(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(0.001..10_000.0).contains(&value) {
        return words::number(value, 1);
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Where the positive part of a logarithmic scale begins.
const ZERO: f64 = 0.08;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_place_whatever_it_is() {
        let tiny = f64::from_bits(1);
        for values in
            [vec![1.0], vec![tiny, f64::MAX], vec![0.1, 7.0], vec![1e300, f64::INFINITY, f64::NAN, -1.0]]
        {
            for scale in [Scale::of(values.clone()), Scale::with_ticks(values.clone())] {
                let scale = scale.expect("a value above zero");
                let mut before = 0;
                for value in [-1.0, 0.0, tiny, 1e-300, 0.05, 1.0, 7.0, 1e300, f64::MAX, f64::INFINITY] {
                    assert!((0.0..=1.0).contains(&scale.share(value)), "{scale:?} {value}");
                    let step = scale.step_of(value);
                    assert!(step < STEPS && (step >= before || value == f64::INFINITY), "{scale:?} {value}");
                    before = step;
                }
                let ticks = scale.ticks();
                assert!(ticks.len() <= 16 && ticks.iter().all(|tick| tick.is_finite()), "{ticks:?}");
            }
        }
        assert_eq!((Scale::of([0.0, f64::NAN]), Scale::of([])), (None, None));
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_scale() {
        let log = Scale::with_ticks([0.003, 40.0]).expect("a scale");
        assert_eq!(
            log.ticks().iter().map(|tick| label(*tick)).collect::<Vec<_>>(),
            ["0.001", "0.01", "0.1", "1", "10", "100"]
        );
        let linear = Scale::with_ticks([0.8, 1.37]).expect("a scale");
        assert_eq!(
            linear.ticks().iter().map(|tick| label(*tick)).collect::<Vec<_>>(),
            ["0", "0.5", "1", "1.5"]
        );
        assert!(linear.share(1.5) >= 1.0 && log.share(0.0) < log.share(0.001));
    }
}
