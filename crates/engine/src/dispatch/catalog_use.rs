//! Which catalogs a pass takes recipes from, and what those rest on.

use mantissa_model::graph::{Graph, Node, Operation};
use mantissa_numerics::setup::Attention;

use super::rules::Dispatch;
use crate::catalog::{Batched, Linear, Product};
use crate::catalogs::CatalogUse;
use crate::shape::PassShape;

impl Dispatch<'_> {
    /// The catalogs that a pass takes recipes from. A kernel that no recipe covers adds nothing; [`Self::check`]
    /// refuses it.
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
    /// let found = dispatch.catalog_use(&graph, PassShape::decode(1, 100));
    /// assert_eq!((found.basis, found.catalogs.len()), (Basis::Verified, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn catalog_use(self, graph: &Graph, shape: PassShape) -> CatalogUse {
        let mut found = CatalogUse::new(self.hardware);
        for node in graph.nodes() {
            self.node_catalog_use(node, shape, &mut found);
        }
        found
    }

    /// Adds what [`Self::recipe`] looks up for `node`.
    fn node_catalog_use(self, node: &Node, shape: PassShape, found: &mut CatalogUse) {
        let Some(known) = self.catalog() else { return };
        match &node.operation {
            Operation::Linear(linear) => {
                let product = Linear { n: linear.n, k: linear.k, bias: linear.bias.is_some() };
                known.linear(product, shape.rows()).iter().for_each(|entry| found.add(entry));
            }
            Operation::Attention(attention) => {
                for product in [Product::Scores, Product::Values] {
                    let (phase, heads) = (shape.phase, shape.batch_size * attention.heads);
                    let batched = Batched { product, phase, heads, dim: attention.key_dim };
                    match self.attention {
                        Attention::SdpaFlash => {}
                        Attention::SdpaMath => {
                            known.math(batched, shape.keys).iter().for_each(|entry| found.add(entry));
                        }
                        Attention::Eager | Attention::Sdpa | Attention::FlashAttention2 => {
                            known.eager(batched, shape.keys).iter().for_each(|entry| found.add(entry));
                        }
                    }
                }
            }
            _ => {}
        }
    }
}
