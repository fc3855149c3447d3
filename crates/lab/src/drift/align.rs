//! Which runs of two records are of the same tokens.

use mantissa_evidence::Record;

use super::fault::DriftFault;
use crate::error::LabError;

/// Two runs that begin with the same tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aligned {
    /// What the prompt is called.
    pub prompt: String,
    /// The run of each side.
    pub runs: [usize; 2],
    /// Tokens that both sequences begin with.
    pub tokens: usize,
}

/// A run's whole sequence.
fn sequence(record: &Record, run: usize) -> impl Iterator<Item = u32> + '_ {
    let stored = &record.shell().runs[run];
    stored.prompt_token_ids.iter().chain(&stored.output_token_ids).copied()
}

/// The first repetition of each prompt under one configuration.
fn first_runs(record: &Record, config: &str) -> Vec<usize> {
    let mut runs: Vec<usize> = Vec::new();
    for (place, run) in record.shell().runs.iter().enumerate() {
        let known =
            runs.iter().any(|other| record.shell().runs[*other].prompt_token_ids == run.prompt_token_ids);
        if run.config_id == config && !known {
            runs.push(place);
        }
    }
    runs
}

/// Runs of two configurations whose sequences begin with the same tokens: each of the first with the one of the second
/// that it shares most with, at least all of the shorter prompt but its last token. Also, how many runs have no
/// partner.
///
/// *Errors:* a run without ids of its prompt; nothing that fits.
pub(crate) fn aligned(records: [&Record; 2], configs: [&str; 2]) -> Result<(Vec<Aligned>, usize), LabError> {
    let [of_a, of_b] = [0, 1].map(|side| first_runs(records[side], configs[side]));
    for (record, runs) in records.iter().zip([&of_a, &of_b]) {
        if let Some(run) = runs.iter().find(|run| record.shell().runs[**run].prompt_token_ids.is_empty()) {
            return Err(
                DriftFault::WithoutIds { file: record.origin().display().to_string(), run: *run }.into()
            );
        }
    }
    let all = of_a.len() + of_b.len();
    let mut found = Vec::new();
    let mut free: Vec<usize> = of_b;
    for a in of_a {
        let shared = |b: usize| {
            sequence(records[0], a).zip(sequence(records[1], b)).take_while(|(x, y)| x == y).count()
        };
        let prompt = |side: usize, run: usize| records[side].shell().runs[run].prompt_token_ids.len();
        let best = (0..free.len()).rev().max_by_key(|place| shared(free[*place]));
        let Some(place) = best else { break };
        let (b, tokens) = (free[place], shared(free[place]));
        if tokens + 1 >= prompt(0, a).min(prompt(1, b)) && tokens > 0 {
            free.remove(place);
            let run = &records[0].shell().runs[a];
            found.push(Aligned { prompt: run.reference_id.to_string(), runs: [a, b], tokens });
        }
    }
    if found.is_empty() {
        let [a, b] = records.map(|record| record.origin().display().to_string());
        return Err(DriftFault::OtherTokens { a, b }.into());
    }
    let unmatched = all - 2 * found.len();
    Ok((found, unmatched))
}
