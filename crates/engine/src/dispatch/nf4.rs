//! Products with weights of nf4, kept as they are stored: bitsandbytes' under transformers on a Hopper GPU.

use std::num::NonZeroUsize;

use mantissa_model::graph::{Node, Section};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::bnb::{Nf4Shape, Nf4Way};
use mantissa_numerics::recipe::{LinearSum, MatmulRecipe, Nf4Sum, TensorCoreSum};
use mantissa_numerics::setup::{Basis, Hardware, QuantizedWeights};

use super::ranks::{RankProduct, Undivided};
use super::rules::Dispatch;
use crate::catalog;

/// The node whose weight is never quantized.
const ROUTER: &str = "router";

impl Dispatch<'_> {
    /// Values of a node's weight that share a scale, where it is multiplied by as nf4.
    pub(crate) fn nf4_block(self, section: &Section, node: &Node) -> Option<NonZeroUsize> {
        let kept = self.is_gpu() && self.quantized == QuantizedWeights::Keep && node.name != ROUTER;
        section.nf4_block.filter(|_| kept)
    }

    /// The way of a product with such a weight, or why none is known.
    pub(super) fn nf4_way(self, block: NonZeroUsize, part: RankProduct) -> Result<Nf4Way, Undivided> {
        let refused = |why| Err(("weights of nf4".to_owned(), why));
        let multiprocessors = match self.hardware {
            Hardware::H200 | Hardware::H100 => 132,
            Hardware::Cpu | Hardware::A100 | Hardware::L40s => {
                return refused("how bitsandbytes multiplies by them is known of Hopper GPUs alone");
            }
        };
        if self.is_vllm() || !self.serving.ranks.is_one() {
            return refused("bitsandbytes under transformers on one rank is what is known");
        }
        if self.dtype != Dtype::Bf16 {
            return refused("only bf16 is known");
        }
        let RankProduct { m, n, k, .. } = part;
        Ok(Nf4Way::of(Nf4Shape { m, n, k, block: block.get(), multiprocessors }))
    }

    /// The recipe of a product on `way`; `decoded` is that of the library's product.
    pub(super) fn nf4_product(self, way: Nf4Way, decoded: TensorCoreSum, output: Dtype) -> MatmulRecipe {
        let sum = match way {
            Nf4Way::Simt => Nf4Sum::Simt,
            Nf4Way::Mma => Nf4Sum::Mma(catalog::block(self.hardware.architecture(), self.dtype)),
            Nf4Way::Decoded => Nf4Sum::Decoded(decoded),
        };
        MatmulRecipe { summation: LinearSum::Nf4(sum), output }
    }

    /// What a product on any of the ways rests on: they were compared with an H200 (goldens/parallel/bnb.json); for an
    /// H100 the same was read in bitsandbytes' source.
    pub(super) fn nf4_basis(self) -> Basis {
        if self.hardware == Hardware::H200 { Basis::Verified } else { Basis::Literature }
    }
}
