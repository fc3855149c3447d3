//! What a rank computes of a node, and how ranks' sums are put together: transformers' `tp_plan` of Llama, Mistral,
//! Qwen2, Qwen3 and Qwen3-MoE, and the layers of vLLM for the same families.
//!
//! Queries, keys, values, gate, up and the head are divided by outputs, the products behind attention and activation by
//! inputs; everything else is on every rank.

use std::num::{NonZeroU16, NonZeroU32};

use mantissa_model::graph::{Attention, ExpertLinear, Graph, Linear, Node, Operation, Section};
use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{AllReduceSum, ExpertRanks};
use mantissa_numerics::setup::Attention::FlashAttention3 as Attention3;
use mantissa_numerics::setup::{AllReduce, LinearBackend, Ranks};

use super::rules::Dispatch;
use crate::shape::PassShape;

/// Most ranks that a run of was compared; of more, recipes are read from sources alone.
pub(super) const MOST_RANKS_COMPARED: u16 = 2;

/// vLLM's head has a row for each of so many entries of the vocabulary at a time.
const VOCABULARY_UNIT: usize = 64;

/// From so many bytes on vLLM's own all-reduce is the two-shot kernel, of four ranks and of more.
const TWO_SHOT_FROM: [usize; 2] = [512 * 1024, 256 * 1024];

/// The weight that one rank multiplies by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RankProduct {
    /// Rows of its input.
    pub m: usize,
    /// Outputs, those of weights that the program puts together among them.
    pub n: usize,
    /// Length of its sums.
    pub k: usize,
    /// How ranks' sums are added; `None` where each rank has outputs of its own.
    pub reduce: Option<AllReduceSum>,
}

