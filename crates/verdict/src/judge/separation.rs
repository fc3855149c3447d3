//! Can two setups be told apart, given how far right and wrong replays are from their evidence?
//!
//! The unit is a reference prompt. Each member of the pair claims itself; its evidence is compared with the replay
//! of the same setup (right) and of the other one (wrong). Where repetitions are stored, they are permuted. "Cannot be
//! told apart" is a statement too: it needs the exclusion of a difference of the size that was asked for. Left out:
//! where distances come from, and equality of bits.

use mantissa_numerics::Phase;

use super::options::Options;
use super::values::{is_zero, mean};
use super::{signal_key, statistics};
use crate::analysis::{Answer, Citation, Comparison, Floor, Needed, PairVerdict, Signal, Tier};
use crate::found::{Excluded, FloorOf, Member, OmittedReferences, Place, Reason, ReplaysOfPair, Side, Test};
use crate::stats::{self, Stratum};
use crate::{Result, said};

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
    pub(super) directions: Vec<(Member, Direction)>,
}

impl Unit {
    fn mean(&self, of: impl Fn(Direction) -> f64) -> Option<f64> {
        mean(&self.directions.iter().map(|&(_, direction)| of(direction)).collect::<Vec<_>>())
    }
}

/// A pair before it is judged.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) comparison: Comparison,
    pub(super) a: String,
    pub(super) b: String,
    /// What `a` and `b` are called in a sentence.
    pub(super) names: [String; 2],
    pub(super) phase: Phase,
    pub(super) signal: Signal,
    pub(super) place: Place,
    /// Setups that do not repeat themselves, where that is part of the question.
    pub(super) noisy: Vec<String>,
    pub(super) floor_of: FloorOf,
    pub(super) units: Vec<Unit>,
    /// Where the floor is made of repetitions: distances between all of them, by reference.
    pub(super) strata: Vec<Stratum>,
    /// Whether the only unit is an average over references.
    pub(super) averages_only: bool,
    pub(super) incomparable: u64,
    /// Why units were left out.
    pub(super) left_out: Option<OmittedReferences>,
    pub(super) citations: Vec<Citation>,
}

impl Candidate {
    /// Whether every matching replay has the same bits as the evidence: then any other bit counts.
    fn matches_exactly(&self) -> bool {
        let mut directions = self.units.iter().flat_map(|unit| &unit.directions).peekable();
        directions.peek().is_some() && directions.all(|(_, direction)| direction.same_bits[1])
    }

    /// Margins of one member's evidence, one per reference.
    fn margins(&self, member: Member) -> Vec<f64> {
        let of_claim = self.units.iter().flat_map(|unit| &unit.directions).filter(|(of, _)| *of == member);
        of_claim.map(|(_, direction)| direction.wrong - direction.right).collect()
    }

    /// Both members, first member first; one only where the other could not be compared.
    fn sides(&self) -> Vec<Side> {
        let side = |member: Member| {
            let directions: Vec<Direction> = self
                .units
                .iter()
                .flat_map(|unit| &unit.directions)
                .filter(|(of, _)| *of == member)
                .map(|&(_, direction)| direction)
                .collect();
            let over = |of: fn(&Direction) -> f64| mean(&directions.iter().map(of).collect::<Vec<_>>());
            Some(Side {
                member,
                wrong: over(|d| d.wrong)?,
                right: over(|d| d.right)?,
                near: directions.iter().filter(|direction| !direction.separates()).count(),
                of: directions.len(),
                least: directions.iter().map(|d| d.quotient()).fold(f64::INFINITY, f64::min),
            })
        };
        [Member::A, Member::B].into_iter().filter_map(side).collect()
    }
}

/// Judges the pairs of one family (a phase, a signal, a comparison): their p-values are corrected together.
///
/// Two setups are told apart by replays only if the evidence of both is nearer to its own replays: an
/// intersection–union test, whose p-value is the larger of the two directions. By repetitions they are told apart if
/// those of the two lie farther apart than those of each.
pub(super) fn settle(family: Vec<Candidate>, options: &Options) -> Result<Vec<PairVerdict>> {
    let (mut tested, mut p_values) = (Vec::new(), Vec::new());
    for (index, pair) in family.iter().enumerate() {
        if pair.averages_only || pair.matches_exactly() {
            continue;
        }
        if !pair.strata.is_empty() {
            tested.push(index);
            p_values.push(statistics::permuted(&pair.strata, &seeded(pair))?);
            continue;
        }
        let [a, b] = [Member::A, Member::B].map(|member| pair.margins(member));
        if a.is_empty() || b.is_empty() {
            continue;
        }
        let seed = seeded(pair);
        let (a, b) = (statistics::sign_flip(&a, &seed)?, statistics::sign_flip(&b, &seed)?);
        tested.push(index);
        p_values.push(if a.value() < b.value() { b } else { a });
    }
    let adjusted = statistics::holm(&p_values);
    let mut tests = vec![None; family.len()];
    for ((&index, p), adjusted) in tested.iter().zip(&p_values).zip(adjusted) {
        tests[index] =
            Some(Test { p: p.value(), least: p.smallest_possible(), adjusted, pairs: tested.len() });
    }
    family.into_iter().zip(tests).map(|(pair, test)| judged(pair, test, options)).collect()
}

fn seeded(pair: &Candidate) -> Vec<String> {
    [pair.a.as_str(), &pair.b, pair.phase.name(), signal_key::signal_key(pair.signal)]
        .map(str::to_owned)
        .to_vec()
}

