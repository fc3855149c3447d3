//! The published definitions, to reproduce old figures digit for digit. Not a verdict.
//!
//! Pooled quotients, dropped `inf`, ranks instead of ids, the smallest value as reference, cut-offs in words:
//! everything that `judge` deliberately does not do, applied to each file by itself. What follows from a file's own
//! data, and what does not or means something else, is said figure by figure. Left out: the definitions
//! (`mantissa-published`), and any opinion about setups.

use mantissa_evidence::verification::Relation;
use mantissa_published::{Content, Cutoff, Figure, Finding, FindingTopic, Matrix, Overall, Sheet, Table};

use crate::analysis::{
    ANALYSIS_VERSION, Agreement, Analysis, Cell, Citation, FindingKind, MatrixKind, Mode, Outcome,
    PublishedFigure, Question, Signal, Source, State, Threshold,
};
use crate::error::{Result, VerdictError};
use crate::judge::Options;

/// What every table and matrix of this mode says about itself.
const NOTE: &str = "published definition, not a verdict";

/// Applies the published definitions to each file.
///
/// Of `options` the signals matter, and only for experiments, where the script takes one: key vectors unless another
/// is asked for.
///
/// ```
/// use mantissa_verdict::analysis::{Agreement, Mode};
///
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("attention.log"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::as_published(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `as_published` makes of `attention.log`.
/// assert_eq!(analysis.mode, Mode::AsPublished);
/// let mut figures = analysis.published.iter();
/// let figure = figures.find(|figure| figure.name == "SNR of key vectors, prefill").expect("a figure");
/// assert_eq!((figure.printed.as_str(), figure.recomputed.as_deref()), ("9.95", Some("9.95")));
/// assert_eq!(figure.agreement, Agreement::EveryDigit);
/// // It is of all pairs at once.
/// assert!(analysis.findings[0].sentence.ends_with("hides sdpa against flash_attention_2: 0.71× its own baseline."));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_published(sources: &[(Source, &Content)], options: &Options) -> Result<Analysis> {
    let mut analysis = Analysis {
        analysis_version: ANALYSIS_VERSION,
        mode: Mode::AsPublished,
        sources: sources.iter().map(|(source, _)| source.clone()).collect(),
        question: Question { variable: String::new(), reference: None, signals: Vec::new() },
        outcome: Outcome::NotEnoughEvidence,
        findings: Vec::new(),
        tokens: Vec::new(),
        reproducibility: Vec::new(),
        classes: Vec::new(),
        pairs: Vec::new(),
        matrices: Vec::new(),
        profiles: Vec::new(),
        first_differences: Vec::new(),
        bounds: Vec::new(),
        tables: Vec::new(),
        published: Vec::new(),
        thresholds: Vec::new(),
    };
    let asked: Option<Vec<mantissa_published::Signal>> =
        options.signals.as_ref().map(|signals| signals.iter().map(|&signal| signal.into()).collect());
    let files: Vec<&Content> = sources.iter().map(|&(_, content)| content).collect();
    let mut variables: Vec<String> = Vec::new();
    let mut experiments: Vec<Overall> = Vec::new();
    for (source, content) in sources {
        let sheet = content
            .sheet(&files, asked.as_deref())
            .map_err(|error| VerdictError::Evidence { message: error.to_string() })?;
        if !variables.contains(&sheet.variable) {
            variables.push(sheet.variable.clone());
        }
        experiments.extend(sheet.overall.clone());
        add(&mut analysis, Cited(source), sheet);
    }
    if let Some(Table { title, columns, rows, .. }) = Overall::table(&experiments) {
        let note = Some(NOTE.to_owned());
        analysis.tables.push(crate::analysis::Table { title, columns, rows, note });
    }
    analysis.question.variable = variables.join(", ");
    analysis.question.signals.sort_unstable();
    analysis.outcome = outcome(&analysis, &experiments);
    Ok(analysis)
}

/// One file's part of the analysis.
fn add(analysis: &mut Analysis, of: Cited<'_>, sheet: Sheet) {
    for signal in sheet.signals.into_iter().map(Signal::from) {
        if !analysis.question.signals.contains(&signal) {
            analysis.question.signals.push(signal);
        }
    }
    analysis.published.extend(sheet.figures.into_iter().map(|figure| of.figure(figure)));
    analysis.findings.extend(sheet.findings.into_iter().map(|finding| of.finding(finding)));
    analysis.matrices.extend(sheet.matrices.into_iter().map(|matrix| of.matrix(matrix)));
    analysis.tables.extend(sheet.tables.into_iter().map(|table| of.table(table)));
    for threshold in sheet.cutoffs.into_iter().map(threshold) {
        if !analysis.thresholds.contains(&threshold) {
            analysis.thresholds.push(threshold);
        }
    }
}

/// Divergent when a figure does not follow from its file or the script found a distance; consistent when figures or
/// distances were there and none did.
fn outcome(analysis: &Analysis, experiments: &[Overall]) -> Outcome {
    let fails = |agreement| agreement == Agreement::DoesNotFollow;
    let failed = analysis.published.iter().any(|figure| fails(figure.agreement));
    if failed || experiments.iter().any(|one| one.differs) {
        Outcome::Divergent
    } else if experiments.iter().any(|one| one.compared) || !analysis.published.is_empty() {
        Outcome::Consistent
    } else {
        Outcome::NotEnoughEvidence
    }
}

/// The file that everything of a sheet came from.
#[derive(Clone, Copy)]
struct Cited<'a>(&'a Source);

