//! Layout `quant_verification`: distances of replays to evidence, claimed against verified quantization kernel.
//!
//! Left out: the averages over those distances, which `--as-published` computes again.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::verification::{CellDistance, CellKey, Relation, Verification};
use mantissa_numerics::Phase;
use serde::Deserialize;

use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, Settings};
use crate::json::numbers::{self, Square};
use crate::json::setup;
use crate::quant_generation::reader::ModelConfig;

/// A file of this layout.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct File {
    /// What was run where.
    pub(crate) metadata: Metadata,
    /// One per reference, claimed and verified configuration.
    pub(crate) comparisons: Vec<Comparison>,
    /// Averages over the prefill distances.
    #[serde(default)]
    pub(crate) prefill_analysis: QuantAnalysis,
    /// Averages over the decode distances.
    #[serde(default)]
    pub(crate) decode_analysis: QuantAnalysis,
}

/// What was run where.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Metadata {
    /// GPU of the generator.
    #[serde(default)]
    pub(crate) reference_gpu: String,
    /// GPU of the verifier.
    #[serde(default)]
    pub(crate) verifier_gpu: String,
    /// The file that was verified.
    #[serde(default)]
    pub(crate) reference_file: String,
    /// Where the evidence was generated.
    #[serde(default)]
    pub(crate) reference_environment: Settings,
    /// Where it was replayed.
    #[serde(default)]
    pub(crate) verifier_environment: Settings,
    /// What the authors' own check of the two found.
    pub(crate) environment_validation: Option<EnvironmentValidation>,
    /// Configurations, in the order of every matrix.
    pub(crate) model_configs: Entries<String, ModelConfig>,
    /// When it was written; no zone is stated.
    #[serde(default)]
    pub(crate) timestamp: String,
}

/// What the authors' own check of the two environments found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct EnvironmentValidation {
    /// Whether they agree.
    pub(crate) valid: bool,
    /// Name, the generator's value, the verifier's.
    pub(crate) mismatches: Vec<(String, String, String)>,
}

/// A replay against its evidence.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Comparison {
    /// Index of the reference.
    pub(crate) ref_idx: u32,
    /// Configuration of the evidence.
    pub(crate) claimed_config: String,
    /// Configuration of the replay.
    pub(crate) verify_config: String,
    /// Whether they are the same.
    pub(crate) is_diagonal: Option<bool>,
    /// Distances of prefill positions.
    pub(crate) prefill_distances: Distances,
    /// Distances of decode steps.
    pub(crate) decode_distances: Distances,
}

/// Distances over positions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Distances {
    /// Mean distance of log-probabilities.
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    pub(crate) logprobs_mean: f64,
    /// Largest distance of log-probabilities.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) logprobs_max: Option<f64>,
}

/// Averages as the authors computed them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct QuantAnalysis {
    /// Average over references.
    #[serde(default, deserialize_with = "numbers::rows")]
    pub(crate) matrix: Square,
    /// Each reference.
    #[serde(default, deserialize_with = "numbers::cubes")]
    pub(crate) per_reference_matrices: Vec<Square>,
    /// Mean of the diagonal.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) baseline_mean: Option<f64>,
    /// Mean off the diagonal.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) signal_all_mean: Option<f64>,
    /// The same without the excluded pairs.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) signal_meaningful_mean: Option<f64>,
    /// `signal_all_mean / baseline_mean`.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) snr_all: Option<f64>,
    /// `signal_meaningful_mean / baseline_mean`.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) snr_meaningful: Option<f64>,
    /// Pairs left out of the "meaningful" average, in both directions.
    #[serde(default)]
    pub(crate) excluded_pairs: Vec<(String, String)>,
    /// Cells left out of it.
    pub(crate) n_excluded_cells: Option<u64>,
    /// Ordered pairs in it.
    pub(crate) n_meaningful_pairs: Option<u64>,
    /// Per pair, by `awq_vs_gptq`.
    #[serde(default)]
    pub(crate) pairwise_snr: Entries<String, PairSnr>,
}

/// Figures of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct PairSnr {
    /// Mean of the two mirrored cells.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) signal: Option<f64>,
    /// Mean of the two diagonal cells.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) noise_floor: Option<f64>,
    /// Their quotient.
    #[serde(default, deserialize_with = "numbers::maybe")]
    pub(crate) snr: Option<f64>,
}

impl File {
    /// The file, and what had to be assumed in reading it.
    pub(crate) fn parse(json: &[u8], origin: &Path) -> Result<(Self, Vec<String>)> {
        let file: Self = check::document(json, origin)?;
        file.check().map_err(|flaw| flaw.in_file(origin))?;
        Ok((file, Vec::new()))
    }

