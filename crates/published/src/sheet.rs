//! What the published definitions make of one file: figures, matrices, tables and findings, each with its place.
//!
//! Plain data about one file, without its name. Left out: what any of it means for a setup, and how it looks (the
//! crates above). The methods that fill a sheet are this crate's own.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::Phase;

use crate::python;

/// What the published definitions make of one file.
///
/// Example: [`Published::sheet`](crate::Published::sheet).
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The setup field that the file varies.
    pub variable: String,
    /// Signals that were looked at, each once.
    pub signals: Vec<Signal>,
    /// Stored or printed figures against what their own data give.
    pub figures: Vec<Figure>,
    /// Distances between setups.
    pub matrices: Vec<Matrix>,
    /// Tables as the authors print them.
    pub tables: Vec<Table>,
    /// What does not follow, or does not mean what it says.
    pub findings: Vec<Finding>,
    /// Cut-offs behind the authors' words, each once.
    pub cutoffs: Vec<Cutoff>,
    /// A line of the comparison script's last table, for an experiment.
    pub overall: Option<Overall>,
}

/// A kind of signal.
///
/// ```
/// use mantissa_published::Signal;
///
/// assert!(Signal::HiddenStates < Signal::Logprobs);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Block outputs and the final norm.
    HiddenStates,
    /// Keys as cached.
    KeyVectors,
    /// Log-probabilities by token id.
    Logprobs,
}

/// A stored or printed figure against what its own data give.
///
/// ```
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("attention_verification.json");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.json"))?.expect("a published file");
/// let figure = &file.sheet(&[]).figures[0];
/// assert_eq!(figure.name, "diagonal mean, key vectors, prefill");
/// assert_eq!(Some(&figure.printed), figure.recomputed.as_ref());
/// assert_eq!(figure.place, "cross_hardware.prefill.diagonal_key");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What it is: `SNR of key vectors, decode × prefill`.
    pub name: String,
    /// As printed or stored.
    pub printed: String,
    /// Computed from the same file (or its companion) and shown with as many digits.
    pub recomputed: Option<String>,
    /// Whether they agree.
    pub agreement: Agreement,
    /// Why, where it is not plain.
    pub note: Option<String>,
    /// JSON path or line.
    pub place: String,
}

/// Whether a figure follows from its data.
///
/// ```
/// use mantissa_published::{Agreement, parse};
///
/// # let path = mantissa_testkit::synthetic("attention_verification.json");
/// // One stored quotient is changed.
/// let text = std::fs::read_to_string(path)?.replace("\"key_snr\": 9.9", "\"key_snr\": 8.9");
/// let file = parse(text.as_bytes(), "changed.json".as_ref())?.expect("a known layout");
/// let figures = file.sheet(&[]).figures;
/// let wrong = figures.iter().find(|figure| figure.agreement == Agreement::DoesNotFollow);
/// assert_eq!(wrong.map(|figure| figure.name.as_str()), Some("SNR, key vectors, prefill"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// Every printed digit; of a stored number, every bit.
    EveryDigit,
    /// Its inputs are printed too short to tell; it lies in the range they leave.
    WithinRounding,
    /// It does not follow.
    DoesNotFollow,
    /// Its inputs are not in the file.
    NotInFile,
}

/// One thing the figures say.
///
/// ```
/// use mantissa_published::FindingTopic;
///
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("activations.json");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.json"))?.expect("a published file");
/// let finding = &file.sheet(&[]).findings[0];
/// assert!(finding.sentence.starts_with("systematic_deviations are L2 distances rounded to binary16"));
/// assert_eq!(finding.places, ["systematic_deviations"]);
/// assert_eq!(finding.about, FindingTopic::Figure);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: FindingTopic,
    /// One plain sentence with its numbers.
    pub sentence: String,
    /// JSON paths or lines where those stand.
    pub places: Vec<String>,
}

/// What a finding is about.
///
/// Example: [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingTopic {
    /// A published figure or rule.
    Figure,
    /// Something the evidence lacks.
    Missing,
    /// Tokens that part.
    TokensPart,
}

