//! Single values of one row, recomputed from the recorded inputs of the kernels that made them.
//!
//! The model's graph is walked back from a site to the sites that it is computed from, and forward again with as few
//! outputs as the wanted value needs. Each kernel takes the recipe that dispatch names for the whole pass, so a value
//! has the bits it has in the pass. Attention and experts run as in a pass of this one row; attention reads the keys
//! and values of all earlier positions. Left out: a compressed cache.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use mantissa_model::graph::{Activation, Graph, Node, Operation, Section};
use mantissa_numerics::recipe::KernelRecipe;
use mantissa_numerics::setup::Padding;
use mantissa_numerics::site::{LayerIdx, Phase, Point, Site};

use crate::backend::{Backend as _, Places};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::kernel::matrix::Matrix;
use crate::pass::{Pass, Place, Ran, Step};
use crate::perturbation::SectionId;
use crate::plan::{PassShape, Plan};
use crate::run::scaled;
use crate::tap::RowId;
use crate::weights::NodeWeights;

/// Which row of which pass.
///
/// Example: [`Engine::spot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpotRow {
    /// Kind of pass.
    pub phase: Phase,
    /// Sequences of the pass.
    pub batch_size: usize,
    /// Tokens of the prompt, which a prefill feeds at once.
    pub prompt: usize,
    /// Position in the sequence.
    pub position: usize,
    /// The token fed there.
    pub token: u32,
    /// Padding beside its sequence.
    pub padding: Padding,
}

impl SpotRow {
    /// Positions that the pass fed, and keys behind it.
    const fn fed(self) -> [usize; 2] {
        match self.phase {
            Phase::Prefill => [self.prompt; 2],
            Phase::Decode => [1, self.position + 1],
        }
    }
}

/// What a site is recomputed from.
///
/// Example: [`inputs`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpotInputs {
    /// Sites of the same row.
    pub row: Vec<Site>,
    /// Of those, the ones whose rows at all earlier positions are read too: what attention has cached.
    pub earlier: Vec<Site>,
}

/// What a site is recomputed from; `None` where it cannot be.
///
/// ```
/// use mantissa_engine::spot_inputs;
/// use mantissa_model::{Arch, synth::SynthSpec};
/// use mantissa_numerics::{Point, Site};
///
/// let graph = SynthSpec::tiny(Arch::LLAMA, 0).config().graph();
/// let norm = spot_inputs(&graph, Site::outside(Point::FinalNorm)).expect("it can be");
/// assert_eq!((norm.row, norm.earlier), (vec![Site::at(4, Point::XOut)], vec![]));
/// // Attention reads all earlier keys and values.
/// let attention = spot_inputs(&graph, Site::at(1, Point::AttnOut)).expect("it can be");
/// let [q, k, v] = [Point::Q, Point::K, Point::V].map(|point| Site::at(1, point));
/// assert_eq!((attention.row, attention.earlier), (vec![q, k, v], vec![k, v]));
/// ```
#[must_use]
pub fn inputs(graph: &Graph, site: Site) -> Option<SpotInputs> {
    let (place, section) = section_of(graph, site)?;
    let node = section.nodes.iter().position(|node| node.site == Some(site.point))?;
    let reached = walk(section, node)?;
    let of_node = |node: &usize| match section.nodes[*node].operation {
        Operation::Input => before(graph, place, site.point == Point::XIn),
        _ => Some(Site { layer: site.layer, point: section.nodes[*node].site? }),
    };
    Some(SpotInputs {
        row: reached.sources.iter().map(of_node).collect::<Option<_>>()?,
        earlier: reached.cached.iter().map(|(_, node)| of_node(node)).collect::<Option<_>>()?,
    })
}

