//! The script's tables and words, and what is wrong with them.

use mantissa_evidence::Record;
use mantissa_evidence::error::Result;
use mantissa_numerics::Site;

use super::measure::{Measured, last_site, measure};
use super::plan::Plan;
use crate::definitions::arithmetic::{count, max, mean, std};
use crate::definitions::cutoffs;
use crate::python::printed;
use crate::sheet::{FindingTopic, Overall, Sheet, Signal};

/// Runs the script's four analyses on `record`, for the first signal asked for that the script takes.
pub(crate) fn sheet(record: &Record, asked: Option<&[Signal]>) -> Result<Sheet> {
    let asked = |signal: &Signal| asked.is_some_and(|signals| signals.contains(signal));
    let signals = [Signal::KeyVectors, Signal::HiddenStates, Signal::Logprobs];
    let signal = signals.into_iter().find(asked).unwrap_or(Signal::KeyVectors);
    let plan = Plan::of(record);
    let site = last_site(record, signal);
    let measured = measure(record, signal, site, &plan)?;
    let mut sheet = Sheet::of(&record.shell().metadata.variable_tested);
    sheet.signal(signal);
    write(&mut sheet, record, &plan, &measured, (signal, site));
    Ok(sheet)
}

fn write(
    sheet: &mut Sheet,
    record: &Record,
    plan: &Plan,
    measured: &[Measured],
    (signal, site): (Signal, Option<Site>),
) {
    let names: Names<'_> = Names(record);
    reproducibility(sheet, &names, plan, measured);
    let baseline = baseline(sheet, &names, plan, measured);
    within(sheet, &names, plan, measured);
    let detectable = across(sheet, &names, plan, measured, baseline);
    let metadata = &record.shell().metadata;
    sheet.overall = Some(Overall {
        experiment: metadata.experiment_type.clone(),
        variable: metadata.variable_tested.clone(),
        baseline,
        detectable,
        word: if detectable > cutoffs::STRONG {
            "✓ Strong"
        } else if detectable > cutoffs::MODERATE_PERCENT {
            "~ Moderate"
        } else {
            "✗ Weak"
        },
        compared: measured.iter().any(|one| one.rows > 0),
        differs: measured.iter().any(|one| one.max.is_nan() || one.max > 0.0),
    });
    sheet.cutoffs(&cutoffs::script());
    chosen(sheet, &names, plan, signal, site);
    missing(sheet, &names, plan, measured);
    tokens(sheet, &names, plan, measured);
}

/// Names of configurations and runs.
struct Names<'a>(&'a Record);

impl Names<'_> {
    fn config(&self, index: usize) -> &str {
        &self.0.shell().configurations[index].config_id
    }

    fn value(&self, index: usize) -> String {
        match &self.0.shell().configurations[index].variable_value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn configs(&self, indices: &[usize]) -> String {
        indices.iter().map(|&index| self.config(index)).collect::<Vec<_>>().join(", ")
    }

    fn run(&self, index: usize) -> String {
        let run = &self.0.shell().runs[index];
        format!("{} repetition {}", run.config_id, run.rep_id)
    }
}

fn reproducibility(sheet: &mut Sheet, names: &Names<'_>, plan: &Plan, measured: &[Measured]) {
    let mut rows = Vec::new();
    for (config, repetitions) in &plan.repetitions {
        for &(i, j, pair) in repetitions {
            let distance = measured[pair].max;
            let status = if distance.abs() <= 0.0 {
                "✓ exact".to_owned()
            } else {
                format!("✗ DIFFERS (Δ={})", printed(distance))
            };
            rows.push(vec![names.config(*config).to_owned(), format!("Rep {i} vs Rep {j}"), status]);
        }
    }
    sheet.table("reproducibility", &["configuration", "runs", "status"], rows);
    if !plan.single.is_empty() {
        let all = plan.repetitions.is_empty();
        sheet.about(
            FindingTopic::Missing,
            format!(
                "{} {} fewer than two stored runs: the script passes over {} without a word{}",
                names.configs(&plan.single),
                if plan.single.len() == 1 { "has" } else { "have" },
                if plan.single.len() == 1 { "it" } else { "them" },
                if all {
                    ", and prints ALL CONFIGURATIONS ARE DETERMINISTIC after comparing nothing"
                } else {
                    ""
                }
            ),
            &["runs"],
        );
    }
}

