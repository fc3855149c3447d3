//! The page of a comparison as a document.

use mantissa_compare::{Comparison, Selection, ShownBy, State};
use mantissa_numerics::{Point, Site};
use mantissa_report::{Style, comparison_html, comparison_text};

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
        "Of batches.json, 2 runs of 1 prompt were compared bit by bit: bits differ.",
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

/// Two runs whose only difference is the sign of a zero: no distance, and yet other bits.
#[test]
fn zeros_of_two_signs_are_other_bits_at_no_distance() {
    let mut zeros = experiment(&Shape { prompts: 1, repetitions: 1, batches: &[1, 8, 64], ..TWO });
    let first = zeros.runs[0].clone();
    for (run, sign) in zeros.runs.iter_mut().zip([0.0_f32, -0.0, 0.0]) {
        (run.prefill, run.decode) = (first.prefill.clone(), first.decode.clone());
        let decode = run.decode.as_mut().expect("decode");
        let keys = decode.tensors.get_mut(&Site::at(28, Point::K)).expect("keys");
        keys.data[..4].copy_from_slice(&sign.to_le_bytes());
    }
    let records = [("batches.json".to_owned(), record(zeros))];
    let page = page(&Comparison::of(&records, &Selection::default()).expect("facts"));
    sound(&page);
    let document = parsed(&page);
    let grid =
        elements(&document, "table").find(|table| table.attribute("class") == Some("overview")).expect("it");
    let marks: Vec<String> = grid
        .descendants()
        .filter(|node| node.has_tag_name("td"))
        .map(text)
        .filter(|mark| mark.contains('≠'))
        .collect();
    assert_eq!(
        marks,
        ["≠other bits 0", "≠other bits 0"],
        "the first beside the second, the second beside the third"
    );
    assert!(page.contains("no distance is above 0 (+0 and −0, or nothing finite): Decode key vectors."));
    let matrix =
        elements(&document, "table").find(|table| table.attribute("class") == Some("heat")).expect("it");
    let cells: Vec<String> = matrix.descendants().filter(|node| node.has_tag_name("td")).map(text).collect();
    assert_eq!(cells[1..], ["=", "0", "=", "0", "=", "0", "=", "0", "="]);
}

/// A dot of other bits looks different from one of the same bits, though both lie at 0.
#[test]
fn dots_at_no_distance_are_told_apart_by_their_bits() {
    let mut some = experiment(&Shape { prompts: 2, repetitions: 1, ..TWO });
    let first = some.runs[0].clone();
    let keys = |run: &mut mantissa_evidence::Run, value: f32| {
        let decode = run.decode.as_mut().expect("decode");
        let keys = decode.tensors.get_mut(&Site::at(28, Point::K)).expect("keys");
        keys.data[..4].copy_from_slice(&value.to_le_bytes());
    };
    // On the first prompt only a sign of zero differs; on the second a value does.
    for (run, value) in some.runs.iter_mut().zip([0.0_f32, 1.0, -0.0, 2.0]) {
        (run.prefill, run.decode) = (first.prefill.clone(), first.decode.clone());
        keys(run, value);
    }
    let records = [("batches.json".to_owned(), record(some))];
    let page = page(&Comparison::of(&records, &Selection::default()).expect("facts"));
    let document = parsed(&page);
    let strips = elements(&document, "figure")
        .find(|figure| figure.attribute("class") == Some("strips"))
        .expect("one");
    let dots: Vec<&str> = strips
        .descendants()
        .filter(|node| node.attribute("x").is_some())
        .filter_map(|node| node.attribute("class").filter(|class| class.starts_with("dot")))
        .collect();
    assert_eq!(dots, ["dot apart", "dot apart"]);
    assert!(page.contains("2 pairs of runs, 2 of them with other bits"));
}

/// Runs that are stored agree; others of the same setup, known by their digests, do not.
#[test]
fn the_lead_says_that_only_repetitions_differ() {
    let mut found = compared(&Shape { repetitions: 2, ..TWO });
    for prompt in &mut found.prompts {
        prompt.pairs.clear();
    }
    let one = &mut found.repetitions[0].found;
    (one.signals, one.basis, one.repetitions) = (State::Different, ShownBy::Digests, 5);
    let page = page(&found);
    sound(&page);
    for words in [
        ">Repetitions differ</h2>",
        "were compared bit by bit: none of these differs from another.",
        "Repetitions of one setup differ: h200_bs1_sdpa_bf16 ref 0 (5 by stated digests): outputs agree, signals \
         differ.",
    ] {
        assert!(page.contains(words), "{words}");
    }
    let text = comparison_text(&found, false, Style::default());
    assert!(text.contains("differ       h200_bs1_sdpa_bf16 ref 0 (5 by stated digests)"), "{text}");
}

/// What differs is named: outputs alone are no bits.
#[test]
fn the_lead_says_that_only_outputs_differ() {
    let mut outputs = experiment(&TWO);
    let first = outputs.runs[0].clone();
    for run in &mut outputs.runs {
        (run.prefill, run.decode) = (first.prefill.clone(), first.decode.clone());
    }
    // The last token is fed to no step.
    *outputs.runs[1].output_token_ids.last_mut().expect("outputs") += 1;
    let records = [("batches.json".to_owned(), record(outputs))];
    let page = page(&Comparison::of(&records, &Selection::default()).expect("facts"));
    assert!(page.contains(">Outputs differ</h2>"));
    assert!(page.contains("outputs differ, and no compared bit does."));
}

/// The terminal and the page say the same of runs, outputs and first differences.
#[test]
fn the_terminal_has_the_words_of_the_page() {
    let found = few(2);
    let (page, text) =
        (page(&found), comparison_text(&found, false, Style { width: usize::MAX, ..Style::default() }));
    let title = text.lines().next().expect("a title");
    assert!(title.starts_with("Prompt of 4 tokens, ") && page.contains(title), "{title}");
    let firsts: Vec<&str> = text.lines().filter_map(|line| line.split("  decode step").nth(1)).collect();
    assert!(firsts.len() > 2);
    for first in firsts {
        let place = first.split("  ").next().expect("a place");
        assert!(page.contains(&format!("first decode step{place}")), "{place}");
    }
}

/// Every list that is cut says so, in one wording.
#[test]
fn what_is_cut_says_so() {
    let many: &[u32] = &[
        1, 2, 4, 8, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37,
        38, 39, 40, 41, 42,
    ];
    let page = page(&compared(&Shape { batches: many, prompts: 1, repetitions: 2, ..TWO }));
    for cut in [
        "90 of 1,891 rows are shown",
        "0 of 1 prompts with 3 or more runs are shown",
        "100 of 465 pairs are shown",
    ] {
        assert!(page.contains(&format!("{cut}; all are in the output of --format json.")), "{cut}");
    }
    let said = page.matches("are shown; all are in the output of --format json.</p>").count();
    assert_eq!(page.matches("<p class=\"cut\">").count(), said);
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
