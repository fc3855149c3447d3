//! What is to be recorded, and what that runs.

use std::collections::BTreeSet;
use std::path::Path;

use mantissa_engine::{Basis, Catalogs};
use mantissa_evidence::container;
use mantissa_model::{Checkpoint, Tokenizer};
use mantissa_numerics::Setup;

use crate::catalog_use::{self, Coverage};
use crate::coverage::PlannedRun;
use crate::declared;
use crate::document::Document;
use crate::error::LabError;
use crate::prompt::{Prompt, PromptFault, PromptSet, PromptSpec, taken};
use crate::setup::{Machine, RecordSpec};

use super::folder::repetition_folder;

/// A model and what it is to be fed.
///
/// ```
/// use mantissa_engine::{Catalogs, Isa};
/// use mantissa_lab::document::Document;
/// use mantissa_lab::prompt::PromptSpec;
/// use mantissa_lab::{Event, Machine, RecordSpec, Recorder, SignalSpec};
/// use mantissa_numerics::Setup;
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint, Tokenizer};
/// # let folder = tempfile::tempdir()?;
/// # let model = folder.path().join("model");
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), &model, &|_| {})?;
/// # let (checkpoint, tokenizer) = (Checkpoint::open(&model)?, Tokenizer::open(&model)?);
/// let spec = RecordSpec {
///     model: "tiny".to_owned(),
///     prompt: PromptSpec { document_tokens: 16, ..PromptSpec::default() },
///     cells: vec![Setup::default()],
///     decode_steps: 2,
///     repetitions: 2,
///     forced: None,
///     signals: SignalSpec::default(),
///     generation: mantissa_numerics::Generation::default(),
/// };
/// let documents = Document::built_in();
/// let recorder = Recorder {
///     checkpoint: &checkpoint,
///     tokenizer: Some(&tokenizer),
///     documents: &documents,
///     spec: &spec,
///     catalogs: Catalogs::built_in(),
///     machine: Machine { threads: 1, isa: Isa::detect() },
/// };
/// let out = folder.path().join("record");
/// let fresh = |event: Event<'_>| assert!(!matches!(event, Event::Repetition { resumed: true, .. }));
/// let recorded = recorder.record(&out, &fresh)?;
/// assert!(recorded.reproducible());
/// assert_eq!(recorded.experiment.runs.len(), 1, "they agreed to the bit, so one is stored");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Recorder<'r> {
    /// The model.
    pub checkpoint: &'r Checkpoint,
    /// Its tokenizer; without one, prompts are given as ids, and evidence has no texts.
    pub tokenizer: Option<&'r Tokenizer>,
    /// Documents to cut prompts from.
    pub documents: &'r [Document],
    /// What to record.
    pub spec: &'r RecordSpec,
    /// What is known of libraries' choices.
    pub catalogs: &'r Catalogs,
    /// Where to run.
    pub machine: Machine,
}

impl Recorder<'_> {
    /// What [`Self::record`] would run, to be counted by [`crate::coverage::Tally`]: each kind of run of each cell
    /// once. Nothing is run or written.
    ///
    /// *Errors:* an unusable specification, documents that are too short.
    pub fn planned(&self) -> Result<Vec<PlannedRun>, LabError> {
        self.spec.check(self.checkpoint)?;
        let prompts = self.prompts()?;
        let of = |setup: &Setup| {
            let setup = *setup;
            self.runs(&prompts).map(move |[prompt, steps]| PlannedRun { model: 0, setup, prompt, steps })
        };
        Ok(self.spec.cells.iter().flat_map(of).collect())
    }

    pub(crate) fn prompts(&self) -> Result<PromptSet, LabError> {
        let largest = self.spec.cells.iter().map(computed).max().unwrap_or(1);
        let spec = PromptSpec { neighbours: largest - 1, ..self.spec.prompt.clone() };
        let prompts = match &spec.given {
            Some(given) => taken::set(given, spec.neighbours, &self.tokenizer)?,
            None => PromptSet::cut(self.documents, &spec, &self.tokenizer)?,
        };
        self.check_rows(&prompts)?;
        let (lists, references) = (self.spec.forced.as_ref().map_or(1, Vec::len), prompts.references.len());
        if lists != 1 && lists != references {
            return Err(PromptFault::ForcedLists { lists, references }.into());
        }
        Ok(prompts)
    }

    /// Refuses tokens that the embedding has no row for.
    fn check_rows(&self, prompts: &PromptSet) -> Result<(), LabError> {
        let rows = self.checkpoint.config().vocab_size;
        for prompt in prompts.references.iter().chain(prompts.neighbours.iter().flatten()) {
            if let Some(position) = prompt.ids.iter().position(|id| *id as usize >= rows) {
                let token = prompt.ids[position];
                let prompt = prompt.source.document.clone();
                let known = self.tokenizer.and_then(|one| Some((one.token_text(token)?, one.vocab_size())));
                let Some((text, tokens)) = known else {
                    return Err(PromptFault::TokenUnknown { prompt, token, position, rows }.into());
                };
                return Err(PromptFault::TokenWithoutRow {
                    prompt,
                    token,
                    text: text.escape_debug().collect(),
                    position,
                    tokens,
                    rows,
                }
                .into());
            }
        }
        Ok(())
    }

    /// What the runs of each cell rest on.
    pub(crate) fn coverage(&self, prompts: &PromptSet) -> Vec<Coverage> {
        let graph = self.checkpoint.config().graph();
        let of = |cell| catalog_use::of_runs(cell, self.catalogs, &graph, self.runs(prompts));
        self.spec.cells.iter().map(of).collect()
    }

    /// Tokens that a repetition feeds.
    pub(super) fn tokens(&self, batch: &[&Prompt]) -> usize {
        batch.iter().map(|prompt| prompt.ids.len() + self.spec.decode_steps).sum()
    }

    /// Tokens of the repetitions that `out` does not hold.
    pub(super) fn tokens_left(&self, prompts: &PromptSet, out: &Path) -> usize {
        let mut tokens = 0;
        for cell in &self.spec.cells {
            let id = declared::config_id(cell, self.checkpoint);
            for reference in 0..prompts.references.len() {
                let batch = prompts.batch(reference, computed(cell)).unwrap_or_default();
                let missing =
                    |rep: &usize| !container::is_complete(&repetition_folder(out, &id, reference, *rep));
                tokens += (0..self.spec.repetitions).filter(missing).count() * self.tokens(&batch);
            }
        }
        tokens
    }

    /// Tokens of the prompt and decode steps of every kind of run.
    fn runs(&self, prompts: &PromptSet) -> impl Iterator<Item = [usize; 2]> + use<> {
        let lengths: BTreeSet<usize> = prompts.references.iter().map(|prompt| prompt.ids.len()).collect();
        let steps = self.spec.decode_steps;
        lengths.into_iter().map(move |length| [length, steps])
    }
}

/// Sequences of a batch that are computed: all of them, or, where hardware is predicted, the measured one alone.
///
/// Rows mix only in attention over their own sequence, and an expert's product does not depend on which rows it gets:
/// the whole-model comparisons ran other rows beside (docs/coverage.md).
pub(crate) fn computed(setup: &Setup) -> usize {
    if setup.hardware.basis() == Basis::Own { setup.batch_size } else { 1 }
}