fn section_of(graph: &Graph, site: Site) -> Option<(SectionId, &Section)> {
    match site.layer {
        Some(LayerIdx(layer)) => {
            let layer = (layer as usize).checked_sub(1)?;
            Some((SectionId::Block(layer), graph.block(layer)?))
        }
        None if graph.stem.at(site.point).is_some() => Some((SectionId::Stem, &graph.stem)),
        None => Some((SectionId::Head, &graph.head)),
    }
}

/// The site that is a section's input: a block's own `x_in`, or, for `x_in` itself and for the head, what the section
/// before left.
fn before(graph: &Graph, place: SectionId, outside: bool) -> Option<Site> {
    let number = |layer: usize| u32::try_from(layer).ok();
    match place {
        SectionId::Stem => None,
        SectionId::Block(0) if outside => Some(Site::outside(Point::EmbedOut)),
        SectionId::Block(layer) if outside => Some(Site::at(number(layer)?, Point::XOut)),
        SectionId::Block(layer) => Some(Site::at(number(layer + 1)?, Point::XIn)),
        SectionId::Head => Some(Site::at(number(graph.blocks.len())?, Point::XOut)),
    }
}

/// What recomputing a node takes.
struct Recomputation {
    /// Recorded nodes that it starts from, in the order they are read.
    sources: Vec<usize>,
    /// Slots of the cache that are read, and the recorded node whose rows each holds.
    cached: Vec<(usize, usize)>,
    /// Nodes to compute, ascending.
    nodes: Vec<usize>,
    /// Whether whole rows are computed, as a pass does.
    whole: bool,
}

/// Walks back from `node` to nodes that taps see; `None` where an operation on the way cannot be recomputed.
fn walk(section: &Section, node: usize) -> Option<Recomputation> {
    let mut reached =
        Recomputation { sources: Vec::new(), cached: Vec::new(), nodes: Vec::new(), whole: false };
    visit(section, node, true, &mut reached)?;
    reached.nodes.sort_unstable();
    Some(reached)
}

fn visit(section: &Section, node: usize, wanted: bool, reached: &mut Recomputation) -> Option<()> {
    let Node { operation, inputs, site, .. } = &section.nodes[node];
    if matches!(operation, Operation::Input) || (site.is_some() && !wanted) {
        if !reached.sources.contains(&node) {
            reached.sources.push(node);
            if let Operation::Append { slot } = operation {
                reached.cached.push((*slot, node));
            }
        }
        return Some(());
    }
    match operation {
        Operation::Expand(_) => return None,
        // What is cached of earlier positions is known where it is seen.
        Operation::Append { .. } if !wanted => return None,
        Operation::Attention(_)
        | Operation::Route(_)
        | Operation::Gather
        | Operation::ExpertLinear(_)
        | Operation::ExpertBias { .. }
        | Operation::ExpertSum { .. } => reached.whole = true,
        _ => {}
    }
    for input in inputs {
        visit(section, *input, false, reached)?;
    }
    if !reached.nodes.contains(&node) {
        reached.nodes.push(node);
    }
    Some(())
}

/// A row of which a part is known.
#[derive(Clone, Default)]
struct PartialRow {
    values: Vec<f32>,
}

