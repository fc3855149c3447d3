//! Layout `tp_verification`: distances of replays to evidence, claimed against verified tensor-parallel size.

mod reader;

use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::Result;
use mantissa_evidence::verification::Relation;

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::Sheet;
use crate::tp_generation::definitions::averages;
use reader::File;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "tp_verification",
    holds: "distances of replays to evidence, claimed against verified tensor-parallel size",
    signature: FileSignature::Keys(&[&["cross_hardware_analysis"]]),
    read,
};

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let (file, warnings) = File::parse(json, origin)?;
    Ok(Read::new(file, warnings))
}

impl Statement for File {
    fn verifications(&self) -> Vec<Verification> {
        self.distances()
    }

    /// The stored averages over stored distances: nothing else is in the file.
    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        let mut sheet = Sheet::of("tp_size");
        for (stored, place, relation) in [
            (self.within_hardware_analysis.as_ref(), "within_hardware_analysis", Relation::WithinMode),
            (Some(&self.cross_hardware_analysis), "cross_hardware_analysis", Relation::ClaimedVerified),
        ] {
            let Some(stored) = stored else { continue };
            averages(
                &mut sheet,
                &self.sizes(),
                stored,
                &stored.per_reference_matrices,
                None,
                place,
                relation,
            );
        }
        sheet
    }
}
