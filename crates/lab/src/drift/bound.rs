//! The bound of a row for any order of sums: interval arithmetic over the nodes between its recorded inputs and it.
//!
//! Intervals are of binary64; each sum is widened by what any order of additions in binary32 may lose, to nearest or
//! cut off, and each rounding that the model states is applied to both ends, which keeps what rounds the same a point.
//! Attention may keep scores and weights in binary32 or round them, as its implementations do.

mod attention;
mod interval;

use std::collections::BTreeMap;

use mantissa_engine::{Engine, QuantizedWeights, SectionId};
use mantissa_model::graph::{Activation, Attention, ExpertWeight, Operation, Section, Weighting};
use mantissa_model::{Checkpoint, WeightDtype};
use mantissa_numerics::{Dtype, Point, Site};

use super::known::{before, site};
use super::sheet::Sheet;
use crate::error::LabError;
use interval::{Interval, LOST, lost, rounded, scaled};

/// Weights as the engine multiplies by them, decoded once.
pub(crate) struct Weights {
    /// Weights are rounded to this, unless blocks are computed as they are stored.
    storage: Dtype,
    keeps_blocks: bool,
    known: BTreeMap<String, std::rc::Rc<Vec<f32>>>,
}

impl Weights {
    pub(crate) fn new(engine: &Engine<'_>) -> Self {
        let keeps_blocks = engine.setup().quantized == QuantizedWeights::Keep;
        Self { storage: engine.setup().dtype, keeps_blocks, known: BTreeMap::new() }
    }

    fn of(&mut self, checkpoint: &Checkpoint, name: &str) -> Result<std::rc::Rc<Vec<f32>>, LabError> {
        if let Some(known) = self.known.get(name) {
            return Ok(std::rc::Rc::clone(known));
        }
        let weight = checkpoint.weight(name)?;
        let mut values = vec![0.0; weight.rows * weight.cols];
        for (row, out) in values.chunks_exact_mut(weight.cols.max(1)).enumerate() {
            weight.row_f32(row, out);
        }
        if !self.keeps_blocks || matches!(weight.dtype, WeightDtype::Plain(_)) {
            self.storage.round_each(&mut values);
        }
        let values = std::rc::Rc::new(values);
        self.known.insert(name.to_owned(), std::rc::Rc::clone(&values));
        Ok(values)
    }
}

/// What a row is computed from, and by.
pub(crate) struct Bounds<'b, 'c> {
    pub engine: &'b Engine<'c>,
    pub checkpoint: &'b Checkpoint,
    pub sheet: &'b Sheet,
    pub weights: &'b mut Weights,
}

impl Bounds<'_, '_> {
    /// The largest share of its bound that an element of a recorded row lies at: at most 1 where some order of sums may
    /// give the row. `None` where no bound is known.
    pub(crate) fn share(&mut self, wanted: Site, position: usize) -> Result<Option<f64>, LabError> {
        let Some((section, place)) = self.node_of(wanted) else { return Ok(None) };
        let Some(found) = self.node(section, place, position, true)? else { return Ok(None) };
        let Some(column) = self.sheet.columns.get(&wanted) else { return Ok(None) };
        let Some(recorded) = column.row(position) else { return Ok(None) };
        let share =
            |(interval, recorded): (&Interval, &f32)| interval.share(column.dtype, f64::from(*recorded));
        Ok(Some(found.iter().zip(recorded).map(share).fold(0.0, f64::max)))
    }

    fn node_of(&self, wanted: Site) -> Option<(SectionId, usize)> {
        super::known::sections(self.engine.graph()).find_map(|(section, nodes)| {
            let place = nodes
                .nodes
                .iter()
                .position(|node| node.site.is_some_and(|point| site(section, point) == wanted))?;
            Some((section, place))
        })
    }

    fn section(&self, section: SectionId) -> Option<&Section> {
        let graph = self.engine.graph();
        match section {
            SectionId::Stem => Some(&graph.stem),
            SectionId::Block(layer) => graph.block(layer),
            SectionId::Head => Some(&graph.head),
        }
    }

    fn name(section: SectionId, name: &str) -> String {
        match section {
            SectionId::Block(layer) => name.replace("{layer}", &layer.to_string()),
            SectionId::Stem | SectionId::Head => name.to_owned(),
        }
    }

    fn weight(&mut self, name: &str) -> Result<std::rc::Rc<Vec<f32>>, LabError> {
        self.weights.of(self.checkpoint, name)
    }

