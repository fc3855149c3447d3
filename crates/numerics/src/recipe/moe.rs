//! Mixture of experts: routing, and the sum over a token's experts. Left out: the experts' products, which are
//! [`MatmulRecipe`](super::MatmulRecipe)s.

use std::num::NonZeroU16;

use super::matmul::Lanes;
use crate::Dtype;

/// The choice of experts from router logits, and their weights; ties go to the lower expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouterRecipe {
    /// The softmax.
    pub softmax: RouterSoftmax,
    /// What is chosen by, and what becomes the weights.
    pub choice: RouterChoice,
    /// Format routing weights are rounded to.
    pub output: Dtype,
}

/// What experts are chosen by, and what becomes their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouterChoice {
    /// The largest of all experts' probabilities; softmax in binary32.
    Probabilities {
        /// Whether the chosen weights are divided by their sum, as [`RouterSoftmax`] adds it up.
        renormalize: bool,
    },
    /// The largest logits; the softmax, in binary32, is over them alone.
    Logits,
}

/// Whose softmax over router logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouterSoftmax {
    /// The engine's own: its exponentials, the denominator by lanes; chosen weights are added up in binary32 in top-k
    /// order.
    Lanes {
        /// Lanes of the denominator.
        lanes: Lanes,
    },
    /// PyTorch's, by a warp of 32 lanes ([`crate::nvidia::reduce::softmax_warp`]); chosen weights are added up by the
    /// halving tree over as many lanes as there are ([`crate::nvidia::reduce::sum_of_few`]).
    Warp,
}

/// Expert outputs times routing weights, each rounded to `output`, summed in top-k order in binary32, rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExpertSumRecipe {
    /// Running sums: sum `i mod sums` takes product `i`, ascending; the sums are then added in order.
    pub sums: NonZeroU16,
    /// Format of products and sum.
    pub output: Dtype,
}
