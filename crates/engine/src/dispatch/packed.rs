//! Products with integers of 4 bits, kept as they are stored: vLLM's on a Hopper GPU, by Machete or Marlin.
//!
//! Weights of queries, keys and values, and of gate and up, are joined by outputs, and quantized ones too: what tile an
//! output lies in, and so where its sum is cut, is told by its place among all of them.

use std::num::{NonZeroU32, NonZeroUsize};

use mantissa_model::graph::{ExpertLinear, Linear, Node, Operation, Section};
use mantissa_model::quantized::Int4;
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::{marlin, marlin_experts};
use mantissa_numerics::recipe::{
    LinearSum, MatmulRecipe, PackedExperts, PackedKernel, PackedRanks, PackedSum,
};
use mantissa_numerics::setup::{Basis, Hardware, LinearBackend, QuantizedWeights};

use super::ranks::{MOST_RANKS_COMPARED, RankProduct, Undivided, divided};
use super::rules::Dispatch;
use super::sdpa::MULTIPROCESSORS;
use crate::catalog;
use crate::shape::PassShape;

/// The node whose weight is never quantized.
const ROUTER: &str = "router";
/// What vLLM joins.
const JOINED: [&[&str]; 2] = [&["q_proj", "k_proj", "v_proj"], &["gate_proj", "up_proj"]];
/// Multiples of outputs and inputs that Machete takes.
const MACHETE: [usize; 2] = [128, 64];

