//! Dispatch: which recipe an operation of a given shape runs by. A pure function, so that it can be read, tested,
//! and asked about a setup that is not running.
//!
//! The choice follows what each shape is short of. One row waits for memory: sixty-four lanes along the weight's own
//! rows. Two to eight rows share what was read, with as many lanes as leave registers for every row. From nine rows
//! on the product is bound by arithmetic: one chain per output, blocked. So the batch size of a decode shows in its
//! bits as the classes {1}, {2–4}, {5–8}, {9…}, and every prefill of nine tokens or more is of one class.

use mantissa_model::ModelConfig;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::recipe::{
    AttentionRecipe, Functions, KernelRecipe, MatmulRecipe, NormRecipe, ReductionRecipe, SoftmaxRecipe,
    Summation,
};
use mantissa_numerics::site::Phase;

use crate::catalog;
use crate::error::EngineError;
use crate::setup::{Attention, Hardware};

/// Lanes of sums over a row: attention, router, norms.
const ROW_LANES: ReductionRecipe = ReductionRecipe::Lanes { lanes: 16 };

/// The recipes of one setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch {
    /// Whose arithmetic.
    pub hardware: Hardware,
    /// Storage format.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
}

impl Dispatch {
    /// A product with a weight, of `m` rows; one that a bias follows is left in binary32, so that there is one rounding,
    /// as in the epilogue of a library's kernel.
    ///
    /// On a GPU `n × k` decides too; shapes that [`Dispatch::check`] refuses are summed as if they were not cut.
    #[must_use]
    pub fn matmul(self, m: usize, n: usize, k: usize, biased: bool) -> MatmulRecipe {
        if self.hardware == Hardware::H200 {
            let uncut = Summation::TensorCore { block: catalog::block(), parts: 1 };
            let summation = catalog::product(m, n, k).unwrap_or(uncut);
            return MatmulRecipe { summation, output: if biased { Dtype::F32 } else { self.dtype } };
        }
        let summation = match m {
            0 | 1 => Summation::LaneChains { lanes: 64 },
            2..=4 => Summation::LaneChains { lanes: 32 },
            5..=8 => Summation::LaneChains { lanes: 16 },
            _ => Summation::FmaChain,
        };
        MatmulRecipe { summation, output: if biased { Dtype::F32 } else { self.dtype } }
    }

    /// RMSNorm over `rows` rows of `length`.
    #[must_use]
    pub fn norm(self, rows: usize, length: usize) -> NormRecipe {
        let torch = TorchSum::of(rows, length).filter(|_| self.hardware == Hardware::H200);
        match (torch, u32::try_from(rows)) {
            (Some(torch), Ok(rows)) => NormRecipe {
                reduction: ReductionRecipe::Torch { torch, rows },
                output: self.dtype,
                functions: Functions::Nvidia,
            },
            _ => NormRecipe { reduction: ROW_LANES, output: self.dtype, functions: Functions::Engine },
        }
    }

    /// Whose exponentials, sines and cosines.
    #[must_use]
    pub fn functions(self) -> Functions {
        if self.hardware == Hardware::H200 { Functions::Nvidia } else { Functions::Engine }
    }

