//! From facts to answers.

use std::collections::BTreeSet;

use mantissa_compare::replayed::SignalReplay;
use mantissa_compare::{ReplayFacts, SignalKind};
use mantissa_numerics::Phase;

use super::case::{Case, RunFacts, SetupFacts};
use super::claim::{ClaimAnswer, ClaimVerdict, ReplayState, ReplayVerdict, RestsOn, SignalDistance};
use super::difference::Difference;
use crate::analysis::Tier;
use crate::error::Result;
use crate::found::{Claim, NotChecked, OneClass, Replayed, SufficientEvidence};
use crate::said;
use crate::stats::{PValue, conformal_p, holm};

/// Level of the statistical tier: one in [`LEVELS`].
const ALPHA: f64 = 0.05;
const LEVELS: u64 = 20;

/// A verdict on every setup of a case.
///
/// ```
/// use mantissa_compare::ReplayFacts;
/// use mantissa_numerics::{Dtype, Point, Site};
/// use mantissa_verdict::Audit;
/// use mantissa_verdict::analysis::Outcome;
/// use mantissa_verdict::audit::{Case, ClaimAnswer, RunFacts, SetupFacts, audit};
///
/// let mut facts = ReplayFacts::default();
/// facts.prefill.row((0, -1), Site::at(1, Point::K), Dtype::F32, &[0; 4], &[0; 4]);
/// let case = Case {
///     candidates: vec!["bs1".into()],
///     setups: vec![SetupFacts {
///         config_id: "bs1".into(),
///         claim: Some(0),
///         runs: vec![RunFacts { classes: vec![(vec![0], facts)], ..RunFacts::default() }],
///         ..SetupFacts::default()
///     }],
///     ..Case::default()
/// };
/// let claims = audit(&case)?;
/// assert_eq!(claims[0].answer, ClaimAnswer::Consistent);
/// assert_eq!(claims[0].sentence, "consistent with class {bs1}");
/// assert_eq!(Audit::outcome_of(&claims), Outcome::Consistent);
/// # Ok::<(), mantissa_verdict::VerdictError>(())
/// ```
pub fn audit(case: &Case) -> Result<Vec<ClaimVerdict>> {
    case.setups.iter().map(|setup| Setup { case, setup }.verdict()).collect()
}

/// A setup under judgement.
struct Setup<'s> {
    case: &'s Case,
    setup: &'s SetupFacts,
}

/// Candidates that share a class in every run.
struct Group {
    members: Vec<usize>,
    state: ReplayState,
    p: Option<PValue>,
    p_adjusted: Option<f64>,
    /// Repetitions of a prompt that could give a p-value small enough.
    needed: u64,
}

