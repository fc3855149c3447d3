//! Traces of what an engine computes: a tap hashes tensors while a pass runs, and keeps none.
//!
//! What is fed and in which setup is a [`Recorder`]'s. Events are those of `mantissa_evidence::trace`, which also makes
//! them of evidence. Left out: where they are written.

mod spec;
mod tap;

use mantissa_evidence::UsedCatalog;
use mantissa_evidence::trace::{StageTrace, TraceHeader, TracedPrompt, prompt_id};
use mantissa_numerics::setup::Basis;
use mantissa_numerics::{Phase, Point, Setup, Site};

use crate::catalog_use;
use crate::error::LabError;
use crate::prompt::{Prompt, PromptSet};
use crate::record::{Event, Recorder, TOOL, computed};
use crate::session::{Kept, Session};
use crate::setup::of_engine;
use tap::TraceTap;

pub use spec::{Positions, TraceSpec};

/// A trace that is ready to run: everything is checked, and nothing is computed.
///
/// ```
/// use mantissa_engine::{Catalogs, Isa};
/// use mantissa_lab::document::Document;
/// use mantissa_lab::prompt::PromptSpec;
/// use mantissa_lab::trace::{TraceSpec, Tracing};
/// use mantissa_lab::{LabError, Machine, RecordSpec, Recorder, SignalSpec};
/// use mantissa_numerics::{Phase, Setup};
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint, Tokenizer};
/// # let folder = tempfile::tempdir()?;
/// # let model = folder.path().join("model");
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), &model, &|_| {})?;
/// # let (checkpoint, tokenizer) = (Checkpoint::open(&model)?, Tokenizer::open(&model)?);
/// # let spec = RecordSpec {
/// #     model: "tiny".to_owned(),
/// #     prompt: PromptSpec { document_tokens: 16, ..PromptSpec::default() },
/// #     cells: vec![Setup::default()],
/// #     decode_steps: 2,
/// #     repetitions: 1,
/// #     forced: None,
/// #     signals: SignalSpec::default(),
/// #     generation: mantissa_numerics::Generation::default(),
/// # };
/// # let documents = Document::built_in();
/// # let recorder = Recorder {
/// #     checkpoint: &checkpoint,
/// #     tokenizer: Some(&tokenizer),
/// #     documents: &documents,
/// #     spec: &spec,
/// #     catalogs: Catalogs::built_in(),
/// #     machine: Machine { threads: 1, isa: Isa::detect() },
/// # };
/// // A recorder of one setup with two decode steps.
/// let what = TraceSpec::default();
/// let tracing = Tracing::new(&recorder, &what, &|_| {})?;
/// assert_eq!(tracing.header().prompts.len(), 1);
/// let mut events = Vec::new();
/// tracing.run(false, &|_| {}, &mut |event, _| {
///     events.push(event);
///     Ok::<(), LabError>(())
/// })?;
/// let sites = what.sites(&checkpoint.config().graph())?.len();
/// assert_eq!(events.len(), 3 * sites, "one prefill, two steps");
/// assert!(events.iter().all(|event| event.positions.len() == 1 && event.token_ids.len() == 1));
/// assert_eq!(events.last().map(|event| (event.phase, event.step)), Some((Phase::Decode, 2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Tracing<'r> {
    recorder: &'r Recorder<'r>,
    what: &'r TraceSpec,
    cell: Setup,
    sites: Vec<Site>,
    prompts: PromptSet,
    header: TraceHeader,
    basis: Basis,
}

