//! The recipe of a node of the graph in a pass, or why no verified one is known.

use std::collections::BTreeSet;

use mantissa_model::graph::{
    Activation, Attention, Graph, Node, Operation, Pairing, RoutingWeights, Weighting, WideRouting,
};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::bnb::Nf4Way;
use mantissa_numerics::nvidia::reduce::TorchSum;
use mantissa_numerics::recipe::{
    AttentionRecipe, ExpertSumRecipe, KernelRecipe, LinearSum, NormRecipe, NormWeight, RankSum, RotaryPairs,
    RouterChoice, ScoreBound, TorchSoftmax,
};
use mantissa_numerics::setup::{Attention as Implementation, Basis};
use mantissa_numerics::site::Phase;

use super::planned::{InSection, Planned};
use super::ranks::MOST_RANKS_COMPARED;
use super::rules::{Dispatch, keys_of};
use crate::catalog::{self, Batched, Linear, Product};
use crate::catalogs::CatalogUse;
use crate::error::EngineError;
use crate::missing::Missing;
use crate::rope;
use crate::shape::PassShape;

/// The longest rows of which a softmax was compared.
const LONGEST_SOFTMAX: usize = 40_000;

/// Why experts of f16 are not covered: `torch._grouped_mm` has a kernel for bf16 alone (PyTorch 2.11,
/// aten/src/ATen/native/cuda/GroupedBlas.cpp and native/GroupedMMUtils.h).
const EXPERTS_OF_F16: &str =
    "PyTorch runs them as a product for each expert, whose sums depend on how many rows it gets";

