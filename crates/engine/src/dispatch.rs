//! Dispatch: which recipe an operation of a given shape runs by. A pure function, so that it can be read, tested,
//! and asked about a setup that is not running.
//!
//! The choice follows what each shape is short of. One row waits for memory: sixty-four lanes along the weight's own
//! rows. Two to eight rows share what was read, with as many lanes as leave registers for every row. From nine rows
//! on the product is bound by arithmetic: one chain per output, blocked. So the batch size of a decode shows in its
//! bits as the classes {1}, {2–4}, {5–8}, {9…}, and every prefill of nine tokens or more is of one class.

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{
    AttentionRecipe, KernelRecipe, MatmulRecipe, NormRecipe, ReductionRecipe, SoftmaxRecipe, Summation,
};
use mantissa_numerics::site::Phase;

use crate::setup::Attention;

/// Lanes of sums over a row: attention, router, norms.
const ROW_LANES: ReductionRecipe = ReductionRecipe { lanes: 16 };

/// The recipes of one setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch {
    /// Storage format.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
}

impl Dispatch {
    /// A product with a weight, of `m` rows; one that a bias follows is left in binary32, so that there is one rounding,
    /// as in the epilogue of a library's kernel.
    #[must_use]
    pub fn matmul(self, m: usize, biased: bool) -> MatmulRecipe {
        let summation = match m {
            0 | 1 => Summation::LaneChains { lanes: 64 },
            2..=4 => Summation::LaneChains { lanes: 32 },
            5..=8 => Summation::LaneChains { lanes: 16 },
            _ => Summation::FmaChain,
        };
        MatmulRecipe { summation, output: if biased { Dtype::F32 } else { self.dtype } }
    }

    /// RMSNorm over a row.
    #[must_use]
    pub fn norm(self) -> NormRecipe {
        NormRecipe { reduction: ROW_LANES, output: self.dtype }
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

    /// Attention over heads of `head_dim`.
    #[must_use]
    pub fn attention(self, phase: Phase, head_dim: usize) -> AttentionRecipe {
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
            output: self.dtype,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_fall_into_the_documented_classes() {
        let dispatch = Dispatch { dtype: Dtype::Bf16, attention: Attention::Eager };
        let class = |m: usize| dispatch.matmul(m, false).summation;
        for (range, lanes) in [(1..=1, Some(64)), (2..=4, Some(32)), (5..=8, Some(16)), (9..=4096, None)] {
            for m in range {
                let expected = lanes.map_or(Summation::FmaChain, |lanes| Summation::LaneChains { lanes });
                assert_eq!(class(m), expected, "m = {m}");
            }
        }
    }
}
