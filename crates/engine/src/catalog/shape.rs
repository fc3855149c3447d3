//! Shapes of products, by which a catalog is asked.

use std::fmt;

use mantissa_model::graph::{Attention, Graph, Operation};
use mantissa_numerics::Dtype;
use mantissa_numerics::site::Phase;
use serde::{Deserialize, Serialize};

/// A product with a weight, `m × k` by `n × k`.
///
/// Example: [`super::Catalog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Linear {
    /// Outputs per row.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Whether the kernel adds a bias.
    pub bias: bool,
    /// Format of both factors.
    pub dtype: Dtype,
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n, k, bias, dtype } = self;
        let dtype = if *dtype == Dtype::Bf16 { String::new() } else { format!(" of {dtype}") };
        write!(f, "{n} × {k}{dtype}{}", if *bias { " and a bias" } else { "" })
    }
}

/// Which of attention's two products.
///
/// Example: [`super::Catalog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// Queries by keys; the sum runs over the head.
    Scores,
    /// Probabilities by values; the sum runs over the keys.
    Values,
    /// Queries by the keys of one KV head, of several sequences: what is copied for its query heads are the keys as
    /// they are transposed.
    ScoresOfOneHead,
    /// Queries by the keys of one KV head of one sequence, which all query heads share.
    ScoresOfSharedKeys,
    /// Probabilities by the values of one KV head of one sequence, which all query heads share.
    ValuesShared,
    /// Probabilities without that of a sink by values: its place stays between the rows.
    ValuesBesideSink,
}

impl Product {
    /// Its name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Values => "values",
            Self::ScoresOfOneHead => "scores_of_one_head",
            Self::ScoresOfSharedKeys => "scores_of_shared_keys",
            Self::ValuesShared => "values_shared",
            Self::ValuesBesideSink => "values_beside_sink",
        }
    }

    /// Whether its sum runs over the head; else over the keys.
    #[must_use]
    pub const fn is_scores(self) -> bool {
        match self {
            Self::Scores | Self::ScoresOfOneHead | Self::ScoresOfSharedKeys => true,
            Self::Values | Self::ValuesShared | Self::ValuesBesideSink => false,
        }
    }

    /// The products of transformers' eager attention with `sequences` in the batch, scores first: what PyTorch copies,
    /// and what lies beside it, decides what cuBLAS is asked.
    ///
    /// *Source:* `repeat_kv` and `eager_attention_forward` of transformers 5.17; `matmul` of PyTorch 2.11
    /// (aten/src/ATen/native/LinearAlgebra.cpp), which copies what no view can join.
    ///
    /// ```
    /// use mantissa_engine::catalog::Product;
    /// use mantissa_model::graph::Attention;
    ///
    /// let plain = Attention {
    ///     heads: 4, kv_heads: 2, key_dim: 64, value_dim: 64, scale: 0.125, window: None, cap: None, sinks: None,
    /// };
    /// let one = Attention { kv_heads: 1, ..plain.clone() };
    /// assert_eq!(Product::of_eager(&plain, 3), [Product::Scores, Product::Values]);
    /// assert_eq!(Product::of_eager(&one, 3), [Product::ScoresOfOneHead, Product::Values]);
    /// assert_eq!(Product::of_eager(&one, 1), [Product::ScoresOfSharedKeys, Product::ValuesShared]);
    /// ```
    #[must_use]
    pub fn of_eager(attention: &Attention, sequences: usize) -> [Self; 2] {
        let one = attention.kv_heads == 1 && attention.heads > 1;
        match (one, sequences) {
            (true, 1) => [Self::ScoresOfSharedKeys, Self::ValuesShared],
            (true, _) => [Self::ScoresOfOneHead, Self::Values],
            (false, _) if attention.sinks.is_some() => [Self::Scores, Self::ValuesBesideSink],
            (false, _) => [Self::Scores, Self::Values],
        }
    }
}

/// One of attention's batched products. In prefill there are as many queries as keys, in decode one.
///
/// Example: [`super::Catalog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batched {
    /// Which.
    pub product: Product,
    /// Prefill or decode.
    pub phase: Phase,
    /// Query heads of all sequences together.
    pub heads: usize,
    /// Width of a head.
    pub dim: usize,
}

/// Every product with a weight that a model runs outside its experts, each once, with factors of `dtype`.
///
/// ```
/// use mantissa_engine::catalog::products;
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::Dtype;
///
/// let spec = SynthSpec::tiny(Arch::LLAMA, 0);
/// let products = products(&spec.config().graph(), Dtype::Bf16);
/// assert!(products.iter().any(|product| product.n == spec.config().vocab_size));
/// ```
#[must_use]
pub fn products(graph: &Graph, dtype: Dtype) -> Vec<Linear> {
    let mut products = Vec::new();
    for node in graph.nodes() {
        let Operation::Linear(linear) = &node.operation else { continue };
        let product = Linear { n: linear.n, k: linear.k, bias: linear.bias.is_some(), dtype };
        if !products.contains(&product) {
            products.push(product);
        }
    }
    products
}
