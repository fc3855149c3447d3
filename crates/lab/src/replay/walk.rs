//! Carrying a plan out: each distinct pass once, rows compared as they come, a class left at its first contradiction.
//!
//! Classes of all runs that feed the same tokens to the same engine form a tree of passes. After the prompt all tokens
//! are known, so the steps of all branches go through the model in lockstep, in blocks; they are compared step by step,
//! and the cache is copied only where classes diverge. What ran is compared with what was planned after every walk.

use std::collections::BTreeMap;

use mantissa_compare::ReplayFacts;
use mantissa_engine::generation::Generated;
use mantissa_engine::plan::Computation;
use mantissa_engine::{Engine, EngineError, Forced, KvCache, logprobs_by};
use mantissa_evidence::Record;
use mantissa_evidence::record::{OwnRows, RowKey};
use mantissa_model::Checkpoint;
use mantissa_numerics::recipe::ObservedKernel;
use mantissa_numerics::{Dtype, Phase, Setup};

use super::claim::Logprobs;
use super::job::{Job, tokens};
use super::plan::{Replay, ReplayPlan, RunPlan, Work};
use super::seen::{Chosen, NO_CANDIDATES, Seen, TapGroup, listed};
use crate::error::LabError;
use crate::setup::{Machine, of_passes};

mod prompt;
mod wanted;

use prompt::FirstPass;
use wanted::Wanted;

/// A class of a run whose facts are complete.
///
/// Example: [`Walk`].
#[derive(Debug, Clone, Copy)]
pub struct Finished<'f> {
    /// The run.
    pub run: usize,
    /// Its class, a place in [`RunPlan::classes`].
    pub class: usize,
    /// What was found.
    pub facts: &'f ReplayFacts,
}

/// How far a walk is.
///
/// Example: [`Walk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tokens fed.
    pub done: u64,
    /// Tokens that will have been fed if no further class is left early; falls when one is.
    pub total: u64,
}

/// What to walk, and with what.
///
/// ```
/// use mantissa_evidence::Record;
/// use mantissa_lab::replay::{Claim, Replay, ReplayPlan, Walk};
/// use mantissa_numerics::Setup;
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
/// #     signals: SignalSpec::default(),
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
/// // `directory` holds a record of one sequence.
/// let record = Record::open(&directory)?;
/// let configuration = &record.shell().configurations[0];
/// let claim = Claim::of(configuration, &SomeAxes::default(), &checkpoint);
/// let claimed = claim.candidate.clone().expect("a setup with recipes");
/// let wanted = [vec![claimed, Setup { batch_size: 2, ..claimed }, Setup { batch_size: 3, ..claimed }]];
/// let plan = ReplayPlan::new(&record, &checkpoint, &[claim], &wanted, Replay::Decode, catalogs);
/// // Batches of two and three compute the same: two classes are replayed instead of three setups.
/// assert_eq!(plan.runs[0].classes.iter().map(|class| class.members.len()).collect::<Vec<_>>(), [1, 2]);
/// assert!(plan.work().tokens < plan.alone().tokens);
/// let walk = Walk { checkpoint: &checkpoint, record: &record, plan: &plan, machine, full: false };
/// let mut differs = [None; 2];
/// let mut keep = |finished: mantissa_lab::replay::Finished<'_>| {
///     differs[finished.class] = Some(finished.facts.differs());
///     Ok(())
/// };
/// walk.run(&|_, _| false, &mut keep, &|progress| assert!(progress.done <= progress.total))?;
/// assert_eq!(differs[0], Some(false), "the claim gives every bit of the evidence");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Walk<'w> {
    /// The model.
    pub checkpoint: &'w Checkpoint,
    /// The evidence.
    pub record: &'w Record,
    /// The plan.
    pub plan: &'w ReplayPlan,
    /// Where to run.
    pub machine: Machine,
    /// Whether classes that are contradicted are replayed to their end, for distances.
    pub full: bool,
}

