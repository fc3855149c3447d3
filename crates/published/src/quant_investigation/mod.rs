//! Layout `quant_investigation`: one quantized model run several times, as it is and with deterministic algorithms.

mod definitions;
mod reader;

use std::path::Path;

use mantissa_evidence::Experiment;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::QuantInvestigation;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "quant_investigation",
    holds: "one quantized model run several times, as it is and with deterministic algorithms",
    signature: FileSignature::Keys(&[
        &["baseline.logprobs"],
        &["deterministic.logprobs"],
        &["baseline.tokens"],
    ]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = QuantInvestigation::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for QuantInvestigation {
    fn experiment(&self) -> Option<&Experiment> {
        Some(&self.experiment)
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(&self.file)
    }
}
