//! A recorded row that is another's: of another token, layer, head, position or expert.

use std::collections::BTreeMap;

use mantissa_engine::Engine;
use mantissa_model::graph::Operation;
use mantissa_numerics::{LayerIdx, Point, Site};

use crate::drift::fed::recomputed;
use crate::drift::known::sections;
use crate::drift::local::{comparable, experts, squared};
use crate::drift::sheet::Sheet;
use crate::drift::trial::{Deviations, Outcome, Trial};
use crate::error::LabError;

/// Looks for the rows of unexplained sites among others.
pub(super) fn outcomes(
    engine: &mut Engine<'_>,
    trial: &Trial<'_>,
    keep: &mut dyn FnMut(Outcome),
) -> Result<(), LabError> {
    let cached = |site: &&Site| matches!(site.point, Point::K | Point::V);
    let of_cache: Vec<Site> = trial.sites.iter().filter(cached).copied().collect();
    if trial.sites.contains(&Site::outside(Point::EmbedOut)) {
        keep(tokens(engine, trial)?);
    }
    if trial.sites.iter().any(|site| site.point == Point::RouterTopk) {
        keep(chosen(engine, trial));
    }
    if of_cache.is_empty() {
        return Ok(());
    }
    let mut computed = Vec::new();
    for prompt in trial.prompts {
        computed.push(recomputed(engine, prompt.schedules[trial.side], &prompt.sheets[trial.side], None)?.0);
    }
    let heads = heads(engine);
    let layers = i64::try_from(engine.graph().blocks.len()).unwrap_or(0);
    for by in (1 - layers..layers).filter(|by| *by != 0) {
        let side = if by < 0 { "before" } else { "after" };
        let detail = format!("the rows of the layer {} {side}", by.abs());
        let other = |site: Site, position: usize| {
            let layer = i64::from(site.layer?.0) + by;
            Some((Site { layer: Some(LayerIdx(u32::try_from(layer).ok()?)), ..site }, position))
        };
        keep(Outcome {
            name: "other_layer_cache",
            detail,
            left: elsewhere(trial, &computed, &of_cache, &other, &same),
        });
    }
    for (by, detail) in [(-1, "the rows of the position before"), (1, "the rows of the position after")] {
        let other =
            |site: Site, position: usize| Some((site, position.checked_add_signed(by).unwrap_or(position)));
        let left = elsewhere(trial, &computed, &of_cache, &other, &same);
        keep(Outcome { name: "shifted_cache", detail: detail.to_owned(), left });
    }
    for by in 1..heads {
        let turned = |row: &[f32]| {
            let mut row = row.to_vec();
            let width = row.len() / heads;
            row.rotate_left(by * width);
            row
        };
        let detail = format!("the rows of the head group {by} further");
        let left = elsewhere(trial, &computed, &of_cache, &|site, position| Some((site, position)), &turned);
        keep(Outcome { name: "other_head_cache", detail, left });
    }
    Ok(())
}

fn same(row: &[f32]) -> Vec<f32> {
    row.to_vec()
}

/// Key and value heads.
fn heads(engine: &Engine<'_>) -> usize {
    let found = engine.graph().nodes().find_map(|node| match &node.operation {
        Operation::Attention(attention) => Some(attention.kv_heads),
        _ => None,
    });
    found.unwrap_or(1)
}

/// Recorded rows beside computed ones of another place.
fn elsewhere(
    trial: &Trial<'_>,
    computed: &[Sheet],
    sites: &[Site],
    other: &dyn Fn(Site, usize) -> Option<(Site, usize)>,
    turned: &dyn Fn(&[f32]) -> Vec<f32>,
) -> Deviations {
    let mut found = Deviations::new();
    for site in sites {
        let mut rows = BTreeMap::new();
        for (number, (prompt, computed)) in trial.prompts.iter().zip(computed).enumerate() {
            let Some(column) = prompt.sheets[trial.side].columns.get(site) else { continue };
            for position in column.positions() {
                let Some((place, at)) = other(*site, position) else { continue };
                let own = || computed.row(*site, position);
                // At the ends there is no other row.
                let Some(expected) =
                    computed.row(place, at).map(turned).or_else(|| own().map(<[f32]>::to_vec))
                else {
                    continue;
                };
                let Some(recorded) = column.row(position) else { continue };
                let [recorded, expected] = [recorded, &expected].map(|row| comparable(site.point, row, None));
                if recorded.len() == expected.len() {
                    rows.insert((number, position), squared(&recorded, &expected));
                }
            }
        }
        found.insert(*site, rows);
    }
    found
}

