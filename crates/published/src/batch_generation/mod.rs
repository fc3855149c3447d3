//! Layout `batch_generation`: signals of generation at several batch sizes, on one GPU.

mod definitions;
mod reader;

use std::path::Path;

use mantissa_evidence::Experiment;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::BatchGeneration;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "batch_generation",
    holds: "signals of generation at several batch sizes, on one GPU",
    signature: FileSignature::Keys(&[&["measurements"]]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = BatchGeneration::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for BatchGeneration {
    fn experiment(&self) -> Option<&Experiment> {
        Some(&self.experiment)
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(&self.file)
    }
}
