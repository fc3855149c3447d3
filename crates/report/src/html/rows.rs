//! Rows of a pair of runs as maps of layers by positions.

use std::collections::BTreeMap;

use mantissa_compare::{PairFacts, RowState, SignalKind};
use mantissa_numerics::{Phase, Site};

use super::heat::{Heat, HeatCell, Paint};
use super::matrices::{LayerRow, layer_map};
use super::scale::Scale;
use crate::words;

/// Rows of a kind in a phase, layer by layer; absent where none differs.
pub(super) fn map(facts: &PairFacts, phase: Phase, kind: SignalKind, scale: Option<Scale>) -> Option<Heat> {
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
    let layers: Vec<LayerRow> = ordered
        .iter()
        .map(|site| {
            let layer = site.layer.map(|layer| layer.0);
            LayerRow { layer, label: layer.map_or_else(|| site.to_string(), |layer| layer.to_string()) }
        })
        .collect();
    let caption = format!(
        "{}, by layer and {}",
        words::lane_name(phase, kind.into()),
        if phase == Phase::Prefill { "position of the prompt" } else { "decode step" }
    );
    let cell = |row: usize, token: i64| {
        let found = cells.get(&(ordered[row], token));
        found.map_or_else(
            || HeatCell::new(Paint::Gap, ""),
            |cell| HeatCell { text: cell.text.clone(), ..*cell },
        )
    };
    Some(layer_map(caption, &layers, &tokens, "not recorded", cell))
}