/// Embeddings: each row that is not its token's is looked up in the table.
fn tokens(engine: &Engine<'_>, trial: &Trial<'_>) -> Result<Outcome, LabError> {
    let site = Site::outside(Point::EmbedOut);
    let table = sections(engine.graph()).next().and_then(|(_, stem)| match &stem.nodes.first()?.operation {
        Operation::Embedding { weight, scale, .. } => Some((*weight, *scale)),
        _ => None,
    });
    let mut rows = BTreeMap::new();
    let mut named: Vec<String> = Vec::new();
    let known = trial.rows.get(&site);
    if let Some((weight, scale)) = table {
        let weight = trial.checkpoint.weight(weight)?;
        let mut entry = vec![0.0; weight.cols];
        for (number, prompt) in trial.prompts.iter().enumerate() {
            let sheet = &prompt.sheets[trial.side];
            let Some(column) = sheet.columns.get(&site) else { continue };
            for position in column.positions() {
                let own = known.and_then(|rows| rows.get(&(number, position)));
                let mut left = own.map_or(0.0, |row| row.squared);
                let Some(recorded) = column.row(position).filter(|_| left > 0.0) else {
                    rows.insert((number, position), left);
                    continue;
                };
                for token in 0..weight.rows {
                    weight.row_f32(token, &mut entry);
                    let fits = entry.iter().zip(recorded).all(|(x, recorded)| {
                        let x = column.dtype.round(*x);
                        #[expect(
                            clippy::cast_possible_truncation,
                            reason = "a tensor of binary32 holds the factor"
                        )]
                        let x =
                            scale.map_or(x, |scale| column.dtype.round(x * column.dtype.round(scale as f32)));
                        x.to_bits() == recorded.to_bits()
                    });
                    if fits {
                        left = 0.0;
                        let fed = sheet.ids.get(position).copied().unwrap_or_default();
                        named.push(format!("token {token} in place of {fed} at position {position}"));
                        break;
                    }
                }
                rows.insert((number, position), left);
            }
        }
    }
    let more = named.len().saturating_sub(3);
    named.truncate(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail =
        format!("{}{more}", if named.is_empty() { "another token".to_owned() } else { named.join(", ") });
    Ok(Outcome { name: "wrong_token", detail, left: Deviations::from([(site, rows)]) })
}

/// Choices of experts that the recorded logits do not give.
fn chosen(engine: &Engine<'_>, trial: &Trial<'_>) -> Outcome {
    let count = experts(engine.graph());
    let mut found = Deviations::new();
    let mut detail = String::new();
    for site in trial.sites.iter().filter(|site| site.point == Point::RouterTopk) {
        let logits = Site { point: Point::RouterLogits, ..*site };
        let mut rows = BTreeMap::new();
        let (mut others, mut weights, mut margin, mut ranks) = (0, 0, 0.0_f32, 0);
        let mut own_rows = BTreeMap::new();
        for (number, prompt) in trial.prompts.iter().enumerate() {
            let sheet = &prompt.sheets[trial.side];
            let Some(column) = sheet.columns.get(site) else { continue };
            for position in column.positions() {
                let Some(own) = trial.rows.get(site).and_then(|rows| rows.get(&(number, position))) else {
                    continue;
                };
                let (Some(row), Some(logits)) = (column.row(position), sheet.row(logits, position)) else {
                    rows.insert((number, position), own.squared);
                    continue;
                };
                let top = row.len() / 2;
                let dense = comparable(site.point, row, count);
                let taken: Vec<usize> = (0..dense.len()).filter(|expert| dense[*expert] != 0.0).collect();
                let mut order: Vec<usize> = (0..logits.len()).collect();
                order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
                let wrong: Vec<usize> =
                    taken.iter().copied().filter(|expert| !order[..top].contains(expert)).collect();
                if wrong.is_empty() {
                    // The right experts, by weights that are not theirs.
                    weights += usize::from(!own.equal);
                    own_rows.insert((number, position), own.squared);
                    continue;
                }
                others += 1;
                for expert in wrong {
                    let best_left_out = order[..top].iter().copied().find(|other| !taken.contains(other));
                    let gap = best_left_out.map_or(0.0, |other| logits[other] - logits[expert]);
                    margin = margin.max(gap);
                    ranks = ranks.max(order.iter().position(|other| *other == expert).unwrap_or(0) + 1);
                }
                rows.insert((number, position), 0.0);
            }
        }
        if others > 0 {
            let tie = if margin == 0.0 { "a tie" } else { "no tie" };
            let weights =
                if weights > 0 { format!("; other weights at {weights} more") } else { String::new() };
            detail = format!(
                "experts that its own logits do not give, at {others} positions: up to rank {ranks}, {margin:e} below \
                 one that was left out ({tie}){weights}"
            );
        }
        // Where no expert is another, its weights are not explained by one.
        let explained = |squared: f64| if others > 0 { 0.0 } else { squared };
        rows.extend(own_rows.into_iter().map(|(key, squared)| (key, explained(squared))));
        found.insert(*site, rows);
    }
    Outcome { name: "other_expert", detail, left: found }
}