/// Why a node cannot be divided, and what it is.
pub(super) type Undivided = (String, &'static str);

/// Divides by ranks, or says what does not divide.
pub(super) fn divided(whole: usize, ranks: usize, what: &str) -> Result<usize, Undivided> {
    if whole.is_multiple_of(ranks) {
        return Ok(whole / ranks);
    }
    Err((format!("{ranks} ranks for {what} of {whole}"), "equal parts of ranks alone are known"))
}

impl Dispatch<'_> {
    /// What of the program and its ranks nothing computes, and why.
    pub(super) fn serving_refused(self, graph: &Graph, shape: PassShape) -> Option<Undivided> {
        let refused = |what: String, why| Some((what, why));
        let one = self.serving.ranks.is_one();
        if !self.is_gpu() && (!one || self.is_vllm()) {
            return refused(
                self.serving_in_words(),
                "this engine's own arithmetic is of one rank; name a GPU",
            );
        }
        let has_experts = graph.nodes().any(|node| matches!(node.operation, Operation::ExpertSum { .. }));
        if self.serving.ranks.expert > 1 && !has_experts {
            return refused(format!("experts among {}", self.serving_in_words()), "the model has no experts");
        }
        if one && self.serving.ranks.all_reduce != AllReduce::None {
            return refused("an all-reduce of one rank".to_owned(), "there is nothing to add");
        }
        if !self.is_vllm() && self.serving.linear_backend != LinearBackend::Auto {
            let what = format!("linear_backend={}", self.serving.linear_backend.name());
            return refused(what, "it is vLLM's; say engine=vllm-0.24");
        }
        if self.is_vllm() && shape.padded {
            return refused(
                "padding under vLLM".to_owned(),
                "it puts sequences behind one another, without any",
            );
        }
        if !one && shape.padded {
            return refused(format!("padding on {}", self.serving_in_words()), "it was not compared");
        }
        match (self.is_vllm(), self.attention) {
            (true, Attention3) if self.dtype != Dtype::F32 => None,
            (true, Attention3) => refused(format!("vLLM in {}", self.dtype), "bf16 and f16 were compared"),
            (true, _) => refused(
                format!("vLLM with {} attention", self.attention.name()),
                "on Hopper it runs FlashAttention 3; say attention=flash_attention_3",
            ),
            (false, Attention3) => {
                refused("FlashAttention 3".to_owned(), "only vLLM's was compared; say engine=vllm-0.24")
            }
            (false, _) => None,
        }
    }

    /// What a rank multiplies by where the whole product is `linear` of `section`, in a pass.
    pub(super) fn rank_product(
        self,
        section: &Section,
        node: &Node,
        linear: &Linear,
        shape: PassShape,
    ) -> Result<RankProduct, Undivided> {
        let (ranks, m) = (self.tensor_ranks(), shape.rows());
        let of = |n: usize, reduce| RankProduct { m, n, k: linear.k, reduce };
        if ranks == 1 && !self.is_vllm() {
            return Ok(of(linear.n, None));
        }
        match node.name {
            "o_proj" | "down_proj" if ranks > 1 && self.is_vllm() && linear.bias.is_some() => Err((
                format!("{} with a bias on {}", node.name, self.serving_in_words()),
                "one rank adds it before ranks are added, which was not compared",
            )),
            "o_proj" | "down_proj" => {
                let k = divided(linear.k, ranks, "sums")?;
                let reduce = self.all_reduce(ranks, shape.rows() * linear.n)?;
                Ok(RankProduct { m, n: linear.n, k, reduce })
            }
            "q_proj" | "k_proj" | "v_proj" if self.is_vllm() => {
                Ok(of(outputs(section, &["q_proj", "k_proj", "v_proj"], ranks)?, None))
            }
            "gate_proj" | "up_proj" if self.is_vllm() => {
                Ok(of(outputs(section, &["gate_proj", "up_proj"], ranks)?, None))
            }
            "q_proj" | "k_proj" | "v_proj" | "gate_proj" | "up_proj" => {
                Ok(of(divided(linear.n, ranks, "outputs")?, None))
            }
            // Logits are computed of the last position of each sequence alone.
            "lm_head" if self.is_vllm() => {
                let n = divided(linear.n.next_multiple_of(VOCABULARY_UNIT), ranks, "a vocabulary")?;
                Ok(RankProduct { m: shape.batch_size, ..of(n, None) })
            }
            "lm_head" => Ok(of(divided(linear.n, ranks, "a vocabulary")?, None)),
            "router" => Ok(of(linear.n, None)),
            other => Err((
                format!("{other} of {}", self.serving_in_words()),
                "its division among ranks is not known",
            )),
        }
    }

    /// The program and its ranks.
    pub(super) fn serving_in_words(self) -> String {
        let program = self.serving.program.name();
        match self.tensor_ranks().max(self.serving.ranks.expert as usize) {
            1 => program.to_owned(),
            ranks => format!("{program} on {ranks} ranks"),
        }
    }

    /// How sums of `ranks` ranks are added, of a tensor of `elements`; `None` of one rank.
    pub(super) fn all_reduce(self, ranks: usize, elements: usize) -> Result<Option<AllReduceSum>, Undivided> {
        if ranks == 1 {
            return Ok(None);
        }
        let bytes = elements * self.dtype.size();
        let how = match self.serving.ranks.all_reduce {
            AllReduce::None if !self.is_vllm() => AllReduce::Ring,
            AllReduce::None if ranks > 2 && bytes >= TWO_SHOT_FROM[usize::from(ranks > 4)] => {
                AllReduce::TwoShot
            }
            AllReduce::None => AllReduce::OneShot,
            stated => stated,
        };
        let count = u16::try_from(ranks).unwrap_or(u16::MAX);
        let Some(sum) = AllReduceSum::of(count, how) else {
            return Err((format!("an all-reduce of {ranks} ranks"), "those of 2 to 8 are known"));
        };
        if how == AllReduce::Ring && sum.depends_on_place() && elements > AllReduceSum::MOST_ALONG_RING {
            let what = format!("NCCL's ring of {ranks} ranks over {elements} values");
            return Err((what, "where NCCL's ring cuts more than 2,048 values was not measured"));
        }
        Ok(Some(sum))
    }

    /// Ranks whose parts of an expert's product stand side by side; `None` where each rank has the product whole, or
    /// outputs of its own.
    pub(super) fn expert_parts(
        self,
        node: &Node,
        linear: &ExpertLinear,
    ) -> Result<Option<NonZeroU16>, Undivided> {
        let Ranks { expert, .. } = self.serving.ranks;
        let ranks = self.tensor_ranks();
        if self.serving.ranks.is_one() {
            return Ok(None);
        }
        if linear.biased {
            return Err((
                "experts with biases among ranks".to_owned(),
                "experts with biases were compared on one rank alone",
            ));
        }
        if self.is_vllm() && expert > 1 {
            return Ok(None);
        }
        if node.name != "expert_down" || ranks == 1 {
            divided(linear.n, ranks, "outputs of an expert")?;
            return Ok(None);
        }
        divided(linear.k, ranks, "sums of an expert")?;
        Ok(u16::try_from(ranks).ok().and_then(NonZeroU16::new))
    }

    /// What of the sum over experts a rank has, in a tensor of `elements`.
    pub(super) fn expert_ranks(self, section: &Section, elements: usize) -> Result<ExpertRanks, Undivided> {
        let Ranks { tensor, expert, .. } = self.serving.ranks;
        let count = tensor.max(expert) as usize;
        let Some(reduce) = self.all_reduce(count, elements)? else { return Ok(ExpertRanks::One) };
        let both = tensor > 1 && expert > 1;
        if both && !self.is_vllm() {
            return Err((
                "experts and layers among ranks".to_owned(),
                "transformers divides one or the other",
            ));
        }
        if self.is_vllm() && expert > 1 && expert != tensor {
            return Err((
                format!("experts on {expert} ranks and layers on {tensor}"),
                "vLLM divides both among the same ranks",
            ));
        }
        if reduce.depends_on_place() {
            return Err((format!("experts on {count} ranks"), "experts on two ranks alone were compared"));
        }
        if expert <= 1 {
            return Ok(ExpertRanks::Widths { reduce });
        }
        let experts = section.nodes.iter().find_map(|node| match &node.operation {
            Operation::Route(routing) => Some(routing.experts),
            _ => None,
        });
        let of_rank = divided(experts.unwrap_or_default(), count, "experts")?;
        let of_rank = u32::try_from(of_rank).ok().and_then(NonZeroU32::new);
        of_rank
            .map(|of_rank| ExpertRanks::Experts { of_rank, reduce })
            .ok_or_else(|| (format!("experts on {count} ranks"), "there are fewer experts than ranks"))
    }

    /// Heads that a rank attends with: query heads, and those of keys and values.
    pub(super) fn rank_heads(self, attention: &Attention) -> Result<[usize; 2], Undivided> {
        let ranks = self.tensor_ranks();
        let query = divided(attention.heads, ranks, "query heads")?;
        let kv = divided(attention.kv_heads, ranks, "heads of keys and values")?;
        Ok([query, kv])
    }

    /// Rows that a rank's norm has: of heads its own.
    pub(super) fn rank_groups(self, node: &Node, groups: usize) -> Result<usize, Undivided> {
        match self.tensor_ranks() {
            1 => Ok(groups),
            _ if groups == 1 && matches!(node.name, "q_norm" | "k_norm") => Err((
                "a norm over the heads of all ranks".to_owned(),
                "norms over the heads of one rank alone were compared",
            )),
            _ if groups == 1 => Ok(1),
            ranks => divided(groups, ranks, "heads"),
        }
    }
}

/// Outputs that a rank has of all products of `section` with these names.
fn outputs(section: &Section, names: &[&str], ranks: usize) -> Result<usize, Undivided> {
    section.nodes.iter().try_fold(0, |sum, node| match &node.operation {
        Operation::Linear(linear) if names.contains(&node.name) => {
            Ok(sum + divided(linear.n, ranks, "outputs")?)
        }
        _ => Ok(sum),
    })
}
