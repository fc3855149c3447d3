//! What is measured: the products of models' passes.

use std::collections::BTreeSet;

use mantissa_engine::catalog::{Batched, Linear, Product};
use mantissa_model::ModelConfig;
use mantissa_model::graph::{Attention, Operation};
use mantissa_numerics::Dtype;
use mantissa_numerics::site::Phase;

/// What to measure.
///
/// ```
/// use mantissa_cuda::catalog::Shapes;
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::Dtype;
///
/// let spec = SynthSpec::tiny(Arch::LLAMA, 0);
/// let mut shapes = Shapes::default();
/// assert!(shapes.is_empty());
/// // Scores and values, in a prefill of 512 tokens and in steps over 513 and 514 keys.
/// shapes.add_attention(spec.config(), Dtype::Bf16, &[], &[1], &[512], &[513, 514]);
/// assert_eq!(shapes.len(), 2 * 3);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shapes {
    /// Weights for which the heuristic is asked.
    pub(super) weights: BTreeSet<Linear>,
    pub(super) linear: BTreeSet<(Linear, usize)>,
    /// Attention's products for which the library is asked what it launches, of bf16, f16 or binary32.
    pub(super) attention: BTreeSet<(Dtype, Batched)>,
    pub(super) batched: BTreeSet<((Dtype, Batched), usize)>,
}

