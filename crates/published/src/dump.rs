//! Tensors that other programs left while they ran, as events of a trace: SGLang's dumps, and what llama.cpp prints.
//!
//! A tensor's name becomes a site where that is unambiguous; the others are counted by name. Left out: sites whose rows
//! another program stores in another order, and modules that one name does not tell apart.

mod found;
mod llama;
mod pickle;
mod sglang;
mod torch;

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::trace::{StageTrace, TensorTrace, TraceHeader};
use mantissa_evidence::{EvidenceError, ModelIdentity};

use found::{Found, Held, Stored, refused};

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
    found: Found,
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
        let mut found = Found::default();
        if sglang::is_dump(path) {
            sglang::read(path, &mut found)?;
        } else {
            llama::read(path, &mut found)?;
        }
        if found.events.is_empty() {
            let names: Vec<&str> = found.left_out.keys().map(String::as_str).take(5).collect();
            let named =
                if names.is_empty() { String::new() } else { format!(" (it has {})", names.join(", ")) };
            let what = format!("a dump of which no tensor has a site that is known{named}");
            let remedy = "docs/trace.md lists the names that are read";
            return Err(refused(path, &what, remedy));
        }
        Ok(Self { found })
    }

    /// The header of the trace. A dump states neither the model nor its setup.
    #[must_use]
    pub fn header(&self, program: &str) -> TraceHeader {
        let model = ModelIdentity { id: "not stated".to_owned(), weights_digest: None };
        TraceHeader { prompts: self.found.prompts.clone(), ..TraceHeader::new(program, model) }
    }

    /// Names of tensors without a site, layers replaced by `*`, and how many there are.
    #[must_use]
    pub const fn left_out(&self) -> &BTreeMap<String, u64> {
        &self.found.left_out
    }

    /// Whether its values are there, and not only some digits of them.
    #[must_use]
    pub fn has_values(&self) -> bool {
        self.found.events.iter().any(|event| matches!(event, Held::Stored(_)))
    }

    /// Gives every event to `each`, in the order of the format, with its values as stored if `keep`.
    ///
    /// *Errors:* a tensor that cannot be read; what `each` gives.
    pub fn events<E: From<EvidenceError>>(
        &self,
        keep: bool,
        each: &mut dyn FnMut(StageTrace, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        for event in &self.found.events {
            match event {
                Held::Shown(event) => each((**event).clone(), Vec::new())?,
                Held::Stored(stored) => {
                    let bytes = torch::values(&stored.file, &stored.tensor)?;
                    let Stored { prompt_id, step, seq_len, site, rows, dtype, .. } = &**stored;
                    let mut tensor = TensorTrace::new(prompt_id, *step, *seq_len, *site, *dtype).keep(keep);
                    tensor.push_stored(rows, &bytes);
                    let (event, values) = tensor.finish_with_values();
                    each(event, values)?;
                }
            }
        }
        Ok(())
    }
}
