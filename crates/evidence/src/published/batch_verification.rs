//! Layout `batch_verification`: distances of replays to evidence, claimed against verified batch size.
//!
//! Left out: the averages over those distances, which `--as-published` computes again.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_numerics::Phase;
use serde::Deserialize;

use super::parts::{self, RESTORE, Setting, Settings, Square};
use crate::error::{Flaw, Result};
use crate::verification::{CellDistance, CellKey, Relation, Verification};

/// A file of this layout.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchVerification {
    /// Its content.
    pub file: File,
    /// What was lenient or assumed in reading it.
    pub warnings: Vec<String>,
}

/// The content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct File {
    /// What was run where.
    pub metadata: Metadata,
    /// One per reference, claimed and verified batch size.
    pub comparisons: Vec<Comparison>,
    /// Averages over the prefill distances.
    pub prefill_analysis: BatchAnalysis,
    /// Averages over the decode distances.
    pub decode_analysis: BatchAnalysis,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Metadata {
    /// Where the evidence was generated.
    pub reference_environment: Settings,
    /// Where it was replayed.
    pub verifier_environment: Settings,
    /// Batch sizes, in the order of every matrix.
    pub batch_sizes: Vec<u32>,
    /// Layers whose keys were compared.
    pub layer_indices: Vec<u32>,
    /// Pairs that the generator could not tell apart in prefill.
    pub prefill_equivalent_pairs: Vec<(u32, u32)>,
    /// Pairs that the generator could not tell apart in decode.
    pub decode_equivalent_pairs: Vec<(u32, u32)>,
}

/// A replay against its evidence.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Comparison {
    /// `ref_0`.
    pub ref_name: String,
    /// Batch size of the evidence.
    pub claimed_batch_size: u32,
    /// Batch size of the replay.
    pub verify_batch_size: u32,
    /// Distances of prefill positions.
    pub prefill_distances: Distances,
    /// Distances of decode steps.
    pub decode_distances: Distances,
}

/// Distances over positions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Distances {
    /// Largest distance of keys.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub key_vectors_max: f64,
    /// Mean distance of keys.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub key_vectors_mean: f64,
    /// Largest distance of log-probabilities.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub logprobs_max: f64,
    /// Mean distance of log-probabilities.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub logprobs_mean: f64,
}

/// Averages as the authors computed them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BatchAnalysis {
    /// Keys of each reference.
    #[serde(deserialize_with = "parts::cubes")]
    pub per_reference_key_matrices: Vec<Square>,
    /// Log-probabilities of each reference.
    #[serde(deserialize_with = "parts::cubes")]
    pub per_reference_logprob_matrices: Vec<Square>,
    /// Averages of keys.
    pub key_vectors: SignalAnalysis,
    /// Averages of log-probabilities.
    pub logprobs: SignalAnalysis,
    /// Pairs left out of the "meaningful" averages, in both directions.
    pub excluded_pairs: Vec<(u32, u32)>,
}

/// Averages of one signal.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SignalAnalysis {
    /// Average over references.
    #[serde(deserialize_with = "parts::rows")]
    pub matrix: Square,
    /// Mean of the diagonal.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub baseline_mean: f64,
    /// Mean off the diagonal.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub signal_all_mean: f64,
    /// The same without the excluded pairs.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub signal_meaningful_mean: f64,
    /// `signal_all_mean / baseline_mean`.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub snr_all: f64,
    /// `signal_meaningful_mean / baseline_mean`.
    #[serde(deserialize_with = "crate::lenient::number")]
    pub snr_meaningful: f64,
    /// Ordered pairs in `signal_meaningful_mean`.
    pub n_meaningful_pairs: u64,
}

impl BatchVerification {
    pub(super) fn parse(json: &[u8], origin: &Path) -> Result<Self> {
        let file: File = parts::document(json, origin)?;
        file.check().map_err(|flaw| flaw.in_file(origin))?;
        let warnings = vec!["the file does not name the model".to_owned()];
        Ok(Self { file, warnings })
    }

