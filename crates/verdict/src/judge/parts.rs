//! The parts of an analysis as they accumulate, and the findings that sum them up.

use std::collections::{BTreeMap, BTreeSet};

use super::{statistics, words};
use crate::analysis::{
    Answer, Citation, ClassSet, Comparison, FalseAlarmBound, Finding, FindingKind, Matrix, PairVerdict,
    Profile, Reproducibility, Signal, State, Tier, TokenConsistency,
};
use crate::thresholds::{CLEAR_MARGIN, WITHIN_FLOOR};
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
    /// The level of the tests, for what a summary says is needed.
    pub(super) alpha: f64,
    pub(super) findings: Vec<Finding>,
    pub(super) tokens: Vec<TokenConsistency>,
    pub(super) reproducibility: Vec<Reproducibility>,
    pub(super) classes: Vec<ClassSet>,
    /// Whether the classes of each set are known to differ from one another.
    pub(super) told_apart: Vec<bool>,
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
        if !tokens.stopped.is_empty() {
            let stops = tokens
                .stopped
                .iter()
                .map(|(setup, after)| format!("{setup} stops after {}", words::count(*after, "output")));
            let stops: Vec<String> = stops.collect();
            let sentence = format!(
                "{} is not whole in every setup: {}; what follows there is missing, not different.",
                tokens.reference,
                words::list(&stops)
            );
            self.find(FindingKind::Missing, sentence, tokens.citations.clone());
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
        self.add_classes_with(set, told_apart, "");
    }

    /// The same with what has to be said of them besides: `; that a run repeats itself was not shown`.
    pub(super) fn add_classes_with(&mut self, set: ClassSet, told_apart: bool, caveat: &str) {
        let signals: Vec<&str> = set.signals.iter().map(|&signal| words::signal_name(signal)).collect();
        let what = format!("{} {}", set.phase.name(), words::list(&signals));
        for class in set.classes.iter().filter(|class| class.len() > 1) {
            let sentence = format!(
                "{} are one class by {what} ({}): {} over {}, so nothing in them can tell these setups apart{caveat}.",
                words::list(class),
                set.scope,
                set.basis,
                words::count(set.references, "reference")
            );
            self.find(FindingKind::OneClass, sentence, set.citations.clone());
        }
        let told_apart = told_apart && set.classes.len() > 1;
        if told_apart {
            let sentence = format!(
                "{} classes can be told apart by {what} ({}) over {}: {}{caveat}.",
                set.classes.len(),
                set.scope,
                words::count(set.references, "reference"),
                words::classes(&set.classes)
            );
            self.find(FindingKind::Separable, sentence, set.citations.clone());
        }
        self.classes.push(set);
        self.told_apart.push(told_apart);
    }

    /// Whether the finding on some classes says all that a verdict says.
    fn said_by_classes(&self, verdict: &PairVerdict) -> bool {
        let source = |citations: &[Citation]| citations.first().map(|citation| citation.source.clone());
        self.classes.iter().zip(&self.told_apart).any(|(set, &told_apart)| {
            let class_of = |label: &String| set.classes.iter().position(|class| class.contains(label));
            let Some((a, b)) = class_of(&verdict.a).zip(class_of(&verdict.b)) else { return false };
            let about = set.phase == verdict.phase
                && set.signals.contains(&verdict.signal)
                && source(&set.citations) == source(&verdict.citations);
            let says = match (verdict.answer, verdict.tier) {
                (Answer::Separable, Tier::Exact | Tier::None) => told_apart && a != b,
                (Answer::NotSeparable, _) => a == b,
                _ => false,
            };
            about && says && verdict.comparison != Comparison::CrossHardwareBaseline
        })
    }

    /// Takes verdicts on one question in, with findings: one by one where they are few, else summed up. `context` says
    /// where and how: `on NVIDIA A100`.
    pub(super) fn add_pairs(&mut self, verdicts: Vec<PairVerdict>, context: &str) {
        self.add_pairs_with(verdicts, context, "");
    }

    /// The same with what has to be said in a summary besides: `; that a run repeats itself was not shown`.
    pub(super) fn add_pairs_with(&mut self, verdicts: Vec<PairVerdict>, context: &str, caveat: &str) {
        let mut kinds: BTreeMap<(Phase, Signal, u8), Vec<&PairVerdict>> = BTreeMap::new();
        for verdict in &verdicts {
            let rank = match verdict.answer {
                // Said by the classes.
                Answer::Identical => continue,
                Answer::Separable => 0,
                Answer::NotSeparable => 1,
                Answer::Inconclusive => 2,
                Answer::Incomparable => 3,
            };
            kinds.entry((verdict.phase, verdict.signal, rank)).or_default().push(verdict);
        }
        let mut findings = Vec::new();
        let mut said: Vec<(FindingKind, &PairVerdict)> = Vec::new();
        for alike in kinds.into_values() {
            // The finding on the classes says it.
            if alike.iter().all(|one| self.said_by_classes(one)) {
                continue;
            }
            let kind = match alike[0].answer {
                Answer::Separable | Answer::Identical => FindingKind::Separable,
                Answer::NotSeparable => FindingKind::NotSeparable,
                Answer::Inconclusive | Answer::Incomparable => FindingKind::Missing,
            };
            let baseline = alike[0].comparison == Comparison::CrossHardwareBaseline && alike.len() > 1;
            if alike.len() <= SAID_ONE_BY_ONE && !baseline {
                said.extend(alike.iter().map(|&one| (kind, one)));
            } else {
                let citations = super::setups::in_order(alike.iter().flat_map(|one| one.citations.clone()));
                let lane = (alike[0].phase, alike[0].signal);
                let of = verdicts.iter().filter(|one| (one.phase, one.signal) == lane).count();
                let tested =
                    verdicts.iter().filter(|one| (one.phase, one.signal) == lane && one.p_value.is_some());
                let family = Family { of, tested: tested.count(), alpha: self.alpha };
                findings.push((kind, summed_up(&alike, family, context, caveat), citations));
            }
        }
        // What is said of one pair by several signals is said once.
        while let Some(&(kind, first)) = said.first() {
            let same = |one: &PairVerdict| {
                (&one.a, &one.b, one.answer, one.tier) == (&first.a, &first.b, first.answer, first.tier)
            };
            let (together, rest): (Vec<_>, Vec<_>) = said.into_iter().partition(|(_, one)| same(one));
            said = rest;
            let together: Vec<&PairVerdict> = together.into_iter().map(|(_, one)| one).collect();
            let sentence = said_once(&together, context).unwrap_or_else(|| first.sentence.clone());
            let citations = super::setups::in_order(together.iter().flat_map(|one| one.citations.clone()));
            findings.push((kind, sentence, citations));
        }
        for (kind, sentence, citations) in findings {
            self.find(kind, sentence, citations);
        }
        self.signals.extend(verdicts.iter().map(|verdict| verdict.signal));
        self.pairs.extend(verdicts);
    }
}

