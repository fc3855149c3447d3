//! What the published logs share: reading them line by line, and checking their figures.

pub(crate) mod ledger;
pub(crate) mod lines;
pub(crate) mod printed;
pub(crate) mod range;
