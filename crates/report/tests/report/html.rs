//! The page as a document: well-formed, complete in itself, every reference answered.

use std::collections::BTreeSet;

use mantissa_numerics::Phase;
use mantissa_report::html;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Answer, Axis, Mode, Outcome, Signal, State};
use roxmltree::{Document, Node, ParsingOptions};

use crate::experiment::{NINE, NOISY, TWO, judged};
use crate::sample::{HOSTILE, analysis};
use crate::{large, rendered};

fn page(analysis: &Analysis) -> String {
    rendered(|out| html(analysis, out))
}

/// The page is well-formed XML as well, which is stricter than HTML.
pub(crate) fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, nodes_limit: 1_000_000, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).expect("well-formed")
}

pub(crate) fn elements<'a>(document: &'a Document<'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.tag_name().name() == name)
}

fn elements_of<'a>(node: Node<'a, 'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    node.descendants().filter(move |node| node.tag_name().name() == name)
}

pub(crate) fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect()
}

/// Well-formed; every reference is answered; tables and pictures have names; headings skip no level.
pub(crate) fn sound(page: &str) {
    let document = parsed(page);
    let mut ids = BTreeSet::new();
    for node in document.descendants() {
        if let Some(id) = node.attribute("id") {
            assert!(ids.insert(id), "{id} twice");
        }
    }
    for node in document.descendants() {
        if let Some(link) = node.attribute("href") {
            assert!(link.strip_prefix('#').is_some_and(|id| ids.contains(id)), "{link}");
        }
        for id in node.attribute("aria-labelledby").iter().flat_map(|list| list.split(' ')) {
            assert!(ids.contains(id), "{id}");
        }
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{}", attribute.name());
            assert!(!["src", "style"].contains(&attribute.name()), "{}", attribute.name());
        }
    }
    let mut level = 0;
    for heading in
        document.descendants().filter_map(|node| node.tag_name().name().strip_prefix('h')?.parse::<u8>().ok())
    {
        assert!(heading <= level + 1, "h{heading} after h{level}");
        level = heading;
    }
    for table in elements(&document, "table") {
        let named = table.attribute("aria-labelledby").is_some()
            || table.children().any(|node| node.tag_name().name() == "caption" && !text(node).is_empty());
        assert!(named);
        let region = table.parent().expect("a parent");
        assert_eq!((region.attribute("role"), region.attribute("tabindex")), (Some("region"), Some("0")));
    }
    for heading in elements(&document, "th") {
        assert!(matches!(heading.attribute("scope"), Some("col" | "row" | "colgroup" | "rowgroup")));
    }
    for picture in elements(&document, "svg").filter(|svg| svg.attribute("role") == Some("img")) {
        let source = &page[picture.range()];
        let alone = Document::parse(source).expect("XML by itself");
        for name in ["title", "desc"] {
            assert!(elements(&alone, name).next().is_some_and(|words| !text(words).is_empty()), "{source}");
        }
    }
    let answer = elements(&document, "section").next().expect("a section");
    assert_eq!(answer.attribute("id"), Some("answer"));
}

