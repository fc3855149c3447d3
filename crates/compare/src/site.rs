//! What differs at which site, and where first.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_evidence::{PhaseSignals, Run, SignalTensor};
use mantissa_numerics::ulp::ulps;
use mantissa_numerics::{Dtype, Phase, Site};
use serde::Serialize;

use crate::tokens::Tokens;

/// One of two runs, as they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What is known about one site of two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteFact {
    /// The phase.
    pub phase: Phase,
    /// The site.
    pub site: Site,
    /// Which rows the fact is about.
    pub rows: Rows,
    /// The fact.
    pub comparison: Comparison,
}

/// Rows (a step and a position) of a site in two runs. They add up to those that either run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rows {
    /// In both runs, after the same tokens, in the same format: compared.
    pub compared: u64,
    /// In both runs, but not comparable.
    pub incomparable: u64,
    /// Only in the first run.
    pub only_in_a: u64,
    /// Only in the second run.
    pub only_in_b: u64,
}

/// The four states of a fact.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Comparison {
    /// Every compared value has the same bits in both runs.
    Equal {
        /// Values compared, at least one.
        values: u64,
    },
    /// Some bits differ.
    Different(Difference),
    /// One run did not record it.
    Missing {
        /// The run that lacks it.
        from: Side,
    },
    /// Both recorded it, and no row can be compared.
    Incomparable(Incomparable),
}

/// Why no row of a site can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Incomparable {
    /// The tokens before every row differ.
    Tokens {
        /// How far they agree.
        tokens: Tokens,
    },
    /// Storage formats differ.
    Formats {
        /// Of the first run.
        a: Dtype,
        /// Of the second run.
        b: Dtype,
    },
    /// Row widths differ.
    Widths {
        /// Of the first run.
        a: usize,
        /// Of the second run.
        b: usize,
    },
    /// Both recorded the site, at no row in common.
    NoCommonRow,
}

/// How two tensors differ over the rows compared.
///
/// *Units:* `l2` and `max_abs` are in the units of the site. *Rounding:* values are exact in binary64; each
/// difference is rounded once, squares are summed in storage order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Values compared.
    pub values: u64,
    /// Values whose bits differ.
    pub different: u64,
    /// Of those, pairs with a NaN or an infinity, which no distance below takes in.
    pub non_finite: u64,
    /// Largest distance in representable values of the storage format; absent when every pair that differs has a
    /// NaN. `+0` and `−0` differ in bits and are 0 apart.
    pub max_ulps: Option<u32>,
    /// Euclidean norm of the difference over finite pairs.
    pub l2: f64,
    /// Largest absolute difference over finite pairs.
    pub max_abs: f64,
    /// The first value that differs, in the order step, position, element.
    pub first: Place,
}

/// A value of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The phase.
    pub phase: Phase,
    /// Forward pass.
    pub step: u64,
    /// Position relative to the end.
    pub position: i32,
    /// Site.
    pub site: Site,
    /// Element of the row.
    pub element: u64,
}

/// The first value with different bits among all that can be compared, in the order of computation: phase, step, site,
/// position.
///
/// `None` says that no compared value differs; whether anything was compared, [`site_differences`] tells.
#[must_use]
pub fn first_difference(a: &Run, b: &Run) -> Option<Place> {
    let facts = site_differences(a, b);
    let firsts = facts.iter().filter_map(|fact| match &fact.comparison {
        Comparison::Different(difference) => Some(difference.first),
        _ => None,
    });
    // Of each site the first in its own order is the first of its step, so the earliest step and then site is the answer.
    firsts.min_by_key(|place| (place.phase, place.step, place.site))
}

/// What is known about every site that either run recorded, in the order of data flow, prefill first.
#[must_use]
pub fn site_differences(a: &Run, b: &Run) -> Vec<SiteFact> {
    let tokens = Tokens::align(a, b);
    let mut facts = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let (sa, sb) = (a.phase(phase), b.phase(phase));
        let sites = |signals: Option<&PhaseSignals>| {
            signals
                .into_iter()
                .flat_map(|signals| signals.tensors.keys().copied())
                .collect::<BTreeSet<Site>>()
        };
        for site in sites(sa).union(&sites(sb)).copied() {
            let (ra, rb) = (Recorded::of(sa, site), Recorded::of(sb, site));
            facts.push(fact(phase, site, tokens, ra, rb));
        }
    }
    facts
}

/// A tensor with the positions of its rows.
#[derive(Clone, Copy)]
struct Recorded<'a> {
    tensor: &'a SignalTensor,
    positions: &'a [i32],
}

