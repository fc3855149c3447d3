//! What the published definitions share: the scripts' arithmetic, their cut-offs, and pairs of setups.

pub(crate) mod arithmetic;
pub(crate) mod cutoffs;
pub(crate) mod pairs;