/// The largest quotient of wrong by right that is not excluded, corrected for the pairs of the family: of the member
/// whose evidence tells less, which is one more correction where there are two.
fn excluded(pair: &Candidate, test: Option<Test>, options: &Options) -> Result<Option<Excluded>> {
    let Some(test) = test else { return Ok(None) };
    let pairs = f64::from(u32::try_from(test.pairs).unwrap_or(u32::MAX));
    let both = pair.strata.is_empty();
    let level = options.alpha / pairs / if both { 2.0 } else { 1.0 };
    let mut found: Option<Excluded> = None;
    for member in if both { &[Member::A, Member::B][..] } else { &[Member::A] } {
        let of_member = pair.units.iter().flat_map(|unit| &unit.directions).filter(|(of, _)| of == member);
        let (wrong, right): (Vec<f64>, Vec<f64>) = of_member.map(|(_, one)| (one.wrong, one.right)).unzip();
        let Some(factor) = statistics::ratio_bound(&wrong, &right, level, &seeded(pair))? else { continue };
        if found.as_ref().is_none_or(|known| factor < known.factor) {
            found = Some(Excluded { member: both.then_some(*member), factor });
        }
    }
    Ok(found)
}

fn judged(pair: Candidate, test: Option<Test>, options: &Options) -> Result<PairVerdict> {
    let wrong: Vec<f64> = pair.units.iter().filter_map(|unit| unit.mean(|d| d.wrong)).collect();
    let right: Vec<f64> = pair.units.iter().filter_map(|unit| unit.mean(|d| d.right)).collect();
    let (distance, floor_mean) = (mean(&wrong), mean(&right));
    let rights = pair.units.iter().flat_map(|unit| &unit.directions).map(|(_, d)| d.right);
    let floor = floor_mean.map(|mean| Floor {
        mean,
        max: rights.clone().fold(0.0, f64::max),
        n: rights.count() as u64,
        of: said::floor_of(&pair.floor_of),
    });
    let ratio = distance.zip(floor_mean).filter(|(_, floor)| *floor > 0.0).map(|(d, floor)| d / floor);
    let ratio = ratio.filter(|ratio| ratio.is_finite());
    let interval = if pair.averages_only {
        None
    } else {
        statistics::ratio_interval(&wrong, &right, options.confidence, &seeded(&pair))?
    };
    let n = if pair.averages_only { 0 } else { pair.units.len() as u64 };
    let sides = pair.sides();
    let excluded = excluded(&pair, test, options)?;
    let (answer, tier, reason) = decide(&pair, &sides, (test, excluded), options);
    let needed = match reason {
        Reason::TooFew(needed) | Reason::Open(needed) => Some(needed),
        _ => None,
    };
    let sentence = said::replays_of_pair(&ReplaysOfPair {
        names: &pair.names,
        phase: pair.phase,
        signal: pair.signal,
        place: &pair.place,
        noisy: &pair.noisy,
        floor_of: &pair.floor_of,
        left_out: pair.left_out.as_ref(),
        sides,
        answer,
        reason,
        ratio,
        interval,
        test,
        excluded,
        effect: options.effect,
        repeated: !pair.strata.is_empty(),
        references: n,
    });
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
        ratio_bound: excluded.map(|excluded| excluded.factor),
        needed,
        p_value: test.map(|test| test.p),
        p_adjusted: test.map(|test| test.adjusted),
        n,
        incomparable: pair.incomparable,
        rows: None,
        sentence,
        citations: pair.citations,
    })
}

fn decide(
    pair: &Candidate,
    sides: &[Side],
    (test, excluded): (Option<Test>, Option<Excluded>),
    options: &Options,
) -> (Answer, Tier, Reason) {
    let directions = || pair.units.iter().flat_map(|unit| &unit.directions).map(|(_, direction)| direction);
    if sides.is_empty() {
        return (Answer::Incomparable, Tier::None, Reason::Nothing);
    }
    let tier = if pair.averages_only { Tier::Aggregate } else { Tier::Statistical };
    if pair.matches_exactly() {
        let tier = if pair.averages_only { Tier::Aggregate } else { Tier::Exact };
        let same = directions().all(|direction| direction.same_bits[0]);
        return (if same { Answer::Identical } else { Answer::Separable }, tier, Reason::Exact);
    }
    if pair.averages_only {
        return (Answer::Inconclusive, tier, Reason::Averages);
    }
    let Some(test) = test else {
        let only = sides.first().map_or(Member::A, |side| side.member);
        return (Answer::Inconclusive, tier, Reason::OneSided(only));
    };
    let repeated = !pair.strata.is_empty();
    if test.adjusted <= options.alpha {
        return (Answer::Separable, tier, Reason::Test);
    }
    // Replays of equal bits are the same distance from anything.
    let tied = |one: &Direction| one.is_tie() && is_zero(one.slack);
    if !repeated && directions().all(tied) {
        return (Answer::NotSeparable, tier, Reason::Tied);
    }
    if let Some(excluded) = excluded.filter(|excluded| excluded.factor <= options.effect) {
        return (Answer::NotSeparable, tier, Reason::Excluded(excluded));
    }
    let corrections = if repeated { test.pairs } else { 2 * test.pairs };
    let to_exclude = statistics::references_needed(corrections, options.alpha);
    let reason = if test.least * statistics::real(test.pairs) > options.alpha {
        Reason::TooFew(if repeated {
            let each = stats::repetitions_needed(pair.units.len(), test.pairs, options.alpha);
            Needed::Repetitions { each, references: pair.units.len() as u64 }
        } else {
            Needed::References(statistics::references_needed(test.pairs, options.alpha))
        })
    } else {
        Reason::Open(Needed::References(to_exclude.max(pair.units.len() as u64)))
    };
    (Answer::Inconclusive, tier, reason)
}
