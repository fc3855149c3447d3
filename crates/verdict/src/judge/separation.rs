//! Can two setups be told apart, given how far right and wrong replays are from their evidence?
//!
//! The unit is a reference prompt. Each member of the pair claims itself; its evidence is set against the replay of
//! the same setup (right) and of the other one (wrong). Left out: where distances come from, and equality of bits.

use mantissa_numerics::Phase;

use super::{statistics, words};
use crate::Result;
use crate::analysis::{Answer, Citation, Comparison, Floor, Interval, PairVerdict, Signal, Tier};
use crate::thresholds::{CLEAR_MARGIN, WITHIN_FLOOR};

use super::options::Options;

/// One claim of one reference: its distance to the wrong and to the right replay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direction {
    pub(super) wrong: f64,
    pub(super) right: f64,
    /// Whether the wrong, and the right replay, has the same bits as the evidence.
    pub(super) same_bits: [bool; 2],
    /// How far rounding of printed figures can have moved `wrong − right`.
    pub(super) slack: f64,
}

impl Direction {
    fn separates(self) -> bool {
        self.wrong - self.right > self.slack
    }

    fn is_tie(self) -> bool {
        self.wrong.total_cmp(&self.right).is_eq()
    }

    /// Quotient of wrong by right; infinite over a zero, 1 where both are zero.
    fn quotient(self) -> f64 {
        if self.is_tie() { 1.0 } else { self.wrong / self.right }
    }
}

/// One reference prompt: a direction per member, first member first; one only where the other could not be compared.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) directions: Vec<(Claim, Direction)>,
}

/// Whose evidence a direction is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    A,
    B,
}

impl Unit {
    fn mean(&self, of: impl Fn(Direction) -> f64) -> Option<f64> {
        words::mean(&self.directions.iter().map(|&(_, direction)| of(direction)).collect::<Vec<_>>())
    }
}

/// A pair before it is judged.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) comparison: Comparison,
    pub(super) a: String,
    pub(super) b: String,
    /// What `a` and `b` are called in a sentence.
    pub(super) names: (String, String),
    pub(super) phase: Phase,
    pub(super) signal: Signal,
    /// Where and how, in a sentence: `across NVIDIA H100 NVL and NVIDIA A100`.
    pub(super) context: String,
    /// What the floor is made of: `matching replays on NVIDIA A100`.
    pub(super) floor_of: String,
    /// How wrong and right distances are called: `mismatched replays`, `matching ones`.
    pub(super) units: Vec<Unit>,
    /// Whether the only unit is an average over references.
    pub(super) averages_only: bool,
    pub(super) incomparable: u64,
    /// Why units were left out, for the sentence.
    pub(super) left_out: Option<String>,
    pub(super) citations: Vec<Citation>,
}

impl Candidate {
    /// Whether every matching replay has the same bits as the evidence: then any other bit counts.
    fn matches_exactly(&self) -> bool {
        let mut directions = self.units.iter().flat_map(|unit| &unit.directions).peekable();
        directions.peek().is_some() && directions.all(|(_, direction)| direction.same_bits[1])
    }
}

/// Judges the pairs of one family (a phase, a signal, a comparison): their p-values are corrected together.
pub(super) fn settle(family: Vec<Candidate>, options: &Options, seed: &[&str]) -> Result<Vec<PairVerdict>> {
    let tested: Vec<usize> = (0..family.len())
        .filter(|&i| !family[i].averages_only && !family[i].units.is_empty() && !family[i].matches_exactly())
        .collect();
    let mut p_values = Vec::new();
    for &index in &tested {
        let margins: Vec<f64> =
            family[index].units.iter().filter_map(|unit| unit.mean(|d| d.wrong - d.right)).collect();
        p_values.push(statistics::sign_flip(&margins, &seeded(seed, &family[index]))?);
    }
    let adjusted = statistics::holm(&p_values);
    let mut tests = vec![None; family.len()];
    for ((&index, p), adjusted) in tested.iter().zip(&p_values).zip(adjusted) {
        tests[index] = Some(Test { p: p.value(), adjusted, pairs: tested.len() });
    }
    family.into_iter().zip(tests).map(|(pair, test)| judged(pair, test, options, seed)).collect()
}

fn seeded(seed: &[&str], pair: &Candidate) -> Vec<String> {
    let own = [pair.a.as_str(), &pair.b, pair.phase.name(), words::signal_key(pair.signal)];
    seed.iter().copied().chain(own).map(str::to_owned).collect()
}

