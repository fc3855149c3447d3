//! Shapes of products, by which a catalog is asked.

use mantissa_model::graph::{Graph, Operation};
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

/// Every product with a weight that a model runs outside its experts, each once.
///
/// ```
/// use mantissa_engine::catalog::products;
/// use mantissa_model::{Arch, synth::SynthSpec};
///
/// let spec = SynthSpec::tiny(Arch::LLAMA, 0);
/// let products = products(&spec.config().graph());
/// assert!(products.iter().any(|product| product.n == spec.config().vocab_size));
/// ```
#[must_use]
pub fn products(graph: &Graph) -> Vec<Linear> {
    let mut products = Vec::new();
    for node in graph.nodes() {
        let Operation::Linear(linear) = &node.operation else { continue };
        let product = Linear { n: linear.n, k: linear.k, bias: linear.bias.is_some() };
        if !products.contains(&product) {
            products.push(product);
        }
    }
    products
}
