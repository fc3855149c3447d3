//! Which kernel PyTorch's `scaled_dot_product_attention` launches, left alone or with a backend forced, and what of it
//! is verified.

use std::num::{NonZeroU16, NonZeroU32};

use mantissa_model::graph::Attention as Node;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::flash;
use mantissa_numerics::recipe::{
    AttentionRecipe, CudnnKernel, PlainSum, TorchCudnn, TorchFlash, TorchMath, TorchSoftmax,
};
use mantissa_numerics::setup::{Attention, Hardware};
use mantissa_numerics::site::Phase;

use super::rules::{Dispatch, Sources, heads_of, keys_of};
use crate::catalog::{self, Product};
use crate::catalogs::TargetCatalogs;
use crate::shape::PassShape;

/// Queries of a block of the kernel that cuts keys.
const SPLIT_QUERIES: usize = 64;

/// The most keys that were compared.
const LONGEST_FLASH: usize = 32_768;

/// The most keys that were compared with cuDNN.
const LONGEST_CUDNN: usize = 16_384;

/// Multiprocessors of the hardware that was measured.
pub(super) const MULTIPROCESSORS: usize = 132;

impl<'c> Dispatch<'c> {
    /// Why no recipe covers `sdpa` in a pass, with a backend forced or without; `None` where one may. What the catalog
    /// has to say comes later.
    pub(super) fn sdpa_refused(self, node: &Node, shape: PassShape) -> Option<&'static str> {
        let (dim, keys) = (node.key_dim, keys_of(node, shape));
        // transformers hands over a mask.
        let masked = shape.padded || node.window.is_some_and(|window| window <= shape.keys);
        match self.attention {
            Attention::SdpaFlash | Attention::SdpaMath
                if !matches!(self.hardware, Hardware::H200 | Hardware::H100) =>
            {
                Some("these kernels of PyTorch were compared with an H200 and an H100 alone")
            }
            Attention::Sdpa if self.hardware != Hardware::H200 => Some(
                "left alone, PyTorch takes cuDNN's kernels, which were compared with an H200 alone; with a backend \
                 forced it is sdpa_flash or sdpa_math",
            ),
            Attention::SdpaFlash if masked => Some(
                "transformers masks padding and a sliding window that is full, and the flash backend takes no mask",
            ),
            Attention::Sdpa if masked => Some(
                "transformers masks padding and a sliding window that is full, and cuDNN's kernels with a mask were \
                 not compared",
            ),
            Attention::SdpaFlash | Attention::Sdpa if !matches!(dim, 64 | 96 | 128 | 256) => {
                Some("only heads of 64, 96, 128 and 256 were compared")
            }
            Attention::SdpaFlash if keys > LONGEST_FLASH => Some("at most 32,768 keys were compared"),
            Attention::Sdpa if keys > LONGEST_CUDNN => Some("at most 16,384 keys were compared"),
            Attention::Sdpa => {
                let heads = shape.rows() * node.heads / self.tensor_ranks();
                let group = node.heads / node.kv_heads;
                self.left_alone(shape.phase, heads, group, dim, keys).is_none().then_some(
                    "in decode over more than 256 keys (128, with more than 132 query heads of all sequences) cuDNN \
                     adds a row's sum in an order that is not fixed",
                )
            }
            Attention::Eager | Attention::SdpaFlash | Attention::SdpaMath | Attention::FlashAttention3 => {
                None
            }
            Attention::FlashAttention2 => {
                Some("of PyTorch's attention only eager, sdpa, sdpa_flash and sdpa_math are verified")
            }
        }
    }

    /// PyTorch's `sdpa` without a mask and left alone: cuDNN, but for a single key; arguments as
    /// [`Dispatch::attention`]. `None` where a decode is not reproducible.
    pub(super) fn left_alone(
        self,
        phase: Phase,
        heads: usize,
        group: usize,
        head_dim: usize,
        keys: usize,
    ) -> Option<AttentionRecipe> {
        let kernel = match phase {
            _ if keys < 2 => {
                return Some(AttentionRecipe::TorchFlash(self.flash(phase, heads, group, head_dim, keys)));
            }
            Phase::Prefill => CudnnKernel::Prefill,
            Phase::Decode => CudnnKernel::of_decode(heads, keys)?,
        };
        let block = catalog::block(self.hardware.architecture(), self.dtype);
        Some(AttentionRecipe::TorchCudnn(TorchCudnn { block, kernel }))
    }

    /// PyTorch's math backend; arguments as [`Dispatch::attention`].
    ///
    /// *Errors:* the product that was not measured.
    pub(super) fn math(
        self,
        phase: Phase,
        heads: usize,
        head_dim: usize,
        keys: usize,
    ) -> Result<(TorchMath, Sources<'c>), Product> {
        let heads = heads_of(phase, heads, keys);
        let products = [Product::Scores, Product::Values];
        let find = |known: &'c TargetCatalogs, shape| known.math(shape, keys);
        let ([scores, values], from) =
            self.batched(products, phase, heads, head_dim, PlainSum::FmaChain, find)?;
        let softmax = TorchSoftmax::of(keys, Dtype::F32);
        Ok((TorchMath { scores, softmax, values, storage: self.dtype }, from))
    }

    /// PyTorch's flash backend without a mask: `heads` query heads times rows of the pass, `group` to a KV head. With
    /// one query, a group of heads becomes rows of one head.
    pub(super) fn flash(
        self,
        phase: Phase,
        heads: usize,
        group: usize,
        head_dim: usize,
        keys: usize,
    ) -> TorchFlash {
        let heads = heads_of(phase, heads, keys);
        let blocks = match phase {
            Phase::Prefill => heads * keys.div_ceil(SPLIT_QUERIES),
            Phase::Decode => heads / group.max(1) * group.div_ceil(SPLIT_QUERIES),
        };
        let splits = flash::splits(blocks, keys.div_ceil(flash::split_tile(head_dim)), MULTIPROCESSORS);
        let tile = if splits > 1 { flash::split_tile(head_dim) } else { flash::tile(head_dim) };
        TorchFlash {
            block: catalog::block(self.hardware.architecture(), self.dtype),
            key_tile: u32::try_from(tile).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX),
            // At most 128.
            splits: u16::try_from(splits).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(dim: usize) -> Node {
        let (window, cap, sinks) = (None, None, None);
        Node { heads: 9, kv_heads: 3, key_dim: dim, value_dim: dim, scale: 0.125, window, cap, sinks }
    }

    #[test]
    fn what_was_not_measured_is_refused() {
        use Attention::{Sdpa, SdpaFlash, SdpaMath};
        let refused = |hardware, attention, batch, keys| {
            Dispatch::new(hardware, Dtype::Bf16, attention)
                .sdpa_refused(&node(64), PassShape::decode(batch, keys))
        };
        assert_eq!(refused(Hardware::H200, SdpaFlash, 1, 700), None);
        assert_eq!(refused(Hardware::H200, SdpaFlash, 1, 32_768), None);
        assert_eq!(refused(Hardware::H200, SdpaMath, 1, 40_000), None, "its products may be in no catalog");
        for (batch, keys) in [(1, 1), (1, 2), (64, 128), (1, 256), (14, 129)] {
            assert_eq!(refused(Hardware::H200, Sdpa, batch, keys), None, "{batch} {keys}");
        }
        for (hardware, attention, batch, keys, why) in [
            (Hardware::H200, Sdpa, 1, 257, "in an order that is not fixed"),
            (Hardware::H200, Sdpa, 15, 129, "in an order that is not fixed"),
            (Hardware::H200, Sdpa, 1, 16_385, "16,384 keys"),
            (Hardware::H100, Sdpa, 1, 300, "an H200 alone"),
            (Hardware::A100, SdpaFlash, 1, 300, "an H200 and an H100 alone"),
            (Hardware::H200, SdpaFlash, 1, 32_769, "32,768 keys"),
        ] {
            let found = refused(hardware, attention, batch, keys);
            assert!(found.is_some_and(|found| found.contains(why)), "{why}: {found:?}");
        }
        let prompt = PassShape::prefill(1, 700);
        for attention in [SdpaFlash, Sdpa] {
            let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, attention);
            assert_eq!(dispatch.sdpa_refused(&node(256), prompt), None);
            for dim in [32, 80, 160, 192] {
                let found = dispatch.sdpa_refused(&node(dim), prompt);
                assert!(found.is_some_and(|why| why.contains("only heads of")), "{attention:?} {dim}");
            }
            let windowed = Node { window: Some(700), ..node(64) };
            for (node, shape) in [(&windowed, prompt), (&node(64), PassShape { padded: true, ..prompt })] {
                let found = dispatch.sdpa_refused(node, shape);
                assert!(found.is_some_and(|why| why.contains("mask")), "{attention:?}");
            }
            assert_eq!(dispatch.sdpa_refused(&windowed, PassShape::prefill(1, 699)), None);
        }
        let math = Dispatch::new(Hardware::H200, Dtype::Bf16, SdpaMath);
        assert_eq!(math.sdpa_refused(&node(160), PassShape { padded: true, ..prompt }), None);
    }

    /// Which kernel it is, by what an H200 launched.
    #[test]
    fn left_alone_sdpa_is_one_of_four_kernels() {
        use CudnnKernel::{Middle, Narrow, Prefill};
        let dispatch = Dispatch::new(Hardware::H200, Dtype::F16, Attention::Sdpa);
        let of = |phase, batch: usize, keys: usize| {
            let rows = if phase == Phase::Prefill { batch * keys } else { batch };
            match dispatch.attention(phase, rows * 9, 3, 64, keys) {
                AttentionRecipe::TorchCudnn(cudnn) => {
                    assert_eq!(cudnn.storage(), Dtype::F16);
                    Some(cudnn.kernel)
                }
                other => {
                    assert!(matches!(other, AttentionRecipe::TorchFlash(_)), "{other:?}");
                    None
                }
            }
        };
        assert_eq!(
            [1, 2, 5000].map(|keys| of(Phase::Prefill, 3, keys)),
            [None, Some(Prefill), Some(Prefill)]
        );
        assert_eq!([1, 2, 33].map(|keys| of(Phase::Decode, 3, keys)), [None, Some(Narrow), Some(Middle)]);
        // 14 sequences of 9 query heads are 126.
        assert_eq!(of(Phase::Decode, 14, 256), Some(Middle));
    }
}
