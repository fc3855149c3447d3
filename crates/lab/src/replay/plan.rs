//! Which passes a verification needs: candidates as classes by their recipes, before anything runs.

use std::collections::HashMap;

use mantissa_engine::catalogs::CatalogUse;
use mantissa_engine::plan::{Computation, PassShape, PlannedPass, planned, planned_scored};
use mantissa_engine::{Catalogs, EngineError, Hardware};
use mantissa_evidence::{Decoding, Record};
use mantissa_model::graph::Graph;
use mantissa_model::{Checkpoint, ModelConfig, ModelError};
use mantissa_numerics::recipe::LogSoftmaxRecipe;
use mantissa_numerics::setup::{Padding, QuantizedWeights};
use mantissa_numerics::{Dtype, Generation, Phase, Setup};
use serde::{Deserialize, Serialize};

use super::claim::{Claim, Logprobs};
use crate::catalog_use::dispatch;
use crate::setup::of_passes;
use crate::uncovered::uncovered;

/// How evidence is recomputed.
///
/// Example: [`super::Walk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// As it was generated: the prompt's pass, then one forced token per step.
    Decode,
    /// One pass over prompt and output.
    Prefill,
}

impl Replay {
    /// The name used in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Prefill => "prefill",
        }
    }
}

/// What is to be replayed.
///
/// Example: [`super::Walk`].
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    /// How.
    pub replay: Replay,
    /// The setups, each once, in the order first named.
    pub candidates: Vec<Setup>,
    /// One per run of the evidence.
    pub runs: Vec<RunPlan>,
    /// What each kind of pass computes; [`Class::path`] holds places in it.
    pub computations: Vec<Vec<Computation>>,
    /// What is known of libraries' choices.
    pub catalogs: Catalogs,
    /// What the passes of each candidate rest on.
    pub catalog_use: Vec<CatalogUse>,
}

/// What is to be replayed of one run.
///
/// Example: [`super::Walk`].
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Tokens of the longest prompt beside it in its batch, where those are known.
    pub longest: usize,
    /// The output tokens that are forced: those that recorded steps consumed.
    pub forced: Vec<u32>,
    /// The output tokens that the replay's logits are set against; empty unless greedy decoding is claimed.
    pub chosen: Vec<u32>,
    /// Settings that they may have been chosen by: those stated, else none and the model's own.
    pub readings: Vec<Generation>,
    /// Why tokens are set against nothing, where that is no matter of course.
    pub unchosen: Option<String>,
    /// Most tokens of the output.
    pub longest_output: usize,
    /// What is known of the log-probabilities.
    pub logprobs: Logprobs,
    /// Whether those of the prompt's own tokens are among them, as an engine hands them out.
    pub scored: bool,
    /// Candidates that are replayed, as classes.
    pub classes: Vec<Class>,
    /// Candidates that cannot be, and why.
    pub unchecked: Vec<(usize, String)>,
    /// Why nothing of this run can be replayed.
    pub refused: Option<String>,
}

/// Candidates whose bits are the same, because the same is computed.
///
/// Example: [`super::Walk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Places in [`ReplayPlan::candidates`]; the first is computed.
    pub members: Vec<usize>,
    /// What each pass computes.
    pub path: Vec<usize>,
    /// Positions of the first pass: the prompt, and in a replay by prefill the output as far as it is covered.
    pub positions: usize,
    /// Padding of all members.
    pub padding: Padding,
    /// The recipe by which log-probabilities are compared; `None` where none is known.
    pub logprobs: Option<LogSoftmaxRecipe>,
}

/// What the setups of a class have in common.
type ClassKey = (Dtype, QuantizedWeights, Padding, usize, Vec<usize>, Option<LogSoftmaxRecipe>);

/// Engine, prompt and steps of a class.
type Path<'p> = (Setup, &'p [u32], Vec<Step>);

/// How much there is to compute, in forward passes and in tokens fed.
///
/// Example: [`super::Walk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Work {
    /// Forward passes.
    pub passes: u64,
    /// Tokens they feed.
    pub tokens: u64,
}

