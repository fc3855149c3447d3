//! What is measured: the products of models' passes.

use std::collections::BTreeSet;

use mantissa_engine::catalog::{Batched, Linear, Product};
use mantissa_model::ModelConfig;
use mantissa_model::graph::Operation;
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
/// shapes.add_attention(spec.config(), Dtype::Bf16, &[1], &[512], &[513, 514]);
/// assert_eq!(shapes.len(), 2 * 3);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shapes {
    pub(super) linear: BTreeSet<(Linear, usize)>,
    /// Of bf16 or of binary32.
    pub(super) batched: BTreeSet<((Dtype, Batched), usize)>,
}

impl Shapes {
    /// Adds all products of a model with its weights: prefills of `prompts` tokens and, if there are `keys`, decode
    /// steps, at each batch size.
    pub fn add_linear(&mut self, config: &ModelConfig, batches: &[usize], prompts: &[usize], keys: &[usize]) {
        let prefill_rows = batches.iter().flat_map(|batch| prompts.iter().map(move |prompt| batch * prompt));
        let decode_rows = batches.iter().copied().filter(|_| !keys.is_empty());
        let rows: BTreeSet<usize> = prefill_rows.chain(decode_rows).collect();
        for product in mantissa_engine::catalog::products(&config.graph()) {
            self.linear.extend(rows.iter().map(|rows| (product, *rows)));
        }
    }

    /// Adds attention's products of a model: prefills of `prompts` tokens and decode steps over `keys` keys, at each
    /// batch size, of bf16 as in eager attention or of binary32 as in the math backend.
    pub fn add_attention(
        &mut self,
        config: &ModelConfig,
        dtype: Dtype,
        batches: &[usize],
        prompts: &[usize],
        keys: &[usize],
    ) {
        let graph = config.graph();
        let attentions = graph.nodes().filter_map(|node| match &node.operation {
            Operation::Attention(attention) => Some((attention.heads, attention.key_dim)),
            _ => None,
        });
        let attentions: BTreeSet<(usize, usize)> = attentions.collect();
        for (batch, (heads, dim)) in
            batches.iter().flat_map(|batch| attentions.iter().map(move |a| (batch, *a)))
        {
            let heads = batch * heads;
            for product in [Product::Scores, Product::Values] {
                for (phase, keys) in [(Phase::Prefill, prompts), (Phase::Decode, keys)] {
                    let shape = Batched { product, phase, heads, dim };
                    self.batched.extend(keys.iter().map(|keys| ((dtype, shape), *keys)));
                }
            }
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.linear.len() + self.batched.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