fn baseline(sheet: &mut Sheet, names: &Names<'_>, plan: &Plan, measured: &[Measured]) -> Option<f64> {
    let distances: Vec<f64> = plan.baseline.iter().map(|&(_, _, pair)| measured[pair].max).collect();
    if distances.is_empty() {
        return None;
    }
    let mut rows: Vec<Vec<String>> = plan
        .baseline
        .iter()
        .zip(&distances)
        .map(|(&(a, b, _), &distance)| {
            let pair = format!("{} vs {}", names.config(a), names.config(b));
            vec![names.value(a), pair, printed(distance)]
        })
        .collect();
    let centre = mean(&distances);
    let low = distances.iter().copied().fold(f64::INFINITY, f64::min);
    rows.push(vec!["mean".to_owned(), String::new(), printed(centre)]);
    rows.push(vec!["std".to_owned(), String::new(), printed(std(&distances))]);
    rows.push(vec![
        "range".to_owned(),
        String::new(),
        format!("[{}, {}]", printed(low), printed(max(&distances))),
    ]);
    sheet.table("cross-hardware baseline", &["value", "configurations", "distance"], rows);
    Some(centre)
}

fn within(sheet: &mut Sheet, names: &Names<'_>, plan: &Plan, measured: &[Measured]) {
    let mut rows = Vec::new();
    for (hardware, reference, others) in &plan.within {
        for &(config, pair) in others {
            let change = format!("{} → {}", names.value(*reference), names.value(config));
            rows.push(vec![hardware.clone(), change, printed(measured[pair].max)]);
        }
    }
    sheet.table("within hardware", &["hardware", "change", "distance"], rows);
    if !plan.within.is_empty() {
        let each: Vec<String> = plan
            .within
            .iter()
            .map(|(hardware, reference, _)| format!("{} on {hardware}", names.config(*reference)))
            .collect();
        sheet.finding(
            format!(
                "the script measures against the smallest value after sorting ({}), whichever configuration the \
                 experiment means as its reference",
                each.join(", ")
            ),
            &["configurations"],
        );
    }
    if !plan.unsortable.is_empty() {
        sheet.finding(
            format!(
                "values of {} cannot be sorted together (text and numbers, or null): the script stops there",
                plan.unsortable.join(", ")
            ),
            &["configurations"],
        );
    }
}

/// The key test: percentage of other values across hardware that the script calls detectable.
fn across(
    sheet: &mut Sheet,
    names: &Names<'_>,
    plan: &Plan,
    measured: &[Measured],
    baseline: Option<f64>,
) -> f64 {
    let Some((one, two)) = &plan.hardware else { return 0.0 };
    let Some(baseline) = baseline.filter(|baseline| baseline.abs() > 0.0 || baseline.is_nan()) else {
        if !plan.cross.is_empty() {
            sheet.finding(
                "the mean baseline is 0, which the script takes for a baseline that is not available: it skips the key \
                 test and calls the experiment Weak, although bits equal across hardware would make every other \
                 difference count",
                &["configurations"],
            );
        }
        return 0.0;
    };
    let (mut rows, mut ratios, mut detectable) = (Vec::new(), Vec::new(), 0_usize);
    for &(a, b, pair) in &plan.cross {
        let distance = measured[pair].max;
        let ratio = distance / baseline;
        let yes = ratio >= cutoffs::DETECTABLE_RATIO;
        detectable += usize::from(yes);
        rows.push(vec![
            format!("{one}={} vs {two}={}", names.value(a), names.value(b)),
            printed(distance),
            format!("{ratio:.2}×"),
            if yes { "✓ DETECTABLE" } else { "✗ not detectable" }.to_owned(),
        ]);
        // Keyed by the two values: a later pair of the same values replaces an earlier one.
        let key = (names.value(a), names.value(b));
        match ratios.iter_mut().find(|(other, _)| *other == key) {
            Some((_, slot)) => *slot = ratio,
            None => ratios.push((key, ratio)),
        }
    }
    if plan.cross.is_empty() {
        return 0.0;
    }
    let percentage = count(detectable) / count(plan.cross.len()) * 100.0;
    let ratios: Vec<f64> = ratios.into_iter().map(|(_, ratio)| ratio).collect();
    rows.push(vec![
        "summary".to_owned(),
        format!("{detectable}/{} ({percentage:.1}%)", plan.cross.len()),
        format!("{:.2}×", mean(&ratios)),
        if percentage > cutoffs::MODERATE_PERCENT {
            "✓ IS DETECTABLE CROSS-HARDWARE"
        } else {
            "✗ IS NOT RELIABLY DETECTABLE CROSS-HARDWARE"
        }
        .to_owned(),
    ]);
    sheet.table("cross-hardware detectability", &["pair", "distance", "ratio", "words"], rows);
    sheet.finding(
        format!(
            "one mean baseline ({}) divides all {} pairs, and a ratio of {} counts as detectable: neither the pair's \
             own baseline nor any uncertainty enters, and the script cannot save this result, whose keys are pairs",
            printed(baseline),
            plan.cross.len(),
            cutoffs::DETECTABLE_RATIO
        ),
        &["configurations"],
    );
    percentage
}

