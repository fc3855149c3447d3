//! What an interpreter of a graph has.

use std::sync::Mutex;

use mantissa_model::graph::Graph;
use mantissa_numerics::recipe::EmbeddingRecipe;
use mantissa_numerics::setup::Hardware;

use crate::overrides::Overrides;
use crate::pass::Ran;
use crate::pool::Pool;
use crate::rope::RopeTable;
use crate::simd::Isa;
use crate::variation::Variation;
use crate::weights::Weights;

/// A model ready to be interpreted.
pub(crate) struct Runner<'r, 'a, B> {
    pub graph: &'r Graph,
    pub weights: &'r Weights<'a>,
    pub tables: &'r [RopeTable],
    pub backend: &'r B,
    pub pool: &'r Pool,
    pub isa: Isa,
    pub hardware: Hardware,
    pub embedding: EmbeddingRecipe,
    pub overrides: &'r Overrides,
    pub variation: Variation,
    pub ran: &'r Mutex<Ran>,
}