impl Dispatch<'_> {
    /// How a node's weight is stored, where it is multiplied by as integers of 4 bits.
    pub(crate) fn int4(self, section: &Section, node: &Node) -> Option<Int4> {
        let kept = self.is_gpu() && self.quantized == QuantizedWeights::Keep && node.name != ROUTER;
        section.int4.filter(|_| kept)
    }

    /// The recipe of a product with such a weight, or why none is known.
    pub(super) fn int4_product(
        self,
        section: &Section,
        node: &Node,
        linear: &Linear,
        layout: Int4,
        part: RankProduct,
    ) -> Result<MatmulRecipe, Undivided> {
        let refused = |why| Err((format!("{} with weights of 4 bits", node.name), why));
        if let Some(why) = self.int4_refused(layout) {
            return refused(why);
        }
        let group = layout.group.map(NonZeroUsize::get);
        let [shape_n, shape_k] = [part.n, part.k];
        let machete = shape_n.is_multiple_of(MACHETE[0])
            && shape_k.is_multiple_of(MACHETE[1])
            && matches!(group, None | Some(64 | 128));
        let kernel = match self.serving.linear_backend {
            LinearBackend::Auto | LinearBackend::Machete if machete => PackedKernel::Machete,
            LinearBackend::Machete => {
                return refused(
                    "Machete takes outputs in 128, inputs in 64, and groups of 64, 128 or all inputs; of others \
                     linear_backend=auto takes Marlin",
                );
            }
            LinearBackend::Auto | LinearBackend::Marlin => {
                let Some(group) = group else {
                    return refused(
                        "Marlin multiplies what it rounded by an output's one scale, and adds the bias in the same \
                         step: for that there is no recipe",
                    );
                };
                let known = u32::try_from(group).ok().filter(|group| matches!(group, 32 | 64 | 128));
                let Some(group) = known.and_then(NonZeroU32::new) else {
                    return refused("Marlin takes groups of 32, 64 or 128");
                };
                PackedKernel::Marlin { group }
            }
        };
        let mut outputs = shape_n;
        if matches!(kernel, PackedKernel::Marlin { .. }) {
            let [filled, inputs] = marlin::padded(shape_n, shape_k, group);
            if inputs != shape_k {
                return refused("sums that Marlin fills up with zeros were not compared");
            }
            outputs = filled;
        }
        let ranks = self.tensor_ranks();
        let among = match part.reduce {
            _ if ranks == 1 => PackedRanks::One,
            Some(_) if group.is_some_and(|group| !shape_k.is_multiple_of(group)) => {
                return refused(
                    "where ranks share a group vLLM takes other kernels, which were not compared",
                );
            }
            Some(_) if group.is_none() => {
                return refused("one scale of ranks' parts of inputs was not compared");
            }
            Some(reduce) => PackedRanks::Added(reduce),
            None => of_outputs(linear.n / ranks),
        };
        let first = first(section, node, ranks);
        let numbers = [part.m, outputs, first].map(|x| u32::try_from(x).unwrap_or(u32::MAX));
        let block = catalog::block(self.hardware.architecture(), self.dtype);
        let multiprocessors = u32::try_from(MULTIPROCESSORS).unwrap_or(u32::MAX);
        let sum = PackedSum::new(kernel, block, numbers, multiprocessors).among(among);
        // A bias is added to what was rounded.
        Ok(MatmulRecipe { summation: LinearSum::Packed(sum), output: self.dtype })
    }

    /// The recipe of a product with such weights of experts, or why none is known: Marlin's, whatever multiplies by
    /// other weights.
    pub(super) fn int4_experts(
        self,
        section: &Section,
        node: &Node,
        linear: &ExpertLinear,
        layout: Int4,
        shape: PassShape,
    ) -> Result<MatmulRecipe, Undivided> {
        let refused = |why| Err((format!("{} with weights of 4 bits", node.name), why));
        if let Some(why) = self.int4_refused(layout) {
            return refused(why);
        }
        if layout.group.map(NonZeroUsize::get) != Some(marlin_experts::GROUP) {
            return refused("of experts only groups of 128 inputs were compared");
        }
        if linear.biased {
            return refused("experts with biases were not compared");
        }
        if shape.batch_size > 1 {
            return refused(
                "where sums are cut depends on which experts the other sequences of a step chose",
            );
        }
        let chosen = section.nodes.iter().find_map(|node| match &node.operation {
            Operation::Route(routing) => Some([routing.top, routing.experts]),
            _ => None,
        });
        let Some([top, experts]) = chosen else {
            return refused("only experts that a router chooses are known");
        };
        let parts = self.expert_parts(node, linear)?;
        // Experts whole, or a part of the widths of each.
        let whole = self.serving.ranks.expert > 1;
        let ranks = if whole { 1 } else { self.tensor_ranks() };
        let (outputs, first, k) = match node.name {
            "expert_down" => (linear.n, 0, linear.k / ranks),
            "expert_up" => (2 * linear.n / ranks, linear.n / ranks, linear.k),
            _ => (2 * linear.n / ranks, 0, linear.k),
        };
        let among = match parts {
            Some(parts) => PackedRanks::SideBySide(parts),
            None if ranks > 1 => of_outputs(linear.n / ranks),
            None => PackedRanks::One,
        };
        let of_rank = match self.serving.ranks.expert as usize {
            0 | 1 => None,
            ranks => u32::try_from(divided(experts, ranks, "experts")?).ok().and_then(NonZeroU32::new),
        };
        let [tokens, top, experts, outputs, first, multiprocessors] =
            [shape.rows(), top, experts, outputs, first, MULTIPROCESSORS]
                .map(|x| u32::try_from(x).unwrap_or(u32::MAX));
        let sum = PackedExperts {
            block: catalog::block(self.hardware.architecture(), self.dtype),
            tokens,
            top,
            experts,
            of_rank,
            outputs,
            first,
            zeros: layout.zeros,
            multiprocessors,
            ranks: among,
        };
        // Whether there are tiles does not depend on blocks.
        if !k.is_multiple_of(marlin_experts::GROUP) || sum.launch(k, 1).is_none() {
            return refused("only outputs of whole tiles, and inputs of whole groups, are known");
        }
        Ok(MatmulRecipe { summation: LinearSum::PackedExperts(sum), output: self.dtype })
    }

    /// Why vLLM's products with such weights are not known, whatever their shape.
    fn int4_refused(self, layout: Int4) -> Option<&'static str> {
        if !self.is_vllm() {
            return Some(Self::int4_elsewhere(layout));
        }
        match self.hardware {
            Hardware::H200 | Hardware::H100 => {}
            Hardware::Cpu | Hardware::A100 | Hardware::L40s => {
                return Some("vLLM's kernels are known of Hopper GPUs alone");
            }
        }
        (self.dtype == Dtype::F32).then_some("bf16 and f16 were compared")
    }

    /// Why transformers' products with such weights are not known.
    const fn int4_elsewhere(layout: Int4) -> &'static str {
        if layout.zeros {
            "transformers multiplies by AWQ through kernels that were not compared; say engine=vllm-0.24 or \
             quantization=none"
        } else {
            "transformers multiplies by GPTQ through exllama, whose atomic additions leave other bits each time; say \
             engine=vllm-0.24 or quantization=none"
        }
    }

    /// What such a product rests on: an H200, one rank and two. An H100 has as many multiprocessors and was not
    /// measured.
    pub(super) fn int4_basis(self) -> Basis {
        let ranks = self.tensor_ranks().max(self.serving.ranks.expert as usize);
        let compared = self.hardware == Hardware::H200 && ranks <= usize::from(MOST_RANKS_COMPARED);
        if compared { Basis::Verified } else { Basis::Literature }
    }
}

