//! The gated activation of a feed-forward block.

use crate::Dtype;

/// `round(round(silu(gate)) · up)`, `silu(x) = x / (1 + exp(−x))` in binary32.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::nvidia::functions::silu_each;
/// use mantissa_numerics::recipe::{Silu, SwiGluRecipe};
/// let recipe = SwiGluRecipe { silu: Silu::Cuda, output: Dtype::Bf16 };
/// let (mut gate, up) = ([1.0], 21.0);
/// silu_each(&mut gate);
/// let round = |x| recipe.output.round(x);
/// // Two roundings leave another bf16 than one would.
/// assert_eq!((round(round(gate[0]) * up), round(gate[0] * up)), (15.3125, 15.375));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SwiGluRecipe {
    /// Whose SiLU.
    pub silu: Silu,
    /// Format of both roundings.
    pub output: Dtype,
}

/// Whose SiLU.
///
/// Example: [`SwiGluRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Silu {
    /// With the engine's own exponential, sum and division correctly rounded.
    Own,
    /// PyTorch's CUDA kernel: [`crate::nvidia::functions::silu_each`].
    Cuda,
}

/// gpt-oss's gated unit of neighbours `(gate, up)`, each operation in binary32 and rounded to `output`: `gate` clamped
/// from above and `up` from both sides to the model's limit; `gate · sigmoid(alpha · gate)`, times `up + 1`. The
/// sigmoid is `1 / (1 + exp(−x))`, rounded once.
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::{ClampedSwiGluRecipe, Elementary}};
/// let recipe = ClampedSwiGluRecipe { functions: Elementary::Own, output: Dtype::Bf16 };
/// let r = |x| recipe.output.round(x);
/// let unit = |gate: f32, up: f32| {
///     let (gate, up) = (gate.min(7.0), up.clamp(-7.0, 7.0));
///     r(r(gate * r(1.0 / (1.0 + (-r(1.702 * gate)).exp()))) * r(up + 1.0))
/// };
/// assert_eq!(unit(100.0, -100.0), -42.0); // 7 · 1 · (−7 + 1)
/// assert_eq!(unit(-100.0, 1.0), 0.0); // no bound from below: a sigmoid of 0
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClampedSwiGluRecipe {
    /// Whose exponential; CUDA's is [`crate::nvidia::functions::sigmoid`]'s.
    pub functions: Elementary,
    /// Format of every rounding.
    pub output: Dtype,
}

/// `round(round(gelu(gate)) · up)` with the tanh form of GELU. The engine's own: in binary32, each operation rounded,
/// `inner = c · (x + 0.044715 · ((x · x) · x))` with `c = sqrt(2 / π)`; `gelu(x) = (0.5 · x) · (1 + tanh(inner))`, the
/// tanh computed in binary64 (by the `libm` crate) and rounded to binary32. CUDA's is
/// [`crate::nvidia::functions::gelu_tanh`].
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::{Elementary, GeGluRecipe}};
/// let recipe = GeGluRecipe { functions: Elementary::Own, output: Dtype::Bf16 };
/// let (round, c) = (|x| recipe.output.round(x), (2.0 / std::f32::consts::PI).sqrt());
/// let unit = |x: f32, up: f32| {
///     let inner = c * (x + 0.044715 * ((x * x) * x));
///     round(round((0.5 * x) * (1.0 + f64::from(inner).tanh() as f32)) * up)
/// };
/// assert_eq!(unit(10.0, 3.0), 30.0);
/// // GELU itself is −7.6e-23 at −10, which bf16 could hold; the tanh form has nothing left.
/// assert_eq!(unit(-10.0, 1e20), 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GeGluRecipe {
    /// Whose GELU.
    pub functions: Elementary,
    /// Format of both roundings.
    pub output: Dtype,
}

/// Whose exponentials and hyperbolic tangents.
///
/// Example: [`GeGluRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Elementary {
    /// The engine's own, as each recipe says.
    Own,
    /// CUDA's, in the order of PyTorch's kernels: [`crate::nvidia::functions`].
    Cuda,
}
