//! What was decided while a checkpoint was read: statements that contradict each other, what is there and not used, and
//! defaults that a file leaves to the program.
//!
//! A decision follows a rule that exists elsewhere (transformers 5.17, unless it says otherwise). Where there is none,
//! the checkpoint is refused instead. Left out: what a file states once.

use std::cell::RefCell;

use serde::Serialize;

/// One thing that was decided.
///
/// ```
/// use mantissa_model::Checkpoint;
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::Arch;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model");
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), &path, &|_| {})?;
/// assert!(Checkpoint::open(&path)?.decisions().is_empty());
/// // A second file of weights that nothing names.
/// std::fs::copy(path.join("model.safetensors"), path.join("model-00001-of-00002.safetensors"))?;
/// let checkpoint = Checkpoint::open(&path)?;
/// let [decision] = checkpoint.decisions() else { panic!("one") };
/// assert_eq!(decision.file, "model-00001-of-00002.safetensors");
/// assert_eq!(decision.decided, "not read");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// File of the model's folder.
    pub file: String,
    /// What it states, or leaves open.
    pub stated: String,
    /// What was followed, and what is not used.
    pub decided: String,
    /// By which rule.
    pub rule: String,
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, stated, decided, rule } = self;
        write!(f, "{file}: {stated}; {decided}: {rule}")
    }
}

/// Decisions as they come up.
#[derive(Debug, Default)]
pub(crate) struct Decisions(RefCell<Vec<Decision>>);

impl Decisions {
    pub(crate) fn add(
        &self,
        file: &str,
        stated: impl Into<String>,
        decided: impl Into<String>,
        rule: impl Into<String>,
    ) {
        let file = file.rsplit(['/', '\\']).next().unwrap_or(file).to_owned();
        let decision = Decision { file, stated: stated.into(), decided: decided.into(), rule: rule.into() };
        let mut all = self.0.borrow_mut();
        // Families read a key again that all have.
        if !all.contains(&decision) {
            all.push(decision);
        }
    }

    pub(crate) fn into_list(self) -> Vec<Decision> {
        self.0.into_inner()
    }
}

/// The first of `names`, and how many more there are.
pub(crate) fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let first = names.iter().take(SHOWN).map(|name| crate::error::shown(name)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
