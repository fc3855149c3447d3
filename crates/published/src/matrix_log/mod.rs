//! Layout `matrix_log`: logs of the generation and verification scripts, which print a matrix per reference.
//!
//! Batch sizes (transformers, vLLM), tensor-parallel sizes and quantization kernels. Lines between the matrices vary
//! from script to script: those that are known are checked, the others are passed over.

mod definitions;
mod reader;
mod section;
mod summary;

use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use crate::stated::StatedTokens;
use reader::MatrixLog;

/// What the titles of these logs begin with.
const TITLES: &[&str] = &[
    "CROSS-HARDWARE BATCH SIZE DETECTABILITY*",
    "vLLM CROSS-HARDWARE BATCH SIZE DETECTABILITY*",
    "TENSOR PARALLELISM DETECTABILITY EXPERIMENT*",
    "QUANTIZATION FORMAT DETECTION EXPERIMENT - VERIFICATION*",
];

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "matrix_log",
    holds: "log of generation or verification that prints a matrix of distances per reference",
    signature: FileSignature::Titles(TITLES),
    read,
};

fn read(bytes: &[u8], origin: &Path) -> Result<Read> {
    let log = reader::parse(bytes, origin)?;
    let mut warnings = vec!["lines that state no figure are passed over".to_owned()];
    if log.model.is_none() {
        warnings.push("the log does not name the model".to_owned());
    }
    Ok(Read::new(log, warnings))
}

impl Statement for MatrixLog {
    fn verifications(&self) -> Vec<Verification> {
        self.distances()
    }

    fn tokens(&self) -> Vec<StatedTokens> {
        self.outputs.clone()
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(self)
    }
}
