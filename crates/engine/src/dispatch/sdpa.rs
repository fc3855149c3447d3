//! Which kernel PyTorch's `scaled_dot_product_attention` launches once a backend is forced, and what of it is verified.

use std::num::{NonZeroU16, NonZeroU32};

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::flash;
use mantissa_numerics::recipe::{PlainSum, TorchFlash, TorchMath, TorchSoftmax};
use mantissa_numerics::setup::{Attention, Hardware};
use mantissa_numerics::site::Phase;

use super::rules::{Dispatch, Sources, heads_of};
use crate::catalog::{self, Product};
use crate::catalogs::TargetCatalogs;

/// Queries of a block of the kernel that cuts keys.
const SPLIT_QUERIES: usize = 64;

/// The most keys that were compared.
const LONGEST_FLASH: usize = 32_768;

/// Multiprocessors of the hardware that was measured.
const MULTIPROCESSORS: usize = 132;

impl<'c> Dispatch<'c> {
    /// Why no recipe covers this attention over `keys` keys, with or without a mask that transformers hands over;
    /// `None` where one may. What the catalog has to say comes later.
    pub(super) fn sdpa_refused(self, dim: usize, keys: usize, masked: bool) -> Option<&'static str> {
        match self.attention {
            Attention::SdpaFlash | Attention::SdpaMath
                if !matches!(self.hardware, Hardware::H200 | Hardware::H100) =>
            {
                Some("these kernels of PyTorch were compared with an H200 and an H100 alone")
            }
            Attention::SdpaFlash if masked => Some(
                "transformers masks padding and a sliding window that is full, and the flash backend takes no mask",
            ),
            Attention::SdpaFlash if !matches!(dim, 64 | 96 | 128 | 256) => {
                Some("only heads of 64, 96, 128 and 256 were compared")
            }
            Attention::SdpaFlash if keys > LONGEST_FLASH => Some("at most 32,768 keys were compared"),
            Attention::SdpaFlash | Attention::SdpaMath => None,
            Attention::Sdpa => Some(
                "left alone, PyTorch takes cuDNN's kernels here, which are not emulated; with a backend forced it is \
                 sdpa_flash or sdpa_math",
            ),
            Attention::Eager | Attention::FlashAttention2 => {
                Some("of PyTorch's attention only eager, sdpa_flash and sdpa_math are verified")
            }
        }
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
        let find = |known: &'c TargetCatalogs, shape| known.math(shape, keys);
        let ([scores, values], from) = self.batched(phase, heads, head_dim, PlainSum::FmaChain, find)?;
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

    #[test]
    fn what_was_not_measured_is_refused() {
        use Attention::{Sdpa, SdpaFlash, SdpaMath};
        let refused = |hardware, attention, keys| {
            Dispatch::new(hardware, Dtype::Bf16, attention).sdpa_refused(64, keys, false)
        };
        assert_eq!(refused(Hardware::H200, SdpaFlash, 700), None);
        assert_eq!(refused(Hardware::H200, SdpaFlash, 32_768), None);
        assert_eq!(refused(Hardware::H200, SdpaMath, 40_000), None, "its products may be in no catalog");
        for (hardware, attention, keys, why) in [
            (Hardware::H200, Sdpa, 300, "cuDNN"),
            (Hardware::A100, SdpaFlash, 300, "an H200 and an H100 alone"),
            (Hardware::H200, SdpaFlash, 32_769, "32,768 keys"),
        ] {
            let found = refused(hardware, attention, keys);
            assert!(found.is_some_and(|found| found.contains(why)), "{why}: {found:?}");
        }
        let flash = Dispatch::new(Hardware::H200, Dtype::Bf16, SdpaFlash);
        assert_eq!(flash.sdpa_refused(256, 700, false), None);
        for dim in [32, 80, 160, 192] {
            assert!(
                flash.sdpa_refused(dim, 700, false).is_some_and(|why| why.contains("only heads of")),
                "{dim}"
            );
        }
        assert!(flash.sdpa_refused(64, 700, true).is_some_and(|why| why.contains("mask")));
        let math = Dispatch::new(Hardware::H200, Dtype::Bf16, SdpaMath);
        assert_eq!(math.sdpa_refused(160, 700, true), None);
    }
}
