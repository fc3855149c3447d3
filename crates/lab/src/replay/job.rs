//! A class of a run while it is walked.
//!
//! Left out: which passes it shares with others (`walk`).

use mantissa_compare::ReplayFacts;
use mantissa_compare::replayed::TokenDifference;
use mantissa_numerics::Generation;

use super::plan::{RunPlan, Step};

/// A class of a run under way.
pub(super) struct Job {
    pub run: usize,
    pub class: usize,
    pub steps: Vec<Step>,
    pub facts: ReplayFacts,
    /// Places in [`RunPlan::readings`] of those that gave every token so far.
    pub readings: Vec<usize>,
}

impl Job {
    /// Sets an output token against the choice under each reading that gave all before it; when the last of them does
    /// not give it, that is a difference.
    pub(super) fn settle(
        &mut self,
        run: &RunPlan,
        claimed: u32,
        pass: usize,
        under: &dyn Fn(&Generation) -> Result<(), u32>,
    ) {
        fn without(run: &RunPlan, reading: usize) -> bool {
            run.readings.len() > 1 && run.readings[reading].is_plain()
        }
        let mut last = None;
        let facts = &mut self.facts;
        self.readings.retain(|reading| {
            let Err(replay) = under(&run.readings[*reading]) else { return true };
            let difference = TokenDifference { index: pass as u64, evidence: claimed, replay };
            if without(run, *reading) {
                facts.first_token_without_settings = Some(difference);
            }
            last = Some(difference);
            false
        });
        if self.readings.is_empty() && facts.first_token.is_none() {
            facts.first_token = last;
        }
    }
}

/// Tokens that jobs which have shared all passes before `from` still have to feed.
pub(super) fn tokens(jobs: &[Job], from: usize) -> u64 {
    let mut steps: Vec<&[Step]> = jobs.iter().map(|job| &job.steps[from.min(job.steps.len())..]).collect();
    steps.sort_unstable();
    let mut tokens = 0;
    for (i, path) in steps.iter().enumerate() {
        let shared =
            i.checked_sub(1).map_or(0, |b| steps[b].iter().zip(*path).take_while(|(a, b)| a == b).count());
        for (pass, Step { fed, .. }) in path.iter().enumerate().skip(shared) {
            tokens += if from + pass == 0 { *fed as u64 } else { 1 };
        }
    }
    tokens
}
