//! How the factors of a batched product lie in memory: cuBLAS picks by it.

use mantissa_engine::catalog::Product;

/// The layout of a product per matrix of a batch, `m × k` by `n × k` or `k × n`.
///
/// ```
/// use mantissa_cuda::Layout;
/// use mantissa_engine::catalog::Product;
///
/// let scores = Layout::of(Product::Scores);
/// assert!(scores.transposed && !scores.shared && scores.between == 0);
/// assert_eq!(Layout::of(Product::ValuesBesideSink).between, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Whether the second factor is `n × k` instead of `k × n`.
    pub transposed: bool,
    /// Whether all products have one second factor.
    pub shared: bool,
    /// Elements between the rows of the first factor.
    pub between: usize,
}

impl Layout {
    /// That of one of attention's products.
    #[must_use]
    pub const fn of(product: Product) -> Self {
        Self {
            transposed: matches!(product, Product::Scores | Product::ScoresOfSharedKeys),
            shared: matches!(product, Product::ScoresOfSharedKeys | Product::ValuesShared),
            between: if matches!(product, Product::ValuesBesideSink) { 1 } else { 0 },
        }
    }
}
