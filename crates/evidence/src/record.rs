//! A record whose signals stay where they are until a row of them is asked for.
//!
//! Comparing needs one row of each run at a time, so a record may be larger than memory. Everything else about
//! a run (ids, texts, neighbours) is in the [`shell`](Record::shell).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use mantissa_numerics::{Dtype, Phase, Site};

use crate::error::Result;
use crate::experiment::Experiment;

/// An experiment with its signals out of reach until asked for.
#[derive(Debug)]
pub struct Record {
    origin: PathBuf,
    shell: Experiment,
    layouts: Vec<[Option<PhaseLayout>; 2]>,
    store: Store,
}

#[derive(Debug)]
enum Store {
    Memory(Experiment),
}

/// What a run recorded in one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseLayout {
    /// The forward passes recorded.
    pub steps: Range<u64>,
    /// Positions relative to the end of the sequence at each step, ascending.
    pub positions: Vec<i32>,
    /// Format and width of every site.
    pub tensors: BTreeMap<Site, TensorLayout>,
    /// Candidates per position, where log-probabilities were recorded.
    pub top_k: Option<usize>,
}

/// Format and width of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorLayout {
    /// Storage format.
    pub dtype: Dtype,
    /// Values of a row.
    pub dim: usize,
}

/// Where a row stands in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The phase.
    pub phase: Phase,
    /// Forward pass.
    pub step: u64,
    /// Position relative to the end.
    pub position: i32,
}

/// Candidates of one position, in the recorder's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidates {
    /// Their ids.
    pub token_ids: Vec<u32>,
    /// Natural logarithms of their probabilities.
    pub log_probs: Vec<f32>,
}

impl Record {
    /// A record in memory; `origin` names it in errors.
    #[must_use]
    pub fn from_experiment(experiment: Experiment, origin: &Path) -> Self {
        let layouts = experiment.runs.iter().map(|run| {
            [Phase::Prefill, Phase::Decode].map(|phase| {
                run.phase(phase).map(|signals| PhaseLayout {
                    steps: signals.first_step..signals.first_step.saturating_add(signals.steps as u64),
                    positions: signals.positions.clone(),
                    tensors: signals
                        .tensors
                        .iter()
                        .map(|(&site, tensor)| {
                            (site, TensorLayout { dtype: tensor.dtype, dim: tensor.shape[2] })
                        })
                        .collect(),
                    top_k: signals.logprobs.as_ref().map(|logprobs| logprobs.k),
                })
            })
        });
        let layouts = layouts.collect();
        let mut shell = experiment.clone();
        for run in &mut shell.runs {
            run.prefill = None;
            run.decode = None;
        }
        Self { origin: origin.to_owned(), shell, layouts, store: Store::Memory(experiment) }
    }

    /// Where it was read from.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Metadata, configurations and runs without their signals.
    #[must_use]
    pub const fn shell(&self) -> &Experiment {
        &self.shell
    }

    /// What run `run` recorded in `phase`; `None` when nothing.
    #[must_use]
    pub fn layout(&self, run: usize, phase: Phase) -> Option<&PhaseLayout> {
        let index = match phase {
            Phase::Prefill => 0,
            Phase::Decode => 1,
        };
        self.layouts.get(run)?[index].as_ref()
    }

    /// A row as little-endian values of its storage format; `None` when the run has no such row.
    ///
    /// `scratch` may be used to hold it.
    pub fn row<'a>(
        &'a self,
        run: usize,
        site: Site,
        key: RowKey,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>> {
        scratch.clear();
        let Store::Memory(experiment) = &self.store;
        Ok((|| {
            let layout = self.layout(run, key.phase)?;
            let tensor = experiment.runs.get(run)?.phase(key.phase)?.tensors.get(&site)?;
            let position = layout.positions.iter().position(|&position| position == key.position)?;
            tensor.row(usize::try_from(key.step.checked_sub(layout.steps.start)?).ok()?, position)
        })())
    }

    /// Candidates at one position; `None` when the run has none there.
    pub fn candidates(&self, run: usize, key: RowKey) -> Result<Option<Candidates>> {
        let Store::Memory(experiment) = &self.store;
        Ok((|| {
            let layout = self.layout(run, key.phase)?;
            let logprobs = experiment.runs.get(run)?.phase(key.phase)?.logprobs.as_ref()?;
            let position = layout.positions.iter().position(|&position| position == key.position)?;
            let step = usize::try_from(key.step.checked_sub(layout.steps.start)?).ok()?;
            let start = (step * logprobs.positions + position) * logprobs.k;
            let range = start..start + logprobs.k;
            Some(Candidates {
                token_ids: logprobs.token_ids.get(range.clone())?.to_vec(),
                log_probs: logprobs.log_probs.get(range)?.to_vec(),
            })
        })())
    }
}
