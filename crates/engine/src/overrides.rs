//! Recipes of single nodes in place of those that dispatch names: to find causes, and to test that a run that was not
//! as planned is noticed.

use mantissa_numerics::recipe::KernelRecipe;
use mantissa_numerics::site::Phase;

use crate::pass::Place;

/// One node's recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The block, counted from 0; `None` for every block.
    pub layer: Option<usize>,
    /// The node's name: `o_proj`.
    pub node: String,
    /// Prefill or decode; `None` for both.
    pub phase: Option<Phase>,
    /// What runs instead; a recipe of another kind of kernel is not used.
    pub recipe: KernelRecipe,
}

/// Overrides of an engine, the first that fits counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(pub Vec<Override>);

impl Overrides {
    pub(crate) fn of(&self, place: Place, node: &str, phase: Phase, planned: KernelRecipe) -> KernelRecipe {
        let fits = |found: &&Override| {
            found.node == node
                && found.phase.is_none_or(|wanted| wanted == phase)
                && found
                    .layer
                    .is_none_or(|layer| matches!(place, Place::Block { .. }) && place.layer() == layer)
                && std::mem::discriminant(&found.recipe) == std::mem::discriminant(&planned)
        };
        self.0.iter().find(fits).map_or(planned, |found| found.recipe)
    }
}
