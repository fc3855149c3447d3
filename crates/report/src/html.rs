//! One page that needs nothing else: no script, no network, no file beside it.
//!
//! It is well-formed XML too, which is how its tests read it. Every number leads to its row among the citations, every
//! plot has a title, a description and its table. What would make the page too long for a browser is cut, and says so.

use std::io::{self, Write};

use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Mode, Outcome};

use crate::foreign::{html as escape, push};
use crate::grid::{self, Grid};
use crate::plot::class_diagram::{self, class_diagram};
use crate::plot::heat_map::heat_map;
use crate::plot::line_chart::line_chart;
use crate::plot::{Plot, SERIES};
use crate::words;

use page::Page;

mod citations;
mod index;
mod page;

pub use index::index;

/// Nothing is loaded and nothing runs; styles stand in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("html/style.css");
/// Hatches that plots refer to.
const HATCHES: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0" class="hatches" aria-hidden="true" focusable="false"><defs><pattern id="hatch-missing" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" fill="var(--paper)"/><rect width="2" height="7" fill="var(--hatch)"/></pattern><pattern id="hatch-incomparable" width="9" height="9" patternUnits="userSpaceOnUse"><rect width="9" height="9" fill="var(--paper)"/><path d="M0 0L9 9M9 0L0 9" stroke="var(--hatch)" stroke-width="1.5"/></pattern></defs></svg>"#;

/// Cells of heat maps, class diagrams and charts of a page, at most.
const CELLS: usize = 2_400;
const DIAGRAMS: usize = 24;
const CHARTS: usize = 10;

/// Writes the page.
///
/// ```
/// use mantissa_report::html;
/// # use mantissa_evidence::Record;
/// # use mantissa_verdict::analysis::Source;
/// # use mantissa_verdict::judge::{Evidence, judge_evidence};
/// # let record = Record::open("../../fixtures/evidence/v1/container".as_ref())?;
/// # let (name, layout) = ("<script>.json".to_owned(), "container".to_owned());
/// # let source = Source { name, digest: String::new(), layout, warnings: vec![] };
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
    let mut page = Page::new(analysis);
    answer(&mut page, analysis);
    findings(&mut page, analysis);
    classes(&mut page, analysis)?;
    matrices(&mut page, analysis)?;
    profiles(&mut page, analysis)?;
    page.section("tokens", "Tokens", &[grid::tokens(analysis)]);
    page.section("reproducibility", "Reproducibility", &[grid::reproducibility(analysis)]);
    page.section("pairs", "Pairs of setups", &grid::pairs(analysis));
    page.section("bounds", "False alarms", &[grid::bounds(analysis)]);
    page.section("published-definitions", "Published definitions", &grid::tables(analysis));
    page.section("published-figures", "Published figures", &[grid::published(analysis)]);
    page.section("thresholds", "Thresholds", &[grid::thresholds(analysis)]);
    warnings(&mut page, analysis);
    page.sources(analysis);

    let (navigation, body) = page.finish();
    let title = format!("Mantissa: {}", words::headline(analysis.mode, analysis.outcome));
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<meta name=\"referrer\" content=\"no-referrer\"/>\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the answer</a>\n{HATCHES}\n\
         <header><p class=\"product\">Mantissa</p><h1>What the evidence shows</h1></header>\n\
         <nav aria-label=\"Sections\"><ul>{navigation}</ul></nav>\n<main id=\"main\" tabindex=\"-1\">\n{body}</main>\n\
         </body>\n</html>\n"
    )
}

fn answer(page: &mut Page<'_>, analysis: &Analysis) {
    // Nothing was claimed, so no answer is good or bad.
    let class = match analysis.outcome {
        Outcome::Consistent => "alike",
        Outcome::Divergent => "different",
        Outcome::NotEnoughEvidence => "not-enough",
    };
    page.open("answer", "Answer");
    push(
        &mut page.out,
        format_args!(
            "<p class=\"outcome {class}\"><strong>{}</strong> {}</p>\n",
            words::headline(analysis.mode, analysis.outcome),
            words::outcome_means(analysis.mode, analysis.outcome)
        ),
    );
    if analysis.mode == Mode::AsPublished {
        page.out.push_str("<p class=\"caution\"><strong>Not a verdict.</strong> These are the published definitions, kept to reproduce old tables.</p>\n");
    }
    let reference = analysis.question.reference.as_deref().unwrap_or("none, all pairs count alike");
    let facts = [
        ("Variable", escape(&analysis.question.variable)),
        ("Reference", escape(reference)),
        ("Signals", words::signals(&analysis.question.signals)),
        ("Definitions", words::mode(analysis.mode).to_owned()),
    ];
    page.out.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        push(&mut page.out, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    }
    page.out.push_str("</dl>\n");
    page.close();
}

