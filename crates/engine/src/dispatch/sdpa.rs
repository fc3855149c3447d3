//! Which kernel PyTorch's `scaled_dot_product_attention` launches once a backend is forced, and what of it is verified.

use mantissa_model::ModelConfig;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::flash;
use mantissa_numerics::recipe::{AttentionRecipe, Functions, SoftmaxRecipe};
use mantissa_numerics::site::Phase;

use super::{Dispatch, heads_of};
use crate::catalog;
use crate::setup::{Attention, Hardware};

/// Queries of a block of the kernel that cuts keys.
const SPLIT_QUERIES: usize = 64;

/// Multiprocessors of the hardware that was measured.
const MULTIPROCESSORS: usize = 132;

impl Dispatch {
    /// Why no verified recipe covers this attention over `keys` keys; `None` where one does.
    pub(super) fn sdpa_refused(self, config: &ModelConfig, keys: usize) -> Option<&'static str> {
        match self.attention {
            Attention::SdpaFlash if self.hardware != Hardware::H200 => {
                Some("these kernels of PyTorch were compared with an H200 alone")
            }
            Attention::SdpaFlash if !matches!(config.head_dim, 64 | 128) => {
                Some("only heads of 64 and 128 were measured")
            }
            Attention::SdpaFlash if keys > flash::LONGEST => {
                Some("logarithms were measured for sums of at most 16,383 keys")
            }
            Attention::SdpaFlash => None,
            Attention::Sdpa => Some(
                "left alone, PyTorch takes cuDNN's kernels here, which are not emulated; evidence of the flash backend, forced, is sdpa_flash",
            ),
            Attention::Eager | Attention::FlashAttention2 => {
                Some("only bf16 with eager or sdpa_flash is verified")
            }
        }
    }

    /// PyTorch's flash backend without a mask: `heads` query heads times rows of the pass, `group` to a KV head. With one query, a
    /// group of heads becomes rows of one head.
    pub(super) fn flash(
        self,
        phase: Phase,
        heads: usize,
        group: usize,
        head_dim: usize,
        keys: usize,
    ) -> AttentionRecipe {
        let heads = heads_of(phase, heads, keys);
        let blocks = match phase {
            Phase::Prefill => heads * keys.div_ceil(SPLIT_QUERIES),
            Phase::Decode => heads / group.max(1) * group.div_ceil(SPLIT_QUERIES),
        };
        let splits = flash::splits(blocks, keys.div_ceil(flash::split_tile(head_dim)), MULTIPROCESSORS);
        let tile = if splits > 1 { flash::split_tile(head_dim) } else { flash::tile(head_dim) };
        let product = catalog::uncut(self.hardware);
        AttentionRecipe {
            scores: product,
            score_rounding: Dtype::F32,
            // At most 128.
            softmax: SoftmaxRecipe::Flash { splits: u16::try_from(splits).unwrap_or(u16::MAX) },
            probability_rounding: self.dtype,
            key_tile: u32::try_from(tile).ok(),
            values: Some(product),
            functions: Functions::Nvidia,
            output: self.dtype,
        }
    }
}