    /// The distances in this project's terms.
    #[must_use]
    pub(crate) fn verification(&self) -> Verification {
        let metadata = &self.metadata;
        let index =
            |name: &String| metadata.model_configs.keys().position(|key| key == name).unwrap_or_default();
        let mut cells = BTreeMap::new();
        for (i, one) in self.comparisons.iter().enumerate() {
            let (claimed, verified) = (index(&one.claimed_config), index(&one.verify_config));
            for phase in check::PHASES {
                let distances = one.distances(phase);
                let reference = Some(format!("ref_{}", one.ref_idx));
                let key = CellKey { phase, signal: "logprobs".to_owned(), reference, claimed, verified };
                let place = format!("comparisons[{i}].{}_distances.logprobs_mean", phase.name());
                let (mean, max) = (distances.logprobs_mean, distances.logprobs_max);
                cells.insert(key, CellDistance { mean, max, rounding: 0.0, place });
            }
        }
        let (generator, verifier) = (&metadata.reference_environment, &metadata.verifier_environment);
        let mut machines = [
            setup::machine(&gpu(&metadata.reference_gpu, generator), generator),
            setup::machine(&gpu(&metadata.verifier_gpu, verifier), verifier),
        ];
        for (name, config) in metadata.model_configs.iter() {
            for machine in &mut machines {
                machine.environment.insert(format!("model of {name}"), config.model_name.clone());
            }
        }
        let [generator_machine, verifier_machine] = machines;
        Verification {
            variable: "quantization".to_owned(),
            values: metadata.model_configs.keys().cloned().collect(),
            generator: generator_machine,
            verifier: verifier_machine,
            mismatches: setup::mismatches(generator, verifier),
            relation: Relation::ClaimedVerified,
            cells,
        }
    }
}

/// The GPU as the file names it, or as its environment does.
fn gpu(stated: &str, environment: &Settings) -> String {
    if stated.is_empty() { setup::gpu(environment) } else { stated.to_owned() }
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
    pub(crate) const fn analysis(&self, phase: Phase) -> &QuantAnalysis {
        match phase {
            Phase::Prefill => &self.prefill_analysis,
            Phase::Decode => &self.decode_analysis,
        }
    }

    /// Indices of the references in the order of first appearance, which is the order of the matrices.
    #[must_use]
    pub(crate) fn references(&self) -> Vec<u32> {
        let mut references = Vec::new();
        for one in &self.comparisons {
            if !references.contains(&one.ref_idx) {
                references.push(one.ref_idx);
            }
        }
        references.sort_unstable();
        references
    }

    fn check(&self) -> std::result::Result<(), Flaw> {
        let names: Vec<&String> = self.metadata.model_configs.keys().collect();
        check::distinct(&names, "metadata.model_configs")?;
        let unknown = |name: &String| format!("'{name}' is not among metadata.model_configs");
        let mut seen = BTreeMap::new();
        for (i, one) in self.comparisons.iter().enumerate() {
            let place = format!("comparisons[{i}]");
            let (claimed, verified) = (&one.claimed_config, &one.verify_config);
            if let Some(name) = [claimed, verified].into_iter().find(|name| !names.contains(name)) {
                return Err(Flaw::new(place, unknown(name), RESTORE));
            }
            if let Some(stated) = one.is_diagonal.filter(|stated| *stated != (claimed == verified)) {
                let problem = format!("is_diagonal is {stated} for {claimed} against {verified}");
                return Err(Flaw::new(place, problem, RESTORE));
            }
            if let Some(first) = seen.insert((one.ref_idx, claimed, verified), i) {
                let problem = format!(
                    "reference {} with {claimed} claimed and {verified} verified again, after comparisons[{first}]",
                    one.ref_idx
                );
                return Err(Flaw::new(place, problem, RESTORE));
            }
        }
        let references = self.references();
        check::distinct(&references, "comparisons")?;
        let side = names.len();
        if seen.len() != references.len() * side * side {
            let problem = format!(
                "{} comparisons instead of {}, one for each of {} references and {side} by {side} configurations",
                seen.len(),
                references.len() * side * side,
                references.len()
            );
            return Err(Flaw::new("comparisons", problem, RESTORE));
        }
        for phase in check::PHASES {
            let (analysis, place) = (self.analysis(phase), format!("{}_analysis", phase.name()));
            check::square(&analysis.matrix, side, &format!("{place}.matrix"))?;
            let each = &analysis.per_reference_matrices;
            check::squares(each, references.len(), side, &format!("{place}.per_reference_matrices"))?;
            for (i, (a, b)) in analysis.excluded_pairs.iter().enumerate() {
                if let Some(name) = [a, b].into_iter().find(|name| !names.contains(name)) {
                    return Err(Flaw::new(format!("{place}.excluded_pairs[{i}]"), unknown(name), RESTORE));
                }
            }
        }
        Ok(())
    }
}
