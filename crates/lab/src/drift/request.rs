//! What a drift is asked of.

use std::path::Path;

use mantissa_engine::Catalogs;
use mantissa_evidence::Record;
use mantissa_evidence::trace::Trace;
use mantissa_model::Checkpoint;
use mantissa_numerics::Setup;
use mantissa_numerics::setup::SomeAxes;

use crate::setup::Machine;

/// One of the two that are compared.
///
/// Example: [`Request`].
#[derive(Debug, Clone, Copy)]
pub enum Side<'r> {
    /// One configuration of a record.
    Recorded {
        /// The record.
        record: &'r Record,
        /// Which configuration; `None` where there is one.
        config: Option<&'r str>,
        /// What is known of its setup beside what it states.
        claimed: &'r SomeAxes,
    },
    /// A trace with its values beside it.
    Traced {
        /// The trace.
        trace: &'r Trace,
        /// Its file.
        path: &'r Path,
        /// What is known of its setup beside what its header states.
        claimed: &'r SomeAxes,
    },
    /// What the model computes for the other side's tokens, or for some of its own.
    Computed(Computed<'r>),
}

/// A computation that is made for the comparison.
///
/// Example: [`Request`].
#[derive(Debug, Clone, Copy)]
pub struct Computed<'r> {
    /// The setup.
    pub setup: Setup,
    /// Token ids, prompt by prompt; empty for those of the other side.
    pub prompts: &'r [Vec<u32>],
    /// How many of the last tokens of each are decode steps.
    pub decoded: usize,
    /// Passes that compute the others.
    pub prefill: PrefillPasses,
}

/// The passes of a prefill.
///
/// ```
/// use mantissa_lab::drift::PrefillPasses;
///
/// let lengths = |passes: PrefillPasses| {
///     let (mut done, mut lengths) = (0, Vec::new());
///     while done < 10 {
///         lengths.push(passes.next(done, 10 - done));
///         done += lengths[lengths.len() - 1];
///     }
///     lengths
/// };
/// assert_eq!(lengths(PrefillPasses::Whole), [10]);
/// assert_eq!(lengths(PrefillPasses::Chunks(4)), [4, 4, 2]);
/// assert_eq!(lengths(PrefillPasses::Cached(4)), [4, 6]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefillPasses {
    /// One.
    #[default]
    Whole,
    /// As many tokens each, but for the last.
    Chunks(usize),
    /// One of as many tokens, which are a prefix that was cached, and one of the others.
    Cached(usize),
}

impl PrefillPasses {
    /// Tokens of the next pass where `done` were fed and `left` are left.
    #[must_use]
    pub fn next(self, done: usize, left: usize) -> usize {
        let next = match self {
            Self::Chunks(tokens) => tokens,
            Self::Cached(tokens) if done == 0 => tokens,
            Self::Whole | Self::Cached(_) => left,
        };
        next.clamp(1, left.max(1)).min(left)
    }
}

/// What is to be compared.
///
/// ```
/// use mantissa_engine::{Catalogs, Isa};
/// use mantissa_lab::Machine;
/// use mantissa_lab::drift::{Computed, PrefillPasses, Request, Side, drift};
/// use mantissa_model::synth::{SynthSpec, write};
/// use mantissa_model::{Arch, Checkpoint};
/// use mantissa_numerics::Setup;
/// use mantissa_verdict::drift::DriftAnswer;
///
/// # let folder = tempfile::tempdir()?;
/// write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
/// let checkpoint = Checkpoint::open(folder.path())?;
/// let prompts = [(1..12).collect::<Vec<u32>>()];
/// let setup = Setup { dtype: mantissa_numerics::Dtype::F32, ..Setup::default() };
/// let prefill = PrefillPasses::Whole;
/// let side = |decoded| Side::Computed(Computed { setup, prompts: &prompts, decoded, prefill });
/// // The last token in the pass of all, and as a decode step.
/// let found = drift(&Request {
///     sides: [side(0), side(1)],
///     model: Some(&checkpoint),
///     catalogs: Catalogs::built_in(),
///     machine: Machine { threads: 1, isa: Isa::detect() },
/// }, &|_, _| {})?;
/// assert!(found.counts.pairs > 0 && found.answer <= DriftAnswer::Explained);
/// assert!(found.causes.iter().any(|cause| cause.node == "q_proj"), "summed in other lanes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// The two sides, the reference first.
    pub sides: [Side<'r>; 2],
    /// The model; without it, rows are compared and nothing is explained.
    pub model: Option<&'r Checkpoint>,
    /// What is known of libraries' choices.
    pub catalogs: &'r Catalogs,
    /// Where to run.
    pub machine: Machine,
}