impl Cited<'_> {
    fn at(self, place: String) -> Citation {
        Citation { source: self.0.name.clone(), place }
    }

    /// A title that is unique in the analysis.
    fn title(self, title: &str) -> String {
        format!("{}: {title}", self.0.name)
    }

    fn figure(self, figure: Figure) -> PublishedFigure {
        let Figure { name, printed, recomputed, agreement, note, place } = figure;
        let agreement = match agreement {
            mantissa_published::Agreement::EveryDigit => Agreement::EveryDigit,
            mantissa_published::Agreement::WithinRounding => Agreement::WithinRounding,
            mantissa_published::Agreement::DoesNotFollow => Agreement::DoesNotFollow,
            mantissa_published::Agreement::NotInFile => Agreement::NotInFile,
        };
        PublishedFigure { name, printed, recomputed, agreement, note, citation: self.at(place) }
    }

    fn finding(self, finding: Finding) -> crate::analysis::Finding {
        let kind = match finding.about {
            FindingTopic::Figure => FindingKind::Published,
            FindingTopic::Missing => FindingKind::Missing,
            FindingTopic::TokensPart => FindingKind::TokensDiverge,
        };
        let citations = finding.places.into_iter().map(|place| self.at(place)).collect();
        crate::analysis::Finding { kind, sentence: finding.sentence, citations }
    }

    fn table(self, table: Table) -> crate::analysis::Table {
        let note = match table.printed_at {
            None => NOTE.to_owned(),
            Some(line) => format!("As printed, {} line {line}.", self.0.name),
        };
        let title = self.title(&table.title);
        crate::analysis::Table { title, columns: table.columns, rows: table.rows, note: Some(note) }
    }

    /// An infinite cell is shown as incomparable.
    fn matrix(self, matrix: Matrix) -> crate::analysis::Matrix {
        let cell = |row: usize, column: usize, value: f64| Cell {
            state: if !value.is_finite() {
                State::Incomparable
            } else if value == 0.0 {
                State::Equal
            } else {
                State::Different
            },
            value: value.is_finite().then_some(value),
            n: matrix.references,
            citation: Some(self.at(format!("{}[{row}][{column}]", matrix.place))),
        };
        let cells = matrix.values.iter().enumerate().map(|(row, values)| {
            values.iter().enumerate().map(|(column, &value)| cell(row, column, value)).collect()
        });
        crate::analysis::Matrix {
            title: self.title(&matrix.title),
            kind: match matrix.relation {
                Relation::WithinMode => MatrixKind::WithinMode,
                Relation::DecodePrefill => MatrixKind::DecodePrefill,
                Relation::ClaimedVerified => MatrixKind::ClaimedVerified,
            },
            phase: matrix.phase,
            signal: matrix.signal.into(),
            reference: None,
            statistic: format!("{} ({NOTE})", matrix.statistic),
            cells: cells.collect(),
            rows: matrix.labels.clone(),
            columns: matrix.labels,
        }
    }
}

fn threshold(cutoff: Cutoff) -> Threshold {
    Threshold {
        name: cutoff.name.to_owned(),
        value: cutoff.value,
        decides: cutoff.decides.to_owned(),
        source: cutoff.source.to_owned(),
    }
}

impl From<mantissa_published::Signal> for Signal {
    fn from(signal: mantissa_published::Signal) -> Self {
        match signal {
            mantissa_published::Signal::HiddenStates => Self::HiddenStates,
            mantissa_published::Signal::KeyVectors => Self::KeyVectors,
            mantissa_published::Signal::Logprobs => Self::Logprobs,
        }
    }
}

impl From<Signal> for mantissa_published::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::HiddenStates => Self::HiddenStates,
            Signal::KeyVectors => Self::KeyVectors,
            Signal::Logprobs => Self::Logprobs,
        }
    }
}