impl ReplayPlan {
    /// Plans the replay of every run of `record`: `wanted[c]` are the setups for the runs of configuration `c`, with
    /// the recipes that `catalogs` know.
    #[must_use]
    pub fn new(
        record: &Record,
        checkpoint: &Checkpoint,
        claims: &[Claim],
        wanted: &[Vec<Setup>],
        replay: Replay,
        catalogs: &Catalogs,
    ) -> Self {
        let mut plan = Self {
            replay,
            candidates: Vec::new(),
            runs: Vec::new(),
            computations: Vec::new(),
            catalogs: catalogs.clone(),
            catalog_use: Vec::new(),
        };
        for candidate in wanted.iter().flatten() {
            if !plan.candidates.contains(candidate) {
                plan.candidates.push(*candidate);
            }
        }
        let mut shapes = Shapes::new(checkpoint.config(), catalogs);
        for index in 0..record.shell().runs.len() {
            let run = &record.shell().runs[index];
            let configuration = claims.iter().position(|claim| claim.config_id == run.config_id);
            let Some((claim, wanted)) = configuration.map(|c| (&claims[c], &wanted[c])) else { continue };
            let mut planned = RunPlan::of(record, index, claim, checkpoint);
            if planned.refused.is_none() {
                planned.classify(replay, &plan.candidates, wanted, &mut shapes);
            }
            plan.runs.push(planned);
        }
        plan.computations = shapes.computations;
        let none = |candidate: &Setup| CatalogUse::new(candidate.hardware);
        let catalog_use = &mut shapes.catalog_use;
        plan.catalog_use =
            plan.candidates.iter().map(|c| catalog_use.remove(c).unwrap_or_else(|| none(c))).collect();
        plan
    }

    /// The work of all classes, each pass once where classes or runs share it.
    #[must_use]
    pub fn work(&self) -> Work {
        let mut paths: Vec<Path<'_>> = Vec::new();
        for run in &self.runs {
            for class in &run.classes {
                // The batch size is in the kinds of passes already.
                let engine = of_passes(self.candidates[class.members[0]]);
                paths.push((engine, &run.prompt, run.steps(class)));
            }
        }
        paths.sort();
        let mut work = Work::default();
        for (i, (engine, prompt, steps)) in paths.iter().enumerate() {
            let shared = i.checked_sub(1).map_or(0, |before| {
                let (e, p, s) = &paths[before];
                let same = (e, p) == (engine, prompt);
                if same { s.iter().zip(steps).take_while(|(a, b)| a == b).count() } else { 0 }
            });
            for (pass, Step { fed, .. }) in steps.iter().enumerate().skip(shared) {
                work.passes += 1;
                work.tokens += if pass == 0 { *fed as u64 } else { 1 };
            }
        }
        work
    }

    /// The work if every candidate were replayed by itself, as generated: all rows of its batch.
    #[must_use]
    pub fn alone(&self) -> Work {
        let mut work = Work::default();
        for run in &self.runs {
            for class in &run.classes {
                for member in &class.members {
                    let rows = self.candidates[*member].batch_size as u64;
                    work.passes += class.path.len() as u64;
                    work.tokens += rows * (class.positions + class.path.len() - 1) as u64;
                }
            }
        }
        work
    }
}

/// A pass of a class: equal steps after equal ones leave the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    /// The kind of pass, a place in [`ReplayPlan::computations`].
    pub kind: usize,
    /// Positions that the first pass feeds; later the token.
    pub fed: usize,
    pub padding: Padding,
}

impl RunPlan {
    fn of(record: &Record, index: usize, claim: &Claim, checkpoint: &Checkpoint) -> Self {
        let config = checkpoint.config();
        let run = &record.shell().runs[index];
        let decode = record.layout(index, Phase::Decode);
        let steps = decode.map_or(0, |layout| layout.steps.end);
        let steps = usize::try_from(steps).unwrap_or(usize::MAX).min(run.output_token_ids.len());
        let (readings, unchosen) = readings(claim, checkpoint.generation());
        let forced = run.output_token_ids[..steps].to_vec();
        let mut planned = Self {
            prompt: run.prompt_token_ids.clone(),
            longest: run.neighbours.iter().map(|beside| beside.prompt_token_ids.len()).max().unwrap_or(0),
            chosen: if readings.is_empty() { Vec::new() } else { run.output_token_ids.clone() },
            longest_output: run.output_token_ids.len(),
            readings,
            unchosen,
            forced,
            logprobs: claim.logprobs,
            scored: claim.logprobs.are_listed() && {
                let prefill = record.layout(index, Phase::Prefill);
                prefill.is_some_and(|layout| layout.positions.iter().any(|position| *position < -1))
            },
            classes: Vec::new(),
            unchecked: Vec::new(),
            refused: None,
        };
        planned.chosen.truncate(steps + 1);
        planned.refused = planned.refusal(record, index, config);
        planned
    }

