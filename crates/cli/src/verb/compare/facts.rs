//! What a comparison found, as it is serialized, and the exit code that it comes to.
//!
//! Left out: how people read it (`mantissa_report`).

use std::io;

use mantissa_compare::{Comparison, State};
use mantissa_report as report;
use serde::Serialize;

use crate::failure::Exit;
use crate::terminal::{Page, Report};

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

impl Report for Compared {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let style = page.unbroken();
        page.set(&report::comparison_text(&self.found, self.full, style))
    }
}
