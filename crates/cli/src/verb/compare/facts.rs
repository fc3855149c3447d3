//! What a comparison found, as it is serialized, and the exit code that it comes to.
//!
//! Left out: how people read it ([`super::text`], and `mantissa_report` for a page).

use mantissa_compare::{Comparison, State};
use serde::Serialize;

use crate::failure::Exit;

/// What was found, prompt by prompt.
#[derive(Serialize)]
pub(super) struct Compared {
    #[serde(flatten)]
    pub(super) found: Comparison,
    #[serde(skip)]
    pub(super) full: bool,
}

impl Compared {
    pub(super) fn exit(&self) -> Exit {
        match self.found.state() {
            State::Different => Exit::Divergent,
            State::Equal => Exit::Consistent,
            State::Missing | State::Incomparable => Exit::NotEnoughEvidence,
        }
    }
}
