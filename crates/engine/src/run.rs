//! Interpreting a graph: sections node by node, each node's rows by the recipes of the steps they belong to.
//!
//! Rows of several steps go through a product together, so that its weights are read and unpacked once; a recipe
//! never depends on which rows are together. Left out: numbers (the backend) and which recipe a node gets (dispatch).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;

use mantissa_model::graph::{Activation, Expand, Node, Operation, Section};
use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::KernelRecipe;
use mantissa_numerics::site::Point;

use crate::backend::{Backend, Places, Queries, part};
use crate::cache::KvCache;
use crate::kernel::matrix::{CachedLayer, Matrix};
use crate::pass::{Pass, Place, Run};
use crate::perturbation::Hooks;
use crate::pool::Buffer;
use crate::tap::View;
use crate::weights::NodeWeights;

mod at;
mod expanded;
mod expert_blocks;
mod last_block;
mod lifetimes;
mod masked;
mod one_row;
mod perturbed;
mod routing;
mod runner;
mod values;
mod whole;

use at::At;
use expanded::Expanded;
use expert_blocks::ExpertBlocks;
use lifetimes::Lifetimes as _;
use routing::Routing;
use values::{Input, Value, left, rows_of, slot_of};

pub(crate) use runner::Runner;

impl<'r, B: Backend> Runner<'r, '_, B> {
    fn at<'s>(&'s self, section: &'s Section, place: Place) -> At<'s, 's> {
        let weights = match place {
            Place::Stem => &self.weights.stem,
            Place::Block { layer, .. } => &self.weights.blocks[layer],
            Place::Head => &self.weights.head,
        };
        At { section, place, weights }
    }

    fn section(
        &self,
        section: &Section,
        place: Place,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        input: Input<'_, 'r>,
        hooks: &mut Hooks<'_>,
    ) -> Buffer<'r> {
        let at = self.at(section, place);
        let mut input = Some(input);
        let mut values: Vec<Option<Value<'r>>> = Vec::with_capacity(section.nodes.len());
        let mut node = 0;
        while node < section.nodes.len() {
            let together = section.products_from(node);
            node = together.end;
            self.nodes(at, together, pass, caches, &mut values, &mut input, hooks);
            section.forget(node, &mut values);
        }
        left(values)
    }

    /// Runs one node, or products of one input together, and shows what they leave.
    #[expect(clippy::too_many_arguments, reason = "as node")]
    fn nodes(
        &self,
        at: At<'_, '_>,
        together: Range<usize>,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        values: &mut Vec<Option<Value<'r>>>,
        input: &mut Option<Input<'_, 'r>>,
        hooks: &mut Hooks<'_>,
    ) {
        if together.len() > 1 {
            let found = self.products(at, together.clone(), pass, values);
            values.extend(found);
        } else {
            let value = self.node(at, together.start, pass, caches, values, input);
            values.push(Some(value));
        }
        for done in together {
            self.tap(at, done, pass, values, hooks);
            self.perturb(at, done, pass, caches, values, hooks);
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each operation, of a few lines each")]
    fn node(
        &self,
        at: At<'_, '_>,
        index: usize,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        values: &mut [Option<Value<'r>>],
        input: &mut Option<Input<'_, 'r>>,
    ) -> Value<'r> {
        let node = &at.section.nodes[index];
        let rows = pass.rows.len();
        match &node.operation {
            Operation::Input => match input.take() {
                Some(Input::Rows(x)) => Value::Rows(x),
                _ => unreachable!("a section reads its input once"),
            },
            Operation::Embedding { scale, .. } => {
                let mut x = self.pool.buffer(rows * node.width);
                let Some(Input::Tokens(ids)) = input.take() else { unreachable!("the stem reads tokens") };
                let table = at.weights[index].stored();
                for (row, id) in x.chunks_exact_mut(node.width).zip(ids) {
                    table.row(*id as usize, self.embedding, row);
                }
                if let Some(scale) = scale {
                    scaled(self.embedding.output, *scale, &mut x);
                }
                Value::Rows(x)
            }
            Operation::Linear(_) => {
                let mut found = self.products(at, index..index + 1, pass, values);
                found.pop().flatten().unwrap_or_else(|| unreachable!("a product leaves rows"))
            }
            Operation::Norm(norm) => {
                let x = rows_of(values, node.inputs[0]);
                let weight = at.weights[index].vector();
                let mut out = self.pool.buffer(x.len());
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::RmsNorm(recipe) = run.recipe else { unreachable!("a norm") };
                    let part = part(&run.rows, node.width);
                    let ran = self.backend.norm(recipe, &x[part.clone()], weight, norm.eps, &mut out[part]);
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(out)
            }
            Operation::Bias { .. } => {
                let mut x = at.section.take(values, index, 0, self.pool);
                let bias = self.variation.bias(at.weights[index].vector());
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::Bias(recipe) = run.recipe else { unreachable!("a bias") };
                    let x = &mut x[part(&run.rows, node.width)];
                    let ran = self.backend.bias(recipe, x, &bias);
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(x)
            }
            Operation::Slice(slice) => {
                let x = rows_of(values, node.inputs[0]);
                let mut out = self.pool.buffer(rows * node.width);
                let groups = x.chunks_exact(slice.stride).zip(out.chunks_exact_mut(slice.take));
                for (from, to) in groups {
                    to.copy_from_slice(&from[slice.from..slice.from + slice.take]);
                }
                Value::Rows(out)
            }
            Operation::Rotary(rotary) => {
                let mut x = at.section.take(values, index, 0, self.pool);
                let table = &self.tables[rotary.table];
                for run in self.runs(at, index, pass) {
                    let rows = &pass.rows[run.rows.clone()];
                    let turns: Vec<_> =
                        rows.iter().map(|row| self.variation.turn(table, row.position)).collect();
                    let tables: Vec<&[f32]> = turns.iter().map(|turn| &**turn).collect();
                    let x = &mut x[part(&run.rows, node.width)];
                    let KernelRecipe::Rotary(recipe) = run.recipe else { unreachable!("a rotation") };
                    let ran = self.backend.rotary(recipe, rotary, x, node.width, &tables);
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(x)
            }
            Operation::Append { slot } => {
                self.append(at, *slot, pass, caches, rows_of(values, node.inputs[0]));
                Value::Cached(*slot)
            }
            Operation::Attention(attention) => {
                let q = rows_of(values, node.inputs[0]);
                let wide = q.len() / rows.max(1);
                let mut out = self.pool.buffer(rows * node.width);
                let layer = at.place.layer();
                let standing = pass.caches.iter().zip(pass.rows);
                let standing = standing.map(|(cache, row)| caches[*cache].place(row.position));
                let places: Vec<(CachedLayer<'_>, usize)> = match values[node.inputs[1]] {
                    Some(Value::Cached(k)) => {
                        let slots = [k, slot_of(values, node.inputs[2])];
                        let seen = |cache: &usize| caches[*cache].layer(layer, slots);
                        pass.caches.iter().map(seen).zip(standing).collect()
                    }
                    Some(Value::Expanded(ref expanded)) => expanded.layers().zip(standing).collect(),
                    _ => unreachable!("keys and values are cached or expanded"),
                };
                let mut norms = Vec::new();
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::Attention(recipe) = run.recipe else { unreachable!("attention") };
                    let queries = Queries {
                        phase: pass.phase(),
                        rows: &places[run.rows.clone()],
                        sequences: &pass.sequences[run.rows.clone()],
                        keys: pass.plans[run.plans[0]].shape.keys,
                        q: &q[part(&run.rows, wide)],
                        sinks: match &at.weights[index] {
                            NodeWeights::Vector(sinks) => sinks,
                            _ => &[],
                        },
                    };
                    if masked::is_bounded(recipe, pass.phase()) {
                        norms = masked::square_norms(attention, &queries);
                    }
                    let out = &mut out[part(&run.rows, node.width)];
                    let ran = self.backend.attention(recipe, attention, &queries, out);
                    self.note(node, &run, pass, ran);
                }
                // A prefill is of one sequence.
                if let [cache, ..] = caches {
                    cache.note_norms(layer, &norms);
                }
                Value::Rows(out)
            }
            Operation::Add => {
                let mut x = at.section.take(values, index, 0, self.pool);
                let y = rows_of(values, node.inputs[1]);
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::Residual(recipe) = run.recipe else { unreachable!("a sum") };
                    let part = part(&run.rows, node.width);
                    let ran = self.backend.add(recipe, &mut x[part.clone()], &y[part]);
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(x)
            }
            Operation::Gate(Activation::ClampedSwiGlu { alpha, limit }) => {
                let pairs = rows_of(values, node.inputs[0]);
                let mut out = self.pool.buffer(pairs.len() / 2);
                let width = out.len() / rows.max(1);
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::ClampedSwiGlu(recipe) = run.recipe else {
                        unreachable!("an activation")
                    };
                    let (pairs, out) = (&pairs[part(&run.rows, 2 * width)], &mut out[part(&run.rows, width)]);
                    let ran = self.backend.clamped_gate(recipe, [*alpha, *limit], pairs, out);
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(out)
            }
            Operation::Gate(_) => {
                let mut gate = at.section.take(values, index, 0, self.pool);
                let up = rows_of(values, node.inputs[1]);
                // Between experts there are several rows for each of the pass, in the order of its runs.
                let width = gate.len() / rows.max(1);
                for run in self.runs(at, index, pass) {
                    let part = part(&run.rows, width);
                    let (gate, up) = (&mut gate[part.clone()], &up[part]);
                    let ran = match run.recipe {
                        KernelRecipe::SwiGlu(recipe) => self.backend.gate(recipe, gate, up),
                        KernelRecipe::GeGlu(recipe) => self.backend.gelu_gate(recipe, gate, up),
                        _ => unreachable!("an activation"),
                    };
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(gate)
            }
            Operation::Route(routing) => {
                let logits = rows_of(values, node.inputs[0]);
                let mut found = Routing::new(routing.top);
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::Router(recipe) = run.recipe else { unreachable!("a router") };
                    found.wide |= recipe.output == Dtype::F32;
                    // An expert's product may have another recipe where the pass has other rows.
                    for rows in pass.alike(&run.rows) {
                        let logits = &logits[part(&rows, routing.experts)];
                        let (chosen, ran) = self.backend.route(recipe, routing, logits);
                        self.note(node, &run, pass, ran);
                        found.add(rows, chosen.slots);
                    }
                }
                Value::Routing(found)
            }
            Operation::Gather => {
                let (x, routing) = (rows_of(values, node.inputs[0]), routing_of(values, node.inputs[1]));
                let mut out = self.pool.buffer(routing.order.len() * node.width);
                for (slot, out) in routing.order.iter().zip(out.chunks_exact_mut(node.width)) {
                    out.copy_from_slice(&x[slot / routing.top * node.width..][..node.width]);
                }
                Value::Rows(out)
            }
            Operation::ExpertLinear(linear) => {
                let (x, routing) = (rows_of(values, node.inputs[0]), routing_of(values, node.inputs[1]));
                let runs = self.runs(at, index, pass);
                let parts = runs.iter().map(|run| parts_of(run.recipe)).max().unwrap_or(1);
                let mut out = self.pool.buffer(routing.order.len() * parts * linear.n);
                for run in runs {
                    let KernelRecipe::Matmul(recipe) = run.recipe else { unreachable!("a product") };
                    let blocks = match expert_blocks::asks(recipe) {
                        None => None,
                        Some(sum) => match ExpertBlocks::of(sum, at.place, pass, &run.rows, routing) {
                            Ok(blocks) => Some(blocks),
                            Err(why) => {
                                self.refuse(why);
                                continue;
                            }
                        },
                    };
                    let groups = routing.groups.iter().filter(|(rows, _)| run.covers(rows));
                    for (expert, slots) in groups.flat_map(|(_, experts)| experts) {
                        let weight = at.weights[index].experts()[*expert].matrix(self.pool, recipe);
                        let anywhere = || vec![(slots.clone(), Places::ANYWHERE)];
                        let of_steps =
                            blocks.as_ref().map_or_else(anywhere, |blocks| blocks.parts(routing, slots));
                        for (slots, places) in of_steps {
                            let x = &x[part(&slots, linear.k)];
                            let out = &mut out[part(&slots, parts * linear.n)];
                            let ran = self.backend.products(recipe, &places, x, &mut [(weight, out)]);
                            self.note(node, &run, pass, ran);
                        }
                    }
                }
                Value::Rows(out)
            }
            Operation::ExpertBias { .. } => {
                let mut x = at.section.take(values, index, 0, self.pool);
                let routing = routing_of(values, node.inputs[1]);
                let biases = at.weights[index].vector();
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::Bias(recipe) = run.recipe else { unreachable!("a bias") };
                    let groups = routing.groups.iter().filter(|(rows, _)| run.covers(rows));
                    for (expert, slots) in groups.flat_map(|(_, experts)| experts) {
                        let bias = &biases[expert * node.width..][..node.width];
                        let ran = self.backend.bias(recipe, &mut x[part(slots, node.width)], bias);
                        self.note(node, &run, pass, ran);
                    }
                }
                Value::Rows(x)
            }
            Operation::ExpertSum { top, .. } => {
                let (parts, routing) = (rows_of(values, node.inputs[0]), routing_of(values, node.inputs[1]));
                let mut out = self.pool.buffer(rows * node.width);
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::ExpertSum(recipe) = run.recipe else { unreachable!("a sum") };
                    let slots = part(&run.rows, *top);
                    let chosen = &routing.slots[slots.clone()];
                    let out = &mut out[part(&run.rows, node.width)];
                    let place = &routing.place[slots];
                    let ran = self.backend.expert_sum(recipe, node.width, chosen, place, parts, out);
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(out)
            }
            Operation::Cap { cap } => {
                let mut x = at.section.take(values, index, 0, self.pool);
                for run in self.runs(at, index, pass) {
                    let KernelRecipe::Cap(recipe) = run.recipe else { unreachable!("a bound") };
                    let ran = self.backend.cap(recipe, *cap, &mut x[part(&run.rows, node.width)]);
                    self.note(node, &run, pass, ran);
                }
                Value::Rows(x)
            }
            Operation::Expand(expand) => {
                let slots = [0, 1].map(|input| slot_of(values, node.inputs[input]));
                Value::Expanded(self.expand(at, index, expand, pass, caches, slots))
            }
        }
    }

    /// Keys and values of every position that a row sees, from the compressed rows of its cache. Rows of one cache that
    /// are computed by one recipe share them.
    fn expand(
        &self,
        at: At<'_, '_>,
        index: usize,
        expand: &Expand,
        pass: &Pass<'_>,
        caches: &[KvCache],
        [latent, rope]: [usize; 2],
    ) -> Expanded {
        let (node, layer) = (&at.section.nodes[index], at.place.layer());
        let stored = at.weights[index].stored();
        let mut expanded = Expanded::new(pass.rows.len());
        for run in self.runs(at, index, pass) {
            let KernelRecipe::Matmul(recipe) = run.recipe else { unreachable!("a product") };
            let weight = stored.matrix(self.pool, recipe);
            // The last row of each cache sees the most.
            let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
            for row in run.rows.clone() {
                let count = seen.entry(pass.caches[row]).or_default();
                *count = (pass.rows[row].position + 1).max(*count);
            }
            for (cache, count) in seen {
                let compressed = caches[cache].rows(layer, latent, count);
                let shared = caches[cache].rows(layer, rope, count);
                let mut out = self.pool.buffer(count * weight.rows);
                let ran =
                    self.backend.products(recipe, &Places::ANYWHERE, &compressed, &mut [(weight, &mut out)]);
                self.note(node, &run, pass, ran);
                let seeing = run.rows.clone().filter(|row| pass.caches[*row] == cache);
                expanded.add(self.isa, self.embedding.output, expand, &out, &shared, seeing);
            }
        }
        expanded
    }

    /// Products of one input, together where their recipes agree.
    fn products(
        &self,
        at: At<'_, '_>,
        nodes: Range<usize>,
        pass: &Pass<'_>,
        values: &[Option<Value<'r>>],
    ) -> Vec<Option<Value<'r>>> {
        let section = at.section;
        let x = rows_of(values, section.nodes[nodes.start].inputs[0]);
        let k = x.len() / pass.rows.len().max(1);
        let stored: Vec<_> = nodes.clone().map(|node| at.weights[node].stored()).collect();
        let mut outs: Vec<Buffer<'r>> =
            stored.iter().map(|w| self.pool.buffer(pass.rows.len() * w.rows())).collect();
        let runs: Vec<Vec<Planned>> = nodes.clone().map(|node| self.runs(at, node, pass)).collect();
        let alike = runs.windows(2).all(|pair| {
            let same = |(a, b): (&Planned, &Planned)| (&a.rows, a.recipe) == (&b.rows, b.recipe);
            pair[0].len() == pair[1].len() && pair[0].iter().zip(&pair[1]).all(same)
        });
        let together = if alike { nodes.len() } else { 1 };
        let groups = (0..nodes.len()).step_by(together.max(1)).map(|first| first..first + together);
        for group in groups {
            for (number, run) in runs[group.start].iter().enumerate() {
                let KernelRecipe::Matmul(recipe) = run.recipe else { unreachable!("a product") };
                let mut weights: Vec<(Matrix<'_>, &mut [f32])> = stored[group.clone()]
                    .iter()
                    .zip(&mut outs[group.clone()])
                    .map(|(w, out)| (w.matrix(self.pool, recipe), &mut out[part(&run.rows, w.rows())]))
                    .collect();
                let places = pass.places(&run.rows, recipe);
                let ran = self.backend.products(recipe, &places, &x[part(&run.rows, k)], &mut weights);
                for index in group.clone() {
                    self.note(&section.nodes[nodes.start + index], &runs[index][number], pass, ran);
                }
            }
        }
        outs.into_iter().map(|out| Some(Value::Rows(out))).collect()
    }

    /// The runs of rows of a node, each with the recipe to use.
    fn runs(&self, at: At<'_, '_>, index: usize, pass: &Pass<'_>) -> Vec<Planned> {
        let runs = pass.runs(at.place, index..index + 1).into_iter();
        runs.map(|Run { rows, plans, planned }| {
            let recipe =
                self.overrides.of(at.place, at.section.nodes[index].name, pass.phase(), planned.recipe);
            let place = [at.place.order(), index];
            Planned { place, rows, plans, n: planned.n, k: planned.k, recipe }
        })
        .collect()
    }

    fn note(&self, node: &Node, run: &Planned, pass: &Pass<'_>, ran: KernelRecipe) {
        let mut noted = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        for plan in &run.plans {
            noted.note((*plan, &pass.plans[*plan]), run.place, node.name, [run.n, run.k], ran);
        }
    }

    fn tap(
        &self,
        at: At<'_, '_>,
        index: usize,
        pass: &Pass<'_>,
        values: &[Option<Value<'r>>],
        hooks: &mut Hooks<'_>,
    ) {
        let storage = self.embedding.output;
        let node = &at.section.nodes[index];
        let Some(site) = at.place.site(node).filter(|site| !pass.rows.is_empty() && hooks.taps.wants(*site))
        else {
            return;
        };
        if self.has_refused() {
            return;
        }
        let table;
        let mut wide = node.is_wide();
        let data = match &values[index] {
            Some(Value::Rows(rows)) => rows,
            // What is cached is what was appended.
            Some(Value::Cached(_)) => rows_of(values, node.inputs[0]),
            Some(Value::Routing(routing)) => {
                debug_assert_eq!(site.point, Point::RouterTopk, "routing is seen at one point");
                wide |= routing.wide;
                table = routing.table();
                &table[..]
            }
            Some(Value::Expanded(_)) | None => return,
        };
        let dtype = if wide { Dtype::F32 } else { storage };
        hooks.taps.tap(View { site, phase: pass.phase(), rows: pass.rows, width: node.width, dtype, data });
    }
}

/// A run of rows with the recipe that is used.
struct Planned {
    /// Section and node.
    place: [usize; 2],
    rows: Range<usize>,
    plans: Vec<usize>,
    n: usize,
    k: usize,
    recipe: KernelRecipe,
}

impl Planned {
    fn covers(&self, rows: &Range<usize>) -> bool {
        self.rows.start <= rows.start && rows.end <= self.rows.end
    }
}

/// Outputs of a product's recipe for each row of the weight: passes of one engine divide by the same ranks.
fn parts_of(recipe: KernelRecipe) -> usize {
    match recipe {
        KernelRecipe::Matmul(product) => product.parts(),
        _ => 1,
    }
}

fn routing_of<'v>(values: &'v [Option<Value<'_>>], place: usize) -> &'v Routing {
    match &values[place] {
        Some(Value::Routing(routing)) => routing,
        _ => unreachable!("the routing is kept until the last node that reads it"),
    }
}

/// `x = round(x · round(scale))`.
pub(crate) fn scaled(dtype: Dtype, scale: f64, x: &mut [f32]) {
    #[expect(clippy::cast_possible_truncation, reason = "a tensor of binary32 holds the factor")]
    let factor = dtype.round(scale as f32);
    for x in x {
        *x = dtype.round(*x * factor);
    }
}
