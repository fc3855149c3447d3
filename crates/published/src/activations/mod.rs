//! Layout `activations`: one activation vector per batch size and repetition, on one GPU.

mod definitions;
mod reader;

use std::path::Path;

use mantissa_evidence::Experiment;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::Activations;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "activations",
    holds: "one activation vector per batch size and repetition, on one GPU",
    signature: FileSignature::Keys(&[
        &["raw_activations"],
        &["activation_norms"],
        &["systematic_deviations"],
        &["statistical_noise"],
    ]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = Activations::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for Activations {
    fn experiment(&self) -> Option<&Experiment> {
        Some(&self.experiment)
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(&self.file)
    }
}
