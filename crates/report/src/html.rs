//! One page that needs nothing else: no script, no network, no file beside it.
//!
//! Each verb turns its result into typed parts ([`parts`]), and one place lays them out ([`page`]). Every number of an
//! analysis leads to its row among the citations, every picture has a title, a description and its table. What would
//! make the page too long for a browser is cut, and says so.

use std::io::{self, Write};

use mantissa_compare::Comparison;
use mantissa_verdict::analysis::Source;
use mantissa_verdict::drift::Drift;
use mantissa_verdict::{Analysis, Audit};

mod analysis;
mod audit;
mod citations;
mod comparison;
mod drift;
mod heat;
mod index;
mod limits;
mod lines;
mod look;
mod matrices;
mod own;
mod page;
mod parts;
mod rows;
mod scale;
mod stated;
mod strips;

pub use index::index;

/// Writes the page.
///
/// ```
/// use mantissa_report::html;
/// # use mantissa_evidence::Record;
/// # use mantissa_verdict::analysis::Source;
/// # use mantissa_verdict::judge::{Evidence, judge_evidence};
/// # let record = Record::open("../../fixtures/evidence/v1/container".as_ref())?;
/// # let (name, layout) = ("<script>.json".to_owned(), "container".to_owned());
/// # let source = Source { name, layout, ..Source::default() };
/// # let analysis = judge_evidence(&[Evidence::of_record(&source, &record)], &Default::default())?;
///
/// // `analysis` is of a file that somebody called `<script>.json`.
/// let mut page = Vec::new();
/// html(&analysis, &mut page)?;
/// let page = String::from_utf8(page)?;
/// assert!(page.contains("&lt;script&gt;.json") && !page.contains("<script"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn html(analysis: &Analysis, out: &mut dyn Write) -> io::Result<()> {
    page::write(&analysis::parts(analysis), out)
}

/// Writes the page of an audit.
///
/// ```
/// # use mantissa_verdict::Audit;
/// # use mantissa_verdict::audit::{AUDIT_VERSION, Cost};
/// # let audit = Audit {
/// #     audit_version: AUDIT_VERSION,
/// #     sources: vec![],
/// #     model: None,
/// #     replay: "none".into(),
/// #     outcome: Audit::outcome_of(&[]),
/// #     candidates: vec![],
/// #     claims: vec![],
/// #     matrices: vec![],
/// #     cost: Cost::default(),
/// #     consistency: vec![],
/// #     contested: vec![],
/// #     spot_checks: vec![],
/// #     self_test: vec![],
/// #     notes: vec!["nothing was replayed".into()],
/// #     thresholds: vec![],
/// #     catalogs: vec![],
/// # };
/// // `audit` is what `mantissa_verdict::audit` and its caller found.
/// let mut page = Vec::new();
/// mantissa_report::audit_html(&audit, &mut page)?;
/// assert!(String::from_utf8_lossy(&page).contains("<li>nothing was replayed </li>"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn audit_html(audit: &Audit, out: &mut dyn Write) -> io::Result<()> {
    page::write(&audit::parts(audit), out)
}

/// Writes the page of a comparison of records, which came from `sources`.
///
/// ```
/// use mantissa_compare::{Comparison, Selection};
/// use mantissa_published::{Content, open};
///
/// let file = open("../../fixtures/evidence/v1/container".as_ref())?;
/// let sources = [mantissa_verdict::analysis::Source::from(&file)];
/// let Content::Record(record) = file.content else { panic!("a record") };
/// let found = Comparison::of(&[(file.name, record)], &Selection::default())?;
/// let mut page = Vec::new();
/// mantissa_report::comparison_html(&found, &sources, &mut page)?;
/// assert!(String::from_utf8_lossy(&page).contains("Nothing is judged"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn comparison_html(comparison: &Comparison, sources: &[Source], out: &mut dyn Write) -> io::Result<()> {
    let figures = comparison::figures(comparison);
    page::write(&comparison::parts(comparison, sources, &figures), out)
}

/// Writes the page of a drift.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "<a>".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let mut page = Vec::new();
/// mantissa_report::drift_html(&drift, &mut page)?;
/// let page = String::from_utf8_lossy(&page);
/// assert!(page.contains("Nothing could be compared.") && page.contains("&lt;a&gt;"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn drift_html(drift: &Drift, out: &mut dyn Write) -> io::Result<()> {
    page::write(&drift::parts(drift), out)
}