#[derive(Debug, Clone, Copy)]
struct Test {
    p: f64,
    adjusted: f64,
    pairs: usize,
}

fn judged(pair: Candidate, test: Option<Test>, options: &Options, seed: &[&str]) -> Result<PairVerdict> {
    let wrong: Vec<f64> = pair.units.iter().filter_map(|unit| unit.mean(|d| d.wrong)).collect();
    let right: Vec<f64> = pair.units.iter().filter_map(|unit| unit.mean(|d| d.right)).collect();
    let (distance, floor_mean) = (words::mean(&wrong), words::mean(&right));
    let rights = pair.units.iter().flat_map(|unit| &unit.directions).map(|(_, d)| d.right);
    let floor = floor_mean.map(|mean| Floor {
        mean,
        max: rights.clone().fold(0.0, f64::max),
        n: rights.count() as u64,
        of: pair.floor_of.clone(),
    });
    let ratio = distance.zip(floor_mean).filter(|(_, floor)| *floor > 0.0).map(|(d, floor)| d / floor);
    let interval = if pair.averages_only {
        None
    } else {
        statistics::ratio_interval(&wrong, &right, options.confidence, &seeded(seed, &pair))?
    };
    let n = if pair.averages_only { 0 } else { pair.units.len() as u64 };
    let (answer, tier, reason) = decide(&pair, test, ratio, options);
    let sentence =
        sentence(&pair, answer, &reason, Figures { distance, floor: floor_mean, ratio, interval, test, n });
    Ok(PairVerdict {
        comparison: pair.comparison,
        a: pair.a,
        b: pair.b,
        phase: pair.phase,
        signal: pair.signal,
        answer,
        tier,
        distance,
        floor,
        ratio,
        interval,
        p_value: test.map(|test| test.p),
        p_adjusted: test.map(|test| test.adjusted),
        n,
        incomparable: pair.incomparable,
        rows: None,
        sentence,
        citations: pair.citations,
    })
}

/// What an answer rests on.
#[derive(Debug, Clone, PartialEq)]
enum Reason {
    Nothing,
    /// Every matching replay is exactly 0 away.
    Exact,
    /// Every wrong replay is exactly as far as the right one.
    Tied,
    Test,
    /// In `fails` of `of` directions the wrong replay is as near or nearer.
    Overlap {
        fails: usize,
        of: usize,
    },
    /// On average the replay nearest to this claim's evidence is the other one.
    NearestWrong(Claim),
    /// Smallest quotient over directions.
    Margin(f64),
    /// Averages only, and less than [`WITHIN_FLOOR`] floors.
    WithinFloor,
    /// Averages only, between [`WITHIN_FLOOR`] and [`CLEAR_MARGIN`].
    Between(f64),
    /// Every direction separates, and no p-value so small can come from so few references.
    TooFew {
        needed: u64,
    },
}

fn decide(
    pair: &Candidate,
    test: Option<Test>,
    ratio: Option<f64>,
    options: &Options,
) -> (Answer, Tier, Reason) {
    let directions: Vec<(Claim, Direction)> =
        pair.units.iter().flat_map(|unit| unit.directions.clone()).collect();
    if directions.is_empty() {
        return (Answer::Incomparable, Tier::None, Reason::Nothing);
    }
    let tier = if pair.averages_only { Tier::Aggregate } else { Tier::Statistical };
    if pair.matches_exactly() {
        let tier = if pair.averages_only { Tier::Aggregate } else { Tier::Exact };
        let same = directions.iter().all(|(_, direction)| direction.same_bits[0]);
        return (if same { Answer::Identical } else { Answer::Separable }, tier, Reason::Exact);
    }
    if directions.iter().all(|(_, direction)| direction.is_tie()) {
        return (Answer::NotSeparable, tier, Reason::Tied);
    }
    if test.is_some_and(|test| test.adjusted <= options.alpha) {
        return (Answer::Separable, tier, Reason::Test);
    }
    let failing: Vec<Claim> =
        directions.iter().filter(|(_, direction)| !direction.separates()).map(|&(claim, _)| claim).collect();
    if let Some(&claim) = failing.first() {
        let reason = if pair.averages_only {
            Reason::NearestWrong(claim)
        } else {
            Reason::Overlap { fails: failing.len(), of: directions.len() }
        };
        return (Answer::NotSeparable, tier, reason);
    }
    let margin = directions.iter().map(|(_, direction)| direction.quotient()).fold(f64::INFINITY, f64::min);
    let both = directions.iter().any(|(claim, _)| *claim == Claim::A)
        && directions.iter().any(|(claim, _)| *claim == Claim::B);
    if margin >= CLEAR_MARGIN && both {
        return (Answer::Separable, Tier::Aggregate, Reason::Margin(margin));
    }
    if pair.averages_only {
        return if ratio.is_some_and(|ratio| ratio < WITHIN_FLOOR) {
            (Answer::NotSeparable, tier, Reason::WithinFloor)
        } else {
            (Answer::Inconclusive, tier, Reason::Between(margin))
        };
    }
    let pairs = test.map_or(1, |test| test.pairs);
    (
        Answer::Inconclusive,
        tier,
        Reason::TooFew { needed: statistics::references_needed(pairs, options.alpha) },
    )
}

