//! Layout `layer_sweep`: activation vectors of several layers, one per repetition, under one version of CUDA.

mod definitions;
pub(crate) mod reader;

use std::path::Path;

use mantissa_evidence::Experiment;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::LayerSweep;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "layer_sweep",
    holds: "activation vectors of several layers, one per repetition, under one version of CUDA",
    signature: FileSignature::Keys(&[&["raw_activations.layer_*"], &["layer_statistics"]]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = LayerSweep::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for LayerSweep {
    fn experiment(&self) -> Option<&Experiment> {
        Some(&self.experiment)
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(&self.file)
    }
}
