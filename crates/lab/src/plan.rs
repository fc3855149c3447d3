//! A plan of experiments: a base setup, what is varied, and carrying it out configuration by configuration.
//!
//! ```text
//! PLAN.toml ── file ──> Plan ── cells ──> Cell (a setup, run in a process of its own)
//!                                           │ process: `mantissa record`, or PYTHON -m mantissa_forensics.cell
//!                                           ▼
//!                       .plan/cells/ID (a container) ── join ──> NAME_experiment.json, each with the reference
//! ```
//!
//! A cell's process is told everything in one file ([`CellSpec`]) and leaves one container, so that each may have an
//! interpreter and libraries of its own, and a crash of one loses none of the others. Left out: the flags and what is
//! printed (`mantissa run`), and what happens inside a backend.

mod carry;
mod cells;
mod error;
mod estimate;
mod file;
mod join;
mod process;
mod values;

pub use carry::{CarryOut, Finished, Outcome, Progress, Summary};
pub use cells::{Cell, Experiment};
pub use error::PlanError;
pub use estimate::Estimate;
pub use file::{GivenFiles, LayerName, Plan, Signals, Stack};
pub use process::{CELL_FORMAT, CellSpec, Launch, Program, SpecPrompt};
pub use values::{Backend, CellAxis, CellSetup, CellValue, Format};

#[cfg(test)]
mod tests;
