//! Inverse frequencies of rotary embeddings, as Hugging Face transformers computes them at load.
//!
//! transformers computes them on the CPU, whatever runs the model, in binary32 tensors that meet Python's binary64
//! numbers (each rounded to binary32 as it meets a tensor). So they are a function of the parameters and of
//! PyTorch's `pow` ([`crate::torch_cpu`]). Left out: angles, cosines and sines.
//!
//! **Length.** For [`RopeScaling::Dynamic`] and [`RopeScaling::LongRope`] they change once the sequence is longer than
//! [`Rope::border`]. The forward pass then computes them again, where the model runs: on a GPU by CUDA's `pow`,
//! which is not defined here. Keys that are cached keep the rotation they got. `Dynamic` computes them at every new
//! longest length and returns to those of load when a shorter sequence (below the border) comes.

use serde::{Deserialize, Serialize};

use crate::torch_cpu::{self, CpuCapability, glibc};

mod on_gpu;
mod scaling;

pub use scaling::{LongRope, RopeScaling, Yarn};

/// Whose operations.
///
/// ```
/// use mantissa_numerics::rotary::{Arithmetic, Rope};
/// use mantissa_numerics::torch_cpu::CpuCapability;
/// let rope = Rope { base: 1e6, dim: 128, scaling: None, max_position_embeddings: 4096 };
/// let engine = rope.frequencies(Arithmetic::Engine, None).inverse;
/// let torch = rope.frequencies(Arithmetic::Torch(CpuCapability::Avx2), None).inverse;
/// // PyTorch's power is not always the nearest: one of 64 frequencies is one step larger.
/// assert_eq!(torch[37], engine[37].next_up());
/// assert_eq!((&torch[..37], &torch[38..]), (&engine[..37], &engine[38..]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// The engine's own: powers in binary64 from the exact base, rounded to binary32; a number over a tensor is one
    /// division.
    Engine,
    /// PyTorch on a CPU: [`torch_cpu::pow`]; a number over a tensor is the tensor's reciprocal times the number.
    Torch(CpuCapability),
    /// PyTorch on an NVIDIA GPU, as vLLM asks for it, of bases that were measured ([`Rope::is_known_on_gpu`]).
    OnGpu,
}

/// The parameters of a rotary embedding.
#[derive(Debug, Clone, Copy)]
pub struct Rope<'a> {
    /// `rope_theta`.
    pub base: f64,
    /// Elements of a head that are rotated ([`rotated`]); even.
    pub dim: usize,
    /// Stretching, if any.
    pub scaling: Option<&'a RopeScaling>,
    /// The model's own, which `Dynamic` starts from.
    pub max_position_embeddings: usize,
}

/// Inverse frequencies, and the factor that cosines and sines are multiplied by in binary32.
///
/// Example: [`Rope::frequencies`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frequencies {
    /// One per rotated pair.
    pub inverse: Vec<f32>,
    /// 1 but for `Yarn` and `LongRope`: computed in binary64, rounded where it meets a tensor.
    pub attention_factor: f32,
}

/// Elements of a head that are rotated for a `partial_rotary_factor`, as `int(head_dim * factor)`.
///
/// ```
/// use mantissa_numerics::rotary::rotated;
/// assert_eq!(rotated(96, 0.75), 72);
/// // Cut, not rounded: 100 · 0.29 is 28.999999999999996 in binary64.
/// assert_eq!(rotated(100, 0.29), 28);
/// ```
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "Python's int of a product that is a small positive number"
)]
pub fn rotated(head_dim: usize, partial: f64) -> usize {
    (head_dim as f64 * partial) as usize
}

/// `inverse`, with the pairs of a head that `proportional` leaves unrotated as zeros: what Gemma's global layers use.
///
/// *Shape:* `head_dim / 2`; the first `partial` of them rotate, by exponents over the whole head.
///
/// ```
/// use mantissa_numerics::rotary::{Arithmetic, proportional};
/// // Exponents 0/8 and 2/8: over the whole head of 8, though only half of it rotates.
/// assert_eq!(proportional(Arithmetic::Engine, 10_000.0, 8, 0.5, 1.0), [1.0, 0.1, 0.0, 0.0]);
/// ```
#[must_use]
pub fn proportional(
    arithmetic: Arithmetic,
    base: f64,
    head_dim: usize,
    partial: f64,
    factor: f64,
) -> Vec<f32> {
    let rotating = rotated(head_dim, partial) / 2;
    let mut inverse: Vec<f32> =
        arithmetic.powers(base, rotating, head_dim).into_iter().map(|power| 1.0 / power).collect();
    inverse.resize(head_dim / 2, 0.0);
    inverse.into_iter().map(|f| f / single(factor)).collect()
}