impl Shapes {
    /// Adds the weights of a model in a format, whole and as a rank of tensor parallelism has them for each number of
    /// `ranks`; if `fused`, also those that vLLM joins (queries, keys and values; gate and up).
    ///
    /// Queries, keys and values are cut by heads (fewer KV heads than ranks are repeated), gate, up and `lm_head` along
    /// their outputs, `o_proj` and `down_proj` along the sum, with a bias and without: one rank adds it. What the ranks
    /// do not divide, and weights of other names, are left out.
    ///
    /// ```
    /// use mantissa_cuda::catalog::Shapes;
    /// use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
    /// use mantissa_numerics::Dtype;
    ///
    /// let request = SynthRequest { preset: Some(Preset::Qwen2_5_7B), ..SynthRequest::default() };
    /// let spec = SynthSpec::new(&request)?;
    /// let weights = |ranks: &[usize], fused| {
    ///     let mut shapes = Shapes::default();
    ///     shapes.add_weights(spec.config(), Dtype::Bf16, ranks, fused);
    ///     shapes.weights().map(|weight| [weight.n, weight.k]).collect::<Vec<_>>()
    /// };
    /// // k and v, q and o (with a bias and without), down, gate and up, lm_head.
    /// let whole = [[512, 3584], [3584, 3584], [3584, 3584], [3584, 18_944], [18_944, 3584], [152_064, 3584]];
    /// assert_eq!(weights(&[], false), whole);
    /// // 28 heads and 4 KV heads by two; eight ranks do not divide 28 heads.
    /// assert!([[1792, 3584], [256, 3584], [3584, 9472]].iter().all(|cut| weights(&[2], false).contains(cut)));
    /// assert!(!weights(&[8], false).contains(&[448, 3584]));
    /// assert!([[4608, 3584], [37_888, 3584]].iter().all(|joined| weights(&[], true).contains(joined)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_weights(&mut self, config: &ModelConfig, dtype: Dtype, ranks: &[usize], fused: bool) {
        let graph = config.graph();
        let attention = graph.nodes().find_map(|node| match &node.operation {
            Operation::Attention(attention) => Some((attention.heads, attention.kv_heads)),
            _ => None,
        });
        let (heads, kv_heads) = attention.unwrap_or((1, 1));
        let linears = || {
            graph.nodes().filter_map(|node| match &node.operation {
                Operation::Linear(linear) => Some((node.name, linear)),
                _ => None,
            })
        };
        for ranks in std::iter::once(1).chain(ranks.iter().copied().filter(|ranks| *ranks > 1)) {
            let cut = |size: usize| size.is_multiple_of(ranks).then(|| size / ranks);
            // Outputs of a rank that has `of` heads, or repeats one.
            let by_heads = |n: usize, of: usize| match cut(of) {
                Some(held) => Some(n / of * held),
                None if of == kv_heads && ranks.is_multiple_of(of) => Some(n / of),
                None => None,
            };
            let of_rank = |name: &str, n: usize, k: usize| match name {
                _ if ranks == 1 => Some((n, k)),
                "q_proj" => Some((by_heads(n, heads)?, k)),
                "k_proj" | "v_proj" => Some((by_heads(n, kv_heads)?, k)),
                "gate_proj" | "up_proj" | "gate_up_proj" | "lm_head" => Some((cut(n)?, k)),
                "o_proj" if cut(heads).is_some() => Some((n, cut(k)?)),
                "down_proj" => Some((n, cut(k)?)),
                _ => None,
            };
            for (name, linear) in linears() {
                let Some((n, k)) = of_rank(name, linear.n, linear.k) else { continue };
                let weight = Linear { n, k, bias: linear.bias.is_some(), dtype };
                self.weights.insert(weight);
                if k < linear.k {
                    self.weights.insert(Linear { bias: false, ..weight });
                }
            }
            for group in [&["q_proj", "k_proj", "v_proj"][..], &["gate_proj", "up_proj"]] {
                let named =
                    |wanted: &&str| linears().find(|(name, _)| name == wanted).map(|(_, linear)| linear);
                let pieces = group.iter().map(|name| {
                    let linear = named(name)?;
                    Some((of_rank(name, linear.n, linear.k)?.0, linear))
                });
                let pieces: Option<Vec<_>> = pieces.collect();
                if let Some([(_, first), ..]) = pieces.as_deref().filter(|_| fused) {
                    let n = pieces.iter().flatten().map(|(n, _)| n).sum();
                    let bias = first.bias.is_some();
                    self.weights.insert(Linear { n, k: first.k, bias, dtype });
                }
            }
        }
    }

    /// Weights for which the heuristic is asked.
    pub fn weights(&self) -> impl Iterator<Item = Linear> {
        self.weights.iter().copied()
    }

    /// Adds all products of a model with its weights in a format: prefills of `prompts` tokens and, if there are
    /// `keys`, decode steps, at each batch size.
    pub fn add_linear(
        &mut self,
        config: &ModelConfig,
        dtype: Dtype,
        batches: &[usize],
        prompts: &[usize],
        keys: &[usize],
    ) {
        let prefill_rows = batches.iter().flat_map(|batch| prompts.iter().map(move |prompt| batch * prompt));
        let decode_rows = batches.iter().copied().filter(|_| !keys.is_empty());
        let rows: BTreeSet<usize> = prefill_rows.chain(decode_rows).collect();
        for product in mantissa_engine::catalog::products(&config.graph(), dtype) {
            self.linear.extend(rows.iter().map(|rows| (product, *rows)));
        }
    }

    /// Adds attention's products of a model: prefills of `prompts` tokens and decode steps over `keys` keys, at each
    /// batch size, of bf16 or f16 as in eager attention or of binary32 as in the math backend; whole, and of each of
    /// `ranks` ranks among which heads divide.
    pub fn add_attention(
        &mut self,
        config: &ModelConfig,
        dtype: Dtype,
        ranks: &[usize],
        batches: &[usize],
        prompts: &[usize],
        keys: &[usize],
    ) {
        let graph = config.graph();
        let whole = graph.nodes().filter_map(|node| match &node.operation {
            Operation::Attention(attention) => Some(*attention),
            _ => None,
        });
        let of_ranks = whole.flat_map(|attention| {
            let cut = ranks.iter().filter(move |ranks| attention.kv_heads.is_multiple_of(**ranks));
            let part = move |ranks: &usize| Attention {
                heads: attention.heads / ranks,
                kv_heads: attention.kv_heads / ranks,
                ..attention
            };
            std::iter::once(attention).chain(cut.map(part))
        });
        // Blocks that differ in their window alone ask for the same.
        for (attention, batch) in of_ranks.flat_map(|attention| batches.iter().map(move |b| (attention, *b)))
        {
            let (heads, dim) = (batch * attention.heads, attention.key_dim);
            let products = if dtype == Dtype::F32 {
                [Product::Scores, Product::Values]
            } else {
                Product::of_eager(&attention, batch)
            };
            for product in products {
                for (phase, keys) in [(Phase::Prefill, prompts), (Phase::Decode, keys)] {
                    let shape = Batched { product, phase, heads, dim };
                    self.attention.insert((dtype, shape));
                    self.batched.extend(keys.iter().map(|keys| ((dtype, shape), *keys)));
                }
            }
        }
    }

    /// Attention's products for which the library is asked what it launches.
    #[must_use]
    pub fn attention(&self) -> usize {
        self.attention.len()
    }

    /// How many are compared, beside those that steps of the heuristic ask for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.linear.len() + self.batched.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.weights.is_empty() && self.attention.is_empty()
    }
}

/// `m × n × k` of a product over so many keys.
pub(super) fn sizes_of(shape: Batched, keys: usize) -> [usize; 3] {
    let queries = if shape.phase == Phase::Prefill { keys } else { 1 };
    if shape.product.is_scores() { [queries, keys, shape.dim] } else { [queries, shape.dim, keys] }
}
