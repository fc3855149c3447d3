//! Mixture of experts: who computes a token, and the sum of what they computed. Left out: the experts' products.

use std::ops::Range;

use mantissa_model::graph::{Routing, RoutingWeights};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::reduce::sum_of_few;
use mantissa_numerics::nvidia::softmax::TorchSoftmax;
use mantissa_numerics::nvidia::topk;
use mantissa_numerics::recipe::{
    CastRecipe, ExpertOrder, ExpertRanks, ExpertSumRecipe, RouterChoice, RouterRecipe, RouterSoftmax,
};

use super::rows;
use crate::simd::Isa;

/// The experts of one row of router logits, the first choice first, and their weights: see [`RouterRecipe`]. Groups and
/// the factor of the weights, in binary32 before they are rounded, are the model's.
///
/// *Shape:* `logits` is as long as there are experts; returns `min(top, experts)` pairs.
pub(crate) fn route(isa: Isa, recipe: RouterRecipe, routing: &Routing, logits: &[f32]) -> Vec<(usize, f32)> {
    let softmax = |x: &mut [f32]| match recipe.softmax {
        RouterSoftmax::Lanes { lanes } => rows::softmax(isa, lanes, x),
        RouterSoftmax::Warp => {
            let count = x.len();
            TorchSoftmax::Warp.softmax(x, count, count, 0);
        }
        RouterSoftmax::Vllm(gating) => gating.softmax(x),
    };
    let (mut scores, mut factor) = (logits.to_vec(), None);
    if matches!(recipe.choice, RouterChoice::Probabilities { .. }) {
        softmax(&mut scores);
    }
    if let RoutingWeights::SoftmaxThenTop { scale, groups, .. } = routing.weights {
        if let Some((count, best)) = groups {
            leave_groups(&mut scores, count, best);
        }
        #[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding of a number beside a tensor")]
        let scale = scale as f32;
        factor = Some(scale);
    }
    let order = match recipe.softmax {
        RouterSoftmax::Lanes { .. } | RouterSoftmax::Vllm(_) => largest(&scores, routing.top),
        RouterSoftmax::Warp => topk::largest(&scores, routing.top),
    };
    let mut weights: Vec<f32> = order.iter().map(|expert| scores[*expert]).collect();
    match recipe.choice {
        RouterChoice::Probabilities { renormalize: false } => {}
        RouterChoice::Probabilities { renormalize: true } => {
            let sum = match recipe.softmax {
                RouterSoftmax::Lanes { .. } | RouterSoftmax::Vllm(_) => weights.iter().sum(),
                RouterSoftmax::Warp => sum_of_few(&weights),
            };
            for weight in &mut weights {
                *weight /= sum;
            }
        }
        RouterChoice::Logits => softmax(&mut weights),
    }
    let scaled = |weight: f32| factor.map_or(weight, |factor| weight * factor);
    let weights = weights.into_iter().map(|weight| recipe.output.round(scaled(weight)));
    order.into_iter().zip(weights).collect()
}

/// Sets to zero the probabilities outside the `best` of `count` groups, of which each stands by its largest.
fn leave_groups(probabilities: &mut [f32], count: usize, best: usize) {
    let size = probabilities.len() / count;
    let strength = |group: &[f32]| group.iter().fold(0.0, |max: f32, p| if *p > max { *p } else { max });
    let strengths: Vec<f32> = probabilities.chunks_exact(size).map(strength).collect();
    let kept = largest(&strengths, best);
    for (group, probabilities) in probabilities.chunks_exact_mut(size).enumerate() {
        if !kept.contains(&group) {
            probabilities.fill(0.0);
        }
    }
}

/// The places of the `count` largest values, the largest first; of equals, the lower place.
fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order.truncate(count);
    order
}

/// The sum over each token's experts: see [`ExpertSumRecipe`]. Slot `s`, of expert and weight `chosen[s]`, left row
/// `place[s]` of `parts`, in which ranks' parts of the same row stand side by side.
///
/// *Shape:* `chosen` and `place` are `tokens × top`, `parts` has a row of each, `out` has one for each token.
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
    let ranks = recipe.ranks.reduce().map_or(1, |reduce| usize::from(reduce.ranks()));
    let wide = if matches!(recipe.ranks, ExpertRanks::Widths { .. }) { ranks } else { 1 };
    let mut of_ranks = vec![0.0; ranks * hidden];
    let mut values = vec![0.0; ranks];
    for (row, out) in out.chunks_exact_mut(hidden).enumerate() {
        let slots = row * top..(row + 1) * top;
        for (rank, sum) in of_ranks.chunks_exact_mut(hidden).enumerate() {
            let part = |slot: usize| &parts[(place[slot] * wide + rank % wide) * hidden..][..hidden];
            let own = |slot: usize| match recipe.ranks {
                ExpertRanks::Experts { of_rank, .. } => chosen[slot].0 / of_rank.get() as usize == rank,
                ExpertRanks::One | ExpertRanks::Widths { .. } => true,
            };
            sum_of_slots(isa, recipe, slots.clone(), (own, part), chosen, sum);
        }
        let Some(reduce) = recipe.ranks.reduce() else {
            out.copy_from_slice(&of_ranks);
            continue;
        };
        for (column, out) in out.iter_mut().enumerate() {
            for (value, sum) in values.iter_mut().zip(of_ranks.chunks_exact(hidden)) {
                *value = sum[column];
            }
            *out = reduce.sum(recipe.output, &values, 0, 0);
        }
    }
}

