//! Layout `attention_verification`: distances averaged over references, claimed against verified attention.
//!
//! The file keeps no distance of a single reference, so no uncertainty can be computed from it.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::verification::{CellDistance, CellKey, Machine, Relation, Verification};
use mantissa_numerics::Phase;
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, Settings};
use crate::json::numbers::{self, Square};
use crate::json::setup;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// What was run where.
    pub(crate) metadata: Metadata,
    /// The distances.
    pub(crate) cross_hardware: CrossHardware,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Metadata {
    /// The file that was verified.
    #[serde(default)]
    pub(crate) reference_file: String,
    /// Where the evidence was generated, by attention implementation in the order of every matrix.
    pub(crate) reference_environments: Entries<String, Settings>,
    /// Where it was replayed.
    pub(crate) verifier_environments: Entries<String, Settings>,
}

/// The distances of both phases.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct CrossHardware {
    /// Of prefill positions.
    #[serde(default)]
    pub(crate) prefill: PhaseDistances,
    /// Of decode steps.
    #[serde(default)]
    pub(crate) decode: PhaseDistances,
}

/// Distances of one phase and averages over them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct PhaseDistances {
    /// Keys, averaged over references.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) key_matrix: Square,
    /// Log-probabilities, averaged over references.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) logprob_matrix: Square,
    /// Mean of the diagonal of the keys.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) diagonal_key: Option<f64>,
    /// Mean of the diagonal of the log-probabilities.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) diagonal_logprob: Option<f64>,
    /// Mean off the diagonal of the keys.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) off_diagonal_key: Option<f64>,
    /// Mean off the diagonal of the log-probabilities.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) off_diagonal_logprob: Option<f64>,
    /// `off_diagonal_key / diagonal_key`.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) key_snr: Option<f64>,
    /// `off_diagonal_logprob / diagonal_logprob`.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) logprob_snr: Option<f64>,
}

impl File {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        let file: Self = check::document(json, origin)?;
        file.check().map_err(|flaw| flaw.in_file(origin))?;
        let warnings = vec![
            "the file does not name the model".to_owned(),
            "the file keeps only averages over references, and not how many references there were".to_owned(),
        ];
        Ok((file, warnings))
    }

    /// The distances in this project's terms.
    #[must_use]
    pub(crate) fn verification(&self) -> Verification {
        let metadata = &self.metadata;
        let mut cells = BTreeMap::new();
        for phase in check::PHASES {
            let distances = self.distances(phase);
            for (signal, name, matrix) in [
                ("key_vectors", "key_matrix", &distances.key_matrix),
                ("logprobs", "logprob_matrix", &distances.logprob_matrix),
            ] {
                for (claimed, row) in matrix.iter().enumerate() {
                    for (verified, &mean) in row.iter().enumerate() {
                        let place = format!("cross_hardware.{}.{name}[{claimed}][{verified}]", phase.name());
                        let key =
                            CellKey { phase, signal: signal.to_owned(), reference: None, claimed, verified };
                        cells.insert(key, CellDistance { mean, max: None, rounding: 0.0, place });
                    }
                }
            }
        }
        let mut mismatches = Vec::new();
        for (name, generator) in metadata.reference_environments.iter() {
            let verifier = metadata.verifier_environments.get(name).into_iter();
            for mismatch in verifier.flat_map(|verifier| setup::mismatches(generator, verifier)) {
                if !mismatches.contains(&mismatch) {
                    mismatches.push(mismatch);
                }
            }
        }
        Verification {
            variable: "attention".to_owned(),
            values: metadata.reference_environments.keys().cloned().collect(),
            generator: machine(&metadata.reference_environments),
            verifier: machine(&metadata.verifier_environments),
            mismatches,
            relation: Relation::ClaimedVerified,
            cells,
        }
    }
}

/// The machine of the first implementation, without what varies on purpose.
fn machine(environments: &Entries<String, Settings>) -> Machine {
    let Some(first) = environments.values().next() else { return Machine::default() };
    let mut machine = setup::machine(&setup::gpu(first), first);
    machine.environment.remove("attn_implementation");
    machine
}

impl File {
    /// The distances of one phase.
    #[must_use]
    pub(crate) const fn distances(&self, phase: Phase) -> &PhaseDistances {
        match phase {
            Phase::Prefill => &self.cross_hardware.prefill,
            Phase::Decode => &self.cross_hardware.decode,
        }
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let Metadata { reference_environments, verifier_environments, .. } = &self.metadata;
        check::distinct(reference_environments.keys(), "metadata.reference_environments")?;
        let missing = reference_environments.keys().find(|name| verifier_environments.get(*name).is_none());
        if let Some(name) = missing {
            let problem = format!("'{name}' is missing");
            return Err(Flaw::new("metadata.verifier_environments", problem, RESTORE));
        }
        let gpu = |settings: &Settings| settings.get("gpu_name").cloned();
        for (environments, field) in [
            (reference_environments, "reference_environments"),
            (verifier_environments, "verifier_environments"),
        ] {
            let first = environments.values().next().and_then(gpu);
            if let Some((name, _)) = environments.iter().find(|(_, settings)| gpu(settings) != first) {
                let problem = "gpu_name is not that of the first implementation";
                return Err(Flaw::new(format!("metadata.{field}.{name}"), problem, RESTORE));
            }
        }
        let side = reference_environments.len();
        for phase in check::PHASES {
            let (distances, place) = (self.distances(phase), format!("cross_hardware.{}", phase.name()));
            check::square(&distances.key_matrix, side, &format!("{place}.key_matrix"))?;
            check::square(&distances.logprob_matrix, side, &format!("{place}.logprob_matrix"))?;
        }
        Ok(())
    }
}
