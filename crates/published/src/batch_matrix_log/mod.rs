//! Layout `batch_matrix_log`: log of decode runs replayed by prefill at every batch size
//! (`prefill_decode_batch_matrix.log`).

mod content;
mod definitions;
mod reader;

use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use crate::stated::StatedTokens;
use content::BatchMatrixLog;

/// The title that every such log opens with.
const TITLE: &str = "PREFILL vs DECODE EXPERIMENT";

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "batch_matrix_log",
    holds: "log of decode runs replayed by prefill at every batch size",
    signature: FileSignature::Titles(&[TITLE]),
    read,
};

fn read(bytes: &[u8], origin: &Path) -> Result<Read> {
    Ok(Read::new(reader::parse(bytes, origin)?, Vec::new()))
}

impl Statement for BatchMatrixLog {
    fn verifications(&self) -> Vec<Verification> {
        self.distances()
    }

    fn tokens(&self) -> Vec<StatedTokens> {
        self.outputs()
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(self)
    }
}
