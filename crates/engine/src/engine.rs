//! The engine: one forward pass over rows of tokens, whatever model, phase and batch they belong to.
//!
//! A prefill runs in chunks of 512 positions through all blocks (a row needs only keys before it, and they are
//! cached), so memory does not grow with the prompt; dispatch is asked with the rows of the whole pass, so the
//! chunks cannot change a bit. Rows never mix outside attention over their own sequence, so rows of several steps or
//! sequences may go through the model together ([`Engine::forced`]).

use std::sync::{Mutex, PoisonError};

use mantissa_model::graph::{Graph, Operation, Pairing};
use mantissa_model::{Checkpoint, ModelConfig};
use mantissa_numerics::recipe::{KernelRecipe, LogSoftmaxRecipe, ObservedKernel};
use mantissa_numerics::setup::{Padding, QuantizedWeights};
use mantissa_numerics::site::Phase;

use crate::cache::KvCache;
use crate::cpu::Cpu;
use crate::dispatch::Dispatch;
use crate::error::EngineError;
use crate::logits::{TokenLogprob, top_logprobs};
use crate::overrides::Overrides;
use crate::pass::{Pass, Ran, Step};
use crate::perturbation::Hooks;
use crate::plan::{PassShape, Plan};
use crate::pool::Pool;
use crate::rope::RopeTable;
use crate::run::Runner;
use crate::setup::EngineSetup;
use crate::tap::{RowId, Tap};
use crate::variation::Variation;
use crate::weights::Weights;

mod heads;
mod perturbed;
mod scored;

use heads::{Each, Scored};

/// Positions of a prefill that go through the blocks together.
const CHUNK: usize = 512;

/// The largest product of a query and a key in eager attention of f16, by their norms: less than its largest number, so
/// that nothing is infinite and a mask of −65,504 leaves no weight.
const LARGEST_PRODUCT: f32 = 65_000.0;

/// A model, ready to run in one setup.
///
/// ```
/// use mantissa_engine::{Attention, Catalogs, Engine, EngineSetup, Forced, Hardware, Isa, NoTap};
/// use mantissa_engine::{QuantizedWeights, greedy};
/// use mantissa_numerics::{Dtype, Phase};
///
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint};
/// # let folder = tempfile::tempdir()?;
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
/// # let checkpoint = Checkpoint::open(folder.path())?;
/// let setup = EngineSetup {
///     serving: mantissa_engine::Serving::default(),
///     hardware: Hardware::Cpu,
///     dtype: Dtype::Bf16,
///     attention: Attention::Eager,
///     quantized: QuantizedWeights::Keep,
///     catalogs: Catalogs::default(),
///     context: 64,
///     threads: 1,
///     isa: Isa::detect(),
/// };
/// let engine = Engine::load(&checkpoint, setup)?;
/// let mut cache = engine.new_cache(64);
/// // The prompt in one pass, of which the last position's logits are kept; then a token.
/// let logits = engine.prefill(&mut cache, &[1, 2, 3], 1, 0, 1, &mut NoTap)?;
/// let first = greedy(&logits);
/// assert_eq!(engine.top_logprobs(Phase::Prefill, &logits, 1)[0].token, first);
/// let prompt = cache.clone();
/// let second = engine.decode(std::slice::from_mut(&mut cache), &[first], &mut NoTap)?;
/// assert_eq!((second.len(), cache.len()), (engine.config().vocab_size, 4));
/// // Known tokens may be fed together: the same bits.
/// let forced = Forced { tokens: &[first], batch_size: 1 };
/// assert_eq!(engine.forced(&mut [prompt], &[forced], &mut NoTap)?.logits, second);
/// // What ran is known kernel by kernel.
/// assert!(engine.take_observed().iter().any(|kernel| kernel.op == "q_proj"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engine<'a> {
    config: &'a ModelConfig,
    graph: Graph,
    setup: EngineSetup,
    overrides: Overrides,
    variation: Variation,
    weights: Weights<'a>,
    tables: Vec<RopeTable>,
    backend: Cpu,
    observed: Mutex<Vec<ObservedKernel>>,
}

