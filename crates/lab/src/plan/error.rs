//! What is wrong with a plan, and where in its file.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// A fault of a plan file, with its place.
///
/// Example: [`super::Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError {
    path: PathBuf,
    text: Arc<str>,
    span: Option<Range<usize>>,
    problem: String,
    remedy: String,
}

impl PlanError {
    pub(super) fn new(source: &Source, span: Option<Range<usize>>, problem: String, remedy: String) -> Self {
        Self { path: source.path.clone(), text: source.text.clone(), span, problem, remedy }
    }

    /// Line and column of the fault, counted from 1; `None` where it is the whole file's.
    #[must_use]
    pub fn place(&self) -> Option<[usize; 2]> {
        let at = self.span.as_ref()?.start.min(self.text.len());
        let before = self.text.get(..at)?;
        let line = before.rsplit('\n').next().unwrap_or_default();
        Some([before.matches('\n').count() + 1, line.chars().count() + 1])
    }

    /// The file as a source for a report that shows the place.
    #[must_use]
    pub fn named_source(&self) -> NamedSource<String> {
        NamedSource::new(self.path.display().to_string(), self.text.to_string())
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some([line, column]) = self.place() {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for PlanError {}

impl Diagnostic for PlanError {
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(self.remedy.clone()), span))))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }
}

/// A plan's file, to point into.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: Arc<str>,
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.into() }
    }

    /// An error at a place.
    pub(super) fn at(
        &self,
        span: Range<usize>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> PlanError {
        PlanError::new(self, Some(span), problem.into(), remedy.into())
    }

    /// An error of the file as a whole.
    pub(super) fn whole(&self, problem: impl Into<String>, remedy: impl Into<String>) -> PlanError {
        PlanError::new(self, None, problem.into(), remedy.into())
    }
}
