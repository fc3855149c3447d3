//! What is counted, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mantissa_verdict::stats::false_alarm_bound;

use crate::answer::Judged;
use crate::draw::Kind;

/// Counts of a suite.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By group: records, and those that were contradicted or got no verdict.
    honest: BTreeMap<String, [u64; 2]>,
    /// By alteration, then by answer.
    altered: BTreeMap<String, BTreeMap<&'static str, u64>>,
    failed: BTreeMap<String, u64>,
    refused: [u64; 2],
    reasons: BTreeMap<String, u64>,
    pub(crate) failures: Vec<String>,
}

const ANSWERS: [&str; 4] = ["contradicted", "fits none", "contradicts itself", "changes no recorded bit"];

impl Table {
    pub(crate) fn add(&mut self, kind: Kind, number: u64, judged: Judged, refused: Vec<String>) {
        self.refused[usize::from(kind == Kind::Altered)] += refused.len() as u64;
        for why in refused {
            *self.reasons.entry(short(&why)).or_default() += 1;
        }
        match judged {
            Judged::Right { group, .. } if kind == Kind::Honest => {
                self.honest.entry(group).or_default()[0] += 1;
            }
            Judged::Right { group, how } => {
                *self.altered.entry(group).or_default().entry(how).or_default() += 1;
            }
            Judged::Failed { group, what } => {
                self.failures.push(format!("{kind} {number}: {what}"));
                if kind == Kind::Honest {
                    let counts = self.honest.entry(group).or_default();
                    counts[0] += 1;
                    counts[1] += 1;
                } else {
                    self.altered.entry(group.clone()).or_default();
                    *self.failed.entry(group).or_default() += 1;
                }
            }
        }
    }

    pub(crate) fn markdown(&self, seed: u64) -> String {
        let mut page = String::new();
        let _ = writeln!(page, "Seed {seed}.\n");
        if !self.honest.is_empty() {
            page.push_str("| honest records | records | not found consistent |\n|---|---:|---:|\n");
            let mut all = [0, 0];
            for (group, [records, wrong]) in &self.honest {
                let _ = writeln!(page, "| {group} | {records} | {wrong} |");
                all = [all[0] + records, all[1] + wrong];
            }
            let _ = writeln!(page, "| **all** | {} | {} |", all[0], all[1]);
            if let Ok(bound) = false_alarm_bound(all[1], all[0], 0.95) {
                // A bound is rounded up.
                let percent = (100_000.0 * bound).ceil() / 1000.0;
                let _ = writeln!(
                    page,
                    "\nWith 95% confidence (Clopper and Pearson, one-sided), fewer than {percent:.3}% of such records \
                     are not found consistent."
                );
            }
        }
        if !self.altered.is_empty() {
            let _ = writeln!(page, "\n| altered | records | {} | wrong |", ANSWERS.join(" | "));
            page.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
            let mut all = [0; 6];
            for (group, answers) in &self.altered {
                let counts = ANSWERS.map(|answer| answers.get(answer).copied().unwrap_or(0));
                let wrong = self.failed.get(group).copied().unwrap_or(0);
                let records = counts.iter().sum::<u64>() + wrong;
                let cells: Vec<u64> = std::iter::once(records).chain(counts).chain([wrong]).collect();
                all.iter_mut().zip(&cells).for_each(|(all, one)| *all += one);
                let cells: Vec<String> = cells.iter().map(ToString::to_string).collect();
                let _ = writeln!(page, "| {group} | {} |", cells.join(" | "));
            }
            let _ = writeln!(page, "| **all** | {} |", all.map(|n| n.to_string()).join(" | "));
        }
        let _ = writeln!(
            page,
            "\nDrawn again because refused: {} for honest records, {} for altered ones.",
            self.refused[0], self.refused[1]
        );
        for (why, count) in &self.reasons {
            let _ = writeln!(page, "- {count}: {why}");
        }
        page
    }
}

/// The beginning of a reason, without the numbers that are different in each.
fn short(why: &str) -> String {
    let head = why.split(['(', ';']).next().unwrap_or_default();
    let number = |word: &&str| !word.chars().all(|c| c.is_ascii_digit() || c.is_ascii_punctuation());
    head.split_whitespace().filter(number).take(12).collect::<Vec<_>>().join(" ")
}
