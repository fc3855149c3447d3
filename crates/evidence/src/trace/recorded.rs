//! Events of what evidence recorded: every row of every site, at the pass that computed it.

use mantissa_numerics::{Phase, Site};

use super::event::StageTrace;
use super::header::{TraceHeader, TracedPrompt};
use super::tensor::TensorTrace;
use crate::error::{Flaw, Result};
use crate::experiment::ModelIdentity;
use crate::record::{Record, RowKey};
use crate::run::Run;

/// Runs of one configuration of a record, as a trace.
///
/// ```
/// use mantissa_evidence::Record;
/// use mantissa_evidence::trace::RecordedTrace;
///
/// let record = Record::open("../../fixtures/evidence/v1/container".as_ref())?;
/// let config_id = record.shell().configurations[0].config_id.clone();
/// let trace = RecordedTrace::new(&record, &config_id, None)?;
/// assert_eq!(trace.header("mantissa 0.1.0").prompts.len(), 1);
/// let mut positions = Vec::new();
/// trace.events(false, &mut |event, _| {
///     positions.extend(event.positions);
///     Ok::<(), mantissa_evidence::EvidenceError>(())
/// })?;
/// let prompt = trace.header("mantissa 0.1.0").prompts[0].token_ids.len() as u64;
/// assert_eq!(positions.iter().max(), Some(&(prompt + 1)), "two decode steps");
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug)]
pub struct RecordedTrace<'r> {
    record: &'r Record,
    config_id: &'r str,
    /// One run of each reference, ascending.
    runs: Vec<usize>,
}

impl<'r> RecordedTrace<'r> {
    /// The runs of a configuration: repetition `rep` of each reference, else the first that is stored.
    ///
    /// *Errors:* no such run; a run without prompt ids, whose positions cannot be counted.
    pub fn new(record: &'r Record, config_id: &str, rep: Option<u32>) -> Result<Self> {
        let shell = record.shell();
        let mut runs: Vec<usize> = Vec::new();
        let wanted = |run: &Run| run.config_id == config_id && rep.is_none_or(|rep| run.rep_id == rep);
        let stored = shell.runs.iter().enumerate().filter(|(_, run)| wanted(run));
        let mut stored: Vec<_> = stored.map(|(index, run)| (run.reference_id, run.rep_id, index)).collect();
        stored.sort_unstable();
        for (reference, _, index) in stored {
            if runs.last().is_none_or(|last| shell.runs[*last].reference_id != reference) {
                runs.push(index);
            }
        }
        let fault = |flaw: Flaw| flaw.in_file(record.origin());
        let Some(first) = runs.first() else {
            let rep = rep.map_or_else(String::new, |rep| format!(" and repetition {rep}"));
            let problem = format!("none is of configuration '{config_id}'{rep}");
            let flaw = Flaw::new("runs", problem, "`mantissa inspect` lists the runs");
            return Err(fault(flaw));
        };
        let config_id = shell.runs[*first].config_id.as_str();
        if let Some(index) = runs.iter().find(|run| shell.runs[**run].prompt_token_ids.is_empty()) {
            let place = format!("runs[{index}].prompt_token_ids");
            let problem = "the ids of the prompt are not stated, so positions cannot be counted";
            return Err(fault(Flaw::new(place, problem, "give evidence that states them")));
        }
        Ok(Self { record, config_id, runs })
    }

    /// The header of the trace.
    #[must_use]
    pub fn header(&self, program: &str) -> TraceHeader {
        let shell = self.record.shell();
        let configuration = shell.configurations.iter().find(|one| one.config_id == self.config_id);
        let extras = configuration.and_then(|configuration| configuration.mantissa.as_ref());
        let setup = extras.map(|extras| extras.setup.clone());
        let named = || ModelIdentity { id: shell.metadata.model.clone(), weights_digest: None };
        let model = setup.as_ref().map_or_else(named, |setup| setup.model.clone());
        let prompt = |run: &usize| {
            let run = &shell.runs[*run];
            TracedPrompt::of_ids(&prompt_id(run.reference_id), run.prompt_token_ids.clone())
        };
        TraceHeader {
            setup,
            catalogs: extras.map(|extras| extras.catalogs.clone()).unwrap_or_default(),
            prompts: self.runs.iter().map(prompt).collect(),
            ..TraceHeader::new(program, model)
        }
    }

