//! The bound of attention.

use mantissa_engine::{Engine, SectionId};
use mantissa_model::graph::{Attention, Operation};
use mantissa_numerics::Dtype;

use super::Bounds;
use super::interval::{Interval, LOST, half_step, lost, rounded};
use crate::drift::known::site;
use crate::error::LabError;

impl Bounds<'_, '_> {
    /// A row of attention, from its query and the keys and values of all positions that it sees; `None` where one of
    /// them was not recorded, and for a softmax with sinks.
    pub(super) fn attention(
        &mut self,
        section: SectionId,
        attention: Attention,
        inputs: &[usize],
        position: usize,
    ) -> Result<Option<Vec<Interval>>, LabError> {
        let [q, k, v] = inputs else { return Ok(None) };
        if attention.sinks.is_some() {
            return Ok(None);
        }
        let Some(query) = self.node(section, *q, position, false)? else { return Ok(None) };
        let first = attention.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for at in first..=position {
            let (Some(key), Some(value)) = (self.cached(section, *k, at), self.cached(section, *v, at))
            else {
                return Ok(None);
            };
            keys.push(key);
            values.push(value);
        }
        Ok(Some(attended(self.engine, &attention, &query, &keys, &values)))
    }

    fn cached(&self, section: SectionId, node: usize, position: usize) -> Option<Vec<f64>> {
        let node = self.section(section)?.nodes.get(node)?;
        if !matches!(node.operation, Operation::Append { .. }) {
            return None;
        }
        let row = self.sheet.row(site(section, node.site?), position)?;
        Some(row.iter().map(|x| f64::from(*x)).collect())
    }
}

fn attended(
    engine: &Engine<'_>,
    attention: &Attention,
    query: &[Interval],
    keys: &[Vec<f64>],
    values: &[Vec<f64>],
) -> Vec<Interval> {
    let storage: Dtype = engine.setup().dtype;
    let Attention { heads, kv_heads, key_dim, value_dim, scale, cap, .. } = *attention;
    let group = heads / kv_heads.max(1);
    let mut out = Vec::with_capacity(heads * value_dim);
    for head in 0..heads {
        let query = &query[head * key_dim..(head + 1) * key_dim];
        let of = head / group;
        let scores: Vec<Interval> = keys
            .iter()
            .map(|key| score(storage, query, &key[of * key_dim..(of + 1) * key_dim], scale, cap))
            .collect();
        let largest = scores.iter().map(|score| score.high).fold(f64::NEG_INFINITY, f64::max);
        let low: Vec<f64> = scores.iter().map(|score| (score.low - largest).exp()).collect();
        let high: Vec<f64> = scores.iter().map(|score| (score.high - largest).exp()).collect();
        let (all_low, all_high): (f64, f64) = (low.iter().sum(), high.iter().sum());
        // A weight is least where its own score is least and all others are largest.
        let loss = lost(keys.len()) + 64.0 * LOST;
        let shares: Vec<Interval> = low
            .iter()
            .zip(&high)
            .map(|(low, high)| {
                let share = Interval {
                    low: low / (low + (all_high - high)).max(f64::MIN_POSITIVE),
                    high: (high / (high + (all_low - low)).max(f64::MIN_POSITIVE)).min(1.0),
                };
                let share = share.widened(loss);
                // Rounded, or not; before they are divided by their sum or after.
                share.wider(2.0 * half_step(storage, share.high.abs()))
            })
            .collect();
        let of = of * value_dim;
        for column in of..of + value_dim {
            let mut total = Interval::point(0.0);
            let mut magnitude = 0.0;
            for (share, value) in shares.iter().zip(values) {
                let part = Interval::of(share.low * value[column], share.high * value[column]);
                magnitude += part.largest();
                total = total.plus(part);
            }
            out.push(rounded(storage, total.wider(lost(keys.len()) * magnitude)));
        }
    }
    out
}

/// A score, rounded to the storage format once or twice, or not.
fn score(storage: Dtype, query: &[Interval], key: &[f64], scale: f64, cap: Option<f64>) -> Interval {
    let mut total = Interval::point(0.0);
    let mut magnitude = 0.0;
    for (q, k) in query.iter().zip(key) {
        let part = Interval::of(q.low * k, q.high * k);
        magnitude += part.largest();
        total = total.plus(part);
    }
    let dot = total.wider(lost(key.len()) * magnitude);
    let dot = dot.wider(half_step(storage, dot.largest()));
    let score = Interval::of(dot.low * scale, dot.high * scale).widened(4.0 * LOST);
    let score = score.wider(half_step(storage, score.largest()));
    cap.map_or(score, |cap| {
        let bounded = Interval::of(cap * (score.low / cap).tanh(), cap * (score.high / cap).tanh());
        bounded.wider(4.0 * half_step(storage, bounded.largest())).widened(8.0 * LOST)
    })
}
