//! Every table of `docs/statistics.md` is computed here; `MANTISSA_UPDATE=1 cargo test -p mantissa-verdict documented`
//! writes them anew (the coverage table with `-- --include-ignored`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mantissa_verdict::stats::{
    FLAGGED_BELOW, MINIMUM_UNITS, Shift, conformal_p, false_alarm_bound, power_of_conformal, sign_flip_p,
    units_needed, units_needed_exact,
};

use super::chance::{assert_rate, real};
use super::coverage::{COLUMNS, SIZES, STUDIES, covered};
use super::false_alarms::{Rate, tokens_and_sequences};
use super::repetitions;

#[test]
fn documented_tables_are_computed() {
    compare(&[
        ("what n buys", what_n_buys()),
        ("units needed", needed()),
        ("tokens", tokens()),
        ("repetitions", repetitions::documented()),
        ("equivalence", repetitions::documented_equivalence()),
    ]);
}

/// Measured anew with as many studies, to the digit; and the rules behind the two sizes of the bootstrap.
#[test]
#[ignore = "slow: `just simulate`"]
fn documented_coverage_is_measured() {
    let mut table = String::from(
        "| n | mean, percentile | mean, BCa | ratio, percentile | ratio, BCa | what is given |\n\
         |---:|---:|---:|---:|---:|---|\n",
    );
    for n in SIZES {
        let shares =
            COLUMNS.map(|(quantity, method)| real(covered(quantity, method, n, STUDIES)) / real(STUDIES));
        let all_reach = |share: f64| shares.iter().all(|&measured| measured >= share);
        assert_eq!(all_reach(0.875), n >= MINIMUM_UNITS, "{n}: {shares:?}");
        assert_eq!(all_reach(0.93), n >= FLAGGED_BELOW, "{n}: {shares:?}");
        // Why percentile is the default: BCa gains less than half a point.
        assert!(shares[1] - shares[0] < 0.005 && shares[3] - shares[2] < 0.005, "{n}: {shares:?}");
        let [mean, mean_bca, ratio, ratio_bca] = shares.map(percent);
        let given = match n {
            _ if n < MINIMUM_UNITS => "no interval",
            _ if n < FLAGGED_BELOW => "an interval, flagged",
            _ => "an interval",
        };
        writeln!(table, "| {n} | {mean} | {mean_bca} | {ratio} | {ratio_bca} | {given} |").unwrap();
    }
    compare(&[("coverage", table)]);
}

/// The documented coverage against fewer studies, each time the tests run.
#[test]
fn documented_coverage_is_plausible() {
    let text = std::fs::read_to_string(document()).unwrap();
    let studies = 500;
    for n in [5, 10, 30] {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| {n} |")) && line.contains("interval"))
            .unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for ((quantity, method), cell) in COLUMNS.into_iter().zip(&cells[2..6]) {
            let share: f64 = cell.strip_suffix(" %").unwrap().parse().unwrap();
            assert_rate("coverage", covered(quantity, method, n, studies), studies, share / 100.0);
        }
    }
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/statistics.md")
}

fn compare(tables: &[(&str, String)]) {
    let committed = std::fs::read_to_string(document()).unwrap();
    let computed = tables.iter().fold(committed.clone(), |text, (name, table)| replaced(&text, name, table));
    if std::env::var_os("MANTISSA_UPDATE").is_some() {
        std::fs::write(document(), &computed).unwrap();
    } else {
        assert_eq!(committed, computed, "MANTISSA_UPDATE=1 writes {} anew", document().display());
    }
}

fn replaced(text: &str, name: &str, table: &str) -> String {
    let (open, close) = (format!("<!-- computed: {name} -->\n"), "<!-- end -->");
    let start = text.find(&open).unwrap_or_else(|| panic!("no mark for {name:?}")) + open.len();
    let end = start + text[start..].find(close).unwrap();
    format!("{}{table}{}", &text[..start], &text[end..])
}

fn what_n_buys() -> String {
    let mut table = String::from(
        "| n | rate shown by no alarm, 95 % | 99 % | smallest conformal p | smallest sign-flip p | 3σ found at α = 0.05 | \
         at 0.01 |\n|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for n in [1_usize, 4, 6, 10, 19, 30, 99, 299, 999, 2996] {
        let units = n as u64;
        let bound = |confidence| percent(false_alarm_bound(0, units, confidence).unwrap());
        let conformal = conformal_p(1.0, &vec![0.0; n]).unwrap().value();
        let sign_flip = if n <= 16 {
            let differences: Vec<f64> = (1..=n).map(real).collect();
            format!("1/{}", sign_flip_p(&differences, Shift::Mean, 0).unwrap().of())
        } else {
            format!("1/{}, drawn", sign_flip_p(&vec![1.0; n], Shift::Mean, 0).unwrap().of())
        };
        let power = |alpha| match power_of_conformal(units, alpha, 3.0).unwrap() {
            zero if zero <= 0.0 => "never".to_owned(),
            power => percent(power),
        };
        let (wide, narrow) = (power(0.05), power(0.01));
        let (bound_95, bound_99) = (bound(0.95), bound(0.99));
        writeln!(
            table,
            "| {n} | {bound_95} | {bound_99} | {conformal:.4} | {sign_flip} | {wide} | {narrow} |"
        )
        .unwrap();
    }
    table
}

fn needed() -> String {
    let mut table = String::from(
        "| rate claimed | n at 95 % | exact | n at 99 % | exact |\n|---:|---:|---:|---:|---:|\n",
    );
    for rate in [1e-1, 1e-2, 1e-3, 1e-4] {
        write!(table, "| {rate} ").unwrap();
        for confidence in [0.95, 0.99] {
            let (rule, exact) =
                (units_needed(rate, confidence).unwrap(), units_needed_exact(rate, confidence).unwrap());
            write!(table, "| {rule} | {exact} ").unwrap();
        }
        table.push_str("|\n");
    }
    table
}

fn tokens() -> String {
    let mut table = String::from("| test | units | stated | alarms on honest data |\n|---|---|---:|---:|\n");
    for Rate { test, units, stated, alarms, trials } in tokens_and_sequences() {
        let measured = percent(real(alarms) / real(trials));
        writeln!(table, "| {test} | {units} | {} | {measured} |", percent(stated)).unwrap();
    }
    table
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
