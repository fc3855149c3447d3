//! Steps of a GPU's tensor cores.

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::TensorCoreSum;
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

/// A step of a GPU's tensor cores on factors of `dtype`, or of bf16 where they have none: binary32, which dispatch does
/// not accept. Hopper's, where there is no such GPU.
pub(crate) fn block(architecture: Option<Architecture>, dtype: Dtype) -> BlockRecipe {
    let architecture = architecture.unwrap_or(Architecture::Hopper);
    let Some(block) = block_on(architecture, dtype).or_else(|| architecture.block(Operand::Bf16)) else {
        unreachable!("they all multiply bf16")
    };
    block
}

/// A step on factors of `dtype`; `None` where they have none.
pub(super) fn block_on(architecture: Architecture, dtype: Dtype) -> Option<BlockRecipe> {
    architecture.block(match dtype {
        Dtype::Bf16 => Operand::Bf16,
        Dtype::F16 => Operand::F16,
        Dtype::F32 => return None,
    })
}

/// A walk along `K` that is not cut.
pub(crate) fn uncut(architecture: Option<Architecture>, dtype: Dtype) -> TensorCoreSum {
    TensorCoreSum::uncut(block(architecture, dtype))
}
