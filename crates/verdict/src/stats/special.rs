//! Special functions: the normal distribution and the regularized incomplete beta function.
//!
//! Own code on top of `libm`, because the standard library's logarithm may differ between platforms in its last bit.
//! Inverses are bisections of the function itself, so that they agree with it to the last bit. Left out: gradients,
//! tails below 10⁻³⁰⁰.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "counts of units and arrangements stay far below 2^53")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// Length of a list as a number.
pub(super) fn length<T>(list: &[T]) -> f64 {
    real(list.len() as u64)
}

/// The mean, summed in index order.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / length(values)
}

/// P(Z ≤ z) of a standard normal Z.
///
/// *Rounding:* relative 10⁻¹⁵ also in the lower tail. *Source:* Φ(z) = erfc(−z/√2)/2, Abramowitz & Stegun 26.2.29.
pub(super) fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// Density of a standard normal at `z`.
pub(super) fn normal_density(z: f64) -> f64 {
    libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * PI)
}

/// The z with P(Z ≤ z) = `probability`; infinite at 0 and 1.
pub(super) fn normal_quantile(probability: f64) -> f64 {
    if probability <= 0.0 {
        f64::NEG_INFINITY
    } else if probability >= 1.0 {
        f64::INFINITY
    } else if probability > 0.5 {
        // The upper tail of Φ has lost its digits; the lower one has them.
        -normal_quantile(1.0 - probability)
    } else {
        bisect(-40.0, 0.0, |z| normal_cdf(z) < probability)
    }
}

/// I_x(a, b), the regularized incomplete beta function: P(X ≤ x) of X ~ Beta(a, b).
///
/// *Rounding:* relative error about 10⁻¹² for a + b up to 10⁶ (log-gamma cancels). *Source:* continued fraction
/// DLMF 8.17.22 by the modified Lentz method (Press et al., Numerical Recipes, 3rd ed., §6.4), with
/// I_x(a, b) = 1 − I_{1−x}(b, a) (DLMF 8.17.4) where it converges faster.
pub(super) fn beta_cdf(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let log_front =
        libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * libm::log(x) + b * libm::log1p(-x);
    let front = libm::exp(log_front);
    if x < (a + 1.0) / (a + b + 2.0) {
        front * continued_fraction(a, b, x) / a
    } else {
        1.0 - front * continued_fraction(b, a, 1.0 - x) / b
    }
}

/// The x with I_x(a, b) = `probability`.
pub(super) fn beta_quantile(a: f64, b: f64, probability: f64) -> f64 {
    bisect(0.0, 1.0, |x| beta_cdf(a, b, x) < probability)
}

fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    // Converges in O(√max(a, b)) terms; 10⁵ covers a, b up to 10⁹.
    for term in 1..100_000_u64 {
        let m = real(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        let step = d * c;
        fraction *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    fraction
}

/// The upper end of the last interval in which `below` changes from true to false.
fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return high;
        }
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{beta_cdf, beta_quantile, normal_cdf, normal_quantile, real};

    /// P(X ≤ k) of X ~ Bin(n, p), summed term by term.
    fn binomial_cdf(n: u64, k: u64, p: f64) -> f64 {
        let mut coefficient = 1.0;
        let mut sum = 0.0;
        for i in 0..=k {
            sum += coefficient * libm::pow(p, real(i)) * libm::pow(1.0 - p, real(n - i));
            coefficient *= real(n - i) / real(i + 1);
        }
        sum
    }

    #[test]
    fn beta_is_the_binomial_sum() {
        for n in [1, 2, 5, 10, 40, 100] {
            for k in 0..n {
                for p in [0.001, 0.01, 0.2, 0.5, 0.77, 0.99] {
                    let expected = binomial_cdf(n, k, p);
                    let got = beta_cdf(real(n - k), real(k + 1), 1.0 - p);
                    assert!(
                        (got - expected).abs() <= 1e-12 + 1e-10 * expected,
                        "{n} {k} {p}: {got} {expected}"
                    );
                }
            }
        }
    }

    /// scipy 1.17.1: `stats.norm.cdf`, `stats.norm.ppf`.
    #[test]
    fn the_normal_distribution_is_the_printed_one() {
        for (z, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.959_963_984_540_054, 0.025),
            (-6.0, 9.865_876_450_376_946e-10),
        ] {
            assert!((normal_cdf(z) / expected - 1.0).abs() < 1e-13, "{z}");
        }
        for (p, expected) in
            [(0.975, 1.959_963_984_540_054), (0.995, 2.575_829_303_548_901), (0.3, -0.524_400_512_708_041)]
        {
            assert!((normal_quantile(p) - expected).abs() < 1e-13, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn quantiles_invert() {
        for (a, b) in [(1.0, 9.0), (3.0, 998.0), (50.0, 50.0), (1.0, 100_000.0)] {
            for p in [0.001, 0.05, 0.5, 0.95, 0.999] {
                assert!((beta_cdf(a, b, beta_quantile(a, b, p)) - p).abs() < 1e-9, "{a} {b} {p}");
            }
        }
    }
}