/// The sum over one token's slots, of which `own` says whose they are and `part` what they left.
fn sum_of_slots<'p>(
    isa: Isa,
    recipe: ExpertSumRecipe,
    slots: Range<usize>,
    (own, part): (impl Fn(usize) -> bool, impl Fn(usize) -> &'p [f32]),
    chosen: &[(usize, f32)],
    out: &mut [f32],
) {
    let (sums, hidden) = (usize::from(recipe.sums.get()), out.len());
    let products = if recipe.wide { Dtype::F32 } else { recipe.output };
    let weight = |slot: usize| {
        let weight = chosen[slot].1;
        if recipe.rounded_weights { recipe.output.round(weight) } else { weight }
    };
    out.fill(0.0);
    if recipe.order != ExpertOrder::Once {
        let mut slots: Vec<usize> = slots.filter(|slot| own(*slot)).collect();
        if recipe.order == ExpertOrder::EachByNumber {
            slots.sort_by_key(|slot| chosen[*slot].0);
        }
        for slot in slots {
            rows::add_scaled(isa, products, out, part(slot), weight(slot));
            rows::round(isa, CastRecipe { output: recipe.output }, out);
        }
        return;
    }
    let mut rest = vec![0.0; (sums - 1) * hidden];
    for (i, slot) in slots.enumerate().filter(|(_, slot)| own(*slot)) {
        let sum = i % sums;
        let to = if sum == 0 { &mut *out } else { &mut rest[(sum - 1) * hidden..][..hidden] };
        rows::add_scaled(isa, products, to, part(slot), weight(slot));
    }
    for part in rest.chunks_exact(hidden) {
        out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
    }
    rows::round(isa, CastRecipe { output: recipe.output }, out);
}

#[cfg(test)]
mod tests {
    use mantissa_model::graph::WideRouting;
    use mantissa_numerics::recipe::Lanes;

    use super::*;

    fn chosen(choice: RouterChoice, weights: RoutingWeights, output: Dtype) -> Vec<(usize, f32)> {
        let [lanes, ..] = Lanes::ALL;
        let recipe = RouterRecipe { softmax: RouterSoftmax::Lanes { lanes }, choice, output };
        let routing = Routing { experts: 8, top: 3, weights };
        route(Isa::Scalar, recipe, &routing, &[2.0, 1.0, 0.0, 3.0, 2.5, 2.75, 0.0, 0.5])
    }

    #[test]
    fn weights_are_rounded_where_the_recipe_says_so() {
        let sum = |rounded_weights| {
            let recipe = ExpertSumRecipe {
                sums: std::num::NonZeroU16::MIN,
                wide: false,
                rounded_weights,
                order: ExpertOrder::Once,
                ranks: ExpertRanks::One,
                output: Dtype::Bf16,
            };
            let mut out = [0.0];
            // 1 + 2^-8 is halfway between two numbers of bf16.
            let weight = 1.0 + 2.0_f32.powi(-8);
            expert_sum(Isa::Scalar, recipe, 1, &[(0, weight)], &[0], &[3.0], &mut out);
            out[0]
        };
        assert_eq!((sum(false).to_bits(), sum(true).to_bits()), (3.015_625_f32.to_bits(), 3.0_f32.to_bits()));
    }

    #[test]
    fn experts_are_chosen_as_the_model_says() {
        let experts = |found: &[(usize, f32)]| found.iter().map(|(expert, _)| *expert).collect::<Vec<_>>();
        let sum = |found: &[(usize, f32)]| found.iter().map(|(_, weight)| weight).sum::<f32>();
        let plain = RouterChoice::Probabilities { renormalize: false };
        let weights = |scale, groups| RoutingWeights::SoftmaxThenTop {
            renormalize: false,
            scale,
            wide: WideRouting::Nothing,
            groups,
        };
        let all = chosen(plain, weights(1.0, None), Dtype::F32);
        assert_eq!(experts(&all), [3, 5, 4]);
        // Of four groups of two, the best is that of 3, then that of 4 and 5.
        let best = chosen(plain, weights(1.0, Some((4, 1))), Dtype::F32);
        assert_eq!(experts(&best), [3, 2, 0]);
        assert!(best[2].1.to_bits() == 0 && best[0].1.to_bits() == all[0].1.to_bits());
        let doubled = chosen(plain, weights(2.0, None), Dtype::F32);
        assert!(doubled.iter().zip(&all).all(|((_, a), (_, b))| a.to_bits() == (2.0 * b).to_bits()));
        let first = chosen(RouterChoice::Logits, RoutingWeights::TopThenSoftmax, Dtype::F32);
        assert!(experts(&first) == [3, 5, 4] && (sum(&first) - 1.0).abs() < 1e-6 && sum(&all) < 0.9);
        let narrow = chosen(RouterChoice::Logits, RoutingWeights::TopThenSoftmax, Dtype::Bf16);
        assert!(narrow.iter().all(|(_, weight)| weight.to_bits().trailing_zeros() >= 16));
    }
}
