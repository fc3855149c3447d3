//! Weights quantized as other programs publish them: what is stored, how it is made, and what each element is worth.
//!
//! One file a format, each with a quantizer and the scalar decoder that undoes it; `parts` is what they share, `scheme`
//! what a `config.json` says of it. Left out: GGUF's blocks (`mantissa_numerics::BlockFormat`) and which matrices of a
//! model are quantized (`synth`, `checkpoint`).

mod awq;
mod bnb;
mod fp8;
mod gptq;
mod int4;
mod int4_matrix;
mod parts;
mod scheme;
#[cfg(test)]
mod tests;

use mantissa_numerics::Dtype;

pub use bnb::Nf4Matrix;
pub use int4_matrix::{Int4, Int4Matrix};
pub use parts::Part;
pub(crate) use parts::{Made, Matrix, safetensors_name};
pub use scheme::OtherScales;
pub(crate) use scheme::{Decoder, Scheme};

/// A published layout of quantized weights.
///
/// ```
/// use mantissa_model::quantized::Quantization;
///
/// let names = Quantization::ALL.map(Quantization::name);
/// assert_eq!(names, ["awq", "gptq", "bnb-nf4", "bnb-nf4-double", "fp8"]);
/// assert_eq!(Quantization::named("fp8"), Some(Quantization::Fp8));
/// // A matrix of 128 × 256: packed nibbles, zero points and scales.
/// let parts = Quantization::Awq.parts(128, 256, mantissa_numerics::Dtype::F16);
/// let shapes: Vec<_> = parts.iter().map(|part| (part.name, part.shape.as_slice())).collect();
/// assert_eq!(shapes, [("qweight", &[256, 16][..]), ("qzeros", &[2, 16]), ("scales", &[2, 128])]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// AutoAWQ's `gemm` layout: 4 bits with zero points.
    Awq,
    /// GPTQ's first layout: 4 bits around 8.
    Gptq,
    /// bitsandbytes' normal float of 4 bits.
    BnbNf4,
    /// The same, its scales quantized too.
    BnbNf4Double,
    /// E4M3 in blocks of 128 × 128, as DeepSeek's and Qwen3's.
    Fp8,
}

impl Quantization {
    /// Every layout.
    pub const ALL: [Self; 5] = [Self::Awq, Self::Gptq, Self::BnbNf4, Self::BnbNf4Double, Self::Fp8];

    /// The name used in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Awq => "awq",
            Self::Gptq => "gptq",
            Self::BnbNf4 => "bnb-nf4",
            Self::BnbNf4Double => "bnb-nf4-double",
            Self::Fp8 => "fp8",
        }
    }

    /// The layout of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quantization| quantization.name() == name)
    }

    /// The format that published checkpoints keep their other tensors in.
    #[must_use]
    pub const fn usual_dtype(self) -> Dtype {
        match self {
            Self::Awq | Self::Gptq => Dtype::F16,
            Self::BnbNf4 | Self::BnbNf4Double | Self::Fp8 => Dtype::Bf16,
        }
    }

    /// The tensors of a matrix of `rows × cols`, in a model whose other tensors have `dtype`.
    #[must_use]
    pub fn parts(self, rows: usize, cols: usize, dtype: Dtype) -> Vec<Part> {
        match self {
            Self::Awq => awq::parts(rows, cols, dtype),
            Self::Gptq => gptq::parts(rows, cols, dtype),
            Self::BnbNf4 => bnb::parts(rows, cols, dtype, false),
            Self::BnbNf4Double => bnb::parts(rows, cols, dtype, true),
            Self::Fp8 => fp8::parts(rows, cols),
        }
    }

    /// What is wrong with a matrix of `rows × cols`, and what would be right; `None` if it can be quantized.
    pub(crate) fn misfit(self, rows: usize, cols: usize) -> Option<(String, String)> {
        let (axis, size, multiple) = match self {
            Self::Awq | Self::Gptq if !cols.is_multiple_of(int4::GROUP) => ("inputs", cols, int4::GROUP),
            Self::Awq | Self::Gptq if !rows.is_multiple_of(int4::NIBBLES) => ("outputs", rows, int4::NIBBLES),
            Self::BnbNf4 | Self::BnbNf4Double if !(rows * cols).is_multiple_of(bnb::BLOCK) => {
                ("values", rows * cols, bnb::BLOCK)
            }
            Self::Fp8 if fp8::is_torn(cols) => ("inputs", cols, fp8::BLOCK),
            Self::Fp8 if fp8::is_torn(rows) => ("outputs", rows, fp8::BLOCK),
            _ => return None,
        };
        let fault = format!("{size} {axis} are no multiple of {multiple}");
        Some((fault, format!("choose dimensions that {multiple} divides, or another format")))
    }

    /// How many pieces of work a matrix of `rows × cols` is.
    pub(crate) fn units(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::Awq | Self::Gptq => cols / int4::GROUP,
            Self::BnbNf4 => bnb::units(rows, cols),
            // The last quantizes the scales.
            Self::BnbNf4Double => bnb::units(rows, cols) + 1,
            Self::Fp8 => rows.div_ceil(fp8::BLOCK),
        }
    }

    /// The bytes that piece of work `unit` of `matrix` makes; all together fill every part once.
    pub(crate) fn unit(self, matrix: &Matrix<'_>, unit: usize) -> Vec<Made> {
        match self {
            Self::Awq => awq::unit(matrix, unit),
            Self::Gptq => gptq::unit(matrix, unit),
            Self::BnbNf4 => bnb::unit(matrix, unit, false),
            Self::BnbNf4Double => bnb::unit(matrix, unit, true),
            Self::Fp8 => fp8::unit(matrix, unit),
        }
    }
}

impl std::fmt::Display for Quantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
