//! The tensors that a graph asks for: names and shapes, in the order of transformers' modules.
//!
//! Left out: the graph, where they come from, and their bytes.

use std::fmt::Write as _;

use crate::graph::{ExpertWeight, Graph, Node, Operation, Section, WeightName};

/// A tensor that a checkpoint must hold.
///
/// ```
/// use mantissa_model::{Arch, synth::SynthSpec};
///
/// let spec = SynthSpec::tiny(Arch::LLAMA, 0);
/// let first = spec.config().tensors().next().expect("the embedding");
/// assert_eq!(first.name, "model.embed_tokens.weight");
/// assert_eq!(first.shape, [spec.config().vocab_size, spec.config().hidden_size]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face name.
    pub name: String,
    /// `[len]`, `[rows, cols]`, or `[experts, rows, cols]`.
    pub shape: Vec<usize>,
}

impl Graph {
    /// The tensors of such a model in the order of a forward pass: embedding, blocks, final norm, output.
    ///
    /// Lazy, one section at a time: a reader that stops at the first absent tensor does little work, whatever sizes a
    /// hostile configuration claims.
    pub fn into_tensors(self) -> impl Iterator<Item = TensorSpec> {
        let blocks = self.blocks.len();
        (0..blocks + 2).flat_map(move |section| match section.checked_sub(1) {
            None => self.stem.tensors(0),
            Some(layer) if layer < blocks => self.kinds[self.blocks[layer]].tensors(layer),
            Some(_) => {
                let mut tensors = self.head.tensors(0);
                let embedding = self.stem.tensors(0);
                // A tied output is the embedding, which stands first.
                tensors.retain(|tensor| !embedding.contains(tensor));
                tensors
            }
        })
    }
}

impl Section {
    fn tensors(&self, layer: usize) -> Vec<TensorSpec> {
        let of_experts = |node: &&Node| {
            matches!(node.operation, Operation::ExpertLinear(_) | Operation::ExpertBias { .. })
        };
        let experts: Vec<&Node> = self.nodes.iter().filter(of_experts).collect();
        let mut tensors = Vec::new();
        let mut listed = false;
        for node in &self.nodes {
            tensors.extend(node.tensors(layer));
            if of_experts(&node) && !std::mem::replace(&mut listed, true) {
                tensors.extend(of_all_experts(&experts, layer));
            }
        }
        // As transformers' modules are laid out: the norms of an attention's heads behind its projections.
        for attention in tensors.chunk_by_mut(|a, b| is_of_attention(a) == is_of_attention(b)) {
            if attention.first().is_some_and(is_of_attention) {
                attention.sort_by_key(|tensor| tensor.name.contains("norm."));
            }
        }
        tensors
    }
}

fn is_of_attention(tensor: &TensorSpec) -> bool {
    tensor.name.contains(".self_attn.")
}

/// Tensors of a block's experts: expert by expert where each has its own, else as the nodes stand.
fn of_all_experts(nodes: &[&Node], layer: usize) -> Vec<TensorSpec> {
    let count = nodes.iter().find_map(|node| match node.operation {
        Operation::ExpertLinear(linear) => Some(linear.experts),
        _ => None,
    });
    let all = (0..count.unwrap_or(0)).flat_map(|expert| {
        nodes.iter().filter_map(move |node| node.tensor_of_expert(layer, expert, count.unwrap_or(0)))
    });
    all.collect()
}

impl Node {
    /// Tensors of a node outside experts.
    fn tensors(&self, layer: usize) -> Vec<TensorSpec> {
        let spec = |name: WeightName, shape: &[usize]| TensorSpec {
            name: weight_name(name, layer, 0),
            shape: shape.to_vec(),
        };
        match &self.operation {
            Operation::Embedding { weight, vocabulary, .. } => {
                vec![spec(weight, &[*vocabulary, self.width])]
            }
            Operation::Norm(norm) => vec![spec(norm.weight, &[norm.length])],
            Operation::Linear(linear) => {
                let mut specs = vec![spec(linear.weight, &[linear.n, linear.k])];
                specs.extend(linear.bias.map(|bias| spec(bias, &[linear.n])));
                specs
            }
            Operation::Expand(expand) => {
                let rows = expand.heads * (expand.nope + expand.value);
                vec![spec(expand.weight, &[rows, expand.latent])]
            }
            Operation::Attention(attention) => {
                attention.sinks.into_iter().map(|sinks| spec(sinks, &[attention.heads])).collect()
            }
            // A bias is listed beside its product.
            _ => Vec::new(),
        }
    }

    fn tensor_of_expert(&self, layer: usize, expert: usize, experts: usize) -> Option<TensorSpec> {
        let (weight, shape) = match &self.operation {
            Operation::ExpertLinear(linear) => (linear.weight, vec![linear.n, linear.k]),
            Operation::ExpertBias { weight } => (*weight, vec![self.width]),
            _ => return None,
        };
        match weight {
            ExpertWeight::Each(name) => Some(TensorSpec { name: weight_name(name, layer, expert), shape }),
            // One tensor for all: listed with the first.
            ExpertWeight::Stacked { name, transposed } => (expert == 0).then(|| {
                let mut shape = shape;
                if transposed {
                    shape.reverse();
                }
                shape.insert(0, experts);
                TensorSpec { name: weight_name(name, layer, 0), shape }
            }),
        }
    }
}

/// The name of a weight of a block and expert.
///
/// ```
/// use mantissa_model::tensor_list::weight_name;
///
/// let name = weight_name("model.layers.{layer}.mlp.experts.{expert}.up_proj.weight", 3, 7);
/// assert_eq!(name, "model.layers.3.mlp.experts.7.up_proj.weight");
/// ```
#[must_use]
pub fn weight_name(template: WeightName, layer: usize, expert: usize) -> String {
    let mut name = String::with_capacity(template.len() + 8);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        name.push_str(before);
        let (key, after) = after.split_once('}').unwrap_or((after, ""));
        // Writing to a string cannot fail.
        _ = write!(name, "{}", if key == "layer" { layer } else { expert });
        rest = after;
    }
    name.push_str(rest);
    name
}