fn findings<'a>(page: &mut Page<'a>, analysis: &'a Analysis) {
    page.open("findings", "Findings");
    if analysis.findings.is_empty() {
        page.out.push_str("<p>None.</p>\n");
    } else {
        page.out.push_str("<ol class=\"findings\">\n");
        for finding in analysis.findings.iter().take(page::ROWS) {
            let (kind, sentence) = (words::finding(finding.kind), escape(&finding.sentence));
            push(&mut page.out, format_args!("<li><span class=\"kind\">{kind}</span> {sentence} "));
            page.cite_all(finding.citations.iter());
            page.out.push_str("</li>\n");
        }
        page.out.push_str("</ol>\n");
        page.cut(page::ROWS, analysis.findings.len(), "findings");
    }
    page.close();
}

fn classes<'a>(page: &mut Page<'a>, analysis: &'a Analysis) -> io::Result<()> {
    if analysis.classes.is_empty() {
        return Ok(());
    }
    page.open("classes", "Equivalence classes");
    page.out.push_str(
        "<p>Setups in one box have equal bits: no test on this evidence can tell them apart.</p>\n",
    );
    for set in analysis.classes.iter().take(DIAGRAMS) {
        let plot = class_diagram(&page.figure(), set)?;
        figure(page, &class_diagram::title(set), &plot, None);
    }
    page.cut(DIAGRAMS, analysis.classes.len(), "diagrams");
    page.grid(&grid::classes(analysis));
    page.close();
    Ok(())
}

fn matrices<'a>(page: &mut Page<'a>, analysis: &'a Analysis) -> io::Result<()> {
    if analysis.matrices.is_empty() {
        return Ok(());
    }
    page.open("matrices", "Matrices of distances");
    page.out.push_str(
        "<ul class=\"legend\" aria-label=\"Cell states\"><li><span class=\"swatch scale\"></span> a number: other bits, at that distance</li>\
         <li><span class=\"swatch equal\">=</span> same bits</li><li><span class=\"swatch\">≠</span> other bits, distance unknown</li>\
         <li><span class=\"swatch missing\">∅</span> missing on one side</li>\
         <li><span class=\"swatch incomparable\">×</span> incomparable: tokens, formats or shapes forbid it</li></ul>\n",
    );
    let mut cells = 0;
    let within = |matrix: &&mantissa_verdict::analysis::Matrix| {
        cells += matrix.rows.len() * matrix.columns.len();
        cells <= CELLS
    };
    let shown: Vec<_> = analysis.matrices.iter().take_while(within).collect();
    for matrix in &shown {
        let plot = heat_map(&page.figure(), matrix)?;
        figure(page, &grid::matrix_caption(matrix), &plot, Some(&grid::matrix(matrix, 6)));
    }
    page.cut(shown.len(), analysis.matrices.len(), "matrices");
    page.close();
    Ok(())
}

fn profiles<'a>(page: &mut Page<'a>, analysis: &'a Analysis) -> io::Result<()> {
    let groups = grid::profile_groups(analysis, SERIES);
    if groups.is_empty() {
        return Ok(());
    }
    page.open("profiles", "Distance along layers and steps");
    for group in groups.iter().take(CHARTS) {
        let plot = line_chart(&page.figure(), group)?;
        figure(page, &grid::profile_caption(group), &plot, Some(&grid::profiles(group)));
    }
    page.cut(CHARTS, groups.len(), "charts");
    page.close();
    Ok(())
}

/// A plot in a frame that scrolls, and its table to unfold.
fn figure<'a>(page: &mut Page<'a>, caption: &str, plot: &Plot, data: Option<&Grid<'a>>) {
    let name = escape(caption);
    push(
        &mut page.out,
        format_args!(
            "<figure><figcaption>{name}</figcaption>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Plot: {name}\">{}</div>\n",
            plot.svg
        ),
    );
    if let Some(data) = data {
        page.out.push_str("<details><summary>Values as a table</summary>\n");
        page.grid(data);
        page.out.push_str("</details>\n");
    }
    page.out.push_str("</figure>\n");
}

fn warnings(page: &mut Page<'_>, analysis: &Analysis) {
    let all =
        || analysis.sources.iter().flat_map(|source| source.warnings.iter().map(move |w| (&source.name, w)));
    if all().next().is_none() {
        return;
    }
    page.open("warnings", "Warnings");
    page.out.push_str("<ul>\n");
    for (name, warning) in all().take(page::ROWS) {
        push(
            &mut page.out,
            format_args!("<li><strong>{}</strong>: {}</li>\n", escape(name), escape(warning)),
        );
    }
    page.out.push_str("</ul>\n");
    page.cut(page::ROWS, all().count(), "warnings");
    page.close();
}
