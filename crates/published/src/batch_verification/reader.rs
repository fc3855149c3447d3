//! Layout `batch_verification`: distances of replays to evidence, claimed against verified batch size.
//!
//! Left out: the averages over those distances, which `--as-published` computes again.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::verification::{CellDistance, CellKey, Relation, Verification};
use mantissa_numerics::Phase;
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::Settings;
use crate::json::numbers::{self, Square};
use crate::json::setup;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// What was run where.
    pub(crate) metadata: Metadata,
    /// One per reference, claimed and verified batch size.
    pub(crate) comparisons: Vec<Comparison>,
    /// Averages over the prefill distances.
    #[serde(default)]
    pub(crate) prefill_analysis: BatchAnalysis,
    /// Averages over the decode distances.
    #[serde(default)]
    pub(crate) decode_analysis: BatchAnalysis,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Metadata {
    /// Where the evidence was generated.
    #[serde(default)]
    pub(crate) reference_environment: Settings,
    /// Where it was replayed.
    #[serde(default)]
    pub(crate) verifier_environment: Settings,
    /// Batch sizes, in the order of every matrix.
    #[serde(default)]
    pub(crate) batch_sizes: Vec<u32>,
    /// Pairs that the generator could not tell apart in prefill.
    #[serde(default)]
    pub(crate) prefill_equivalent_pairs: Vec<(u32, u32)>,
    /// Pairs that the generator could not tell apart in decode.
    #[serde(default)]
    pub(crate) decode_equivalent_pairs: Vec<(u32, u32)>,
}

/// A replay against its evidence.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Comparison {
    /// `ref_0`.
    pub(crate) ref_name: String,
    /// Batch size of the evidence.
    pub(crate) claimed_batch_size: u32,
    /// Batch size of the replay.
    pub(crate) verify_batch_size: u32,
    /// Distances of prefill positions.
    pub(crate) prefill_distances: Distances,
    /// Distances of decode steps.
    pub(crate) decode_distances: Distances,
}

/// Distances over positions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Distances {
    /// Largest distance of keys.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) key_vectors_max: Option<f64>,
    /// Mean distance of keys.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) key_vectors_mean: Option<f64>,
    /// Largest distance of log-probabilities.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) logprobs_max: Option<f64>,
    /// Mean distance of log-probabilities.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) logprobs_mean: Option<f64>,
}

/// Averages as the authors computed them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct BatchAnalysis {
    /// Keys of each reference.
    #[serde(default, deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_key_matrices: Vec<Square>,
    /// Log-probabilities of each reference.
    #[serde(default, deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_logprob_matrices: Vec<Square>,
    /// Averages over references, where an older writer keeps them apart.
    #[serde(default)]
    pub(crate) matrices: Matrices,
    /// Averages of keys.
    #[serde(default)]
    pub(crate) key_vectors: SignalAnalysis,
    /// Averages of log-probabilities.
    #[serde(default)]
    pub(crate) logprobs: SignalAnalysis,
    /// Pairs left out of the "meaningful" averages, in both directions.
    #[serde(default)]
    pub(crate) excluded_pairs: Vec<(u32, u32)>,
}

/// Averages over references of both signals.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct Matrices {
    /// Of keys.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) key_vectors: Square,
    /// Of log-probabilities.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) logprobs: Square,
}

/// Averages of one signal.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct SignalAnalysis {
    /// Average over references.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) matrix: Square,
    /// Whether that stands under `matrices`.
    #[serde(skip)]
    pub(crate) apart: bool,
    /// Mean of the diagonal.
    #[serde(default, alias = "diagonal_mean", deserialize_with = "numbers::maybe")]
    pub(crate) baseline_mean: Option<f64>,
    /// Mean off the diagonal.
    #[serde(default, alias = "off_diagonal_mean", deserialize_with = "numbers::maybe")]
    pub(crate) signal_all_mean: Option<f64>,
    /// The same without the excluded pairs.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) signal_meaningful_mean: Option<f64>,
    /// `signal_all_mean / baseline_mean`.
    #[serde(default, alias = "snr", deserialize_with = "numbers::maybe")]
    pub(crate) snr_all: Option<f64>,
    /// `signal_meaningful_mean / baseline_mean`.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) snr_meaningful: Option<f64>,
    /// Ordered pairs in `signal_meaningful_mean`.
    pub(crate) n_meaningful_pairs: Option<u64>,
}

