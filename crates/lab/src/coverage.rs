//! What share of setups can be predicted, and what keeps the others from it, before anything runs.
//!
//! A run is a prompt and decode steps after it. It is covered if every kernel of every of its passes is, and its basis
//! is the weakest of them.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::catalog::{Batched, Linear};
use mantissa_engine::catalogs::CatalogUse;
use mantissa_engine::{Catalogs, Missing};
use mantissa_model::graph::Graph;
use mantissa_numerics::setup::{Attention, Basis};
use mantissa_numerics::site::Phase;
use mantissa_numerics::{Dtype, Setup};
use serde::Serialize;

use crate::catalog_use::{dispatch, passes};

/// A run that is asked about.
///
/// Example: [`Tally`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRun {
    /// Which of the models.
    pub model: usize,
    /// Its setup.
    pub setup: Setup,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Decode steps after it.
    pub steps: usize,
}

/// Runs counted by what they rest on, and by what they lack.
///
/// ```
/// use mantissa_engine::{Attention, Catalogs, Hardware};
/// use mantissa_lab::coverage::{PlannedRun, Tally};
/// use mantissa_model::synth::{Preset, SynthRequest, SynthSpec};
/// use mantissa_numerics::Setup;
///
/// let request = SynthRequest { preset: Some(Preset::SmolLm2_135M), ..SynthRequest::default() };
/// let graph = SynthSpec::new(&request)?.config().graph();
/// let mut tally = Tally::default();
/// for batch_size in [1, 1009] {
///     let setup = Setup { hardware: Hardware::H200, batch_size, ..Setup::default() };
///     tally.add(&graph, Catalogs::built_in(), PlannedRun { model: 0, setup, prompt: 512, steps: 2 });
/// }
/// // So many sequences have 9,081 heads; nobody asked for their products.
/// assert_eq!((tally.runs(), tally.refused()), (2, 1));
/// let most = tally.causes().next().expect("a cause");
/// assert_eq!((most.runs, most.alone), (1, 1));
/// let what = "eager attention of 9081 heads of 64: prefill over 512, decode over 513-514 keys";
/// assert_eq!(most.what, what);
/// let command = most.command.expect("a measurement");
/// assert!(command.ends_with("--attention eager --batch-sizes 1009 --prompts 512 --keys 513-514"), "{command}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Tally {
    covered: BTreeMap<Basis, usize>,
    refused: usize,
    lacking: BTreeMap<(usize, Lack), Lacking>,
}

/// What one measurement would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    /// What the library picks for products with a model's weights in a format.
    Weights(Dtype),
    /// What it picks for products of one attention over so many heads, of so many elements each.
    Attention(Attention, Dtype, usize, usize),
    /// Nothing that a catalog has.
    Kernel(&'static str),
}

/// How often something is missing, and where.
#[derive(Debug, Clone, Default)]
struct Lacking {
    runs: usize,
    alone: usize,
    batch_size: usize,
    weights: BTreeSet<Linear>,
    /// Least and most keys of prefills that lack it, and of decode steps.
    prompts: Option<[usize; 2]>,
    keys: Option<[usize; 2]>,
}

/// One cause of refusals.
///
/// Example: [`Tally`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What is missing.
    pub what: String,
    /// Which of the models lacks it.
    #[serde(skip)]
    pub model: usize,
    /// Runs that lack it.
    pub runs: usize,
    /// Runs that lack nothing else.
    pub alone: usize,
    /// The command that measures it on the GPU that is meant, with MODEL and FILE to be filled in; absent where no
    /// catalog lifts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Tally {
    /// Counts a run of the model with this graph; true if it is covered.
    pub fn add(&mut self, graph: &Graph, catalogs: &Catalogs, run: PlannedRun) -> bool {
        let dispatch = dispatch(&run.setup, catalogs);
        let mut found = CatalogUse::new(run.setup.hardware);
        let mut lacks: BTreeMap<Lack, Lacking> = BTreeMap::new();
        let mut covered = true;
        for shape in passes(&run.setup, [run.prompt, run.steps]) {
            if let Ok(used) = dispatch.catalog_use(graph, shape) {
                found.join(used);
                continue;
            }
            covered = false;
            for missing in dispatch.refusals(graph, shape) {
                let lack = match missing {
                    Missing::Linear(weight) => Lack::Weights(weight.dtype),
                    Missing::Batched(attention, dtype, Batched { heads, dim, .. }) => {
                        Lack::Attention(attention, dtype, heads, dim)
                    }
                    Missing::Kernel(why) => Lack::Kernel(why),
                };
                let lacking = lacks.entry(lack).or_default();
                if let Missing::Linear(weight) = missing {
                    lacking.weights.insert(weight);
                }
                let keys = match shape.phase {
                    Phase::Prefill => &mut lacking.prompts,
                    Phase::Decode => &mut lacking.keys,
                };
                *keys = spanning(*keys, Some([shape.keys; 2]));
            }
        }
        if covered {
            *self.covered.entry(found.basis).or_default() += 1;
            return true;
        }
        self.refused += 1;
        let alone = usize::from(lacks.len() == 1);
        for (lack, of_run) in lacks {
            let lacking = self.lacking.entry((run.model, lack)).or_default();
            lacking.runs += 1;
            lacking.alone += alone;
            lacking.batch_size = run.setup.batch_size;
            lacking.weights.extend(of_run.weights);
            lacking.prompts = spanning(lacking.prompts, of_run.prompts);
            lacking.keys = spanning(lacking.keys, of_run.keys);
        }
        false
    }

    /// Runs that were counted.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.refused + self.covered.values().sum::<usize>()
    }

    /// Those that are covered, by what they rest on.
    ///
    /// Example: [`Tally`].
    #[must_use]
    pub const fn covered(&self) -> &BTreeMap<Basis, usize> {
        &self.covered
    }

    /// Those that are not.
    #[must_use]
    pub const fn refused(&self) -> usize {
        self.refused
    }

    /// Causes of refusals, first the one without which most runs would be covered.
    pub fn causes(&self) -> impl Iterator<Item = Cause> {
        let mut causes: Vec<Cause> =
            self.lacking.iter().map(|((model, lack), of)| lack.cause(*model, of)).collect();
        causes.sort_by_key(|cause| std::cmp::Reverse((cause.alone, cause.runs)));
        causes.into_iter()
    }
}