impl<'a> Recorded<'a> {
    fn of(signals: Option<&'a PhaseSignals>, site: Site) -> Option<Self> {
        let signals = signals?;
        Some(Self { tensor: signals.tensors.get(&site)?, positions: &signals.positions })
    }

    /// Bytes of every row by step and position.
    fn rows(self) -> BTreeMap<(usize, i32), &'a [u8]> {
        let steps = 0..self.tensor.shape[0];
        let rows = steps.flat_map(|step| {
            let positions = self.positions.iter().enumerate();
            positions.filter_map(move |(i, &position)| Some(((step, position), self.tensor.row(step, i)?)))
        });
        rows.collect()
    }

    fn count(self) -> u64 {
        self.rows().len() as u64
    }
}

fn fact(
    phase: Phase,
    site: Site,
    tokens: Tokens,
    a: Option<Recorded<'_>>,
    b: Option<Recorded<'_>>,
) -> SiteFact {
    let mut rows = Rows::default();
    let comparison = match (a, b) {
        (Some(a), Some(b)) => compare(phase, site, tokens, a, b, &mut rows),
        (Some(a), None) => {
            rows.only_in_a = a.count();
            Comparison::Missing { from: Side::B }
        }
        (None, b) => {
            rows.only_in_b = b.map_or(0, Recorded::count);
            Comparison::Missing { from: Side::A }
        }
    };
    SiteFact { phase, site, rows, comparison }
}

fn compare(
    phase: Phase,
    site: Site,
    tokens: Tokens,
    a: Recorded<'_>,
    b: Recorded<'_>,
    rows: &mut Rows,
) -> Comparison {
    let (rows_a, rows_b) = (a.rows(), b.rows());
    let common = rows_a.keys().filter(|key| rows_b.contains_key(key)).count() as u64;
    rows.only_in_a = rows_a.len() as u64 - common;
    rows.only_in_b = rows_b.len() as u64 - common;
    rows.incomparable = common;
    let (dtype_a, dtype_b) = (a.tensor.dtype, b.tensor.dtype);
    let (width_a, width_b) = (a.tensor.shape[2], b.tensor.shape[2]);
    if dtype_a != dtype_b {
        return Comparison::Incomparable(Incomparable::Formats { a: dtype_a, b: dtype_b });
    }
    if width_a != width_b {
        return Comparison::Incomparable(Incomparable::Widths { a: width_a, b: width_b });
    }
    if common == 0 {
        return Comparison::Incomparable(Incomparable::NoCommonRow);
    }
    let mut tally = Tally::default();
    for (&(step, position), row_a) in &rows_a {
        let Some(row_b) = rows_b.get(&(step, position)) else { continue };
        if tokens.same_prefix(phase, step, position) {
            rows.compared += 1;
            let place = |element| Place { phase, step: step as u64, position, site, element };
            tally.row(dtype_a, row_a, row_b, place);
        }
    }
    rows.incomparable = common - rows.compared;
    tally.finish().unwrap_or(Comparison::Incomparable(Incomparable::Tokens { tokens }))
}

/// Running totals over rows, in the order they are given.
#[derive(Default)]
struct Tally {
    values: u64,
    different: u64,
    non_finite: u64,
    max_ulps: Option<u32>,
    squares: f64,
    max_abs: f64,
    first: Option<Place>,
}

impl Tally {
    fn row(&mut self, dtype: Dtype, a: &[u8], b: &[u8], place: impl Fn(u64) -> Place) {
        let size = dtype.size();
        self.values += (a.len() / size) as u64;
        for (i, (x, y)) in a.chunks_exact(size).zip(b.chunks_exact(size)).enumerate() {
            if x == y {
                continue;
            }
            self.different += 1;
            self.first.get_or_insert_with(|| place(i as u64));
            let distance = ulps(dtype, bits(x), bits(y)).map(|ulps| ulps.0);
            self.max_ulps = self.max_ulps.max(distance);
            let (x, y) = (f64::from(dtype.decode(x, 0)), f64::from(dtype.decode(y, 0)));
            if x.is_finite() && y.is_finite() {
                let difference = (x - y).abs();
                self.squares += difference * difference;
                self.max_abs = self.max_abs.max(difference);
            } else {
                self.non_finite += 1;
            }
        }
    }

    /// `None` when nothing was compared.
    fn finish(self) -> Option<Comparison> {
        let Self { values, different, non_finite, max_ulps, squares, max_abs, first } = self;
        match first {
            None => (values > 0).then_some(Comparison::Equal { values }),
            Some(first) => Some(Comparison::Different(Difference {
                values,
                different,
                non_finite,
                max_ulps,
                l2: squares.sqrt(),
                max_abs,
                first,
            })),
        }
    }
}

/// A little-endian bit pattern of two or four bytes.
fn bits(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests;