impl Rope<'_> {
    /// Positions up to which the frequencies of load hold; none where they always do.
    #[must_use]
    pub fn border(&self) -> Option<usize> {
        match self.scaling? {
            RopeScaling::Dynamic { .. } => Some(self.max_position_embeddings),
            RopeScaling::LongRope(long) => Some(long.original_max_position_embeddings),
            RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } | RopeScaling::Yarn(_) => None,
        }
    }

    /// The frequencies for a sequence of `length` positions in all; those of load for `None` and up to the border.
    ///
    /// *Rounding:* binary32, each operation once, in transformers' order.
    ///
    /// *Source:* transformers 5.17.0, `modeling_rope_utils.py` and `LlamaRotaryEmbedding`.
    ///
    /// ```
    /// use mantissa_numerics::rotary::{Arithmetic, Rope};
    /// use mantissa_numerics::torch_cpu::CpuCapability;
    /// let rope = Rope { base: 1e6, dim: 128, scaling: None, max_position_embeddings: 4096 };
    /// let torch = rope.frequencies(Arithmetic::Torch(CpuCapability::Avx2), None);
    /// assert_eq!(torch.inverse[37].to_bits(), 0x39B2_29FB);
    /// ```
    #[must_use]
    pub fn frequencies(&self, arithmetic: Arithmetic, length: Option<usize>) -> Frequencies {
        let long = length.filter(|&length| self.border().is_some_and(|border| length > border));
        let plain = || self.plain(arithmetic, self.base);
        let (inverse, attention_factor) = match self.scaling {
            None => (plain(), 1.0),
            Some(RopeScaling::Linear { factor }) => {
                (plain().into_iter().map(|f| arithmetic.under(f, single(*factor))).collect(), 1.0)
            }
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            }) => (llama3(arithmetic, &plain(), [*factor, *low, *high, wide(*original)]), 1.0),
            Some(RopeScaling::Dynamic { factor }) => {
                (self.plain(arithmetic, self.stretched(*factor, long)), 1.0)
            }
            Some(RopeScaling::Yarn(yarn)) => (self.yarn(arithmetic, yarn), yarn.attention_factor()),
            Some(RopeScaling::LongRope(parameters)) => {
                let factors = if long.is_some() { &parameters.long_factor } else { &parameters.short_factor };
                let powers = arithmetic.powers(self.base, self.dim / 2, self.dim);
                let inverse = powers.into_iter().zip(factors).map(|(power, f)| 1.0 / (single(*f) * power));
                (inverse.collect(), parameters.attention_factor())
            }
        };
        Frequencies { inverse, attention_factor: single(attention_factor) }
    }

    /// The frequencies of load where every machine's PyTorch (AVX2 or AVX-512, any C library) has the same.
    ///
    /// Sure where half of `dim` is a multiple of 32 (heads of 64, 128, 192, 256), because then no element is left to
    /// the C library; elsewhere it depends on the values.
    #[must_use]
    pub fn one_answer(&self) -> Option<Frequencies> {
        let [narrow, wide] = CpuCapability::ALL.map(|cpu| self.frequencies(Arithmetic::Torch(cpu), None));
        let half = self.dim / 2;
        let base = single(self.base);
        let tail = CpuCapability::Avx512.vectorized(half)..half;
        let sure = tail.into_iter().all(|i| glibc::is_one_answer(base, exponent(i, self.dim)));
        (sure && bits(&narrow.inverse).eq(bits(&wide.inverse))).then_some(wide)
    }

    /// Whether the frequencies of load that a GPU computes are known: of measured bases, not stretched or as Llama 3.1
    /// or by one factor.
    ///
    /// ```
    /// use mantissa_numerics::rotary::{Arithmetic, Rope};
    /// use mantissa_numerics::torch_cpu::CpuCapability;
    /// let rope = |base| Rope { base, dim: 64, scaling: None, max_position_embeddings: 4096 };
    /// assert!(rope(5e5).is_known_on_gpu() && !rope(1234.0).is_known_on_gpu());
    /// // Three of 32 are not those that transformers computes on the CPU.
    /// let of = |arithmetic| rope(5e5).frequencies(arithmetic, None).inverse;
    /// let pairs = of(Arithmetic::OnGpu).into_iter().zip(of(Arithmetic::Torch(CpuCapability::Avx512)));
    /// assert_eq!(pairs.filter(|(gpu, cpu)| gpu != cpu).count(), 3);
    /// assert_eq!(of(Arithmetic::OnGpu)[3].to_bits(), 0x3E95_9EE2);
    /// ```
    #[must_use]
    pub fn is_known_on_gpu(&self) -> bool {
        let known = match self.scaling {
            None | Some(RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. }) => true,
            Some(RopeScaling::Dynamic { .. } | RopeScaling::Yarn(_) | RopeScaling::LongRope(_)) => false,
        };
        known && on_gpu::deviations(self.base, self.dim).is_some()
    }

    fn plain(&self, arithmetic: Arithmetic, base: f64) -> Vec<f32> {
        if arithmetic == Arithmetic::OnGpu
            && let Some(deviations) = on_gpu::deviations(base, self.dim)
        {
            let step = 1.0 / single(wide(self.dim));
            let nearest = |i| 1.0 / single(libm::pow(base, f64::from(single(wide(2 * i)) * step)));
            let mut found: Vec<f32> = (0..self.dim / 2).map(nearest).collect();
            for (place, steps) in deviations {
                found[*place] = f32::from_bits(found[*place].to_bits().wrapping_add_signed((*steps).into()));
            }
            return found;
        }
        arithmetic.powers(base, self.dim / 2, self.dim).into_iter().map(|power| 1.0 / power).collect()
    }

    /// The base of `Dynamic`. At load in binary64; later the length is a tensor, and all is
    /// binary32 but the power itself.
    fn stretched(&self, factor: f64, length: Option<usize>) -> f64 {
        let (dim, most) = (wide(self.dim), wide(self.max_position_embeddings));
        let power = dim / (dim - 2.0);
        match length {
            None => self.base * libm::pow(factor * most / most - (factor - 1.0), power),
            Some(length) => {
                let grown = single(factor) * single(wide(length)) / single(most) - single(factor - 1.0);
                f64::from(single(self.base) * single(libm::pow(f64::from(grown), power)))
            }
        }
    }

    fn yarn(&self, arithmetic: Arithmetic, yarn: &Yarn) -> Vec<f32> {
        let [low, high] = yarn.range(self.base, wide(self.dim));
        let span = single(if low.to_bits() == high.to_bits() { high + 0.001 - low } else { high - low });
        let powers = arithmetic.powers(self.base, self.dim / 2, self.dim);
        powers
            .into_iter()
            .enumerate()
            .map(|(i, power)| {
                let ramp = ((single(wide(i)) - single(low)) / span).clamp(0.0, 1.0);
                let keep = 1.0 - ramp;
                1.0 / (single(yarn.factor) * power) * (1.0 - keep) + 1.0 / power * keep
            })
            .collect()
    }
}

