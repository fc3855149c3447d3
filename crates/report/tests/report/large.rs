//! As much as an analysis may hold: 17 × 17 matrices, 2,000 pairs, 60 layers.

use mantissa_report::html;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Citation, Matrix, PairVerdict, Profile};

use crate::{rendered, sample};

pub(crate) fn analysis() -> Analysis {
    let mut analysis = sample::analysis();
    let labels: Vec<String> = (1..=17).map(|i| format!("batch_size={i}")).collect();
    let matrix = |i: usize| {
        let of = &analysis.matrices[0];
        let cell = |row: usize, column: usize| {
            let mut cell = of.cells[row % 9][column % 9].clone();
            let place =
                format!("comparisons[{}].prefill_distances.key_vectors_mean", i * 289 + row * 17 + column);
            cell.citation = Some(Citation { source: analysis.sources[0].name.clone(), place });
            cell
        };
        Matrix {
            title: format!("Matrix {i}"),
            rows: labels.clone(),
            columns: labels.clone(),
            cells: (0..17).map(|row| (0..17).map(|column| cell(row, column)).collect()).collect(),
            ..of.clone()
        }
    };
    let matrices = (0..40).map(matrix).collect();
    let pair = |i: usize| {
        let of = &analysis.pairs[1];
        let place = |end: &str| Citation {
            source: of.citations[0].source.clone(),
            place: format!("comparisons[{i}].{end}"),
        };
        PairVerdict { citations: vec![place("key_vectors_mean"), place("floor")], ..of.clone() }
    };
    let pairs = (0..2_000).map(pair).collect();
    let profile = |i: u32| Profile {
        a: format!("setup {i}"),
        points: (1..=60).map(|layer| (layer, Some(0.001 * f64::from(i + 1)))).collect(),
        ..analysis.profiles[0].clone()
    };
    let profiles = (0..153).map(profile).collect();
    analysis.matrices = matrices;
    analysis.pairs = pairs;
    analysis.profiles = profiles;
    analysis
}

#[test]
fn the_page_stays_within_two_megabytes_and_says_what_it_left_out() {
    let page = rendered(|out| html(&analysis(), out));
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    for cut in [
        "500 of 2,000 rows are shown",
        "12 of 40 matrices are shown",
        "10 of 26 charts are shown",
        "100 of 2,000 pairs are shown",
        "places that numbers come from are shown",
    ] {
        assert!(page.contains(cut), "{cut}");
    }
    // One wording, whatever is cut.
    let said = page.matches("are shown; all are in analysis_results.json (--output).</p>").count();
    assert_eq!(page.matches("<p class=\"cut\">").count(), said);
}
