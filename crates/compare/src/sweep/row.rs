//! One step at one site, for every pair.

use mantissa_evidence::record::{RowKey, TensorLayout};

use super::extent::{Extent, PhaseExtent, Seen, Unit};
use crate::distance::{self, Sums};
use crate::error::CompareError;
use crate::facts::LogprobDistance;
use crate::logprobs::{self, Listed};

/// What is known of one row of one pair.
#[derive(Debug, Clone, Copy)]
pub(super) enum Compared {
    /// Neither run has it.
    Absent,
    /// One run has it.
    Missing,
    /// Tokens, formats or widths forbid a comparison.
    Incomparable,
    /// Same bits.
    Same(Sums),
    /// Other bits, first at this element.
    Other(Sums, u64),
    /// Same candidates.
    SameCandidates,
    /// Other candidates, first at this one of the first run.
    OtherCandidates(LogprobDistance, u64),
}

/// Memory that a thread uses again from row to row.
#[derive(Default)]
pub(super) struct Scratch {
    /// By member: a row that its record had to convert.
    rows: Vec<Vec<u8>>,
    /// By member: the first member whose row has the same format and bits.
    twins: Vec<usize>,
    /// By two such members, what was found.
    found: Vec<Option<Compared>>,
}

/// Compares every position of a unit, for every pair; positions outermost.
pub(super) fn compare(
    extent: &Extent<'_>,
    unit: Unit,
    scratch: &mut Scratch,
) -> Result<Vec<Compared>, CompareError> {
    let phase = &extent.phases[unit.phase];
    let mut compared = Vec::with_capacity(phase.positions.len() * extent.pairs.len());
    for &position in &phase.positions {
        let key = RowKey { phase: phase.phase, step: unit.step, position };
        match unit.seen {
            Seen::Site(site) => tensors(extent, phase, site, key, scratch, &mut compared)?,
            Seen::Logprobs => candidates(extent, phase, key, &mut compared)?,
        }
    }
    Ok(compared)
}

fn tensors(
    extent: &Extent<'_>,
    phase: &PhaseExtent,
    site: usize,
    key: RowKey,
    scratch: &mut Scratch,
    compared: &mut Vec<Compared>,
) -> Result<(), CompareError> {
    let site = &phase.sites[site];
    let Scratch { rows: buffers, twins, found } = scratch;
    buffers.resize_with(extent.members.len(), Vec::new);
    let mut rows: Vec<Option<(TensorLayout, &[u8])>> = Vec::with_capacity(extent.members.len());
    for ((member, layout), buffer) in extent.members.iter().zip(&site.layouts).zip(buffers.iter_mut()) {
        rows.push(match layout {
            None => None,
            Some(layout) => {
                let row = member.record.row(member.run, site.site, key, buffer)?;
                let expected = layout.dim * layout.dtype.size();
                if let Some(row) = row.filter(|row| row.len() != expected) {
                    return Err(CompareError::Row {
                        origin: member.record.origin().display().to_string(),
                        run: member.run,
                        place: format!(
                            "{}/{}, step {}, position {}",
                            key.phase.name(),
                            site.site,
                            key.step,
                            key.position
                        ),
                        found: row.len(),
                        expected,
                    });
                }
                row.map(|row| (*layout, row))
            }
        });
    }
    let count = extent.members.len();
    if extent.dense {
        find_twins(&rows, twins);
        found.clear();
        found.resize(count * count, None);
    }
    for pair in &extent.pairs {
        let ((layout_a, a), (layout_b, b)) = match (rows[pair.a], rows[pair.b]) {
            (Some(a), Some(b)) => (a, b),
            (None, None) => {
                compared.push(Compared::Absent);
                continue;
            }
            _ => {
                compared.push(Compared::Missing);
                continue;
            }
        };
        let comparable = layout_a == layout_b
            && layout_a.dim > 0
            && pair.alignment.same_prefix(key.phase, key.step, key.position);
        compared.push(if !comparable {
            Compared::Incomparable
        } else if extent.dense {
            let place = &mut found[twins[pair.a] * count + twins[pair.b]];
            *place.get_or_insert_with(|| two_rows(layout_a, a, b))
        } else {
            two_rows(layout_a, a, b)
        });
    }
    Ok(())
}

/// Numbers each row by the first one of the same format and bits.
fn find_twins(rows: &[Option<(TensorLayout, &[u8])>], twins: &mut Vec<usize>) {
    twins.clear();
    for (index, row) in rows.iter().enumerate() {
        let first =
            (0..index).find(|&earlier| twins[earlier] == earlier && row.is_some() && rows[earlier] == *row);
        twins.push(first.unwrap_or(index));
    }
}

fn two_rows(layout: TensorLayout, a: &[u8], b: &[u8]) -> Compared {
    if a == b {
        Compared::Same(distance::equal(layout.dtype, a))
    } else {
        Compared::Other(distance::different(layout.dtype, a, b), distance::first_element(layout.dtype, a, b))
    }
}

fn candidates(
    extent: &Extent<'_>,
    phase: &PhaseExtent,
    key: RowKey,
    compared: &mut Vec<Compared>,
) -> Result<(), CompareError> {
    let mut rows = Vec::with_capacity(extent.members.len());
    for (member, &recorded) in extent.members.iter().zip(&phase.logprobs) {
        let candidates = if recorded { member.record.candidates(member.run, key)? } else { None };
        rows.push(candidates.map(Listed::new));
    }
    for pair in &extent.pairs {
        compared.push(match (&rows[pair.a], &rows[pair.b]) {
            (None, None) => Compared::Absent,
            (Some(_), None) | (None, Some(_)) => Compared::Missing,
            (Some(a), Some(b)) => {
                if !a.is_comparable(b) || !pair.alignment.same_prefix(key.phase, key.step, key.position) {
                    Compared::Incomparable
                } else {
                    logprobs::distance(a, b).map_or(Compared::SameCandidates, |(distance, element)| {
                        Compared::OtherCandidates(distance, element)
                    })
                }
            }
        });
    }
    Ok(())
}
