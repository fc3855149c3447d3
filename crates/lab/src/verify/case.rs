//! Facts of replays in the form that is judged.

use std::collections::BTreeMap;

use mantissa_compare::ReplayFacts;
use mantissa_engine::Basis;
use mantissa_evidence::Record;
use mantissa_numerics::Setup;
use mantissa_verdict::audit::{Case, RunFacts, SetupFacts};

use crate::error::LabError;
use crate::replay::{Claim, Replay, ReplayPlan, between};

/// Facts in the form that is judged.
pub(super) fn case(
    record: &Record,
    plan: &ReplayPlan,
    claims: &[Claim],
    known: &BTreeMap<(usize, usize), ReplayFacts>,
    replay: Replay,
) -> Result<Case, LabError> {
    let shell = record.shell();
    let mut setups = Vec::with_capacity(claims.len());
    for claim in claims {
        let runs: Vec<usize> =
            (0..shell.runs.len()).filter(|i| shell.runs[*i].config_id == claim.config_id).collect();
        let mut facts = Vec::with_capacity(runs.len());
        for &run in &runs {
            let (planned, stored) = (&plan.runs[run], &shell.runs[run]);
            let mut repetitions = Vec::new();
            for &other in runs.iter().filter(|other| **other != run) {
                if shell.runs[other].reference_id == stored.reference_id {
                    repetitions.push(between(record, run, other)?);
                }
            }
            let classes = planned.classes.iter().enumerate();
            let found =
                classes.filter_map(|(i, class)| Some((class.members.clone(), known.get(&(run, i))?.clone())));
            // What was compared before a pass that is not covered contradicts, or says nothing.
            let (ended, found): (Vec<_>, Vec<_>) =
                found.partition(|(_, facts)| facts.refused.is_some() && !facts.differs());
            let mut unchecked = planned.unchecked.clone();
            for (members, facts) in ended {
                let why = facts.refused.unwrap_or_default();
                unchecked.extend(members.into_iter().map(|member| (member, why.clone())));
            }
            facts.push(RunFacts {
                reference_id: stored.reference_id,
                rep_id: stored.rep_id,
                refused: planned.refused.clone(),
                tokens: (planned.prompt.len() + planned.forced.len()) as u64,
                recorded: record.values(run),
                classes: found,
                unchecked,
                repetitions,
            });
        }
        let place = |candidate: &Setup| plan.candidates.iter().position(|known| known == candidate);
        setups.push(SetupFacts {
            config_id: claim.config_id.clone(),
            claim: claim.candidate.as_ref().ok().and_then(place),
            unreadable: claim.candidate.as_ref().err().map(ToString::to_string),
            runs: facts,
        });
    }
    Ok(Case {
        prefill_replay: replay == Replay::Prefill,
        candidates: plan.candidates.iter().map(ToString::to_string).collect(),
        unproven: (0..plan.candidates.len())
            .filter(|place| plan.candidates[*place].hardware.basis() == Basis::Literature)
            .collect(),
        setups,
    })
}
