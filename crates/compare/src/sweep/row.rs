//! One step at one site, for every pair.
//!
//! A decode step may store rows of earlier tokens beside the newest one. Such a row with the bits that the token's own
//! pass left is a copy: it is the same row, which is counted there.

use mantissa_evidence::record::{Candidates, RowKey, TensorLayout};

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
    /// Tokens, formats or widths forbid a comparison, or a list of candidates is equal only as far as both measured it.
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
    /// The row of the token's earlier pass, of one member.
    earlier: Vec<u8>,
}

/// What a member has at a key.
#[derive(Clone, Copy)]
enum Held<R> {
    Nothing,
    /// What an earlier pass left of the same token, once more.
    Copy(R),
    Row(R),
}

impl<R: Copy> Held<R> {
    fn of(row: Option<R>, is_copy: bool) -> Self {
        match row {
            None => Self::Nothing,
            Some(row) if is_copy => Self::Copy(row),
            Some(row) => Self::Row(row),
        }
    }

    /// What there is to compare. A copy is compared only with what is none: there the other run computed it again.
    fn both(self, other: Self) -> Result<(R, R), Compared> {
        match (self, other) {
            (Self::Nothing | Self::Copy(_), Self::Nothing | Self::Copy(_)) => Err(Compared::Absent),
            (Self::Nothing, Self::Row(_)) | (Self::Row(_), Self::Nothing) => Err(Compared::Missing),
            (Self::Row(a), Self::Row(b) | Self::Copy(b)) | (Self::Copy(a), Self::Row(b)) => Ok((a, b)),
        }
    }
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
    let Scratch { rows: buffers, twins, found, earlier } = scratch;
    buffers.resize_with(extent.members.len(), Vec::new);
    let mut rows: Vec<Option<(TensorLayout, &[u8])>> = Vec::with_capacity(extent.members.len());
    let mut held = Vec::with_capacity(extent.members.len());
    for ((member, layout), buffer) in extent.members.iter().zip(&site.layouts).zip(buffers.iter_mut()) {
        let row = match layout {
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
        };
        let mut is_copy = false;
        for own in row.iter().flat_map(|_| extent.earlier(key)) {
            if let Some(earlier) = member.record.row(member.run, site.site, own, earlier)? {
                is_copy = row.is_some_and(|(_, row)| row == earlier);
                break;
            }
        }
        held.push(Held::of(row, is_copy));
        rows.push(row);
    }
    let count = extent.members.len();
    if extent.dense {
        find_twins(&rows, twins);
        found.clear();
        found.resize(count * count, None);
    }
    for pair in &extent.pairs {
        let ((layout_a, a), (layout_b, b)) = match held[pair.a].both(held[pair.b]) {
            Ok(both) => both,
            Err(nothing) => {
                compared.push(nothing);
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
    let mut copies = Vec::with_capacity(extent.members.len());
    for (member, &recorded) in extent.members.iter().zip(&phase.logprobs) {
        let candidates = if recorded { member.record.candidates(member.run, key)? } else { None };
        let mut is_copy = false;
        for own in candidates.iter().flat_map(|_| extent.earlier(key)) {
            if let Some(earlier) = member.record.candidates(member.run, own)? {
                is_copy = candidates.as_ref().is_some_and(|row| same_bits(row, &earlier));
                break;
            }
        }
        copies.push(is_copy);
        rows.push(candidates.map(Listed::new));
    }
    for pair in &extent.pairs {
        let held = |member: usize| Held::of(rows[member].as_ref(), copies[member]);
        compared.push(match held(pair.a).both(held(pair.b)) {
            Err(nothing) => nothing,
            Ok((a, b)) => {
                if !a.is_comparable(b) || !pair.alignment.same_prefix(key.phase, key.step, key.position) {
                    Compared::Incomparable
                } else {
                    match logprobs::distance(a, b) {
                        Some((distance, element)) => Compared::OtherCandidates(distance, element),
                        None if a.is_partial_beside(b) => Compared::Incomparable,
                        None => Compared::SameCandidates,
                    }
                }
            }
        });
    }
    Ok(())
}

fn same_bits(a: &Candidates, b: &Candidates) -> bool {
    let bits =
        |candidates: &Candidates| candidates.log_probs.iter().map(|one| one.to_bits()).collect::<Vec<_>>();
    a.token_ids == b.token_ids && bits(a) == bits(b)
}
