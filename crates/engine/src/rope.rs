//! Tables of rotary angles.
//!
//! *Rounding:* as Hugging Face computes them: inverse frequencies ([`mantissa_numerics::rotary`]) and angles are
//! binary32 values, each operation rounded once; the cosine and the sine are computed in binary64 (by the `libm` crate,
//! so that no machine's own library can change a bit) and rounded to binary32, multiplied by the attention factor in
//! binary32, then rounded to the storage dtype, but where pairs are turned in binary32. On a GPU cosine and sine are
//! those of CUDA's library.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding to binary32 at these places is the definition"
)]

use mantissa_model::graph::RotaryTable;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::functions;
use mantissa_numerics::recipe::{RotaryFunctions, RotaryPairs, RotaryRecipe};
use mantissa_numerics::rotary::{Arithmetic, Frequencies, Rope};
use mantissa_numerics::torch_cpu::CpuCapability;

/// Cosines and sines of every position.
#[derive(Debug)]
pub(crate) struct RopeTable {
    /// `[position][cosines of half a head, sines of half a head]`.
    data: Vec<f32>,
    width: usize,
}

impl RopeTable {
    /// Tables of `positions` positions, as `recipe` says.
    pub(crate) fn new(table: &RotaryTable, recipe: RotaryRecipe, positions: usize) -> Self {
        let RotaryRecipe { functions: whose, pairs, output } = recipe;
        let output = match pairs {
            RotaryPairs::Halves | RotaryPairs::RoundedTables => output,
            RotaryPairs::WideHalves | RotaryPairs::Neighbours => Dtype::F32,
        };
        let Frequencies { inverse, attention_factor } = frequencies(table, whose, pairs);
        let half = inverse.len();
        let mut data = vec![0.0; positions * 2 * half];
        for (position, row) in data.chunks_exact_mut(2 * half).enumerate() {
            let (cos, sin) = row.split_at_mut(half);
            for (i, frequency) in inverse.iter().enumerate() {
                let angle = position as f32 * frequency;
                let own = || (libm::cos(f64::from(angle)) as f32, libm::sin(f64::from(angle)) as f32);
                let (c, s) = match whose {
                    RotaryFunctions::Own => own(),
                    // Angles that CUDA's fast path does not reduce have the correctly rounded ones.
                    RotaryFunctions::Cuda => {
                        functions::cos(angle).zip(functions::sin(angle)).unwrap_or_else(own)
                    }
                };
                (cos[i], sin[i]) = (output.round(c * attention_factor), output.round(s * attention_factor));
            }
        }
        Self { data, width: 2 * half }
    }

    pub(crate) fn position(&self, position: usize) -> &[f32] {
        &self.data[position * self.width..(position + 1) * self.width]
    }
}

/// The parameters of a model's rotary embedding.
fn rope(table: &RotaryTable) -> Rope<'_> {
    Rope {
        base: table.theta,
        dim: table.dim,
        scaling: table.scaling.as_ref(),
        max_position_embeddings: table.max_positions,
    }
}

/// Inverse frequencies at load. Beside a GPU transformers computes them on the CPU, vLLM on the GPU; [`refused`] names
/// models for which that is not one answer, or not known.
fn frequencies(table: &RotaryTable, functions: RotaryFunctions, pairs: RotaryPairs) -> Frequencies {
    let arithmetic = match (functions, pairs) {
        (RotaryFunctions::Own, _) => Arithmetic::Engine,
        (RotaryFunctions::Cuda, RotaryPairs::RoundedTables) => Arithmetic::OnGpu,
        (RotaryFunctions::Cuda, _) => Arithmetic::Torch(CpuCapability::Avx512),
    };
    rope(table).frequencies(arithmetic, None)
}

/// Why the rotary angles of a sequence of `keys` positions are not known, if they are not.
///
/// Models whose frequencies depend on the length (dynamic, longrope) are known up to the length at which transformers
/// would compute them again.
pub(crate) fn refused(
    table: &RotaryTable,
    functions: RotaryFunctions,
    pairs: RotaryPairs,
    keys: usize,
) -> Option<(String, &'static str)> {
    let what = || format!("RoPE of base {} over {} elements", table.theta, table.dim);
    if let Some(border) = rope(table).border().filter(|&border| keys > border) {
        let what = format!("{} at {keys} positions", what());
        let why = "its frequencies change with the length of the sequence";
        return Some((format!("{what}, more than the {border} of its own context"), why));
    }
    if functions == RotaryFunctions::Cuda && pairs == RotaryPairs::RoundedTables {
        let why =
            "vLLM computes its inverse frequencies on the GPU, and those of this base were not measured";
        return (!rope(table).is_known_on_gpu()).then(|| (what(), why));
    }
    if functions == RotaryFunctions::Cuda && rope(table).one_answer().is_none() {
        return Some((what(), "its inverse frequencies depend on the machine's CPU"));
    }
    None
}

#[cfg(test)]
mod tests {
    use mantissa_model::RopeScaling;

    use super::*;

    fn table(theta: f64, dim: usize, scaling: Option<RopeScaling>) -> RotaryTable {
        RotaryTable { dim, theta, scaling, max_positions: 4096 }
    }

    /// What was compared with PyTorch 2.11 (`goldens/gpu/decode_attention.py`): the engine's own, but for one value.
    #[test]
    fn measured_frequencies_stay() {
        for base in [1e4, 1e5, 5e5, 1e6] {
            for dim in [64, 128] {
                let table = table(base, dim, None);
                let mut own = frequencies(&table, RotaryFunctions::Own, RotaryPairs::Halves).inverse;
                if base > 9e5 && dim == 128 {
                    own[37] = f32::from_bits(0x39B2_29FB);
                }
                assert_eq!(
                    own,
                    frequencies(&table, RotaryFunctions::Cuda, RotaryPairs::Halves).inverse,
                    "{base} {dim}"
                );
                assert_eq!(refused(&table, RotaryFunctions::Cuda, RotaryPairs::Halves, 100_000), None);
            }
        }
    }

    #[test]
    fn what_depends_on_machine_or_length_is_refused() {
        let why = |table: &RotaryTable, functions, keys| {
            refused(table, functions, RotaryPairs::Halves, keys).map(|(_, why)| why)
        };
        let mut narrow = (1..500).map(|i| table(1e4 * f64::from(i), 96, None));
        let narrow = narrow.find(|narrow| rope(narrow).one_answer().is_none()).expect("a base that differs");
        assert_eq!(why(&narrow, RotaryFunctions::Own, 9000), None);
        let machine = why(&narrow, RotaryFunctions::Cuda, 10);
        assert!(machine.is_some_and(|why| why.contains("CPU")), "{machine:?}");
        let dynamic = table(1e4, 128, Some(RopeScaling::Dynamic { factor: 2.0 }));
        for functions in [RotaryFunctions::Own, RotaryFunctions::Cuda] {
            assert_eq!(why(&dynamic, functions, 4096), None);
            assert!(why(&dynamic, functions, 4097).is_some_and(|why| why.contains("length")));
        }
    }
}
