//! What the recipes of a pass rest on: the catalogs that have them, and how far those are to be relied on.

use mantissa_model::graph::{Graph, Node, Operation};

use super::Dispatch;
use crate::catalog::{Batched, Linear, Product, RestsOn};
use crate::plan::PassShape;
use crate::setup::Attention;

impl Dispatch<'_> {
    /// What a pass rests on. A kernel that no recipe covers adds nothing: [`Self::check`] refuses it.
    ///
    /// ```
    /// use mantissa_engine::plan::PassShape;
    /// use mantissa_engine::{Attention, Basis, Dispatch, Hardware};
    /// use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
    /// use mantissa_numerics::Dtype;
    ///
    /// let request = SynthRequest { preset: Some(Preset::SmolLm2_135M), ..SynthRequest::default() };
    /// let graph = SynthSpec::new(&request)?.config().graph();
    /// let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::Eager);
    /// let found = dispatch.rests_on(&graph, PassShape::decode(1, 100));
    /// assert_eq!((found.basis, found.catalogs.len()), (Basis::Verified, 1));
    /// # Ok::<(), mantissa_model::ModelError>(())
    /// ```
    #[must_use]
    pub fn rests_on(self, graph: &Graph, shape: PassShape) -> RestsOn {
        let mut found = RestsOn::new(self.hardware);
        for node in graph.nodes() {
            self.node_rests_on(node, shape, &mut found);
        }
        found
    }

    /// Adds what [`Self::recipe`] looks up for `node`.
    fn node_rests_on(self, node: &Node, shape: PassShape, found: &mut RestsOn) {
        let Some(known) = self.catalog() else { return };
        match &node.operation {
            Operation::Linear(linear) => {
                let product = Linear { n: linear.n, k: linear.k, bias: linear.bias.is_some() };
                if let Some(entry) = known.linear(product, shape.rows()) {
                    found.add(&entry);
                }
            }
            Operation::Attention(attention) if self.attention != Attention::SdpaFlash => {
                for product in [Product::Scores, Product::Values] {
                    let batched = Batched {
                        product,
                        dtype: self.products_of(),
                        phase: shape.phase,
                        heads: shape.batch_size * attention.heads,
                        dim: attention.key_dim,
                    };
                    if let Some(entry) = known.batched(batched, shape.keys) {
                        found.add(&entry);
                    }
                }
            }
            _ => {}
        }
    }
}
