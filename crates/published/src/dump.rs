//! Tensors that other programs left while they ran, as events of a trace: SGLang's dumps, and what llama.cpp prints.
//!
//! A tensor's name becomes a site where that is unambiguous; the others are counted by name. Left out: sites whose rows
//! another program stores in another order, and modules that one name does not tell apart.

mod llama;
mod pickle;
mod sglang;
mod torch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mantissa_evidence::trace::{StageTrace, TensorTrace, TraceHeader, TracedPrompt};
use mantissa_evidence::{EvidenceError, ModelIdentity};
use mantissa_numerics::{Dtype, Site};

use torch::TorchTensor;

/// A dump, opened: what it holds is known, and its values are read when they are asked for.
///
/// ```
/// use mantissa_published::dump::Dump;
///
/// # let folder = tempfile::tempdir()?;
/// let log = folder.path().join("callback.txt");
/// std::fs::write(&log, "\
/// ggml_debug:   inp_embd = (f32)  GET_ROWS(token_embd.weight{4, 9, 1, 1}, inp_tokens{2, 1, 1, 1}}) = {4, 2, 1, 1}
///     [
///         [
///             [      0.5000,      0.2500,     -0.1250,      0.0000  ],
///             [      1.0000,      0.0000,      0.0000,      0.0000  ],
///         ],
///     ]
///     sum = 1.625000
/// ")?;
/// assert!(Dump::is_one(&log));
/// let dump = Dump::open(&log)?;
/// let mut events = Vec::new();
/// dump.events(false, &mut |event, _| {
///     events.push(event);
///     Ok::<(), mantissa_evidence::EvidenceError>(())
/// })?;
/// assert_eq!((events.len(), events[0].hash, events[0].sum.as_deref()), (1, None, Some("1.625000")));
/// assert_eq!(dump.header("mantissa 0.1.0").prompts.len(), 1);
/// assert!(dump.left_out().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Dump {
    prompts: Vec<TracedPrompt>,
    events: Vec<Held>,
    left_out: LeftOut,
}

/// Names of tensors without a site, layers replaced by `*`, and how many there are.
type LeftOut = BTreeMap<String, u64>;

/// An event whose values are elsewhere, or that has none.
#[derive(Debug)]
enum Held {
    Shown(Box<StageTrace>),
    Stored(Stored),
}

/// A tensor in a file.
#[derive(Debug)]
struct Stored {
    prompt_id: String,
    step: u64,
    seq_len: u64,
    site: Site,
    /// Position and token of each row.
    rows: Vec<(u64, Option<u32>)>,
    dtype: Dtype,
    file: PathBuf,
    tensor: TorchTensor,
}

impl Dump {
    /// Whether a path looks like a dump that can be opened.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        sglang::is_dump(path) || (path.is_file() && llama::is_log(path))
    }

    /// Opens a dump.
    ///
    /// *Errors:* a file that is none; a pickle with anything but tensors; passes that cannot be placed.
    pub fn open(path: &Path) -> Result<Self, EvidenceError> {
        let mut dump = Self { prompts: Vec::new(), events: Vec::new(), left_out: BTreeMap::new() };
        if sglang::is_dump(path) {
            sglang::read(path, &mut dump)?;
        } else {
            llama::read(path, &mut dump)?;
        }
        if dump.events.is_empty() {
            let names: Vec<&str> = dump.left_out.keys().map(String::as_str).take(5).collect();
            let found =
                if names.is_empty() { String::new() } else { format!(" (it has {})", names.join(", ")) };
            let what = format!("a dump of which no tensor has a site that is known{found}");
            let remedy = "docs/trace.md lists the names that are read";
            return Err(refused(path, &what, remedy));
        }
        Ok(dump)
    }

    /// The header of the trace. A dump states neither the model nor its setup.
    #[must_use]
    pub fn header(&self, program: &str) -> TraceHeader {
        let model = ModelIdentity { id: "not stated".to_owned(), weights_digest: None };
        TraceHeader { prompts: self.prompts.clone(), ..TraceHeader::new(program, model) }
    }

    /// Names of tensors without a site, layers replaced by `*`, and how many there are.
    #[must_use]
    pub const fn left_out(&self) -> &BTreeMap<String, u64> {
        &self.left_out
    }

    /// Whether its values are there, and not only some digits of them.
    #[must_use]
    pub fn has_values(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Held::Stored(_)))
    }

    /// Gives every event to `each`, in the order of the format, with its values as stored if `keep`.
    ///
    /// *Errors:* a tensor that cannot be read; what `each` gives.
    pub fn events<E: From<EvidenceError>>(
        &self,
        keep: bool,
        each: &mut dyn FnMut(StageTrace, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        for event in &self.events {
            match event {
                Held::Shown(event) => each((**event).clone(), Vec::new())?,
                Held::Stored(stored) => {
                    let bytes = torch::values(&stored.file, &stored.tensor)?;
                    let Stored { prompt_id, step, seq_len, site, rows, dtype, .. } = stored;
                    let mut tensor = TensorTrace::new(prompt_id, *step, *seq_len, *site, *dtype).keep(keep);
                    tensor.push_stored(rows, &bytes);
                    let (event, values) = tensor.finish_with_values();
                    each(event, values)?;
                }
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, name: &str) {
        let parts: Vec<&str> =
            name.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part }).collect();
        *self.left_out.entry(parts.join(".")).or_default() += 1;
    }
}

/// A dump that cannot be used, and why.
fn refused(path: &Path, what: &str, remedy: &str) -> EvidenceError {
    EvidenceError::NotEvidence { path: path.to_owned(), what: what.to_owned(), remedy: remedy.to_owned() }
}
