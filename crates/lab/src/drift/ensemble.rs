//! An ensemble of recipes: other orders of the same sums, as overrides of every kernel that ran.

use std::num::NonZeroU16;

use mantissa_engine::{Override, Overrides};
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::recipe::{
    AttentionRecipe, BatchedSum, CapRecipe, ClampedSwiGluRecipe, Elementary, ExpertOrder, ExpertSumRecipe,
    GeGluRecipe, KernelRecipe, Lanes, LinearSum, MatmulRecipe, NormMean, NormRecipe, ObservedKernel,
    OwnAttention, OwnScores, OwnSoftmax, Silu, SwiGluRecipe, TensorCoreSum, TorchEager, TorchSoftmax,
};
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe, Operand};
use mantissa_numerics::{Dtype, Phase};

/// Members beside the one that the setup names.
pub(crate) const MEMBERS: usize = 12;

/// Keys that are taken together where a softmax is computed tile by tile.
const KEY_TILES: [u32; 2] = [64, 128];

/// The recipes of member `member`, counted from 0, for kernels that ran with operands of `dtype`. PyTorch's attention
/// is among them where `torch` says that keys and values are of one width.
pub(crate) fn member(member: usize, ran: &[ObservedKernel], dtype: Dtype, torch: bool) -> Overrides {
    let mut list = Vec::new();
    for kernel in ran {
        let others = others(kernel, dtype, torch);
        // Lists of several lengths, so that members mix them in several ways.
        let Some(recipe) = others.get(member % others.len().max(1)) else { continue };
        list.push(Override {
            layer: None,
            node: kernel.op.clone(),
            phase: Some(kernel.phase),
            recipe: *recipe,
        });
    }
    Overrides(list)
}

/// Tensor cores whose operands are `dtype`.
fn blocks(dtype: Dtype) -> Vec<BlockRecipe> {
    let operand = match dtype {
        Dtype::Bf16 => Operand::Bf16,
        Dtype::F16 => Operand::F16,
        Dtype::F32 => return Vec::new(),
    };
    let of = |gpu: Architecture| gpu.block(operand);
    [Architecture::Hopper, Architecture::Ampere].into_iter().filter_map(of).collect()
}

/// The recipes of a kernel that compute the same up to the order of sums, and to functions that are not exact.
fn others(kernel: &ObservedKernel, dtype: Dtype, torch: bool) -> Vec<KernelRecipe> {
    match kernel.recipe {
        KernelRecipe::Matmul(recipe) => {
            let mut sums = vec![LinearSum::FmaChain];
            sums.extend(Lanes::ALL.map(|lanes| LinearSum::LaneChains { lanes }));
            let parts = [1, 2, 3, 4, 8].map(|parts| NonZeroU16::new(parts).unwrap_or(NonZeroU16::MIN));
            for block in blocks(dtype) {
                sums.extend(parts.map(|parts| LinearSum::TensorCore(TensorCoreSum { block, parts })));
            }
            // Where a bias follows, the product is rounded before it is added, or not.
            let outputs = [recipe.output, dtype];
            let each = sums.into_iter().enumerate().map(|(number, summation)| {
                KernelRecipe::Matmul(MatmulRecipe { summation, output: outputs[number % 2] })
            });
            each.collect()
        }
        KernelRecipe::RmsNorm(recipe) => {
            let mut means: Vec<NormMean> = Lanes::ALL.map(|lanes| NormMean::Lanes { lanes }).to_vec();
            let length = usize::try_from(kernel.k).unwrap_or(0);
            let sum = TorchSum::of(1, length).filter(|_| length >= 32);
            means.extend(
                sum.map(|sum| NormMean::Torch {
                    sum,
                    rows: 1.try_into().unwrap_or(std::num::NonZeroU32::MIN),
                }),
            );
            means.into_iter().map(|mean| KernelRecipe::RmsNorm(NormRecipe { mean, ..recipe })).collect()
        }
        KernelRecipe::Attention(AttentionRecipe::Own(recipe)) => {
            attentions(recipe, kernel, dtype, torch).into_iter().map(KernelRecipe::Attention).collect()
        }
        KernelRecipe::SwiGlu(recipe) => {
            [Silu::Own, Silu::Cuda].map(|silu| KernelRecipe::SwiGlu(SwiGluRecipe { silu, ..recipe })).to_vec()
        }
        KernelRecipe::GeGlu(recipe) => [Elementary::Own, Elementary::Cuda]
            .map(|functions| KernelRecipe::GeGlu(GeGluRecipe { functions, ..recipe }))
            .to_vec(),
        KernelRecipe::ClampedSwiGlu(recipe) => [Elementary::Own, Elementary::Cuda]
            .map(|functions| KernelRecipe::ClampedSwiGlu(ClampedSwiGluRecipe { functions, ..recipe }))
            .to_vec(),
        KernelRecipe::Cap(recipe) => [Elementary::Own, Elementary::Cuda]
            .map(|functions| KernelRecipe::Cap(CapRecipe { functions, ..recipe }))
            .to_vec(),
        KernelRecipe::ExpertSum(recipe) => {
            let orders = [ExpertOrder::Once, ExpertOrder::EachInTopOrder, ExpertOrder::EachByNumber];
            let of = |order| ExpertSumRecipe { order, sums: NonZeroU16::MIN, ..recipe };
            orders.map(|order| KernelRecipe::ExpertSum(of(order))).to_vec()
        }
        // A sum of two and a copy have one order; what a choice of experts leaves is fed.
        _ => Vec::new(),
    }
}

fn attentions(
    recipe: OwnAttention,
    kernel: &ObservedKernel,
    dtype: Dtype,
    torch: bool,
) -> Vec<AttentionRecipe> {
    let mut found = Vec::new();
    let tiles = KEY_TILES.map(|tile| tile.try_into().unwrap_or(std::num::NonZeroU32::MIN));
    let softmaxes = [
        OwnSoftmax::Eager,
        OwnSoftmax::Tiled { key_tile: tiles[0] },
        OwnSoftmax::Online { key_tile: tiles[1] },
    ];
    for scores in [OwnScores::FmaChain, OwnScores::Lanes16] {
        for softmax in softmaxes {
            // The engine defines sinks and bounds for a softmax over whole rows alone.
            let whole = softmax == OwnSoftmax::Eager;
            if whole || !recipe.sinks {
                found.push(AttentionRecipe::Own(OwnAttention { scores, softmax, ..recipe }));
            }
        }
    }
    let keys = usize::try_from(kernel.k).unwrap_or(0);
    for block in blocks(dtype).into_iter().take(1) {
        if torch && kernel.phase == Phase::Prefill && !recipe.sinks {
            let sum = BatchedSum::TensorCore { block, tile: None };
            let softmax = TorchSoftmax::of(keys.max(1), Dtype::F32);
            let OwnAttention { bound, sinks, storage, .. } = recipe;
            found.push(AttentionRecipe::TorchEager(TorchEager {
                scores: sum,
                bound,
                sinks,
                softmax,
                values: sum,
                storage,
            }));
        }
    }
    found
}
