//! Layout `repeated_runs`: one setup run several times, the tokens of each run and how likely they were.

mod definitions;
mod reader;

use std::path::Path;

use mantissa_evidence::Experiment;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::RepeatedRuns;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "repeated_runs",
    holds: "one setup run several times: the tokens of each run and their log-probabilities",
    signature: FileSignature::Keys(&[&["token_sequences"], &["logprobs_vectors"], &["top_k_distributions"]]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = RepeatedRuns::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for RepeatedRuns {
    fn experiment(&self) -> Option<&Experiment> {
        Some(&self.experiment)
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(&self.file)
    }
}