/// Classes that have shared all passes before `pass`, and what those passes left.
struct Branch {
    jobs: Vec<Job>,
    pass: usize,
    cache: KvCache,
    seen: Seen,
}

impl Branch {
    /// A branch for each next pass; the cache is copied only where classes part.
    fn part(self) -> Vec<Self> {
        let Self { jobs, pass, cache, seen } = self;
        let mut parts: Vec<Vec<Job>> = Vec::new();
        for job in jobs {
            match parts.iter_mut().find(|part| part[0].steps[pass] == job.steps[pass]) {
                Some(part) => part.push(job),
                None => parts.push(vec![job]),
            }
        }
        let mut state = Some((cache, seen));
        let count = parts.len();
        let with_state = |(i, jobs)| {
            let taken = if i + 1 == count { state.take() } else { state.clone() };
            taken.map(|(cache, seen)| Self { jobs, pass, cache, seen })
        };
        parts.into_iter().enumerate().filter_map(with_state).collect()
    }

    /// Passes from the next on, at most `most`, that all classes share.
    fn shared(&self, most: usize) -> usize {
        let Some(first) = self.jobs.first() else { return 0 };
        let next = first.steps.iter().skip(self.pass).take(most).enumerate();
        let shared = next
            .take_while(|(i, step)| self.jobs.iter().all(|job| job.steps.get(self.pass + i) == Some(*step)));
        shared.count()
    }
}

/// The most rows that go through the model together, and the most logits.
const ROWS: usize = 256;
const LOGITS: usize = 1 << 25;

/// What a walk tells while it goes.
struct Report<'r> {
    work: Work,
    total: u64,
    finished: &'r mut dyn FnMut(Finished<'_>) -> Result<(), LabError>,
    progress: &'r dyn Fn(Progress),
}

