//! What a verification is asked, and what it tells while it runs.

use std::path::Path;

use mantissa_engine::Catalogs;
use mantissa_model::{Checkpoint, Tokenizer};
use mantissa_published::Opened;

use super::grid::{Assignment, Varied};
use crate::replay::Replay;
use crate::setup::Machine;

/// A question about evidence.
///
/// Example: [`super::verify`].
#[derive(Debug, Clone)]
pub struct Request<'r> {
    /// The evidence; without it only a self-test is run.
    pub evidence: Option<&'r Opened>,
    /// Answers of a server that is known to run what is claimed: distances are set beside its.
    pub beside: Option<&'r Opened>,
    /// The model that is claimed to have run; without it nothing is replayed.
    pub model: Option<Model<'r>>,
    /// Claimed instead of what the evidence declares.
    pub claim: &'r [Assignment],
    /// What the claim is replayed with besides: all combinations.
    pub vary: &'r [Varied],
    /// How evidence is recomputed.
    pub method: Method<'r>,
    /// Whether known deviations are planted and looked for.
    pub self_test: bool,
    /// What is known of libraries' choices.
    pub catalogs: Catalogs,
    /// Where to run.
    pub machine: Machine,
}

impl Request<'_> {
    /// A question about nothing yet, by replay as it was generated, with the catalogs that are part of the program.
    #[must_use]
    pub fn new(machine: Machine) -> Self {
        Self {
            evidence: None,
            beside: None,
            model: None,
            claim: &[],
            vary: &[],
            method: Method::Replay { replay: Replay::Decode, full: false, state: None },
            self_test: false,
            catalogs: Catalogs::default(),
            machine,
        }
    }
}

/// A model under its name.
///
/// Example: [`super::verify`].
#[derive(Debug, Clone, Copy)]
pub struct Model<'m> {
    /// Its name for people.
    pub name: &'m str,
    /// The model.
    pub checkpoint: &'m Checkpoint,
    /// Its tokenizer: without it, texts of evidence are not set beside their ids.
    pub tokenizer: Option<&'m Tokenizer>,
}

/// How evidence is recomputed.
///
/// Example: [`super::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'m> {
    /// Pass by pass.
    Replay {
        /// As generated, or in one pass.
        replay: Replay,
        /// Whether contradicted classes are replayed to their end.
        full: bool,
        /// Where finished replays are kept, and looked for.
        state: Option<&'m Path>,
    },
    /// By another program on this machine.
    Elsewhere(Elsewhere<'m>),
    /// Single recorded values from their recorded inputs; of the claim alone.
    SpotCheck {
        /// Values to draw.
        draws: u64,
        /// Decides which.
        seed: u64,
    },
}

/// Stock transformers, through the package `mantissa_forensics`.
///
/// Example: [`super::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere<'m> {
    /// The Python that has it, torch and transformers.
    pub python: &'m str,
    /// Where the replay's files are kept; a killed replay goes on from them.
    pub folder: &'m Path,
}

/// How far a verification is.
///
/// Example: [`super::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'e> {
    /// Weights are being hashed.
    Hashing {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Replays are planned.
    Planned {
        /// Classes to replay.
        classes: usize,
        /// Forward passes of them.
        passes: u64,
        /// Passes that are not run because they would be the same.
        saved: u64,
    },
    /// Tokens were fed.
    Replayed {
        /// Done.
        done: u64,
        /// In all, as far as is known.
        total: u64,
    },
    /// Values of a spot check were recomputed.
    Drawn {
        /// Of this configuration.
        config_id: &'e str,
        /// Done.
        done: u64,
        /// In all.
        total: u64,
    },
    /// Deviations are being planted.
    Planting,
    /// What was planted is being verified.
    Planted {
        /// Done.
        done: u64,
        /// In all.
        total: u64,
    },
}
