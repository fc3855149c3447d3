//! `quant_generation_*.json`: distances between quantization kernels, with the authors' words and their one quotient.

use mantissa_evidence::verification::Relation;
use mantissa_numerics::Phase;

use super::reader::{File, ModelConfig, SnrAnalysis};
use crate::definitions::arithmetic::{
    FIRST, detectable_words, mean, off_diagonal, over_references, quotient, size_word, zero_classes,
};
use crate::definitions::{cutoffs, order, pairs};
use crate::json::check::PHASES;
use crate::json::entries::{Entries, Position};
use crate::json::numbers::{Candidates, Square};
use crate::python;
use crate::sheet::{Heading, Sheet, Signal};

/// Distances between kernels, their words, classes and quotient.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("quantization");
    for phase in PHASES {
        within(&mut sheet, file, phase);
    }
    for (name, floor) in file.noise_floors.iter() {
        let note = "the repeated runs behind it are not in the file";
        for (phase, floor) in [("decode", floor.decode), ("prefill", floor.prefill)] {
            let Some(floor) = floor else { continue };
            let place = format!("noise_floors.{name}.{phase}");
            sheet.not_in_file(&format!("noise floor of {name}, {phase}"), floor, &place, note);
        }
    }
    if let Some(stored) = &file.snr_analysis {
        snr(&mut sheet, file, stored);
    }
    tokens(&mut sheet, file);
    own_tokens(&mut sheet, file);
    models(&mut sheet, &file.metadata.model_configs);
    sheet
}

fn names(file: &File) -> Vec<String> {
    file.metadata.model_configs.keys().cloned().collect()
}

/// Matrices of each reference, positions added in `order`.
fn by_reference(file: &File, phase: Phase, order: &[Position]) -> Vec<Square> {
    let references = 0..file.references();
    let names = names(file);
    let rows = |name: &String, reference: usize| {
        let run = file.generations.get(name).and_then(|runs| runs.get(reference));
        run.map(|run| run.signals(phase)).unwrap_or_default()
    };
    let matrix = |reference: usize| {
        let each: Vec<Vec<(Position, &Candidates)>> =
            names.iter().map(|name| rows(name, reference)).collect();
        let cells = |a: &Vec<(Position, &Candidates)>| {
            each.iter().map(|b| order::distance(a, b, order)).collect::<Vec<f64>>()
        };
        each.iter().map(cells).collect::<Square>()
    };
    references.map(matrix).collect()
}

/// The order of positions in which most stored cells come out in every bit; the file's own where that is as good.
fn best_order(file: &File, phase: Phase) -> (Vec<Position>, Vec<Square>, usize) {
    let first = file.generations.values().next().and_then(|runs| runs.first());
    let own: Vec<Position> =
        first.into_iter().flat_map(|run| run.signals(phase)).map(|(position, _)| position).collect();
    let stored = &file.sanity_check(phase).per_reference_matrices;
    order::best(own, stored, |order| by_reference(file, phase, order))
}

fn within(sheet: &mut Sheet, file: &File, phase: Phase) {
    let (check, place) = (file.sanity_check(phase), format!("{}_sanity_check", phase.name()));
    let labels = names(file);
    let (order, matrices, in_file_order) = best_order(file, phase);
    let note = order::note(&order);
    for (r, (stored, matrix)) in check.per_reference_matrices.iter().zip(&matrices).enumerate() {
        let name = format!("log-probabilities, {}, ref_{r}", phase.name());
        sheet.cells(&name, stored, matrix, &format!("{place}.per_reference_matrices[{r}]"), Some(&note));
    }
    let cells: usize = matrices.iter().flatten().map(Vec::len).sum();
    order::say(sheet, phase, &order, in_file_order, cells, &format!("{place}.per_reference_matrices"));
    let matrix = over_references(&matrices);
    let matrix_place = format!("{place}.matrix");
    let name = format!("log-probabilities, {}, mean over references", phase.name());
    sheet.cells(&name, &check.matrix, &matrix, &matrix_place, None);
    let off = off_diagonal(&matrix, |_, _| true);
    let finite: Vec<f64> = off.iter().copied().filter(|value| value.is_finite()).collect();
    let at = format!("{place}.off_diagonal_mean");
    let name = format!("off-diagonal mean, {}", phase.name());
    let (followed, note) = if finite.is_empty() {
        (0.0, "no cell is finite, which the authors write as 0")
    } else {
        (mean(&finite), "mean of the finite cells")
    };
    sheet.noted(&name, check.off_diagonal_mean, followed, &at, Some(note));
    let title = format!("log-probabilities, {}, kernel against kernel", phase.name());
    let heading = Heading {
        title: &title,
        relation: Relation::WithinMode,
        phase,
        signal: Signal::Logprobs,
        statistic: "L2 over the first five ids, mean over positions and references",
        place: &matrix_place,
    };
    sheet.matrix(&heading, &labels, &matrix, matrices.len() as u64);
    let classes: Vec<Vec<&String>> = zero_classes(&matrix)
        .iter()
        .map(|class| class.iter().map(|&index| &labels[index]).collect())
        .collect();
    let at = format!("{place}.kernel_classes");
    let name = format!("kernel classes, {}", phase.name());
    let printed = check.kernel_classes.as_ref().map(|printed| format!("{printed:?}"));
    sheet.text(&name, printed, format!("{classes:?}"), &at, None);
    let rows = (1..).zip(&classes).map(|(n, class)| vec![n.to_string(), format!("{class:?}")]).collect();
    sheet.table(&name, &["class", "kernels"], rows);
    distances(
        sheet,
        phase,
        &labels,
        &matrix,
        check.pairwise_distances.iter().map(|(key, &value)| (key.as_str(), value)),
    );
    asymmetry(sheet, phase, &labels, &matrix, &matrix_place);
    if finite.len() < off.len() {
        sheet.finding(
            format!(
                "off_diagonal_mean of {} leaves out {} of {} cells, which are inf because no candidate is shared: the \
                 largest differences are the ones that do not count",
                phase.name(),
                off.len() - finite.len(),
                off.len()
            ),
            &[&matrix_place, &format!("{place}.off_diagonal_mean")],
        );
    }
}

