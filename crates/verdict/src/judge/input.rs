//! Evidence as it is judged: signals, distances that others measured, and what a file states without showing it.

use std::collections::BTreeMap;

use mantissa_evidence::{Record, Verification};
pub use mantissa_published::{StatedRepeats, StatedTokens};

use crate::analysis::{Citation, Source};

/// Everything one file gives.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The file.
    pub source: &'a Source,
    /// Its signals.
    pub record: Option<&'a Record>,
    /// Distances that others measured.
    pub verifications: Vec<Verification>,
    /// Distances between repetitions that it states.
    pub repeats: Vec<StatedRepeats>,
    /// Output tokens that it states beside distances.
    pub tokens: Vec<StatedTokens>,
    /// Declared model of each value of the variable, where it states them beside distances.
    pub models: BTreeMap<String, String>,
}

impl<'a> Evidence<'a> {
    /// A file that holds signals.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use mantissa_evidence::Record;
    /// use mantissa_verdict::analysis::Source;
    /// use mantissa_verdict::judge::Evidence;
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
    /// let record = Record::open(Path::new(path))?;
    /// let source = Source {
    ///     name: "record".into(),
    ///     digest: "its digest".into(),
    ///     layout: "container".into(),
    ///     warnings: vec![],
    /// };
    /// assert!(Evidence::of_record(&source, &record).verifications.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn of_record(source: &'a Source, record: &'a Record) -> Self {
        Self {
            source,
            record: Some(record),
            verifications: Vec::new(),
            repeats: Vec::new(),
            tokens: Vec::new(),
            models: BTreeMap::new(),
        }
    }

    /// A file that holds distances only.
    ///
    /// ```
    /// use mantissa_verdict::analysis::Source;
    /// use mantissa_verdict::judge::Evidence;
    ///
    /// let source = Source {
    ///     name: "distances.json".into(),
    ///     digest: "its digest".into(),
    ///     layout: "quant_verification".into(),
    ///     warnings: vec![],
    /// };
    /// let evidence = Evidence::of_verifications(&source, vec![]);
    /// assert!(evidence.record.is_none());
    /// ```
    #[must_use]
    pub const fn of_verifications(source: &'a Source, verifications: Vec<Verification>) -> Self {
        Self {
            source,
            record: None,
            verifications,
            repeats: Vec::new(),
            tokens: Vec::new(),
            models: BTreeMap::new(),
        }
    }

    pub(super) fn cite(&self, place: impl Into<String>) -> Citation {
        Citation { source: self.source.name.clone(), place: place.into() }
    }
}
