//! Layout `quantization_log`: log of generation under several quantization kernels
//! (`quantization_format_generation.log`).

mod definitions;
mod reader;
mod stated;

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement, companion};
use crate::sheet::Sheet;
use crate::stated::{StatedRepeats, StatedTokens};
use reader::QuantizationLog;

/// The title that every such log opens with.
const TITLE: &str = "QUANTIZATION FORMAT DETECTION EXPERIMENT - GENERATION";

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "quantization_log",
    holds: "log of generation under several quantization kernels",
    signature: FileSignature::Titles(&[TITLE]),
    read,
};

fn read(bytes: &[u8], origin: &Path) -> Result<Read> {
    Ok(Read::new(reader::parse(bytes, origin)?, Vec::new()))
}

impl Statement for QuantizationLog {
    fn verifications(&self) -> Vec<Verification> {
        self.distances()
    }

    fn repeats(&self) -> Vec<StatedRepeats> {
        stated::repetitions(self)
    }

    fn tokens(&self) -> Vec<StatedTokens> {
        stated::first_texts(self)
    }

    fn models(&self) -> BTreeMap<String, String> {
        self.configurations.iter().map(|one| (one.name.clone(), one.model.clone())).collect()
    }

    fn sheet(&self, beside: &[&dyn Statement]) -> Sheet {
        definitions::sheet(self, companion(beside))
    }
}
