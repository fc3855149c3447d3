//! The page of an audit as a document.

use mantissa_report::audit_html;
use mantissa_verdict::Audit;

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