/// One sentence for the verdicts on one pair by several signals; `None` where each has to speak for itself.
fn said_once(together: &[&PairVerdict], context: &str) -> Option<String> {
    let first = together.first().filter(|_| together.len() > 1)?;
    let verb = verb(first.answer);
    let ratios = together
        .iter()
        .map(|one| Some(format!("{} {}×", words::lane(one.phase, one.signal), words::figure(one.ratio?))));
    let ratios = ratios.collect::<Option<Vec<_>>>()?;
    let reason = match first.tier {
        Tier::Aggregate if first.n == 0 => by_threshold(first.answer),
        Tier::Statistical => {
            let p_values = together.iter().filter_map(|one| one.p_adjusted);
            let (end, bound) = match first.answer {
                Answer::Separable => ("at most", p_values.reduce(f64::max)?),
                _ => ("at least", p_values.reduce(f64::min)?),
            };
            let fewest = together.iter().map(|one| one.n).min().unwrap_or(0);
            format!(
                "; Holm-corrected p is {end} {} over {}",
                words::figure(bound),
                words::count(fewest, "reference")
            )
        }
        Tier::Aggregate | Tier::Exact | Tier::None => return None,
    };
    let (a, b) = (&first.a, &first.b);
    let ratios = words::list(&ratios);
    Some(format!(
        "{a} and {b} {verb} {context}: distances in units of the pair's own floor are {ratios}{reason}."
    ))
}

const fn verb(answer: Answer) -> &'static str {
    match answer {
        Answer::Separable | Answer::Identical => "can be told apart",
        Answer::NotSeparable => "cannot be told apart",
        Answer::Inconclusive => "lean apart with too little evidence to say",
        Answer::Incomparable => "cannot be compared",
    }
}

