//! The engine: one forward pass over rows of tokens, whatever model, phase and batch they belong to.
//!
//! A prefill runs in chunks of 512 positions through all blocks (a row needs only keys before it, and they are
//! cached), so memory does not grow with the prompt; dispatch is asked with the rows of the whole pass, so the cut
//! cannot show in a bit. Rows never mix outside attention over their own sequence.

mod row;
pub(crate) mod spot;

use std::sync::{Mutex, PoisonError};

use mantissa_model::{Checkpoint, ModelConfig};
use mantissa_numerics::recipe::{KernelRecipe, MatmulRecipe, ObservedKernel};
use mantissa_numerics::site::{Phase, Point, Site};

use crate::cache::{CacheShape, KvCache};
use crate::dispatch::Dispatch;
use crate::error::EngineError;
use crate::kernel::attention;
use crate::kernel::heads::Heads;
use crate::kernel::matmul::{matmul, matmul_one};
use crate::kernel::matrix::{CachedLayer, Matrix};
use crate::kernel::{moe, rows};
use crate::logits::{TokenLogprob, top_logprobs};
use crate::pool::{Buffer, Pool};
use crate::rope::RopeTable;
use crate::setup::EngineSetup;
use crate::tap::{RowId, Tap, View};
use crate::weights::{Block, FeedForward, Linear, Stored, Weights};

/// Positions of a prefill that go through the blocks together.
const CHUNK: usize = 512;

/// A model, ready to run in one setup.
#[derive(Debug)]
pub struct Engine<'a> {
    config: &'a ModelConfig,
    setup: EngineSetup,
    dispatch: Dispatch,
    weights: Weights<'a>,
    rope: RopeTable,
    pool: Pool,
    observed: Mutex<Vec<Observed>>,
}

/// [`ObservedKernel`] before its name is copied.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Observed {
    phase: Phase,
    op: &'static str,
    m: usize,
    n: usize,
    k: usize,
    recipe: KernelRecipe,
}

/// One pass over some rows.
struct Pass<'p> {
    phase: Phase,
    /// Rows of the whole pass as dispatch sees them: batch size × positions.
    m: usize,
    rows: &'p [RowId],
    /// Positions that are cached once the whole pass is done.
    keys: usize,
    /// Block at work, counted from 0.
    layer: usize,
}

