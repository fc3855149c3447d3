//! vLLM 0.24 in eager mode: which kernels it launches where transformers launches others.
//!
//! Norms add up squares in another order, and the sum before a norm is part of its kernel; rotations take rounded
//! tables and round once; attention is FlashAttention 3. Products are cuBLAS's, of weights that are joined
//! ([`super::ranks`]).

use mantissa_model::graph::{Attention, Node, Norm, Weighting};
use mantissa_numerics::nvidia::flash3::{Request, Step};
use mantissa_numerics::nvidia::vllm::VllmMean;
use mantissa_numerics::recipe::{NormMean, NormRecipe, NormWeight, VllmFlash3};

use super::planned::InSection;
use super::ranks::Undivided;
use super::rules::Dispatch;
use super::sdpa::MULTIPROCESSORS;
use crate::catalog;
use crate::shape::PassShape;

impl Dispatch<'_> {
    /// A norm of `rows` rows.
    pub(super) fn vllm_norm(
        self,
        at: InSection<'_>,
        node: &Node,
        norm: &Norm,
        rows: usize,
    ) -> Result<NormRecipe, Undivided> {
        let before =
            at.section.nodes.iter().any(|node| node.name == "input_norm") || node.name == "final_norm";
        if !before || norm.weighting == Weighting::OnePlus {
            return Err((
                format!("{} of vLLM", node.name),
                "of its norms those before attention and MLP were compared",
            ));
        }
        // Behind the sum that a block leaves, which the kernel adds up itself.
        let fused = match node.name {
            "input_norm" => !at.first,
            "post_attention_norm" | "final_norm" => true,
            _ => false,
        };
        let mean = VllmMean::of(rows, norm.length, fused).ok_or_else(|| {
            (format!("a norm of rows of {}", norm.length), "only rows of whole loads are known")
        })?;
        Ok(NormRecipe { mean: NormMean::Vllm(mean), weight: NormWeight::BeforeCast, output: self.dtype })
    }

    /// Attention of a pass whose sequences are the requests of a step.
    pub(super) fn flash3(self, attention: &Attention, shape: PassShape) -> Result<VllmFlash3, Undivided> {
        let what = |why| (format!("FlashAttention 3 over {} keys", shape.keys), why);
        if attention.window.is_some() || attention.cap.is_some() || attention.sinks.is_some() {
            return Err(what("only attention to all earlier keys was compared"));
        }
        let [query_heads, kv_heads] = self.rank_heads(attention)?;
        let requests = vec![Request { queries: shape.positions, keys: shape.keys }; shape.batch_size];
        let step = Step {
            query_heads,
            kv_heads,
            dim: attention.key_dim,
            multiprocessors: MULTIPROCESSORS,
            requests: &requests,
        };
        let block = catalog::block(self.hardware.architecture(), self.dtype);
        VllmFlash3::of(block, step)
            .ok_or_else(|| what("only heads of 64 and 128, and whole prompts, are known"))
    }
}
