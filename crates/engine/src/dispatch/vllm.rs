//! vLLM 0.24 in eager mode: which kernels it launches where transformers launches others.
//!
//! Norms add up squares in another order, and the sum before a norm is part of its kernel; rotations take rounded
//! tables and round once; attention is FlashAttention 3; routers are one kernel, and experts' last products multiply by
//! the weights that it leaves in binary32. Other products are cuBLAS's, of weights that are joined ([`super::ranks`]).

use std::num::NonZeroU16;

use mantissa_model::graph::{Attention, ExpertLinear, Node, Norm, Routing, Weighting};
use mantissa_model::{Arch, ModelConfig};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::flash3::{Request, Step};
use mantissa_numerics::nvidia::gating::VllmGating;
use mantissa_numerics::nvidia::triton::TritonLogSoftmax;
use mantissa_numerics::nvidia::vllm::VllmMean;
use mantissa_numerics::recipe::{
    ExpertOrder, ExpertSumRecipe, LogSoftmaxRecipe, NormMean, NormRecipe, NormWeight, RouterChoice,
    RouterRecipe, RouterSoftmax, TorchSoftmax, VllmFlash3,
};
use mantissa_numerics::setup::{Basis, ModelRunner};

use super::planned::InSection;
use super::ranks::Undivided;
use super::rules::Dispatch;
use super::sdpa::MULTIPROCESSORS;
use crate::catalog;
use crate::shape::PassShape;

/// Numbers of experts whose router was compared.
const EXPERTS_COMPARED: [usize; 2] = [8, 128];

/// Families that run in the model runner V2 unless a variable of the environment says otherwise; others in V1, whose
/// log-probabilities are PyTorch's. *Source:* `DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES` in vllm/config/vllm.py, 0.24.0.
const RUNNER_V2: [Arch; 3] = [Arch::LLAMA, Arch::MISTRAL, Arch::QWEN3];

