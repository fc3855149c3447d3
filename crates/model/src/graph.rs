//! The forward pass as data: a [`Graph`] of nodes that a family builds from its configuration.
//!
//! Everything that has to know the forward pass reads it here: the engine that runs it, plans and classes, coverage,
//! catalogs, spot checks, the list of tensors, taps. A pass is three sections: the stem (tokens to the residual
//! stream), the blocks (each of a few kinds) and the head (the residual stream to logits). A section is a list of nodes
//! in the order they run; a node names earlier nodes of its section as inputs. Left out: numbers, recipes, weights'
//! bytes.

mod node;

use std::num::NonZeroUsize;

use mantissa_numerics::Point;

use crate::config::RopeScaling;
use crate::quantized::Int4;

/// A forward pass.
///
/// ```
/// use mantissa_model::graph::Operation;
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::Point;
///
/// let spec = SynthSpec::tiny(Arch::LLAMA, 0);
/// let (config, graph) = (spec.config(), spec.config().graph());
/// // All blocks are of one kind, which caches keys and values and reads one rotary table.
/// assert_eq!((graph.blocks.len(), graph.kinds.len(), graph.tables.len()), (4, 1, 1));
/// let block = graph.block(0).expect("a block");
/// assert!(block.slots.iter().all(|slot| slot.heads == config.num_key_value_heads));
/// let product = block.nodes.iter().find(|node| node.name == "q_proj").expect("queries");
/// let Operation::Linear(linear) = &product.operation else { panic!("a product with a weight") };
/// assert_eq!(linear.weight, "model.layers.{layer}.self_attn.q_proj.weight");
/// assert_eq!(linear.k, config.hidden_size);
/// assert_eq!(graph.width(Some(0), Point::XOut), Some(config.hidden_size));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Tokens to the residual stream; its first node is the embedding.
    pub stem: Section,
    /// Kinds of blocks; the first node of each is [`Operation::Input`], the last leaves the residual stream.
    pub kinds: Vec<Section>,
    /// Kind of each block.
    pub blocks: Vec<usize>,
    /// The residual stream to logits, for the rows that are kept.
    pub head: Section,
    /// Rotary tables, named by [`Rotary::table`].
    pub tables: Vec<RotaryTable>,
}

/// Nodes in the order they run.
///
/// Example: [`Graph`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// The nodes; a node's place is the name of the value it leaves.
    pub nodes: Vec<Node>,
    /// What the section caches of every position.
    pub slots: Vec<Slot>,
    /// Values that share a scale, where its matrices are stored as nf4, routers excepted.
    pub nf4_block: Option<NonZeroUsize>,
    /// How they are stored where that is as integers of 4 bits, routers excepted.
    pub int4: Option<Int4>,
}

/// What a block caches of a position: `heads` rows of `width` elements.
///
/// Example: [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Rows per position.
    pub heads: usize,
    /// Elements of a row.
    pub width: usize,
}

/// One operation.
///
/// Example: [`Graph`].
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The kernel's name in evidence (`q_proj`), the same in every block; empty for what computes nothing.
    pub name: &'static str,
    /// What is done.
    pub operation: Operation,
    /// Places of the nodes whose values it reads.
    pub inputs: Vec<usize>,
    /// Elements that it leaves of each row.
    pub width: usize,
    /// Where a tap sees its value.
    pub site: Option<Point>,
}

/// Name of a weight, with `{layer}` and `{expert}` in place of their numbers.
pub type WeightName = &'static str;

