//! The page of an audit as a document.

use mantissa_report::{Style, audit_html, audit_text};
use mantissa_verdict::Audit;
use mantissa_verdict::audit::ReplayState;

use crate::audit_sample::{audit, full, open};
use crate::html::{elements, parsed, sound, text};
use crate::rendered;

fn page(audit: &Audit) -> String {
    rendered(|out| audit_html(audit, out))
}

#[test]
fn it_is_sound_whatever_the_audit_holds() {
    for audit in [audit(), full(), open()] {
        sound(&page(&audit));
    }
}

/// The verdict comes first, in the words of the terminal; then what is stated twice, then the grid.
#[test]
fn the_answer_comes_first_and_then_what_contradicts_itself() {
    let page = page(&open());
    let places: Vec<usize> = [
        "states 2 setups: the evidence contradicts itself: no verdict until it is settled what is meant",
        "The evidence contradicts itself: the file contradicts itself about the batch_size",
        "Candidates by signal",
        "h200_bs1_eager_bf16</h3>",
    ]
    .iter()
    .map(|words| page.to_lowercase().find(&words.to_lowercase()).unwrap_or_else(|| panic!("{words}")))
    .collect();
    assert!(places.is_sorted(), "{places:?}");
    let divergent = self::page(&full());
    assert!(divergent.contains("<h2 id=\"answer-heading\">Divergent</h2>"));
    assert!(
        divergent
            .contains("Of 6 claims: 1 contradicted: another candidate leaves this evidence; 5 consistent")
    );
    assert!(divergent.contains("the evidence is not what a claimed setup leaves."));
}

/// Candidates × signals: what fits, what is contradicted, and what was not checked are told apart by symbol and word.
#[test]
fn the_grid_has_every_candidate_by_every_signal() {
    let (audit, page) = (full(), page(&full()));
    let document = parsed(&page);
    let grid = elements(&document, "table").find(|table| table.attribute("class") == Some("overview"));
    let rows: Vec<Vec<String>> = elements(&document, "tr")
        .filter(|row| row.ancestors().any(|node| Some(node) == grid))
        .filter(|row| row.children().any(|cell| cell.attribute("scope") == Some("row")))
        .map(|row| row.children().filter(roxmltree::Node::is_element).map(text).collect())
        .collect();
    // Eight classes are replayed beside each of six claims, and two candidates are not.
    assert_eq!(rows.len(), audit.claims.len() * 10);
    assert!(rows.iter().all(|row| row.len() == 7), "a name, all bits, five signals");
    let count = |word: &str| rows.iter().filter(|row| row[1].contains(word)).count();
    assert_eq!((count("=equal"), count("≠different"), count("×not checked")), (6, 42, 12));
}

/// A claim alone has its candidates on strips of their own; replays that ended early have no distance to draw.
#[test]
fn distances_are_drawn_where_there_are_any() {
    let strips = |audit: &Audit| {
        let page = page(audit);
        let document = parsed(&page);
        let rows = elements(&document, "ul").filter(|list| list.attribute("class") == Some("rows"));
        rows.map(|list| {
            list.children()
                .filter(|item| item.attribute("class") != Some("axis") && item.is_element())
                .count()
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(strips(&full()), [6; 5]);
    let mut alone = full();
    alone.claims.truncate(1);
    assert_eq!(strips(&alone), [8; 5]);
    assert_eq!(strips(&open()), Vec::<usize>::new());
}

/// +0 and −0 lie no distance apart, and their bits differ.
#[test]
fn no_distance_is_not_the_same_bits() {
    let mut zeros = full();
    zeros.claims.truncate(1);
    let replay = &mut zeros.claims[0].replays[1];
    replay.state = ReplayState::Different;
    for (one, different) in replay.distances.iter_mut().zip([0, 3, 0, 0, 0]) {
        (one.mean_l2, one.different) = (Some(0.0), different);
    }
    let page = page(&zeros);
    let document = parsed(&page);
    let grid =
        elements(&document, "table").find(|table| table.attribute("class") == Some("overview")).expect("it");
    let rows = grid.descendants().filter(|node| node.has_tag_name("tr"));
    let row: Vec<String> = rows
        .filter(|row| row.children().any(|cell| cell.has_tag_name("th") && text(cell).starts_with("bs2")))
        .flat_map(|row| row.children().filter(|cell| cell.has_tag_name("td")).map(text).collect::<Vec<_>>())
        .collect();
    assert_eq!(row[..3], ["≠different", "=same bits", "≠other bits 0"]);
    let dots = |caption: &str| -> Vec<String> {
        let figure = elements(&document, "figure")
            .find(|figure| text(*figure).starts_with(caption))
            .expect("a figure");
        let mut rows = figure.descendants().filter(|node| node.has_tag_name("li"));
        let row = rows.find(|row| text(*row).starts_with("bs2")).expect("a strip");
        let dots = row.descendants().filter_map(|node| node.attribute("class"));
        dots.filter(|class| class.starts_with("dot")).map(str::to_owned).collect()
    };
    assert_eq!(dots("Prefill key vectors"), ["dot contradicted"]);
    assert_eq!(dots("Prefill hidden states"), ["dot same"]);
    let text = audit_text(&zeros, Style { width: 200, ..Style::default() });
    assert!(text.contains("prefill key vectors 0") && !text.contains("prefill hidden states 0"), "{text}");
}

/// A matrix of each prompt stands small beside that of all; a prompt on which no bit differs has no panel.
#[test]
fn each_prompt_has_a_panel_unless_nothing_differs_on_it() {
    let page = page(&full());
    let document = parsed(&page);
    let panels = elements(&document, "figure").filter(|figure| figure.attribute("class") == Some("panel"));
    let captions: Vec<String> = panels
        .filter_map(|panel| panel.descendants().find(|node| node.has_tag_name("figcaption")).map(text))
        .collect();
    assert_eq!(captions, ["reference 0", "reference 1"].repeat(3));
    let flat =
        elements(&document, "p").map(text).find(|words| words.starts_with("Without a picture")).expect("it");
    assert_eq!(flat.matches("reference 2").count(), 3, "{flat}");
    // Text has the matrices of all prompts, and says where the others are.
    let text = audit_text(&full(), Style::default());
    assert!(
        !text.contains("reference 0")
            && text.contains("9 matrices of single prompts are in verification.json (--output)"),
        "{text}"
    );
}

/// A strip is of a claim, or of a replay; nothing here is a pair.
#[test]
fn strips_are_called_what_they_are() {
    let mut many = full();
    while many.claims.len() < 20 {
        let one = many.claims[0].clone();
        many.claims.push(one);
    }
    let page = self::page(&many);
    assert!(page.contains("each of 20 claims") && !page.contains(" pairs"));
    let mut alone = full();
    alone.claims.truncate(1);
    let replays = alone.claims[0].replays.clone();
    alone.claims[0].replays.extend(replays);
    assert!(self::page(&alone).contains("each of 16 replays"));
}
