//! Layout `tp_verification`: distances of replays to evidence, claimed against verified tensor-parallel size.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::verification::{CellDistance, CellKey, Machine, Relation, Verification};
use mantissa_numerics::Phase;
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, Settings};
use crate::json::setup;
use crate::tp_generation::reader::Analysis;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// What was run where.
    #[serde(default)]
    pub(crate) metadata: Metadata,
    /// Distances between sizes of the verifier.
    pub(crate) within_hardware_analysis: Option<Analysis>,
    /// Distances of replays to evidence, claimed × verified.
    pub(crate) cross_hardware_analysis: Analysis,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Metadata {
    /// Model id.
    pub(crate) model: Option<String>,
    /// Sizes, in the order of every matrix.
    pub(crate) tp_sizes: Option<Vec<u32>>,
    /// Where the evidence was generated, by size.
    #[serde(default)]
    pub(crate) reference_environments: Entries<String, Settings>,
    /// Where it was replayed, by size.
    #[serde(default)]
    pub(crate) verifier_environments: Entries<String, Settings>,
}

impl File {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        let file: Self = check::document(json, origin)?;
        file.check().map_err(|flaw| flaw.in_file(origin))?;
        let unnamed = file.metadata.model.is_none();
        let warnings = unnamed.then(|| "the file does not name the model".to_owned());
        Ok((file, warnings.into_iter().collect()))
    }

    /// Sizes, in the order of every matrix.
    pub(crate) fn sizes(&self) -> Vec<String> {
        if let Some(stated) = &self.metadata.tp_sizes {
            return stated.iter().map(u32::to_string).collect();
        }
        self.metadata.reference_environments.keys().cloned().collect()
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let sizes = self.sizes();
        check::distinct(&sizes, "metadata.tp_sizes")?;
        let cross = &self.cross_hardware_analysis;
        if cross.matrix.is_empty() && cross.per_reference_matrices.is_empty() {
            return Err(Flaw::new("cross_hardware_analysis", "no distance is stored", RESTORE));
        }
        cross.check(sizes.len(), None).map_err(|flaw| flaw.under("cross_hardware_analysis"))?;
        self.within_hardware_analysis.as_ref().map_or(Ok(()), |within| {
            within.check(sizes.len(), None).map_err(|flaw| flaw.under("within_hardware_analysis"))
        })
    }

    /// The distances in this project's terms: claimed × verified, then between sizes of the verifier.
    pub(crate) fn distances(&self) -> Vec<Verification> {
        let Metadata { reference_environments, verifier_environments, .. } = &self.metadata;
        let [generator, verifier] = [reference_environments, verifier_environments].map(machine);
        let mut mismatches = Vec::new();
        for (name, settings) in reference_environments.iter() {
            let other = verifier_environments.get(name).into_iter();
            for mismatch in other.flat_map(|other| setup::mismatches(settings, other)) {
                if !mismatches.contains(&mismatch) {
                    mismatches.push(mismatch);
                }
            }
        }
        let across = Verification {
            variable: "tp_size".to_owned(),
            values: self.sizes(),
            generator,
            verifier: verifier.clone(),
            mismatches,
            relation: Relation::ClaimedVerified,
            cells: cells(&self.cross_hardware_analysis, "cross_hardware_analysis"),
        };
        let within = self.within_hardware_analysis.as_ref().map(|within| Verification {
            variable: "tp_size".to_owned(),
            values: self.sizes(),
            generator: verifier.clone(),
            verifier,
            mismatches: Vec::new(),
            relation: Relation::WithinMode,
            cells: cells(within, "within_hardware_analysis"),
        });
        std::iter::once(across).chain(within).collect()
    }
}

/// The machine of the first size, without what varies on purpose.
fn machine(environments: &Entries<String, Settings>) -> Machine {
    let nothing = Settings::default();
    let first = environments.values().next().unwrap_or(&nothing);
    let mut machine = setup::machine(&setup::gpu(first), first);
    machine.environment.remove("tensor_parallel_size");
    machine
}

/// Distances per reference, or their average where those are left out.
fn cells(analysis: &Analysis, place: &str) -> BTreeMap<CellKey, CellDistance> {
    let average = analysis.per_reference_matrices.is_empty().then_some(&analysis.matrix);
    let each = analysis.per_reference_matrices.iter().enumerate();
    let each = each.map(|(r, matrix)| (Some(r), matrix)).chain(average.map(|matrix| (None, matrix)));
    let mut cells = BTreeMap::new();
    for (reference, matrix) in each {
        for (claimed, row) in matrix.iter().enumerate() {
            for (verified, &mean) in row.iter().enumerate() {
                let at = reference.map_or("matrix".to_owned(), |r| format!("per_reference_matrices[{r}]"));
                let key = CellKey {
                    phase: Phase::Prefill,
                    signal: "logprobs".to_owned(),
                    reference: reference.map(|r| format!("ref_{r}")),
                    claimed,
                    verified,
                };
                let place = format!("{place}.{at}[{claimed}][{verified}]");
                cells.insert(key, CellDistance { mean, max: None, rounding: 0.0, place });
            }
        }
    }
    cells
}
