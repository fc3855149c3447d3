//! What the published JSON layouts share.
//!
//! Unknown keys are ignored, because these are other programs' files. Wrong types, missing keys, duplicate keys and
//! dimensions that do not fit are errors with their place.

pub(crate) mod check;
pub(crate) mod entries;
pub(crate) mod generated;
pub(crate) mod numbers;
pub(crate) mod setup;
pub(crate) mod signals;
pub(crate) mod vectors;
