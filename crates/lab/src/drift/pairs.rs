//! Pairs: rows of both sides at one site and token position, compared bit by bit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mantissa_evidence::Record;
use mantissa_evidence::record::RowKey;
use mantissa_numerics::{Dtype, Phase, Site};
use mantissa_verdict::drift::{DriftAnswer, DriftCounts, DriftPair, DriftPlace};

use super::local::{comparable, squared};
use super::sheet::{Column, Origin, Sheet, token};
use crate::error::LabError;

/// Where the rows of one run are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'s> {
    /// In a record.
    Record(&'s Record, usize),
    /// In memory.
    Sheet(&'s Sheet),
}

/// A row as it is stored.
type Stored<'b> = (Dtype, Cow<'b, [u8]>);

/// Where a row is found again.
#[derive(Debug, Clone, Copy)]
struct Row {
    origin: Origin,
    key: Option<RowKey>,
}

impl Source<'_> {
    fn sites(self) -> Vec<Site> {
        let mut sites: Vec<Site> = match self {
            Self::Sheet(sheet) => sheet.columns.keys().copied().collect(),
            Self::Record(record, run) => [Phase::Prefill, Phase::Decode]
                .into_iter()
                .filter_map(|phase| record.layout(run, phase))
                .flat_map(|layout| layout.tensors.keys().copied())
                .collect(),
        };
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    /// Rows of a site by token position.
    fn rows(self, site: Site) -> BTreeMap<usize, Row> {
        match self {
            Self::Sheet(sheet) => {
                let positions = sheet.columns.get(&site).into_iter().flat_map(Column::positions);
                positions
                    .map(|position| (position, Row { origin: sheet.origins[position], key: None }))
                    .collect()
            }
            Self::Record(record, run) => {
                let prompt = record.shell().runs[run].prompt_token_ids.len();
                let mut rows = BTreeMap::new();
                for phase in [Phase::Prefill, Phase::Decode] {
                    let Some(layout) = record.layout(run, phase) else { continue };
                    for own in record.own_rows(run, phase, Some(site), layout.steps.clone()) {
                        for step in own.steps {
                            let keys = own.positions.iter().map(|&position| RowKey { phase, step, position });
                            let placed = keys.filter_map(|key| {
                                let origin = Origin { phase, step };
                                Some((token(prompt, key)?, Row { origin, key: Some(key) }))
                            });
                            rows.extend(placed);
                        }
                    }
                }
                rows
            }
        }
    }

    /// A row's bytes in its storage format.
    fn bytes<'b>(
        &'b self,
        site: Site,
        position: usize,
        row: Row,
        scratch: &'b mut Vec<u8>,
    ) -> Result<Option<Stored<'b>>, LabError> {
        match self {
            Self::Sheet(sheet) => {
                let Some(column) = sheet.columns.get(&site) else { return Ok(None) };
                let Some(values) = column.row(position) else { return Ok(None) };
                scratch.clear();
                for value in values {
                    column.dtype.encode(*value, scratch);
                }
                Ok(Some((column.dtype, Cow::Borrowed(scratch))))
            }
            Self::Record(record, run) => {
                let layout = row.key.and_then(|key| record.layout(*run, key.phase));
                let (Some(key), Some(layout)) = (row.key, layout) else { return Ok(None) };
                let Some(tensor) = layout.tensors.get(&site) else { return Ok(None) };
                let found = record.row(*run, site, key, scratch)?;
                Ok(found.map(|bytes| (tensor.dtype, Cow::Borrowed(bytes))))
            }
        }
    }
}

/// Compares all rows of two runs whose sequences share their first `tokens` tokens. What has no partner is counted in
/// `left_out`.
pub(crate) fn compared(
    prompt: &str,
    sources: [Source<'_>; 2],
    tokens: usize,
    experts: Option<usize>,
    left_out: &mut DriftCounts,
) -> Result<Vec<DriftPair>, LabError> {
    let mut sites = [sources[0].sites(), sources[1].sites()].concat();
    sites.sort_unstable();
    sites.dedup();
    let mut pairs = Vec::new();
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for site in sites {
        let [a, b] = sources.map(|source| source.rows(site));
        for (position, row) in &a {
            if *position >= tokens {
                left_out.other_tokens += 1;
                continue;
            }
            let Some(other) = b.get(position) else {
                left_out.missing += 1;
                continue;
            };
            let place = DriftPlace {
                prompt: prompt.to_owned(),
                position: *position as u64,
                layer: site.layer,
                point: site.point,
            };
            let left = sources[0].bytes(site, *position, *row, &mut of_a)?;
            let right = sources[1].bytes(site, *position, *other, &mut of_b)?;
            let (Some(left), Some(right)) = (left, right) else { continue };
            pairs.push(pair(place, [row.origin, other.origin], [left, right], experts));
        }
        left_out.missing_in_a +=
            b.keys().filter(|position| **position < tokens && !a.contains_key(position)).count() as u64;
    }
    Ok(pairs)
}

fn pair(
    place: DriftPlace,
    origins: [Origin; 2],
    [a, b]: [Stored<'_>; 2],
    experts: Option<usize>,
) -> DriftPair {
    let width = a.1.len() / a.0.size();
    let mut found = DriftPair {
        place,
        phases: origins.map(|origin| origin.phase),
        steps: origins.map(|origin| origin.step),
        answer: DriftAnswer::Equal,
        arrived: false,
        differing: Some(0),
        width: width as u64,
        distance: Some(0.0),
        relative: Some(0.0),
        deviation: None,
        bound: None,
        spread: None,
        smallest: None,
    };
    if a == b {
        return found;
    }
    let values = |(dtype, bytes): &Stored<'_>| -> Vec<f32> {
        (0..bytes.len() / dtype.size()).map(|index| dtype.decode(bytes, index)).collect()
    };
    let (a, b) = (values(&a), values(&b));
    let differing = a.iter().zip(&b).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as u64;
    let differing = differing + a.len().abs_diff(b.len()) as u64;
    found.differing = Some(differing);
    if differing == 0 {
        // The same numbers in two formats.
        return found;
    }
    found.answer = DriftAnswer::NotLocalized;
    let dense = |row: &[f32]| comparable(found.place.point, row, experts);
    let reference = dense(&a);
    let distance = squared(&reference, &dense(&b)).sqrt();
    found.distance = (distance.is_finite() && a.len() == b.len()).then_some(distance);
    let length = reference.iter().map(|value| value * value).sum::<f64>().sqrt();
    found.relative = found.distance.map(|distance| distance / length).filter(|share| share.is_finite());
    found
}