/// Means of mirrored cells with the authors' words.
fn distances<'a>(
    sheet: &mut Sheet,
    phase: Phase,
    labels: &[String],
    matrix: &Square,
    stored: impl Iterator<Item = (&'a str, f64)>,
) {
    let computed = pairs::of(labels, matrix);
    let mut rows = Vec::new();
    for (key, value) in stored {
        let place = format!("{}_sanity_check.pairwise_distances.{key}", phase.name());
        let pair = computed.iter().find(|pair| format!("{}_vs_{}", pair.a, pair.b) == key);
        let name = format!("distance {key}, {}", phase.name());
        match pair {
            Some(pair) => {
                sheet.noted(&name, value, pair.signal, &place, Some("mean of the two mirrored cells"));
                rows.push(vec![
                    key.to_owned(),
                    python::printed(pair.signal),
                    size_word(pair.signal).to_owned(),
                ]);
            }
            None => sheet.not_in_file(&name, value, &place, "no such pair of configurations"),
        }
    }
    sheet.table(&format!("pairwise distances, {}", phase.name()), &["pair", "distance", "word"], rows);
    sheet.cutoffs(&cutoffs::size_words());
}

fn asymmetry(sheet: &mut Sheet, phase: Phase, labels: &[String], matrix: &Square, place: &str) {
    let all = pairs::of(labels, matrix);
    let uneven: Vec<_> =
        all.iter().filter(|pair| pair.forward.to_bits() != pair.backward.to_bits()).collect();
    let largest = uneven.iter().max_by(|a, b| a.asymmetry().total_cmp(&b.asymmetry()));
    if let Some(pair) = largest {
        sheet.finding(
            format!(
                "{}: {} of {} pairs have two distances, because ids of the row that the column lacks are dropped \
                 ({} to {}: {:.3}, back: {:.3}); pairwise_distances averages the two",
                phase.name(),
                uneven.len(),
                all.len(),
                pair.a,
                pair.b,
                pair.forward,
                pair.backward
            ),
            &[place],
        );
    }
}

fn snr(sheet: &mut Sheet, file: &File, stored: &SnrAnalysis) {
    let names = names(file);
    let floors: Vec<f64> = names.iter().filter_map(|name| file.noise_floors.get(name)?.decode).collect();
    let matrix = over_references(&best_order(file, Phase::Decode).1);
    let off = off_diagonal(&matrix, |_, _| true);
    let finite: Vec<f64> = off.iter().copied().filter(|value| value.is_finite()).collect();
    let (noise, signal) = (mean(&floors), mean(&finite));
    let snr = quotient(signal, noise);
    sheet.noted(
        "noise floor",
        stored.noise_floor,
        noise,
        "snr_analysis.noise_floor",
        Some("mean of the stated decode floors"),
    );
    sheet.figure("signal", stored.signal, signal, "snr_analysis.signal");
    sheet.figure("SNR", stored.snr, snr, "snr_analysis.snr");
    let printed = stored.snr.map(|snr| format!("{snr:.1}×"));
    sheet.text("SNR as printed", printed, format!("{snr:.1}×"), "snr_analysis.snr", None);
    sheet.table(
        "signal to noise",
        &["noise floor", "signal", "SNR", "words"],
        vec![vec![
            python::printed(noise),
            python::printed(signal),
            format!("{snr:.1}×"),
            detectable_words(snr).to_owned(),
        ]],
    );
    sheet.cutoffs(&cutoffs::detectable_words());
    let kept: Vec<String> = pairs::of(&names, &matrix)
        .iter()
        .filter(|pair| pair.signal.is_finite())
        .map(|pair| format!("{} against {}", pair.a, pair.b))
        .collect();
    let zeros = floors.iter().filter(|floor| floor.abs() <= 0.0).count();
    if kept.len() * 2 < off.len() || (zeros > 0 && zeros < floors.len()) {
        let noisy: Vec<String> = names
            .iter()
            .zip(&floors)
            .filter(|(_, floor)| floor.abs() > 0.0)
            .map(|(name, floor)| format!("{name} ({})", python::printed(*floor)))
            .collect();
        sheet.finding(
            format!(
                "SNR {snr:.1}× drops every inf cell, so that only {} of {} ordered pairs are left ({}), and divides by \
                 the mean of {zeros} zeros and {}: {zeros} kernels reproduce exactly and any distance between them is \
                 detectable, and the one that does not has a floor {:.1} times the one used",
                finite.len(),
                off.len(),
                kept.join("; "),
                noisy.join(", "),
                floors.iter().copied().fold(0.0, f64::max) / noise
            ),
            &["snr_analysis", "decode_sanity_check.matrix", "noise_floors"],
        );
    }
}

