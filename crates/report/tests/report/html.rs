//! The page as a document: well-formed, complete in itself, every reference answered.

use std::collections::BTreeSet;

use mantissa_report::html;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Mode, Outcome};
use roxmltree::{Document, Node, ParsingOptions};

use crate::sample::{HOSTILE, analysis};
use crate::{large, rendered};

fn page(analysis: &Analysis) -> String {
    rendered(|out| html(analysis, out))
}

/// The page is well-formed XML as well, which is stricter than HTML.
fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, nodes_limit: 1_000_000, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).expect("well-formed")
}

fn elements<'a>(document: &'a Document<'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.tag_name().name() == name)
}

fn elements_of<'a>(node: Node<'a, 'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    node.descendants().filter(move |node| node.tag_name().name() == name)
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect()
}

#[test]
fn it_is_well_formed_and_every_reference_is_answered() {
    for analysis in [analysis(), large::analysis()] {
        let page = page(&analysis);
        let document = parsed(&page);
        let mut ids = BTreeSet::new();
        for node in document.descendants() {
            if let Some(id) = node.attribute("id") {
                assert!(ids.insert(id), "{id} twice");
            }
        }
        let (mut links, mut labels, mut paints) = (0, 0, 0);
        for node in document.descendants() {
            if let Some(link) = node.attribute("href") {
                assert!(link.strip_prefix('#').is_some_and(|id| ids.contains(id)), "{link}");
                links += 1;
            }
            for id in node.attribute("aria-labelledby").iter().flat_map(|list| list.split(' ')) {
                assert!(ids.contains(id), "{id}");
                labels += 1;
            }
            for paint in ["fill", "stroke"].iter().filter_map(|name| node.attribute(*name)) {
                if let Some(id) = paint.strip_prefix("url(#") {
                    assert!(ids.contains(id.trim_end_matches(')')), "{paint}");
                    paints += 1;
                }
                assert!(!paint.starts_with("#0102"), "an ink without a paint: {paint}");
            }
        }
        assert!(links > 0 && labels > 0 && paints > 0, "{links} {labels} {paints}");
    }
}

#[test]
fn it_needs_nothing_and_runs_nothing() {
    let page = page(&analysis());
    let document = parsed(&page);
    for node in document.descendants() {
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{}", attribute.name());
            assert_ne!(attribute.name(), "src");
            assert_ne!(attribute.name(), "style");
        }
    }
    for forbidden in
        ["script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "image", "a:link"]
    {
        assert_eq!(elements(&document, forbidden).count(), 0, "{forbidden}");
    }
    let style = text(elements(&document, "style").next().expect("a style sheet"));
    assert!(!style.contains("@import") && !style.contains("url(") && !style.contains("http"), "{style}");
    let policy = elements(&document, "meta")
        .find_map(|meta| meta.attribute("http-equiv").and(meta.attribute("content")));
    assert!(policy.expect("a policy").starts_with("default-src 'none';"));
    // Outside of namespaces, an address can only be text that came from a file.
    let addresses = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "").matches("http").count();
    let quoted: usize = document
        .descendants()
        .filter(Node::is_text)
        .filter_map(|node| node.text())
        .map(|text| text.matches("http").count())
        .sum();
    let labels: usize = document
        .descendants()
        .filter_map(|node| node.attribute("aria-label"))
        .map(|label| label.matches("http").count())
        .sum();
    let policies = page.matches("http-equiv").count();
    assert_eq!(addresses, quoted + labels + policies);
}

#[test]
fn names_from_files_stay_text() {
    let page = page(&analysis());
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
    let document = parsed(&page);
    let shown = text(document.root_element());
    let expected =
        HOSTILE.replace('\u{1b}', "\\u{1b}").replace("\r\n", "\\u{d}\\u{a}").replace('\u{202e}', "\\u{202e}");
    assert!(shown.matches(&expected).count() > 10, "{shown}");
}

#[test]
fn every_plot_stands_alone_and_has_words_and_values() {
    let page = page(&analysis());
    let document = parsed(&page);
    let plots: Vec<Node<'_, '_>> =
        elements(&document, "svg").filter(|svg| svg.attribute("role") == Some("img")).collect();
    assert_eq!(plots.len(), 6, "two class diagrams, two matrices, two charts");
    for plot in plots {
        let source = &page[plot.range()];
        let alone = Document::parse(source).expect("XML by itself");
        assert_eq!(alone.root_element().tag_name().namespace(), Some("http://www.w3.org/2000/svg"));
        for name in ["title", "desc"] {
            let words = elements(&alone, name).next().map(text).unwrap_or_default();
            assert!(words.len() > 20, "{name}: {words}");
        }
        let figure = plot.ancestors().find(|node| node.tag_name().name() == "figure").expect("a figure");
        let section = figure.ancestors().find(|node| node.tag_name().name() == "section").expect("a section");
        let table = |node: Node<'_, '_>| node.descendants().any(|node| node.tag_name().name() == "table");
        assert!(table(figure) || (section.attribute("id") == Some("classes") && table(section)));
    }
}