#[derive(Clone, Copy)]
struct Figures {
    distance: Option<f64>,
    floor: Option<f64>,
    ratio: Option<f64>,
    interval: Option<Interval>,
    test: Option<Test>,
    n: u64,
}

fn sentence(pair: &Candidate, answer: Answer, reason: &Reason, figures: Figures) -> String {
    let (a, b) = (&pair.names.0, &pair.names.1);
    let lane = words::lane(pair.phase, pair.signal);
    let references = words::count(figures.n, "reference");
    let left_out = pair.left_out.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    if answer == Answer::Incomparable {
        return format!("{a} and {b} cannot be compared by {lane} {}{left_out}.", pair.context);
    }
    let verb = match answer {
        Answer::Separable => "can be told apart",
        Answer::Identical => "are the same",
        Answer::Inconclusive => "lean apart, but are not told apart,",
        _ => "cannot be told apart",
    };
    let measured = match (figures.distance, figures.floor) {
        (Some(distance), Some(floor)) => {
            let ratio = figures.ratio.map_or(String::new(), |ratio| {
                let interval = figures.interval.map_or(String::new(), |interval| {
                    let (low, high) = (words::figure(interval.low), words::figure(interval.high));
                    format!(", {:.0}% interval {low} to {high}", interval.confidence * 100.0)
                });
                format!(" ({}×{interval})", words::figure(ratio))
            });
            format!(
                "replays of the other setup lie {} away on average, matching ones {}{ratio}",
                words::figure(distance),
                words::figure(floor)
            )
        }
        _ => "no distance is known".to_owned(),
    };
    let tested = figures.test.map_or(String::new(), |test| {
        format!(
            "{} over {references}, {} after Holm's correction for {}",
            words::p_value(test.p),
            words::figure(test.adjusted),
            words::count(test.pairs as u64, "pair")
        )
    });
    let averages = "only averages over references are stored, so no p-value can be computed";
    let why = match reason {
        Reason::Nothing => String::new(),
        Reason::Exact => {
            format!("every matching replay has the same bits in {references}, so any other bit counts")
        }
        Reason::Tied if pair.averages_only => format!("the replays of both are equally far; {averages}"),
        Reason::Tied => {
            format!(
                "the replays of both are equally far in every comparison ({references}), so nothing can tell them apart"
            )
        }
        Reason::Test => tested,
        Reason::Overlap { fails, of } => format!(
            "in {fails} of {of} comparisons the other setup's replay is as near as the matching one or nearer; {tested}"
        ),
        Reason::NearestWrong(claim) => {
            let (claimed, nearest) = if *claim == Claim::A { (a, b) } else { (b, a) };
            format!("the replay nearest to {claimed} evidence is {nearest}; {averages}")
        }
        Reason::Margin(margin) => {
            let basis = if pair.averages_only {
                averages.to_owned()
            } else {
                format!("no smaller p-value can come from {references} ({tested})")
            };
            format!(
                "in every direction the other setup's replay is at least {} times as far as the matching one; {basis}",
                words::figure(*margin)
            )
        }
        Reason::WithinFloor => {
            format!("that is within {WITHIN_FLOOR} floors; {averages}")
        }
        Reason::Between(margin) => format!(
            "the smallest quotient is {}, between {WITHIN_FLOOR} and {CLEAR_MARGIN}; {averages}",
            words::figure(*margin)
        ),
        Reason::TooFew { needed } => format!(
            "the other setup's replay is farther in all {references}, but {tested}; it needs at least {needed} references"
        ),
    };
    format!("{a} and {b} {verb} by {lane} {}: {measured}; {why}{left_out}.", pair.context)
}