#[test]
fn it_is_sound_whatever_the_analysis_holds() {
    for analysis in [analysis(), large::analysis(), judged(&NINE), judged(&NOISY), judged(&TWO)] {
        sound(&page(&analysis));
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
    assert!(
        !style.contains("@import") && !style.replace("url(#", "").contains("url(") && !style.contains("http"),
        "{style}"
    );
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

/// Every matrix and every chart has its values in a table beside it.
#[test]
fn pictures_have_their_values_beside_them() {
    let page = page(&analysis());
    let document = parsed(&page);
    let section =
        |id: &str| elements(&document, "section").find(|section| section.attribute("id") == Some(id));
    for (id, pictures, tables) in [("matrices", 2, 2), ("profiles", 2, 2), ("first", 1, 0)] {
        let section = section(id).expect("a section");
        let figures = elements_of(section, "figure").count();
        let folded =
            elements_of(section, "details").flat_map(|details| elements_of(details, "table")).count();
        assert_eq!((figures, folded), (pictures, tables), "{id}");
    }
}

/// A line joins layers that stand beside one another; others are marks alone.
#[test]
fn no_line_goes_across_layers_that_were_not_recorded() {
    let page = page(&judged(&NINE));
    let document = parsed(&page);
    let chart = elements(&document, "figure")
        .find(|figure| text(*figure).starts_with("Mean L2 by layer: prefill, key vectors"))
        .expect("a chart");
    let line = elements_of(chart, "g").next().expect("a line");
    // Of layers 1, 2, 3, 7, 14, 21, 27, 28 only 1-2, 2-3 and 27-28 are neighbours.
    let joined = elements_of(line, "line").count();
    let marked = elements_of(line, "svg").count();
    assert_eq!((joined, marked), (3, 8));
}

/// What is alike everywhere is named in a sentence and has no panel.
#[test]
fn zeros_alone_have_no_panel() {
    let mut flat = analysis();
    for cell in flat.matrices[0].cells.iter_mut().flatten() {
        (cell.state, cell.value) = (State::Equal, Some(0.0));
    }
    for point in flat.profiles.iter_mut().flat_map(|profile| &mut profile.points) {
        point.1 = Some(0.0);
    }
    let page = page(&flat);
    assert_eq!(page.matches("Without a picture").count(), 2);
    assert!(!page.contains("class=\"lines\""));
}

/// Pairs without a distance have no line; their number is told.
#[test]
fn lines_at_zero_throughout_are_counted_and_not_drawn() {
    let analysis = judged(&NINE);
    let here = analysis.profiles.iter().filter(|profile| {
        (profile.axis, profile.phase, profile.signal) == (Axis::Layer, Phase::Prefill, Signal::KeyVectors)
    });
    let (drawn, flat): (Vec<_>, Vec<_>) =
        here.partition(|profile| profile.points.iter().any(|point| point.1 > Some(0.0)));
    assert!(!drawn.is_empty() && !flat.is_empty(), "{} and {}", drawn.len(), flat.len());
    let page = page(&analysis);
    let document = parsed(&page);
    let chart = elements(&document, "figure")
        .find(|figure| text(*figure).starts_with("Mean L2 by layer: prefill, key vectors"))
        .expect("a chart");
    assert_eq!(elements_of(chart, "g").count(), drawn.len());
    assert!(page.contains(&format!("Mean L2 by layer: prefill, key vectors ({} pairs)", flat.len())));
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
    let matrix =
        elements(&document, "figure").find(|figure| text(*figure).contains("Batch sizes")).expect("it");
    let labels: Vec<String> = elements_of(matrix, "td").map(text).collect();
    for (symbol, count) in [("=", 39), ("∅", 2), ("×", 2), ("≠", 2), ("0.000213", 2)] {
        assert_eq!(labels.iter().filter(|label| *label == symbol).count(), count, "{symbol}: {labels:?}");
    }
    for (class, count) in [("missing", 2), ("incomparable", 2), ("unknown", 2), ("equal", 39)] {
        let cells = elements_of(matrix, "td").filter(|cell| cell.attribute("class") == Some(class));
        assert_eq!(cells.count(), count, "{class}");
    }
}

/// The grid has an answer for each pair and signal that was judged, and a word beside each symbol.
#[test]
fn the_grid_has_every_pair_by_every_signal() {
    let (analysis, page) = (judged(&NINE), page(&judged(&NINE)));
    let document = parsed(&page);
    let grid =
        elements(&document, "table").find(|table| table.attribute("class") == Some("overview")).expect("it");
    let marks: Vec<String> = elements_of(grid, "td").map(text).collect();
    assert_eq!(marks.len(), analysis.pairs.len());
    let of = |answer| analysis.pairs.iter().filter(|pair| pair.answer == answer).count();
    let with = |word: &str| marks.iter().filter(|mark| mark.contains(word)).count();
    assert_eq!(with("≠separable"), of(Answer::Separable));
    assert_eq!(with("=identical"), of(Answer::Identical));
    assert!(of(Answer::Separable) > 0 && of(Answer::Identical) > 0);
}

/// A setup on two machines is one setup, and the baseline of hardware is no pair of setups.
#[test]
fn the_lead_says_what_was_compared_and_counts_its_answers() {
    let page = page(&judged(&NINE));
    let words = "hidden states, key vectors and logprobs were compared between 9 setups that vary batch size";
    assert!(page.contains(words));
    let of = |answer| judged(&NINE).pairs.iter().filter(|pair| pair.answer == answer).count();
    let counted = format!(
        "{} told apart; {} found to have the same bits.",
        of(Answer::Separable),
        of(Answer::Identical)
    );
    assert!(page.contains(&counted), "{counted}");
    let page = self::page(&analysis());
    assert!(page.contains("between 8 setups that vary batch size"));
}

/// The line that decides runs through every strip of a pair that has a floor.
#[test]
fn the_deciding_line_is_drawn_through_every_strip() {
    let page = page(&judged(&NOISY));
    let document = parsed(&page);
    let strips = elements(&document, "figure").filter(|figure| figure.attribute("class") == Some("strips"));
    let mut rows = 0;
    for figure in strips {
        for svg in elements_of(figure, "svg").filter(|svg| svg.attribute("role") == Some("img")) {
            let lines: Vec<_> =
                elements_of(svg, "line").filter(|line| line.attribute("class") == Some("decides")).collect();
            assert_eq!(lines.len(), 1);
            assert!(elements_of(svg, "rect").any(|band| band.attribute("class") == Some("own")));
            rows += 1;
        }
    }
    assert_eq!(rows, 36, "six pairs by six signals");
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
    assert!(shown.contains("Not enough evidence") && shown.contains("Not a verdict"), "{shown}");
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
