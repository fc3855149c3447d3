//! What arose at each row: how far it lies from the same row recomputed from its own inputs, and how far orders of
//! sums spread.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mantissa_engine::{Engine, Overrides};
use mantissa_model::graph::{Graph, Operation};
use mantissa_numerics::{Dtype, Point, Site};
use mantissa_verdict::drift::Spread;

use super::ensemble::{MEMBERS, member};
use super::fed::{Schedule, Tamper, recomputed};
use super::sheet::Sheet;
use crate::error::LabError;

/// A row beside the same row recomputed from its inputs.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalRow {
    /// Squared distance from the recomputed row.
    pub squared: f64,
    /// Whether every bit is equal.
    pub equal: bool,
    /// Squared distances of the ensemble's members from the recomputed row.
    pub members: Vec<f64>,
    /// Squared length of the recomputed row.
    pub length: f64,
    /// Square of the step between neighbours at the row's largest element.
    pub unit: f64,
}

/// The rows of a site, by prompt and position.
pub(crate) type LocalRows = BTreeMap<(usize, usize), LocalRow>;

/// Experts of each router, if the model has any.
pub(crate) fn experts(graph: &Graph) -> Option<usize> {
    graph.nodes().find_map(|node| match &node.operation {
        Operation::Route(routing) => Some(routing.experts),
        _ => None,
    })
}

/// A row in a form whose distances mean something: chosen experts as one weight for each expert.
pub(crate) fn comparable(point: Point, row: &[f32], experts: Option<usize>) -> Vec<f64> {
    let Some(experts) = experts.filter(|_| point == Point::RouterTopk) else {
        return row.iter().map(|x| f64::from(*x)).collect();
    };
    let (chosen, weights) = row.split_at(row.len() / 2);
    let mut dense = vec![0.0; experts];
    for (expert, weight) in chosen.iter().zip(weights) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of an expert")]
        if let Some(place) = dense.get_mut(*expert as usize) {
            *place = f64::from(*weight);
        }
    }
    dense
}

/// A recorded row as it is compared: of experts whose recorded logits are equal, which one was chosen is nobody's
/// fault, so a choice takes the name of the computed one.
fn settled<'r>(
    site: Site,
    own: &[f32],
    recorded: &'r [f32],
    sheet: &Sheet,
    position: usize,
) -> Cow<'r, [f32]> {
    let logits = sheet.row(Site { point: Point::RouterLogits, ..site }, position);
    let Some(logits) = logits.filter(|_| site.point == Point::RouterTopk && own.len() == recorded.len())
    else {
        return Cow::Borrowed(recorded);
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of an expert")]
    let logit = |expert: f32| logits.get(expert as usize).copied();
    let top = recorded.len() / 2;
    let mut settled = recorded.to_vec();
    for slot in 0..top {
        if own[..top].contains(&settled[slot]) {
            continue;
        }
        let free = own[..top].iter().find(|other| {
            !settled[..top].contains(other)
                && logit(**other).is_some()
                && logit(**other) == logit(settled[slot])
        });
        if let Some(other) = free {
            settled[slot] = *other;
        }
    }
    Cow::Owned(settled)
}

/// The squared Euclidean distance of two rows; infinite beside what is not finite on one side alone.
pub(crate) fn squared(a: &[f64], b: &[f64]) -> f64 {
    let terms = a.iter().zip(b).map(|(a, b)| {
        if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b) * (a - b) }
    });
    let sum: f64 = terms.sum();
    if sum.is_nan() { f64::INFINITY } else { sum }
}

