//! Whether repetitions of one configuration agree to the bit, and where they first do not.
//!
//! Full facts about two records (distances, ULPs, alignment) belong to the compare crate.

use std::collections::BTreeMap;

use mantissa_numerics::{Phase, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::run::{Logprobs, PhaseSignals, Run, SignalTensor};

/// What is known about the repetitions of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reproducibility {
    /// Repetitions made per reference prompt.
    pub repetitions: u32,
    /// Whether they agreed.
    pub outcome: Outcome,
    /// Digests of every repetition that was made, also of those that are not stored.
    pub digests: Vec<RepetitionDigest>,
}

/// Whether repetitions agreed.
///
/// Example: [`Reproducibility::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Tokens and every signal of all repetitions have the same bits; only the last repetition need be stored.
    Identical,
    /// Two repetitions differ; all are stored.
    Divergent {
        /// Reference prompt of the first divergent pair.
        reference_id: u32,
        /// Its repetitions.
        repetitions: [u32; 2],
        /// Where they first differ.
        first: FirstDifference,
    },
    /// There was only one repetition, or nobody compared them.
    NotChecked,
}

/// Digests of one repetition.
///
/// Example: [`Reproducibility::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepetitionDigest {
    /// Reference prompt.
    pub reference_id: u32,
    /// Repetition.
    pub rep_id: u32,
    /// Of the output ids.
    pub output_ids: Digest,
    /// Of the signals.
    pub signals: Digest,
}

/// The first place, in the order of computation, where two runs have different bits.
///
/// Example: [`first_difference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum FirstDifference {
    /// The runs were fed different prompts (or different neighbours), so nothing after can be compared.
    Prompt,
    /// Signals were recorded in one run and not in the other, or with another shape or format.
    Layout {
        /// The phase.
        phase: Phase,
    },
    /// The output tokens part here.
    Token {
        /// Index into the output ids.
        index: u64,
    },
    /// The output tokens of a neighbour part here: what shared the batch was not the same.
    NeighbourToken {
        /// Row of the batch, counted from 0, where the reference is row 0.
        sequence: u64,
        /// Index into its output ids.
        index: u64,
    },
    /// A value differs.
    Signal {
        /// The phase.
        phase: Phase,
        /// Forward pass.
        step: u64,
        /// Position relative to the end.
        position: i32,
        /// Site.
        #[schemars(with = "String")]
        site: Site,
        /// Element of the row.
        element: u64,
    },
    /// A log-probability or the id of a candidate differs.
    Logprobs {
        /// The phase.
        phase: Phase,
        /// Forward pass.
        step: u64,
        /// Position relative to the end.
        position: i32,
        /// Candidate in the recorder's order.
        candidate: u64,
    },
}

impl Reproducibility {
    /// Compares all repetitions of one configuration: within each reference prompt, each with the first.
    ///
    /// ```
    /// use mantissa_evidence::{FirstDifference, Outcome, Reproducibility};
    /// use mantissa_numerics::Phase;
    ///
    /// let runs = mantissa_evidence::read("../../fixtures/evidence/v1/experiment.json".as_ref())?.runs;
    /// let found = Reproducibility::check(&runs);
    /// assert_eq!((found.repetitions, found.digests[0].signals), (3, runs[0].signals_digest()));
    /// // The second repetition was recorded in another format.
    /// let first = FirstDifference::Layout { phase: Phase::Prefill };
    /// assert_eq!(found.outcome, Outcome::Divergent { reference_id: 0, repetitions: [0, 1], first });
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    #[must_use]
    pub fn check(runs: &[Run]) -> Self {
        let mut references: BTreeMap<u32, Vec<&Run>> = BTreeMap::new();
        for run in runs {
            references.entry(run.reference_id).or_default().push(run);
        }
        let repetitions = references.values().map(Vec::len).max().unwrap_or(0);
        let checked = !references.is_empty() && references.values().all(|reps| reps.len() > 1);
        let divergent = references.iter().find_map(|(&reference_id, reps)| {
            reps.iter().skip(1).find_map(|run| {
                let first = first_difference(reps[0], run)?;
                Some(Outcome::Divergent { reference_id, repetitions: [reps[0].rep_id, run.rep_id], first })
            })
        });
        let outcome = divergent.unwrap_or(if checked { Outcome::Identical } else { Outcome::NotChecked });
        let digests = references.values().flatten().map(|run| RepetitionDigest {
            reference_id: run.reference_id,
            rep_id: run.rep_id,
            output_ids: Digest::of_ids(&run.output_token_ids),
            signals: run.signals_digest(),
        });
        Self {
            repetitions: u32::try_from(repetitions).unwrap_or(u32::MAX),
            outcome,
            digests: digests.collect(),
        }
    }
}