/// What a node does. `rows` are those of the pass.
///
/// ```
/// use mantissa_model::graph::{Activation, Attention, ExpertLinear, ExpertWeight, Norm, Operation, Pairing};
/// use mantissa_model::graph::{Rotary, Routing, RoutingWeights, Weighting, WideRouting};
/// use mantissa_model::{Arch, synth::SynthSpec};
///
/// let graph = SynthSpec::tiny(Arch::MIXTRAL, 0).config().graph();
/// let has = |which: fn(&Operation) -> bool| graph.nodes().any(|node| which(&node.operation));
/// assert!(has(|found| matches!(found, Operation::Norm(Norm { weighting: Weighting::AfterCast, .. }))));
/// assert!(has(|found| matches!(found, Operation::Rotary(Rotary { pairing: Pairing::Halves, .. }))));
/// assert!(has(|found| matches!(found, Operation::Attention(Attention { window: None, sinks: None, .. }))));
/// assert!(has(|found| matches!(found, Operation::Gate(Activation::Silu))));
/// let wide = |found: &Operation| {
///     let Operation::Route(Routing { weights, .. }) = found else { return false };
///     matches!(weights, RoutingWeights::SoftmaxThenTop { wide: WideRouting::Weights, .. })
/// };
/// assert!(has(wide));
/// let each = |found: &Operation| {
///     matches!(found, Operation::ExpertLinear(ExpertLinear { weight: ExpertWeight::Each(_), .. }))
/// };
/// assert!(has(each));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// The section's input.
    Input,
    /// Rows of a table by token id, times `scale` (rounded to the storage format) if there is one.
    Embedding {
        /// The table, `vocabulary × width`.
        weight: WeightName,
        /// Its rows.
        vocabulary: usize,
        /// Factor of every element.
        scale: Option<f64>,
    },
    /// RMSNorm of each of `groups` runs of a row.
    Norm(Norm),
    /// A product with a weight; left in binary32 where a bias follows.
    Linear(Linear),
    /// Adds a vector to sums that were left in binary32, and rounds once.
    Bias {
        /// The vector.
        weight: WeightName,
    },
    /// A part of each row; moves, computes nothing.
    Slice(Slice),
    /// Rotary embedding of each head.
    Rotary(Rotary),
    /// Writes rows into the block's cache; its value is the cache as far as each row may see it.
    Append {
        /// Place in [`Section::slots`].
        slot: usize,
    },
    /// Keys and values of every cached position, from a cache that holds a compressed form of them.
    Expand(Expand),
    /// Attention: inputs are queries and either keys and values ([`Operation::Append`]) or one [`Operation::Expand`].
    Attention(Attention),
    /// The sum of two values.
    Add,
    /// An activation of the first input times the second; of one input, whose halves or pairs they are.
    Gate(Activation),
    /// `cap · tanh(x / cap)`.
    Cap {
        /// The bound.
        cap: f64,
    },
    /// Chooses experts from router logits.
    Route(Routing),
    /// A row for each expert that a token is sent to, sorted by expert. Inputs: rows, [`Operation::Route`].
    Gather,
    /// A product of each expert's rows with its weight. Inputs: rows by expert, [`Operation::Route`].
    ExpertLinear(ExpertLinear),
    /// Adds each expert's vector to its rows. Inputs: rows by expert, [`Operation::Route`].
    ExpertBias {
        /// The vectors.
        weight: ExpertWeight,
    },
    /// The sum of a token's experts by routing weight. Inputs: rows by expert, [`Operation::Route`].
    ExpertSum {
        /// Experts per token.
        top: usize,
        /// Whether routing weights are binary32 where the storage format is narrower.
        wide: bool,
    },
}

/// RMSNorm: `groups` runs of `length` elements in each row.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// The weight, `length` elements; `None` multiplies by nothing.
    pub weight: WeightName,
    /// Runs of a row that are normalized each by itself: 1, or heads.
    pub groups: usize,
    /// Elements of a run.
    pub length: usize,
    /// Added to the mean of squares.
    pub eps: f64,
    /// How the weight is applied.
    pub weighting: Weighting,
}

/// How a norm's weight meets the normalized value `y`, which is binary32.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weighting {
    /// `round(w · round(y))`: Llama and most.
    AfterCast,
    /// `round(w · y)`: OLMo 2, gpt-oss.
    BeforeCast,
    /// `round(y · (1 + w))`: Gemma.
    OnePlus,
}

