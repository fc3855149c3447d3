//! What others printed: their tables, and their figures beside what their own data give.
//!
//! Left out: the definitions behind them (`mantissa-published`).

use schemars::JsonSchema;
use serde::Serialize;

use super::source::Citation;

/// A table of text, as the published definitions print it.
///
/// ```
/// # let file = mantissa_published::open(&mantissa_testkit::synthetic("quant_generation.json"))?;
/// # let given = [((&file).into(), &file.content)];
/// # let analysis = mantissa_verdict::as_published(&given, &mantissa_verdict::Options::default())?;
/// // `analysis` is what `as_published` makes of `quant_generation.json`.
/// let mut tables = analysis.tables.iter();
/// let table = tables.find(|table| table.title.ends_with("pairwise distances, decode")).expect("a table");
/// // Printed as the largest distance; what it means is that the two wrote different texts.
/// assert_eq!(table.rows[1], ["awq_vs_gptq", "inf", "LARGE"]);
/// assert_eq!(table.note.as_deref(), Some("published definition, not a verdict"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Column titles.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
    /// What to know before using it.
    pub note: Option<String>,
}

/// A printed figure against what its own data give.
///
/// Example: [`as_published()`](crate::as_published()).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PublishedFigure {
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
    /// Where it is printed.
    pub citation: Citation,
}

/// Whether a printed figure follows from its data.
///
/// ```
/// use mantissa_published::{Content, parse};
/// use mantissa_verdict::analysis::{Agreement, Source};
/// use mantissa_verdict::{Options, as_published};
///
/// # let path = mantissa_testkit::synthetic("attention_verification.json");
/// // One stored quotient is changed.
/// let text = std::fs::read_to_string(path)?.replace("\"key_snr\": 9.9", "\"key_snr\": 8.9");
/// let file = Content::Published(parse(text.as_bytes(), "changed.json".as_ref())?.expect("a known layout"));
/// # let source = Source {
/// #     name: "changed.json".to_owned(),
/// #     layout: file.layout().to_owned(),
/// #     ..Source::default()
/// # };
/// let analysis = as_published(&[(source, &file)], &Options::default())?;
/// let wrong = analysis.published.iter().find(|figure| figure.agreement == Agreement::DoesNotFollow);
/// assert_eq!(wrong.map(|figure| figure.name.as_str()), Some("SNR, key vectors, prefill"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Every printed digit.
    EveryDigit,
    /// Its inputs are printed too short to tell; it lies in the range they leave.
    WithinRounding,
    /// It does not follow.
    DoesNotFollow,
    /// Its inputs are not in the file.
    NotInFile,
}
