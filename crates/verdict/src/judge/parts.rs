//! The parts of an analysis as they accumulate, and the findings that sum them up.

use std::collections::{BTreeMap, BTreeSet};

use super::words;
use crate::analysis::{
    Answer, Citation, ClassSet, Comparison, FalseAlarmBound, Finding, FindingKind, Matrix, PairVerdict,
    Profile, Reproducibility, Signal, State, TokenConsistency,
};
use mantissa_numerics::Phase;

/// Up to this many pairs of one kind are said one by one; more are summed up.
const SAID_ONE_BY_ONE: usize = 3;

/// Up to this many pairs are named in a summary.
const NAMED: usize = 10;

/// Citations that a summary carries: enough to start from, since every pair has its own.
const CITED: usize = 8;

/// What an analysis holds, before it has an outcome.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) findings: Vec<Finding>,
    pub(super) tokens: Vec<TokenConsistency>,
    pub(super) reproducibility: Vec<Reproducibility>,
    pub(super) classes: Vec<ClassSet>,
    pub(super) pairs: Vec<PairVerdict>,
    pub(super) matrices: Vec<Matrix>,
    pub(super) profiles: Vec<Profile>,
    pub(super) bounds: Vec<FalseAlarmBound>,
    pub(super) signals: BTreeSet<Signal>,
    /// Names of the thresholds that decided something.
    pub(super) thresholds: BTreeSet<&'static str>,
}

impl Parts {
    pub(super) fn find(&mut self, kind: FindingKind, sentence: String, mut citations: Vec<Citation>) {
        citations.truncate(CITED);
        self.findings.push(Finding { kind, sentence, citations });
    }

    /// Takes token groups in, with a finding where they part.
    pub(super) fn add_tokens(&mut self, tokens: TokenConsistency) {
        if tokens.groups.len() > 1 {
            let at = tokens.part_at.map_or(String::new(), |index| format!(" at index {index}"));
            let sentence = format!(
                "{} is divergent, not noisy: its outputs part{at} into {}; distances behind that are over other texts \
                 and are left out.",
                tokens.reference,
                words::classes(&tokens.groups)
            );
            self.find(FindingKind::TokensDiverge, sentence, tokens.citations.clone());
        }
        self.tokens.push(tokens);
    }

    /// Takes repetitions in, with a finding where they differ.
    pub(super) fn add_repeats(&mut self, repeats: Reproducibility) {
        match repeats.state {
            State::Different => {
                self.find(FindingKind::NonDeterministic, repeats.note.clone(), repeats.citations.clone());
            }
            State::Missing | State::Incomparable => {
                self.find(FindingKind::Missing, repeats.note.clone(), repeats.citations.clone());
            }
            State::Equal => {}
        }
        self.reproducibility.push(repeats);
    }

    /// Takes classes in, with a finding for each of several members, and one for how many can be told apart where it is
    /// known that all of them can.
    pub(super) fn add_classes(&mut self, set: ClassSet, told_apart: bool) {
        let signals: Vec<&str> = set.signals.iter().map(|&signal| words::signal_name(signal)).collect();
        let what = format!("{} {}", set.phase.name(), words::list(&signals));
        for class in set.classes.iter().filter(|class| class.len() > 1) {
            let sentence = format!(
                "{} are one class by {what} ({}): {} over {}, so nothing in them can tell these setups apart.",
                words::list(class),
                set.scope,
                set.basis,
                words::count(set.references, "reference")
            );
            self.find(FindingKind::OneClass, sentence, set.citations.clone());
        }
        if told_apart && set.classes.len() > 1 {
            let sentence = format!(
                "{} classes can be told apart by {what} ({}): {}.",
                set.classes.len(),
                set.scope,
                words::classes(&set.classes)
            );
            self.find(FindingKind::Separable, sentence, set.citations.clone());
        }
        self.classes.push(set);
    }