    /// The distances in this project's terms.
    #[must_use]
    pub fn verification(&self) -> Verification {
        let metadata = &self.file.metadata;
        let index =
            |size: u32| metadata.batch_sizes.iter().position(|&other| other == size).unwrap_or_default();
        let mut cells = BTreeMap::new();
        for (i, one) in self.file.comparisons.iter().enumerate() {
            let (claimed, verified) = (index(one.claimed_batch_size), index(one.verify_batch_size));
            for phase in parts::PHASES {
                let distances = one.distances(phase);
                for (signal, mean, max) in [
                    ("key_vectors", distances.key_vectors_mean, distances.key_vectors_max),
                    ("logprobs", distances.logprobs_mean, distances.logprobs_max),
                ] {
                    let reference = Some(one.ref_name.clone());
                    let key = CellKey { phase, signal: signal.to_owned(), reference, claimed, verified };
                    let place = format!("comparisons[{i}].{}_distances.{signal}_mean", phase.name());
                    cells.insert(key, CellDistance { mean, max: Some(max), rounding: 0.0, place });
                }
            }
        }
        let gpu = |settings: &Settings| {
            settings
                .get("gpu_name")
                .map_or_else(|| parts::NOT_STATED.to_owned(), |Setting(name)| name.clone())
        };
        let (generator, verifier) = (&metadata.reference_environment, &metadata.verifier_environment);
        Verification {
            variable: "batch_size".to_owned(),
            values: metadata.batch_sizes.iter().map(u32::to_string).collect(),
            generator: parts::machine(&gpu(generator), generator),
            verifier: parts::machine(&gpu(verifier), verifier),
            mismatches: parts::mismatches(generator, verifier),
            relation: Relation::ClaimedVerified,
            cells,
        }
    }
}

impl Comparison {
    /// Distances of one phase.
    #[must_use]
    pub const fn distances(&self, phase: Phase) -> &Distances {
        match phase {
            Phase::Prefill => &self.prefill_distances,
            Phase::Decode => &self.decode_distances,
        }
    }
}

impl File {
    /// The averages of one phase.
    #[must_use]
    pub const fn analysis(&self, phase: Phase) -> &BatchAnalysis {
        match phase {
            Phase::Prefill => &self.prefill_analysis,
            Phase::Decode => &self.decode_analysis,
        }
    }

    /// Reference names in the order of first appearance, which is the order of the matrices.
    #[must_use]
    pub fn references(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for one in &self.comparisons {
            if !names.contains(&one.ref_name.as_str()) {
                names.push(&one.ref_name);
            }
        }
        names
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let sizes = &self.metadata.batch_sizes;
        parts::distinct(sizes, "metadata.batch_sizes")?;
        let mut seen = BTreeMap::new();
        for (i, one) in self.comparisons.iter().enumerate() {
            let place = format!("comparisons[{i}]");
            let (claimed, verified) = (one.claimed_batch_size, one.verify_batch_size);
            if let Some(size) = [claimed, verified].into_iter().find(|size| !sizes.contains(size)) {
                let problem = format!("batch size {size} is not among metadata.batch_sizes");
                return Err(Flaw::new(place, problem, RESTORE));
            }
            if let Some(first) = seen.insert((one.ref_name.as_str(), claimed, verified), i) {
                let problem = format!(
                    "{} with {claimed} claimed and {verified} verified again, after comparisons[{first}]",
                    one.ref_name
                );
                return Err(Flaw::new(place, problem, RESTORE));
            }
        }
        let references = self.references();
        parts::distinct(&references, "comparisons")?;
        let side = sizes.len();
        if seen.len() != references.len() * side * side {
            let problem = format!(
                "{} comparisons instead of {}, one for each of {} references and {side} by {side} batch sizes",
                seen.len(),
                references.len() * side * side,
                references.len()
            );
            return Err(Flaw::new("comparisons", problem, RESTORE));
        }
        for phase in parts::PHASES {
            let (analysis, place) = (self.analysis(phase), format!("{}_analysis", phase.name()));
            let (keys, logprobs) =
                (&analysis.per_reference_key_matrices, &analysis.per_reference_logprob_matrices);
            parts::squares(keys, references.len(), side, &format!("{place}.per_reference_key_matrices"))?;
            parts::squares(
                logprobs,
                references.len(),
                side,
                &format!("{place}.per_reference_logprob_matrices"),
            )?;
            parts::square(&analysis.key_vectors.matrix, side, &format!("{place}.key_vectors.matrix"))?;
            parts::square(&analysis.logprobs.matrix, side, &format!("{place}.logprobs.matrix"))?;
            for (i, &(a, b)) in analysis.excluded_pairs.iter().enumerate() {
                if let Some(size) = [a, b].into_iter().find(|size| !sizes.contains(size)) {
                    let problem = format!("batch size {size} is not among metadata.batch_sizes");
                    return Err(Flaw::new(format!("{place}.excluded_pairs[{i}]"), problem, RESTORE));
                }
            }
        }
        Ok(())
    }
}