/// Where `a` and `b` first have different bits, in the order they were computed: prompt, prefill, then for each
/// decode step the token it consumes and its signals, sites in the order of data flow, log-probabilities last.
///
/// `None` means that tokens, neighbours and every recorded signal have the same bits.
///
/// ```
/// use mantissa_evidence::{FirstDifference, first_difference};
///
/// let run = mantissa_evidence::read("../../fixtures/evidence/v1/experiment.json".as_ref())?.runs.remove(0);
/// let mut other = run.clone();
/// assert_eq!(first_difference(&run, &other), None);
/// other.output_token_ids[1] += 1;
/// assert_eq!(first_difference(&run, &other), Some(FirstDifference::Token { index: 1 }));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[must_use]
pub fn first_difference(a: &Run, b: &Run) -> Option<FirstDifference> {
    if a.prompt_token_ids != b.prompt_token_ids
        || a.neighbours.len() != b.neighbours.len()
        || a.neighbours.iter().zip(&b.neighbours).any(|(x, y)| x.prompt_token_ids != y.prompt_token_ids)
    {
        return Some(FirstDifference::Prompt);
    }
    if let Some(difference) = step_difference(Phase::Prefill, a.prefill.as_ref(), b.prefill.as_ref(), 0) {
        return Some(difference);
    }
    let recorded = |run: &Run| {
        let signals = run.decode.as_ref();
        let first = signals.map_or(0, |s| usize::try_from(s.first_step).unwrap_or(usize::MAX));
        first..first.saturating_add(signals.map_or(0, |s| s.steps))
    };
    let (in_a, in_b) = (recorded(a), recorded(b));
    let steps = in_a.start.min(in_b.start)..in_a.end.max(in_b.end);
    let tokens = a.output_token_ids.len().max(b.output_token_ids.len());
    for step in 0..steps.end.max(tokens) {
        if a.output_token_ids.get(step) != b.output_token_ids.get(step) {
            return Some(FirstDifference::Token { index: step as u64 });
        }
        let outputs = |run: &Run, i: usize| run.neighbours[i].output_token_ids.get(step).copied();
        if let Some(i) = (0..a.neighbours.len()).find(|i| outputs(a, *i) != outputs(b, *i)) {
            return Some(FirstDifference::NeighbourToken { sequence: i as u64 + 1, index: step as u64 });
        }
        if steps.contains(&step)
            && let Some(difference) =
                step_difference(Phase::Decode, a.decode.as_ref(), b.decode.as_ref(), step)
        {
            return Some(difference);
        }
    }
    (!same_layout(a.decode.as_ref(), b.decode.as_ref()))
        .then_some(FirstDifference::Layout { phase: Phase::Decode })
}

/// Same steps, positions, sites, formats, shapes and candidates.
fn same_layout(a: Option<&PhaseSignals>, b: Option<&PhaseSignals>) -> bool {
    let tensor = |t: &SignalTensor| (t.dtype, t.shape, t.data.len());
    let logprobs = |l: &Logprobs| (l.steps, l.positions, l.k, l.token_ids.len(), l.log_probs.len());
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            (a.first_step, a.steps, &a.positions) == (b.first_step, b.steps, &b.positions)
                && a.tensors
                    .iter()
                    .map(|(s, t)| (s, tensor(t)))
                    .eq(b.tensors.iter().map(|(s, t)| (s, tensor(t))))
                && a.logprobs.as_ref().map(logprobs) == b.logprobs.as_ref().map(logprobs)
        }
        _ => false,
    }
}

fn step_difference(
    phase: Phase,
    a: Option<&PhaseSignals>,
    b: Option<&PhaseSignals>,
    step: usize,
) -> Option<FirstDifference> {
    if !same_layout(a, b) {
        return Some(FirstDifference::Layout { phase });
    }
    let (a, b) = (a?, b?);
    let row = step.checked_sub(usize::try_from(a.first_step).ok()?)?;
    for ((site, ta), tb) in a.tensors.iter().zip(b.tensors.values()) {
        for (index, &position) in a.positions.iter().enumerate() {
            let (ra, rb) = (ta.row(row, index)?, tb.row(row, index)?);
            if let Some(byte) = ra.iter().zip(rb).position(|(x, y)| x != y) {
                let element = (byte / ta.dtype.size()) as u64;
                return Some(FirstDifference::Signal {
                    phase,
                    step: step as u64,
                    position,
                    site: *site,
                    element,
                });
            }
        }
    }
    let (la, lb) = (a.logprobs.as_ref()?, b.logprobs.as_ref()?);
    let width = la.positions * la.k;
    let rows = row * width..(row + 1) * width;
    let candidate = rows.into_iter().find(|&i| {
        la.token_ids.get(i) != lb.token_ids.get(i)
            || la.log_probs.get(i).map(|x| x.to_bits()) != lb.log_probs.get(i).map(|x| x.to_bits())
    })? % width;
    let position = a.positions[candidate / la.k];
    Some(FirstDifference::Logprobs {
        phase,
        step: step as u64,
        position,
        candidate: (candidate % la.k) as u64,
    })
}
