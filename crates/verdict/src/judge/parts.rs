//! The parts of an analysis as they accumulate, and the findings that sum them up.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::{
    Answer, Citation, ClassSet, Comparison, FalseAlarmBound, Finding, FindingKind, FirstDifferences, Matrix,
    PairVerdict, Profile, Reproducibility, Signal, State, Tier, TokenConsistency,
};
use crate::found::{Caveat, Classes, Found, Pairs, Place, SameBy, Scope, Unplaced, Unshown, Wording};
use crate::said;
use mantissa_numerics::Phase;

/// Up to this many pairs of one kind are said one by one; more are summed up.
const SAID_ONE_BY_ONE: usize = 3;

/// Citations that a summary carries: enough to start from, since every pair has its own.
const CITED: usize = 8;

/// What an analysis holds, before it has an outcome.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) findings: Vec<Finding>,
    pub(super) tokens: Vec<TokenConsistency>,
    pub(super) reproducibility: Vec<Reproducibility>,
    pub(super) classes: Vec<ClassSet>,
    /// Whether the classes of each set are known to differ from one another.
    pub(super) told_apart: Vec<bool>,
    unsaid: Vec<Unsaid>,
    pub(super) pairs: Vec<PairVerdict>,
    pub(super) matrices: Vec<Matrix>,
    pub(super) profiles: Vec<Profile>,
    pub(super) first_differences: Vec<FirstDifferences>,
    pub(super) bounds: Vec<FalseAlarmBound>,
    pub(super) signals: BTreeSet<Signal>,
    /// Names of the thresholds that decided something.
    pub(super) thresholds: BTreeSet<&'static str>,
}

impl Parts {
    pub(super) fn find(&mut self, found: &Found<'_>, mut citations: Vec<Citation>) {
        citations.truncate(CITED);
        self.findings.push(Finding { kind: found.kind(), sentence: said::finding(found), citations });
    }

    /// Takes token groups in, with a finding where they part.
    pub(super) fn add_tokens(&mut self, tokens: TokenConsistency) {
        if tokens.groups.len() > 1 {
            self.find(&Found::TokensPart(&tokens), tokens.citations.clone());
        }
        if !tokens.stopped.is_empty() {
            self.find(&Found::TokensStop(&tokens), tokens.citations.clone());
        }
        self.tokens.push(tokens);
    }

    /// Takes repetitions in, with a finding where they differ.
    pub(super) fn add_repeats(&mut self, repeats: Reproducibility) {
        if repeats.state != State::Equal {
            self.find(&Found::Repetitions(&repeats), repeats.citations.clone());
        }
        self.reproducibility.push(repeats);
    }

    /// Takes classes in, with a finding for each of several members, and one for how many can be told apart where it is
    /// known that all of them can.
    pub(super) fn add_classes(&mut self, found: FoundClasses) {
        let FoundClasses { scope, basis, told_apart, unshown, .. } = found;
        let unplaced = found.unplaced.into_iter().map(|(setup, why)| (setup, said::unplaced(&why)));
        let set = ClassSet {
            phase: found.phase,
            signals: found.signals,
            scope: said::scope(&scope),
            classes: found.classes,
            unplaced: unplaced.collect(),
            basis: said::same_by(basis),
            references: found.references,
            citations: found.citations,
        };
        let of = Classes { set: &set, scope: &scope, basis, unshown };
        for class in set.classes.iter().filter(|class| class.len() > 1) {
            self.find(&Found::OneClass { class, of }, set.citations.clone());
        }
        let mut told_apart = told_apart && set.classes.len() > 1;
        if told_apart && set.classes.len() == 2 && set.classes.iter().all(|class| class.len() == 1) {
            // Of two setups a finding on the pair says more, if there will be one.
            self.unsaid.push(Unsaid { set: self.classes.len(), scope, basis, unshown });
            told_apart = false;
        } else if told_apart {
            self.find(&Found::ToldApart(of), set.citations.clone());
        }
        self.classes.push(set);
        self.told_apart.push(told_apart);
    }

