//! Rows of a pair of runs: as maps of layers by positions, and site by site.

use std::collections::BTreeMap;

use mantissa_compare::{Counts, PairFacts, RowState, SignalKind};
use mantissa_numerics::{Phase, Site};
use mantissa_verdict::analysis::Signal;

use super::heat::{HeatCell, Paint};
use super::matrices::{LayerRow, layer_map};
use super::parts::Block;
use super::scale::Scale;
use crate::grid::{Column, Grid, Kind, Row};
use crate::words;

/// Rows of a kind in a phase, layer by layer; absent where all are equal, or where there is no room.
pub(super) fn map<'a>(
    facts: &PairFacts,
    phase: Phase,
    (kind, signal): (SignalKind, Signal),
    scale: Option<Scale>,
    room: &mut usize,
) -> Option<Block<'a>> {
    let sites: Vec<_> = facts
        .sites
        .iter()
        .filter(|site| site.phase == phase && SignalKind::of(site.site) == Some(kind))
        .collect();
    if sites.iter().all(|site| site.counts.different == 0) {
        return None;
    }
    let token = |step: u64, position: i32| match phase {
        Phase::Prefill => i64::from(position),
        Phase::Decode => i64::try_from(step).unwrap_or(i64::MAX),
    };
    let mut cells: BTreeMap<(Site, i64), HeatCell> = BTreeMap::new();
    let first = facts.first.filter(|first| first.phase == phase);
    for site in &sites {
        for row in &site.rows {
            let at = token(row.step, row.position);
            let (paint, text) = match row.state {
                RowState::Equal => (Paint::Equal, "=".to_owned()),
                RowState::Different(distance) => {
                    distance.l2.map_or((Paint::Unknown, "≠".to_owned()), |l2| {
                        (Paint::of(scale, l2), words::number(l2, 2))
                    })
                }
                RowState::Missing => (Paint::Missing, "∅".to_owned()),
                RowState::Incomparable => (Paint::Incomparable, "×".to_owned()),
            };
            let is_first = first.is_some_and(|first| {
                first.site == Some(site.site) && token(first.step, first.position) == at
            });
            cells.insert((site.site, at), HeatCell { first: is_first, ..HeatCell::new(paint, text) });
        }
    }
    let mut tokens: Vec<i64> = cells.keys().map(|key| key.1).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let mut ordered: Vec<Site> = sites.iter().map(|site| site.site).collect();
    ordered.sort_unstable();
    ordered.dedup();
    *room = room.checked_sub(ordered.len() * tokens.len())?;
    let layers: Vec<LayerRow> = ordered
        .iter()
        .map(|site| {
            let layer = site.layer.map(|layer| layer.0);
            LayerRow { layer, label: layer.map_or_else(|| site.to_string(), |layer| layer.to_string()) }
        })
        .collect();
    let caption = format!(
        "{}, by layer and {}",
        words::lane_name(phase, signal),
        if phase == Phase::Prefill { "position of the prompt" } else { "decode step" }
    );
    let cell = |row: usize, token: i64| {
        let found = cells.get(&(ordered[row], token));
        found.map_or_else(
            || HeatCell::new(Paint::Gap, ""),
            |cell| HeatCell { text: cell.text.clone(), ..*cell },
        )
    };
    Some(Block::Heat(layer_map(caption, &layers, &tokens, "not recorded", cell)))
}

pub(super) fn site_table<'a>(names: String, facts: &PairFacts) -> Grid<'a> {
    let of = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| words::number(value, digits))
    };
    let counts = |counts: Counts| {
        [counts.equal, counts.different, counts.missing, counts.incomparable].map(words::count)
    };
    let sites = facts.sites.iter().map(|site| {
        let differs = site.total.filter(|total| total.different > 0);
        let distances = [
            differs.and_then(|d| d.max_ulps).map_or_else(String::new, |ulps| words::count(u64::from(ulps))),
            of(differs.and_then(|d| d.l2), 4),
            of(differs.and_then(|d| d.max_abs), 4),
            of(differs.and_then(|d| d.cosine), 6),
        ];
        let name = [format!("{} {}", site.phase.name(), site.site)];
        Row::new([name.as_slice(), &counts(site.counts), &distances].concat(), [])
    });
    let logprobs = facts.logprobs.iter().map(|one| {
        let largest = |of: fn(&mantissa_compare::LogprobDistance) -> Option<f64>| {
            let rows = one.rows.iter().filter_map(|row| match &row.state {
                RowState::Different(distance) => of(distance),
                RowState::Equal | RowState::Missing | RowState::Incomparable => None,
            });
            rows.reduce(f64::max)
        };
        let distances =
            [String::new(), of(largest(|d| d.l2), 4), of(largest(|d| d.max_abs), 4), String::new()];
        let name = [format!("{} logprobs", one.phase.name())];
        Row::new([name.as_slice(), &counts(one.counts), &distances].concat(), [])
    });
    let titles =
        ["site", "equal", "differ", "missing", "incomparable", "max ULP", "L2", "max |a−b|", "cosine"];
    let kind = |i: usize| if i == 0 { Kind::Words } else { Kind::Number };
    let columns = titles.iter().enumerate().map(|(i, title)| column(title, kind(i)));
    Grid { caption: names, columns: columns.collect(), rows: sites.chain(logprobs).collect(), note: None }
}

/// Where two runs first differ.
pub(super) fn first_text(facts: &PairFacts) -> String {
    facts.first.map_or_else(
        || "no compared value differs".to_owned(),
        |first| {
            let site = first.site.map_or_else(|| "logprobs".to_owned(), |site| site.to_string());
            format!(
                "{} step {}, position {}, {site}[{}]",
                first.phase.name(),
                first.step,
                first.position,
                first.element
            )
        },
    )
}

pub(super) fn column(title: &str, kind: Kind) -> Column {
    Column { title: title.to_owned(), kind, wide: false }
}
