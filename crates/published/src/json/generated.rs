//! Generated texts of which the log-probability of each token is kept, as runs of an experiment.

use std::collections::BTreeMap;

use mantissa_evidence::error::Flaw;
use mantissa_evidence::{PhaseSignals, Run};

use super::check::{self, RESTORE};
use super::numbers::Candidates;
use super::signals;

/// One repetition.
pub(crate) struct Generated<'a> {
    pub(crate) config_id: &'a str,
    pub(crate) rep_id: u32,
    pub(crate) prompt_text: &'a str,
    /// What names the prompt where its text is not stated.
    pub(crate) prompt_label: Option<String>,
    pub(crate) tokens: &'a [u32],
    /// Candidates of each token, in the order they were generated.
    pub(crate) lists: Vec<Candidates>,
}

impl Generated<'_> {
    /// The run: the first list was computed at the last position of the prompt, each later one by the step that consumed
    /// the token before it. Also tells how many candidates were dropped.
    pub(crate) fn run(&self) -> std::result::Result<(Run, usize), Flaw> {
        if self.tokens.len() != self.lists.len() {
            let problem = format!("{} tokens and {} log-probabilities", self.tokens.len(), self.lists.len());
            return Err(Flaw::new("token_sequences", problem, RESTORE));
        }
        for (token, list) in self.lists.iter().enumerate() {
            check::candidates(list, &format!("token {token}"))?;
        }
        let lists: Vec<&Candidates> = self.lists.iter().collect();
        let (first, later) = lists.split_at(lists.len().min(1));
        let (prefill, dropped) = phase(first);
        let (decode, also_dropped) = phase(later);
        let run = Run {
            config_id: self.config_id.to_owned(),
            rep_id: self.rep_id,
            reference_id: 0,
            timestamp: None,
            runtime_seconds: None,
            prompt_text: self.prompt_text.to_owned(),
            prompt_label: self.prompt_label.clone(),
            prompt_token_ids: Vec::new(),
            output_token_ids: self.tokens.to_vec(),
            output_token_texts: Vec::new(),
            neighbours: Vec::new(),
            prompt_source: None,
            prefill,
            decode,
        };
        Ok((run, dropped + also_dropped))
    }
}

/// Steps of one position each, from step 0.
fn phase(lists: &[&Candidates]) -> (Option<PhaseSignals>, usize) {
    let (logprobs, dropped) = signals::logprobs(lists.len(), 1, lists);
    let steps = lists.len();
    let signals =
        PhaseSignals { first_step: 0, steps, positions: vec![-1], tensors: BTreeMap::new(), logprobs };
    ((steps > 0).then_some(signals), dropped)
}

/// The only candidate of a position: the token that was emitted.
pub(crate) fn emitted(token: u32, log_prob: Option<f64>) -> Candidates {
    Candidates { token_ids: vec![token], log_probs: vec![log_prob.unwrap_or(f64::NEG_INFINITY)] }
}
