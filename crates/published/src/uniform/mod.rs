//! Evidence of our own (`docs/format/experiment-json.md`), and the comparison script of the ablation plan on it.
//!
//! Its reader is [`mantissa_evidence::Record`]. The script: reproducibility, baseline, within hardware, across. One
//! layer (the last), largest distance over steps and positions, log-probabilities by rank, repetition 0, the smallest
//! value as reference, missing data as distance 0.

mod definitions;
mod measure;
mod plan;

pub(crate) use definitions::sheet;

/// Top-level keys of an experiment JSON, none of which a published layout has.
pub(crate) const KEYS: [&str; 3] = ["experiment_metadata", "configurations", "runs"];
