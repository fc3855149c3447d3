//! Attention over other keys and values, or with another scale: computed in binary64 from recorded rows, once as it is
//! and once with scores and weights rounded where transformers' eager attention rounds them.

use std::collections::BTreeMap;

use mantissa_engine::{Engine, Leaving, SectionId};
use mantissa_model::graph::{Attention, Graph, Operation};
use mantissa_numerics::{Dtype, Phase, Point};

use crate::column::Column;
use crate::drift::fed::Tamper;
use crate::drift::known::{sections, site};
use crate::drift::sheet::Sheet;
use crate::drift::trial::{Outcome, Trial, left};
use crate::error::LabError;

/// How far layers may be apart whose caches are exchanged, where a model has many.
const NEAR: usize = 2;
/// A model of so many layers has few.
const FEW: usize = 8;

/// What is done otherwise.
#[derive(Debug, Clone, Copy)]
struct Otherwise {
    /// Keys that a row sees beyond its own; −1 hides its own.
    reach: i64,
    /// Factor of the scores, from the right one.
    scale: fn(f64) -> f64,
    /// Which of keys and values are taken elsewhere.
    of: [bool; 2],
    /// Whose they are.
    elsewhere: Elsewhere,
}

/// Where keys and values are taken from.
#[derive(Debug, Clone, Copy)]
enum Elsewhere {
    Own,
    /// Layers further on.
    Layer(i64),
    /// Key and value heads further on.
    Head(usize),
    /// Head `h` of the queries has head `h` modulo their number.
    Turns,
    /// Positions further on, wrapping where `wraps`; of decode steps alone.
    Position {
        by: i64,
        wraps: bool,
    },
    /// The newest position has the row of the one before; of decode steps alone.
    Stale,
}

const RIGHT: Otherwise =
    Otherwise { reach: 0, scale: |scale| scale, of: [true, true], elsewhere: Elsewhere::Own };

fn list(graph: &Graph) -> Vec<(&'static str, String, Otherwise)> {
    let which = [([true, false], "keys"), ([false, true], "values"), ([true, true], "keys and values")];
    let mut all = vec![
        ("mask_off_by_one", "one key more in sight".to_owned(), Otherwise { reach: 1, ..RIGHT }),
        ("mask_off_by_one", "the row's own key out of sight".to_owned(), Otherwise { reach: -1, ..RIGHT }),
        ("attention_scale", "no scale of the scores".to_owned(), Otherwise { scale: |_| 1.0, ..RIGHT }),
        ("attention_scale", "the scale applied twice".to_owned(), Otherwise { scale: |s| s * s, ..RIGHT }),
        ("attention_scale", "the root of the scale".to_owned(), Otherwise { scale: f64::sqrt, ..RIGHT }),
        ("attention_scale", "the scale inverted".to_owned(), Otherwise { scale: |s| 1.0 / s, ..RIGHT }),
    ];
    let turns = Otherwise { elsewhere: Elsewhere::Turns, ..RIGHT };
    all.push(("other_head_cache", "key and value heads dealt to query heads by turns".to_owned(), turns));
    let layers = i64::try_from(graph.blocks.len()).unwrap_or(0);
    let heads = graph.nodes().find_map(|node| match &node.operation {
        Operation::Attention(attention) => Some(attention.kv_heads),
        _ => None,
    });
    for (of, words) in which {
        let mut add =
            |name, detail: String, elsewhere| all.push((name, detail, Otherwise { of, elsewhere, ..RIGHT }));
        add("stale_cache", format!("{words} of the step before in the newest place"), Elsewhere::Stale);
        for (by, side) in [(1, "later"), (-1, "earlier")] {
            for wraps in [true, false] {
                let end = if wraps { ", the last in the first place" } else { "" };
                let elsewhere = Elsewhere::Position { by: -by, wraps };
                add("shifted_cache", format!("{words} a place {side}{end}"), elsewhere);
            }
        }
        let near = if graph.blocks.len() <= FEW { layers - 1 } else { i64::try_from(NEAR).unwrap_or(1) };
        for by in (-near..=near).filter(|by| *by != 0) {
            let side = if by < 0 { "before" } else { "after" };
            add(
                "other_layer_cache",
                format!("{words} of the layer {} {side}", by.abs()),
                Elsewhere::Layer(by),
            );
        }
        for by in 1..heads.unwrap_or(1).min(FEW) {
            add("other_head_cache", format!("{words} of the head group {by} further"), Elsewhere::Head(by));
        }
    }
    all
}

/// Tries each where attention's rows are unexplained.
pub(super) fn outcomes(
    engine: &mut Engine<'_>,
    trial: &Trial<'_>,
    keep: &mut dyn FnMut(Outcome),
) -> Result<(), LabError> {
    // What attention leaves is seen behind its output projection.
    if !trial.sites.iter().any(|site| matches!(site.point, Point::AttnOut | Point::XAfterAttn)) {
        return Ok(());
    }
    let graph = engine.graph().clone();
    let layers = trial.layers();
    let nodes: BTreeMap<usize, (usize, Attention)> = sections(&graph)
        .filter_map(|(section, nodes)| {
            let SectionId::Block(layer) = section else { return None };
            let mut all = nodes.nodes.iter().enumerate();
            let found = all.find_map(|(place, node)| match &node.operation {
                // A softmax with sinks or over a compressed cache is not computed here.
                Operation::Attention(attention) if attention.sinks.is_none() && node.inputs.len() == 3 => {
                    Some((place, *attention))
                }
                _ => None,
            });
            Some((layer, found.filter(|_| layers.contains(&layer))?))
        })
        .collect();
    if nodes.is_empty() {
        return Ok(());
    }
    for (name, detail, otherwise) in list(&graph) {
        for rounds in [false, true] {
            let mut tamper = Attending { nodes: &nodes, otherwise, rounds, caches: BTreeMap::new() };
            keep(Outcome { name, detail: detail.clone(), left: left(engine, trial, Some(&mut tamper))? });
        }
    }
    Ok(())
}

