//! What the published definitions share: the scripts' arithmetic, their cut-offs, pairs of setups, orders of sums.

pub(crate) mod arithmetic;
pub(crate) mod cutoffs;
pub(crate) mod order;
pub(crate) mod pairs;