impl Report<'_> {
    fn fed(&mut self, tokens: usize) {
        self.work.passes += 1;
        self.work.tokens += tokens as u64;
        (self.progress)(Progress { done: self.work.tokens, total: self.total });
    }

    /// Hands over jobs of which a pass, from `pass` on, is not covered, and says why; any other error is one.
    fn refuse(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        pass: usize,
        error: LabError,
    ) -> Result<(), LabError> {
        let LabError::Engine(EngineError::Uncovered { .. }) = &error else { return Err(error) };
        for mut job in jobs {
            self.total = self.total.saturating_sub(tokens(std::slice::from_ref(&job), pass));
            job.facts.refused = Some(error.to_string());
            (self.finished)(Finished { run: job.run, class: job.class, facts: &job.facts })?;
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// Replays every class that `known` does not hold, and hands over the facts of each as it is done. Returns what was
    /// computed.
    ///
    /// *Errors:* the engine's, the evidence's, those of `finished`, and [`LabError::Unplanned`] when something else ran
    /// than was planned.
    pub fn run(
        &self,
        known: &dyn Fn(usize, usize) -> bool,
        finished: &mut dyn FnMut(Finished<'_>) -> Result<(), LabError>,
        progress: &dyn Fn(Progress),
    ) -> Result<Work, LabError> {
        let mut engines: BTreeMap<Setup, Vec<Job>> = BTreeMap::new();
        for (run, planned) in self.plan.runs.iter().enumerate() {
            for (class, members) in planned.classes.iter().enumerate() {
                if known(run, class) {
                    continue;
                }
                let engine = of_passes(self.plan.candidates[members.members[0]]);
                let facts =
                    ReplayFacts { passes_in_all: members.path.len() as u64, ..ReplayFacts::default() };
                engines.entry(engine).or_default().push(Job {
                    run,
                    class,
                    steps: planned.steps(members),
                    facts,
                    readings: (0..planned.readings.len()).collect(),
                });
            }
        }
        let trees: Vec<(Setup, Vec<Vec<Job>>)> =
            engines.into_iter().map(|(engine, jobs)| (engine, self.by_first_pass(jobs))).collect();
        let total = trees.iter().flat_map(|(_, trees)| trees).map(|jobs| tokens(jobs, 0)).sum();
        let mut report = Report { work: Work::default(), total, finished, progress };
        for (candidate, trees) in trees {
            let context = trees.iter().flatten().map(|job| self.context(job)).max().unwrap_or(1);
            let setup = self.machine.engine(&candidate, context, &self.plan.catalogs);
            match Engine::load(self.checkpoint, setup) {
                Ok(engine) => {
                    for jobs in trees {
                        self.tree(&engine, jobs, &mut report)?;
                    }
                }
                Err(error) => report.refuse(trees.into_iter().flatten(), 0, error.into())?,
            }
        }
        Ok(report.work)
    }

    fn planned(&self, job: &Job) -> &RunPlan {
        &self.plan.runs[job.run]
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { record: self.record, plan: self.plan }
    }

    fn candidate(&self, job: &Job) -> Setup {
        self.plan.candidates[self.planned(job).classes[job.class].members[0]]
    }

    /// Positions that a job needs.
    fn context(&self, job: &Job) -> usize {
        let run = self.planned(job);
        run.prompt.len() + run.forced.len()
    }

    /// What the first pass feeds.
    fn fed(&self, job: &Job) -> Vec<u32> {
        let run = self.planned(job);
        let positions = run.classes[job.class].positions;
        run.prompt.iter().chain(&run.forced).take(positions).copied().collect()
    }

    fn by_first_pass(&self, mut jobs: Vec<Job>) -> Vec<Vec<Job>> {
        // Stable, so that runs stay in the order of the evidence within a tree.
        jobs.sort_by_cached_key(|job| (self.fed(job), job.steps.clone()));
        let mut trees: Vec<Vec<Job>> = Vec::new();
        for job in jobs {
            match trees.last_mut() {
                Some(tree) if tree[0].steps[0] == job.steps[0] && self.fed(&tree[0]) == self.fed(&job) => {
                    tree.push(job);
                }
                _ => trees.push(vec![job]),
            }
        }
        trees
    }

    /// Walks the classes that share their first pass.
    fn tree(&self, engine: &Engine<'_>, mut jobs: Vec<Job>, report: &mut Report<'_>) -> Result<(), LabError> {
        let Some(first) = jobs.first() else { return Ok(()) };
        let ids = self.fed(first);
        let prompt = self.planned(first).prompt.len();
        let context = jobs.iter().map(|job| self.context(job)).max().unwrap_or(ids.len());
        let wanted = self.wanted();
        let reach = wanted.reach_of(&jobs);
        let mut seen = Seen {
            sites: wanted.sites(&jobs),
            top_k: wanted.top_k(&jobs),
            logprobs: wanted.logprobs(&jobs),
            keeps_logits: jobs.iter().any(|job| self.planned(job).logprobs.are_listed()),
            first: prompt.saturating_sub(reach),
            rows: Vec::new(),
        };
        let mut cache = engine.padded_cache(context, self.candidate(first).padding, prompt);
        let kept = ids.len() - seen.first;
        engine.take_observed();
        let batch_size = self.candidate(first).batch_size;
        let pass = FirstPass { record: self.record, plan: self.plan, batch_size };
        let logits = match pass.run(engine, (&mut cache, &ids, kept), &mut jobs, &mut seen) {
            Ok(logits) => logits,
            Err(error) => return report.refuse(jobs, 0, error),
        };
        self.check_plan(&engine.take_observed(), &jobs[0], 0)?;
        for (i, row) in logits.chunks_exact(engine.config().vocab_size).enumerate() {
            let at = seen.first + i;
            seen.candidates(engine, Phase::Prefill, at, row);
        }
        let last = logits.chunks_exact(engine.config().vocab_size).next_back().unwrap_or_default();
        let chosen = Chosen::of(last);
        report.fed(ids.len());
        let jobs = self.compare(jobs, 0, &seen, &chosen, report)?;
        let mut branches = vec![Branch { jobs, pass: 1, cache, seen }];
        let mut most = 1;
        while !branches.is_empty() {
            let parted: Vec<Branch> = branches.drain(..).flat_map(Branch::part).collect();
            branches = self.advance(engine, parted, most, report)?;
            // A class is mostly left at its first step or never.
            most *= 4;
        }
        Ok(())
    }

    /// Feeds the next steps of all branches, at most `most` of each, as few passes over the weights as memory allows,
    /// and compares step by step. Returns the branches that go on.
    fn advance(
        &self,
        engine: &Engine<'_>,
        branches: Vec<Branch>,
        most: usize,
        report: &mut Report<'_>,
    ) -> Result<Vec<Branch>, LabError> {
        let vocabulary = engine.config().vocab_size;
        let rows = (LOGITS / vocabulary).clamp(1, ROWS);
        let mut rest = Vec::new();
        let mut branches = branches.into_iter().peekable();
        while branches.peek().is_some() {
            let group: Vec<Branch> = branches.by_ref().take(rows).collect();
            let share = (rows / group.len()).clamp(1, most.max(1));
            let lengths: Vec<usize> = group.iter().map(|branch| branch.shared(share)).collect();
            let (mut jobs, mut caches, mut seen) = (Vec::new(), Vec::new(), Vec::new());
            for branch in group {
                jobs.push((branch.jobs, branch.pass));
                caches.push(branch.cache);
                seen.push(branch.seen);
            }
            let forced: Vec<Forced<'_>> = jobs
                .iter()
                .zip(&lengths)
                .map(|((jobs, pass), length)| Forced {
                    tokens: &self.planned(&jobs[0]).forced[pass - 1..][..*length],
                    batch_size: self.candidate(&jobs[0]).batch_size,
                })
                .collect();
            let steps = match engine.forced(&mut caches, &forced, &mut TapGroup(&mut seen)) {
                Ok(steps) => steps,
                Err(error) => {
                    let pass = jobs.iter().map(|(_, pass)| *pass).min().unwrap_or_default();
                    report.refuse(jobs.into_iter().flat_map(|(jobs, _)| jobs), pass, error.into())?;
                    continue;
                }
            };
            let mut left = steps.logits.chunks_exact(vocabulary).zip(&steps.observed);
            let states = jobs.into_iter().zip(lengths).zip(caches.into_iter().zip(seen));
            for (((mut jobs, mut pass), length), (cache, mut seen)) in states {
                let first = cache.len() - length;
                for (step, (logits, ran)) in left.by_ref().take(length).enumerate() {
                    let Some(job) = jobs.first() else { continue };
                    self.check_plan(ran, job, pass)?;
                    seen.candidates(engine, Phase::Decode, first + step, logits);
                    report.fed(1);
                    jobs = self.compare(jobs, pass, &seen, &Chosen::of(logits), report)?;
                    pass += 1;
                }
                if let Some(job) = jobs.first() {
                    seen.forget(self.planned(job).prompt.len() + pass, self.wanted().reach_of(&jobs));
                    rest.push(Branch { jobs, pass, cache, seen });
                }
            }
        }
        Ok(rest)
    }

    /// Holds what ran against what was planned.
    fn check_plan(&self, ran: &[ObservedKernel], job: &Job, pass: usize) -> Result<(), LabError> {
        let planned = &self.plan.computations[job.steps[pass].kind];
        let ran: Vec<Computation> = ran.iter().map(Computation::of).collect();
        if ran == *planned {
            return Ok(());
        }
        let differs = ran.iter().zip(planned).find(|(a, b)| a != b).map(|(a, _)| a);
        Err(LabError::Unplanned {
            setup: self.candidate(job).to_string(),
            pass,
            kernel: differs.or(ran.last()).map_or_else(String::new, |kernel| format!("{kernel:?}")),
        })
    }

    /// Compares what evidence recorded of a pass, and hands over the jobs that are done. Returns the others.
    fn compare(
        &self,
        jobs: Vec<Job>,
        pass: usize,
        seen: &Seen,
        chosen: &Chosen,
        report: &mut Report<'_>,
    ) -> Result<Vec<Job>, LabError> {
        let before = tokens(&jobs, pass + 1);
        let mut rest = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            self.compare_pass(&mut job, pass, seen)?;
            let run = self.planned(&job);
            if self.plan.replay == Replay::Decode
                && let Some(claimed) = run.chosen.get(pass)
            {
                job.facts.tokens += 1;
                let hardware = self.candidate(&job).hardware;
                let at = Generated {
                    prompt: &run.prompt,
                    output: &run.chosen[..pass],
                    longest: run.longest_output,
                };
                job.settle(run, *claimed, pass, &|settings| chosen.allows(*claimed, settings, hardware, at));
            }
            job.facts.passes += 1;
            let over = pass + 1 == job.steps.len();
            if over || (job.facts.differs() && !self.full) {
                if over {
                    self.unfed(&mut job);
                }
                (report.finished)(Finished { run: job.run, class: job.class, facts: &job.facts })?;
            } else {
                rest.push(job);
            }
        }
        report.total = report.total.saturating_sub(before - tokens(&rest, pass + 1));
        Ok(rest)
    }

    fn compare_pass(&self, job: &mut Job, pass: usize, seen: &Seen) -> Result<(), LabError> {
        let (run, length) = (job.run, self.planned(job).prompt.len());
        match self.plan.replay {
            Replay::Decode if pass == 0 => self.window(job, Phase::Prefill, 0, length, seen),
            Replay::Decode => self.window(job, Phase::Decode, pass as u64 - 1, length + pass, seen),
            Replay::Prefill => {
                self.window(job, Phase::Prefill, 0, length, seen)?;
                let positions = self.planned(job).classes[job.class].positions;
                let Some(layout) = self.record.layout(run, Phase::Decode) else { return Ok(()) };
                for step in layout.steps.clone() {
                    let end = length + usize::try_from(step).unwrap_or(usize::MAX).saturating_add(1);
                    if end <= positions {
                        self.window(job, Phase::Decode, step, end, seen)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Compares one window of evidence: the positions that it recorded before `end`, less those that the pass before
    /// recorded too.
    fn window(
        &self,
        job: &mut Job,
        phase: Phase,
        step: u64,
        end: usize,
        seen: &Seen,
    ) -> Result<(), LabError> {
        let record = self.record;
        let Some(layout) = record.layout(job.run, phase) else { return Ok(()) };
        if !layout.steps.contains(&step) {
            return Ok(());
        }
        let dtype = self.candidate(job).dtype;
        let logprobs = self.planned(job).classes[job.class].logprobs;
        let by_engine = self.planned(job).logprobs;
        // Log-probabilities of the prompt's own tokens were compared as they came.
        let scored = phase == Phase::Prefill && self.planned(job).scored;
        let facts = job.facts.phase_mut(phase);
        let (mut scratch, mut evidence, mut replay) = (Vec::new(), Vec::new(), Vec::new());
        let run = job.run;
        let own = |site| {
            let rows = record.own_rows(run, phase, site, step..step + 1);
            rows.into_iter().flat_map(|rows| rows.positions)
        };
        for (&site, tensor) in &layout.tensors {
            for position in own(Some(site)) {
                let key = RowKey { phase, step, position };
                let row = seen.row(end, position);
                let Some(values) = row.and_then(|row| row.sites.get(&site)) else {
                    facts.missing(1, &format!("{site}: this model computes no such row"));
                    continue;
                };
                if values.len() != tensor.dim {
                    let (has, computes) = (tensor.dim, values.len());
                    facts.incomparable(
                        1,
                        &format!("{site}: rows of {has} values, where the model computes {computes}"),
                    );
                    continue;
                }
                let Some(bytes) = record.row(job.run, site, key, &mut scratch)? else {
                    facts.missing(1, &format!("{site}: the evidence holds no such row"));
                    continue;
                };
                replay.clear();
                if tensor.dtype == dtype {
                    values.iter().for_each(|x| dtype.encode(*x, &mut replay));
                    facts.row((step, position), site, dtype, bytes, &replay);
                } else {
                    // Every format widens to binary32 exactly; narrowing the replay could hide a difference.
                    evidence.clear();
                    for i in 0..tensor.dim {
                        evidence.extend(tensor.dtype.decode(bytes, i).to_le_bytes());
                        replay.extend(values[i].to_le_bytes());
                    }
                    facts.row((step, position), site, Dtype::F32, &evidence, &replay);
                }
            }
        }
        let Some(k) = layout.top_k else { return Ok(()) };
        for position in own(None).filter(|position| !scored || *position == -1) {
            let Some(recipe) = logprobs else {
                facts.incomparable(
                    1,
                    "logprobs: the program that recorded them has a log-softmax of its own, of which no recipe is verified",
                );
                continue;
            };
            let found = record.candidates(job.run, RowKey { phase, step, position })?;
            let row = seen.row(end, position);
            if let Logprobs::Engine(decimals) = by_engine {
                match (found, row.and_then(|row| row.logits.as_deref())) {
                    (Some(found), Some(logits)) => {
                        let replay = logprobs_by(self.machine.isa, recipe, logits);
                        listed(facts, (step, position), found, decimals, &replay);
                    }
                    _ => facts.missing(1, NO_CANDIDATES),
                }
                continue;
            }
            let top = row.and_then(|row| row.top.iter().find(|(by, _)| *by == recipe));
            match (found, top) {
                (Some(found), Some((_, top))) => {
                    let evidence: Vec<(u32, f32)> =
                        found.token_ids.into_iter().zip(found.log_probs).collect();
                    let replay: Vec<(u32, f32)> =
                        top.iter().take(k).map(|top| (top.token, top.logprob)).collect();
                    facts.candidates((step, position), &evidence, &replay);
                }
                _ => facts.missing(1, NO_CANDIDATES),
            }
        }
        Ok(())
    }

    /// Counts recorded rows of steps that could not be replayed.
    fn unfed(&self, job: &mut Job) {
        let run = self.planned(job);
        let outputs = self.record.shell().runs[job.run].output_token_ids.len();
        if let Some(why) = run.unchosen.as_ref().filter(|_| self.plan.replay == Replay::Decode && outputs > 0)
        {
            job.facts.decode.missing(0, &format!("output tokens: {why}"));
        }
        if !run.chosen.is_empty() && self.plan.replay == Replay::Decode && outputs > run.chosen.len() {
            let why = "output tokens behind the last recorded step: none of their passes is replayed";
            job.facts.decode.missing(0, why);
        }
        let Some(layout) = self.record.layout(job.run, Phase::Decode) else { return };
        let (reached, why) = match self.plan.replay {
            Replay::Decode => (run.forced.len(), "decode steps whose token ids are not in the file"),
            Replay::Prefill => (
                run.classes[job.class].positions - run.prompt.len(),
                "decode steps behind the last position at which a pass over prompt and output is covered",
            ),
        };
        let sites = layout.tensors.keys().copied().map(Some).chain(layout.top_k.map(|_| None));
        let unfed = reached as u64..layout.steps.end;
        let rows = sites
            .map(|site| OwnRows::count(&self.record.own_rows(job.run, Phase::Decode, site, unfed.clone())))
            .sum();
        if rows > 0 {
            job.facts.decode.missing(rows, why);
        }
    }
}
