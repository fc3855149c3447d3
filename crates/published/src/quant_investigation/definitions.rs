//! Repeated runs of quantized models: distances to run 0.

use mantissa_evidence::lenient::Number;

use super::reader::{File, Runs};
use crate::definitions::arithmetic::{l2, max, mean, std};
use crate::sheet::{Sheet, Signal};

/// The authors' averages of each mode, and what run 0 leaves out.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("deterministic_algorithms");
    sheet.signal(Signal::Logprobs);
    for (mode, runs) in file.modes() {
        of_mode(&mut sheet, mode, runs);
    }
    if let Some(stated) = file.verdict.as_ref().and_then(|verdict| verdict.is_deterministic)
        && let Some(baseline) = &file.baseline
    {
        let vectors = vectors(baseline);
        let exact = exact(&vectors) && equal(&baseline.tokens);
        sheet.text("deterministic", stated.to_string(), exact.to_string(), "verdict.is_deterministic", None);
    }
    sheet
}

fn of_mode(sheet: &mut Sheet, mode: &str, runs: &Runs) {
    let vectors = vectors(runs);
    let stats = runs.stats;
    let place = |field: &str| format!("{mode}.stats.{field}");
    let tokens = stats.tokens_identical.map(|word| word.to_string());
    let name = format!("tokens identical, {mode}");
    sheet.text(&name, tokens, equal(&runs.tokens).to_string(), &place("tokens_identical"), None);
    let logprobs = stats.logprobs_exact.map(|word| word.to_string());
    let name = format!("log-probabilities exact, {mode}");
    sheet.text(&name, logprobs, exact(&vectors).to_string(), &place("logprobs_exact"), None);
    let Some((first, later)) = vectors.split_first() else { return };
    let comparable = later.iter().filter(|row| row.len() == first.len());
    let to_first: Vec<f64> = comparable.map(|row| l2(row, first)).collect();
    if to_first.is_empty() {
        return;
    }
    let least = to_first.iter().copied().fold(f64::INFINITY, f64::min);
    for (what, stored, follows, field) in [
        ("mean", stats.l2_mean, mean(&to_first), "l2_mean"),
        ("deviation of the", stats.l2_std, std(&to_first), "l2_std"),
        ("largest", stats.l2_max, max(&to_first), "l2_max"),
        ("smallest", stats.l2_min, least, "l2_min"),
    ] {
        // numpy leaves the order of a norm's sum to its BLAS: twelve digits are compared.
        let twelve = |value: f64| format!("{value:.11e}");
        let name = format!("{what} distance to run 0, {mode}");
        sheet.text(&name, stored.map(twelve), twelve(follows), &place(field), Some("to twelve digits"));
    }
    let all: Vec<f64> = (0..vectors.len())
        .flat_map(|a| (a + 1..vectors.len()).map(move |b| (a, b)))
        .filter(|&(a, b)| vectors[a].len() == vectors[b].len())
        .map(|(a, b)| l2(&vectors[a], &vectors[b]))
        .collect();
    sheet.finding(
        format!(
            "{mode}: distances are to run 0 alone, whose own accident is in each of them ({} of {} pairs); over all \
             pairs the mean is {:.6} instead of {:.6}",
            to_first.len(),
            all.len(),
            mean(&all),
            mean(&to_first)
        ),
        &[&format!("{mode}.stats.l2_mean")],
    );
}

fn vectors(runs: &Runs) -> Vec<Vec<f64>> {
    let value = |value: &Option<Number>| value.map_or(f64::NAN, |Number(value)| value);
    runs.logprobs.iter().map(|run| run.iter().map(value).collect()).collect()
}

fn exact(vectors: &[Vec<f64>]) -> bool {
    vectors.windows(2).all(|two| two[0].iter().map(|x| x.to_bits()).eq(two[1].iter().map(|x| x.to_bits())))
}

fn equal(tokens: &[Vec<u32>]) -> bool {
    tokens.windows(2).all(|two| two[0] == two[1])
}
