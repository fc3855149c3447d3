//! How the program ends: exit codes, and failures as one line on standard error.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use mantissa_evidence::EvidenceError;
use mantissa_lab::LabError;

/// The end of a verb that worked; failures are errors and end with 2, or with 4 where evidence was altered or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; nothing contradicts anything.
    Consistent,
    /// Done; bits differ where they were said to agree, or setups can be told apart.
    Divergent,
    /// Done; the evidence is too little to say.
    NotEnoughEvidence,
    /// Done as asked, despite evidence that was altered or damaged.
    Altered,
}

/// The exit code of evidence that was altered or damaged.
const ALTERED: u8 = 4;
/// The exit code of any other failure.
const FAILED: u8 = 2;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Consistent => Self::SUCCESS,
            Exit::Divergent => Self::from(1),
            Exit::NotEnoughEvidence => Self::from(3),
            Exit::Altered => Self::from(ALTERED),
        }
    }
}

/// What the user asked for has been printed already (`--help`, `--version`), or cannot be understood.
#[derive(Debug)]
pub(crate) enum EarlyExit {
    /// Text for standard output; success.
    Answer(String),
    /// Text for standard error, more than a line long because it is an answer too; failure.
    Help(String),
}

impl std::fmt::Display for EarlyExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer(text) | Self::Help(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for EarlyExit {}

/// Runs `body` and turns its end, whatever it is, into an exit code and at most one line on standard error.
pub(crate) fn guarded(body: impl FnOnce() -> anyhow::Result<Exit>) -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(error)) => match error.downcast::<EarlyExit>() {
            Ok(EarlyExit::Answer(text)) => match std::io::stdout().write_all(text.as_bytes()) {
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                    fail(&stdout_failed(&e).to_string(), FAILED)
                }
                _ => ExitCode::SUCCESS,
            },
            Ok(EarlyExit::Help(text)) => {
                drop(std::io::stderr().write_all(text.as_bytes()));
                ExitCode::from(2)
            }
            // Only the outermost message: each names its cause itself.
            Err(error) => fail(&error.to_string(), code(&error)),
        },
        Err(_) => ExitCode::from(2),
    }
}

/// Standard output refused the data.
pub(crate) fn stdout_failed(source: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("standard output: cannot write: {source}; free some space there or send it elsewhere")
}

/// Text of foreign origin on one line: control characters escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}

/// The code of a failure: evidence that is not what its digests say is an answer of its own.
fn code(error: &anyhow::Error) -> u8 {
    let altered = |cause: &(dyn std::error::Error + 'static)| {
        let wrapped = cause.downcast_ref::<LabError>().and_then(|error| match error {
            LabError::Evidence(error) => Some(error),
            _ => None,
        });
        let evidence = wrapped.or_else(|| cause.downcast_ref::<EvidenceError>());
        matches!(evidence, Some(EvidenceError::Altered { .. }))
    };
    if error.chain().any(altered) { ALTERED } else { FAILED }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Nobody may be listening there either; the code still tells.
    drop(writeln!(std::io::stderr(), "error: {}", one_line(message)));
    ExitCode::from(code)
}

/// A defect of this program, on one line. A panic in several threads is reported once.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    if REPORTED.swap(true, Ordering::Relaxed) {
        return;
    }
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
    let home = env!("CARGO_PKG_REPOSITORY");
    let line = format!("error: defect in mantissa at {place}: {message}; please report it at {home}/issues");
    drop(writeln!(std::io::stderr(), "{}", one_line(&line)));
}
