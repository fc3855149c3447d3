//! Layout `attention_log`: log of evidence replayed on another GPU under each attention implementation
//! (`attention_cross_hardware_verification.log`).

mod definitions;
mod reader;

use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::{EvidenceError, Result};

use crate::layout::{FileSignature, Layout, Read, Statement, companion};
use crate::sheet::Sheet;
use reader::AttentionLog;

/// The title that every such log opens with.
const TITLE: &str = "ATTENTION IMPLEMENTATION CROSS-HARDWARE EXPERIMENT";

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "attention_log",
    holds: "log of evidence replayed on another GPU under each attention implementation",
    signature: FileSignature::Titles(&[TITLE]),
    read,
};

fn read(bytes: &[u8], origin: &Path) -> Result<Read> {
    let has = |title: &[u8]| bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == title);
    if has(b"GENERATION MODE") && !has(b"VERIFICATION MODE") {
        return Err(EvidenceError::NotEvidence {
            path: origin.to_owned(),
            what: "the log of a generation under several attention implementations, which prints no distance"
                .to_owned(),
            remedy: "give the file that it names, or the log of its verification".to_owned(),
        });
    }
    Ok(Read::new(reader::parse(bytes, origin)?, Vec::new()))
}

impl Statement for AttentionLog {
    fn verifications(&self) -> Vec<Verification> {
        self.distances()
    }

    fn sheet(&self, beside: &[&dyn Statement]) -> Sheet {
        definitions::sheet(self, companion(beside))
    }
}
