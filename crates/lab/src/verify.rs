//! Verification: evidence and a model in, an [`Audit`] out.
//!
//! Evidence → claims → candidates → a plan of classes → replays → an audit. Left out: how a pass is replayed
//! ([`crate::replay`]), how facts are judged (`mantissa-verdict`), flags and printing (`mantissa-cli`).

mod beside;
mod case;
mod catalogs;
mod contested;
mod elsewhere;
mod grid;
mod replayed;
mod request;
mod self_test;
mod spot;
mod state;
mod unreplayed;
pub(crate) mod weights;

use mantissa_evidence::Record;
use mantissa_published::{Content, Opened};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::Source;

use crate::coverage::PlannedRun;
use crate::error::LabError;

pub use grid::{Assignment, Varied, claimed};
pub use request::{Elsewhere, Event, Method, Model, Request};

use unreplayed::ReplayObstacle;

/// Verifies what `request` names; `progress` is told how far it is.
///
/// *Errors:* a model of other weights than the evidence states, a state file of another question, more candidates than
/// anybody means, and those of the engine, the model, the evidence and the judgement.
///
/// ```
/// use mantissa_lab::verify::{Event, Model, Request, verify};
/// use mantissa_numerics::Setup;
/// use mantissa_verdict::audit::ClaimAnswer;
/// # use mantissa_engine::{Catalogs, Isa};
/// # use mantissa_lab::document::Document;
/// # use mantissa_lab::prompt::PromptSpec;
/// # use mantissa_lab::{Machine, RecordSpec, Recorder, SignalSpec};
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
/// # let machine = Machine { threads: 1, isa: Isa::detect() };
/// # let (documents, catalogs) = (Document::built_in(), Catalogs::built_in());
/// # let recorder = Recorder {
/// #     checkpoint: &checkpoint,
/// #     tokenizer: Some(&tokenizer),
/// #     documents: &documents,
/// #     spec: &spec,
/// #     catalogs,
/// #     machine,
/// # };
/// # let directory = recorder.record(&folder.path().join("record"), &|_| {})?.directory;
///
/// // `directory` holds a record of the model in `checkpoint`.
/// let opened = mantissa_published::open(&directory)?;
/// let model = Model { name: "tiny", checkpoint: &checkpoint, tokenizer: Some(&tokenizer) };
/// let (evidence, model) = (Some(&opened), Some(model));
/// let request = Request { evidence, model, ..Request::new(machine) };
/// let audit = verify(&request, &|event| {
///     assert!(!matches!(event, Event::Planned { classes: 0, .. }));
/// })?;
/// assert_eq!(audit.claims[0].answer, ClaimAnswer::Consistent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(request: &Request<'_>, progress: &dyn Fn(Event<'_>)) -> Result<Audit, LabError> {
    let Some(opened) = request.evidence else { return self_test::alone(request, progress) };
    let source = Source::from(opened);
    let made = published_record(opened);
    let record = record_of(opened, made.as_ref());
    let audit = match (request.model, record) {
        (_, None) => return unreplayed::audit(opened, &source, ReplayObstacle::NoSignals),
        (None, Some(_)) => unreplayed::audit(opened, &source, ReplayObstacle::NoModel)?,
        (Some(model), Some(record)) => {
            let mut audit = match &request.method {
                Method::SpotCheck { draws, seed } => {
                    spot::audit(request, [*draws, *seed], model, record, &source, progress)?
                }
                Method::Replay { .. } => replayed::audit(request, model, record, &source, progress)?,
                Method::Elsewhere(elsewhere) => {
                    let whole = record.experiment()?;
                    elsewhere::audit(request, *elsewhere, model, record, &whole, &source, progress)?
                }
            };
            if let Some(other) = request.beside {
                let made = published_record(other);
                if let Some(reference) = record_of(other, made.as_ref()) {
                    audit.notes.extend(beside::notes(request, model, record, reference)?);
                }
            }
            if request.self_test {
                audit.self_test = self_test::of(request, model, record, &mut audit.notes, progress)?;
            }
            audit
        }
    };
    let conflicts = match record {
        Some(record) => contested::conflicts(request, record.shell())?,
        None => Vec::new(),
    };
    Ok(audit.contested(&conflicts, &|found| contested::settled(request, found)))
}

/// What a replay would run, to be counted by [`crate::coverage::Tally`]: the claim and every candidate, for each run of
/// the evidence that has ids. Nothing is run.
///
/// *Errors:* a claim or candidates that are none.
///
/// Example: [`crate::coverage::Tally`].
pub fn planned(request: &Request<'_>) -> Result<Vec<PlannedRun>, LabError> {
    let (Some(opened), Some(model)) = (request.evidence, request.model) else { return Ok(Vec::new()) };
    let made = published_record(opened);
    let record = record_of(opened, made.as_ref());
    record.map_or(Ok(Vec::new()), |record| replayed::planned(request, model, record))
}

/// The record that published files make, where they hold signals.
fn published_record(opened: &Opened) -> Option<Record> {
    let Content::Published(published) = &opened.content else { return None };
    published.experiment().map(|found| Record::from_experiment(found.clone(), &opened.path))
}

/// The record in `opened`: its own, or the one `made` of what was published.
fn record_of<'r>(opened: &'r Opened, made: Option<&'r Record>) -> Option<&'r Record> {
    match &opened.content {
        Content::Record(record) => Some(record),
        Content::Published(_) => made,
    }
}

/// Whether `opened` holds signals, so that a model can be set beside it.
///
/// ```
/// let opened = mantissa_published::open("../../fixtures/evidence/v1/container".as_ref())?;
/// assert!(mantissa_lab::verify::holds_signals(&opened));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn holds_signals(opened: &Opened) -> bool {
    match &opened.content {
        Content::Record(_) => true,
        Content::Published(published) => published.experiment().is_some(),
    }
}