/// Ranks that have `of_rank` outputs each.
fn of_outputs(of_rank: usize) -> PackedRanks {
    let of_rank = u32::try_from(of_rank).ok().and_then(NonZeroU32::new);
    of_rank.map_or(PackedRanks::One, |of_rank| PackedRanks::Outputs { of_rank, skipped: 0 })
}

/// Which output of the weights that are joined on each of `ranks` a node's first one is.
fn first(section: &Section, node: &Node, ranks: usize) -> usize {
    let Some(names) = JOINED.into_iter().find(|names| names.contains(&node.name)) else { return 0 };
    let before = names.iter().take_while(|name| **name != node.name);
    before
        .filter_map(|name| section.nodes.iter().find(|node| node.name == *name))
        .map(|node| match &node.operation {
            Operation::Linear(linear) => linear.n / ranks,
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use mantissa_model::ModelConfig;
    use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
    use mantissa_numerics::recipe::KernelRecipe;
    use mantissa_numerics::setup::{Attention, Program, Ranks};

    use super::super::planned::InSection;
    use super::*;
    use crate::catalogs::CatalogUse;
    use crate::serving::Serving;
    use crate::shape::PassShape;

    /// Qwen3-30B-A3B in groups of `group`.
    fn config(group: usize, zeros: bool) -> ModelConfig {
        let request = SynthRequest { preset: Some(Preset::Qwen3_30BA3B), ..SynthRequest::default() };
        let config = SynthSpec::new(&request).expect("a preset").config().clone();
        ModelConfig { int4: Some(Int4 { group: NonZeroUsize::new(group), zeros }), ..config }
    }

    fn vllm() -> Dispatch<'static> {
        let serving = Serving { program: Program::Vllm024, ..Serving::default() };
        Dispatch { serving, ..Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::FlashAttention3) }
    }

    /// What a product of the first block runs on a step of nine tokens.
    fn of(dispatch: Dispatch<'_>, config: &ModelConfig, name: &str) -> Result<(LinearSum, Basis), String> {
        on(PassShape::decode(9, 40), dispatch, config, name)
    }

    /// The same on another step.
    fn on(
        shape: PassShape,
        dispatch: Dispatch<'_>,
        config: &ModelConfig,
        name: &str,
    ) -> Result<(LinearSum, Basis), String> {
        let graph = config.graph();
        let section = graph.block(0).expect("a block");
        let node = section.nodes.iter().find(|node| node.name == name).expect("a node");
        let mut used = CatalogUse::new(dispatch.hardware);
        let at = InSection { section, first: true };
        let planned = dispatch.recipe(at, node, shape, &mut used);
        match planned.map_err(|error| error.to_string())?.expect("a kernel").recipe {
            KernelRecipe::Matmul(product) => Ok((product.summation, used.basis)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn joined_weights_share_tiles_and_routers_are_not_packed() {
        let config = config(128, true);
        for (linear_backend, machete) in
            [(LinearBackend::Auto, true), (LinearBackend::Machete, true), (LinearBackend::Marlin, false)]
        {
            let serving = Serving { linear_backend, ..vllm().serving };
            let dispatch = Dispatch { serving, ..vllm() };
            for (name, outputs, first) in
                [("q_proj", 5120, 0), ("k_proj", 5120, 4096), ("v_proj", 5120, 4608), ("o_proj", 2048, 0)]
            {
                let (sum, basis) = of(dispatch, &config, name).expect("known");
                let LinearSum::Packed(sum) = sum else { panic!("{sum:?}") };
                assert_eq!(sum.shape(), [16, outputs, first], "{name}");
                assert_eq!((sum.kernel() == PackedKernel::Machete, basis), (machete, Basis::Verified));
            }
            let (router, _) = of(dispatch, &config, "router").expect("known");
            assert!(matches!(router, LinearSum::TensorCore(_)), "{router:?}");
        }
        let h100 = Dispatch { hardware: Hardware::H100, ..vllm() };
        assert_eq!(of(h100, &config, "o_proj").expect("known").1, Basis::Literature);
    }

    #[test]
    fn ranks_have_outputs_or_parts_of_sums() {
        let serving = Serving { ranks: Ranks { tensor: 2, ..Ranks::default() }, ..vllm().serving };
        let two = Dispatch { serving, ..vllm() };
        let config = config(128, true);
        for (name, outputs, first, of_rank) in
            [("q_proj", 2560, 0, 2048), ("k_proj", 2560, 2048, 256), ("v_proj", 2560, 2304, 256)]
        {
            let (sum, basis) = of(two, &config, name).expect("known");
            let LinearSum::Packed(sum) = sum else { panic!("{sum:?}") };
            assert_eq!((sum.shape(), basis), ([16, outputs, first], Basis::Verified), "{name}");
            assert_eq!(sum.ranks(), of_outputs(of_rank));
        }
        let (sum, _) = of(two, &config, "o_proj").expect("known");
        let LinearSum::Packed(sum) = sum else { panic!("{sum:?}") };
        assert!(matches!(sum.ranks(), PackedRanks::Added(reduce) if reduce.ranks() == 2));
        // Experts in halves, and half of the experts.
        let expert = |dispatch, name| match on(PassShape::prefill(1, 9), dispatch, &config, name) {
            Ok((LinearSum::PackedExperts(sum), _)) => sum,
            other => panic!("{other:?}"),
        };
        let up = expert(two, "expert_up");
        assert_eq!((up.outputs, up.first, up.ranks, up.of_rank()), (768, 384, of_outputs(384), 128));
        assert!(
            matches!(expert(two, "expert_down").ranks, PackedRanks::SideBySide(ranks) if ranks.get() == 2)
        );
        let ranks = Ranks { tensor: 2, expert: 2, ..Ranks::default() };
        let whole = Dispatch { serving: Serving { ranks, ..vllm().serving }, ..vllm() };
        let up = expert(whole, "expert_up");
        assert_eq!((up.outputs, up.first, up.ranks, up.of_rank()), (1536, 768, PackedRanks::One, 64));
    }

    #[test]
    fn experts_are_marlins_whatever_multiplies_by_other_weights() {
        for (linear_backend, zeros) in [(LinearBackend::Auto, true), (LinearBackend::Machete, false)] {
            let serving = Serving { linear_backend, ..vllm().serving };
            let dispatch = Dispatch { serving, ..vllm() };
            for (name, outputs, first) in
                [("expert_gate", 1536, 0), ("expert_up", 1536, 768), ("expert_down", 2048, 0)]
            {
                let (sum, basis) =
                    on(PassShape::prefill(1, 9), dispatch, &config(128, zeros), name).expect("known");
                let LinearSum::PackedExperts(sum) = sum else { panic!("{sum:?}") };
                assert_eq!((sum.tokens, sum.top, sum.experts, sum.zeros), (9, 8, 128, zeros));
                assert_eq!(([sum.outputs, sum.first], basis), ([outputs, first], Basis::Verified), "{name}");
            }
        }
    }

    #[test]
    fn one_scale_of_an_output_is_machetes() {
        for zeros in [false, true] {
            let (sum, _) = of(vllm(), &config(0, zeros), "o_proj").expect("known");
            let LinearSum::Packed(sum) = sum else { panic!("{sum:?}") };
            assert_eq!(sum.kernel(), PackedKernel::Machete);
        }
    }

    #[test]
    fn what_machete_does_not_take_is_marlins() {
        // Groups of 32.
        let (sum, _) = of(vllm(), &config(32, false), "o_proj").expect("known");
        let LinearSum::Packed(sum) = sum else { panic!("{sum:?}") };
        assert!(matches!(sum.kernel(), PackedKernel::Marlin { group } if group.get() == 32));
        let serving = Serving { linear_backend: LinearBackend::Machete, ..vllm().serving };
        let said =
            of(Dispatch { serving, ..vllm() }, &config(32, false), "o_proj").expect_err("groups of 32");
        assert!(said.contains("groups of 64, 128 or all inputs"), "{said}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let awq = config(128, true);
        let serving = Serving { linear_backend: LinearBackend::Marlin, ..vllm().serving };
        let marlin = Dispatch { serving, ..vllm() };
        let two = Serving { ranks: Ranks { tensor: 2, ..Ranks::default() }, ..vllm().serving };
        let transformers = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::Eager);
        for (dispatch, config, name, why) in [
            (transformers, &awq, "o_proj", "transformers multiplies by AWQ"),
            (transformers, &config(128, false), "o_proj", "exllama, whose atomic additions"),
            (Dispatch { serving: two, ..vllm() }, &config(0, true), "o_proj", "ranks' parts of inputs"),
            (marlin, &config(0, false), "o_proj", "an output's one scale"),
            (vllm(), &awq, "expert_down", "which experts the other sequences of a step chose"),
            (vllm(), &config(32, false), "expert_up", "groups of 128"),
        ] {
            let said = of(dispatch, config, name).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }
}