/// Distances between setups, rows against columns.
///
/// ```
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("attention_verification.json");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.json"))?.expect("a published file");
/// let matrix = &file.sheet(&[]).matrices[0];
/// assert_eq!(matrix.labels, ["eager", "sdpa", "flash_attention_2"]);
/// assert_eq!((matrix.values.len(), matrix.place.as_str()), (3, "cross_hardware.prefill.key_matrix"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// For a heading; unique in the sheet.
    pub title: String,
    /// How rows and columns came about.
    pub relation: Relation,
    /// The phase.
    pub phase: Phase,
    /// The signal.
    pub signal: Signal,
    /// What a cell holds.
    pub statistic: String,
    /// Labels of rows and of columns.
    pub labels: Vec<String>,
    /// Cells, row by row; infinite where nothing could be compared.
    pub values: Vec<Vec<f64>>,
    /// References behind each cell; 0 where the file does not say.
    pub references: u64,
    /// JSON path of the stored matrix, whose cells are `[row][column]` behind it.
    pub place: String,
}

/// A table as the authors print it.
///
/// ```
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("quant_generation.json");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.json"))?.expect("a published file");
/// let table = &file.sheet(&[]).tables[0];
/// assert_eq!((table.title.as_str(), table.columns.len()), ("kernel classes, prefill", 2));
/// assert_eq!(table.rows[0], ["1", "[\"awq\"]"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Column titles.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
    /// Line at which a log prints it; absent for a table that was computed.
    pub printed_at: Option<usize>,
}

/// A number that decides a word of the authors.
///
/// ```
/// # use std::path::Path;
/// # let path = mantissa_testkit::synthetic("attention_verification.json");
/// let file = mantissa_published::parse(&std::fs::read(path)?, Path::new("a.json"))?.expect("a published file");
/// let names: Vec<&str> = file.sheet(&[]).cutoffs.iter().map(|cutoff| cutoff.name).collect();
/// assert_eq!(names, ["published_marginal", "published_detectable"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cutoff {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What it decides.
    pub decides: &'static str,
    /// Where it is printed, or what it was inferred from.
    pub source: &'static str,
}

/// One experiment in the last table of the comparison script.
///
/// ```
/// use mantissa_published::Overall;
///
/// let one = Overall {
///     experiment: "batch_size".to_owned(),
///     variable: "batch_size".to_owned(),
///     baseline: Some(1.0),
///     detectable: 50.0,
///     word: "✗ Weak",
///     compared: true,
///     differs: true,
/// };
/// let table = Overall::table(&[one]).expect("an experiment");
/// assert_eq!(table.rows, [["batch_size", "batch_size", "1.00e+00", "50.0%", "✗ Weak"]]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Overall {
    /// The type of the experiment.
    pub experiment: String,
    /// The setup field that it varies.
    pub variable: String,
    /// Mean distance of equal setups on other hardware; absent where there are none.
    pub baseline: Option<f64>,
    /// Percentage of other setups on other hardware that the script calls detectable.
    pub detectable: f64,
    /// The script's word for that.
    pub word: &'static str,
    /// Whether any row was compared.
    pub compared: bool,
    /// Whether any compared row differs.
    pub differs: bool,
}

impl Overall {
    /// The table over all experiments; `None` without one.
    ///
    /// ```
    /// assert!(mantissa_published::Overall::table(&[]).is_none());
    /// ```
    #[must_use]
    pub fn table(of: &[Self]) -> Option<Table> {
        let row = |one: &Self| {
            vec![
                one.experiment.clone(),
                one.variable.clone(),
                python::printed(one.baseline.unwrap_or(0.0)),
                format!("{:.1}%", one.detectable),
                one.word.to_owned(),
            ]
        };
        let columns = ["experiment", "variable", "baseline", "detectable", "status"];
        (!of.is_empty()).then(|| Table {
            title: "overall summary".to_owned(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: of.iter().map(row).collect(),
            printed_at: None,
        })
    }
}

/// What a matrix is about.
pub(crate) struct Heading<'a> {
    pub(crate) title: &'a str,
    pub(crate) relation: Relation,
    pub(crate) phase: Phase,
    pub(crate) signal: Signal,
    pub(crate) statistic: &'a str,
    /// Where its cells are stored.
    pub(crate) place: &'a str,
}