/// What a pass may attend to.
enum Caches<'c> {
    /// One sequence, many positions.
    Prefill(&'c mut KvCache),
    /// One position of each sequence.
    Decode(&'c mut [KvCache]),
}

impl<'a> Engine<'a> {
    /// Prepares `checkpoint` for `setup`: maps or converts weights, computes rotary tables, starts threads.
    pub fn load(checkpoint: &'a Checkpoint, setup: EngineSetup) -> Result<Self, EngineError> {
        if !setup.isa.is_available() {
            return Err(EngineError::Isa { isa: setup.isa.name() });
        }
        let pool = Pool::new(setup.threads)
            .map_err(|source| EngineError::Threads { threads: setup.threads, source })?;
        let config = checkpoint.config();
        let dispatch = Dispatch { hardware: setup.hardware, dtype: setup.dtype, attention: setup.attention };
        Ok(Self {
            config,
            setup,
            dispatch,
            weights: Weights::load(checkpoint, setup, &pool)?,
            rope: RopeTable::new(config, dispatch.rotary(), setup.context),
            pool,
            observed: Mutex::new(Vec::new()),
        })
    }

    /// The model's dimensions.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        self.config
    }

    /// What was asked for.
    #[must_use]
    pub fn setup(&self) -> EngineSetup {
        self.setup
    }

    /// An empty cache for one sequence of up to `capacity` positions.
    #[must_use]
    pub fn new_cache(&self, capacity: usize) -> KvCache {
        KvCache::new(CacheShape {
            dtype: self.setup.dtype,
            layers: self.config.num_hidden_layers,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            capacity,
        })
    }

    /// Every kernel that has run since the last call, in the order each first ran.
    pub fn take_observed(&self) -> Vec<ObservedKernel> {
        let observed = std::mem::take(&mut *self.observed.lock().unwrap_or_else(PoisonError::into_inner));
        observed
            .into_iter()
            .map(|o| ObservedKernel {
                phase: o.phase,
                op: o.op.to_owned(),
                m: o.m as u64,
                n: o.n as u64,
                k: o.k as u64,
                recipe: o.recipe,
            })
            .collect()
    }

    /// Feeds `ids` to one sequence of a batch in one pass and returns the logits of the last `keep` positions.
    ///
    /// `final_norm` and `logits` are computed, and so tapped, for those positions only.
    ///
    /// *Shape:* returns `min(keep, ids.len()) × vocab_size`. *Rounding:* every site to the storage dtype, by the recipes
    /// that [`Dispatch`] names for a pass of `batch_size · ids.len()` rows.
    /// *Errors:* a token outside the vocabulary, no room in `cache`, no tokens.
    pub fn prefill(
        &self,
        cache: &mut KvCache,
        ids: &[u32],
        batch_size: usize,
        sequence: usize,
        keep: usize,
        taps: &mut dyn Tap,
    ) -> Result<Vec<f32>, EngineError> {
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        self.check_room(cache, ids.len())?;
        self.check_tokens(ids, cache.len())?;
        let keys = cache.len() + ids.len();
        self.dispatch.check(self.config, Phase::Prefill, batch_size, ids.len(), keys)?;
        let first_kept = ids.len() - keep.min(ids.len());
        let mut logits = Vec::with_capacity((ids.len() - first_kept) * self.config.vocab_size);
        for (chunk, ids_of_chunk) in ids.chunks(CHUNK).enumerate() {
            let start = chunk * CHUNK;
            let rows: Vec<RowId> =
                (0..ids_of_chunk.len()).map(|i| RowId { sequence, position: cache.len() + i }).collect();
            let mut pass =
                Pass { phase: Phase::Prefill, m: batch_size * ids.len(), rows: &rows, keys, layer: 0 };
            let x = self.blocks(&mut pass, &mut Caches::Prefill(cache), ids_of_chunk, taps);
            cache.advance(ids_of_chunk.len());
            let from = first_kept.saturating_sub(start).min(rows.len());
            if from < rows.len() {
                pass.rows = &rows[from..];
                logits.extend_from_slice(&self.head(&pass, &x[from * self.config.hidden_size..], taps));
            }
        }
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
        for (cache, id) in caches.iter().zip(ids) {
            self.check_room(cache, 1)?;
            self.check_tokens(&[*id], cache.len())?;
        }
        let rows: Vec<RowId> = caches
            .iter()
            .enumerate()
            .map(|(sequence, cache)| RowId { sequence, position: cache.len() })
            .collect();
        let keys = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        if self.dispatch.is_gpu() && rows.iter().any(|row| row.position + 1 != keys) {
            return Err(EngineError::Uncovered {
                hardware: self.dispatch.hardware.name(),
                what: "a batch of sequences of other lengths".to_owned(),
                why: "padding and masks were not compared",
            });
        }
        self.dispatch.check(self.config, Phase::Decode, ids.len(), 1, keys)?;
        let mut pass = Pass { phase: Phase::Decode, m: ids.len(), rows: &rows, keys, layer: 0 };
        let x = self.blocks(&mut pass, &mut Caches::Decode(caches), ids, taps);
        for cache in caches.iter_mut() {
            cache.advance(1);
        }
        Ok(self.head(&pass, &x, taps).to_vec())
    }

    /// The `k` most probable tokens of one row of logits, most probable first, ties to the lower id; a NaN is never
    /// among them.
    ///
    /// *Shape:* `logits` is `vocab_size`. *Rounding:* [`KernelRecipe::LogSoftmax`].
    pub fn top_logprobs(&self, phase: Phase, logits: &[f32], k: usize) -> Vec<TokenLogprob> {
        let pass = Pass { phase, m: 1, rows: &[], keys: 0, layer: 0 };
        self.observe(&pass, "log_softmax", k, logits.len(), KernelRecipe::LogSoftmax);
        top_logprobs(self.setup.isa, logits, k)
    }

    fn check_room(&self, cache: &KvCache, tokens: usize) -> Result<(), EngineError> {
        let context = cache.capacity().min(self.setup.context);
        if cache.len() + tokens > context {
            return Err(EngineError::Context { position: context, context });
        }
        Ok(())
    }

    fn check_tokens(&self, ids: &[u32], first: usize) -> Result<(), EngineError> {
        let vocabulary = self.config.vocab_size;
        match ids.iter().position(|id| *id as usize >= vocabulary) {
            Some(i) => Err(EngineError::Token { token: ids[i], position: first + i, vocabulary }),
            None => Ok(()),
        }
    }

    /// Embedding and all blocks. Returns the residual stream, `rows × hidden_size`.
    fn blocks(
        &self,
        pass: &mut Pass<'_>,
        caches: &mut Caches<'_>,
        ids: &[u32],
        taps: &mut dyn Tap,
    ) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let mut x = vec![0.0; ids.len() * hidden];
        for (row, id) in x.chunks_exact_mut(hidden).zip(ids) {
            self.weights.embedding.row(*id as usize, self.dispatch.embedding(), row);
        }
        tap(taps, pass, Site::outside(Point::EmbedOut), hidden, &x);
        for (layer, block) in self.weights.blocks.iter().enumerate() {
            pass.layer = layer;
            self.block(pass, block, caches, &mut x, taps);
        }
        x
    }

    fn block(
        &self,
        pass: &Pass<'_>,
        block: &Block<'_>,
        caches: &mut Caches<'_>,
        x: &mut [f32],
        taps: &mut dyn Tap,
    ) {
        let config = self.config;
        let hidden = config.hidden_size;
        let site = |point| Site::at(u32::try_from(pass.layer + 1).unwrap_or(u32::MAX), point);
        tap(taps, pass, site(Point::XIn), hidden, x);
        let normed = self.norm(pass, "input_norm", x, &block.input_norm);
        let attended = self.attention(pass, block, caches, &normed, taps);
        let attn_out = self.linear(pass, "o_proj", &attended, &block.o);
        tap(taps, pass, site(Point::AttnOut), hidden, &attn_out);
        self.residual(pass, x, &attn_out);
        tap(taps, pass, site(Point::XAfterAttn), hidden, x);
        let normed = self.norm(pass, "post_attention_norm", x, &block.post_attention_norm);
        tap(taps, pass, site(Point::FfnNorm), hidden, &normed);
        let mlp_out = match &block.feed_forward {
            FeedForward::Dense(mlp) => {
                let (inner, rows) = (mlp.gate.matrix().rows, pass.rows.len());
                let (mut gate, mut up) = (self.pool.buffer(rows * inner), self.pool.buffer(rows * inner));
                let mut pair = [(mlp.gate.matrix(), &mut gate[..]), (mlp.up.matrix(), &mut up[..])];
                self.products(pass, ["gate_proj", "up_proj"], &normed, false, &mut pair);
                let recipe = self.dispatch.swiglu();
                self.observe(pass, "swiglu", inner, 1, KernelRecipe::SwiGlu(recipe));
                rows::swiglu(self.setup.isa, &self.pool, recipe, &mut gate, &up);
                drop(up);
                self.product(pass, "down_proj", &gate, &mlp.down)
            }
            FeedForward::Sparse { router, experts } => self.experts(pass, router, experts, &normed, taps),
        };
        tap(taps, pass, site(Point::MlpOut), hidden, &mlp_out);
        self.residual(pass, x, &mlp_out);
        tap(taps, pass, site(Point::XOut), hidden, x);
    }

    /// Projections, head norms, RoPE, cache and attention. Returns what goes into the output projection.
    fn attention(
        &self,
        pass: &Pass<'_>,
        block: &Block<'_>,
        caches: &mut Caches<'_>,
        normed: &[f32],
        taps: &mut dyn Tap,
    ) -> Buffer<'_> {
        let (config, isa) = (self.config, self.setup.isa);
        let heads =
            Heads { query: config.num_attention_heads, kv: config.num_key_value_heads, dim: config.head_dim };
        let (wide, narrow) = (heads.query * heads.dim, heads.kv * heads.dim);
        let site = |point| Site::at(u32::try_from(pass.layer + 1).unwrap_or(u32::MAX), point);
        let n = pass.rows.len();
        let (mut q, mut k) = (self.pool.buffer(n * wide), self.pool.buffer(n * narrow));
        let mut v = self.pool.buffer(n * narrow);
        self.products(
            pass,
            ["q_proj", "k_proj", "v_proj"],
            normed,
            block.q.bias.is_some(),
            &mut [
                (block.q.weight.matrix(), &mut q[..]),
                (block.k.weight.matrix(), &mut k[..]),
                (block.v.weight.matrix(), &mut v[..]),
            ],
        );
        for (x, bias) in [(&mut q, &block.q.bias), (&mut k, &block.k.bias), (&mut v, &block.v.bias)] {
            if let Some(bias) = bias {
                self.bias(pass, x, bias);
            }
        }
        if let Some(weight) = &block.q_norm {
            q = self.norm(pass, "q_norm", &q, weight);
        }
        if let Some(weight) = &block.k_norm {
            k = self.norm(pass, "k_norm", &k, weight);
        }
        let tables: Vec<&[f32]> = pass.rows.iter().map(|row| self.rope.position(row.position)).collect();
        let rotary = self.dispatch.rotary();
        self.observe(pass, "rotary_q", wide, 2, KernelRecipe::Rotary(rotary));
        rows::rotary(isa, &self.pool, rotary, &mut q, wide, &tables);
        self.observe(pass, "rotary_k", narrow, 2, KernelRecipe::Rotary(rotary));
        rows::rotary(isa, &self.pool, rotary, &mut k, narrow, &tables);
        tap(taps, pass, site(Point::Q), wide, &q);
        tap(taps, pass, site(Point::K), narrow, &k);
        tap(taps, pass, site(Point::V), narrow, &v);
        let recipe =
            self.dispatch.attention(pass.phase, pass.m * heads.query, heads.group(), heads.dim, pass.keys);
        self.observe(pass, "attention", wide, heads.dim, KernelRecipe::Attention(recipe));
        let mut out = self.pool.buffer(n * wide);
        match caches {
            Caches::Prefill(cache) => {
                let first = cache.len();
                cache.write(isa, pass.layer, 0, first, &k);
                cache.write(isa, pass.layer, 1, first, &v);
                attention::prefill(
                    isa,
                    &self.pool,
                    recipe,
                    heads,
                    cache.layer(pass.layer),
                    [first, pass.keys],
                    &q,
                    &mut out,
                );
            }
            Caches::Decode(caches) => {
                for (i, cache) in caches.iter_mut().enumerate() {
                    let at = cache.len();
                    cache.write(isa, pass.layer, 0, at, &k[i * narrow..(i + 1) * narrow]);
                    cache.write(isa, pass.layer, 1, at, &v[i * narrow..(i + 1) * narrow]);
                }
                let views: Vec<(CachedLayer<'_>, usize)> =
                    caches.iter().map(|c| (c.layer(pass.layer), c.len() + 1)).collect();
                attention::decode(isa, &self.pool, recipe, heads, &views, &q, &mut out);
            }
        }
        out
    }

    /// Routed experts. Tokens are gathered by expert; a token's parts are summed in the order of its routing weights.
    fn experts(
        &self,
        pass: &Pass<'_>,
        router: &Stored<'_>,
        experts: &[crate::weights::Mlp<'_>],
        normed: &[f32],
        taps: &mut dyn Tap,
    ) -> Buffer<'_> {
        let (isa, hidden) = (self.setup.isa, self.config.hidden_size);
        let Some(sparse) = &self.config.moe else {
            unreachable!("sparse blocks come with their configuration")
        };
        let site = |point| Site::at(u32::try_from(pass.layer + 1).unwrap_or(u32::MAX), point);
        let logits = self.product(pass, "router", normed, router);
        tap(taps, pass, site(Point::RouterLogits), sparse.num_experts, &logits);
        let top = sparse.num_experts_per_tok;
        let recipe = self.dispatch.router(sparse.norm_topk_prob);
        self.observe(pass, "router_topk", top, sparse.num_experts, KernelRecipe::Router(recipe));
        let mut chosen: Vec<(usize, f32)> = Vec::with_capacity(pass.rows.len() * top);
        for logits in logits.chunks_exact(sparse.num_experts) {
            chosen.extend(moe::route(isa, recipe, top, logits));
        }
        if taps.wants(site(Point::RouterTopk)) {
            #[expect(clippy::cast_precision_loss, reason = "expert ids are small")]
            let table: Vec<f32> = chosen
                .chunks_exact(top)
                .flat_map(|row| row.iter().map(|(e, _)| *e as f32).chain(row.iter().map(|(_, w)| *w)))
                .collect();
            tap(taps, pass, site(Point::RouterTopk), 2 * top, &table);
        }
        // One expert's output per (token, slot), kept until all slots of a token are there.
        let mut parts = self.pool.buffer(chosen.len() * hidden);
        let mut slots: Vec<Vec<usize>> = vec![Vec::new(); experts.len()];
        chosen.iter().enumerate().for_each(|(slot, (expert, _))| slots[*expert].push(slot));
        for (expert, slots) in experts.iter().zip(&slots) {
            if slots.is_empty() {
                continue;
            }
            let mut x = Vec::with_capacity(slots.len() * hidden);
            for slot in slots {
                x.extend_from_slice(&normed[slot / top * hidden..][..hidden]);
            }
            let inner = expert.gate.matrix().rows;
            let (mut gate, mut up) =
                (self.pool.buffer(slots.len() * inner), self.pool.buffer(slots.len() * inner));
            let mut pair = [(expert.gate.matrix(), &mut gate[..]), (expert.up.matrix(), &mut up[..])];
            for ((w, out), op) in pair.iter_mut().zip(["expert_gate", "expert_up"]) {
                matmul_one(isa, &self.pool, self.expert_recipe(pass, op, *w), &x, *w, out);
            }
            let recipe = self.dispatch.swiglu();
            self.observe(pass, "expert_swiglu", inner, 1, KernelRecipe::SwiGlu(recipe));
            rows::swiglu(isa, &self.pool, recipe, &mut gate, &up);
            let w = expert.down.matrix();
            let mut down = self.pool.buffer(slots.len() * hidden);
            matmul_one(isa, &self.pool, self.expert_recipe(pass, "expert_down", w), &gate, w, &mut down);
            for (slot, part) in slots.iter().zip(down.chunks_exact(hidden)) {
                parts[slot * hidden..][..hidden].copy_from_slice(part);
            }
        }
        let recipe = self.dispatch.expert_sum();
        self.observe(pass, "expert_sum", hidden, top, KernelRecipe::ExpertSum(recipe));
        let weights: Vec<f32> = chosen.iter().map(|(_, weight)| *weight).collect();
        let mut out = self.pool.buffer(pass.rows.len() * hidden);
        moe::expert_sum(isa, recipe, hidden, &parts, &weights, &mut out);
        out
    }

    /// Final norm and logits of the pass's rows.
    fn head(&self, pass: &Pass<'_>, x: &[f32], taps: &mut dyn Tap) -> Buffer<'_> {
        let normed = self.norm(pass, "final_norm", x, &self.weights.final_norm);
        tap(taps, pass, Site::outside(Point::FinalNorm), self.config.hidden_size, &normed);
        let head = self.weights.lm_head.as_ref().unwrap_or(&self.weights.embedding);
        let logits = self.product(pass, "lm_head", &normed, head);
        tap(taps, pass, Site::outside(Point::Logits), self.config.vocab_size, &logits);
        logits
    }

    fn norm(&self, pass: &Pass<'_>, op: &'static str, x: &[f32], weight: &[f32]) -> Buffer<'_> {
        let per_row = x.len() / weight.len() / pass.rows.len().max(1);
        let recipe = self.dispatch.norm(pass.m * per_row, weight.len());
        self.observe(pass, op, weight.len(), weight.len(), KernelRecipe::RmsNorm(recipe));
        let mut out = self.pool.buffer(x.len());
        #[expect(clippy::cast_possible_truncation, reason = "PyTorch adds epsilon to a binary32 tensor")]
        let eps = self.config.rms_norm_eps as f32;
        rows::rms_norm(self.setup.isa, &self.pool, recipe, x, weight, eps, &mut out);
        out
    }

    fn residual(&self, pass: &Pass<'_>, x: &mut [f32], y: &[f32]) {
        let recipe = self.dispatch.residual();
        self.observe(pass, "residual", self.config.hidden_size, 2, KernelRecipe::Residual(recipe));
        rows::add(self.setup.isa, &self.pool, recipe, x, y);
    }

    fn linear(&self, pass: &Pass<'_>, op: &'static str, x: &[f32], linear: &Linear<'_>) -> Buffer<'_> {
        let mut out = self.product_to(pass, op, x, &linear.weight, linear.bias.is_some());
        if let Some(bias) = &linear.bias {
            self.bias(pass, &mut out, bias);
        }
        out
    }

    /// Adds the bias to sums that were left in binary32 for it, and rounds once.
    fn bias(&self, pass: &Pass<'_>, x: &mut [f32], bias: &[f32]) {
        let recipe = self.dispatch.bias();
        self.observe(pass, "bias", bias.len(), 2, KernelRecipe::Bias(recipe));
        rows::add_bias(self.setup.isa, &self.pool, recipe, x, bias);
    }

    fn product(&self, pass: &Pass<'_>, op: &'static str, x: &[f32], weight: &Stored<'_>) -> Buffer<'_> {
        self.product_to(pass, op, x, weight, false)
    }

    /// A product, left in binary32 if a bias is to be added.
    fn product_to(
        &self,
        pass: &Pass<'_>,
        op: &'static str,
        x: &[f32],
        weight: &Stored<'_>,
        biased: bool,
    ) -> Buffer<'_> {
        let w = weight.matrix();
        let recipe = self.matmul_recipe(pass, op, w, biased);
        let mut out = self.pool.buffer(x.len() / w.cols * w.rows);
        matmul_one(self.setup.isa, &self.pool, recipe, x, w, &mut out);
        out
    }

    /// Several products of the same `x`.
    fn products<const N: usize>(
        &self,
        pass: &Pass<'_>,
        ops: [&'static str; N],
        x: &[f32],
        biased: bool,
        weights: &mut [(Matrix<'_>, &mut [f32]); N],
    ) {
        let Some((first, _)) = weights.first() else { return };
        let recipe = self.matmul_recipe(pass, ops[0], *first, biased);
        let mut alike = true;
        for (op, (w, _)) in ops.into_iter().zip(weights.iter()).skip(1) {
            alike &= self.matmul_recipe(pass, op, *w, biased) == recipe;
        }
        if alike {
            return matmul(self.setup.isa, &self.pool, recipe, x, weights);
        }
        for (w, out) in weights {
            let recipe = self.dispatch.matmul(pass.m, w.rows, w.cols, biased);
            matmul_one(self.setup.isa, &self.pool, recipe, x, *w, out);
        }
    }

    fn matmul_recipe(&self, pass: &Pass<'_>, op: &'static str, w: Matrix<'_>, biased: bool) -> MatmulRecipe {
        let recipe = self.dispatch.matmul(pass.m, w.rows, w.cols, biased);
        self.observe(pass, op, w.rows, w.cols, KernelRecipe::Matmul(recipe));
        recipe
    }

    fn expert_recipe(&self, pass: &Pass<'_>, op: &'static str, w: Matrix<'_>) -> MatmulRecipe {
        let recipe = self.dispatch.expert(pass.m, w.rows, w.cols);
        self.observe(pass, op, w.rows, w.cols, KernelRecipe::Matmul(recipe));
        recipe
    }

    /// Notes that a kernel ran. Blocks repeat each other, so each kernel is looked for once per block and kept once.
    fn observe(&self, pass: &Pass<'_>, op: &'static str, n: usize, k: usize, recipe: KernelRecipe) {
        let entry = Observed { phase: pass.phase, op, m: pass.m, n, k, recipe };
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        if !observed.contains(&entry) {
            observed.push(entry);
        }
    }
}

fn tap(taps: &mut dyn Tap, pass: &Pass<'_>, site: Site, width: usize, data: &[f32]) {
    if taps.wants(site) {
        taps.tap(View { site, phase: pass.phase, rows: pass.rows, width, data });
    }
}