impl Engine<'_> {
    /// Element `column` of `site`, from the row's values at the sites of [`inputs`] in their order, and those of all
    /// earlier positions at the sites that it names so.
    ///
    /// *Shape:* each input is as wide as its site, each of `earlier` is `position × width`. *Rounding:* as the pass
    /// that `row` belongs to. Returns `None` where the site cannot be recomputed, or an input or the column has another
    /// width. *Errors:* a token outside the vocabulary, a position outside the context, a shape that no verified recipe
    /// covers.
    ///
    /// ```
    /// use mantissa_engine::SpotRow;
    /// use mantissa_numerics::{Phase, Point, Site};
    /// # use mantissa_engine::{Attention, Catalogs, Engine, EngineSetup, Hardware, Isa, QuantizedWeights};
    /// # use mantissa_engine::{Tap, View};
    /// # use mantissa_numerics::Dtype;
    /// # use mantissa_model::synth::{SynthSpec, write};
    /// # use mantissa_model::{Arch, Checkpoint};
    /// # let folder = tempfile::tempdir()?;
    /// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
    /// # let checkpoint = Checkpoint::open(folder.path())?;
    /// # let setup = EngineSetup {
    /// #     serving: mantissa_engine::Serving::default(),
    /// #     hardware: Hardware::Cpu,
    /// #     dtype: Dtype::F32,
    /// #     attention: Attention::Eager,
    /// #     quantized: QuantizedWeights::Keep,
    /// #     catalogs: Catalogs::default(),
    /// #     context: 64,
    /// #     threads: 1,
    /// #     isa: Isa::detect(),
    /// # };
    /// # struct Rows(Vec<Vec<f32>>);
    /// # impl Tap for Rows {
    /// #     fn wants(&self, site: Site) -> bool {
    /// #         [Site::at(4, Point::XOut), Site::outside(Point::FinalNorm)].contains(&site)
    /// #     }
    /// #     fn tap(&mut self, view: View<'_>) {
    /// #         self.0.push(view.data.to_vec());
    /// #     }
    /// # }
    ///
    /// // A tap keeps the last block's output, and the norm of it.
    /// let mut rows = Rows(Vec::new());
    /// let engine = Engine::load(&checkpoint, setup)?;
    /// engine.prefill(&mut engine.new_cache(1), &[5], 1, 0, 1, &mut rows)?;
    /// let (phase, padding) = (Phase::Prefill, mantissa_numerics::setup::Padding::None);
    /// let row = SpotRow { phase, batch_size: 1, prompt: 1, position: 0, token: 5, padding };
    /// let norm = engine.spot(row, Site::outside(Point::FinalNorm), 3, &[&rows.0[0]], &[])?;
    /// assert_eq!(norm, Some(rows.0[1][3]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spot(
        &self,
        row: SpotRow,
        site: Site,
        column: usize,
        inputs: &[&[f32]],
        earlier: &[&[f32]],
    ) -> Result<Option<f32>, EngineError> {
        self.check_tokens(&[row.token], row.position)?;
        if row.position >= self.setup().context {
            return Err(EngineError::Context { position: row.position, context: self.setup().context });
        }
        let SpotRow { phase, batch_size, padding, .. } = row;
        let [positions, keys] = row.fed();
        let shape =
            PassShape { phase, batch_size, positions, keys, padded: false }.beside(padding.positions());
        let plan = Plan::new(self.dispatch(), self.graph(), shape)?;
        Ok(self.recompute(&plan, row, site, column, [inputs, earlier]))
    }

    fn recompute(
        &self,
        plan: &Plan,
        row: SpotRow,
        site: Site,
        column: usize,
        [inputs, earlier]: [&[&[f32]]; 2],
    ) -> Option<f32> {
        let (place, section) = section_of(self.graph(), site)?;
        let weights = self.weights();
        let (planned, weights) = match place {
            SectionId::Stem => (&plan.stem, &weights.stem),
            SectionId::Block(0) => (&plan.first, &weights.blocks[0]),
            SectionId::Block(layer) => (&plan.kinds[self.graph().blocks[layer]], &weights.blocks[layer]),
            SectionId::Head => (&plan.head, &weights.head),
        };
        let target = section.nodes.iter().position(|node| node.site == Some(site.point))?;
        let reached = walk(section, target)?;
        let is_row = |(node, input): (&usize, &&[f32])| input.len() == section.nodes[*node].width;
        if reached.sources.len() != inputs.len() || !reached.sources.iter().zip(inputs).all(is_row) {
            return None;
        }
        if column >= section.nodes[target].width {
            return None;
        }
        if reached.whole {
            return self.row(plan, row, place, &reached, target, [inputs, earlier])?.get(column).copied();
        }
        let Recomputation { sources, nodes, .. } = reached;
        let mut known = vec![PartialRow::default(); section.nodes.len()];
        for (node, input) in sources.iter().zip(inputs) {
            known[*node].values = input.to_vec();
        }
        let needed = needs(section, target, column, &nodes);
        for node in nodes {
            let recipe = planned[node].map(|planned| planned.recipe);
            let columns = needed[node].clone();
            let values = self.evaluate(&section.nodes[node], recipe, &weights[node], row, columns, &known);
            known[node].values = values;
        }
        known[target].values.get(column).copied()
    }

    /// What `target` leaves in a pass of this row alone, with what earlier positions left in the cache.
    fn row(
        &self,
        plan: &Plan,
        row: SpotRow,
        place: SectionId,
        reached: &Recomputation,
        target: usize,
        [inputs, earlier]: [&[&[f32]]; 2],
    ) -> Option<Vec<f32>> {
        let SectionId::Block(layer) = place else { return None };
        let kind = self.graph().blocks[layer];
        let section = &self.graph().kinds[kind];
        let of_node = |(_, node): &(usize, usize)| row.position * section.nodes[*node].width;
        if !reached.cached.iter().map(of_node).eq(earlier.iter().map(|rows| rows.len())) {
            return None;
        }
        let mut cache = self.padded_cache(row.position + 1, row.padding, row.prompt);
        for ((slot, node), rows) in reached.cached.iter().zip(earlier) {
            for (position, values) in rows.chunks_exact(section.nodes[*node].width).enumerate() {
                let at = cache.place(position);
                cache.write(self.setup().isa, layer, *slot, at, values);
            }
        }
        let pass = Pass {
            rows: &[RowId { sequence: 0, position: row.position }],
            caches: &[0],
            sequences: &[0],
            steps: &[Step { plan: 0, rows: 0..1 }],
            plans: std::slice::from_ref(plan),
        };
        let known: Vec<(usize, &[f32])> =
            reached.sources.iter().copied().zip(inputs.iter().copied()).collect();
        let ran: Mutex<Ran> = Mutex::default();
        let runner = self.runner(&ran);
        let block = Place::Block { layer, kind };
        let row = runner.one_row(block, &pass, &mut [cache], &known, &reached.nodes, target);
        // What depends on other rows of the pass is not known of one.
        row.filter(|_| ran.lock().unwrap_or_else(PoisonError::into_inner).refused.is_none())
    }

    /// The values of a node in `columns`; the others are zeros.
    fn evaluate(
        &self,
        node: &Node,
        recipe: Option<KernelRecipe>,
        weights: &NodeWeights<'_>,
        row: SpotRow,
        columns: Range<usize>,
        known: &[PartialRow],
    ) -> Vec<f32> {
        let backend = self.backend();
        let input = |place: usize| &known[node.inputs[place]].values;
        let mut out = vec![0.0; node.width];
        let part = &mut out[columns.clone()];
        match (&node.operation, recipe) {
            (Operation::Embedding { scale, .. }, _) => {
                let recipe = self.dispatch().embedding();
                weights.stored().row(row.token as usize, recipe, &mut out);
                if let Some(scale) = scale {
                    scaled(recipe.output, *scale, &mut out);
                }
            }
            (Operation::Linear(_), Some(KernelRecipe::Matmul(recipe))) => {
                let whole = weights.stored().matrix(&backend.pool, recipe);
                // Its sequence is the first of the batch.
                let number = if row.phase == Phase::Prefill { row.position } else { 0 };
                let places = Places { rows: vec![number], of: row.batch_size * row.fed()[0] };
                if recipe.reduces_by_place() {
                    let mut all = vec![0.0; node.width];
                    backend.products(recipe, &places, input(0), &mut [(whole, &mut all)]);
                    part.copy_from_slice(&all[columns]);
                    return out;
                }
                let data = &whole.data[columns.start * whole.row_bytes..columns.end * whole.row_bytes];
                let rows = Matrix { rows: columns.len(), data, ..whole };
                let recipe = recipe.from_output(columns.start);
                backend.products(recipe, &places, input(0), &mut [(rows, part)]);
            }
            (Operation::Bias { .. }, Some(KernelRecipe::Bias(recipe))) => {
                part.copy_from_slice(&input(0)[columns.clone()]);
                backend.bias(recipe, part, &weights.vector()[columns]);
            }
            (Operation::Norm(norm), Some(KernelRecipe::RmsNorm(recipe))) => {
                backend.norm(recipe, &input(0)[columns], weights.vector(), norm.eps, part);
            }
            (Operation::Rotary(rotary), Some(KernelRecipe::Rotary(recipe))) => {
                part.copy_from_slice(&input(0)[columns.clone()]);
                let table = self.tables()[rotary.table].position(row.position);
                backend.rotary(recipe, rotary, part, columns.len(), &[table]);
            }
            (Operation::Add, Some(KernelRecipe::Residual(recipe))) => {
                part.copy_from_slice(&input(0)[columns.clone()]);
                backend.add(recipe, part, &input(1)[columns]);
            }
            (Operation::Gate(_), Some(KernelRecipe::SwiGlu(recipe))) => {
                part.copy_from_slice(&input(0)[columns.clone()]);
                backend.gate(recipe, part, &input(1)[columns]);
            }
            (Operation::Gate(_), Some(KernelRecipe::GeGlu(recipe))) => {
                part.copy_from_slice(&input(0)[columns.clone()]);
                backend.gelu_gate(recipe, part, &input(1)[columns]);
            }
            (
                Operation::Gate(Activation::ClampedSwiGlu { alpha, limit }),
                Some(KernelRecipe::ClampedSwiGlu(recipe)),
            ) => {
                let pairs = &input(0)[2 * columns.start..2 * columns.end];
                backend.clamped_gate(recipe, [*alpha, *limit], pairs, part);
            }
            (Operation::Cap { cap }, Some(KernelRecipe::Cap(recipe))) => {
                part.copy_from_slice(&input(0)[columns.clone()]);
                backend.cap(recipe, *cap, part);
            }
            (Operation::Slice(slice), _) => {
                for (from, to) in input(0).chunks_exact(slice.stride).zip(out.chunks_exact_mut(slice.take)) {
                    to.copy_from_slice(&from[slice.from..slice.from + slice.take]);
                }
            }
            // What is appended is what is cached; an input at a tap is what it reads.
            _ => {
                if let Some(first) = node.inputs.first() {
                    out.clone_from(&known[*first].values);
                }
            }
        }
        out
    }
}