    /// A node's row, from recorded rows before it; the node's own recorded row does not count if it is `wanted`.
    fn node(
        &mut self,
        section: SectionId,
        place: usize,
        position: usize,
        wanted: bool,
    ) -> Result<Option<Vec<Interval>>, LabError> {
        let storage = self.engine.setup().dtype;
        let Some(node) = self.section(section).and_then(|nodes| nodes.nodes.get(place)).cloned() else {
            return Ok(None);
        };
        if !wanted
            && let Some(row) = node.site.and_then(|point| self.sheet.row(site(section, point), position))
        {
            return Ok(Some(row.iter().map(|x| Interval::point(f64::from(*x))).collect()));
        }
        let output = if node.leaves_binary32() { Dtype::F32 } else { storage };
        let mut inputs = Vec::new();
        if !matches!(
            node.operation,
            Operation::Input
                | Operation::Embedding { .. }
                | Operation::Attention(_)
                | Operation::ExpertSum { .. }
        ) {
            for input in &node.inputs {
                let Some(found) = self.node(section, *input, position, false)? else { return Ok(None) };
                inputs.push(found);
            }
        }
        Ok(match &node.operation {
            Operation::Input => before(self.engine.graph(), section)
                .and_then(|site| self.sheet.row(site, position))
                .map(|row| row.iter().map(|x| Interval::point(f64::from(*x))).collect()),
            Operation::Embedding { weight, scale, .. } => {
                let table = self.weight(weight)?;
                let token = self.sheet.ids.get(position).copied().unwrap_or_default() as usize;
                let Some(row) = table.get(token * node.width..(token + 1) * node.width) else {
                    return Ok(None);
                };
                #[expect(clippy::cast_possible_truncation, reason = "a tensor of binary32 holds the factor")]
                let factor = scale.map_or(1.0, |scale| storage.round(scale as f32));
                let entry = |x: &f32| Interval::point(f64::from(storage.round(storage.round(*x) * factor)));
                Some(row.iter().map(entry).collect())
            }
            Operation::Norm(norm) => {
                let weight = self.weight(&Self::name(section, norm.weight))?;
                let mut out = Vec::with_capacity(node.width);
                for run in inputs[0].chunks_exact(norm.length) {
                    out.extend(normed(run, &weight, norm.eps, norm.weighting, output));
                }
                Some(out)
            }
            Operation::Linear(linear) => {
                let weight = self.weight(&Self::name(section, linear.weight))?;
                Some(product(&weight, linear.k, &inputs[0], output))
            }
            Operation::Bias { weight } => {
                let bias = self.weight(&Self::name(section, weight))?;
                // It may be the first term of the sum: then every partial sum holds it.
                let terms = match self.section(section).map(|nodes| &nodes.nodes[node.inputs[0]].operation) {
                    Some(Operation::Linear(linear)) => linear.k,
                    _ => 0,
                };
                let added = inputs[0].iter().zip(bias.iter()).map(|(x, b)| {
                    let b = f64::from(*b);
                    // Added before the product is rounded, or after.
                    let product = x.hull(rounded(storage, *x)).wider(lost(terms) * b.abs());
                    rounded(output, product.plus(Interval::point(b)).widened(LOST))
                });
                Some(added.collect())
            }
            Operation::Slice(slice) => {
                let runs = inputs[0].chunks_exact(slice.stride);
                Some(runs.flat_map(|run| run[slice.from..slice.from + slice.take].to_vec()).collect())
            }
            Operation::Rotary(rotary) => {
                let angles = self.engine.angles(rotary.table, position).to_vec();
                interval::rotated(rotary, &angles, position, output, &inputs[0])
            }
            Operation::Append { .. } => inputs.into_iter().next(),
            Operation::Attention(attention) => self.attention(section, *attention, &node.inputs, position)?,
            Operation::Add => {
                let sums = inputs[0].iter().zip(&inputs[1]).map(|(x, y)| rounded(output, x.plus(*y)));
                Some(sums.collect())
            }
            Operation::Gate(activation) => gated(*activation, output, &inputs),
            Operation::Cap { cap } => {
                let bound = |x: &Interval| {
                    let f = |x: f64| cap * (x / cap).tanh();
                    rounded(output, Interval::of(f(x.low), f(x.high)).widened(4.0 * LOST))
                };
                Some(inputs[0].iter().map(bound).collect())
            }
            Operation::ExpertSum { .. } => self.experts(section, place, position)?,
            Operation::Expand(_)
            | Operation::Route(_)
            | Operation::Gather
            | Operation::ExpertLinear(_)
            | Operation::ExpertBias { .. } => None,
        })
    }

    /// A row of attention, from its query and the keys and values of all positions that it sees; `None` where one of
    /// them was not recorded, and for a softmax with sinks.
    fn attention(
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
        Ok(Some(attention::attended(self.engine.setup().dtype, &attention, &query, &keys, &values)))
    }

    fn cached(&self, section: SectionId, node: usize, position: usize) -> Option<Vec<f64>> {
        let node = self.section(section)?.nodes.get(node)?;
        if !matches!(node.operation, Operation::Append { .. }) {
            return None;
        }
        let row = self.sheet.row(site(section, node.site?), position)?;
        Some(row.iter().map(|x| f64::from(*x)).collect())
    }

