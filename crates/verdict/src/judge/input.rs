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
    /// use mantissa_evidence::Record;
    /// use mantissa_verdict::analysis::{Source, State};
    /// use mantissa_verdict::judge::{Evidence, judge_evidence};
    ///
    /// let record = Record::open("../../fixtures/evidence/v1/container".as_ref())?;
    /// let source = Source {
    ///     name: "record".into(),
    ///     digest: "its digest".into(),
    ///     layout: "container".into(),
    ///     ..Source::default()
    /// };
    /// let analysis = judge_evidence(&[Evidence::of_record(&source, &record)], &Default::default())?;
    /// // It has three repetitions, whose bits are compared.
    /// let found = &analysis.reproducibility[0];
    /// assert_eq!((found.repetitions, found.state), (Some(3), State::Different));
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
    /// use mantissa_published::{Content, open};
    /// use mantissa_verdict::analysis::Source;
    /// use mantissa_verdict::judge::{Evidence, judge_evidence};
    ///
    /// # let path = mantissa_testkit::synthetic("quant_verification.json");
    /// let opened = open(&path)?;
    /// let source = Source::from(&opened);
    /// let Content::Published(file) = &opened.content else { panic!("no record") };
    /// let evidence = Evidence::of_verifications(&source, file.verifications());
    /// let analysis = judge_evidence(&[evidence], &Default::default())?;
    /// // Distances without the rows they are of: how many rows are equal is not known.
    /// assert!(analysis.pairs.iter().all(|pair| pair.rows.is_none()));
    /// assert!(analysis.pairs.iter().any(|pair| pair.distance > Some(0.0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
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
