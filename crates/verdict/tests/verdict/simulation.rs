//! Statistics against simulated truth: stated error rates hold, power is as predicted, documented numbers are computed.
//!
//! Every simulation is seeded. A count is compared with the range that an exact binomial distribution allows: were the
//! claim true, a fresh seed would leave that range with probability below 10⁻⁶ ([`chance::range`]).

mod chance;
mod coverage;
mod documented;
mod false_alarms;
mod multiplicity;
mod power;
mod repetitions;
