//! A spot check: single recorded values, drawn at random, recomputed from the recorded inputs of the kernel that made
//! them.
//!
//! Draws are uniform and with replacement over every recorded value that can be recomputed, so a deviation in a share f
//! of them is missed by n draws with probability (1 − f)ⁿ, wherever it is. Layers are taken one after the other, each
//! with the checkpoint mapped anew, so that memory holds the weights of one. Attention is recomputed where the keys and
//! values of all earlier positions are recorded. Left out: log-probabilities.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use mantissa_engine::{Catalogs, Engine, SpotRow, spot_inputs};
use mantissa_evidence::Record;
use mantissa_evidence::record::{OwnRows, RowKey};
use mantissa_model::Checkpoint;
use mantissa_numerics::{Dtype, LayerIdx, Phase, Point, Setup, Site};

use super::plan::RunPlan;
use crate::column::{Column, own_rows, token};
use crate::error::LabError;
use crate::setup::Machine;

/// Evidence of one setup, and how much of it to draw.
///
/// ```
/// use mantissa_evidence::Record;
/// use mantissa_lab::replay::{Claim, Replay, ReplayPlan, SpotCheck};
/// use mantissa_numerics::{Point, Setup};
/// use mantissa_numerics::setup::SomeAxes;
/// # use mantissa_engine::{Catalogs, Isa};
/// # use mantissa_lab::document::Document;
/// # use mantissa_lab::prompt::PromptSpec;
/// # use mantissa_lab::{Machine, RecordSpec, Recorder, SignalSpec};
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint, Tokenizer};
/// # let folder = tempfile::tempdir()?;
/// # let model = folder.path().join("model");
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), &model, &|_| {})?;
/// # let (checkpoint, tokenizer) = (Checkpoint::open(&model)?, Tokenizer::open(&model)?);
/// # let spec = RecordSpec {
/// #     model: "tiny".to_owned(),
/// #     prompt: PromptSpec { document_tokens: 16, ..PromptSpec::default() },
/// #     cells: vec![Setup::default()],
/// #     decode_steps: 2,
/// #     repetitions: 1,
/// #     forced: None,
/// #     signals: SignalSpec { points: vec![Point::XIn], ..SignalSpec::default() },
/// #     generation: mantissa_numerics::Generation::default(),
/// # };
/// # let machine = Machine { threads: 1, isa: Isa::detect() };
/// # let (documents, catalogs) = (Document::built_in(), Catalogs::built_in());
/// # let recorder = Recorder {
/// #     checkpoint: &checkpoint,
/// #     tokenizer: Some(&tokenizer),
/// #     documents: &documents,
/// #     spec: &spec,
/// #     catalogs,
/// #     machine,
/// # };
/// # let directory = recorder.record(&folder.path().join("record"), &|_| {})?.directory;
///
/// // `directory` holds a record, of which the keys follow from the blocks' recorded inputs.
/// let record = Record::open(&directory)?;
/// let configuration = &record.shell().configurations[0];
/// let claim = Claim::of(configuration, &SomeAxes::default(), &checkpoint);
/// let claimed = claim.candidate.clone().expect("a setup with recipes");
/// let wanted = [vec![claimed]];
/// let plan = ReplayPlan::new(&record, &checkpoint, &[claim], &wanted, Replay::Decode, catalogs);
/// let check = SpotCheck {
///     checkpoint: &checkpoint,
///     record: &record,
///     runs: &[(0, &plan.runs[0])],
///     claim: claimed,
///     draws: 20,
///     seed: 1,
///     catalogs,
///     machine,
/// };
/// let facts = check.run(&|_| {})?;
/// assert_eq!((facts.drawn, facts.different, facts.first), (20, 0, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SpotCheck<'s> {
    /// The model; opened again for each layer.
    pub checkpoint: &'s Checkpoint,
    /// The evidence.
    pub record: &'s Record,
    /// Its runs, with what each fed.
    pub runs: &'s [(usize, &'s RunPlan)],
    /// The claim.
    pub claim: Setup,
    /// Values to draw.
    pub draws: u64,
    /// Decides which.
    pub seed: u64,
    /// What is known of libraries' choices.
    pub catalogs: &'s Catalogs,
    /// Where to run.
    pub machine: Machine,
}

/// What a spot check found.
///
/// Example: [`SpotCheck`].
#[derive(Debug, Clone, Default)]
pub struct SpotFacts {
    /// Values that can be recomputed.
    pub population: u64,
    /// Values drawn.
    pub drawn: u64,
    /// Of those, with other bits.
    pub different: u64,
    /// Distinct values among the draws.
    pub distinct: u64,
    /// The first that differs, in the order of runs, layers and steps.
    pub first: Option<SpotDifference>,
    /// Draws by point.
    pub kernels: BTreeMap<Point, u64>,
    /// Recorded sites that no draw can reach, by point, with their values.
    pub out_of_reach: BTreeMap<Point, u64>,
}

