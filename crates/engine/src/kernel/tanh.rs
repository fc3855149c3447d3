//! What is computed by way of a tanh: GELU's gate, bounds of scores and logits. One element at a time, so that every
//! instruction set gives the same bits.

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::functions;
use mantissa_numerics::recipe::{CapRecipe, Elementary, GeGluRecipe};

use super::share::{Shared, share};
use crate::pool::Pool;

/// Elements of a task.
const PART: usize = 256;

/// `tanh(x)`, computed in binary64 and rounded.
#[expect(clippy::cast_possible_truncation, reason = "rounding to binary32 is the definition")]
fn tanh(x: f32) -> f32 {
    libm::tanh(f64::from(x)) as f32
}

/// The tanh form of GELU: see [`GeGluRecipe`].
#[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding of its constants")]
fn gelu(x: f32) -> f32 {
    const ROOT: f32 = (std::f64::consts::SQRT_2 * std::f64::consts::FRAC_2_SQRT_PI * 0.5) as f32;
    let inner = ROOT * (x + 0.044_715 * (x * x * x));
    0.5 * x * (1.0 + tanh(inner))
}

/// `gate = round(round(gelu(gate)) · up)`.
pub(crate) fn geglu(pool: &Pool, recipe: GeGluRecipe, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "geglu: shapes differ");
    let GeGluRecipe { functions, output } = recipe;
    let gelu = match functions {
        Elementary::Own => gelu,
        Elementary::Cuda => functions::gelu_tanh,
    };
    each(pool, gate, |i, x| output.round(output.round(gelu(x)) * up[i]));
}

/// `x = cap · tanh(x / cap)`: see [`CapRecipe`].
pub(crate) fn cap(pool: &Pool, recipe: CapRecipe, cap: f32, x: &mut [f32]) {
    let CapRecipe { functions, output } = recipe;
    each(pool, x, |_, x| bounded(functions, output, cap, x));
}

/// The same of scores, within one task.
pub(super) fn bound(functions: Elementary, rounding: Dtype, cap: f32, scores: &mut [f32]) {
    for score in scores {
        *score = bounded(functions, rounding, cap, *score);
    }
}

fn bounded(functions: Elementary, output: Dtype, cap: f32, x: f32) -> f32 {
    let tanh = match functions {
        Elementary::Own => tanh(output.round(x / cap)),
        Elementary::Cuda => functions::tanh(output.round(x * (1.0 / cap))),
    };
    output.round(output.round(tanh) * cap)
}

fn each(pool: &Pool, x: &mut [f32], compute: impl Fn(usize, f32) -> f32 + Sync) {
    let (length, to) = (x.len(), Shared(x.as_mut_ptr()));
    share(pool, length.div_ceil(PART), PART * 8, |from, until| {
        for i in from * PART..(until * PART).min(length) {
            // SAFETY: element `i` is this task's.
            unsafe {
                let x = to.get().add(i);
                *x = compute(i, *x);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `torch.nn.functional.gelu(x, approximate="tanh")` in float64, rounded.
    #[test]
    fn gelu_and_bounds_are_those_of_their_formulas() {
        for (x, y) in [(0.0, 0.0), (1.0, 0.841_192), (-1.0, -0.158_808), (3.0, 2.996_363), (-3.0, -0.003_637)]
        {
            assert!((gelu(x) - y).abs() < 1e-6, "{x}: {}", gelu(x));
        }
        assert_eq!(bounded(Elementary::Own, Dtype::F32, 30.0, 1e9).to_bits(), 30.0_f32.to_bits());
        assert_eq!(bounded(Elementary::Own, Dtype::F32, 30.0, -0.0).to_bits(), (-0.0_f32).to_bits());
        assert!((bounded(Elementary::Own, Dtype::F32, 2.0, 2.0) - 1.523_188_3).abs() < 1e-6);
    }

    #[test]
    fn parts_of_every_length_are_covered_once() {
        let pool = Pool::new(2).unwrap();
        for length in [0, 1, 255, 256, 257, 5000] {
            let mut gate = vec![1.0; length];
            geglu(
                &pool,
                GeGluRecipe { functions: Elementary::Own, output: Dtype::Bf16 },
                &mut gate,
                &vec![2.0; length],
            );
            let one = Dtype::Bf16.round(Dtype::Bf16.round(gelu(1.0)) * 2.0);
            assert!(gate.iter().all(|x| x.to_bits() == one.to_bits()), "{length}");
        }
    }
}
