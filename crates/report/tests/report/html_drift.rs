//! The page of a drift as a document.

use mantissa_report::{Style, drift_html, drift_text};
use mantissa_verdict::drift::{Drift, DriftAnswer, DriftCounts};

use crate::drift_sample::{beside, drift, hashes, hostile, large};
use crate::html::{elements, parsed, sound, text};
use crate::rendered;
use crate::sample::HOSTILE;

fn page(drift: &Drift) -> String {
    rendered(|out| drift_html(drift, out))
}

fn equal() -> Drift {
    let pairs = large().pairs.into_iter().filter(|pair| pair.answer == DriftAnswer::Equal).collect();
    Drift::of(drift().sides, pairs, DriftCounts::default())
}

fn empty() -> Drift {
    Drift::of(drift().sides, Vec::new(), DriftCounts::default())
}

#[test]
fn it_is_sound_whatever_the_drift_holds() {
    for drift in [drift(), large(), hashes(), hostile(), beside(), equal(), empty()] {
        sound(&page(&drift));
    }
}

/// Every sentence of the terminal stands on the page, once.
#[test]
fn the_page_has_the_words_of_the_terminal() {
    for drift in [drift(), large(), hashes(), beside(), equal(), empty()] {
        let page = page(&drift);
        let document = parsed(&page);
        let shown = text(document.root_element());
        let terminal = drift_text(&drift, Style { width: usize::MAX, ..Style::default() });
        let answer = terminal.lines().next().expect("an answer").split_once("  ").expect("a sentence").1;
        assert_eq!(shown.matches(answer).count(), 1, "{answer}");
        for line in terminal.lines().filter_map(|line| line.strip_prefix("  - ")) {
            assert_eq!(shown.matches(line).count(), 1, "{line}");
        }
        for side in &drift.sides {
            assert!(shown.contains(&format!("{} ({})", side.name, side.setup)));
        }
    }
}

#[test]
fn names_from_files_stay_text() {
    let page = page(&hostile());
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
    let document = parsed(&page);
    let expected =
        HOSTILE.replace('\u{1b}', "\\u{1b}").replace("\r\n", "\\u{d}\\u{a}").replace('\u{202e}', "\\u{202e}");
    assert!(text(document.root_element()).matches(&expected).count() > 10);
}

/// A row per layer and a cell per point; the first unexplained is marked there and in both charts.
#[test]
fn sites_and_layers_are_a_grid_and_two_charts() {
    let drift = large();
    let page = page(&drift);
    let document = parsed(&page);
    let table =
        elements(&document, "table").find(|table| table.attribute("class") == Some("overview")).expect("one");
    let rows: Vec<_> =
        table.descendants().filter(|node| node.attribute("scope") == Some("row")).map(text).collect();
    assert_eq!(rows, (1..=64).map(|layer| layer.to_string()).collect::<Vec<_>>());
    let cells: Vec<_> = table.descendants().filter(|node| node.has_tag_name("td")).collect();
    assert_eq!(cells.len(), 64 * 11);
    let marked: Vec<usize> = (0..cells.len()).filter(|cell| text(cells[*cell]).contains("first")).collect();
    assert_eq!(marked, [19 * 11 + 4], "attn_out of layer 20");
    for (class, answer) in [
        ("same", DriftAnswer::Equal),
        ("fits", DriftAnswer::Explained),
        ("alike", DriftAnswer::WithinRounding),
        ("open", DriftAnswer::NotLocalized),
        ("contradicted", DriftAnswer::Unexplained),
    ] {
        let painted = cells.iter().filter(|cell| cell.attribute("class") == Some(class)).count();
        let sites = drift.sites.iter().filter(|site| site.layer.is_some() && site.answer == answer).count();
        assert_eq!(painted, sites, "{class}");
    }
    let charts: Vec<_> =
        elements(&document, "figure").filter(|figure| figure.attribute("class") == Some("lines")).collect();
    assert_eq!(charts.len(), 2);
    for chart in charts {
        let words = text(chart);
        assert!(words.starts_with("Relative difference by layer"), "{words}");
        assert!(words.contains("Marked at 20: first unexplained: layer 20 attn_out."), "{words}");
        assert!(chart.descendants().any(|node| node.attribute("class") == Some("decides")));
    }
    assert!(page.contains("500 of 673 rows are shown; all are in drift.json (--output)."));
}

/// Hashes have no distances: what is drawn is how many rows differ, and no line joins layers between which one lacks.
#[test]
fn traces_are_drawn_by_how_many_rows_differ() {
    let page = page(&hashes());
    let document = parsed(&page);
    let charts: Vec<_> =
        elements(&document, "figure").filter(|figure| figure.attribute("class") == Some("lines")).collect();
    assert!(text(charts[0]).starts_with("Share of rows that differ by layer"));
    let line = charts[1].descendants().find(|node| node.has_tag_name("g")).expect("a line");
    let joined = line.children().filter(|node| node.has_tag_name("line")).count();
    assert_eq!(joined, 2, "of layers 1, 2, 3, 5, 9 only 1-2 and 2-3 are neighbours");
    assert!(page.contains("3 rows have hashes of other kinds"));
}

#[test]
fn what_is_equal_has_no_picture() {
    let page = page(&equal());
    assert!(page.contains(">Equal</h2>") && !page.contains("class=\"lines\""));
    assert!(page.contains("Without a picture, because no row in a block differs."));
}

/// What is new stands in the answer and first in its table.
#[test]
fn a_baseline_is_answered_and_tabulated() {
    let page = page(&beside());
    let document = parsed(&page);
    let section = |id: &'static str| {
        elements(&document, "section").find(|one| one.attribute("id") == Some(id)).expect("a section")
    };
    let said = "Something is new beside the baseline known.json: 1 new; 1 worse; 1 known; 1 resolved.";
    assert!(text(section("answer")).contains(said), "{}", text(section("answer")));
    let rows: Vec<_> = section("baseline")
        .descendants()
        .filter(|node| node.attribute("scope") == Some("row"))
        .map(text)
        .collect();
    assert_eq!(rows, ["layer 2 attn_out", "layer 4 attn_out", "layer 2 q", "layer 3 mlp_out"]);
}