impl<'r> Tracing<'r> {
    /// Checks what is asked for; hashes the weights.
    ///
    /// *Errors:* those of a record; several setups; a site that the model does not have.
    pub fn new(
        recorder: &'r Recorder<'r>,
        what: &'r TraceSpec,
        progress: &dyn Fn(Event<'_>),
    ) -> Result<Self, LabError> {
        let spec = recorder.spec;
        spec.check(recorder.checkpoint)?;
        let [cell] = spec.cells[..] else { return Err(LabError::TraceSetups { setups: spec.cells.len() }) };
        let sites = what.sites(&recorder.checkpoint.config().graph())?;
        let prompts = recorder.prompts()?;
        recorder.check_size(&prompts)?;
        let reach = what.positions.reach();
        let short = prompts.references.iter().map(|prompt| prompt.ids.len()).find(|length| *length < reach);
        if let Some(tokens) = short {
            return Err(LabError::PromptShort { tokens, reach });
        }
        let mut catalogs: Vec<UsedCatalog> = Vec::new();
        let mut basis = Basis::Own;
        for coverage in recorder.coverage(&prompts) {
            if let Some(error) = coverage.refused {
                return Err(error.into());
            }
            basis = basis.max(coverage.found.basis);
            catalogs.extend(catalog_use::used(&coverage.found)?);
        }
        let weights_digest = recorder.weights_digest(progress)?;
        let configuration = recorder.configuration(&cell, weights_digest, catalogs);
        let Some(extras) = configuration.mantissa else { return Err(LabError::Nothing { what: "setup" }) };
        let prompt = |(reference, prompt): (u32, &Prompt)| {
            TracedPrompt::of_ids(&prompt_id(reference), prompt.ids.clone())
        };
        let header = TraceHeader {
            catalogs: extras.catalogs,
            prompts: (0..).zip(&prompts.references).map(prompt).collect(),
            ..TraceHeader::new(TOOL, extras.setup.model.clone())
        };
        let header = TraceHeader { setup: Some(extras.setup), ..header };
        Ok(Self { recorder, what, cell, sites, prompts, header, basis })
    }

    /// The header of the trace.
    #[must_use]
    pub const fn header(&self) -> &TraceHeader {
        &self.header
    }

    /// The weakest of what its recipes rest on.
    #[must_use]
    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// Runs the passes and gives every event to `each`, in the order of the format, with its values as stored if
    /// `keep`.
    ///
    /// *Errors:* the engine's; a prompt that is shorter than the positions; what `each` gives.
    pub fn run<E: From<LabError>>(
        &self,
        keep: bool,
        progress: &dyn Fn(Event<'_>),
        each: &mut dyn FnMut(StageTrace, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (recorder, spec) = (self.recorder, self.recorder.spec);
        let decodes = self.what.phases.contains(&Phase::Decode);
        let steps = if decodes { spec.decode_steps } else { 0 };
        let engine = recorder.engine(&of_engine(self.cell), &self.prompts)?;
        let fed = |batch: &[&Prompt]| batch.iter().map(|prompt| prompt.ids.len() + steps).sum::<usize>();
        let batch = |reference| {
            let batch = self.prompts.batch(reference, computed(&self.cell));
            batch.ok_or(LabError::Nothing { what: "prompt" })
        };
        let references = 0..self.prompts.references.len();
        let total =
            references.clone().map(|reference| Ok(fed(&batch(reference)?))).sum::<Result<_, LabError>>()?;
        let mut done = 0;
        for (reference, traced) in references.zip(&self.header.prompts) {
            let batch = batch(reference)?;
            let prompts: Vec<&[u32]> = batch.iter().map(|prompt| prompt.ids.as_slice()).collect();
            let session = Session {
                prompts: &prompts,
                batch_size: self.cell.batch_size,
                padding: self.cell.padding,
                steps,
                forced: spec.forced_on(reference),
                settings: &spec.generation,
                hardware: self.cell.hardware,
            };
            let mut tap = TraceTap::new(&self.sites, self.what, traced, keep, each);
            let kept = Kept { reach: self.reach(prompts[0].len()), top_k: 0, capture: &mut tap };
            session
                .run(&engine, Some(kept), &|now, _| progress(Event::Tokens { done: done + now, total }))?;
            tap.finish()?;
            done += fed(&batch);
        }
        Ok(())
    }

    /// Positions of a prompt whose logits are computed.
    fn reach(&self, length: usize) -> usize {
        let behind = |site: &Site| matches!(site.point, Point::FinalNorm | Point::Logits);
        match &self.what.positions {
            Positions::All if self.sites.iter().any(behind) => length,
            positions => positions.reach().max(1),
        }
    }
}