/// The span of two.
fn spanning(a: Option<[usize; 2]>, b: Option<[usize; 2]>) -> Option<[usize; 2]> {
    match (a, b) {
        (Some([least, most]), Some([from, to])) => Some([least.min(from), most.max(to)]),
        (one, None) | (None, one) => one,
    }
}

impl Lack {
    fn cause(self, model: usize, of: &Lacking) -> Cause {
        let span = |[least, most]: [usize; 2]| {
            if least == most { least.to_string() } else { format!("{least}-{most}") }
        };
        let (what, command) = match self {
            Self::Weights(dtype) => {
                let weights: Vec<String> = of.weights.iter().map(ToString::to_string).collect();
                let what = format!("products with {}", weights.join(", "));
                (what, Some(Missing::command_for_weights(dtype)))
            }
            Self::Attention(attention, dtype, heads, dim) => {
                let [prompts, keys] = [of.prompts, of.keys].map(|keys| keys.map(span));
                let at = [("prefill", &prompts), ("decode", &keys)]
                    .into_iter()
                    .filter_map(|(phase, keys)| Some(format!("{phase} over {}", keys.as_ref()?)));
                let at = at.collect::<Vec<_>>().join(", ");
                let of_f16 = if dtype == Dtype::F16 { "f16 " } else { "" };
                let name = attention.name();
                let what = format!("{of_f16}{name} attention of {heads} heads of {dim}: {at} keys");
                let [prompts, keys] = [prompts.as_ref(), keys.as_ref()];
                let command = Missing::command_for_attention(attention, dtype, of.batch_size, prompts, keys);
                (what, Some(command))
            }
            Self::Kernel(why) => (why.to_owned(), None),
        };
        Cause { what, model, runs: of.runs, alone: of.alone, command }
    }
}

/// Runs to be drawn from.
///
/// ```
/// use mantissa_lab::coverage::Space;
/// use mantissa_numerics::Setup;
///
/// let space = Space { models: 3, setups: vec![Setup::default()], prompts: [32, 16_384], steps: 30 };
/// let drawn: Vec<usize> = space.draw(1).take(1000).map(|run| run.prompt).collect();
/// // The same seed draws the same; a third of nine octaves lies below 256 tokens.
/// assert!(space.draw(1).take(1000).map(|run| run.prompt).eq(drawn.iter().copied()));
/// let short = drawn.iter().filter(|prompt| **prompt < 256).count();
/// assert!((270..400).contains(&short), "{short}");
/// ```
#[derive(Debug, Clone)]
pub struct Space {
    /// How many models there are.
    pub models: usize,
    /// Setups, each as likely as another.
    pub setups: Vec<Setup>,
    /// Least and most tokens of a prompt, drawn evenly on a logarithmic scale.
    pub prompts: [usize; 2],
    /// Decode steps of every run.
    pub steps: usize,
}

impl Space {
    /// Runs without end, by a seed.
    ///
    /// # Panics
    /// When there is no model or no setup.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a length drawn on a logarithmic scale is an approximation of nothing"
    )]
    pub fn draw(&self, seed: u64) -> impl Iterator<Item = PlannedRun> {
        assert!(self.models > 0 && !self.setups.is_empty(), "there is nothing to draw from");
        let mut stream =
            blake3::Hasher::new().update(b"mantissa coverage").update(&seed.to_le_bytes()).finalize_xof();
        let mut next = move || {
            let mut bytes = [0; 8];
            stream.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let mut below = move |bound: usize| ((u128::from(next()) * bound as u128) >> 64) as usize;
        std::iter::from_fn(move || {
            let (model, setup) = (below(self.models), self.setups[below(self.setups.len())]);
            let [least, most] = self.prompts.map(|prompt| prompt.max(1));
            let share = below(1 << 53) as f64 / (1_u64 << 53) as f64;
            let scale = ((most + 1) as f64 / least as f64).ln();
            let prompt = (least as f64 * (share * scale).exp()) as usize;
            Some(PlannedRun { model, setup, prompt: prompt.clamp(least, most), steps: self.steps })
        })
    }
}
