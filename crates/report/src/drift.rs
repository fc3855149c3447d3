//! A [`Drift`] for people and programs: text, Markdown, JSON.
//!
//! Sentences first, then tables laid out once for text and Markdown.

pub(crate) mod said;
mod summary;

use std::io::{self, Write};

use mantissa_numerics::schema::without_examples;
use mantissa_verdict::drift::{Drift, DriftBaseline};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use crate::foreign::markdown as escape;
use crate::markdown::table;
use crate::text::{Page, Style};
use crate::words;
pub use summary::drift_summary;

use said::{about, counted, meaning, propagation, sentences, tables};

/// The drift for a terminal.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let page = mantissa_report::drift_text(&drift, mantissa_report::Style::default());
/// assert!(page.starts_with("cannot be localized  Nothing could be compared."), "{page}");
/// ```
#[must_use]
pub fn drift_text(drift: &Drift, style: Style) -> String {
    let mut page = Page::new(style);
    page.drift(drift.answer, &meaning(drift));
    for (label, value) in about(drift) {
        page.field(label, &value);
    }
    let sentences = sentences(drift);
    if !sentences.is_empty() {
        page.heading("Why");
        for sentence in &sentences {
            page.hanging("  - ", sentence);
        }
    }
    for grid in tables(drift) {
        page.grid(&grid);
    }
    if !drift.notes.is_empty() {
        page.heading("Notes");
        drift.notes.iter().for_each(|note| page.hanging("  - ", note));
    }
    page.finish()
}

/// Writes the drift as Markdown: the sections of a drift report, for a pull request.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let mut page = Vec::new();
/// mantissa_report::drift_markdown(&drift, &mut page)?;
/// assert!(page.starts_with(b"# Drift: cannot be localized"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn drift_markdown(drift: &Drift, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# Drift: {}\n\n{}\n", drift.answer.words(), escape(&meaning(drift)))?;
    for (label, value) in about(drift) {
        writeln!(out, "- {}: {}", words::capital(label), escape(&value))?;
    }
    writeln!(out, "\n## Summary\n")?;
    let (titles, numbers): (Vec<&str>, Vec<String>) =
        counted(drift).into_iter().map(|(word, number)| (word, number.to_string())).unzip();
    writeln!(out, "| pairs | {} |\n|{}", titles.join(" | "), " ---: |".repeat(titles.len() + 1))?;
    writeln!(out, "| {} | {} |", drift.counts.pairs, numbers.join(" | "))?;
    let sentences = sentences(drift);
    if !sentences.is_empty() {
        writeln!(out, "\n## Why\n")?;
        for sentence in &sentences {
            writeln!(out, "- {}", escape(sentence))?;
        }
    }
    writeln!(out, "\n## Propagation\n\n```\n{}```", propagation(drift))?;
    for grid in tables(drift) {
        if !grid.rows.is_empty() {
            writeln!(out, "\n## {}", escape(&grid.caption))?;
            table(out, &grid)?;
        }
    }
    if !drift.notes.is_empty() {
        writeln!(out, "\n## Notes\n")?;
        for note in &drift.notes {
            writeln!(out, "- {}", escape(note))?;
        }
    }
    Ok(())
}

/// Writes `drift.json`.
///
/// ```
/// # use mantissa_verdict::drift::{Drift, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// let mut file = Vec::new();
/// mantissa_report::drift_json(&drift, &mut file)?;
/// assert_eq!(serde_json::from_slice::<serde_json::Value>(&file)?["answer"], "not_localized");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn drift_json(drift: &Drift, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, drift)?;
    out.write_all(b"\n")
}

/// The JSON Schema of `drift.json`, as published in `docs/format`.
///
/// ```
/// let file = std::fs::read("../../docs/format/drift.schema.json")?;
/// assert_eq!(mantissa_report::drift_schema(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn drift_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with_transform(RecursiveTransform(without_examples));
    settings.into_generator().into_root_schema_for::<Drift>().to_value()
}

/// Writes a baseline, to be committed.
///
/// ```
/// # use mantissa_verdict::drift::{BaselineOf, BaselineSide, Drift, DriftBaseline, DriftCounts, DriftSide};
/// # let side = || DriftSide { name: "a".into(), setup: "cpu_bs1".into(), digest: None, reproduced: None };
/// # let drift = Drift::of([side(), side()], Vec::new(), DriftCounts::default());
/// # let side = || BaselineSide { setup: "cpu_bs1".into(), digest: None };
/// # let made_of = BaselineOf { model: None, weights_digest: None, tokens_digest: None, sides: [side(), side()] };
/// // `drift` is what was found, `made_of` says of what.
/// let baseline = DriftBaseline::of(&drift, made_of, false);
/// let mut file = Vec::new();
/// mantissa_report::drift_baseline_json(&baseline, &mut file)?;
/// assert_eq!(DriftBaseline::parse(&file, "baseline.json".as_ref())?, baseline);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn drift_baseline_json(baseline: &DriftBaseline, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, baseline)?;
    out.write_all(b"\n")
}

/// The JSON Schema of a baseline, as published in `docs/format`.
///
/// ```
/// let file = std::fs::read("../../docs/format/drift-baseline.schema.json")?;
/// assert_eq!(mantissa_report::drift_baseline_schema(), serde_json::from_slice::<serde_json::Value>(&file)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn drift_baseline_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let settings = settings.with_transform(RecursiveTransform(without_examples));
    settings.into_generator().into_root_schema_for::<DriftBaseline>().to_value()
}