    /// Whether verified recipes cover every kernel of a pass of `batch` sequences of `positions` tokens each, after which
    /// `keys` positions are cached.
    ///
    /// *Errors:* the first that they do not.
    pub fn check(
        self,
        config: &ModelConfig,
        phase: Phase,
        batch: usize,
        positions: usize,
        keys: usize,
    ) -> Result<(), EngineError> {
        if self.hardware == Hardware::Cpu {
            return Ok(());
        }
        let refuse =
            |what: String, why| Err(EngineError::Uncovered { hardware: self.hardware.name(), what, why });
        if self.dtype != Dtype::Bf16 || self.attention != Attention::Eager {
            return refuse(
                format!("{} with {} attention", self.dtype, self.attention.name()),
                "only bf16 and eager are verified",
            );
        }
        if config.moe.is_some() || config.qkv_bias || config.qk_norm || config.rope_scaling.is_some() {
            return refuse("this architecture".to_owned(), "only Llama without scaled RoPE is verified");
        }
        let (m, hidden) = (batch * positions, config.hidden_size);
        let (wide, narrow) =
            (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let inner = config.intermediate_size;
        for (n, k) in [
            (wide, hidden),
            (narrow, hidden),
            (hidden, wide),
            (inner, hidden),
            (hidden, inner),
            (config.vocab_size, hidden),
        ] {
            if catalog::product(m, n, k).is_none() {
                return refuse(
                    format!("a product of {m} × {k} with {n} × {k}"),
                    "its split-K was not measured",
                );
            }
        }
        if TorchSum::of(m, hidden).is_none() {
            return refuse(format!("a mean over {m} rows of {hidden}"), "its order of sums is not known");
        }
        if keys > 2048 {
            return refuse(format!("a softmax over {keys} keys"), "another kernel computes it");
        }
        if phase == Phase::Prefill && !(positions == keys && keys.is_multiple_of(8)) {
            return refuse(
                format!("prefill attention of {positions} positions over {keys} keys"),
                "only whole prompts of a multiple of 8 tokens go by the verified kernel",
            );
        }
        let heads = batch * config.num_attention_heads;
        if phase == Phase::Decode && catalog::decode_attention(heads, config.head_dim, keys).is_none() {
            return refuse(
                format!("decode attention of {heads} heads of {} over {keys} keys", config.head_dim),
                "its order of sums was not measured",
            );
        }
        Ok(())
    }

    /// Softmax over router logits.
    #[must_use]
    pub fn router(self, renormalize: bool) -> KernelRecipe {
        KernelRecipe::Router { renormalize, reduction: ROW_LANES, output: self.dtype }
    }

    /// Lanes of the router's softmax.
    #[must_use]
    pub fn router_reduction(self) -> ReductionRecipe {
        ROW_LANES
    }

    /// Attention over heads of `head_dim`; in decode, `heads` of all sequences together see `keys` positions.
    #[must_use]
    pub fn attention(self, phase: Phase, heads: usize, head_dim: usize, keys: usize) -> AttentionRecipe {
        if self.hardware == Hardware::H200 {
            let block = Summation::TensorCore { block: catalog::block(), parts: 1 };
            let [scores, values] = match phase {
                Phase::Prefill => [block, block],
                Phase::Decode => catalog::decode_attention(heads, head_dim, keys).unwrap_or([block, block]),
            };
            return AttentionRecipe {
                scores,
                score_rounding: self.dtype,
                softmax: SoftmaxRecipe::Exact {
                    reduction: ReductionRecipe::Warp { warp: 32 },
                    normalize_first: true,
                },
                probability_rounding: self.dtype,
                key_tile: None,
                values: Some(values),
                functions: Functions::Nvidia,
                output: self.dtype,
            };
        }
        let scores = match phase {
            Phase::Prefill => Summation::FmaChain,
            Phase::Decode => Summation::LaneChains { lanes: 16 },
        };
        let (score_rounding, softmax, key_tile) = match self.attention {
            Attention::Eager => {
                (self.dtype, SoftmaxRecipe::Exact { reduction: ROW_LANES, normalize_first: true }, None)
            }
            Attention::Sdpa => {
                (Dtype::F32, SoftmaxRecipe::Exact { reduction: ROW_LANES, normalize_first: false }, Some(512))
            }
            // FlashAttention-2's own choice: the larger the head, the smaller the tile.
            Attention::FlashAttention2 => {
                let tile = if head_dim <= 64 { 128 } else { 64 };
                (Dtype::F32, SoftmaxRecipe::Online { reduction: ROW_LANES }, Some(tile))
            }
        };
        AttentionRecipe {
            scores,
            score_rounding,
            softmax,
            probability_rounding: self.dtype,
            key_tile,
            values: None,
            functions: Functions::Engine,
            output: self.dtype,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_fall_into_the_documented_classes() {
        let dispatch = Dispatch { hardware: Hardware::Cpu, dtype: Dtype::Bf16, attention: Attention::Eager };
        let class = |m: usize| dispatch.matmul(m, 64, 64, false).summation;
        for (range, lanes) in [(1..=1, Some(64)), (2..=4, Some(32)), (5..=8, Some(16)), (9..=4096, None)] {
            for m in range {
                let expected = lanes.map_or(Summation::FmaChain, |lanes| Summation::LaneChains { lanes });
                assert_eq!(class(m), expected, "m = {m}");
            }
        }
    }
}
