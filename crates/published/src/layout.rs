//! What a layout is: how its files are told from others, how one is read, and what a file that was read can be asked.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use mantissa_evidence::error::Result;
use mantissa_evidence::{Experiment, Verification};

use crate::sheet::Sheet;
use crate::stated::{StatedRepeats, StatedTokens};

/// A published layout.
///
/// ```
/// let layout = mantissa_published::LAYOUTS.iter().find(|layout| layout.name == "activations").expect("known");
/// assert_eq!(layout.holds, "one activation vector per batch size and repetition, on one GPU");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    /// What a file of it holds.
    pub holds: &'static str,
    /// What tells its files from others.
    pub signature: FileSignature,
    /// Reads a file from its bytes, strict JSON where it is JSON; the path names it in errors.
    pub(crate) read: fn(&[u8], &Path) -> Result<Read>,
}

/// What tells the files of a layout from others: content, never a name.
///
/// ```
/// use mantissa_published::{FileSignature, LAYOUTS};
///
/// let logs = LAYOUTS.iter().filter(|layout| matches!(layout.signature, FileSignature::Titles(_)));
/// assert_eq!(logs.count(), 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSignature {
    /// A JSON object with all keys of any of these sets: `metadata.tp_sizes` is a key in the object `metadata`, and
    /// `layer_*` any key that begins so. Of layouts that fit, the one told by the most keys is meant.
    Keys(&'static [&'static [&'static str]]),
    /// A log with any of these titles among its first lines; `TITLE*` is any that begins so.
    Titles(&'static [&'static str]),
}

/// A file that was read, and what had to be assumed for it.
pub(crate) struct Read {
    pub(crate) file: Box<dyn Statement>,
    pub(crate) warnings: Vec<String>,
}

impl Read {
    pub(crate) fn new(file: impl Statement, warnings: Vec<String>) -> Self {
        Self { file: Box::new(file), warnings }
    }
}

/// What a file of any layout can be asked. What a layout does not hold is empty.
pub(crate) trait Statement: Any + fmt::Debug + Send + Sync {
    /// The signals.
    fn experiment(&self) -> Option<&Experiment> {
        None
    }

    /// The distances that its authors measured.
    fn verifications(&self) -> Vec<Verification> {
        Vec::new()
    }

    /// Distances between repetitions.
    fn repeats(&self) -> Vec<StatedRepeats> {
        Vec::new()
    }

    /// Output tokens beside distances.
    fn tokens(&self) -> Vec<StatedTokens> {
        Vec::new()
    }

    /// The model of each value of the variable, beside distances.
    fn models(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// What the published definitions make of it, with files beside it that may hold its figures in full.
    fn sheet(&self, beside: &[&dyn Statement]) -> Sheet;
}

/// The first file of type `T` among `beside`.
pub(crate) fn companion<'a, T: Statement>(beside: &[&'a dyn Statement]) -> Option<&'a T> {
    beside.iter().find_map(|&file| (file as &dyn Any).downcast_ref())
}