/// A product with a weight, `n × k`.
///
/// Example: [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Linear {
    /// The weight.
    pub weight: WeightName,
    /// Outputs per row.
    pub n: usize,
    /// Elements of an input row.
    pub k: usize,
    /// The bias that an [`Operation::Bias`] adds.
    pub bias: Option<WeightName>,
    /// Whether sums stay in binary32 though nothing follows that rounds them.
    pub wide: bool,
}

/// Of `groups` runs of `stride` elements of a row, the `take` elements from `from` on.
///
/// Example: [`Expand`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Runs of a row.
    pub groups: usize,
    /// Elements of a run.
    pub stride: usize,
    /// First element that is taken.
    pub from: usize,
    /// Elements that are taken.
    pub take: usize,
}

/// Rotary embedding of `rotated` elements from `from` on of each of `heads` heads of `width`.
///
/// Example: [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rotary {
    /// Heads of a row.
    pub heads: usize,
    /// Elements of a head.
    pub width: usize,
    /// First rotated element.
    pub from: usize,
    /// Rotated elements; even.
    pub rotated: usize,
    /// Place in [`Graph::tables`].
    pub table: usize,
    /// Which elements are a pair.
    pub pairing: Pairing,
}

/// Which elements a rotation turns together.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// Element `i` and `i + rotated / 2`; products and sum rounded each to the storage format.
    Halves,
    /// The same in binary32, rounded once (OLMo 2).
    WideHalves,
    /// Elements `2 i` and `2 i + 1` as one complex number in binary32, rounded once.
    Neighbours,
}

/// Angles of a rotary embedding.
///
/// Example: [`Graph`].
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTable {
    /// Rotated elements of a head.
    pub dim: usize,
    /// Base of the angles.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: Option<RopeScaling>,
    /// Longest context the model was trained for.
    pub max_positions: usize,
}

/// Keys and values from compressed rows: `latent · weightᵀ` gives each head `nope` elements of its key and `value` of
/// its value; the other `rope` elements of a key are the second cached row. Inputs: two [`Operation::Append`].
///
/// ```
/// use mantissa_model::graph::Operation;
/// use mantissa_model::{Arch, synth::SynthSpec};
///
/// let graph = SynthSpec::tiny(Arch::DEEPSEEK_V2, 0).config().graph();
/// let block = graph.block(0).expect("a block");
/// let expand = block.nodes.iter().find_map(|node| match &node.operation {
///     Operation::Expand(expand) => Some(expand),
///     _ => None,
/// });
/// let expand = expand.expect("compressed keys and values");
/// assert!(block.nodes.iter().any(|node| matches!(node.operation, Operation::Slice(_))));
/// // One row of all heads is cached, and the part of a key that they share.
/// assert_eq!(block.slots.iter().map(|slot| slot.width).collect::<Vec<_>>(), [expand.latent, expand.rope]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Expand {
    /// The weight, `heads · (nope + value) × latent`.
    pub weight: WeightName,
    /// Heads.
    pub heads: usize,
    /// Elements of a compressed row.
    pub latent: usize,
    /// Elements of a key that the product gives.
    pub nope: usize,
    /// Elements of a key that all heads share.
    pub rope: usize,
    /// Elements of a value.
    pub value: usize,
}

/// Attention of query heads over what is cached.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a query and of a key.
    pub key_dim: usize,
    /// Elements of a value.
    pub value_dim: usize,
    /// Factor of the scores, as binary64 before it is rounded to binary32.
    pub scale: f64,
    /// Positions that a query sees, itself among them; `None` for all before it.
    pub window: Option<usize>,
    /// Scores become `cap · tanh(score / cap)`.
    pub cap: Option<f64>,
    /// A logit of each head that takes part in the softmax and has no value.
    pub sinks: Option<WeightName>,
}

