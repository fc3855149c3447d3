//! Attention: the engine's own, and which kernels PyTorch's `eager` launches.

use std::num::NonZeroU32;

use mantissa_numerics::recipe::{
    AttentionRecipe, BatchedSum, OwnAttention, OwnScores, OwnSoftmax, ScoreBound, TorchEager, TorchSoftmax,
};
use mantissa_numerics::setup::Attention;
use mantissa_numerics::site::Phase;

use super::rules::{Dispatch, Sources, UNCHECKED, heads_of};
use crate::catalog::{self, Product};
use crate::catalogs::TargetCatalogs;

/// Keys of a tile of the engine's own `sdpa`.
const SDPA_TILE: NonZeroU32 = NonZeroU32::new(512).unwrap();

/// FlashAttention-2's own choice: the larger the head, the smaller the tile.
const FLASH_TILES: [NonZeroU32; 2] = [NonZeroU32::new(128).unwrap(), NonZeroU32::new(64).unwrap()];

impl<'c> Dispatch<'c> {
    /// Attention over heads of `head_dim`: `heads` query heads times rows of the pass, `group` to a KV head, over
    /// `keys` positions.
    #[must_use]
    pub fn attention(
        self,
        phase: Phase,
        heads: usize,
        group: usize,
        head_dim: usize,
        keys: usize,
    ) -> AttentionRecipe {
        let products = [Product::Scores, Product::Values];
        match self.attention_from(products, phase, heads, group, head_dim, keys) {
            Ok((recipe, _)) => recipe,
            Err(_) => unreachable!("{UNCHECKED}"),
        }
    }

    /// [`Self::attention`] with the catalogs that have its products, which are `products` if it is eager.
    ///
    /// *Errors:* the product that was not measured.
    pub(super) fn attention_from(
        self,
        products: [Product; 2],
        phase: Phase,
        heads: usize,
        group: usize,
        head_dim: usize,
        keys: usize,
    ) -> Result<(AttentionRecipe, Sources<'c>), Product> {
        match self.attention {
            Attention::SdpaFlash => {
                let flash = self.flash(phase, heads, group, head_dim, keys);
                return Ok((AttentionRecipe::TorchFlash(flash), [None; 2]));
            }
            Attention::SdpaMath => {
                let (math, from) = self.math(phase, heads, head_dim, keys)?;
                return Ok((AttentionRecipe::TorchMath(math), from));
            }
            Attention::Sdpa if self.is_gpu() => {
                let Some(recipe) = self.left_alone(phase, heads, group, head_dim, keys) else {
                    unreachable!("{UNCHECKED}")
                };
                return Ok((recipe, [None; 2]));
            }
            Attention::Eager | Attention::Sdpa | Attention::FlashAttention2 | Attention::FlashAttention3 => {}
        }
        if self.is_gpu() {
            let block = catalog::block(self.hardware.architecture(), self.dtype);
            let uncut = BatchedSum::TensorCore { block, tile: None };
            let find = |known: &'c TargetCatalogs, shape| known.eager(self.dtype, shape, keys);
            let heads = heads_of(phase, heads, keys);
            let ([scores, values], from) = self.batched(products, phase, heads, head_dim, uncut, find)?;
            let (bound, softmax) = (ScoreBound::None, TorchSoftmax::of(keys, self.dtype));
            let eager = TorchEager { scores, bound, sinks: false, softmax, values, storage: self.dtype };
            return Ok((AttentionRecipe::TorchEager(eager), from));
        }
        let scores = match phase {
            Phase::Prefill => OwnScores::FmaChain,
            Phase::Decode => OwnScores::Lanes16,
        };
        let [small_heads, large_heads] = FLASH_TILES;
        let softmax = match self.attention {
            Attention::Eager => OwnSoftmax::Eager,
            Attention::Sdpa => OwnSoftmax::Tiled { key_tile: SDPA_TILE },
            Attention::FlashAttention2 => {
                OwnSoftmax::Online { key_tile: if head_dim <= 64 { small_heads } else { large_heads } }
            }
            Attention::SdpaFlash | Attention::SdpaMath | Attention::FlashAttention3 => {
                unreachable!("{UNCHECKED}")
            }
        };
        let own =
            OwnAttention { scores, bound: ScoreBound::None, sinks: false, softmax, storage: self.dtype };
        Ok((AttentionRecipe::Own(own), [None; 2]))
    }
}
