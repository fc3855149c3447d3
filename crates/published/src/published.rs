//! A published file of any layout, read from its bytes.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::error::{Result, one_line};
use mantissa_evidence::{Experiment, Verification, lenient};

use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::recognize::{self, Kind};
use crate::sheet::Sheet;
use crate::stated::{StatedRepeats, StatedTokens};

/// A published file.
///
/// ```
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("attention_verification.json");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.json"))?.expect("a published file");
/// assert!(file.experiment().is_none(), "it holds no signals");
/// assert_eq!(file.verifications().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Published {
    layout: &'static Layout,
    file: Box<dyn Statement>,
    warnings: Vec<String>,
}

impl Published {
    /// Reads bytes as a file of `layout`, whatever they look like; JSON has to be strict. `origin` names the file in
    /// errors.
    ///
    /// ```
    /// use mantissa_published::{LAYOUTS, Published};
    ///
    /// let error = Published::read_as(&LAYOUTS[0], b"{}", "a.json".as_ref()).expect_err("nothing is in it");
    /// assert!(error.to_string().starts_with("a.json: line 1, column 2: missing field `raw_activations`"));
    /// ```
    pub fn read_as(layout: &'static Layout, bytes: &[u8], origin: &Path) -> Result<Self> {
        let Read { file, warnings } = (layout.read)(bytes, origin)?;
        // They quote the file.
        let warnings = warnings.iter().map(|warning| one_line(warning)).collect();
        Ok(Self { layout, file, warnings })
    }

    /// Its layout.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("attention_verification.json");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.json".as_ref())?.expect("a published file");
    /// assert_eq!(file.layout().name, "attention_verification");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// The signals, for layouts that keep them.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("activations.json");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.json".as_ref())?.expect("a published file");
    /// assert_eq!(file.experiment().expect("signals").runs.len(), 9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn experiment(&self) -> Option<&Experiment> {
        self.file.experiment()
    }

    /// The distances that somebody else measured, for layouts that keep only those.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("attention_verification.json");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.json".as_ref())?.expect("a published file");
    /// assert_eq!(file.verifications()[0].values, ["eager", "sdpa", "flash_attention_2"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn verifications(&self) -> Vec<Verification> {
        self.file.verifications()
    }

    /// Distances between repetitions that it states.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("quantization.log");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.log".as_ref())?.expect("a published file");
    /// assert_eq!(file.repeats()[5].distances, [4.67e-2, f64::INFINITY, f64::INFINITY]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn repeats(&self) -> Vec<StatedRepeats> {
        self.file.repeats()
    }

    /// Output tokens that it states beside distances.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("quantization.log");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.log".as_ref())?.expect("a published file");
    /// assert_eq!(file.tokens()[0].value, "awq");
    /// assert!(file.tokens()[0].text.contains("some words"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tokens(&self) -> Vec<StatedTokens> {
        self.file.tokens()
    }

    /// Declared model of each value of the variable, where it states them beside distances.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("quantization.log");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.log".as_ref())?.expect("a published file");
    /// assert_eq!(file.models()["awq_marlin"], "synthetic-AWQ");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn models(&self) -> BTreeMap<String, String> {
        self.file.models()
    }

    /// What was lenient or assumed in reading it.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("attention_verification.json");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.json".as_ref())?.expect("a published file");
    /// assert_eq!(file.warnings()[0], "the file does not name the model");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the published definitions make of it; `beside` are files that may hold its figures in full.
    ///
    /// ```
    /// # let path = mantissa_testkit::synthetic("attention_verification.json");
    /// # let bytes = std::fs::read(path)?;
    /// # let file = mantissa_published::parse(&bytes, "a.json".as_ref())?.expect("a published file");
    /// let sheet = file.sheet(&[]);
    /// assert_eq!((sheet.variable.as_str(), sheet.figures.len()), ("attention", 16));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sheet(&self, beside: &[&Self]) -> Sheet {
        let beside: Vec<&dyn Statement> = beside.iter().map(|other| other.file.as_ref()).collect();
        self.file.sheet(&beside)
    }
}

/// Reads a published file of any layout; `None` when `bytes` are none of them. `origin` names the file in errors.
///
/// ```
/// let none = mantissa_published::parse(b"{\"runs\": []}", "a.json".as_ref())?;
/// assert!(none.is_none(), "an experiment JSON is evidence of our own");
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn parse(bytes: &[u8], origin: &Path) -> Result<Option<Published>> {
    match recognize::kind(bytes) {
        Some((Kind::Published(layout), strict)) => parse_as(layout, strict, bytes, origin).map(Some),
        Some((Kind::Experiment, _)) | None => Ok(None),
    }
}

/// Reads bytes that were told to be of `layout`; as JSON is read, `strict` first and then leniently.
pub(crate) fn parse_as(
    layout: &'static Layout,
    strict: bool,
    bytes: &[u8],
    origin: &Path,
) -> Result<Published> {
    if matches!(layout.signature, FileSignature::Titles(_)) {
        return Published::read_as(layout, bytes, origin);
    }
    if strict && let Ok(published) = Published::read_as(layout, bytes, origin) {
        return Ok(published);
    }
    let (json, found) = lenient::to_json(bytes);
    let mut published = Published::read_as(layout, &json, origin)?;
    let lenient = found.iter().map(|warning| one_line(&warning.to_string()));
    published.warnings.splice(0..0, lenient);
    Ok(published)
}