impl Arithmetic {
    /// `base^(2i / dim)` for the first `count` pairs.
    fn powers(self, base: f64, count: usize, dim: usize) -> Vec<f32> {
        let exponents: Vec<f32> = (0..count).map(|i| exponent(i, dim)).collect();
        match self {
            Self::Engine | Self::OnGpu => {
                exponents.iter().map(|&e| single(libm::pow(base, f64::from(e)))).collect()
            }
            Self::Torch(cpu) => torch_cpu::pow(cpu, base, &exponents),
        }
    }

    /// A Python number over an element of a tensor.
    fn over(self, number: f64, element: f32) -> f32 {
        match self {
            Self::Engine => single(number) / element,
            Self::Torch(_) | Self::OnGpu => 1.0 / element * single(number),
        }
    }

    /// An element of a tensor over a Python number that is binary32 there.
    fn under(self, element: f32, number: f32) -> f32 {
        match self {
            Self::Engine | Self::Torch(_) => element / number,
            Self::OnGpu => element * (1.0 / number),
        }
    }
}

/// Llama 3.1's interpolation; `[factor, low, high, original context]`.
fn llama3(arithmetic: Arithmetic, plain: &[f32], [factor, low, high, context]: [f64; 4]) -> Vec<f32> {
    let (longest, shortest) = (single(context / low), single(context / high));
    let (factor, low, span) = (single(factor), single(low), single(high - low));
    let stretch = |&f: &f32| {
        let wavelength = arithmetic.over(2.0 * std::f64::consts::PI, f);
        if wavelength < shortest {
            f
        } else if wavelength > longest {
            arithmetic.under(f, factor)
        } else {
            let smooth = arithmetic.under(arithmetic.over(context, wavelength) - low, span);
            arithmetic.under((1.0 - smooth) * f, factor) + smooth * f
        }
    };
    plain.iter().map(stretch).collect()
}

fn exponent(i: usize, dim: usize) -> f32 {
    single(wide(2 * i)) / single(wide(dim))
}

fn bits(values: &[f32]) -> impl Iterator<Item = u32> + '_ {
    values.iter().map(|value| value.to_bits())
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to binary32 is the definition")]
fn single(x: f64) -> f32 {
    x as f32
}

#[expect(clippy::cast_precision_loss, reason = "a size of a model, far below 2^53")]
fn wide(size: usize) -> f64 {
    size as f64
}
