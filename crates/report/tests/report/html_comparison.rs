//! The page of a comparison as a document.

use mantissa_compare::{Comparison, Selection};
use mantissa_report::comparison_html;

use crate::experiment::{NINE, NOISY, Shape, TWO, compared, experiment, record, source};
use crate::html::{elements, parsed, sound, text};
use crate::rendered;

fn page(comparison: &Comparison) -> String {
    rendered(|out| comparison_html(comparison, &[source()], out))
}

fn few(prompts: u32) -> Comparison {
    compared(&Shape { prompts, repetitions: 1, ..NINE })
}

#[test]
fn it_is_sound_whatever_was_compared() {
    for comparison in [few(1), few(2), compared(&TWO), compared(&Shape { prompts: 1, ..NOISY })] {
        sound(&page(&comparison));
    }
}

#[test]
fn the_lead_says_what_was_compared_and_where_it_first_differs() {
    let page = page(&compared(&TWO));
    for words in [
        ">Bits differ</h2>",
        "Of batches.json, 2 runs of 1 prompt were compared bit by bit: bits or outputs differ.",
        "The first difference lies between h200_bs1_sdpa_bf16 and h200_bs8_sdpa_bf16: decode step 0, position -1, \
         layer_28.k[0].",
        "Nothing is judged here",
        "<dd>2026-11-02 09:30:00</dd>",
        "<dd>NVIDIA H200</dd>",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

/// Layers that nobody recorded are said to be missing, and a framed cell is where bits first differ.
#[test]
fn maps_have_gaps_where_layers_were_not_recorded() {
    let page = page(&few(1));
    let document = parsed(&page);
    let map = elements(&document, "figure")
        .find(|figure| text(*figure).starts_with("Decode key vectors, by layer and decode step"))
        .expect("a map");
    let rows: Vec<String> = map
        .descendants()
        .filter(|node| node.tag_name().name() == "tr" && node.attribute("class") == Some("gap"))
        .map(text)
        .collect();
    assert_eq!(
        rows,
        [
            "layers 4 to 6 not recorded",
            "layers 8 to 13 not recorded",
            "layers 15 to 20 not recorded",
            "layers 22 to 26 not recorded"
        ]
    );
    let framed = |class: &str| class.split(' ').any(|one| one == "first");
    let first: Vec<_> =
        map.descendants().filter(|node| node.attribute("class").is_some_and(framed)).collect();
    assert_eq!(first.len(), 1, "the first difference of this pair is one of its keys");
}

/// What is the same everywhere is said in a sentence, and has no panel.
#[test]
fn equal_runs_have_no_pictures() {
    let mut equal = experiment(&Shape { prompts: 1, repetitions: 1, ..NINE });
    let first = equal.runs[0].clone();
    for run in &mut equal.runs {
        (run.prefill, run.decode) = (first.prefill.clone(), first.decode.clone());
    }
    let records = [("batches.json".to_owned(), record(equal))];
    let page = page(&Comparison::of(&records, &Selection::default()).expect("facts"));
    sound(&page);
    assert!(page.contains(">No bit differs</h2>"));
    let document = parsed(&page);
    assert_eq!(elements(&document, "svg").filter(|svg| svg.attribute("role").is_some()).count(), 0);
    assert!(!page.contains("class=\"heat\"") && page.contains("Without a picture"));
}