    /// Takes verdicts in, with findings: one by one where they are few, else summed up.
    pub(super) fn add_pairs(&mut self, verdicts: Vec<PairVerdict>) {
        let mut kinds: BTreeMap<(Comparison, Phase, Signal, u8), Vec<&PairVerdict>> = BTreeMap::new();
        for verdict in &verdicts {
            let rank = match verdict.answer {
                // Said by the classes.
                Answer::Identical => continue,
                Answer::Separable => 0,
                Answer::NotSeparable => 1,
                Answer::Inconclusive => 2,
                Answer::Incomparable => 3,
            };
            kinds.entry((verdict.comparison, verdict.phase, verdict.signal, rank)).or_default().push(verdict);
        }
        let mut findings = Vec::new();
        for alike in kinds.into_values() {
            let kind = match alike[0].answer {
                Answer::Separable | Answer::Identical => FindingKind::Separable,
                Answer::NotSeparable => FindingKind::NotSeparable,
                Answer::Inconclusive | Answer::Incomparable => FindingKind::Missing,
            };
            if alike.len() <= SAID_ONE_BY_ONE {
                findings.extend(alike.iter().map(|one| (kind, one.sentence.clone(), one.citations.clone())));
            } else {
                let citations = super::setups::in_order(alike.iter().flat_map(|one| one.citations.clone()));
                let of = verdicts.iter().filter(|one| same_question(one, alike[0])).count();
                findings.push((kind, summed_up(&alike, of), citations));
            }
        }
        for (kind, sentence, citations) in findings {
            self.find(kind, sentence, citations);
        }
        self.signals.extend(verdicts.iter().map(|verdict| verdict.signal));
        self.pairs.extend(verdicts);
    }
}

fn same_question(a: &PairVerdict, b: &PairVerdict) -> bool {
    (a.comparison, a.phase, a.signal) == (b.comparison, b.phase, b.signal)
}

fn summed_up(alike: &[&PairVerdict], of: usize) -> String {
    let first = alike[0];
    let verb = match first.answer {
        Answer::Separable | Answer::Identical => "can be told apart",
        Answer::NotSeparable => "cannot be told apart",
        Answer::Inconclusive => "lean apart with too little evidence to say",
        Answer::Incomparable => "cannot be compared",
    };
    let range = |values: Vec<f64>, unit: &str, name: &str| -> String {
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
        if values.is_empty() {
            String::new()
        } else {
            format!("; {name} {}{unit} to {}{unit}", words::figure(low), words::figure(high))
        }
    };
    let ratios =
        range(alike.iter().filter_map(|one| one.ratio).collect(), "×", "ratios to each pair's own floor are");
    let distances = if ratios.is_empty() {
        range(alike.iter().filter_map(|one| one.distance).collect(), "", "mean distances are")
    } else {
        String::new()
    };
    let comparison = match first.comparison {
        Comparison::CrossHardwareBaseline => "pairs of one setup on two machines",
        Comparison::WithinHardware => "pairs on one machine",
        Comparison::CrossHardware => "pairs across machines",
    };
    let names: Vec<String> = alike.iter().map(|one| format!("{} and {}", one.a, one.b)).collect();
    let names = if names.len() > NAMED { String::new() } else { format!(": {}", names.join("; ")) };
    format!(
        "By {}, {} of {of} {comparison} {verb}{ratios}{distances}{names}.",
        words::lane(first.phase, first.signal),
        alike.len()
    )
}

/// Findings in the order of importance; those of one kind stay in the order they were made.
pub(super) fn most_important_first(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| match finding.kind {
        FindingKind::TokensDiverge => 0,
        FindingKind::NonDeterministic => 1,
        FindingKind::NotRounding => 2,
        FindingKind::Separable => 3,
        FindingKind::NotSeparable => 4,
        FindingKind::OneClass => 5,
        FindingKind::Published => 6,
        FindingKind::Missing => 7,
    });
}
