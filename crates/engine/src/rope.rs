//! Tables of rotary angles.
//!
//! *Rounding:* as Hugging Face computes them: exponents, inverse frequencies and angles are binary32 values, each
//! operation rounded once; the power, the cosine and the sine are computed in binary64 (by the `libm` crate, so that
//! no machine's own library can change a bit) and rounded to binary32, then to the storage dtype. On a GPU cosine and sine are
//! those of CUDA's library.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding to binary32 at these places is the definition"
)]

use mantissa_model::{ModelConfig, RopeScaling};
use mantissa_numerics::nvidia::functions;
use mantissa_numerics::recipe::{RotaryFunctions, RotaryRecipe};

/// Cosines and sines of every position.
#[derive(Debug)]
pub(crate) struct RopeTable {
    /// `[position][cosines of half a head, sines of half a head]`.
    data: Vec<f32>,
    width: usize,
}

impl RopeTable {
    /// Tables of `positions` positions, as `recipe` says.
    pub(crate) fn new(config: &ModelConfig, recipe: RotaryRecipe, positions: usize) -> Self {
        let RotaryRecipe { functions: whose, output } = recipe;
        let frequencies = inverse_frequencies(config, whose);
        let half = frequencies.len();
        let mut data = vec![0.0; positions * 2 * half];
        for (position, row) in data.chunks_exact_mut(2 * half).enumerate() {
            let (cos, sin) = row.split_at_mut(half);
            for (i, frequency) in frequencies.iter().enumerate() {
                let angle = position as f32 * frequency;
                let own = || (libm::cos(f64::from(angle)) as f32, libm::sin(f64::from(angle)) as f32);
                let (c, s) = match whose {
                    RotaryFunctions::Own => own(),
                    // Angles that CUDA's fast path does not reduce have the correctly rounded ones.
                    RotaryFunctions::Cuda => {
                        functions::cos(angle).zip(functions::sin(angle)).unwrap_or_else(own)
                    }
                };
                (cos[i], sin[i]) = (output.round(c), output.round(s));
            }
        }
        Self { data, width: 2 * half }
    }

    pub(crate) fn position(&self, position: usize) -> &[f32] {
        &self.data[position * self.width..(position + 1) * self.width]
    }
}

/// Bases and head widths for which the inverse frequencies of PyTorch's own `pow` were compared with ours, and where one differs:
/// its index and its bits. Measured by `goldens/gpu/decode_attention.py` with PyTorch 2.11 on x86-64.
const MEASURED: [Frequencies; 8] = [
    same(1e4, 64),
    same(1e4, 128),
    same(1e5, 64),
    same(1e5, 128),
    same(5e5, 64),
    same(5e5, 128),
    same(1e6, 64),
    Frequencies { base: 1e6, dim: 128, differs: Some((37, 0x39B2_29FB)) },
];

struct Frequencies {
    base: f64,
    dim: usize,
    differs: Option<(usize, u32)>,
}

const fn same(base: f64, dim: usize) -> Frequencies {
    Frequencies { base, dim, differs: None }
}

fn measured(base: f64, dim: usize) -> Option<&'static Frequencies> {
    MEASURED.iter().find(|known| known.base.to_bits() == base.to_bits() && known.dim == dim)
}

/// Whether inverse frequencies are known to be PyTorch's.
pub(crate) fn is_measured(base: f64, dim: usize) -> bool {
    measured(base, dim).is_some()
}

/// `1 / θ^(2i/d)`, stretched as the model says.
fn inverse_frequencies(config: &ModelConfig, functions: RotaryFunctions) -> Vec<f32> {
    let dim = config.head_dim;
    let base = config.rope_theta;
    let differs =
        measured(base, dim).and_then(|known| known.differs).filter(|_| functions == RotaryFunctions::Cuda);
    let plain = (0..dim / 2).map(|i| match differs {
        Some((at, bits)) if at == i => f32::from_bits(bits),
        _ => {
            let exponent = (2 * i) as f32 / dim as f32;
            1.0_f32 / libm::pow(base, f64::from(exponent)) as f32
        }
    });
    match config.rope_scaling {
        None => plain.collect(),
        Some(RopeScaling::Linear { factor }) => plain.map(|f| f / factor as f32).collect(),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => {
            // Hugging Face computes these on binary32 tensors with Python's binary64 scalars rounded as they meet them.
            let context = original_max_position_embeddings as f64;
            let (low, high) = ((context / low_freq_factor) as f32, (context / high_freq_factor) as f32);
            let (factor, low_freq, span) =
                (factor as f32, low_freq_factor as f32, (high_freq_factor - low_freq_factor) as f32);
            plain
                .map(|f| {
                    let wavelength = (2.0 * std::f64::consts::PI) as f32 / f;
                    if wavelength < high {
                        f
                    } else if wavelength > low {
                        f / factor
                    } else {
                        let smooth = (context as f32 / wavelength - low_freq) / span;
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                })
                .collect()
        }
    }
}
