//! Which kernels a pass runs, told without running it: what makes candidates of a verification one class before
//! anything is computed.
//!
//! The list follows the forward pass of [`crate::Engine`] operation by operation and asks the same [`Dispatch`]; whoever
//! relies on it compares it with [`crate::Engine::take_observed`] afterwards, and a test does for every family.

use std::num::NonZeroU32;

use mantissa_model::ModelConfig;
use mantissa_numerics::recipe::{KernelRecipe, NormMean, NormRecipe, ObservedKernel};
use mantissa_numerics::site::Phase;

use crate::dispatch::Dispatch;
use crate::error::EngineError;

/// The shape of one pass, as dispatch sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PassShape {
    /// Prefill or decode.
    pub phase: Phase,
    /// Sequences of the batch.
    pub batch_size: usize,
    /// Positions of each that the pass feeds: 1 in decode.
    pub positions: usize,
    /// Positions cached after it.
    pub keys: usize,
}

/// The kernels of a pass in the order each first runs, without the log-softmax that follows it.
///
/// *Errors:* a shape that no verified recipe covers.
pub fn kernels(
    dispatch: Dispatch,
    config: &ModelConfig,
    shape: PassShape,
) -> Result<Vec<ObservedKernel>, EngineError> {
    dispatch.check(config, shape.phase, shape.batch_size, shape.positions, shape.keys)?;
    let mut plan =
        Plan { dispatch, phase: shape.phase, m: shape.batch_size * shape.positions, kernels: Vec::new() };
    for layer in 0..config.num_hidden_layers {
        plan.block(config, layer, shape.keys);
    }
    plan.norm("final_norm", 1, config.hidden_size);
    plan.matmul("lm_head", config.vocab_size, config.hidden_size, false);
    Ok(plan.kernels)
}

/// What a kernel computes, without the number of rows that chose its recipe: equal for two kernels only if they give the
/// same bits on the same row. Kernels that differ here may still agree on some evidence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Computation {
    op: String,
    n: u64,
    k: u64,
    recipe: KernelRecipe,
    /// Bits of the factor of PyTorch's mean, of which alone its number of rows is part.
    factor: Option<u32>,
}

impl Computation {
    /// What `kernel` computes.
    #[must_use]
    pub fn of(kernel: &ObservedKernel) -> Self {
        let (mut recipe, mut factor) = (kernel.recipe, None);
        if let KernelRecipe::RmsNorm(NormRecipe { mean: NormMean::Torch { rows, .. }, .. }) = &mut recipe {
            #[expect(clippy::cast_precision_loss, reason = "PyTorch divides these as binary32")]
            let quotient = rows.get() as f32 / (u64::from(rows.get()) * kernel.k) as f32;
            factor = Some(quotient.to_bits());
            *rows = NonZeroU32::MIN;
        }
        Self { op: kernel.op.clone(), n: kernel.n, k: kernel.k, recipe, factor }
    }
}

struct Plan {
    dispatch: Dispatch,
    phase: Phase,
    m: usize,
    kernels: Vec<ObservedKernel>,
}

impl Plan {
    fn block(&mut self, config: &ModelConfig, layer: usize, keys: usize) {
        let (hidden, dim) = (config.hidden_size, config.head_dim);
        let (wide, narrow) = (config.num_attention_heads * dim, config.num_key_value_heads * dim);
        let (bias, residual) = (self.dispatch.bias(), self.dispatch.residual());
        let (rotary, swiglu) = (self.dispatch.rotary(), self.dispatch.swiglu());
        self.norm("input_norm", 1, hidden);
        for (op, n) in [("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow)] {
            self.matmul(op, n, hidden, config.qkv_bias);
        }
        if config.qkv_bias {
            self.push("bias", wide, 2, KernelRecipe::Bias(bias));
            self.push("bias", narrow, 2, KernelRecipe::Bias(bias));
        }
        if config.qk_norm {
            self.norm("q_norm", config.num_attention_heads, dim);
            self.norm("k_norm", config.num_key_value_heads, dim);
        }
        self.push("rotary_q", wide, 2, KernelRecipe::Rotary(rotary));
        self.push("rotary_k", narrow, 2, KernelRecipe::Rotary(rotary));
        let heads = self.m * config.num_attention_heads;
        let group = config.num_attention_heads / config.num_key_value_heads;
        let attention = self.dispatch.attention(self.phase, heads, group, dim, keys);
        self.push("attention", wide, dim, KernelRecipe::Attention(attention));
        self.matmul("o_proj", hidden, wide, config.o_bias);
        if config.o_bias {
            self.push("bias", hidden, 2, KernelRecipe::Bias(bias));
        }
        self.push("residual", hidden, 2, KernelRecipe::Residual(residual));
        self.norm("post_attention_norm", 1, hidden);
        match &config.moe {
            Some(moe) if config.is_sparse(layer) => {
                let (inner, top) = (moe.moe_intermediate_size, moe.num_experts_per_tok);
                self.matmul("router", moe.num_experts, hidden, false);
                self.push(
                    "router_topk",
                    top,
                    moe.num_experts,
                    KernelRecipe::Router(self.dispatch.router(moe.norm_topk_prob)),
                );
                self.expert("expert_gate", inner, hidden);
                self.expert("expert_up", inner, hidden);
                self.push("expert_swiglu", inner, 1, KernelRecipe::SwiGlu(swiglu));
                self.expert("expert_down", hidden, inner);
                self.push("expert_sum", hidden, top, KernelRecipe::ExpertSum(self.dispatch.expert_sum()));
            }
            _ => {
                let inner = config.intermediate_size;
                self.matmul("gate_proj", inner, hidden, false);
                self.matmul("up_proj", inner, hidden, false);
                self.push("swiglu", inner, 1, KernelRecipe::SwiGlu(swiglu));
                self.matmul("down_proj", hidden, inner, false);
            }
        }
        self.push("residual", hidden, 2, KernelRecipe::Residual(residual));
    }

    fn norm(&mut self, op: &str, per_row: usize, length: usize) {
        let recipe = self.dispatch.norm(self.m * per_row, length);
        self.push(op, length, length, KernelRecipe::RmsNorm(recipe));
    }

    fn expert(&mut self, op: &str, n: usize, k: usize) {
        let recipe = self.dispatch.expert(self.m, n, k);
        self.push(op, n, k, KernelRecipe::Matmul(recipe));
    }

    fn matmul(&mut self, op: &str, n: usize, k: usize, biased: bool) {
        let recipe = self.dispatch.matmul(self.m, n, k, biased);
        self.push(op, n, k, KernelRecipe::Matmul(recipe));
    }

    fn push(&mut self, op: &str, n: usize, k: usize, recipe: KernelRecipe) {
        let (m, n, k) = (self.m as u64, n as u64, k as u64);
        let kernel = ObservedKernel { phase: self.phase, op: op.to_owned(), m, n, k, recipe };
        if !self.kernels.contains(&kernel) {
            self.kernels.push(kernel);
        }
    }
}
