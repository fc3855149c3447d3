//! Traces: JSON Lines with hashes and statistics of tensors, without the tensors.
//!
//! A trace has one event for each tensor that a pass left: prompt, phase, step, site. Events of two traces pair by
//! token position, row by row. `docs/format/trace.md` describes the file. [`TraceReader`] reads one line at a time,
//! so its memory is that of the header and the longest line. [`RecordedTrace`] makes events of evidence. Left out:
//! making them of an engine (`mantissa-lab`), and pairing them.

mod event;
mod foreign;
mod founding;
mod header;
mod read;
mod recorded;
mod shown;
mod statistics;
mod tensor;
mod tensors;
mod write;

pub use event::{StageTrace, TensorPlace, TraceHash};
pub use header::{HashRule, StatisticsRule, TRACE_VERSION, TraceEnd, TraceHeader, TracedPrompt};
pub use read::{Trace, TraceKind, TraceReader};
pub use recorded::{RecordedTrace, prompt_id};
pub use shown::{Printed, Shown, ShownRow};
pub use statistics::Statistics;
pub use tensor::TensorTrace;
pub use tensors::{TensorFiles, TensorReader};
pub use write::TraceWriter;

pub(crate) use read::Line;