/// A value that differs.
///
/// Example: [`SpotCheck`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotDifference {
    /// The run.
    pub run: usize,
    /// Where.
    pub key: RowKey,
    /// The site.
    pub site: Site,
    /// Element of the row.
    pub column: usize,
    /// Bits in the evidence, of binary32.
    pub evidence: u32,
    /// Bits in the replay.
    pub replay: u32,
}

/// Keys and values that were read, by run and site.
type Cached = BTreeMap<(usize, Site), Option<Column>>;

/// Rows of one site of one run.
struct Block {
    run: usize,
    phase: Phase,
    site: Site,
    dtype: Dtype,
    dim: usize,
    rows: OwnRows,
    values: u64,
}

/// A drawn value, ordered as it is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Draw {
    layer: u64,
    point: Point,
    block: usize,
    step: u64,
    position: i32,
    column: usize,
}

impl SpotCheck<'_> {
    /// Draws and recomputes; `progress` is told how many of the draws are done.
    ///
    /// *Errors:* the engine's, the model's, the evidence's.
    pub fn run(&self, progress: &dyn Fn(u64)) -> Result<SpotFacts, LabError> {
        let mut facts = SpotFacts::default();
        let blocks = self.blocks(&mut facts);
        facts.population = blocks.iter().map(|block| block.values).sum();
        if facts.population == 0 {
            return Ok(facts);
        }
        let mut draws = self.draw(&blocks, facts.population);
        facts.drawn = draws.len() as u64;
        for draw in &draws {
            *facts.kernels.entry(draw.point).or_default() += 1;
        }
        draws.sort_unstable();
        let mut done = 0;
        for layer in draws.chunk_by(|a, b| a.layer == b.layer) {
            // Mapped anew: the pages of the layer before are given back.
            let checkpoint = Checkpoint::open(self.checkpoint.path())?;
            let context = self.runs.iter().map(|(_, run)| run.prompt.len() + run.forced.len()).max();
            let setup = self.machine.engine(&self.claim, context.unwrap_or(1), self.catalogs);
            let engine = Engine::load(&checkpoint, setup)?;
            let (mut before, mut cached) = (None, Cached::new());
            for draw in layer {
                if before.replace(*draw) == Some(*draw) {
                    // Drawn again: what it showed counts again.
                    done += 1;
                    continue;
                }
                facts.distinct += 1;
                let times = layer.iter().filter(|other| *other == draw).count() as u64;
                if let Some(difference) = self.recompute(&engine, &blocks[draw.block], draw, &mut cached)? {
                    facts.different += times;
                    facts.first.get_or_insert(difference);
                }
                done += 1;
                progress(done);
            }
        }
        Ok(facts)
    }

    /// Everything that can be recomputed, and into `facts` what cannot.
    fn blocks(&self, facts: &mut SpotFacts) -> Vec<Block> {
        let graph = self.checkpoint.config().graph();
        let mut blocks = Vec::new();
        for &(run, planned) in self.runs {
            for phase in [Phase::Prefill, Phase::Decode] {
                let Some(layout) = self.record.layout(run, phase) else { continue };
                let most = if phase == Phase::Prefill { 1 } else { planned.forced.len() as u64 };
                let steps = layout.steps.start..layout.steps.end.min(most);
                for (&site, tensor) in &layout.tensors {
                    let inputs = spot_inputs(&graph, site)
                        .filter(|inputs| inputs.row.iter().all(|input| layout.tensors.contains_key(input)));
                    let until = inputs.map_or(0, |inputs| {
                        let tokens =
                            inputs.earlier.iter().map(|site| self.recorded_until(run, planned, *site));
                        tokens.min().unwrap_or(usize::MAX)
                    });
                    for rows in self.record.own_rows(run, phase, Some(site), steps.clone()) {
                        let values = OwnRows::count(std::slice::from_ref(&rows)) * tensor.dim as u64;
                        let newest = rows.steps.end.checked_sub(1).zip(rows.positions.iter().max());
                        let newest = newest.and_then(|(step, &position)| {
                            token(planned.prompt.len(), RowKey { phase, step, position })
                        });
                        // Of the first token nothing is earlier; what has no inputs is never reached.
                        if until == 0 || newest.is_none_or(|newest| newest > until) {
                            *facts.out_of_reach.entry(site.point).or_default() += values;
                            continue;
                        }
                        let (dtype, dim) = (tensor.dtype, tensor.dim);
                        blocks.push(Block { run, phase, site, dtype, dim, rows, values });
                    }
                }
            }
        }
        blocks
    }

    /// The first token whose row of `site` is not recorded.
    fn recorded_until(&self, run: usize, planned: &RunPlan, site: Site) -> usize {
        let (prompt, tokens) = (planned.prompt.len(), planned.prompt.len() + planned.forced.len());
        let mut seen = vec![false; tokens];
        for (_, token) in own_rows(self.record, run, [prompt, tokens], site) {
            seen[token] = true;
        }
        seen.iter().take_while(|seen| **seen).count()
    }

    fn draw(&self, blocks: &[Block], population: u64) -> Vec<Draw> {
        let mut stream = blake3::Hasher::new_derive_key("mantissa spot check 2026-11");
        stream.update(&self.seed.to_le_bytes());
        stream.update(&population.to_le_bytes());
        let mut stream = stream.finalize_xof();
        let mut draws = Vec::new();
        for _ in 0..self.draws {
            let mut bytes = [0; 16];
            stream.fill(&mut bytes);
            // 128 bits onto far fewer: the remainder's bias is below 2⁻⁶⁴.
            let mut place =
                u64::try_from(u128::from_le_bytes(bytes) % u128::from(population)).unwrap_or_default();
            for (index, block) in blocks.iter().enumerate() {
                if place >= block.values {
                    place -= block.values;
                    continue;
                }
                let dim = block.dim as u64;
                let (row, column) = (place / dim, place % dim);
                let OwnRows { steps, positions } = &block.rows;
                let across = positions.len() as u64;
                let layer = match (block.site.layer, block.site.point) {
                    (Some(LayerIdx(layer)), _) => u64::from(layer),
                    (None, Point::EmbedOut) => 0,
                    (None, _) => u64::MAX,
                };
                draws.push(Draw {
                    layer,
                    point: block.site.point,
                    block: index,
                    step: steps.start + row / across,
                    position: positions[usize::try_from(row % across).unwrap_or_default()],
                    column: usize::try_from(column).unwrap_or_default(),
                });
                break;
            }
        }
        draws
    }

    /// Recomputes a value; what differs comes back.
    fn recompute(
        &self,
        engine: &Engine<'_>,
        block: &Block,
        draw: &Draw,
        cached: &mut Cached,
    ) -> Result<Option<SpotDifference>, LabError> {
        let Some((_, planned)) = self.runs.iter().find(|(run, _)| *run == block.run) else { return Ok(None) };
        let key = RowKey { phase: block.phase, step: draw.step, position: draw.position };
        let length = planned.prompt.len();
        let end = match block.phase {
            Phase::Prefill => length,
            Phase::Decode => length + usize::try_from(draw.step).unwrap_or(usize::MAX).saturating_add(1),
        };
        let back = draw.position.unsigned_abs() as usize;
        let token = |at: usize| planned.prompt.iter().chain(&planned.forced).nth(at).copied();
        let Some((position, token)) = end.checked_sub(back).and_then(|at| Some((at, token(at)?))) else {
            return Ok(None);
        };
        // A window of a decode step reaches back into the prompt's pass.
        let phase = if position < length { Phase::Prefill } else { Phase::Decode };
        let needed = spot_inputs(engine.graph(), block.site).unwrap_or_default();
        let rows =
            needed.row.iter().map(|site| self.row(block, *site, key)).collect::<Result<Vec<_>, _>>()?;
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mut earlier = Vec::new();
        for site in needed.earlier {
            if let Entry::Vacant(place) = cached.entry((block.run, site)) {
                let tokens = [length, length + planned.forced.len()];
                place.insert(Column::of_record(self.record, block.run, tokens, site)?);
            }
            let column = cached.get(&(block.run, site)).and_then(Option::as_ref);
            let before = (0..position).filter_map(|at| column?.row(at));
            earlier.push(before.flatten().copied().collect::<Vec<f32>>());
        }
        let earlier: Vec<&[f32]> = earlier.iter().map(Vec::as_slice).collect();
        let Setup { batch_size, padding, .. } = self.claim;
        let row = SpotRow { phase, batch_size, prompt: length, position, token, padding };
        let replay = engine.spot(row, block.site, draw.column, &rows, &earlier)?;
        let evidence = self.row(block, block.site, key)?.get(draw.column).copied();
        let (Some(replay), Some(evidence)) = (replay, evidence) else {
            // Another width than the model's: what was drawn is not what this model computes.
            let bits = evidence.unwrap_or(f32::NAN).to_bits();
            return Ok(Some(SpotDifference {
                run: block.run,
                key,
                site: block.site,
                column: draw.column,
                evidence: bits,
                replay: f32::NAN.to_bits(),
            }));
        };
        let (evidence, replay) = (self.bits(block, evidence), self.bits(block, replay));
        let differs = evidence != replay;
        Ok(differs.then_some(SpotDifference {
            run: block.run,
            key,
            site: block.site,
            column: draw.column,
            evidence,
            replay,
        }))
    }

    /// Bits of a value as stored, widened.
    fn bits(&self, block: &Block, value: f32) -> u32 {
        if block.dtype != self.claim.dtype {
            return value.to_bits();
        }
        let mut bytes = Vec::new();
        block.dtype.encode(value, &mut bytes);
        block.dtype.decode(&bytes, 0).to_bits()
    }

    fn row(&self, block: &Block, site: Site, key: RowKey) -> Result<Vec<f32>, LabError> {
        let mut scratch = Vec::new();
        let tensor =
            self.record.layout(block.run, key.phase).and_then(|layout| layout.tensors.get(&site).copied());
        let Some(tensor) = tensor else { return Ok(Vec::new()) };
        let bytes = self.record.row(block.run, site, key, &mut scratch)?.unwrap_or_default();
        Ok((0..bytes.len() / tensor.dtype.size()).map(|i| tensor.dtype.decode(bytes, i)).collect())
    }
}
