//! What the log of the batch-size experiment holds.

use std::collections::BTreeMap;

use mantissa_evidence::verification::{CellKey, Machine, Relation, Verification};
use mantissa_numerics::Phase;

use crate::log::printed::{Placed, Printed, PrintedMatrix};
use crate::stated::StatedTokens;

/// The whole log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchMatrixLog {
    /// Where it says it was written.
    pub(crate) log_file: String,
    /// The environment, by name.
    pub(crate) environment: BTreeMap<String, String>,
    /// Model id.
    pub(crate) model: String,
    /// Layers whose keys were kept, counted from 1.
    pub(crate) layers: Vec<u64>,
    /// Batch sizes, in the order of every matrix.
    pub(crate) batch_sizes: Vec<u64>,
    /// Tokens generated per run.
    pub(crate) max_tokens: u64,
    /// Documents the prompts were cut from: path and tokens.
    pub(crate) documents: Vec<(String, Placed<u64>)>,
    /// Tokens of all documents.
    pub(crate) total_tokens: Placed<u64>,
    /// Slices cut.
    pub(crate) slices: Placed<u64>,
    /// Tokens of a slice.
    pub(crate) slice_tokens: u64,
    /// References made.
    pub(crate) reference_count: Placed<u64>,
    /// Neighbours made for each.
    pub(crate) dummies: u64,
    /// Comparisons per reference that the design announces.
    pub(crate) comparisons: Placed<u64>,
    /// The references, in order.
    pub(crate) references: Vec<Reference>,
    /// Where the data went.
    pub(crate) data_file: String,
    /// Measurements counted by the log.
    pub(crate) measurements: Placed<u64>,
    /// Aggregates of the comparisons within decode, then within prefill.
    pub(crate) within: [WithinAggregate; 2],
    /// Key vectors averaged over references.
    pub(crate) keys: MatrixAggregate,
    /// Log-probabilities averaged over references.
    pub(crate) logprobs: MatrixAggregate,
    /// The last conclusions, line by line.
    pub(crate) conclusion: Vec<Placed<String>>,
}

/// One reference prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reference {
    /// `ref_0`.
    pub(crate) name: String,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u64,
    /// Decode runs, by batch size in order.
    pub(crate) runs: Vec<DecodeRun>,
    /// Whether the log says that all batch sizes gave the same tokens.
    pub(crate) identical: Placed<bool>,
    /// Prefill replays, row by row.
    pub(crate) replays: Vec<Replay>,
    /// Distances between batch sizes within decode.
    pub(crate) decode: Vec<PairDistance>,
    /// Distances between batch sizes within prefill (each replaying its own decode run).
    pub(crate) prefill: Vec<PairDistance>,
    /// Key vectors, decode rows × prefill columns.
    pub(crate) keys: PrintedMatrix,
    /// Log-probabilities, decode rows × prefill columns.
    pub(crate) logprobs: PrintedMatrix,
}

/// What one batch size generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodeRun {
    /// The batch size.
    pub(crate) batch_size: u64,
    /// Tokens of prompt and output.
    pub(crate) final_tokens: u64,
    /// Absolute positions whose signals were kept.
    pub(crate) positions: Vec<u64>,
    /// Generated ids.
    pub(crate) ids: Vec<u32>,
    /// Their text as the log quotes it.
    pub(crate) text: String,
    /// Whether the log marks them as those of the first batch size.
    pub(crate) same: bool,
    /// Line of the ids.
    pub(crate) line: usize,
}

/// A prefill replay of a decode run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    /// Batch size of the decode run.
    pub(crate) decode: u64,
    /// Batch size of the replay.
    pub(crate) prefill: u64,
    /// Whether the other rows of the batch were those of the decode run.
    pub(crate) exact_neighbours: bool,
    /// Where.
    pub(crate) line: usize,
}

/// Largest distance between two batch sizes over the positions kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PairDistance {
    /// The first batch size.
    pub(crate) a: u64,
    /// The second.
    pub(crate) b: u64,
    /// L2 of key vectors.
    pub(crate) keys: Printed,
    /// L2 of log-probabilities.
    pub(crate) logprobs: Printed,
}

/// Aggregates within one mode.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WithinAggregate {
    /// The mode.
    pub(crate) phase: Phase,
    /// Key vectors.
    pub(crate) keys: MeanMax,
    /// Log-probabilities.
    pub(crate) logprobs: MeanMax,
    /// What the log says of exact zeros, where it does.
    pub(crate) zeros: Option<Zeros>,
    /// The sentence it concludes with.
    pub(crate) conclusion: Placed<String>,
    /// The means as the conclusion repeats them: keys, log-probabilities.
    pub(crate) repeated: [Printed; 2],
}

