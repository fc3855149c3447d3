//! The bound of attention.

use mantissa_model::graph::Attention;
use mantissa_numerics::Dtype;

use super::interval::{Interval, LOST, half_step, lost, rounded};

/// A row of attention, from its query and the keys and values that it sees.
pub(super) fn attended(
    storage: Dtype,
    attention: &Attention,
    query: &[Interval],
    keys: &[Vec<f64>],
    values: &[Vec<f64>],
) -> Vec<Interval> {
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
