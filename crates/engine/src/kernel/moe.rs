//! Mixture of experts: who computes a token, and the sum of what they computed. Left out: the experts' products.

use mantissa_model::graph::{Routing, RoutingWeights};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::reduce::sum_of_few;
use mantissa_numerics::nvidia::softmax::TorchSoftmax;
use mantissa_numerics::nvidia::topk;
use mantissa_numerics::recipe::{
    CastRecipe, ExpertOrder, ExpertSumRecipe, RouterChoice, RouterRecipe, RouterSoftmax,
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
        RouterSoftmax::Lanes { .. } => largest(&scores, routing.top),
        RouterSoftmax::Warp => topk::largest(&scores, routing.top),
    };
    let mut weights: Vec<f32> = order.iter().map(|expert| scores[*expert]).collect();
    match recipe.choice {
        RouterChoice::Probabilities { renormalize: false } => {}
        RouterChoice::Probabilities { renormalize: true } => {
            let sum = match recipe.softmax {
                RouterSoftmax::Lanes { .. } => weights.iter().sum(),
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
/// `place[s]` of `parts`.
///
/// *Shape:* `chosen` and `place` are `tokens × top`, rows of `parts` and `out` are as long, `out` has one for each
/// token.
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
    let products = if recipe.wide { Dtype::F32 } else { recipe.output };
    out.fill(0.0);
    let mut rest = vec![0.0; (sums - 1) * hidden];
    for (row, out) in out.chunks_exact_mut(hidden).enumerate() {
        rest.fill(0.0);
        if recipe.order != ExpertOrder::Once {
            let mut slots: Vec<usize> = (row * top..(row + 1) * top).collect();
            if recipe.order == ExpertOrder::EachByNumber {
                slots.sort_by_key(|slot| chosen[*slot].0);
            }
            for slot in slots {
                let part = &parts[place[slot] * hidden..][..hidden];
                rows::add_scaled(isa, products, out, part, chosen[slot].1);
                rows::round(isa, CastRecipe { output: recipe.output }, out);
            }
            continue;
        }
        for i in 0..top {
            let (slot, sum) = (row * top + i, i % sums);
            let to = if sum == 0 { &mut *out } else { &mut rest[(sum - 1) * hidden..][..hidden] };
            let part = &parts[place[slot] * hidden..][..hidden];
            rows::add_scaled(isa, products, to, part, chosen[slot].1);
        }
        for part in rest.chunks_exact(hidden) {
            out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
        }
        rows::round(isa, CastRecipe { output: recipe.output }, out);
    }
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