/// Activation of a gated unit.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `round(silu(gate)) · up`.
    Silu,
    /// `round(gelu(gate)) · up` with the tanh form of GELU.
    GeluTanh,
    /// gpt-oss: of neighbours `(gate, up)`, `(up + 1) · gate · sigmoid(alpha · gate)`, both clamped to `limit`.
    ClampedSwiGlu {
        /// Factor inside the sigmoid.
        alpha: f64,
        /// Bound of the gate from above, of up from both sides.
        limit: f64,
    },
}

/// How experts are chosen from router logits.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// Experts.
    pub experts: usize,
    /// Experts per token.
    pub top: usize,
    /// From logits to weights.
    pub weights: RoutingWeights,
}

/// From router logits to routing weights.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RoutingWeights {
    /// Softmax over all experts, the largest probabilities, divided by their sum if `renormalize`.
    SoftmaxThenTop {
        /// Whether the chosen weights are divided by their sum.
        renormalize: bool,
        /// Factor of the weights afterwards, in binary32 (DeepSeek); 1 is left out.
        scale: f64,
        /// What stays in binary32 where the storage format is narrower.
        wide: WideRouting,
        /// Experts in groups, of which a token may use the best few: groups, and how many.
        groups: Option<(usize, usize)>,
    },
    /// The largest logits, softmax over them, in the storage format (gpt-oss).
    TopThenSoftmax,
}

/// What of routing stays in binary32 where the storage format is narrower.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WideRouting {
    /// Nothing.
    Nothing,
    /// The weights (Mixtral).
    Weights,
    /// The weights, and the logits that they are computed from (DeepSeek).
    LogitsAndWeights,
}

/// A weight of every expert.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpertWeight {
    /// A tensor for each expert, `{expert}` in its name.
    Each(WeightName),
    /// One tensor of three axes, expert first.
    Stacked {
        /// Its name.
        name: WeightName,
        /// Whether an expert's matrix is stored `k × n`.
        transposed: bool,
    },
}

/// A product of each expert's rows with its weight, `n × k`; left in binary32 where a bias follows.
///
/// Example: [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExpertLinear {
    /// The weights.
    pub weight: ExpertWeight,
    /// Experts.
    pub experts: usize,
    /// Outputs per row.
    pub n: usize,
    /// Elements of an input row.
    pub k: usize,
    /// Whether an [`Operation::ExpertBias`] follows.
    pub biased: bool,
}

impl RoutingWeights {
    /// Whether weights stay in binary32.
    #[must_use]
    pub fn are_wide(self) -> bool {
        matches!(
            self,
            Self::SoftmaxThenTop { wide: WideRouting::Weights | WideRouting::LogitsAndWeights, .. }
        )
    }
}

impl Section {
    /// A block's section: its input, seen by taps as [`Point::XIn`].
    #[must_use]
    pub fn of_block(hidden: usize) -> Self {
        let input = Node {
            name: "",
            operation: Operation::Input,
            inputs: Vec::new(),
            width: hidden,
            site: Some(Point::XIn),
        };
        Self { nodes: vec![input], ..Self::default() }
    }

    /// Adds a node and returns the place of its value.
    pub fn add(&mut self, name: &'static str, operation: Operation, inputs: &[usize], width: usize) -> usize {
        debug_assert!(inputs.iter().all(|input| *input < self.nodes.len()), "a node reads earlier ones");
        self.nodes.push(Node { name, operation, inputs: inputs.to_vec(), width, site: None });
        self.nodes.len() - 1
    }

