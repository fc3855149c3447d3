//! Shapes of products, by which a catalog is asked.

use std::fmt;

use mantissa_model::graph::{Graph, Operation};
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
}

impl Product {
    /// Its name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Values => "values",
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