/// Recomputes the rows of `sheet` and adds them to `found` under prompt `prompt`; with an ensemble, if `spread`.
pub(crate) fn judge(
    engine: &mut Engine<'_>,
    schedule: Schedule,
    (prompt, sheet): (usize, &Sheet),
    spread: bool,
    found: &mut BTreeMap<Site, LocalRows>,
) -> Result<(), LabError> {
    let experts = experts(engine.graph());
    engine.take_observed();
    let (base, steps) = recomputed(engine, schedule, sheet, None)?;
    let ran = [engine.take_observed(), steps].concat();
    let dtype = engine.setup().dtype;
    for (site, column) in &base.columns {
        let rows = found.entry(*site).or_default();
        for position in column.positions() {
            let (Some(own), Some(recorded)) = (column.row(position), sheet.row(*site, position)) else {
                continue;
            };
            let settled = settled(*site, own, recorded, sheet, position);
            let [own, recorded] = [own, &settled].map(|row| comparable(site.point, row, experts));
            rows.insert(
                (prompt, position),
                LocalRow {
                    squared: squared(&own, &recorded),
                    equal: own.iter().zip(&recorded).all(|(a, b)| a.to_bits() == b.to_bits()),
                    members: Vec::new(),
                    length: own.iter().map(|x| x * x).sum(),
                    unit: unit(column.dtype, &own),
                },
            );
        }
    }
    if !spread {
        return Ok(());
    }
    let torch = !engine.graph().nodes().any(|node| matches!(node.operation, Operation::Expand(_)));
    for number in 0..MEMBERS {
        engine.set_overrides(member(number, &ran, dtype, torch));
        let other = recomputed(engine, schedule, sheet, None);
        engine.set_overrides(Overrides::default());
        let (other, _) = other?;
        for (site, column) in &base.columns {
            let Some(rows) = found.get_mut(site) else { continue };
            for position in column.positions() {
                let Some(row) = rows.get_mut(&(prompt, position)) else { continue };
                let (Some(own), Some(member)) = (column.row(position), other.row(*site, position)) else {
                    continue;
                };
                let [own, member] = [own, member].map(|row| comparable(site.point, row, experts));
                row.members.push(squared(&own, &member));
            }
        }
    }
    Ok(())
}

/// Deviations of the rows of some sites under a hypothesis.
pub(crate) fn deviations(
    engine: &Engine<'_>,
    schedule: Schedule,
    sheet: &Sheet,
    tamper: Option<&mut dyn Tamper>,
    sites: &[Site],
) -> Result<BTreeMap<Site, BTreeMap<usize, f64>>, LabError> {
    let experts = experts(engine.graph());
    let (computed, _) = recomputed(engine, schedule, sheet, tamper)?;
    let mut found = BTreeMap::new();
    for site in sites {
        let Some(column) = computed.columns.get(site) else { continue };
        let mut rows = BTreeMap::new();
        for position in column.positions() {
            let (Some(own), Some(recorded)) = (column.row(position), sheet.row(*site, position)) else {
                continue;
            };
            let settled = settled(*site, own, recorded, sheet, position);
            let [own, recorded] = [own, &settled].map(|row| comparable(site.point, row, experts));
            rows.insert(position, squared(&own, &recorded));
        }
        found.insert(*site, rows);
    }
    Ok(found)
}

/// The square of the step between neighbours of `dtype` at the largest element of a row.
fn unit(dtype: Dtype, row: &[f64]) -> f64 {
    let largest = row.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return 0.0;
    }
    // Digits behind the first, and the exponent of the smallest step.
    let (digits, least) = match dtype {
        Dtype::F32 => (23.0, -149.0),
        Dtype::F16 => (10.0, -24.0),
        Dtype::Bf16 => (7.0, -133.0),
    };
    let step = (largest.log2().floor() - digits).max(least).exp2();
    step * step
}

/// The spread of the rows of a site that are in `wanted`.
pub(crate) fn spread(rows: &LocalRows, wanted: impl Fn(&(usize, usize)) -> bool) -> Spread {
    let chosen: Vec<&LocalRow> = rows.iter().filter(|(key, _)| wanted(key)).map(|(_, row)| row).collect();
    let members: Vec<Vec<f64>> = chosen.iter().map(|row| row.members.clone()).collect();
    let length: f64 = chosen.iter().map(|row| row.length).sum();
    let unit = chosen.iter().map(|row| row.unit).fold(0.0, f64::max);
    Spread::of(&members, length.sqrt(), unit)
}
