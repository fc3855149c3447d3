//! Where a pass is.

use mantissa_model::graph::Section;

use crate::pass::Place;
use crate::weights::NodeWeights;

/// A section with its weights.
#[derive(Clone, Copy)]
pub(super) struct At<'s, 'a> {
    pub(super) section: &'s Section,
    pub(super) place: Place,
    pub(super) weights: &'s [NodeWeights<'a>],
}
