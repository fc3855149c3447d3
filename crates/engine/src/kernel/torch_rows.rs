//! PyTorch's and vLLM's CUDA kernels that treat each row of activations by itself.

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::functions;
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::nvidia::vllm::VllmMean;
use mantissa_numerics::recipe::NormWeight;
use mantissa_numerics::tensor_core::dot::LANES;

use super::share::{Shared, share};
use crate::pool::Pool;

/// RMSNorm with PyTorch's mean: `y = x · rsqrt(sum · (rows / (rows · length)) + eps)`, weighed as [`NormWeight`] says.
#[expect(clippy::too_many_arguments, reason = "where, how, and the operands")]
pub(super) fn rms_norm(
    pool: &Pool,
    how: (NormWeight, Dtype),
    torch: TorchSum,
    rows: u32,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    #[expect(clippy::cast_precision_loss, reason = "PyTorch divides these as binary32")]
    let factor = rows as f32 / (rows as usize * weight.len()) as f32;
    let mean = |x: &[f32]| torch.sum(x.iter().map(|x| x * x)) * factor;
    norm_by(pool, how, mean, x, weight, eps, out);
}

/// RMSNorm with vLLM's mean: `y = x · rsqrt(mean + eps)`, weighed as [`NormWeight`] says.
pub(super) fn vllm_rms_norm(
    pool: &Pool,
    how: (NormWeight, Dtype),
    mean: VllmMean,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    norm_by(pool, how, |x| mean.mean(x), x, weight, eps, out);
}

fn norm_by(
    pool: &Pool,
    (weighting, output): (NormWeight, Dtype),
    mean: impl Fn(&[f32]) -> f32 + Sync,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    let to = Shared(out.as_mut_ptr());
    share(pool, x.len() / width, width, |from, until| {
        for i in from..until {
            let x = &x[i * width..(i + 1) * width];
            let scale = functions::rsqrt(mean(x) + eps);
            for (j, (x, w)) in x.iter().zip(weight).enumerate() {
                let y = x * scale;
                let weighed = match weighting {
                    NormWeight::AfterCast => w * output.round(y),
                    NormWeight::BeforeCast => w * y,
                    NormWeight::OnePlus => y * (1.0 + w),
                };
                // SAFETY: row `i` of `out` is this task's.
                unsafe { *to.get().add(i * width + j) = output.round(weighed) };
            }
        }
    });
}

/// `gate = round(round(silu(gate)) · up)`.
pub(super) fn swiglu(pool: &Pool, output: Dtype, gate: &mut [f32], up: &[f32]) {
    let (length, to) = (gate.len(), Shared(gate.as_mut_ptr()));
    share(pool, length.div_ceil(LANES), LANES * 16, |from, until| {
        let (from, until) = (from * LANES, length.min(until * LANES));
        // SAFETY: this run of `gate` is this task's.
        let gate = unsafe { std::slice::from_raw_parts_mut(to.get().add(from), until - from) };
        functions::silu_each(gate);
        for (gate, up) in gate.iter_mut().zip(&up[from..until]) {
            *gate = output.round(output.round(*gate) * up);
        }
    });
}

/// gpt-oss's unit of neighbours in `pairs`: see [`mantissa_numerics::recipe::ClampedSwiGluRecipe`].
pub(super) fn clamped_swiglu(
    pool: &Pool,
    output: Dtype,
    [alpha, limit]: [f32; 2],
    pairs: &[f32],
    out: &mut [f32],
) {
    let (length, to) = (out.len(), Shared(out.as_mut_ptr()));
    let round = |x| output.round(x);
    share(pool, length.div_ceil(LANES), LANES * 16, |from, until| {
        for i in from * LANES..length.min(until * LANES) {
            let gate = pairs[2 * i].clamp(f32::NEG_INFINITY, limit);
            let up = pairs[2 * i + 1].clamp(-limit, limit);
            let unit = round(gate * round(functions::sigmoid(round(gate * alpha))));
            // SAFETY: element `i` of `out` is this task's.
            unsafe { *to.get().add(i) = round(round(up + 1.0) * unit) };
        }
    });
}