/// What the script leaves out by choice.
fn chosen(sheet: &mut Sheet, names: &Names<'_>, plan: &Plan, signal: Signal, site: Option<Site>) {
    let layers = &names.0.shell().metadata.extraction_config.layers;
    if let Some(site) = site {
        sheet.finding(
            format!(
                "the script reads layer_39 alone, whatever the model; here it reads {site}, the last of {} recorded \
                 layers, and ignores the others and the prefill",
                layers.len()
            ),
            &["experiment_metadata.extraction_config.layers"],
        );
    }
    if signal == Signal::Logprobs {
        sheet.finding(
            "the script compares log-probabilities by rank: where two runs rank other tokens, it subtracts the \
             probability of one token from that of another",
            &["runs"],
        );
    }
    if !plan.other_hardware.is_empty() {
        sheet.finding(
            format!(
                "of several types of hardware the script compares the first two in alphabetical order; {} never enters",
                plan.other_hardware.join(", ")
            ),
            &["configurations"],
        );
    }
    if !plan.several_references.is_empty() {
        sheet.finding(
            format!(
                "the script knows no reference prompts: in {} it compares runs of different prompts as repetitions and \
                 otherwise takes the first",
                names.configs(&plan.several_references)
            ),
            &["runs"],
        );
    }
}

/// Distances of 0 that are no equality.
fn missing(sheet: &mut Sheet, names: &Names<'_>, plan: &Plan, measured: &[Measured]) {
    if !plan.without_first.is_empty() {
        sheet.about(
            FindingTopic::Missing,
            format!(
                "the script compares repetition 0, which is not stored for {}: they drop out of the baseline, within \
                 hardware and across without a word",
                names.configs(&plan.without_first)
            ),
            &["runs"],
        );
    }
    let empty: Vec<&(usize, usize)> =
        plan.pairs.iter().zip(measured).filter(|(_, one)| one.rows == 0).map(|(pair, _)| pair).collect();
    if let Some(&&(a, b)) = empty.first() {
        sheet.about(
            FindingTopic::Missing,
            format!(
                "{} of {} comparisons found no row in common (the first: {} and {}): the script takes the missing data \
                 for distance 0, which it prints as ✓ exact",
                empty.len(),
                plan.pairs.len(),
                names.run(a),
                names.run(b)
            ),
            &[&format!("runs[{a}]"), &format!("runs[{b}]")],
        );
    }
    let partial = plan.pairs.iter().zip(measured).filter(|(_, one)| one.rows > 0 && one.skipped > 0).count();
    if partial > 0 {
        sheet.about(
            FindingTopic::Missing,
            format!("{partial} comparisons leave out rows that only one run has, or that have another width"),
            &["runs"],
        );
    }
}

/// Comparisons beyond the point where tokens part.
fn tokens(sheet: &mut Sheet, names: &Names<'_>, plan: &Plan, measured: &[Measured]) {
    let runs = &names.0.shell().runs;
    let parted = plan.pairs.iter().zip(measured).filter(|&(&(a, b), one)| {
        one.rows > 0
            && (runs[a].prompt_token_ids != runs[b].prompt_token_ids
                || runs[a].output_token_ids != runs[b].output_token_ids)
    });
    let parted: Vec<&(usize, usize)> = parted.map(|(pair, _)| pair).collect();
    if let Some(&&(a, b)) = parted.first() {
        sheet.about(
            FindingTopic::TokensPart,
            format!(
                "{} of {} comparisons are between runs of different tokens (the first: {} and {}): their distances are \
                 those of other inputs",
                parted.len(),
                plan.pairs.len(),
                names.run(a),
                names.run(b)
            ),
            &[&format!("runs[{a}]"), &format!("runs[{b}]")],
        );
    }
    let ranks: u64 = measured.iter().map(|one| one.other_ids).sum();
    if ranks > 0 {
        sheet.finding(format!("at {ranks} ranks the two runs list different tokens"), &["runs"]);
    }
}
