//! Statistics of a verdict: what may be claimed, with which error rate, on how many units.
//!
//! A *unit* is one sequence (one reference prompt). Tokens of a sequence depend on each other and are never units: they
//! are first summarized to one score per sequence ([`sequence_scores`]). Every function is pure: no clock, no global
//! generator; a seed is an argument, sums run in index order, and logarithms come from `libm`, so the same input gives
//! the same bits on every machine. p-values are fractions of counts ([`PValue`]), compared without rounding.
//! `docs/statistics.md` says which test serves which question.
//!
//! | question | function |
//! |---|---|
//! | does this score look like the honest ones? | [`conformal_p`], [`conformal_p_by_sequence`] |
//! | do two groups of sequences differ? | [`two_sample_p`] |
//! | does one setup fit the same sequences better than another? | [`sign_flip_p`] |
//! | do repetitions of two setups differ? | [`strata_p`] |
//! | how uncertain is a ratio? | [`Bootstrap`] |
//! | how far apart are two setups at most? | [`ratio_bound()`] |
//! | which of several candidates? | [`identify`], [`holm`], [`benjamini_hochberg`] |
//! | what false-alarm rate is shown? | [`false_alarm_bound`], [`units_needed`], [`ExactTier`] |
//! | what can be detected at all? | [`power_of_conformal`], [`power_of_exact`] |
//!
//! Left out: distances themselves (`mantissa-compare`) and thresholds.

mod binomial;
mod bootstrap;
mod conformal;
mod exact_tier;
mod multiplicity;
mod p_value;
mod permutation;
mod power;
mod random;
mod ratio_bound;
mod special;
mod strata;

pub use binomial::{false_alarm_bound, units_needed, units_needed_exact};
pub use bootstrap::{Bootstrap, BootstrapInterval, FLAGGED_BELOW, IntervalMethod, MINIMUM_UNITS, RESAMPLES};
pub use conformal::{Summary, conformal_p, conformal_p_by_sequence, sequence_scores};
pub use exact_tier::ExactTier;
pub use multiplicity::{Identification, Identified, benjamini_hochberg, holm, identify};
pub use p_value::PValue;
pub use permutation::{MAX_EXACT, Shift, TwoSampleStatistic, sign_flip_p, two_sample_p};
pub use power::{conformal_alarm_rank, power_of_conformal, power_of_exact, units_for_power_of_exact};
pub use random::{Random, seed_of};
pub use ratio_bound::ratio_bound;
pub use strata::{Stratum, repetitions_needed, strata_p};