    /// The sum over a token's experts, of those that were recorded.
    fn experts(
        &mut self,
        section: SectionId,
        sum: usize,
        position: usize,
    ) -> Result<Option<Vec<Interval>>, LabError> {
        let storage = self.engine.setup().dtype;
        let Some(nodes) = self.section(section).cloned() else { return Ok(None) };
        let Some(chosen) = self.sheet.row(site(section, Point::RouterTopk), position).map(<[f32]>::to_vec)
        else {
            return Ok(None);
        };
        let top = chosen.len() / 2;
        let mut parts: Vec<Vec<Interval>> = Vec::new();
        for slot in 0..top {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a number of an expert"
            )]
            let expert = chosen[slot] as usize;
            let Some(row) = self.expert(section, &nodes, nodes.nodes[sum].inputs[0], position, expert)?
            else {
                return Ok(None);
            };
            let weight = f64::from(chosen[top + slot]);
            // Products are rounded or not.
            let part = row.iter().map(|x| {
                let product = scaled(*x, weight);
                product.hull(rounded(storage, product))
            });
            parts.push(part.collect());
        }
        let width = nodes.nodes[sum].width;
        let whole = (0..width).map(|column| {
            let of_parts = parts.iter().map(|part| part[column]);
            let total = of_parts.clone().fold(Interval::point(0.0), Interval::plus);
            // Each partial sum may be rounded.
            let largest: f64 = of_parts.map(Interval::largest).sum();
            let step = interval::half_step(storage, largest);
            let loose = total.wider(step * interval::count(parts.len()));
            rounded(storage, loose)
        });
        Ok(Some(whole.collect()))
    }

    /// A row of one expert, at a node whose rows are sorted by expert.
    fn expert(
        &mut self,
        section: SectionId,
        nodes: &Section,
        place: usize,
        position: usize,
        expert: usize,
    ) -> Result<Option<Vec<Interval>>, LabError> {
        let storage = self.engine.setup().dtype;
        let node = &nodes.nodes[place];
        let output = if node.leaves_binary32() { Dtype::F32 } else { storage };
        match &node.operation {
            Operation::Gather => self.node(section, node.inputs[0], position, false),
            Operation::ExpertLinear(linear) => {
                let ExpertWeight::Each(name) = linear.weight else { return Ok(None) };
                let name = Self::name(section, name).replace("{expert}", &expert.to_string());
                let Some(x) = self.expert(section, nodes, node.inputs[0], position, expert)? else {
                    return Ok(None);
                };
                let weight = self.weight(&name)?;
                Ok(Some(product(&weight, linear.k, &x, output)))
            }
            Operation::Gate(activation) => {
                let mut inputs = Vec::new();
                for input in &node.inputs {
                    let Some(found) = self.expert(section, nodes, *input, position, expert)? else {
                        return Ok(None);
                    };
                    inputs.push(found);
                }
                Ok(gated(*activation, output, &inputs))
            }
            _ => Ok(None),
        }
    }
}

/// `w · x`, by any order of additions in binary32. *Shape:* `weight` is `n × k`.
fn product(weight: &[f32], k: usize, x: &[Interval], output: Dtype) -> Vec<Interval> {
    let row = |row: &[f32]| {
        let (mut low, mut high, mut largest) = (0.0, 0.0, 0.0);
        for (w, x) in row.iter().zip(x) {
            let w = f64::from(*w);
            let (a, b) = (w * x.low, w * x.high);
            low += a.min(b);
            high += a.max(b);
            largest += a.abs().max(b.abs());
        }
        rounded(output, Interval { low, high }.wider(lost(k) * largest))
    };
    weight.chunks_exact(k.max(1)).map(row).collect()
}

fn normed(x: &[Interval], weight: &[f32], eps: f64, weighting: Weighting, output: Dtype) -> Vec<Interval> {
    let count = interval::count(x.len());
    let squares = x.iter().map(|x| x.square()).fold(Interval::point(0.0), Interval::plus);
    let mean = scaled(squares, 1.0 / count).widened(lost(x.len()) + 4.0 * LOST);
    let factor =
        Interval::of(1.0 / (mean.high + eps).sqrt(), 1.0 / (mean.low + eps).sqrt()).widened(8.0 * LOST);
    let each = x.iter().zip(weight).map(|(x, weight)| {
        let y = x.times(factor).widened(LOST);
        let weight = f64::from(*weight);
        let product = match weighting {
            Weighting::AfterCast => scaled(rounded(output, y), weight),
            Weighting::BeforeCast => scaled(y, weight),
            Weighting::OnePlus => scaled(y, 1.0 + weight),
        };
        rounded(output, product.widened(2.0 * LOST))
    });
    each.collect()
}

fn gated(activation: Activation, output: Dtype, inputs: &[Vec<Interval>]) -> Option<Vec<Interval>> {
    let function: fn(f64) -> f64 = match activation {
        Activation::Silu => |x| x / (1.0 + (-x).exp()),
        Activation::GeluTanh => |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        },
        Activation::ClampedSwiGlu { .. } => return None,
    };
    let [gate, up] = inputs else { return None };
    let each = gate.iter().zip(up).map(|(gate, up)| {
        // Neither is monotone everywhere; both are flat where they turn.
        let ends = [gate.low, gate.high, f64::midpoint(gate.low, gate.high)].map(function);
        let low = ends.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ends.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let bend = (gate.high - gate.low) * (gate.high - gate.low);
        let active = Interval { low: low - bend, high: high + bend }.widened(16.0 * LOST);
        rounded(output, rounded(output, active).times(*up).widened(2.0 * LOST))
    });
    Some(each.collect())
}