impl Sheet {
    /// An empty sheet about `variable`.
    #[must_use]
    pub fn of(variable: &str) -> Self {
        Self {
            variable: variable.to_owned(),
            signals: Vec::new(),
            figures: Vec::new(),
            matrices: Vec::new(),
            tables: Vec::new(),
            findings: Vec::new(),
            cutoffs: Vec::new(),
            overall: None,
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if !self.signals.contains(&signal) {
            self.signals.push(signal);
        }
    }

    /// A stored number, which its data have to give bit for bit; nothing where the file leaves it out.
    pub(crate) fn figure(
        &mut self,
        name: &str,
        stored: impl Into<Option<f64>>,
        recomputed: f64,
        place: &str,
    ) {
        self.noted(name, stored, recomputed, place, None);
    }

    /// The same with a note.
    pub(crate) fn noted(
        &mut self,
        name: &str,
        stored: impl Into<Option<f64>>,
        recomputed: f64,
        place: &str,
        note: Option<&str>,
    ) {
        let Some(stored) = stored.into() else { return };
        let agreement =
            if same(stored, recomputed) { Agreement::EveryDigit } else { Agreement::DoesNotFollow };
        self.figures.push(Figure {
            name: name.to_owned(),
            printed: stored.to_string(),
            recomputed: Some(recomputed.to_string()),
            agreement,
            note: note.map(str::to_owned),
            place: place.to_owned(),
        });
    }

    /// A figure or word as text, which has to come out letter for letter.
    pub(crate) fn text(
        &mut self,
        name: &str,
        printed: impl Into<Option<String>>,
        recomputed: String,
        place: &str,
        note: Option<&str>,
    ) {
        let Some(printed) = printed.into() else { return };
        let agreement = if printed == recomputed { Agreement::EveryDigit } else { Agreement::DoesNotFollow };
        self.figures.push(Figure {
            name: name.to_owned(),
            printed,
            recomputed: Some(recomputed),
            agreement,
            note: note.map(str::to_owned),
            place: place.to_owned(),
        });
    }

    /// A figure that no data in the file can give.
    pub(crate) fn not_in_file(&mut self, name: &str, stored: f64, place: &str, note: &str) {
        self.figures.push(Figure {
            name: name.to_owned(),
            printed: stored.to_string(),
            recomputed: None,
            agreement: Agreement::NotInFile,
            note: Some(note.to_owned()),
            place: place.to_owned(),
        });
    }

    /// Stored cells as one figure: every bit of every cell has to come out. Nothing where a file leaves them out.
    pub(crate) fn cells(
        &mut self,
        name: &str,
        stored: &[Vec<f64>],
        recomputed: &[Vec<f64>],
        place: &str,
        note: Option<&str>,
    ) {
        if stored.is_empty() {
            return;
        }
        let count: usize = stored.iter().map(Vec::len).sum();
        let pairs = stored.iter().flatten().zip(recomputed.iter().flatten());
        let agree = pairs.filter(|&(&a, &b)| same(a, b)).count();
        let whole = agree == count && recomputed.iter().map(Vec::len).sum::<usize>() == count;
        self.figures.push(Figure {
            name: format!("{name} ({count} cells)"),
            printed: range(stored),
            recomputed: Some(format!("{}; {agree} of {count} cells agree in every bit", range(recomputed))),
            agreement: if whole { Agreement::EveryDigit } else { Agreement::DoesNotFollow },
            note: note.map(str::to_owned),
            place: place.to_owned(),
        });
    }

    /// What a published figure or rule says.
    pub(crate) fn finding(&mut self, sentence: impl Into<String>, places: &[&str]) {
        self.about(FindingTopic::Figure, sentence, places);
    }

    pub(crate) fn about(&mut self, about: FindingTopic, sentence: impl Into<String>, places: &[&str]) {
        let places = places.iter().map(|&place| place.to_owned()).collect();
        self.findings.push(Finding { about, sentence: sentence.into(), places });
    }

    pub(crate) fn cutoffs(&mut self, cutoffs: &[Cutoff]) {
        for cutoff in cutoffs {
            if !self.cutoffs.contains(cutoff) {
                self.cutoffs.push(*cutoff);
            }
        }
    }

    pub(crate) fn table(&mut self, title: &str, columns: &[&str], rows: Vec<Vec<String>>) {
        self.tables.push(Table {
            title: title.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows,
            printed_at: None,
        });
    }

    /// A matrix by the published definition, `labels` for rows and columns.
    pub(crate) fn matrix(
        &mut self,
        heading: &Heading<'_>,
        labels: &[String],
        values: &[Vec<f64>],
        references: u64,
    ) {
        self.signal(heading.signal);
        self.matrices.push(Matrix {
            title: heading.title.to_owned(),
            relation: heading.relation,
            phase: heading.phase,
            signal: heading.signal,
            statistic: heading.statistic.to_owned(),
            labels: labels.to_vec(),
            values: values.to_vec(),
            references,
            place: heading.place.to_owned(),
        });
    }
}

/// Equal as numbers, or both no number.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a == 0.0 && b == 0.0) || (a.is_nan() && b.is_nan())
}

/// Smallest and largest cell, as the logs print them.
fn range(cells: &[Vec<f64>]) -> String {
    let all = || cells.iter().flatten().copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    format!("{} … {}", python::printed(low), python::printed(high))
}
