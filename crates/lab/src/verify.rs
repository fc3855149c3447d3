//! Verification: evidence and a model in, an [`Audit`] out.
//!
//! Evidence → claims → candidates → a plan of classes → replays → an audit. Left out: how a pass is replayed
//! ([`crate::replay`]), how facts are judged (`mantissa-verdict`), flags and printing (`mantissa-cli`).

mod case;
mod catalogs;
mod grid;
mod replayed;
mod request;
mod self_test;
mod spot;
mod state;
mod unreplayed;
mod weights;

use mantissa_evidence::Record;
use mantissa_published::{Content, Opened};
use mantissa_verdict::Audit;
use mantissa_verdict::analysis::Source;

use crate::error::LabError;

pub use grid::{Assignment, Varied};
pub use request::{Event, Method, Model, Request};

use unreplayed::Why;

/// Verifies what `request` names; `progress` is told how far it is.
///
/// *Errors:* a model of other weights than the evidence states, a state file of another question, more candidates than
/// anybody means, and those of the engine, the model, the evidence and the judgement.
///
/// ```
/// use mantissa_lab::Machine;
/// use mantissa_lab::verify::{Request, verify};
///
/// // Without evidence: known deviations are planted in a tiny model made for it, and each has to be caught.
/// let machine = Machine { threads: 1, isa: mantissa_engine::Isa::Scalar };
/// let audit = verify(&Request { self_test: true, ..Request::new(machine) }, &|_| {})?;
/// assert!(audit.self_test.iter().all(|planted| planted.passed));
/// # Ok::<(), mantissa_lab::LabError>(())
/// ```
pub fn verify(request: &Request<'_>, progress: &dyn Fn(Event<'_>)) -> Result<Audit, LabError> {
    let Some(opened) = request.evidence else { return self_test::alone(request, progress) };
    let source = Source {
        name: opened.name.clone(),
        digest: opened.digest.to_string(),
        layout: opened.content.layout().to_owned(),
        warnings: opened.warnings.clone(),
    };
    let made;
    let record = match &opened.content {
        Content::Record(record) => Some(record),
        Content::Published(published) => {
            made = published.experiment().map(|found| Record::from_experiment(found.clone(), &opened.path));
            made.as_ref()
        }
    };
    match (request.model, record) {
        (_, None) => unreplayed::audit(opened, &source, Why::NoSignals),
        (None, Some(_)) => unreplayed::audit(opened, &source, Why::NoModel),
        (Some(model), Some(record)) => {
            let mut audit = match &request.method {
                Method::SpotCheck { draws, seed } => {
                    spot::audit(request, [*draws, *seed], model, record, &source, progress)?
                }
                Method::Replay { .. } => replayed::audit(request, model, record, &source, progress)?,
            };
            if request.self_test {
                audit.self_test = self_test::of(request, model, record, &mut audit.notes, progress)?;
            }
            Ok(audit)
        }
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