    /// Lets taps see the value at `place`.
    pub fn site(&mut self, place: usize, point: Point) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.site = Some(point);
        }
    }

    /// A product with a weight, and its bias if there is one, as two nodes.
    pub fn linear(&mut self, name: &'static str, input: usize, linear: Linear) -> usize {
        let product = self.add(name, Operation::Linear(linear), &[input], linear.n);
        match linear.bias {
            Some(weight) => self.add("bias", Operation::Bias { weight }, &[product], linear.n),
            None => product,
        }
    }

    /// Several products of one input, then their biases.
    pub fn linears<const N: usize>(
        &mut self,
        input: usize,
        linears: [(&'static str, Linear); N],
    ) -> [usize; N] {
        let products = linears
            .map(|(name, linear)| (self.add(name, Operation::Linear(linear), &[input], linear.n), linear));
        products.map(|(product, linear)| match linear.bias {
            Some(weight) => self.add("bias", Operation::Bias { weight }, &[product], linear.n),
            None => product,
        })
    }

    /// RMSNorm of whole rows, the weight applied after the cast.
    pub fn norm(&mut self, name: &'static str, input: usize, norm: Norm) -> usize {
        self.add(name, Operation::Norm(norm), &[input], norm.groups * norm.length)
    }

    /// Caches the value at `input`, `heads` rows of `width` for a position.
    pub fn append(&mut self, input: usize, slot: Slot) -> usize {
        self.slots.push(slot);
        let operation = Operation::Append { slot: self.slots.len() - 1 };
        self.add("", operation, &[input], slot.heads * slot.width)
    }

    /// The node that taps see at `point`.
    #[must_use]
    pub fn at(&self, point: Point) -> Option<&Node> {
        self.nodes.iter().find(|node| node.site == Some(point))
    }
}

impl Graph {
    /// The kind of block `layer`, counted from 0.
    #[must_use]
    pub fn block(&self, layer: usize) -> Option<&Section> {
        self.kinds.get(*self.blocks.get(layer)?)
    }

    /// Every section once, in the order of the pass: the stem, the kinds of blocks that occur, the head.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        std::iter::once(&self.stem).chain(&self.kinds).chain(std::iter::once(&self.head))
    }

    /// Every node of every section once.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.sections().flat_map(|section| &section.nodes)
    }

    /// Whether `name` is a tensor that holds a block's experts stacked.
    pub(crate) fn stacks(&self, name: &str) -> bool {
        let stacked = self.nodes().filter_map(|node| match node.operation {
            Operation::ExpertLinear(ExpertLinear { weight: ExpertWeight::Stacked { name, .. }, .. })
            | Operation::ExpertBias { weight: ExpertWeight::Stacked { name, .. } } => Some(name),
            _ => None,
        });
        stacked.filter_map(|template| template.split_once("{layer}")).any(|(before, after)| {
            let layer = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            layer.is_some_and(|layer| !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit()))
        })
    }

    /// Names of each expert's matrices in block `layer`, if they have a tensor each: gate, up, down.
    pub(crate) fn experts_of(&self, layer: usize) -> Option<[WeightName; 3]> {
        let names = self.block(layer)?.nodes.iter().filter_map(|node| match node.operation {
            Operation::ExpertLinear(ExpertLinear { weight: ExpertWeight::Each(name), .. }) => Some(name),
            _ => None,
        });
        names.collect::<Vec<_>>().try_into().ok()
    }

    /// Name of the router's matrix in block `layer`.
    pub(crate) fn router_of(&self, layer: usize) -> Option<WeightName> {
        let logits = self.block(layer)?.at(Point::RouterLogits)?;
        match &logits.operation {
            Operation::Linear(linear) => Some(linear.weight),
            _ => None,
        }
    }

    /// Elements of a row at `point` of block `layer`, counted from 0, or outside the blocks; `None` where no tap sees
    /// one.
    #[must_use]
    pub fn width(&self, layer: Option<usize>, point: Point) -> Option<usize> {
        let node = match layer {
            Some(layer) => self.block(layer)?.at(point)?,
            None => self.stem.at(point).or_else(|| self.head.at(point))?,
        };
        Some(node.width)
    }
}
