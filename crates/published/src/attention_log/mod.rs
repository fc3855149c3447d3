//! Layout `attention_log`: log of evidence replayed on another GPU under each attention implementation
//! (`attention_cross_hardware_verification.log`).

mod definitions;
mod reader;

use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::Result;

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