#[test]
fn tables_have_captions_and_scopes_and_scroll_by_keyboard() {
    let page = page(&analysis());
    let document = parsed(&page);
    assert!(elements(&document, "table").count() > 12);
    for table in elements(&document, "table") {
        assert!(table.children().any(|node| node.tag_name().name() == "caption" && !text(node).is_empty()));
        let region = table.parent().expect("a parent");
        assert_eq!((region.attribute("role"), region.attribute("tabindex")), (Some("region"), Some("0")));
        let rows: Vec<usize> = table
            .descendants()
            .filter(|node| node.tag_name().name() == "tr")
            .map(|row| row.children().filter(Node::is_element).count())
            .collect();
        assert!(rows.iter().all(|&cells| cells == rows[0]), "{rows:?}");
    }
    for heading in elements(&document, "th") {
        assert!(matches!(heading.attribute("scope"), Some("col" | "row")));
    }
}

/// A number of a pair leads to the place that it was read at.
#[test]
fn numbers_lead_to_their_places() {
    let page = page(&analysis());
    let document = parsed(&page);
    for (number, place) in
        [("0.6398", "matrix[1][2]"), ("10.94", "matrix[0][1]"), ("0.04670", "runs of gptq")]
    {
        let link = elements(&document, "a").find(|link| text(*link) == number).expect("a link");
        let id = link.attribute("href").and_then(|link| link.strip_prefix('#')).expect("an anchor");
        let row = document.descendants().find(|node| node.attribute("id") == Some(id)).expect("a citation");
        let list = row.ancestors().find(|node| node.attribute("class") == Some("cited")).expect("a list");
        let file = text(elements_of(list, "h3").next().expect("a heading"));
        assert!(text(row).ends_with(place), "{}", text(row));
        assert!(file.contains("batch_A100_on_A100.json") && file.contains("blake3 5f1b0c7d"), "{file}");
    }
}

/// The four states differ in what a cell says, not only in its colour.
#[test]
fn states_are_told_apart_without_colour() {
    let page = page(&analysis());
    let document = parsed(&page);
    let svg = elements(&document, "svg")
        .filter(|svg| text(*svg).contains("Heat map of 9 rows"))
        .last()
        .expect("the matrix");
    let labels: Vec<String> =
        svg.children().filter(|node| node.tag_name().name() == "text").map(text).collect();
    for (symbol, count) in [("=", 39), ("∅", 2), ("×", 2), ("≠", 2), ("0.000213", 3)] {
        assert_eq!(labels.iter().filter(|label| *label == symbol).count(), count, "{symbol}: {labels:?}");
    }
    for hatch in ["url(#hatch-missing)", "url(#hatch-incomparable)"] {
        assert_eq!(svg.children().filter(|node| node.attribute("fill") == Some(hatch)).count(), 2);
    }
}

#[test]
fn an_empty_analysis_is_a_page_too() {
    let mut empty = analysis();
    empty.outcome = Outcome::NotEnoughEvidence;
    empty.mode = Mode::AsPublished;
    (empty.findings, empty.tokens, empty.reproducibility, empty.classes) = (vec![], vec![], vec![], vec![]);
    (empty.pairs, empty.matrices, empty.profiles, empty.bounds) = (vec![], vec![], vec![], vec![]);
    (empty.tables, empty.published, empty.thresholds, empty.sources) = (vec![], vec![], vec![], vec![]);
    let page = page(&empty);
    let shown = text(parsed(&page).root_element());
    assert!(shown.contains("not enough evidence") && shown.contains("Not a verdict"), "{shown}");
}

/// Figures at the edges of what can be drawn: nothing, one point, zeros, huge and tiny, not finite.
#[test]
fn odd_figures_are_drawn_without_failing() {
    let mut odd = analysis();
    for value in [0.0, f64::MIN_POSITIVE, f64::from_bits(1), 1e300, f64::MAX, f64::INFINITY, f64::NAN, -1.0] {
        for (at, others) in [(0, None), (i64::MAX, Some(1.0)), (i64::MIN, Some(1.0)), (7, Some(0.0))] {
            odd.profiles[0].points = vec![(at, Some(value)), (at.saturating_add(1), others)];
            odd.profiles[1].points = vec![];
            odd.matrices[0].cells[0][1].value = Some(value);
            parsed(&page(&odd));
        }
    }
    odd.matrices[0].rows.clear();
    odd.matrices[0].cells.clear();
    odd.matrices[1].columns.clear();
    odd.classes[0].classes.clear();
    parsed(&page(&odd));
}