    /// Says of classes of one setup each that they can be told apart, where no verdict on the pair did.
    pub(super) fn say_unsaid(&mut self) {
        for Unsaid { set, scope, basis, unshown } in std::mem::take(&mut self.unsaid) {
            let set = self.classes[set].clone();
            let said = self.pairs.iter().any(|one| {
                one.phase == set.phase
                    && set.signals.contains(&one.signal)
                    && one.answer == Answer::Separable
                    && set.classes.iter().all(|class| [&one.a, &one.b].contains(&&class[0]))
            });
            if !said {
                let of = Classes { set: &set, scope: &scope, basis, unshown };
                self.find(&Found::ToldApart(of), set.citations.clone());
            }
        }
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
            about
                && says
                && !matches!(
                    verdict.comparison,
                    Comparison::CrossHardwareBaseline | Comparison::DecodeByPrefill
                )
        })
    }

    /// Takes verdicts on one question in, with findings: one by one where they are few, else summed up. `place` says
    /// where and how, `caveat` what has to be said in a summary besides.
    pub(super) fn add_pairs(&mut self, verdicts: Vec<PairVerdict>, place: &Place, caveat: &Caveat) {
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
        let mut one_by_one: Vec<&PairVerdict> = Vec::new();
        for alike in kinds.into_values() {
            // The finding on the classes says it.
            if alike.iter().all(|one| self.said_by_classes(one)) {
                continue;
            }
            let baseline = alike[0].comparison == Comparison::CrossHardwareBaseline && alike.len() > 1;
            if alike.len() <= SAID_ONE_BY_ONE && !baseline {
                one_by_one.extend(alike.into_iter().filter(|one| !self.said_by_classes(one)));
                continue;
            }
            let family =
                || verdicts.iter().filter(|one| (one.phase, one.signal) == (alike[0].phase, alike[0].signal));
            let tested = family().filter(|one| one.p_value.is_some()).count();
            let told = Wording::SummedUp { of: family().count(), tested, caveat };
            let citations = super::setups::in_order(alike.iter().flat_map(|one| one.citations.clone()));
            self.find(&Found::Pairs(Pairs { verdicts: &alike, place, told }), citations);
        }
        // What is said of one pair by several signals is said once.
        while let Some(&first) = one_by_one.first() {
            let same = |one: &PairVerdict| {
                (&one.a, &one.b, one.answer, one.tier) == (&first.a, &first.b, first.answer, first.tier)
            };
            let (together, rest): (Vec<_>, Vec<_>) = one_by_one.into_iter().partition(|one| same(one));
            one_by_one = rest;
            let citations = super::setups::in_order(together.iter().flat_map(|one| one.citations.clone()));
            self.find(&Found::Pairs(Pairs { verdicts: &together, place, told: Wording::Once }), citations);
        }
        self.signals.extend(verdicts.iter().map(|verdict| verdict.signal));
        self.pairs.extend(verdicts);
    }
}

/// Classes of which it was not said that they can be told apart.
#[derive(Debug)]
struct Unsaid {
    set: usize,
    scope: Scope,
    basis: SameBy,
    unshown: Unshown,
}

/// Classes as they were found.
#[derive(Debug)]
pub(super) struct FoundClasses {
    pub(super) phase: Phase,
    pub(super) signals: Vec<Signal>,
    pub(super) scope: Scope,
    pub(super) classes: Vec<Vec<String>>,
    pub(super) unplaced: Vec<(String, Unplaced)>,
    pub(super) basis: SameBy,
    pub(super) references: u64,
    /// Whether every two classes were compared and differ.
    pub(super) told_apart: bool,
    pub(super) unshown: Unshown,
    pub(super) citations: Vec<Citation>,
}

/// Findings in the order of importance; those of one kind stay in the order they were made.
pub(super) fn most_important_first(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| match finding.kind {
        FindingKind::TokensDiverge => 0,
        FindingKind::NonDeterministic => 1,
        FindingKind::OtherWeights => 2,
        FindingKind::Separable => 3,
        FindingKind::NotSeparable => 4,
        FindingKind::OneClass => 5,
        FindingKind::NotEnoughEvidence => 6,
        FindingKind::Confounded => 7,
        FindingKind::Published => 8,
        FindingKind::Copy => 9,
        FindingKind::Missing => 10,
    });
}
