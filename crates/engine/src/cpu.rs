//! The CPU as a backend: kernels over whatever instruction set and threads there are, with the same bits on all.

use mantissa_model::graph::{Attention, Routing, RoutingWeights};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::reduce::{softmax_warp, sum_of_few};
use mantissa_numerics::recipe::{AttentionRecipe, Functions, KernelRecipe, MatmulRecipe, NormRecipe};
use mantissa_numerics::site::Phase;

use crate::backend::{Backend, Chosen, Queries};
use crate::cache::KvCache;
use crate::kernel::attention::{self, Heads};
use crate::kernel::matmul::{Matrix, matmul};
use crate::kernel::rows;
use crate::pool::Pool;
use crate::simd::Isa;

/// Threads and an instruction set.
#[derive(Debug)]
pub(crate) struct Cpu {
    pub isa: Isa,
    pub pool: Pool,
}

impl Backend for Cpu {
    fn products(
        &self,
        recipe: MatmulRecipe,
        x: &[f32],
        weights: &mut [(Matrix<'_>, &mut [f32])],
    ) -> KernelRecipe {
        matmul(self.isa, &self.pool, recipe, x, weights);
        KernelRecipe::Matmul(recipe)
    }

    fn bias(&self, output: Dtype, x: &mut [f32], bias: &[f32]) -> KernelRecipe {
        rows::add_bias(self.isa, &self.pool, output, x, bias);
        KernelRecipe::Bias { output }
    }

    fn norm(&self, recipe: NormRecipe, x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) -> KernelRecipe {
        #[expect(clippy::cast_possible_truncation, reason = "PyTorch adds epsilon to a binary32 tensor")]
        let eps = eps as f32;
        rows::rms_norm(self.isa, &self.pool, recipe, x, weight, eps, out);
        KernelRecipe::RmsNorm(recipe)
    }

    fn rotary(&self, recipe: KernelRecipe, x: &mut [f32], width: usize, tables: &[&[f32]]) -> KernelRecipe {
        let KernelRecipe::Rotary { output, functions } = recipe else { unreachable!("a rotation") };
        rows::rotary(self.isa, &self.pool, output, x, width, tables);
        KernelRecipe::Rotary { output, functions }
    }

    fn attention(
        &self,
        recipe: AttentionRecipe,
        node: &Attention,
        queries: &Queries<'_>,
        out: &mut [f32],
    ) -> KernelRecipe {
        let heads = Heads { query: node.heads, kv: node.kv_heads, dim: node.key_dim };
        match queries.phase {
            Phase::Prefill => {
                let Some((cache, first)) = queries.rows.first() else {
                    return KernelRecipe::Attention(recipe);
                };
                let seen = [*first, queries.keys];
                let cache = &queries.caches[*cache];
                attention::prefill(
                    self.isa,
                    &self.pool,
                    recipe,
                    heads,
                    cache,
                    queries.layer,
                    seen,
                    queries.q,
                    out,
                );
            }
            Phase::Decode => {
                let views: Vec<(&KvCache, usize)> = queries
                    .rows
                    .iter()
                    .map(|(cache, position)| (&queries.caches[*cache], position + 1))
                    .collect();
                attention::decode(self.isa, &self.pool, recipe, heads, &views, queries.layer, queries.q, out);
            }
        }
        KernelRecipe::Attention(recipe)
    }

    fn add(&self, output: Dtype, x: &mut [f32], y: &[f32]) -> KernelRecipe {
        rows::add(self.isa, &self.pool, output, x, y);
        KernelRecipe::Residual { output }
    }

    fn gate(&self, recipe: KernelRecipe, gate: &mut [f32], up: &[f32]) -> KernelRecipe {
        let KernelRecipe::SwiGlu { output, functions } = recipe else { unreachable!("an activation") };
        rows::swiglu(self.isa, &self.pool, functions, output, gate, up);
        KernelRecipe::SwiGlu { output, functions }
    }

    fn route(&self, recipe: KernelRecipe, routing: &Routing, logits: &[f32]) -> (Chosen, KernelRecipe) {
        let KernelRecipe::Router { reduction, output, functions, .. } = recipe else {
            unreachable!("a router")
        };
        let RoutingWeights::SoftmaxThenTop { renormalize, .. } = routing.weights else {
            unreachable!("dispatch refuses others")
        };
        let mut slots = Vec::with_capacity(logits.len() / routing.experts * routing.top);
        for logits in logits.chunks_exact(routing.experts) {
            let mut probabilities = logits.to_vec();
            let sum = match functions {
                Functions::Engine => {
                    rows::softmax(self.isa, reduction, &mut probabilities);
                    |weights: &[f32]| weights.iter().sum()
                }
                Functions::Nvidia => {
                    softmax_warp(&mut probabilities);
                    sum_of_few
                }
            };
            let weights = choose(&probabilities, routing.top, renormalize.then_some(sum));
            slots.extend(weights.map(|(expert, weight)| (expert, output.round(weight))));
        }
        (Chosen { slots }, KernelRecipe::Router { renormalize, reduction, output, functions })
    }

    fn expert_sum(
        &self,
        recipe: KernelRecipe,
        chosen: &[(usize, f32)],
        place: &[usize],
        parts: &[f32],
        out: &mut [f32],
    ) -> KernelRecipe {
        let KernelRecipe::ExpertSum { output, sums } = recipe else { unreachable!("an expert sum") };
        let count = usize::from(sums);
        let width = parts.len() / chosen.len().max(1);
        let top = chosen.len() * width / out.len().max(1);
        out.fill(0.0);
        let mut rest = vec![0.0; (count - 1) * width];
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            rest.fill(0.0);
            for i in 0..top {
                let (slot, sum) = (row * top + i, i % count);
                let to = if sum == 0 { &mut *out } else { &mut rest[(sum - 1) * width..][..width] };
                rows::add_scaled(
                    self.isa,
                    output,
                    to,
                    &parts[place[slot] * width..][..width],
                    chosen[slot].1,
                );
            }
            for part in rest.chunks_exact(width) {
                out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
            }
            rows::round(self.isa, output, out);
        }
        KernelRecipe::ExpertSum { output, sums }
    }
}

/// The `top` largest probabilities, largest first, ties to the lower expert; divided by their sum if it is told how they
/// are summed.
fn choose(
    probabilities: &[f32],
    top: usize,
    normalize: Option<fn(&[f32]) -> f32>,
) -> impl Iterator<Item = (usize, f32)> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]).then(a.cmp(b)));
    order.truncate(top);
    let weights: Vec<f32> = order.iter().map(|e| probabilities[*e]).collect();
    let sum = normalize.map(|sum| sum(&weights));
    order.into_iter().zip(weights).map(move |(e, w)| (e, sum.map_or(w, |sum| w / sum)))
}
