//! Traces: JSON Lines with hashes and statistics of tensors, without the tensors.
//!
//! A trace has one event for each tensor that a pass left: prompt, phase, step, site. Events of two traces pair by
//! token position, row by row. `docs/format/trace.md` describes the file. [`TraceReader`] reads one line at a time,
//! so its memory is that of the header and the longest line. Left out: making events from evidence or from an engine
//! (`mantissa-lab`), and pairing them.

mod event;
mod founding;
mod header;
mod read;
mod statistics;
mod write;

pub use event::{StageTrace, TensorPlace, TraceHash};
pub use header::{HashRule, StatisticsRule, TRACE_VERSION, TraceHeader, TracedPrompt};
pub use read::{Trace, TraceKind, TraceReader};
pub use statistics::Statistics;
pub use write::TraceWriter;

pub(crate) use read::Line;
