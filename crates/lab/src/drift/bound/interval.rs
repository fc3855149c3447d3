//! Intervals of binary64, and what binary32 loses.

use mantissa_model::graph::{Pairing, Rotary};
use mantissa_numerics::Dtype;

/// What one operation in binary32 loses at most, relatively: cut off, not rounded to nearest.
pub(super) const LOST: f64 = 1.0 / 8_388_608.0;

/// A number of terms.
#[expect(clippy::cast_precision_loss, reason = "a number of terms")]
pub(super) const fn count(terms: usize) -> f64 {
    terms as f64
}

/// What a sum of `terms` products loses at most, as a share of the sum of their magnitudes, in any order.
pub(super) fn lost(terms: usize) -> f64 {
    (count(terms) + 1.0) * LOST
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    pub(super) const fn point(x: f64) -> Self {
        Self { low: x, high: x }
    }

    pub(super) fn of(a: f64, b: f64) -> Self {
        Self { low: a.min(b), high: a.max(b) }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    pub(super) fn times(self, other: Self) -> Self {
        let ends =
            [self.low * other.low, self.low * other.high, self.high * other.low, self.high * other.high];
        Self {
            low: ends.iter().copied().fold(f64::INFINITY, f64::min),
            high: ends.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    pub(super) fn square(self) -> Self {
        let (a, b) = (self.low * self.low, self.high * self.high);
        let low = if self.low <= 0.0 && self.high >= 0.0 { 0.0 } else { a.min(b) };
        Self { low, high: a.max(b) }
    }

    pub(super) fn largest(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    pub(super) fn wider(self, by: f64) -> Self {
        Self { low: self.low - by, high: self.high + by }
    }

    /// Wider by a share of its largest magnitude.
    pub(super) fn widened(self, share: f64) -> Self {
        self.wider(self.largest() * share)
    }

    pub(super) fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// How far from the middle a value lies, as a share of half the width. A point, where all orders round to the same,
    /// counts as half a step of the format wide, so that its neighbours lie outside.
    pub(super) fn share(self, dtype: Dtype, x: f64) -> f64 {
        if x.is_nan() || !(self.high - self.low).is_finite() {
            // What overflows in some order may be anything there; what is no number is none of a finite interval.
            return if self.low <= x && x <= self.high || !(self.high - self.low).is_finite() {
                0.0
            } else {
                f64::MAX
            };
        }
        let from = (x - f64::midpoint(self.low, self.high)).abs();
        let half = ((self.high - self.low) / 2.0).max(half_step(dtype, self.largest()) / 2.0);
        if from == 0.0 { 0.0 } else { (from / half).min(f64::MAX) }
    }
}

/// Both ends rounded to a format; rounding is monotone.
#[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
pub(super) fn rounded(dtype: Dtype, x: Interval) -> Interval {
    let round = |x: f64| f64::from(dtype.round(x as f32));
    Interval { low: round(x.low), high: round(x.high) }
}

pub(super) fn scaled(x: Interval, by: f64) -> Interval {
    Interval::of(x.low * by, x.high * by)
}

/// Half the step between neighbours of a format at a magnitude.
pub(super) fn half_step(dtype: Dtype, magnitude: f64) -> f64 {
    // Digits, and the exponent of half the smallest step.
    let (digits, least) = match dtype {
        Dtype::F32 => (24.0, -150.0),
        Dtype::F16 => (11.0, -25.0),
        Dtype::Bf16 => (8.0, -134.0),
    };
    if magnitude == 0.0 { 0.0 } else { (magnitude.log2().floor() - digits).max(least).exp2() }
}

/// A rotary embedding; `angles` are cosines, then sines. Entries of the table may be a step off, and an angle of a far
/// position by more.
pub(super) fn rotated(
    rotary: &Rotary,
    angles: &[f32],
    position: usize,
    output: Dtype,
    x: &[Interval],
) -> Option<Vec<Interval>> {
    let half = rotary.rotated / 2;
    if angles.len() < 2 * half {
        return None;
    }
    let far = (count(position) + 1.0) * 2.0 * LOST;
    let entry = |value: f32| {
        let value = f64::from(value);
        Interval::point(value).wider(2.0 * half_step(output, value.abs()) + far)
    };
    let mut out = x.to_vec();
    for head in out.chunks_exact_mut(rotary.width) {
        let turned = head[rotary.from..rotary.from + rotary.rotated].to_vec();
        for pair in 0..half {
            let (first, second) = match rotary.pairing {
                Pairing::Halves | Pairing::WideHalves => (pair, pair + half),
                Pairing::Neighbours => (2 * pair, 2 * pair + 1),
            };
            let (cosine, sine) = (entry(angles[pair]), entry(angles[half + pair]));
            let (a, b) = (turned[first], turned[second]);
            let narrow = |x: Interval| match rotary.pairing {
                Pairing::Halves => rounded(output, x.widened(LOST)),
                Pairing::WideHalves | Pairing::Neighbours => x.widened(2.0 * LOST),
            };
            let minus = |x: Interval| Interval { low: -x.high, high: -x.low };
            let left = narrow(a.times(cosine)).plus(minus(narrow(b.times(sine))));
            let right = narrow(b.times(cosine)).plus(narrow(a.times(sine)));
            head[rotary.from + first] = rounded(output, left.widened(LOST));
            head[rotary.from + second] = rounded(output, right.widened(LOST));
        }
    }
    Some(out)
}