    /// Why a run cannot be replayed, with what would be enough.
    fn refusal(&self, record: &Record, index: usize, config: &ModelConfig) -> Option<String> {
        let run = &record.shell().runs[index];
        let vocabulary = config.vocab_size;
        let beyond = |ids: &[u32]| ids.iter().any(|id| *id as usize >= vocabulary);
        if self.prompt.is_empty() {
            return Some(if run.prompt_text.is_empty() {
                "its prompt's token ids are not in the file, so nothing can be fed; the exact ids that were fed would be enough"
            } else {
                "its prompt's token ids are not in the file, only a text, so nothing can be fed; the exact ids that were fed would be enough, or --tokenize-prompt, which makes ids of the text"
            }
            .to_owned());
        }
        if record.layout(index, Phase::Prefill).is_none() && record.layout(index, Phase::Decode).is_none() {
            return Some(
                "it holds no signals; hidden states or keys of any layer would be enough".to_owned(),
            );
        }
        if beyond(&self.prompt) || beyond(&run.output_token_ids) {
            return Some(format!(
                "its token ids reach beyond the model's vocabulary of {vocabulary}, so another model was fed; the model that was recorded would be enough"
            ));
        }
        if self.prompt.len() + self.forced.len() > config.max_position_embeddings {
            return Some(format!(
                "its {} positions are more than the model's context of {}; the model that was recorded would be enough",
                self.prompt.len() + self.forced.len(),
                config.max_position_embeddings
            ));
        }
        None
    }

    /// Why a candidate's padding cannot be that of the run's batch.
    fn too_little_padding(&self, candidate: &Setup) -> Option<String> {
        let (own, longest) = (self.prompt.len(), self.longest);
        let needed = longest.saturating_sub(own);
        (candidate.padding.positions() < needed).then(|| {
            format!(
                "its batch holds a prompt of {longest} tokens beside this one of {own}, which was padded; --claim padding=left:{needed} (or right) says how"
            )
        })
    }

    fn classify(&mut self, replay: Replay, candidates: &[Setup], wanted: &[Setup], shapes: &mut Shapes<'_>) {
        let mut classes: HashMap<ClassKey, usize> = HashMap::new();
        for candidate in wanted {
            let Some(place) = candidates.iter().position(|known| known == candidate) else { continue };
            if let Err(refused) = uncovered(candidate) {
                self.unchecked.push((place, refused.to_string()));
                continue;
            }
            if let Some(refused) = self.too_little_padding(candidate) {
                self.unchecked.push((place, refused));
                continue;
            }
            match self.path(replay, candidate, shapes) {
                Err(error) => self.unchecked.push((place, error.to_string())),
                Ok((positions, path)) => {
                    let Setup { dtype, quantization, padding, .. } = *candidate;
                    let logprobs = match self.logprobs {
                        Logprobs::Unknown => None,
                        Logprobs::Stated(recipe) => Some(recipe),
                        Logprobs::Engine(_) => {
                            Some(dispatch(candidate, shapes.catalogs).log_softmax_of(shapes.config))
                        }
                    };
                    let key = (dtype, quantization, padding, positions, path.clone(), logprobs);
                    let class = *classes.entry(key).or_insert_with(|| {
                        self.classes.push(Class { members: Vec::new(), path, positions, padding, logprobs });
                        self.classes.len() - 1
                    });
                    self.classes[class].members.push(place);
                }
            }
        }
    }

    /// Positions of the first pass, and what each pass computes.
    fn path(
        &self,
        replay: Replay,
        candidate: &Setup,
        shapes: &mut Shapes<'_>,
    ) -> Result<(usize, Vec<usize>), EngineError> {
        let batch_size = candidate.batch_size;
        let length = self.prompt.len();
        if replay == Replay::Prefill {
            let (positions, kind) =
                shapes.longest(candidate, self.scored, length, length + self.forced.len())?;
            return Ok((positions, vec![kind]));
        }
        let padding = candidate.padding.positions();
        let prompt = PassShape::prefill(batch_size, length).beside(padding);
        let mut path = vec![shapes.kind(candidate, prompt, self.scored)?];
        for step in 1..=self.forced.len() {
            let shape = PassShape::decode(batch_size, length + step).beside(padding);
            path.push(shapes.kind(candidate, shape, false)?);
        }
        Ok((length, path))
    }

    /// What each pass of a class computes and feeds.
    pub(super) fn steps(&self, class: &Class) -> Vec<Step> {
        let fed = |i: usize| i.checked_sub(1).map_or(class.positions, |i| self.forced[i] as usize);
        let step = |(i, kind): (usize, &usize)| Step { kind: *kind, fed: fed(i), padding: class.padding };
        class.path.iter().enumerate().map(step).collect()
    }
}

/// Engines whose repetition penalty on a GPU is known: our own computes that of transformers.
const MEASURED: [&str; 2] = ["mantissa-cpu", "transformers"];