impl Dispatch<'_> {
    /// Whether verified recipes may cover such a pass at all; what single kernels lack, [`Self::recipe`] says.
    ///
    /// *Errors:* the first that they do not.
    pub(crate) fn accepts(self, graph: &Graph, shape: PassShape) -> Result<(), EngineError> {
        let expands = || graph.nodes().any(|node| matches!(node.operation, Operation::Expand(_)));
        if let Some((what, why)) = self.serving_refused(graph, shape) {
            return Err(self.refused(what, why));
        }
        if !self.is_gpu() && shape.padded && expands() {
            return Err(self.not_compared("padding", "keys and values of padding would be expanded too"));
        }
        if !self.is_gpu() {
            return match self.attention {
                Implementation::SdpaFlash | Implementation::SdpaMath | Implementation::FlashAttention3 => {
                    Err(self.refused(self.attention_in_words(), "it names kernels of a GPU"))
                }
                Implementation::Eager | Implementation::Sdpa | Implementation::FlashAttention2 => {
                    self.angles_known(graph, shape)
                }
            };
        }
        if self.dtype == Dtype::F32 {
            return Err(self.refused(self.attention_in_words(), "of 32 bits nothing was compared"));
        }
        for node in graph.nodes() {
            if let Operation::Attention(attention) = &node.operation
                && let Some(why) = self.sdpa_refused(attention, shape)
            {
                return Err(self.refused(self.attention_in_words(), why));
            }
        }
        // What no kernel computes is said before what was only not measured.
        self.experts_accepted(graph)?;
        self.angles_known(graph, shape)?;
        if shape.padded && self.dtype == Dtype::F16 && self.attention == Implementation::Eager {
            let why = "a mask of −65,504 hides a key only if its score is small, and what the padding holds is unknown";
            return Err(self.refused("padding in eager attention of f16".to_owned(), why));
        }
        let PassShape { phase, positions, keys, .. } = shape;
        if phase == Phase::Prefill && positions != keys {
            let what = format!("prefill attention of {positions} positions over {keys} keys");
            return Err(self.refused(what, "only whole prompts were measured"));
        }
        Ok(())
    }

    /// What keeps each kernel of a pass from being predicted, each thing once; none where the pass is covered.
    ///
    /// Of a product of attention the first of the two is named: one measurement has both.
    ///
    /// Example: [`Missing`].
    #[must_use]
    pub fn refusals(self, graph: &Graph, shape: PassShape) -> BTreeSet<Missing> {
        let mut used = CatalogUse::new(self.hardware);
        let nodes = InSection::all(graph).flat_map(|at| at.section.nodes.iter().map(move |node| (at, node)));
        let nodes = nodes.filter_map(|(at, node)| self.recipe(at, node, shape, &mut used).err());
        let errors = self.accepts(graph, shape).err().into_iter().chain(nodes);
        let missing = errors.filter_map(|error| match error {
            EngineError::Uncovered { missing, .. } => Some(*missing),
            _ => None,
        });
        // What no catalog can have is not missing in one: formats and attentions that are refused as such.
        missing
            .filter(|missing| match missing {
                Missing::Linear(shape) => shape.dtype != Dtype::F32,
                Missing::Batched(attention, dtype, _) => {
                    matches!(attention, Implementation::Eager | Implementation::SdpaMath)
                        && *dtype != Dtype::F32
                }
                Missing::Kernel(_) => true,
            })
            .collect()
    }

    /// What a node runs; `None` where it computes nothing. The catalogs that have its recipe are added to `used`.
    ///
    /// *Errors:* a shape that no verified recipe covers.
    #[expect(clippy::too_many_lines, reason = "an arm for each operation, of a few lines each")]
    pub(crate) fn recipe(
        self,
        at: InSection<'_>,
        node: &Node,
        shape: PassShape,
        used: &mut CatalogUse,
    ) -> Result<Option<Planned>, EngineError> {
        let m = shape.rows();
        let undivided = |(what, why)| self.refused(what, why);
        let planned = |n, k, recipe| Ok(Some(Planned { n, k, recipe }));
        match &node.operation {
            Operation::Norm(norm) => {
                let rows = m * self.rank_groups(node, norm.groups).map_err(undivided)?;
                if self.is_vllm() {
                    let recipe = self.vllm_norm(at, node, norm, rows).map_err(undivided)?;
                    return planned(norm.length, norm.length, KernelRecipe::RmsNorm(recipe));
                }
                // Otherwise the order changes from row to row.
                let aligned = norm.length.is_multiple_of(4);
                if self.is_gpu() && !(aligned && TorchSum::of(rows, norm.length).is_some()) {
                    let what = format!("a mean over {rows} rows of {}", norm.length);
                    return Err(self.refused(what, "its order of sums is not known"));
                }
                let weight = match norm.weighting {
                    Weighting::AfterCast => NormWeight::AfterCast,
                    Weighting::BeforeCast => NormWeight::BeforeCast,
                    Weighting::OnePlus => NormWeight::OnePlus,
                };
                let recipe = NormRecipe { weight, ..self.norm(rows, norm.length) };
                planned(norm.length, norm.length, KernelRecipe::RmsNorm(recipe))
            }
            Operation::Linear(linear) => {
                let (n, k, bias) = (linear.n, linear.k, linear.bias.is_some());
                if self.is_gpu() && linear.wide {
                    return Err(self.not_compared("a product left in binary32", "it was not compared"));
                }
                let part = self.rank_product(at.section, node, linear, shape).map_err(undivided)?;
                // What ranks add is rounded, and a bias follows.
                let biased = part.reduce.is_none() && (bias || linear.wide);
                if let Some(layout) = self.int4(at.section, node) {
                    let recipe =
                        self.int4_product(at.section, node, linear, layout, part).map_err(undivided)?;
                    used.basis = used.basis.max(self.int4_basis());
                    return planned(n, k, KernelRecipe::Matmul(recipe));
                }
                let nf4 = self.nf4_block(at.section, node);
                let way = nf4.map(|block| self.nf4_way(block, part)).transpose().map_err(undivided)?;
                if way.is_some() {
                    used.basis = used.basis.max(self.nf4_basis());
                }
                if let Some(way @ (Nf4Way::Simt | Nf4Way::Mma)) = way {
                    let uncut = catalog::uncut(self.hardware.architecture(), self.dtype);
                    let output = if biased { Dtype::F32 } else { self.dtype };
                    return planned(n, k, KernelRecipe::Matmul(self.nf4_product(way, uncut, output)));
                }
                let Some((mut recipe, from)) = self.product(part.m, part.n, part.k, biased) else {
                    let weight = Linear { n: part.n, k: part.k, bias: biased, dtype: self.dtype };
                    let what = format!("a product of {} × {} with {weight}", part.m, part.k);
                    let missing = Missing::Linear(weight);
                    return Err(self.lacks(what, "its split-K was not measured", missing, shape));
                };
                used.add(from);
                if let (Some(reduce), LinearSum::TensorCore(each)) = (part.reduce, recipe.summation) {
                    recipe.summation = LinearSum::Ranks(RankSum { each, reduce });
                    if reduce.ranks() > MOST_RANKS_COMPARED {
                        used.basis = used.basis.max(Basis::Literature);
                    }
                }
                if let (Some(way), LinearSum::TensorCore(decoded)) = (way, recipe.summation) {
                    recipe = self.nf4_product(way, decoded, recipe.output);
                }
                planned(n, k, KernelRecipe::Matmul(recipe))
            }
            Operation::Bias { .. } | Operation::ExpertBias { .. } => {
                planned(node.width, 2, KernelRecipe::Bias(self.bias()))
            }
            Operation::Rotary(rotary) => {
                if self.is_gpu() && rotary.pairing == Pairing::Neighbours {
                    return Err(self.not_compared("a rotation of neighbours", "it was not compared"));
                }
                if self.is_gpu() && rotary.rotated < rotary.width {
                    return Err(self.not_compared("a rotation of parts of heads", "it was not compared"));
                }
                let pairs = self.pairs(rotary.pairing);
                planned(node.width, 2, KernelRecipe::Rotary(self.rotary(pairs)))
            }
            Operation::Attention(attention) => {
                if self.attention == Implementation::FlashAttention3 {
                    let recipe =
                        AttentionRecipe::VllmFlash3(self.flash3(attention, shape).map_err(undivided)?);
                    return planned(node.width, attention.key_dim, KernelRecipe::Attention(recipe));
                }
                self.attention_accepted(attention, shape)?;
                let [of_rank, _] = self.rank_heads(attention).map_err(undivided)?;
                let (heads, group) = (m * of_rank, attention.heads / attention.kv_heads);
                let dim = attention.key_dim;
                let products = Product::of_eager(attention, shape.batch_size);
                let keys = if self.is_gpu() { keys_of(attention, shape) } else { shape.keys };
                let (mut recipe, from) = self
                    .attention_from(products, shape.phase, heads, group, dim, keys)
                    .map_err(|product| self.not_measured(product, attention, PassShape { keys, ..shape }))?;
                used.add(from.into_iter().flatten());
                let bound = if attention.cap.is_some() { ScoreBound::Tanh } else { ScoreBound::None };
                match &mut recipe {
                    AttentionRecipe::Own(own) => {
                        (own.bound, own.sinks) = (bound, attention.sinks.is_some());
                    }
                    AttentionRecipe::TorchEager(eager) => {
                        (eager.bound, eager.sinks) = (bound, attention.sinks.is_some());
                        if eager.sinks {
                            // transformers asks for the format that scores have.
                            eager.softmax = TorchSoftmax::unconverted(keys + 1);
                        }
                    }
                    // transformers' `sdpa` passes a bound on to nothing.
                    AttentionRecipe::TorchFlash(_)
                    | AttentionRecipe::TorchMath(_)
                    | AttentionRecipe::TorchCudnn(_)
                    | AttentionRecipe::VllmFlash3(_) => {}
                }
                planned(node.width, dim, KernelRecipe::Attention(recipe))
            }
            Operation::Add => planned(node.width, 2, KernelRecipe::Residual(self.residual())),
            Operation::Gate(activation) => {
                let recipe = match activation {
                    Activation::Silu => KernelRecipe::SwiGlu(self.swiglu()),
                    Activation::GeluTanh => KernelRecipe::GeGlu(self.geglu()),
                    Activation::ClampedSwiGlu { .. } => KernelRecipe::ClampedSwiGlu(self.clamped_swiglu()),
                };
                planned(node.width, 1, recipe)
            }
            Operation::Route(routing) => {
                use RoutingWeights::{SoftmaxThenTop, TopThenSoftmax};
                let (choice, known) = match routing.weights {
                    SoftmaxThenTop { renormalize, scale, wide, groups } => {
                        let plain = scale.to_bits() == 1.0_f64.to_bits() && groups.is_none();
                        let known = plain && wide != WideRouting::LogitsAndWeights;
                        (RouterChoice::Probabilities { renormalize }, known)
                    }
                    TopThenSoftmax => (RouterChoice::Logits, true),
                };
                if self.is_gpu() && !known {
                    return Err(self.not_compared(
                        "a router with groups, a factor or logits in binary32",
                        "only those of Qwen3-MoE, Mixtral and gpt-oss are known",
                    ));
                }
                let recipe = if self.is_vllm() {
                    let (recipe, basis) = Self::vllm_router(routing, choice).map_err(undivided)?;
                    used.basis = used.basis.max(basis);
                    recipe
                } else {
                    self.router(choice, routing.weights.are_wide())
                };
                planned(routing.top, routing.experts, KernelRecipe::Router(recipe))
            }
            Operation::ExpertLinear(_) if self.nf4_block(at.section, node).is_some() => {
                Err(self.not_compared("experts of nf4", "they were not compared"))
            }
            Operation::ExpertLinear(linear) => {
                if let Some(layout) = self.int4(at.section, node) {
                    let recipe =
                        self.int4_experts(at.section, node, linear, layout, shape).map_err(undivided)?;
                    used.basis = used.basis.max(self.int4_basis());
                    return planned(linear.n, linear.k, KernelRecipe::Matmul(recipe));
                }
                let mut recipe = self.expert(m, linear.n, linear.k, linear.biased);
                if self.is_vllm() {
                    recipe.output = self.vllm_expert(node, linear).map_err(undivided)?;
                }
                if let Some(ranks) = self.expert_parts(node, linear).map_err(undivided)?
                    && let LinearSum::TensorCore(each) = recipe.summation
                {
                    recipe.summation = LinearSum::RankParts { each, ranks };
                }
                planned(linear.n, linear.k, KernelRecipe::Matmul(recipe))
            }
            Operation::ExpertSum { top, wide } => {
                let ranks = self.expert_ranks(at.section, m * node.width).map_err(undivided)?;
                let mut recipe = ExpertSumRecipe { ranks, ..self.expert_sum(*wide) };
                if self.is_vllm() {
                    let (sum, basis) = Self::vllm_expert_sum(recipe, *top);
                    // Marlin's product leaves what it rounded, times the rounded weight.
                    let rounded_weights = self.int4(at.section, node).is_some();
                    recipe = ExpertSumRecipe { rounded_weights, ..sum };
                    used.basis = used.basis.max(basis);
                }
                planned(node.width, *top, KernelRecipe::ExpertSum(recipe))
            }
            Operation::Cap { .. } => planned(node.width, 1, KernelRecipe::Cap(self.cap())),
            Operation::Input
            | Operation::Embedding { .. }
            | Operation::Slice(_)
            | Operation::Append { .. }
            | Operation::Gather => Ok(None),
            Operation::Expand(_) if self.is_gpu() => {
                Err(self.not_compared("a compressed cache", "it was not compared"))
            }
            // A product of every cached position of the pass, whatever the phase.
            Operation::Expand(expand) => {
                let (n, k) = (expand.heads * (expand.nope + expand.value), expand.latent);
                let recipe = self.matmul(shape.batch_size * shape.keys, n, k, false);
                planned(n, k, KernelRecipe::Matmul(recipe))
            }
        }
    }

    fn attention_accepted(self, attention: &Attention, shape: PassShape) -> Result<(), EngineError> {
        if !self.is_gpu() {
            return Ok(());
        }
        if attention.key_dim != attention.value_dim {
            return Err(self.not_compared("values of another width than keys", "they were not compared"));
        }
        if attention.sinks.is_some() && self.attention != Implementation::Eager {
            let why = "transformers has no sdpa for a model with sinks";
            return Err(self.not_compared("attention with sinks", why));
        }
        if attention.sinks.is_some() && attention.kv_heads == 1 && attention.heads > 1 {
            return Err(self.not_compared("sinks beside one KV head", "they were not compared"));
        }
        if attention.window == Some(1) {
            return Err(self.not_compared("a window of one key", "transformers keeps all keys for it"));
        }
        let keys = keys_of(attention, shape);
        if self.attention == Implementation::Sdpa
            && let Some(why) = self.sdpa_refused(attention, shape)
        {
            return Err(self.refused(self.attention_in_words(), why));
        }
        if matches!(self.attention, Implementation::Sdpa | Implementation::SdpaFlash) {
            return Ok(());
        }
        if keys > LONGEST_SOFTMAX {
            return Err(
                self.refused(format!("a softmax over {keys} keys"), "at most 40,000 keys were compared")
            );
        }
        Ok(())
    }

    fn not_measured(self, product: Product, attention: &Attention, shape: PassShape) -> EngineError {
        let (phase, name, keys) = (shape.phase, self.attention.name(), shape.keys);
        let heads = shape.batch_size * attention.heads / self.tensor_ranks();
        let dim = attention.key_dim;
        let (named, of_phase) = (product.name(), phase.name());
        // The math backend multiplies binary32.
        let of_f16 = self.dtype == Dtype::F16 && self.attention == Implementation::Eager;
        let named = if of_f16 { format!("{named} of f16") } else { named.to_owned() };
        let what =
            format!("{of_phase} {name} attention ({named}) of {heads} heads of {dim} over {keys} keys");
        let missing = Missing::Batched(self.attention, self.dtype, Batched { product, phase, heads, dim });
        self.lacks(what, "its order of sums was not measured", missing, shape)
    }

    fn experts_accepted(self, graph: &Graph) -> Result<(), EngineError> {
        let mut chosen = None;
        for node in graph.nodes() {
            match &node.operation {
                Operation::Route(routing) => chosen = Some((routing.top, routing.experts)),
                // The first of a block's products has the sizes.
                Operation::ExpertLinear(linear) => {
                    let Some((top, experts)) = chosen.take() else { continue };
                    let (hidden, width) = (linear.k, linear.n);
                    let what = format!("{top} of {experts} experts of {width} over {hidden}");
                    // vLLM has a kernel of its own.
                    if self.dtype == Dtype::F16 && !self.is_vllm() {
                        return Err(self.refused(what, EXPERTS_OF_F16));
                    }
                    if !(hidden.is_multiple_of(8) && width.is_multiple_of(8)) {
                        return Err(self.refused(what, "only sums over a multiple of 8 were measured"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn angles_known(self, graph: &Graph, shape: PassShape) -> Result<(), EngineError> {
        for table in &graph.tables {
            let pairs = if self.is_vllm() { RotaryPairs::RoundedTables } else { RotaryPairs::Halves };
            if let Some((what, why)) = rope::refused(table, self.rotary(pairs).functions, pairs, shape.keys) {
                return Err(self.refused(what, why));
            }
        }
        Ok(())
    }

    fn attention_in_words(self) -> String {
        format!("{} with {} attention", self.dtype, self.attention.name())
    }

    fn refused(self, what: String, why: &'static str) -> EngineError {
        EngineError::kernel(self.hardware, what, why, why)
    }

    /// [`Self::refused`] of a kernel that has no sizes.
    fn not_compared(self, what: &'static str, why: &'static str) -> EngineError {
        EngineError::kernel(self.hardware, what.to_owned(), why, what)
    }

    /// What a catalog could have and has not, for a pass.
    fn lacks(self, what: String, why: &'static str, missing: Missing, pass: PassShape) -> EngineError {
        match missing.command(pass) {
            None => self.refused(what, why),
            Some(command) => EngineError::Uncovered {
                hardware: self.hardware.name(),
                what,
                why,
                missing: Box::new(missing),
                remedy: format!("on that GPU `{command}` finds out"),
            },
        }
    }
}

impl Dispatch<'_> {
    /// What a rotation of the graph is as a recipe.
    pub(crate) fn pairs(self, pairing: Pairing) -> RotaryPairs {
        match pairing {
            Pairing::Halves if self.is_vllm() => RotaryPairs::RoundedTables,
            Pairing::Halves => RotaryPairs::Halves,
            Pairing::WideHalves => RotaryPairs::WideHalves,
            Pairing::Neighbours => RotaryPairs::Neighbours,
        }
    }
}