impl Setup<'_> {
    fn verdict(&self) -> Result<ClaimVerdict> {
        let mut groups = self.groups();
        let tier = self.states(&mut groups)?;
        self.set_aside(&mut groups);
        let fits: Vec<&Group> = groups.iter().filter(|group| fits(group.state)).collect();
        let claim = self.setup.claim.and_then(|claim| groups.iter().find(|g| g.members.contains(&claim)));
        let answer = match claim.map(|group| group.state) {
            None | Some(ReplayState::NotCompared | ReplayState::TooFewRepetitions) => {
                ClaimAnswer::NotEnoughEvidence
            }
            Some(ReplayState::Equal | ReplayState::WithinNoise) => ClaimAnswer::Consistent,
            Some(ReplayState::Different) if fits.is_empty() => ClaimAnswer::FitsNone,
            Some(ReplayState::Different) => ClaimAnswer::Contradicted,
        };
        let replays: Vec<ReplayVerdict> = groups.iter().map(|group| self.replay(group)).collect();
        let enough = self.enough(answer, claim);
        let own = replays.iter().find(|replay| replay.claimed);
        let rests_on = self.rests_on(claim.or(groups.first()));
        let found = Claim::Replayed(Replayed {
            class: claim.map(|group| self.names(&group.members)),
            fits: fits.iter().map(|group| (self.claims(group), self.names(&group.members))).collect(),
            first: own.and_then(|replay| replay.first.as_ref()),
            compared: [rests_on.values, rests_on.recorded],
            enough,
        });
        let sentence = said::claim(answer, &found);
        let mut classes: Vec<Vec<String>> = fits.iter().map(|group| self.names(&group.members)).collect();
        // The claim's own class comes first.
        if let Some(claim) = self.setup.claim {
            let name = &self.case.candidates[claim];
            classes.sort_by_key(|class| !class.contains(name));
        }
        Ok(ClaimVerdict {
            config_id: self.setup.config_id.clone(),
            claim: self.setup.claim.map(|claim| self.case.candidates[claim].clone()),
            answer,
            tier: if groups.iter().all(|g| g.state == ReplayState::NotCompared) { Tier::None } else { tier },
            sentence,
            cannot_tell_apart: self.one_class(&classes).iter().map(said::one_class).collect(),
            fits: classes,
            not_checked: said::not_checked(&self.not_checked()),
            enough: enough.as_ref().map(said::enough),
            rests_on,
            replays,
        })
    }

    /// Takes the answer from groups whose recipes were never compared with hardware, except for a difference beside a
    /// proven group that fits.
    fn set_aside(&self, groups: &mut [Group]) {
        let proven = |group: &Group| !self.case.unproven.contains(&group.members[0]);
        let found = groups.iter().any(|group| proven(group) && fits(group.state));
        for group in groups.iter_mut().filter(|group| !proven(group)) {
            if group.state != ReplayState::Different || !found {
                group.state = ReplayState::NotCompared;
            }
        }
    }

    /// Whether the claim is in a group.
    fn claims(&self, group: &Group) -> bool {
        self.setup.claim.is_some_and(|claim| group.members.contains(&claim))
    }

    fn names(&self, members: &[usize]) -> Vec<String> {
        members.iter().map(|member| self.case.candidates[*member].clone()).collect()
    }

    /// Candidates grouped by their classes over all runs, in the order of candidates; those never replayed are in none.
    fn groups(&self) -> Vec<Group> {
        let place =
            |run: &RunFacts, c: usize| run.classes.iter().position(|(members, _)| members.contains(&c));
        let mut keys: Vec<(Vec<Option<usize>>, Vec<usize>)> = Vec::new();
        for candidate in 0..self.case.candidates.len() {
            let key: Vec<Option<usize>> = self.setup.runs.iter().map(|run| place(run, candidate)).collect();
            if key.iter().all(Option::is_none) {
                continue;
            }
            match keys.iter_mut().find(|(known, _)| *known == key) {
                Some((_, members)) => members.push(candidate),
                None => keys.push((key, vec![candidate])),
            }
        }
        keys.into_iter()
            .map(|(_, members)| Group {
                members,
                state: ReplayState::NotCompared,
                p: None,
                p_adjusted: None,
                needed: 0,
            })
            .collect()
    }

    /// Facts of a group in each run that it was replayed in.
    fn facts<'f>(&'f self, group: &Group) -> impl Iterator<Item = (&'f RunFacts, &'f ReplayFacts)> {
        let member = group.members[0];
        self.setup.runs.iter().filter_map(move |run| {
            let found = run.classes.iter().find(|(members, _)| members.contains(&member));
            found.map(|(_, facts)| (run, facts))
        })
    }

    /// Whether bits of `facts` contradict its setup: decode rows replayed by a prefill are another shape and do not.
    fn differs(&self, facts: &ReplayFacts) -> bool {
        if self.case.prefill_replay { facts.prefill.rows.different > 0 } else { facts.differs() }
    }

    /// Values that can speak for or against a setup.
    fn values(&self, facts: &ReplayFacts) -> u64 {
        if self.case.prefill_replay { facts.prefill.values } else { facts.values() }
    }

    /// Finds each group's state: by bits, and where repetitions differ by statistics. Returns the tier that decided.
    fn states(&self, groups: &mut [Group]) -> Result<Tier> {
        let references: BTreeSet<u32> = self.setup.runs.iter().map(|run| run.reference_id).collect();
        let noisy = |reference: u32| {
            let mut runs = self.setup.runs.iter().filter(|run| run.reference_id == reference);
            runs.any(|run| run.repetitions.iter().any(ReplayFacts::differs))
        };
        let mut tier = Tier::Exact;
        let mut tested: Vec<usize> = Vec::new();
        for (i, group) in groups.iter_mut().enumerate() {
            let (mut compared, mut different, mut open) = (false, false, false);
            let mut worst: Option<PValue> = None;
            for &reference in &references {
                let of_reference: Vec<(&RunFacts, &ReplayFacts)> =
                    self.facts(group).filter(|(run, _)| run.reference_id == reference).collect();
                let seen: Vec<_> = of_reference
                    .iter()
                    // Tokens that a setup would choose too are no sign that it was this one; others are a sign.
                    .filter(|(_, facts)| self.values(facts) > 0 || self.differs(facts))
                    .collect();
                if seen.is_empty() {
                    continue;
                }
                compared = true;
                let equal = seen.iter().filter(|(_, facts)| !self.differs(facts)).count();
                if equal == seen.len() || (noisy(reference) && equal > 0) {
                    continue;
                }
                if !noisy(reference) {
                    different = true;
                    continue;
                }
                tier = Tier::Statistical;
                open = true;
                if let Some(p) = self.p_value(reference, group)? {
                    worst = match worst {
                        Some(known) if known.value() <= p.value() => Some(known),
                        _ => Some(p),
                    };
                }
            }
            group.p = worst;
            group.state = match (compared, different, open) {
                (false, ..) => ReplayState::NotCompared,
                (_, true, _) => ReplayState::Different,
                (_, _, true) => ReplayState::TooFewRepetitions,
                _ => ReplayState::Equal,
            };
            if group.state == ReplayState::TooFewRepetitions && group.p.is_some() {
                tested.push(i);
            }
        }
        let p: Vec<PValue> = tested.iter().filter_map(|i| groups[*i].p).collect();
        let tests = p.len() * references.len();
        for (i, adjusted) in tested.iter().zip(holm(&p)) {
            let group = &mut groups[*i];
            // The least favourable of several references was taken: one more factor.
            #[expect(clippy::cast_precision_loss, reason = "references are few")]
            let adjusted = (adjusted * references.len() as f64).min(1.0);
            group.p_adjusted = Some(adjusted);
            // (tests) / (n + 1) ≤ 1 / 20.
            group.needed = (tests as u64 * LEVELS).saturating_sub(1);
            #[expect(clippy::cast_precision_loss, reason = "tests are few")]
            let reachable = group.p.is_some_and(|p| p.smallest_possible() * tests as f64 <= ALPHA);
            group.state = match (adjusted <= ALPHA, reachable) {
                (true, _) => ReplayState::Different,
                (false, true) => ReplayState::WithinNoise,
                (false, false) => ReplayState::TooFewRepetitions,
            };
        }
        Ok(tier)
    }

    /// How unusual the group's replay is among the repetitions of a prompt, by mean distance to the others.
    fn p_value(&self, reference: u32, group: &Group) -> Result<Option<PValue>> {
        let runs: Vec<&RunFacts> =
            self.setup.runs.iter().filter(|run| run.reference_id == reference).collect();
        let mean = |scores: Vec<Option<f64>>| -> Option<f64> {
            let count = u32::try_from(scores.len()).ok().filter(|n| *n > 0)?;
            Some(scores.into_iter().sum::<Option<f64>>()? / f64::from(count))
        };
        let honest: Option<Vec<f64>> =
            runs.iter().map(|run| mean(run.repetitions.iter().map(score).collect())).collect();
        let own = self.facts(group).filter(|(run, _)| run.reference_id == reference);
        let own = mean(own.map(|(_, facts)| score(facts)).collect());
        match (own, honest) {
            (Some(own), Some(honest)) => Ok(Some(conformal_p(own, &honest)?)),
            _ => Ok(None),
        }
    }

    fn replay(&self, group: &Group) -> ReplayVerdict {
        let facts: Vec<(&RunFacts, &ReplayFacts)> = self.facts(group).collect();
        let sum = |of: &dyn Fn(&ReplayFacts) -> u64| facts.iter().map(|(_, facts)| of(facts)).sum::<u64>();
        let first = facts.iter().find_map(|(run, facts)| self.first(run, facts));
        ReplayVerdict {
            class: self.names(&group.members),
            claimed: self.claims(group),
            state: group.state,
            first,
            values: sum(&ReplayFacts::values),
            different: sum(&|f| f.prefill.different + f.decode.different),
            passes: [sum(&|f| f.passes), sum(&|f| f.passes_in_all)],
            distances: distances(&facts),
            p_value: group.p.map(PValue::value),
            p_adjusted: group.p_adjusted,
        }
    }

    fn first(&self, run: &RunFacts, facts: &ReplayFacts) -> Option<Difference> {
        let name = format!("ref {} rep {}", run.reference_id, run.rep_id);
        let at = |phase: Phase| {
            let first = facts.phase(phase).first.as_ref()?;
            Some(Difference {
                run: name.clone(),
                phase,
                step: first.step,
                position: Some(first.position),
                site: first.site.clone(),
                element: Some(first.element),
                evidence: first.evidence.clone(),
                replay: first.replay.clone(),
            })
        };
        let token = facts.first_token.map(|token| Difference {
            run: name.clone(),
            phase: if token.index == 0 { Phase::Prefill } else { Phase::Decode },
            step: token.index.saturating_sub(1),
            position: None,
            site: "output_token".to_owned(),
            element: None,
            evidence: format!("token {}", token.evidence),
            replay: format!("token {}", token.replay),
        });
        if self.case.prefill_replay {
            return at(Phase::Prefill);
        }
        // Within a pass the chosen token comes after the signals.
        let order = |d: &Difference| (d.phase, d.step, d.position.is_none());
        [at(Phase::Prefill), at(Phase::Decode), token].into_iter().flatten().min_by_key(order)
    }

    fn rests_on(&self, group: Option<&Group>) -> RestsOn {
        let recorded = self.setup.runs.iter().map(|run| run.recorded).sum();
        let mut rests_on = RestsOn { recorded, ..RestsOn::default() };
        let Some(group) = group else { return rests_on };
        for (run, facts) in self.facts(group) {
            let phases = [&facts.prefill, &facts.decode];
            rests_on.runs += 1;
            rests_on.values += self.values(facts);
            rests_on.rows += phases
                .iter()
                .take(if self.case.prefill_replay { 1 } else { 2 })
                .map(|p| p.rows.equal + p.rows.different)
                .sum::<u64>();
            // A replay that ended early fed fewer.
            let unfed = facts.passes_in_all.saturating_sub(facts.passes);
            rests_on.tokens_fed += run.tokens.saturating_sub(unfed);
            rests_on.tokens_checked += facts.tokens;
        }
        rests_on
    }

    /// What cannot be told apart among the classes that fit.
    fn one_class<'c>(&self, classes: &'c [Vec<String>]) -> Vec<OneClass<'c>> {
        let several = || classes.iter().filter(|class| class.len() > 1);
        let mut found: Vec<OneClass<'c>> = several().map(|class| OneClass::SameKernels(class)).collect();
        if classes.len() > 1 {
            found.push(OneClass::SameBitsHere(classes));
        }
        if self.case.prefill_replay && several().next().is_some() {
            found.push(OneClass::BatchSizesByPrefill);
        }
        found
    }

    fn not_checked(&self) -> Vec<NotChecked<'_>> {
        let mut found: Vec<NotChecked<'_>> = Vec::new();
        // Candidates by reason, in the order of the first.
        let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
        for (candidate, why) in self.setup.runs.iter().flat_map(|run| &run.unchecked) {
            let name = self.case.candidates[*candidate].as_str();
            match by_reason.iter_mut().find(|(known, _)| known == why) {
                Some((_, names)) if names.contains(&name) => {}
                Some((_, names)) => names.push(name),
                None => by_reason.push((why, vec![name])),
            }
        }
        found.extend(by_reason.into_iter().map(|(why, names)| NotChecked::Candidates { names, why }));
        found.extend(self.setup.unreadable.as_deref().map(NotChecked::Claim));
        for run in &self.setup.runs {
            if let Some(why) = run.refused.as_deref() {
                let (reference, repetition) = (run.reference_id, run.rep_id);
                found.push(NotChecked::Run { reference, repetition, why });
            }
            for phase in [Phase::Prefill, Phase::Decode] {
                let facts = run.classes.iter().map(|(_, facts)| facts);
                let reasons: BTreeSet<&String> =
                    facts.flat_map(|facts| &facts.phase(phase).reasons).collect();
                found.extend(reasons.into_iter().map(|why| NotChecked::Rows { phase, why }));
            }
        }
        let unproven = self.case.unproven.iter();
        found.extend(unproven.map(|candidate| NotChecked::Unproven(&self.case.candidates[*candidate])));
        if self.case.prefill_replay && self.setup.runs.iter().any(|run| !run.classes.is_empty()) {
            found.push(NotChecked::DecodeByPrefill);
        }
        found
    }

    /// What would be enough, where the evidence was not.
    fn enough(&self, answer: ClaimAnswer, claim: Option<&Group>) -> Option<SufficientEvidence<'_>> {
        if answer != ClaimAnswer::NotEnoughEvidence {
            return None;
        }
        if let Some(why) = &self.setup.unreadable {
            return Some(SufficientEvidence::AsSaid(why));
        }
        if let Some(group) = claim.filter(|group| group.state == ReplayState::TooFewRepetitions) {
            let runs = self.setup.runs.len();
            return Some(SufficientEvidence::Repetitions { runs, level: ALPHA, needed: group.needed });
        }
        let refused = self.setup.runs.iter().find_map(|run| run.refused.as_deref());
        let unchecked = self.setup.claim.and_then(|claim| {
            let mut all = self.setup.runs.iter().flat_map(|run| &run.unchecked);
            all.find(|(c, _)| *c == claim).map(|(_, why)| why.as_str())
        });
        refused.or(unchecked).map(SufficientEvidence::AsSaid).or(Some(if self.setup.runs.is_empty() {
            SufficientEvidence::ARun
        } else if self.case.prefill_replay {
            SufficientEvidence::PromptPass
        } else {
            SufficientEvidence::AnySignal
        }))
    }
}

/// Whether a state is one of fitting.
const fn fits(state: ReplayState) -> bool {
    matches!(state, ReplayState::Equal | ReplayState::WithinNoise)
}

/// Mean distance of hidden states and keys, over all rows.
fn score(facts: &ReplayFacts) -> Option<f64> {
    let mut all = SignalReplay::default();
    for phase in [&facts.prefill, &facts.decode] {
        for signal in &phase.signals[..2] {
            all.add(*signal);
        }
    }
    all.mean_l2()
}

fn distances(facts: &[(&RunFacts, &ReplayFacts)]) -> Vec<SignalDistance> {
    if facts.iter().any(|(_, facts)| facts.passes < facts.passes_in_all) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        for kind in SignalKind::ALL {
            let mut all = SignalReplay::default();
            for (_, facts) in facts {
                all.add(facts.phase(phase).signals[kind as usize]);
            }
            if all.rows > 0 {
                found.push(SignalDistance {
                    phase,
                    signal: kind.into(),
                    rows: all.rows,
                    different: all.different,
                    mean_l2: all.mean_l2(),
                });
            }
        }
    }
    found
}