/// What output tokens may have been chosen by, and why they are set against nothing.
///
/// Evidence that states no settings may come from `generate`, which takes the model's own, or from a loop of one's own.
fn readings(claim: &Claim, own: Result<&Generation, &ModelError>) -> (Vec<Generation>, Option<String>) {
    // A GPU multiplies by the reciprocal in transformers, which is what was measured.
    let unmeasured = claim.engine.as_deref().filter(|engine| !MEASURED.contains(engine));
    let unmeasured =
        unmeasured.filter(|_| claim.candidate.as_ref().is_ok_and(|setup| setup.hardware != Hardware::Cpu));
    let why_not = |settings: &Generation| {
        let penalty = settings.repetition_penalty.and(unmeasured);
        let penalty = penalty.map(|engine| format!("how {engine} applies {settings} on a GPU is unknown"));
        let padded = claim.candidate.as_ref().is_ok_and(|setup| setup.padding != Padding::None);
        let padded = padded && settings.reads_the_prompt();
        settings.not_computed().or(penalty).or_else(|| {
            padded.then(|| format!("{settings} counts the tokens of padding, which are not in the file"))
        })
    };
    match (claim.decoding, &claim.generation) {
        (Some(Decoding::Sampled), None) => {
            (Vec::new(), Some("they were sampled, and draws are not computed again".to_owned()))
        }
        (Some(Decoding::Sampled), Some(settings)) => {
            let settings = Generation { do_sample: true, ..settings.clone() };
            (Vec::new(), settings.not_computed())
        }
        (Some(Decoding::Greedy), Some(settings)) => match why_not(settings) {
            None => (vec![settings.clone()], None),
            why => (Vec::new(), why),
        },
        (Some(Decoding::Greedy), None) => match own.map(Generation::greedy) {
            Err(fault) => (Vec::new(), Some(format!("the model's own settings are not known: {fault}"))),
            Ok(own) if own.is_plain() => (vec![Generation::default()], None),
            // `generate` would have chosen by settings that nobody computes here: that contradicts nobody.
            Ok(own) => match why_not(&own) {
                None => (vec![Generation::default(), own], None),
                why => (Vec::new(), why),
            },
        },
        (Some(Decoding::TeacherForced) | None, _) => (Vec::new(), None),
    }
}

/// Kinds of passes, each found once.
struct Shapes<'c> {
    config: &'c ModelConfig,
    graph: Graph,
    catalogs: &'c Catalogs,
    computations: Vec<Vec<Computation>>,
    kinds: HashMap<Vec<Computation>, usize>,
    known: HashMap<(Setup, PassShape, bool), usize>,
    catalog_use: HashMap<Setup, CatalogUse>,
}

impl<'c> Shapes<'c> {
    fn new(config: &'c ModelConfig, catalogs: &'c Catalogs) -> Self {
        Self {
            config,
            graph: config.graph(),
            catalogs,
            computations: Vec::new(),
            kinds: HashMap::new(),
            known: HashMap::new(),
            catalog_use: HashMap::new(),
        }
    }

    /// The kind of a pass; of one that leaves logits of every position where it is `scored`.
    fn kind(&mut self, candidate: &Setup, shape: PassShape, scored: bool) -> Result<usize, EngineError> {
        if let Some(kind) = self.known.get(&(*candidate, shape, scored)) {
            return Ok(*kind);
        }
        let dispatch = dispatch(candidate, self.catalogs);
        let PlannedPass { kernels, catalog_use } = if scored {
            planned_scored(dispatch, self.config, &self.graph, shape)?
        } else {
            planned(dispatch, &self.graph, shape)?
        };
        let computed: Vec<Computation> = kernels.iter().map(Computation::of).collect();
        self.catalog_use
            .entry(*candidate)
            .or_insert_with(|| CatalogUse::new(candidate.hardware))
            .join(catalog_use);
        let next = self.computations.len();
        let kind = *self.kinds.entry(computed).or_insert_with_key(|computed| {
            self.computations.push(computed.clone());
            next
        });
        self.known.insert((*candidate, shape, scored), kind);
        Ok(kind)
    }

    /// The longest pass of at least `least` positions that computes the rows of the first `least` as a pass over them
    /// alone, and is covered; up to eight below `most` are tried. On a GPU the length of a pass decides how each of its
    /// rows is summed (which remainder comes first, lanes of a softmax), so there it is the pass over `least`.
    fn longest(
        &mut self,
        candidate: &Setup,
        scored: bool,
        least: usize,
        most: usize,
    ) -> Result<(usize, usize), EngineError> {
        let padding = candidate.padding.positions();
        let shape = |positions| PassShape::prefill(candidate.batch_size, positions).beside(padding);
        let alone = self.kind(candidate, shape(least), scored)?;
        if candidate.hardware == Hardware::Cpu {
            for positions in (least.max(most.saturating_sub(8))..=most).rev() {
                if self.kind(candidate, shape(positions), scored).is_ok_and(|kind| kind == alone) {
                    return Ok((positions, alone));
                }
            }
        }
        Ok((least, alone))
    }
}