    /// Gives every event to `each`, in the order of the format, with its values as stored if `keep`.
    ///
    /// A row that several passes stored is one row of the pass that computed it.
    ///
    /// *Errors:* a row that cannot be read; what `each` gives.
    pub fn events<E: From<crate::EvidenceError>>(
        &self,
        keep: bool,
        each: &mut dyn FnMut(StageTrace, Vec<u8>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        for run in &self.runs {
            let sites = self.sites(*run);
            for step in self.steps(*run) {
                for site in &sites {
                    if let Some(tensor) = self.tensor(*run, step, *site, keep)? {
                        let (event, values) = tensor.finish_with_values();
                        each(event, values)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Passes of which a run may hold rows.
    fn steps(&self, run: usize) -> std::ops::Range<u64> {
        0..self.record.layout(run, Phase::Decode).map_or(1, |layout| layout.steps.end + 1)
    }

    fn sites(&self, run: usize) -> Vec<Site> {
        let layouts = [Phase::Prefill, Phase::Decode].map(|phase| self.record.layout(run, phase));
        let mut sites: Vec<Site> =
            layouts.into_iter().flatten().flat_map(|layout| layout.tensors.keys().copied()).collect();
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    fn tensor(&self, run: usize, step: u64, site: Site, keep: bool) -> Result<Option<TensorTrace>> {
        let stored = &self.record.shell().runs[run];
        let length = stored.prompt_token_ids.len() as u64;
        // Tokens are counted from the end of the prompt, as RowKey does.
        let tokens = match step.checked_sub(1) {
            None => -i64::try_from(length).unwrap_or(i64::MAX)..0,
            Some(step) => {
                let token = i64::try_from(step).unwrap_or(i64::MAX - 1);
                token..token + 1
            }
        };
        let mut tensor: Option<TensorTrace> = None;
        let mut scratch = Vec::new();
        for (token, key) in self.stored(run, site, tokens) {
            let position = length.saturating_add_signed(token);
            let fed = match usize::try_from(token) {
                Ok(token) => stored.output_token_ids.get(token),
                Err(_) => usize::try_from(position).ok().and_then(|at| stored.prompt_token_ids.get(at)),
            };
            let dtype = self.record.layout(run, key.phase).and_then(|layout| layout.tensors.get(&site));
            let row = self.record.row(run, site, key, &mut scratch)?;
            let Some((dtype, row)) = dtype.map(|layout| layout.dtype).zip(row) else { continue };
            let seq_len = if step == 0 { length } else { 1 };
            let begin =
                || TensorTrace::new(&prompt_id(stored.reference_id), step, seq_len, site, dtype).keep(keep);
            tensor.get_or_insert_with(begin).push_stored(&[(position, fed.copied())], row);
        }
        Ok(tensor)
    }

    /// Where the first pass that stored it has each of some tokens, ascending.
    fn stored(&self, run: usize, site: Site, tokens: std::ops::Range<i64>) -> Vec<(i64, RowKey)> {
        let mut found = std::collections::BTreeMap::new();
        for phase in [Phase::Prefill, Phase::Decode] {
            let layout = self.record.layout(run, phase).filter(|layout| layout.tensors.contains_key(&site));
            let Some(layout) = layout else { continue };
            // The newest position comes first: it is the earliest pass.
            for position in layout.positions.iter().rev() {
                let mut note = |step| {
                    let key = RowKey { phase, step, position: *position };
                    if tokens.contains(&key.token()) {
                        found.entry(key.token()).or_insert(key);
                    }
                };
                if phase == Phase::Prefill {
                    layout.steps.clone().for_each(&mut note);
                    continue;
                }
                // A token of `tokens` stands at this position in these steps.
                let first = tokens.start.saturating_sub(i64::from(*position) + 1).max(0).unsigned_abs();
                let last = tokens.end.saturating_sub(i64::from(*position) + 1).max(0).unsigned_abs();
                (first.max(layout.steps.start)..last.min(layout.steps.end)).for_each(note);
            }
        }
        found.into_iter().collect()
    }
}

/// What a trace calls the prompt of a reference.
///
/// ```
/// assert_eq!(mantissa_evidence::trace::prompt_id(3), "p3");
/// ```
#[must_use]
pub fn prompt_id(reference_id: u32) -> String {
    format!("p{reference_id}")
}