/// Attention in place of the engine's.
struct Attending<'a> {
    nodes: &'a BTreeMap<usize, (usize, Attention)>,
    otherwise: Otherwise,
    /// Whether scores and weights are rounded to the storage format.
    rounds: bool,
    /// Queries, keys and values of each layer.
    caches: BTreeMap<usize, [Option<Column>; 3]>,
}

impl Tamper for Attending<'_> {
    fn begin(&mut self, sheet: &Sheet) {
        self.caches.clear();
        for &layer in self.nodes.keys() {
            let other = match self.otherwise.elsewhere {
                Elsewhere::Layer(by) => usize::try_from(i64::try_from(layer).unwrap_or(0) + by).ok(),
                _ => Some(layer),
            };
            let column = |layer: Option<usize>, point| {
                sheet.columns.get(&site(SectionId::Block(layer?), point)).cloned()
            };
            let [k, v] = self.otherwise.of.map(|taken| if taken { other } else { Some(layer) });
            let all = [column(Some(layer), Point::Q), column(k, Point::K), column(v, Point::V)];
            self.caches.insert(layer, all);
        }
    }

    fn wants(&self, section: SectionId, node: usize) -> bool {
        matches!(section, SectionId::Block(layer) if self.nodes.get(&layer).is_some_and(|(place, _)| *place == node))
    }

    fn change(&mut self, leaving: &mut Leaving<'_>) {
        let SectionId::Block(layer) = leaving.section else { return };
        let (Some((_, attention)), Some([Some(q), Some(k), Some(v)])) =
            (self.nodes.get(&layer), self.caches.get(&layer))
        else {
            return;
        };
        let width = leaving.data.len() / leaving.rows.len().max(1);
        let how = (leaving.phase, leaving.dtype, self.rounds);
        for (row, out) in leaving.rows.iter().zip(leaving.data.chunks_exact_mut(width.max(1))) {
            if let Some(found) = attended(attention, self.otherwise, how, row.position, [q, k, v]) {
                out.copy_from_slice(&found);
            }
        }
    }
}

/// One row of attention; `None` where a row that it reads was not recorded.
fn attended(
    attention: &Attention,
    otherwise: Otherwise,
    (phase, dtype, rounds): (Phase, Dtype, bool),
    position: usize,
    [q, k, v]: [&Column; 3],
) -> Option<Vec<f32>> {
    let Attention { heads, kv_heads, key_dim, value_dim, scale, window, cap, .. } = *attention;
    let query = q.row(position)?;
    let last = position.saturating_add_signed(isize::try_from(otherwise.reach).ok()?);
    // In decode no later key is there.
    let last = if phase == Phase::Decode { last.min(position) } else { last };
    let last = last.min(k.positions().last()?);
    let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
    let decoded = phase == Phase::Decode;
    // The row that stands at a place of a cache.
    let place = |place: usize, moved: bool| -> usize {
        let by = |by: i64| isize::try_from(by).unwrap_or(0);
        match otherwise.elsewhere {
            Elsewhere::Position { by: to, wraps } if moved && decoded => {
                match place.checked_add_signed(by(to)) {
                    Some(other) if other <= last => other,
                    _ if !wraps => place,
                    Some(_) => first,
                    None => last,
                }
            }
            Elsewhere::Stale if moved && decoded && place == position => place.saturating_sub(1),
            _ => place,
        }
    };
    let keys: Vec<&[f32]> =
        (first..=last).map(|at| k.row(place(at, otherwise.of[0]))).collect::<Option<_>>()?;
    let values: Vec<&[f32]> =
        (first..=last).map(|at| v.row(place(at, otherwise.of[1]))).collect::<Option<_>>()?;
    let group = heads / kv_heads.max(1);
    let head_of = |head: usize, moved: bool| match otherwise.elsewhere {
        Elsewhere::Head(by) if moved => (head / group + by) % kv_heads,
        Elsewhere::Turns if moved => head % kv_heads,
        _ => head / group,
    };
    let factor = (otherwise.scale)(scale);
    #[expect(clippy::cast_possible_truncation, reason = "rounded to the storage format")]
    let narrow = |x: f64| if rounds { f64::from(dtype.round(x as f32)) } else { x };
    let mut out = Vec::with_capacity(heads * value_dim);
    for head in 0..heads {
        let query = &query[head * key_dim..(head + 1) * key_dim];
        let of_k = head_of(head, otherwise.of[0]) * key_dim;
        let scores: Vec<f64> = keys
            .iter()
            .map(|key| {
                let key = &key[of_k..of_k + key_dim];
                let dot: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                let score = narrow(narrow(dot) * factor);
                cap.map_or(score, |cap| narrow(cap * narrow((score / cap).tanh())))
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let shares: Vec<f64> = powers.iter().map(|power| narrow(power / sum)).collect();
        let of_v = head_of(head, otherwise.of[1]) * value_dim;
        for column in of_v..of_v + value_dim {
            let mixed: f64 =
                shares.iter().zip(&values).map(|(share, row)| share * f64::from(row[column])).sum();
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the storage format")]
            out.push(dtype.round(mixed as f32));
        }
    }
    Some(out)
}
