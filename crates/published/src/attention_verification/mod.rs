//! Layout `attention_verification`: distances averaged over references, claimed against verified attention.

mod definitions;
pub(crate) mod reader;

use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::File;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "attention_verification",
    holds: "distances averaged over references, claimed against verified attention",
    signature: FileSignature::Keys(&[&["cross_hardware"]]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = File::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for File {
    fn verifications(&self) -> Vec<Verification> {
        vec![self.verification()]
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(self)
    }
}
