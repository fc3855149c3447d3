//! Steps of a GPU's tensor cores.

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::TensorCoreSum;
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};

/// A step of a GPU's tensor cores on bf16; Hopper's, where there is none.
pub(crate) fn block(architecture: Option<Architecture>) -> BlockRecipe {
    block_of(architecture.unwrap_or(Architecture::Hopper))
}

pub(super) fn block_of(architecture: Architecture) -> BlockRecipe {
    let Some(block) = architecture.block(Operand::Bf16) else { unreachable!("they all multiply bf16") };
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
pub(crate) fn uncut(architecture: Option<Architecture>) -> TensorCoreSum {
    TensorCoreSum::uncut(block(architecture))
}