/// Which threshold decided where only averages are stored.
fn by_threshold(answer: Answer) -> String {
    let decided = match answer {
        Answer::Separable => format!("the threshold clear_margin ({CLEAR_MARGIN}) decides"),
        Answer::Inconclusive => {
            format!(
                "it lies between the thresholds within_floor ({WITHIN_FLOOR}) and clear_margin ({CLEAR_MARGIN})"
            )
        }
        _ => format!("the threshold within_floor ({WITHIN_FLOOR}) decides"),
    };
    format!("; only averages over references are stored, so no p-value can be computed and {decided}")
}

/// The pairs among which some are summed up.
#[derive(Clone, Copy)]
struct Family {
    of: usize,
    /// Those with a p-value.
    tested: usize,
    alpha: f64,
}

/// `1.00×`, or `1.00× to 1.40×`.
fn spread(values: impl Iterator<Item = f64> + Clone, unit: &str) -> Option<String> {
    let low = words::figure(values.clone().reduce(f64::min)?);
    let high = words::figure(values.reduce(f64::max)?);
    Some(if low == high { format!("{low}{unit}") } else { format!("{low}{unit} to {high}{unit}") })
}

fn summed_up(alike: &[&PairVerdict], family: Family, context: &str, caveat: &str) -> String {
    let first = alike[0];
    let (lane, of) = (words::lane(first.phase, first.signal), family.of);
    let distances = spread(alike.iter().filter_map(|one| one.distance), "");
    if first.comparison == Comparison::CrossHardwareBaseline {
        let by = distances.map_or(String::new(), |distances| format!(", by {distances} on average"));
        let does = match first.answer {
            Answer::Separable | Answer::Identical => "differ",
            Answer::NotSeparable => "differ no more than repetitions of one of them",
            Answer::Inconclusive => "are not shown to agree or to differ",
            Answer::Incomparable => "cannot be compared",
        };
        return format!(
            "The same setup on two machines, by {lane}: {} of {of} pairs {does} {context}{by}{caveat}.",
            alike.len()
        );
    }
    let verb = verb(first.answer);
    let ratios = spread(alike.iter().filter_map(|one| one.ratio), "×")
        .map(|ratios| format!("; distances in units of each pair's own floor: {ratios}"));
    let how_far = ratios.or_else(|| distances.map(|distances| format!("; mean distances: {distances}")));
    let names: Vec<String> = alike.iter().map(|one| format!("{} and {}", one.a, one.b)).collect();
    let names = if names.len() > NAMED { String::new() } else { format!(": {}", names.join("; ")) };
    format!(
        "By {lane} {context}, {} of {of} pairs {verb}{}{}{caveat}{names}.",
        alike.len(),
        how_far.unwrap_or_default(),
        rests_on(alike, family)
    )
}

/// What the answers of a summary rest on: a threshold, p-values, or too few references for any.
fn rests_on(alike: &[&PairVerdict], family: Family) -> String {
    let first = alike[0];
    let fewest = alike.iter().map(|one| one.n).min().unwrap_or(0);
    let references = words::count(fewest, "reference");
    let p_values = alike.iter().filter_map(|one| one.p_adjusted);
    match (first.tier, first.answer) {
        (Tier::Aggregate, _) if fewest == 0 => by_threshold(first.answer),
        (Tier::Statistical, Answer::Separable) => p_values.reduce(f64::max).map_or(String::new(), |p| {
            format!("; Holm-corrected p is at most {} over {references} or more", words::figure(p))
        }),
        (Tier::Statistical, Answer::Inconclusive) => {
            let needed = statistics::references_needed(family.tested, family.alpha);
            let needed = if fewest < needed {
                format!("; there are {references}, and at least {needed} are needed")
            } else {
                String::new()
            };
            p_values.reduce(f64::min).map_or(String::new(), |p| {
                format!(
                    "; Holm-corrected p for {} is at least {}{needed}",
                    words::count(family.tested as u64, "pair"),
                    words::figure(p)
                )
            })
        }
        (Tier::Statistical, Answer::NotSeparable) => format!(
            "; to the evidence of one member at least, the other's replay is on the whole as near as its own or nearer \
             ({references} or more)"
        ),
        _ => String::new(),
    }
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