/// Tokens that are fed to one sequence whatever the model would choose.
///
/// Example: [`Engine`].
#[derive(Debug, Clone, Copy)]
pub struct Forced<'f> {
    /// One token per step.
    pub tokens: &'f [u32],
    /// Sequences of each step's pass.
    pub batch_size: usize,
}

/// What forced steps left.
///
/// Example: [`Engine`].
#[derive(Debug)]
pub struct ForcedSteps {
    /// Logits of each step, sequence after sequence. *Shape:* `steps × vocab_size`.
    pub logits: Vec<f32>,
    /// Kernels that each step ran, in the order of its nodes; sequence after sequence.
    pub observed: Vec<Vec<ObservedKernel>>,
}

impl<'a> Engine<'a> {
    /// Prepares `checkpoint` for `setup`: maps or converts weights, computes rotary tables, starts threads.
    pub fn load(checkpoint: &'a Checkpoint, setup: EngineSetup) -> Result<Self, EngineError> {
        if !setup.isa.is_available() {
            return Err(EngineError::Isa { isa: setup.isa.name() });
        }
        if let Some(quantization) = checkpoint.packed()
            && setup.quantized == QuantizedWeights::Keep
        {
            let (dispatch, config) = (setup.dispatch(), checkpoint.config());
            if !dispatch.is_gpu() || config.nf4_block.is_none() && config.int4.is_none() {
                return Err(EngineError::Packed { quantization });
            }
        }
        let pool = Pool::new(setup.threads)
            .map_err(|source| EngineError::Threads { threads: setup.threads, source })?;
        let config = checkpoint.config();
        let graph = config.graph();
        Ok(Self {
            config,
            overrides: Overrides::default(),
            variation: Variation::default(),
            weights: Weights::load(checkpoint, &graph, &setup, &pool)?,
            tables: rope_tables(&graph, &setup),
            graph,
            backend: Cpu { isa: setup.isa, pool },
            setup,
            observed: Mutex::new(Vec::new()),
        })
    }

