//! Layout `tp_generation`: log-probabilities of prefill under several tensor-parallel sizes, on one machine.

pub(crate) mod definitions;
pub(crate) mod reader;

use std::path::Path;

use mantissa_evidence::Experiment;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::TpGeneration;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "tp_generation",
    holds: "log-probabilities of prefill under several tensor-parallel sizes, on one machine",
    signature: FileSignature::Keys(&[
        &["measurements", "metadata.tp_sizes"],
        &["measurements", "within_hardware_analysis"],
    ]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = TpGeneration::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for TpGeneration {
    fn experiment(&self) -> Option<&Experiment> {
        Some(&self.experiment)
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(&self.file)
    }
}