/// The columns of each node that a value of `target` is computed from.
fn needs(section: &Section, target: usize, column: usize, nodes: &[usize]) -> Vec<Range<usize>> {
    let mut needed = vec![0..0; section.nodes.len()];
    needed[target] = column..column + 1;
    for node in nodes.iter().rev() {
        let Node { operation, inputs, width, .. } = &section.nodes[*node];
        let wanted = needed[*node].clone();
        let grown = |group: usize| wanted.start / group * group..wanted.end.div_ceil(group) * group;
        // Norms and rotations compute whole heads.
        let own = match operation {
            Operation::Norm(norm) => grown(norm.length),
            Operation::Rotary(rotary) => grown(rotary.width),
            Operation::Slice(_) => 0..*width,
            _ => wanted.clone(),
        };
        needed[*node] = own.clone();
        for input in inputs {
            let from = match operation {
                Operation::Linear(_) | Operation::Slice(_) => 0..section.nodes[*input].width,
                Operation::Gate(Activation::ClampedSwiGlu { .. }) => 2 * own.start..2 * own.end,
                _ => own.clone(),
            };
            let known = &mut needed[*input];
            *known = match known.len() {
                0 => from,
                _ => known.start.min(from.start)..known.end.max(from.end),
            };
        }
    }
    needed
}