    /// The same engine with other recipes for some nodes.
    #[must_use]
    pub fn with_overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }

    /// Puts other recipes in place of those of dispatch, as [`Engine::with_overrides`] does.
    pub fn set_overrides(&mut self, overrides: Overrides) {
        self.overrides = overrides;
    }

    /// The model's dimensions.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        self.config
    }

    /// The model's forward pass.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What was asked for.
    #[must_use]
    pub fn setup(&self) -> &EngineSetup {
        &self.setup
    }

    /// An empty cache for one sequence of up to `capacity` positions.
    #[must_use]
    pub fn new_cache(&self, capacity: usize) -> KvCache {
        KvCache::new(&self.graph, self.setup.dtype, capacity)
    }

    /// An empty cache for one sequence of up to `tokens` tokens, which begins with a prompt of `prompt` and is padded
    /// so that its batch has one length.
    ///
    /// Padding is hidden from every token, and takes places: what a token is summed with stands elsewhere, in longer
    /// rows.
    ///
    /// ```
    /// # use mantissa_engine::{Catalogs, Engine, EngineSetup, Isa, NoTap, QuantizedWeights};
    /// # use mantissa_model::synth::{SynthSpec, write};
    /// # use mantissa_model::{Arch, Checkpoint};
    /// use mantissa_engine::{Attention, Hardware};
    /// use mantissa_numerics::{Dtype, setup::Padding};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
    /// # let checkpoint = Checkpoint::open(folder.path())?;
    /// # let (hardware, attention) = (Hardware::Cpu, Attention::Eager);
    /// # let (dtype, quantized, threads) = (Dtype::F32, QuantizedWeights::Keep, 1);
    /// # let (context, isa, catalogs) = (64, Isa::detect(), Catalogs::default());
    /// # let serving = mantissa_engine::Serving::default();
    /// # let setup = EngineSetup {
    /// #     serving, hardware, dtype, attention, quantized, catalogs, context, threads, isa,
    /// # };
    /// let engine = Engine::load(&checkpoint, setup)?;
    /// let logits = |padding| {
    ///     let mut cache = engine.padded_cache(64, padding, 3);
    ///     engine.prefill(&mut cache, &[1, 2, 3], 1, 0, 1, &mut NoTap)
    /// };
    /// // Eleven rows are summed otherwise than three.
    /// assert_ne!(logits(Padding::Left(8))?, logits(Padding::None)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn padded_cache(&self, tokens: usize, padding: Padding, prompt: usize) -> KvCache {
        self.new_cache(tokens.saturating_add(padding.positions())).hiding(padding.hidden(prompt))
    }

    /// Every kernel that has run since the last call; those of a pass in the order of its nodes.
    pub fn take_observed(&self) -> Vec<ObservedKernel> {
        std::mem::take(&mut *self.observed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Feeds `ids` to one sequence of a batch in one pass and returns the logits of the last `keep` positions.
    ///
    /// `final_norm` and `logits` are computed, and so tapped, for those positions only; what follows the cache in the
    /// last block for them and for rows that `taps` wants ([`Tap::wants_row`]).
    ///
    /// *Shape:* returns `min(keep, ids.len()) × vocab_size`. *Rounding:* every site to the storage dtype, by the
    /// recipes that [`Dispatch`] names for a pass of `batch_size · ids.len()` rows. *Errors:* a token outside the
    /// vocabulary, no room in `cache`, no tokens.
    pub fn prefill(
        &self,
        cache: &mut KvCache,
        ids: &[u32],
        batch_size: usize,
        sequence: usize,
        keep: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        let hooks = &mut Hooks { taps, perturbation: None };
        self.prefill_hooked(cache, ids, [batch_size, sequence, keep], None, hooks)
    }

    fn prefill_hooked(
        &self,
        cache: &mut KvCache,
        ids: &[u32],
        [batch_size, sequence, keep]: [usize; 3],
        mut each: Option<&mut Each<'_>>,
        hooks: &mut Hooks<'_>,
    ) -> Result<Vec<f32>, EngineError> {
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        self.check_room(cache, ids.len())?;
        self.check_tokens(ids, cache.len())?;
        let fed = if cache.is_empty() { cache.padding() } else { 0 };
        let shape = PassShape {
            phase: Phase::Prefill,
            batch_size,
            positions: fed + ids.len(),
            keys: cache.len() + cache.padding() + ids.len(),
            padded: cache.padding() > 0,
        };
        let mut plans = vec![Plan::new(self.dispatch(), &self.graph, shape)?];
        let mut products = Vec::new();
        if each.is_some() {
            let of_prompt = Plan::of_prompt(self.dispatch(), self.config, &self.graph, shape)?;
            for (positions, plan) in of_prompt {
                products.push(positions);
                plans.push(plan);
            }
        }
        let ran = Mutex::new(Ran::default());
        let runner = self.runner(&ran);
        let first_kept = ids.len() - keep.min(ids.len());
        let mut logits = Vec::with_capacity((ids.len() - first_kept) * self.config.vocab_size);
        let caches = std::slice::from_mut(cache);
        for (chunk, ids_of_chunk) in ids.chunks(CHUNK).enumerate() {
            let (start, count) = (chunk * CHUNK, ids_of_chunk.len());
            let rows: Vec<RowId> =
                (0..count).map(|i| RowId { sequence, position: caches[0].len() + i }).collect();
            let steps = [Step { plan: 0, rows: 0..count }];
            let pass = Pass {
                rows: &rows,
                caches: &vec![0; count],
                sequences: &vec![sequence; count],
                steps: &steps,
                // The others are of the head alone.
                plans: &plans[..1],
            };
            let from = first_kept.saturating_sub(start).min(count);
            if let Some(each) = &mut each {
                let (_, x) = runner.body(&pass, caches, ids_of_chunk, 0, hooks);
                refused(&ran)?;
                let scored = Scored { plans: &plans, products: &products, start, from };
                logits.extend(scored.heads(&runner, &pass, &x, each, hooks));
            } else {
                logits.extend_from_slice(&runner.logits(&pass, caches, ids_of_chunk, from, hooks));
            }
            refused(&ran)?;
            caches[0].advance(count);
            if !caches[0].has_products_within(LARGEST_PRODUCT) {
                let what = "eager attention of f16 with scores that may reach the format's largest number";
                let why = "what PyTorch adds to hide a key may not hide it then";
                return Err(EngineError::kernel(self.setup.hardware, what.to_owned(), why, what));
            }
        }
        self.observe(ran);
        Ok(logits)
    }

    /// Feeds one token to each sequence and returns their logits.
    ///
    /// *Shape:* returns `caches.len() × vocab_size`. *Rounding:* every site to the storage dtype, by the recipes that
    /// [`Dispatch`] names for a pass of `caches.len()` rows.
    /// *Errors:* a token outside the vocabulary, no room in a cache, a token too many or too few.
    pub fn decode(
        &self,
        caches: &mut [KvCache],
        ids: &[u32],
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        if caches.len() != ids.len() || ids.is_empty() {
            return Err(EngineError::Batch { tokens: ids.len(), sequences: caches.len() });
        }
        self.step(caches, ids, ids.len(), taps)
    }

    /// Feeds one token to the first sequence of a batch of `batch_size` sequences of one length (of a padded one, with
    /// its padding) and returns its logits: those that [`Engine::decode`] gives for this row, for the price of one row.
    /// The others' contents cannot reach this one; how many they are does, by dispatch.
    ///
    /// *Shape:* returns `vocab_size`. *Rounding:* every site to the storage dtype, by the recipes that
    /// [`Dispatch`] names for a pass of `batch_size` rows.
    /// *Errors:* a token outside the vocabulary, no room in the cache, a batch of none, a shape that is not covered.
    pub fn decode_row(
        &self,
        cache: &mut KvCache,
        id: u32,
        batch_size: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        if batch_size == 0 {
            return Err(EngineError::Batch { tokens: 1, sequences: 0 });
        }
        self.step(std::slice::from_mut(cache), &[id], batch_size, taps)
    }

    /// One token for each cache, in a pass of `batch_size` rows.
    fn step(
        &self,
        caches: &mut [KvCache],
        ids: &[u32],
        batch_size: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        for (cache, id) in caches.iter().zip(ids) {
            self.check_room(cache, 1)?;
            self.check_tokens(&[*id], cache.len())?;
        }
        let rows: Vec<RowId> = caches
            .iter()
            .enumerate()
            .map(|(sequence, cache)| RowId { sequence, position: cache.len() })
            .collect();
        let cached = caches.iter().map(|cache| cache.place(cache.len()) + 1);
        let keys = cached.clone().max().unwrap_or(0);
        if self.dispatch().is_gpu() && cached.into_iter().any(|own| own != keys) {
            let what = "a batch of caches of other lengths";
            let why = "a GPU computes a batch of one length; padding makes sequences equally long";
            return Err(EngineError::kernel(self.setup.hardware, what.to_owned(), why, what));
        }
        let padded = caches.iter().any(|cache| cache.padding() > 0);
        let shape = PassShape { padded, ..PassShape::decode(batch_size, keys) };
        let plans = [Plan::new(self.dispatch(), &self.graph, shape)?];
        let of_rows: Vec<usize> = (0..rows.len()).collect();
        let steps = [Step { plan: 0, rows: 0..rows.len() }];
        let pass = Pass { rows: &rows, caches: &of_rows, sequences: &of_rows, steps: &steps, plans: &plans };
        let ran = Mutex::new(Ran::default());
        let hooks = &mut Hooks { taps, perturbation: None };
        let logits = self.lockstep(&ran, &pass, caches, ids, hooks)?;
        for cache in caches.iter_mut() {
            cache.advance(1);
        }
        self.observe(ran);
        Ok(logits)
    }

    /// Feeds tokens that are known in advance, all steps of all sequences together, each the first of a batch of its
    /// own: each row by the recipes of its own step, attending to its own prefix. What comes out is what
    /// [`Engine::decode_row`] gives step by step, and weights are read once.
    ///
    /// Taps see the sequences as numbered in `caches`.
    ///
    /// *Errors:* as [`Engine::decode_row`]; nothing was fed then.
    pub fn forced(
        &self,
        caches: &mut [KvCache],
        forced: &[Forced<'_>],
        taps: &mut dyn Tap,
    ) -> Result<ForcedSteps, EngineError> {
        self.forced_hooked(caches, forced, &mut Hooks { taps, perturbation: None })
    }

    fn forced_hooked(
        &self,
        caches: &mut [KvCache],
        forced: &[Forced<'_>],
        hooks: &mut Hooks<'_>,
    ) -> Result<ForcedSteps, EngineError> {
        let empty = forced.iter().any(|steps| steps.batch_size == 0);
        if caches.len() != forced.len() || forced.is_empty() || empty {
            let tokens = forced.iter().map(|steps| steps.tokens.len()).sum();
            return Err(EngineError::Batch { tokens, sequences: if empty { 0 } else { caches.len() } });
        }
        let (mut rows, mut of_rows, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let (mut steps, mut plans): (Vec<Step>, Vec<Plan>) = (Vec::new(), Vec::new());
        for (sequence, (cache, forced)) in caches.iter().zip(forced).enumerate() {
            self.check_room(cache, forced.tokens.len())?;
            self.check_tokens(forced.tokens, cache.len())?;
            for (step, token) in forced.tokens.iter().enumerate() {
                let position = cache.len() + step;
                let padded = cache.padding() > 0;
                let shape =
                    PassShape { padded, ..PassShape::decode(forced.batch_size, cache.place(position) + 1) };
                let plan = if let Some(known) = plans.iter().position(|plan| plan.shape == shape) {
                    known
                } else {
                    plans.push(Plan::new(self.dispatch(), &self.graph, shape)?);
                    plans.len() - 1
                };
                steps.push(Step { plan, rows: rows.len()..rows.len() + 1 });
                rows.push(RowId { sequence, position });
                of_rows.push(sequence);
                ids.push(*token);
            }
        }
        let first = vec![0; rows.len()];
        let pass = Pass { rows: &rows, caches: &of_rows, sequences: &first, steps: &steps, plans: &plans };
        let ran = Mutex::new(Ran::default());
        let logits = self.lockstep(&ran, &pass, caches, &ids, hooks)?;
        for (cache, forced) in caches.iter_mut().zip(forced) {
            cache.advance(forced.tokens.len());
        }
        let ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
        let by_plan: Vec<Vec<ObservedKernel>> = (0..plans.len()).map(|plan| ran.of(plan)).collect();
        Ok(ForcedSteps { logits, observed: steps.iter().map(|step| by_plan[step.plan].clone()).collect() })
    }

    /// Rows of decode steps through the whole model.
    fn lockstep(
        &self,
        ran: &Mutex<Ran>,
        pass: &Pass<'_>,
        caches: &mut [KvCache],
        ids: &[u32],
        hooks: &mut Hooks<'_>,
    ) -> Result<Vec<f32>, EngineError> {
        let logits = self.runner(ran).logits(pass, caches, ids, 0, hooks).to_vec();
        refused(ran)?;
        Ok(logits)
    }

    /// The `k` most probable tokens of one row of logits, most probable first, ties to the lower id; a NaN is never
    /// among them.
    ///
    /// *Shape:* `logits` is `vocab_size`. *Rounding:* by the recipe that [`Dispatch::log_softmax_of`] names.
    pub fn top_logprobs(&self, phase: Phase, logits: &[f32], k: usize) -> Vec<TokenLogprob> {
        self.top_logprobs_by(self.dispatch().log_softmax_of(self.config), phase, logits, k)
    }

    /// [`Engine::top_logprobs`] by another recipe: one that evidence names.
    pub fn top_logprobs_by(
        &self,
        recipe: LogSoftmaxRecipe,
        phase: Phase,
        logits: &[f32],
        k: usize,
    ) -> Vec<TokenLogprob> {
        let kernel = ObservedKernel {
            phase,
            op: "log_softmax".to_owned(),
            m: 1,
            n: k as u64,
            k: logits.len() as u64,
            recipe: KernelRecipe::LogSoftmax(recipe),
        };
        self.note(kernel);
        top_logprobs(self.setup.isa, recipe, logits, k)
    }

    pub(crate) fn dispatch(&self) -> Dispatch<'_> {
        self.setup.dispatch()
    }

    pub(crate) fn weights(&self) -> &Weights<'a> {
        &self.weights
    }

    pub(crate) fn tables(&self) -> &[RopeTable] {
        &self.tables
    }

    pub(crate) fn backend(&self) -> &Cpu {
        &self.backend
    }

    pub(crate) fn runner<'r>(&'r self, ran: &'r Mutex<Ran>) -> Runner<'r, 'a, Cpu> {
        Runner {
            graph: &self.graph,
            weights: &self.weights,
            tables: &self.tables,
            backend: &self.backend,
            pool: &self.backend.pool,
            isa: self.setup.isa,
            hardware: self.setup.hardware,
            embedding: self.dispatch().embedding(),
            overrides: &self.overrides,
            variation: self.variation,
            ran,
        }
    }

    fn check_room(&self, cache: &KvCache, tokens: usize) -> Result<(), EngineError> {
        let context = cache.capacity().saturating_sub(cache.padding()).min(self.setup.context);
        if cache.len() + tokens > context {
            return Err(EngineError::Context { position: context, context });
        }
        Ok(())
    }

    pub(crate) fn check_tokens(&self, ids: &[u32], first: usize) -> Result<(), EngineError> {
        let vocabulary = self.config.vocab_size;
        match ids.iter().position(|id| *id as usize >= vocabulary) {
            Some(i) => Err(EngineError::Token { token: ids[i], position: first + i, vocabulary }),
            None => Ok(()),
        }
    }

    fn observe(&self, ran: Mutex<Ran>) {
        let ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
        ran.all().into_iter().for_each(|kernel| self.note(kernel));
    }

    fn note(&self, kernel: ObservedKernel) {
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        if !observed.contains(&kernel) {
            observed.push(kernel);
        }
    }
}

/// *Errors:* what a pass found that no recipe covers.
fn refused(ran: &Mutex<Ran>) -> Result<(), EngineError> {
    ran.lock().unwrap_or_else(PoisonError::into_inner).refused.take().map_or(Ok(()), Err)
}

/// The rotary tables of a graph.
fn rope_tables(graph: &Graph, setup: &EngineSetup) -> Vec<RopeTable> {
    let dispatch = setup.dispatch();
    let tables = graph.tables.iter().enumerate().map(|(place, table)| {
        let pairing = graph.nodes().find_map(|node| match &node.operation {
            Operation::Rotary(rotary) if rotary.table == place => Some(rotary.pairing),
            _ => None,
        });
        let recipe = dispatch.rotary(dispatch.pairs(pairing.unwrap_or(Pairing::Halves)));
        RopeTable::new(table, recipe, setup.context)
    });
    tables.collect()
}