impl Dispatch<'_> {
    /// Log-probabilities as the engine hands them out, of a model of `config`.
    ///
    /// ```
    /// use mantissa_engine::{Attention, Dispatch, Hardware, Program, Serving};
    /// use mantissa_model::{Arch, synth::SynthSpec};
    /// use mantissa_numerics::Dtype;
    /// use mantissa_numerics::recipe::LogSoftmaxRecipe;
    ///
    /// let serving = Serving { program: Program::Vllm024, ..Serving::default() };
    /// let of = Dispatch { serving, ..Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::FlashAttention3) };
    /// let recipe = |arch| of.log_softmax_of(SynthSpec::tiny(arch, 0).config());
    /// assert!(matches!(recipe(Arch::LLAMA), LogSoftmaxRecipe::Triton(_)));
    /// assert!(matches!(recipe(Arch::QWEN2), LogSoftmaxRecipe::Torch(_)));
    /// ```
    #[must_use]
    pub fn log_softmax_of(self, config: &ModelConfig) -> LogSoftmaxRecipe {
        if self.is_vllm() && self.is_gpu() && self.is_second_runner(config) {
            return LogSoftmaxRecipe::Triton(TritonLogSoftmax::of(config.vocab_size, self.dtype));
        }
        if self.is_vllm() && self.is_gpu() {
            // Called on the logits as they are: of f16 PyTorch has a kernel that reads them.
            return LogSoftmaxRecipe::Torch(TorchSoftmax::of(config.vocab_size, self.dtype));
        }
        self.log_softmax(config.vocab_size)
    }

    /// Whether a model of `config` runs in the model runner V2.
    pub(super) fn is_second_runner(self, config: &ModelConfig) -> bool {
        match self.serving.runner {
            ModelRunner::Auto => RUNNER_V2.contains(&config.arch),
            ModelRunner::V1 => false,
            ModelRunner::V2 => true,
        }
    }

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

    /// The choice of experts; weights stay in binary32 whatever the model says. Of other numbers of experts than 8 and
    /// 128 the kernel was read and not compared.
    pub(super) fn vllm_router(
        routing: &Routing,
        choice: RouterChoice,
    ) -> Result<(RouterRecipe, Basis), Undivided> {
        let what = |why| (format!("a router of {} experts of vLLM", routing.experts), why);
        if choice == RouterChoice::Logits {
            return Err(what("of its routers those with a softmax of all logits are known"));
        }
        let gating = VllmGating::of(routing.experts)
            .ok_or_else(|| what("only numbers of experts that have a kernel of their own are known"))?;
        let compared = EXPERTS_COMPARED.contains(&routing.experts);
        let basis = if compared { Basis::Verified } else { Basis::Literature };
        Ok((RouterRecipe { softmax: RouterSoftmax::Vllm(gating), choice, output: Dtype::F32 }, basis))
    }

    /// The format that an expert's product leaves, which is Triton's `fused_moe_kernel`: the last one is multiplied by
    /// the expert's weight before it is rounded, which is the sum's first step here.
    pub(super) fn vllm_expert(self, node: &Node, linear: &ExpertLinear) -> Result<Dtype, Undivided> {
        match node.name {
            _ if linear.biased => Err((
                "experts with biases of vLLM".to_owned(),
                "vLLM's experts without biases alone were compared",
            )),
            "expert_down" => Ok(Dtype::F32),
            _ => Ok(self.dtype),
        }
    }

    /// The sum over `top` experts: `moe_sum`, which has a kernel of its own for two to four, of which that for two was
    /// compared, and is PyTorch's sum otherwise.
    pub(super) fn vllm_expert_sum(sum: ExpertSumRecipe, top: usize) -> (ExpertSumRecipe, Basis) {
        let sum = ExpertSumRecipe { wide: false, ..sum };
        if (2..=4).contains(&top) {
            let each = ExpertSumRecipe { sums: NonZeroU16::MIN, order: ExpertOrder::EachInTopOrder, ..sum };
            return (each, if top == 2 { Basis::Verified } else { Basis::Literature });
        }
        (sum, Basis::Verified)
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

#[cfg(test)]
mod tests {
    use mantissa_model::graph::{Graph, Operation};
    use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
    use mantissa_model::{Arch, ModelConfig};
    use mantissa_numerics::recipe::{ExpertRanks, KernelRecipe, LinearSum, MatmulRecipe};
    use mantissa_numerics::setup::{Attention as Kind, Hardware, Program, Ranks};

    use super::*;
    use crate::catalogs::CatalogUse;
    use crate::serving::Serving;

    /// Qwen3-30B-A3B.
    fn graph() -> Graph {
        let request = SynthRequest { preset: Some(Preset::Qwen3_30BA3B), ..SynthRequest::default() };
        SynthSpec::new(&request).expect("a preset").config().graph()
    }

    /// What a node of the first block with experts runs, and what it rests on.
    fn of(graph: &Graph, name: &str, [tensor, expert]: [u32; 2]) -> Result<(KernelRecipe, Basis), String> {
        let ranks = Ranks { tensor, expert, ..Ranks::default() };
        let serving = Serving { program: Program::Vllm024, ranks, ..Serving::default() };
        let dispatch =
            Dispatch { serving, ..Dispatch::new(Hardware::H200, Dtype::Bf16, Kind::FlashAttention3) };
        let mut used = CatalogUse::new(Hardware::H200);
        let section = graph.block(0).expect("a block");
        let node = section.nodes.iter().find(|node| node.name == name).expect("a node");
        let found =
            dispatch.recipe(InSection { section, first: true }, node, PassShape::decode(9, 40), &mut used);
        let planned = found.map_err(|error| error.to_string())?.expect("a kernel");
        Ok((planned.recipe, used.basis))
    }

    #[test]
    fn experts_are_weighted_before_they_are_rounded() {
        let graph = graph();
        let product = |name, ranks| match of(&graph, name, ranks).expect("known").0 {
            KernelRecipe::Matmul(MatmulRecipe { summation, output }) => (summation, output),
            other => panic!("{other:?}"),
        };
        let sum = |ranks| match of(&graph, "expert_sum", ranks).expect("known") {
            (KernelRecipe::ExpertSum(sum), basis) => (sum, basis),
            other => panic!("{other:?}"),
        };
        for ranks in [[1, 1], [2, 1], [2, 2]] {
            let (router, _) = of(&graph, "router_topk", ranks).expect("known");
            let KernelRecipe::Router(router) = router else { panic!("{router:?}") };
            assert_eq!(router.softmax, RouterSoftmax::Vllm(VllmGating { load: 8 }));
            assert_eq!(router.output, Dtype::F32);
            for name in ["expert_gate", "expert_up"] {
                let (summation, output) = product(name, ranks);
                assert!(
                    output == Dtype::Bf16 && matches!(summation, LinearSum::TensorCore(_)),
                    "{name} {ranks:?}"
                );
            }
            let (summation, output) = product("expert_down", ranks);
            assert!(output == Dtype::F32);
            let by_widths = ranks == [2, 1];
            assert_eq!(
                matches!(summation, LinearSum::RankParts { ranks, .. } if ranks.get() == 2),
                by_widths
            );
            let (sum, basis) = sum(ranks);
            assert_eq!(
                (sum.sums.get(), sum.wide, sum.order, basis),
                (4, false, ExpertOrder::Once, Basis::Verified)
            );
            match (ranks, sum.ranks) {
                ([1, 1], ExpertRanks::One) | ([2, 1], ExpertRanks::Widths { .. }) => {}
                ([2, 2], ExpertRanks::Experts { of_rank, .. }) => assert_eq!(of_rank.get(), 64),
                (ranks, found) => panic!("{ranks:?}: {found:?}"),
            }
        }
        let why = of(&graph, "expert_sum", [1, 2]).expect_err("vLLM has no such ranks");
        assert!(why.contains("divides both among the same ranks"), "{why}");
    }

    #[test]
    fn a_sum_over_two_experts_has_a_kernel_of_its_own() {
        // That for three and four was not compared.
        for (top, expected) in [(2, Basis::Verified), (3, Basis::Literature), (4, Basis::Literature)] {
            let tiny = SynthSpec::tiny(Arch::MIXTRAL, 0).config().clone();
            let moe =
                tiny.moe.clone().map(|moe| mantissa_model::MoeConfig { num_experts_per_tok: top, ..moe });
            let graph = ModelConfig { moe, ..tiny }.graph();
            let (found, basis) = of(&graph, "expert_sum", [1, 1]).expect("known");
            let KernelRecipe::ExpertSum(sum) = found else { panic!("{found:?}") };
            assert_eq!((sum.sums.get(), sum.order, basis), (1, ExpertOrder::EachInTopOrder, expected));
        }
    }

    #[test]
    fn other_routers_are_refused() {
        let tiny = SynthSpec::tiny(Arch::QWEN3_MOE, 0).config().clone();
        let moe = tiny.moe.clone().map(|moe| mantissa_model::MoeConfig { num_experts: 60, ..moe });
        let sixty = ModelConfig { moe, ..tiny }.graph();
        for (graph, why) in [
            (sixty, "a router of 60 experts of vLLM"),
            (SynthSpec::tiny(Arch::GPT_OSS, 0).config().graph(), "a softmax of all logits"),
        ] {
            let section = graph.block(0).expect("a block");
            let route = section.nodes.iter().find(|node| matches!(node.operation, Operation::Route(_)));
            let said = of(&graph, route.expect("a router").name, [1, 1]).expect_err("another kernel");
            assert!(said.contains(why), "{said}");
        }
    }
}