/// Mean and maximum.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MeanMax {
    /// Mean over references and pairs.
    pub(crate) mean: Printed,
    /// Maximum over references and pairs.
    pub(crate) max: Printed,
}

/// Pairs of batch sizes, as a line lists them.
pub(crate) type ZeroPairs = Placed<Vec<(u64, u64)>>;

/// What the log says of distances that are exactly zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zeros {
    /// Zero of how many comparisons: keys, log-probabilities.
    pub(crate) counts: [Option<Placed<(u64, u64)>>; 2],
    /// Zero pairs of keys and of log-probabilities by reference.
    pub(crate) by_reference: Vec<(String, [ZeroPairs; 2])>,
    /// What is said of pairs across references: keys, log-probabilities.
    pub(crate) across: [Placed<String>; 2],
}

/// A matrix averaged over references, and what was derived from it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MatrixAggregate {
    /// The matrix.
    pub(crate) matrix: PrintedMatrix,
    /// Mean of the diagonal.
    pub(crate) diagonal_mean: Printed,
    /// Standard deviation of the diagonal.
    pub(crate) diagonal_deviation: Printed,
    /// The diagonal again.
    pub(crate) diagonal: Vec<Printed>,
    /// Mean off the diagonal.
    pub(crate) off_diagonal_mean: Printed,
    /// Standard deviation off the diagonal.
    pub(crate) off_diagonal_deviation: Printed,
    /// Their ratio.
    pub(crate) snr: Printed,
    /// The ratio as the conclusion repeats it.
    pub(crate) repeated_snr: Printed,
    /// The word given to it there.
    pub(crate) word: String,
}

impl Reference {
    /// Indices into the outputs of the positions kept: the output token each of them consumed.
    pub(crate) fn output_indices(&self) -> Vec<u64> {
        let positions = self.runs.first().map_or(&[][..], |run| &run.positions);
        positions.iter().filter_map(|position| position.checked_sub(self.prompt_tokens)).collect()
    }
}

impl BatchMatrixLog {
    /// The distances: decode × prefill, within decode, within prefill; each per reference.
    ///
    /// A printed figure is the *largest* L2 over the positions kept; the log has no mean, so both fields of a cell
    /// hold it.
    #[must_use]
    pub(crate) fn distances(&self) -> Vec<Verification> {
        let mut matrix = BTreeMap::new();
        let mut within = [BTreeMap::new(), BTreeMap::new()];
        for reference in &self.references {
            let key = |phase, signal: &str, claimed, verified| CellKey {
                phase,
                signal: signal.to_owned(),
                reference: Some(reference.name.clone()),
                claimed,
                verified,
            };
            for (signal, printed) in [("key_vectors", &reference.keys), ("logprobs", &reference.logprobs)] {
                for (row, cells) in printed.cells.iter().enumerate() {
                    for (column, figure) in cells.iter().enumerate() {
                        matrix.insert(key(Phase::Prefill, signal, row, column), figure.largest());
                    }
                }
            }
            for (cells, (phase, pairs)) in within
                .iter_mut()
                .zip([(Phase::Decode, &reference.decode), (Phase::Prefill, &reference.prefill)])
            {
                for pair in pairs {
                    let index = |size| self.batch_sizes.iter().position(|&s| s == size).unwrap_or_default();
                    let (a, b) = (index(pair.a), index(pair.b));
                    cells.insert(key(phase, "key_vectors", a, b), pair.keys.largest());
                    cells.insert(key(phase, "logprobs", a, b), pair.logprobs.largest());
                }
            }
        }
        let [decode, prefill] = within;
        [(Relation::DecodePrefill, matrix), (Relation::WithinMode, decode), (Relation::WithinMode, prefill)]
            .into_iter()
            .map(|(relation, cells)| Verification {
                variable: "batch_size".to_owned(),
                values: self.batch_sizes.iter().map(ToString::to_string).collect(),
                generator: self.machine(),
                verifier: self.machine(),
                mismatches: Vec::new(),
                relation,
                cells,
            })
            .collect()
    }

    /// Generated ids by reference and batch size: the log replays prompt and output by prefill, so that both phases are
    /// over the outputs.
    pub(crate) fn outputs(&self) -> Vec<StatedTokens> {
        let references = self.references.iter().flat_map(|reference| {
            reference.runs.iter().map(|run| StatedTokens {
                reference: reference.name.clone(),
                value: run.batch_size.to_string(),
                ids: run.ids.clone(),
                text: String::new(),
                consumed_by: vec![Phase::Prefill, Phase::Decode],
                place: format!("line {}", run.line),
            })
        });
        references.collect()
    }

    fn machine(&self) -> Machine {
        Machine {
            gpu: self.environment.get("gpu_name").cloned().unwrap_or_default(),
            environment: self.environment.clone(),
        }
    }
}
