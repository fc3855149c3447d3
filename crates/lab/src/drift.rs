//! Drift: two computations of the same tokens, paired row by row, and why they part.
//!
//! Rows are paired by prompt, token position and site (`pairs`). With a model, each differing row is recomputed from
//! the rows that its own side recorded (`fed`, `local`): by the recipes that the side states, and by an ensemble of
//! others. So what arose in a row is told apart from what arrived with its inputs. Where both sides are recomputed to
//! the bit, `causes` finds the nodes that they compute otherwise; what neither recipes nor rounding explain is given
//! to `hypotheses`. Left out: words for people (`mantissa-report`).

mod align;
mod answers;
mod bound;
mod causes;
mod ensemble;
mod fault;
mod fed;
mod given;
mod hypotheses;
mod known;
mod local;
mod pairs;
mod prompt;
mod request;
mod sheet;
mod side;
mod traces;
mod trial;

pub use answers::drift;
pub use fault::DriftFault;
pub use request::{Computed, PrefillPasses, Request, Side};
pub use side::configuration;
pub use traces::{TracedSide, drift_of_traces, traced};
