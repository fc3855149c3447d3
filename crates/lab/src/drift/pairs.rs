//! Pairs: rows of both sides at one site and token position, compared bit by bit.

use std::borrow::Cow;

use mantissa_numerics::Site;
use mantissa_verdict::drift::{DriftAnswer, DriftCounts, DriftPair, DriftPlace};

use super::local::{comparable, squared};
use super::sheet::{Origin, Sheet};
use crate::column::Column;
use crate::error::LabError;

/// The rows of one run, site by site.
pub(crate) trait Columns {
    /// The sites that it has rows of, in their order.
    fn sites(&self) -> Vec<Site>;
    /// Rows of a site.
    fn column(&self, site: Site) -> Result<Option<Cow<'_, Column>>, LabError>;
    /// The pass that computed a position.
    fn origin(&self, position: usize) -> Origin;
}

impl Columns for Sheet {
    fn sites(&self) -> Vec<Site> {
        self.columns.keys().copied().collect()
    }

    fn column(&self, site: Site) -> Result<Option<Cow<'_, Column>>, LabError> {
        Ok(self.columns.get(&site).map(Cow::Borrowed))
    }

    fn origin(&self, position: usize) -> Origin {
        self.origins.get(position).copied().unwrap_or_else(|| Origin::of(position, self.prompt))
    }
}

/// Compares all rows of two runs whose sequences share their first `tokens` tokens. What has no partner is counted in
/// `left_out`.
pub(crate) fn compared(
    prompt: &str,
    sides: [&dyn Columns; 2],
    tokens: usize,
    experts: Option<usize>,
    left_out: &mut DriftCounts,
) -> Result<Vec<DriftPair>, LabError> {
    let mut sites = sides.map(Columns::sites).concat();
    sites.sort_unstable();
    sites.dedup();
    let mut pairs = Vec::new();
    for site in sites {
        let [a, b] = [sides[0].column(site)?, sides[1].column(site)?];
        let has = |column: &Option<Cow<'_, Column>>, position: usize| {
            column.as_ref().is_some_and(|column| column.has(position))
        };
        if let Some(column) = &a {
            for (position, left) in column.positions().filter_map(|at| Some((at, column.row(at)?))) {
                if position >= tokens {
                    left_out.other_tokens += 1;
                    continue;
                }
                let Some(right) = b.as_ref().and_then(|column| column.row(position)) else {
                    left_out.missing += 1;
                    continue;
                };
                let place = DriftPlace {
                    prompt: prompt.to_owned(),
                    position: position as u64,
                    layer: site.layer,
                    point: site.point,
                };
                pairs.push(pair(place, sides.map(|side| side.origin(position)), [left, right], experts));
            }
        }
        if let Some(column) = &b {
            let alone = column.positions().filter(|position| *position < tokens && !has(&a, *position));
            left_out.missing_in_a += alone.count() as u64;
        }
    }
    Ok(pairs)
}

fn pair(place: DriftPlace, origins: [Origin; 2], [a, b]: [&[f32]; 2], experts: Option<usize>) -> DriftPair {
    let mut found = DriftPair {
        place,
        phases: origins.map(|origin| origin.phase),
        steps: origins.map(|origin| origin.step),
        answer: DriftAnswer::Equal,
        arrived: false,
        differing: Some(0),
        width: a.len() as u64,
        distance: Some(0.0),
        relative: Some(0.0),
        deviation: None,
        bound: None,
        spread: None,
        smallest: None,
    };
    // The same numbers in two formats are equal.
    let differing = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as u64;
    let differing = differing + a.len().abs_diff(b.len()) as u64;
    if differing == 0 {
        return found;
    }
    found.differing = Some(differing);
    found.answer = DriftAnswer::NotLocalized;
    let dense = |row: &[f32]| comparable(found.place.point, row, experts);
    let reference = dense(a);
    let distance = squared(&reference, &dense(b)).sqrt();
    found.distance = (distance.is_finite() && a.len() == b.len()).then_some(distance);
    let length = reference.iter().map(|value| value * value).sum::<f64>().sqrt();
    found.relative = found.distance.map(|distance| distance / length).filter(|share| share.is_finite());
    found
}
