//! What there is to compare: rows that any member recorded, pairs and their alignment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use mantissa_evidence::record::{RowKey, TensorLayout};
use mantissa_numerics::{Phase, Site};

use crate::error::CompareError;
use crate::facts::Member;
use crate::selection::Selection;
use crate::tokens::Alignment;

/// Rows of facts, over all pairs, that one call may make; a pair without any counts as one. A row takes at most 144
/// bytes (see the tests), so facts stay below 1.2 GB.
const MAX_ROWS: u128 = 1 << 23;

pub(super) struct Extent<'a> {
    pub(super) members: Vec<Member<'a>>,
    pub(super) pairs: Vec<Pair>,
    pub(super) phases: Vec<PhaseExtent>,
    /// So many pairs that runs of equal bits are worth finding first.
    pub(super) dense: bool,
}

/// Two members.
pub(super) struct Pair {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) alignment: Alignment,
}

/// What any member recorded in a phase.
pub(super) struct PhaseExtent {
    pub(super) phase: Phase,
    /// Disjoint, ascending.
    steps: Vec<Range<u64>>,
    pub(super) positions: Vec<i32>,
    pub(super) sites: Vec<SiteExtent>,
    /// By member: whether it recorded log-probabilities.
    pub(super) logprobs: Vec<bool>,
}

/// A site and, by member, what its rows look like.
pub(super) struct SiteExtent {
    pub(super) site: Site,
    pub(super) layouts: Vec<Option<TensorLayout>>,
}

/// All positions of one step at one site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// Index into [`Extent::phases`].
    pub(super) phase: usize,
    pub(super) step: u64,
    pub(super) seen: Seen,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    /// Index into [`PhaseExtent::sites`].
    Site(usize),
    Logprobs,
}

impl<'a> Extent<'a> {
    pub(super) fn new(
        members: &[Member<'a>],
        which: &[(usize, usize)],
        selection: &Selection,
    ) -> Result<Self, CompareError> {
        let run = |index: usize| {
            let Member { record, run } = *members.get(index)?;
            record.shell().runs.get(run)
        };
        for member in members {
            let runs = member.record.shell().runs.len();
            if member.run >= runs {
                let origin = member.record.origin().display().to_string();
                return Err(CompareError::NoSuchRun { origin, run: member.run, runs });
            }
        }
        let origin =
            members.first().map(|member| member.record.origin().display().to_string()).unwrap_or_default();
        let too_many = |rows| CompareError::TooManyRows { origin: origin.clone(), rows, limit: MAX_ROWS };
        if which.len() as u128 > MAX_ROWS {
            return Err(too_many(which.len() as u128));
        }
        let mut used = vec![false; members.len()];
        let mut pairs = Vec::with_capacity(which.len());
        for &(a, b) in which {
            let (Some(run_a), Some(run_b)) = (run(a), run(b)) else {
                return Err(CompareError::NoSuchMember { a, b, count: members.len() });
            };
            (used[a], used[b]) = (true, true);
            pairs.push(Pair { a, b, alignment: Alignment::of(run_a, run_b) });
        }
        let phases: Vec<PhaseExtent> = [Phase::Prefill, Phase::Decode]
            .into_iter()
            .filter(|&phase| selection.phase(phase))
            .map(|phase| PhaseExtent::new(phase, members, &used, selection))
            .collect();
        let rows = phases.iter().map(PhaseExtent::rows).sum::<u128>() * pairs.len() as u128;
        if rows > MAX_ROWS {
            return Err(too_many(rows));
        }
        let dense = pairs.len() > used.iter().filter(|&&used| used).count();
        Ok(Self { members: members.to_vec(), pairs, phases, dense })
    }

    /// Where earlier passes that take part stored the token of a decode row, newest first.
    pub(super) fn earlier(&self, key: RowKey) -> impl Iterator<Item = RowKey> {
        key.earlier().filter(|own| {
            let mut extents = self.phases.iter().filter(|extent| extent.phase == own.phase);
            extents.any(|extent| extent.positions.binary_search(&own.position).is_ok())
        })
    }

    /// Every unit of work in the order of data flow, log-probabilities last in their step.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for (index, phase) in self.phases.iter().enumerate() {
            for step in phase.steps.iter().cloned().flatten() {
                let sites = (0..phase.sites.len()).map(Seen::Site);
                let logprobs = phase.logprobs.contains(&true).then_some(Seen::Logprobs);
                units.extend(sites.chain(logprobs).map(|seen| Unit { phase: index, step, seen }));
            }
        }
        units
    }
}

impl PhaseExtent {
    fn new(phase: Phase, members: &[Member<'_>], used: &[bool], selection: &Selection) -> Self {
        let mut steps = Vec::new();
        let mut positions = BTreeSet::new();
        let mut sites: BTreeMap<Site, Vec<Option<TensorLayout>>> = BTreeMap::new();
        let mut logprobs = vec![false; members.len()];
        for (index, member) in members.iter().enumerate().filter(|(index, _)| used[*index]) {
            let Some(layout) = member.record.layout(member.run, phase) else { continue };
            steps.push(layout.steps.clone());
            positions
                .extend(layout.positions.iter().copied().filter(|&position| selection.position(position)));
            for (&site, &tensor) in layout.tensors.iter().filter(|(site, _)| selection.site(**site)) {
                sites.entry(site).or_insert_with(|| vec![None; members.len()])[index] = Some(tensor);
            }
            logprobs[index] = selection.logprobs() && layout.top_k.is_some();
        }
        let sites = sites.into_iter().map(|(site, layouts)| SiteExtent { site, layouts });
        Self {
            phase,
            steps: disjoint(steps),
            positions: positions.into_iter().collect(),
            sites: sites.collect(),
            logprobs,
        }
    }

    /// Rows that a pair may have at most at one site.
    pub(super) fn rows_of_a_site(&self) -> usize {
        let steps = self.steps.iter().map(|steps| steps.end - steps.start).sum::<u64>();
        usize::try_from(steps).unwrap_or(usize::MAX).saturating_mul(self.positions.len())
    }

    /// Rows that a pair may have at most.
    fn rows(&self) -> u128 {
        let steps: u128 = self.steps.iter().map(|steps| u128::from(steps.end - steps.start)).sum();
        let seen = self.sites.len() + usize::from(self.logprobs.contains(&true));
        // Positions and sites are counted in memory, so their product with 2^64 steps may overflow only on purpose.
        steps.saturating_mul(seen as u128).saturating_mul(self.positions.len().max(1) as u128)
    }
}

/// The same steps as ranges that neither touch nor overlap, ascending.
fn disjoint(mut steps: Vec<Range<u64>>) -> Vec<Range<u64>> {
    steps.retain(|steps| !steps.is_empty());
    steps.sort_unstable_by_key(|steps| (steps.start, steps.end));
    let mut joined: Vec<Range<u64>> = Vec::new();
    for next in steps {
        match joined.last_mut() {
            Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
            _ => joined.push(next),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_joined_and_gaps_stay() {
        assert_eq!(disjoint(vec![16..19, 0..3, 2..5, 5..6, 7..7]), [0..6, 16..19]);
    }
}