/// Decode cells that compare positions after the tokens have parted.
fn tokens(sheet: &mut Sheet, file: &File) {
    let names = names(file);
    let matrices = best_order(file, Phase::Decode).1;
    let (mut parted, mut finite, mut places) = (Vec::new(), 0, Vec::new());
    for (reference, matrix) in matrices.iter().enumerate() {
        for (i, a) in names.iter().enumerate() {
            for (j, b) in names.iter().enumerate().skip(i + 1) {
                let run = |name: &String| file.generations.get(name).and_then(|runs| runs.get(reference));
                let (Some(x), Some(y)) = (run(a), run(b)) else { continue };
                let Some(at) = x.generated_ids.iter().zip(&y.generated_ids).position(|(x, y)| x != y) else {
                    continue;
                };
                finite += usize::from(matrix[i][j].is_finite());
                parted.push((reference, at));
                places.push(format!("generations.{b}[{reference}].generated_ids[{at}]"));
            }
        }
    }
    let mut each = parted.clone();
    each.dedup();
    let total = parted.len();
    if total > 0 {
        each.sort_unstable();
        each.dedup();
        let at: Vec<String> =
            each.iter().map(|(reference, at)| format!("ref_{reference} at output {at}")).collect();
        let sentence = format!(
            "decode: {total} of the pairs compare the last positions of texts that parted long before ({}): {finite} \
             of them are finite only because unrelated predictions share ids, the others are inf",
            at.join(", ")
        );
        let places: Vec<&str> = places.iter().take(4).map(String::as_str).collect();
        sheet.finding(sentence, &places);
    }
}

/// Prefill lists that predict the prompt's own tokens.
fn own_tokens(sheet: &mut Sheet, file: &File) {
    if !file.prefill_lists_own_token() {
        return;
    }
    sheet.finding(
        "prefill: every list has the prompt's own token of its position among its candidates, so it predicts that \
         token and belongs one position earlier; the three positions predict the template's last tokens, which are the same \
         in every prompt, and what the model says after the whole prompt is not compared at all",
        &["generations"],
    );
    let top = file.top_k() as usize;
    let all = || file.generations.values().flatten().flat_map(|run| run.signals(Phase::Prefill));
    let longer = all().filter(|(_, row)| row.token_ids.len() > top).count();
    if longer > 0 {
        let lowest = all()
            .filter(|(_, row)| row.token_ids.len() > top)
            .filter_map(|(_, row)| row.log_probs.iter().copied().min_by(f64::total_cmp))
            .fold(f64::INFINITY, f64::min);
        sheet.finding(
            format!(
                "prefill: {longer} lists have a candidate more, the prompt's own unlikely token (down to {lowest:.1}) \
                 in first place: with the first {FIRST} taken it displaces the fifth candidate and brings the noise of a \
                 far tail into the distance"
            ),
            &["generations"],
        );
    }
}

/// Configurations of different weights.
pub(crate) fn models(sheet: &mut Sheet, configs: &Entries<String, ModelConfig>) {
    let mut models: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, config) in configs.iter() {
        let model = config.model_name.as_str();
        match models.iter_mut().find(|(other, _)| *other == model) {
            Some((_, names)) => names.push(name),
            None => models.push((model, vec![name])),
        }
    }
    if models.len() > 1 {
        let each: Vec<String> =
            models.iter().map(|(model, names)| format!("{} run {model}", names.join(" and "))).collect();
        sheet.finding(
            format!(
                "the configurations are not kernels of one model: {}; distances between these groups are differences \
                 of weights and say nothing about kernels",
                each.join(", ")
            ),
            &["metadata.model_configs"],
        );
    }
}
