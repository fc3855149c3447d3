//! Layout `quant_verification`: distances of replays to evidence, claimed against verified quantization kernel.

mod definitions;
mod reader;

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::Result;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use reader::File;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "quant_verification",
    holds: "distances of replays to evidence, claimed against verified quantization kernel",
    signature: FileSignature::Keys(&[&["comparisons", "metadata.model_configs"]]),
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

    fn models(&self) -> BTreeMap<String, String> {
        let configs = self.metadata.model_configs.iter();
        configs.map(|(name, config)| (name.clone(), config.model_name.clone())).collect()
    }

    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        definitions::sheet(self)
    }
}
