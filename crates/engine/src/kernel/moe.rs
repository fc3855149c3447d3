//! Mixture of experts: who computes a token, and the sum of what they computed. Left out: the experts' products.

use mantissa_numerics::nvidia::reduce::{softmax_warp, sum_of_few};
use mantissa_numerics::recipe::{CastRecipe, ExpertSumRecipe, RouterChoice, RouterRecipe, RouterSoftmax};

use super::rows;
use crate::simd::Isa;

/// The `top` experts of one row of router logits, the first choice first, and their weights: see [`RouterRecipe`].
///
/// *Shape:* `logits` is as long as there are experts; returns `min(top, experts)` pairs.
pub(crate) fn route(isa: Isa, recipe: RouterRecipe, top: usize, logits: &[f32]) -> Vec<(usize, f32)> {
    let softmax = |x: &mut [f32]| match recipe.softmax {
        RouterSoftmax::Lanes { lanes } => rows::softmax(isa, lanes, x),
        RouterSoftmax::Warp => softmax_warp(x),
    };
    let mut scores = logits.to_vec();
    if matches!(recipe.choice, RouterChoice::Probabilities { .. }) {
        softmax(&mut scores);
    }
    let order = largest(&scores, top);
    let mut weights: Vec<f32> = order.iter().map(|expert| scores[*expert]).collect();
    match recipe.choice {
        RouterChoice::Probabilities { renormalize: false } => {}
        RouterChoice::Probabilities { renormalize: true } => {
            let sum = match recipe.softmax {
                RouterSoftmax::Lanes { .. } => weights.iter().sum(),
                RouterSoftmax::Warp => sum_of_few(&weights),
            };
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        RouterChoice::Logits => softmax(&mut weights),
    }
    order.into_iter().zip(weights).map(|(expert, weight)| (expert, recipe.output.round(weight))).collect()
}

/// The places of the `count` largest values, the largest first; of equals, the lower place.
fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order.truncate(count);
    order
}

/// The sum over each token's experts: see [`ExpertSumRecipe`]. Slot `s`, of expert and weight `chosen[s]`, left row `place[s]` of
/// `parts`.
///
/// *Shape:* `chosen` and `place` are `tokens × top`, rows of `parts` and `out` are as long, `out` has one for each token.
pub(crate) fn expert_sum(
    isa: Isa,
    recipe: ExpertSumRecipe,
    hidden: usize,
    chosen: &[(usize, f32)],
    place: &[usize],
    parts: &[f32],
    out: &mut [f32],
) {
    let top = chosen.len() / (out.len() / hidden).max(1);
    assert!(
        chosen.len() == place.len() && top * out.len() == chosen.len() * hidden,
        "expert_sum: shapes differ"
    );
    let sums = usize::from(recipe.sums.get());
    out.fill(0.0);
    let mut rest = vec![0.0; (sums - 1) * hidden];
    for (row, out) in out.chunks_exact_mut(hidden).enumerate() {
        rest.fill(0.0);
        for i in 0..top {
            let (slot, sum) = (row * top + i, i % sums);
            let to = if sum == 0 { &mut *out } else { &mut rest[(sum - 1) * hidden..][..hidden] };
            let part = &parts[place[slot] * hidden..][..hidden];
            rows::add_scaled(isa, recipe.output, to, part, chosen[slot].1);
        }
        for part in rest.chunks_exact(hidden) {
            out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
        }
        rows::round(isa, CastRecipe { output: recipe.output }, out);
    }
}
