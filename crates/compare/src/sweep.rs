//! All pairs at once, row by row.
//!
//! A row (phase, step, site, position) is loaded once from every run that takes part, all pairs are compared on it,
//! and it is dropped: memory holds one row per run and thread, beside the facts. Rows of equal bits are compared once
//! for all pairs that share them. Rows are compared side by side and joined in the order of data flow, so the facts are
//! the same for any number of threads. Left out: what the facts mean.

mod extent;
mod row;

use rayon::prelude::*;

use crate::distance::Sums;
use crate::error::CompareError;
use crate::facts::{
    Counts, First, LogprobFacts, LogprobRow, Member, PairFacts, RowFact, RowState, SiteFacts,
};
use crate::selection::Selection;
use extent::{Extent, Seen, Unit};
use row::{Compared, Scratch};

/// Rows whose results wait to be joined.
const WAITING: usize = 1 << 16;
/// Units of work that are at least handed out together.
const UNITS: usize = 64;

/// Facts about pairs of members, in the order of `which`.
///
/// *Rounding:* see [`crate::Distance`]. *Errors:* a pair or run that does not exist, a row that cannot be read, more
/// rows than memory should hold.
///
/// ```
/// use std::path::Path;
///
/// use mantissa_compare::{Member, Selection, State, pairs};
/// use mantissa_evidence::Record;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
/// let record = Record::open(Path::new(path))?;
/// let members: Vec<Member<'_>> = (0..3).map(|run| Member { record: &record, run }).collect();
/// let facts = pairs(&members, &[(0, 1)], &Selection::default())?;
/// assert_eq!(facts[0].state(None), State::Different);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pairs(
    members: &[Member<'_>],
    which: &[(usize, usize)],
    selection: &Selection,
) -> Result<Vec<PairFacts>, CompareError> {
    let extent = Extent::new(members, which, selection)?;
    let mut builders: Vec<Builder> = extent.pairs.iter().map(|_| Builder::new(&extent)).collect();
    let units = extent.units();
    let widest = extent.phases.iter().map(|phase| phase.positions.len() * which.len()).max().unwrap_or(1);
    for batch in units.chunks((WAITING / widest.max(1)).max(UNITS)) {
        let compared: Vec<Result<Vec<Compared>, CompareError>> = batch
            .par_iter()
            .map_init(Scratch::default, |scratch, unit| row::compare(&extent, *unit, scratch))
            .collect();
        for (unit, compared) in batch.iter().zip(compared) {
            let mut compared = compared?.into_iter();
            for &position in &extent.phases[unit.phase].positions {
                for (builder, compared) in builders.iter_mut().zip(compared.by_ref()) {
                    builder.add(&extent, *unit, position, compared);
                }
            }
        }
    }
    let aligned = extent.pairs.iter().map(|pair| pair.alignment.tokens);
    Ok(builders.into_iter().zip(aligned).map(|(builder, tokens)| builder.finish(&extent, tokens)).collect())
}

/// The facts of one pair while they grow.
struct Builder {
    /// By phase, by site.
    sites: Vec<Vec<SiteBuilder>>,
    /// By phase.
    logprobs: Vec<(Counts, Vec<LogprobRow>)>,
    first: Option<First>,
}

#[derive(Clone, Default)]
struct SiteBuilder {
    counts: Counts,
    sums: Sums,
    rows: Vec<RowFact>,
}

impl Builder {
    fn new(extent: &Extent<'_>) -> Self {
        Self {
            sites: extent
                .phases
                .iter()
                .map(|phase| vec![SiteBuilder::default(); phase.sites.len()])
                .collect(),
            logprobs: extent.phases.iter().map(|_| Default::default()).collect(),
            first: None,
        }
    }

    fn add(&mut self, extent: &Extent<'_>, unit: Unit, position: i32, compared: Compared) {
        let phase = &extent.phases[unit.phase];
        let site = match unit.seen {
            Seen::Site(site) => Some(phase.sites[site].site),
            Seen::Logprobs => None,
        };
        if let Compared::Other(_, element) | Compared::OtherCandidates(_, element) = compared {
            let first = First { phase: phase.phase, step: unit.step, position, site, element };
            self.first.get_or_insert(first);
        }
        match unit.seen {
            Seen::Site(site) => {
                let builder = &mut self.sites[unit.phase][site];
                let state = match compared {
                    Compared::Same(sums) => {
                        builder.sums.add(&sums);
                        RowState::Equal
                    }
                    Compared::Other(sums, _) => {
                        builder.sums.add(&sums);
                        RowState::Different(sums.distance())
                    }
                    Compared::Missing => RowState::Missing,
                    Compared::Incomparable => RowState::Incomparable,
                    Compared::Absent | Compared::SameCandidates | Compared::OtherCandidates(..) => return,
                };
                count(&mut builder.counts, &state);
                if builder.rows.is_empty() {
                    builder.rows.reserve_exact(phase.rows_of_a_site());
                }
                builder.rows.push(RowFact { step: unit.step, position, state });
            }
            Seen::Logprobs => {
                let (counts, rows) = &mut self.logprobs[unit.phase];
                let state = match compared {
                    Compared::SameCandidates => RowState::Equal,
                    Compared::OtherCandidates(distance, _) => RowState::Different(distance),
                    Compared::Missing => RowState::Missing,
                    Compared::Incomparable => RowState::Incomparable,
                    Compared::Absent | Compared::Same(_) | Compared::Other(..) => return,
                };
                count(counts, &state);
                rows.push(LogprobRow { step: unit.step, position, state });
            }
        }
    }

    fn finish(self, extent: &Extent<'_>, tokens: crate::Tokens) -> PairFacts {
        let mut facts = PairFacts { tokens, sites: Vec::new(), logprobs: Vec::new(), first: self.first };
        for ((phase, sites), (counts, rows)) in extent.phases.iter().zip(self.sites).zip(self.logprobs) {
            for (seen, built) in phase.sites.iter().zip(sites) {
                let SiteBuilder { counts, sums, rows } = built;
                if !rows.is_empty() {
                    let total = (counts.equal + counts.different > 0).then(|| sums.distance());
                    facts.sites.push(SiteFacts { phase: phase.phase, site: seen.site, counts, total, rows });
                }
            }
            if !rows.is_empty() {
                facts.logprobs.push(LogprobFacts { phase: phase.phase, counts, rows });
            }
        }
        facts
    }
}

const fn count<D>(counts: &mut Counts, state: &RowState<D>) {
    match state {
        RowState::Equal => counts.equal += 1,
        RowState::Different(_) => counts.different += 1,
        RowState::Missing => counts.missing += 1,
        RowState::Incomparable => counts.incomparable += 1,
    }
}

#[cfg(test)]
mod tests;