impl File {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        let mut file: Self = check::document(json, origin)?;
        file.derive();
        file.check().map_err(|flaw| flaw.in_file(origin))?;
        let warnings = vec!["the file does not name the model".to_owned()];
        Ok((file, warnings))
    }

    /// What older writers leave out, or keep elsewhere.
    fn derive(&mut self) {
        if self.metadata.batch_sizes.is_empty() {
            let of = |one: &Comparison| [one.claimed_batch_size, one.verify_batch_size];
            self.metadata.batch_sizes = self.comparisons.iter().flat_map(of).collect();
            self.metadata.batch_sizes.sort_unstable();
            self.metadata.batch_sizes.dedup();
        }
        for analysis in [&mut self.prefill_analysis, &mut self.decode_analysis] {
            let Matrices { key_vectors, logprobs } = std::mem::take(&mut analysis.matrices);
            for (apart, with) in
                [(key_vectors, &mut analysis.key_vectors), (logprobs, &mut analysis.logprobs)]
            {
                if with.matrix.is_empty() {
                    with.matrix = apart;
                    with.apart = true;
                }
            }
        }
    }

    /// The distances in this project's terms.
    #[must_use]
    pub(crate) fn verification(&self) -> Verification {
        let metadata = &self.metadata;
        let index =
            |size: u32| metadata.batch_sizes.iter().position(|&other| other == size).unwrap_or_default();
        let mut cells = BTreeMap::new();
        for (i, one) in self.comparisons.iter().enumerate() {
            let (claimed, verified) = (index(one.claimed_batch_size), index(one.verify_batch_size));
            for phase in check::PHASES {
                let distances = one.distances(phase);
                for (signal, mean, max) in [
                    ("key_vectors", distances.key_vectors_mean, distances.key_vectors_max),
                    ("logprobs", distances.logprobs_mean, distances.logprobs_max),
                ] {
                    let Some(mean) = mean else { continue };
                    let reference = Some(one.ref_name.clone());
                    let key = CellKey { phase, signal: signal.to_owned(), reference, claimed, verified };
                    let place = format!("comparisons[{i}].{}_distances.{signal}_mean", phase.name());
                    cells.insert(key, CellDistance { mean, max, rounding: 0.0, place });
                }
            }
        }
        let (generator, verifier) = (&metadata.reference_environment, &metadata.verifier_environment);
        Verification {
            variable: "batch_size".to_owned(),
            values: metadata.batch_sizes.iter().map(u32::to_string).collect(),
            generator: setup::machine(&setup::gpu(generator), generator),
            verifier: setup::machine(&setup::gpu(verifier), verifier),
            mismatches: setup::mismatches(generator, verifier),
            relation: Relation::ClaimedVerified,
            cells,
        }
    }
}

impl Comparison {
    /// Distances of one phase.
    #[must_use]
    pub(crate) const fn distances(&self, phase: Phase) -> &Distances {
        match phase {
            Phase::Prefill => &self.prefill_distances,
            Phase::Decode => &self.decode_distances,
        }
    }
}

impl File {
    /// The averages of one phase.
    #[must_use]
    pub(crate) const fn analysis(&self, phase: Phase) -> &BatchAnalysis {
        match phase {
            Phase::Prefill => &self.prefill_analysis,
            Phase::Decode => &self.decode_analysis,
        }
    }

    /// Reference names in the order of first appearance, which is the order of the matrices.
    #[must_use]
    pub(crate) fn references(&self) -> Vec<&str> {
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
        check::distinct(sizes, "metadata.batch_sizes")?;
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
        check::distinct(&references, "comparisons")?;
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
        for phase in check::PHASES {
            let (analysis, place) = (self.analysis(phase), format!("{}_analysis", phase.name()));
            let (keys, logprobs) =
                (&analysis.per_reference_key_matrices, &analysis.per_reference_logprob_matrices);
            check::squares(keys, references.len(), side, &format!("{place}.per_reference_key_matrices"))?;
            check::squares(
                logprobs,
                references.len(),
                side,
                &format!("{place}.per_reference_logprob_matrices"),
            )?;
            check::square(&analysis.key_vectors.matrix, side, &format!("{place}.key_vectors.matrix"))?;
            check::square(&analysis.logprobs.matrix, side, &format!("{place}.logprobs.matrix"))?;
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
