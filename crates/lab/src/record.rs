//! Recording: prompts through the engine into evidence, repetition by repetition.
//!
//! Each finished repetition is put on disk whole, under `.unfinished` in the output folder, with the kernels that
//! ran. A record that was killed continues after the last of them and ends with the same bytes. Clocks are
//! kept apart (`timing.json`), so manifest and run files are a function of the setup.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mantissa_engine::{Basis, Engine, KvCache};
use mantissa_evidence::{
    Configuration, ConfigurationExtras, Decoding, Digest, Experiment, ExperimentMetadata, ExtractionConfig,
    FORMAT_VERSION, ModelIdentity, Neighbour, NotFinite, Outcome, PromptSource, Provenance, Reproducibility,
    Run, Runtime, UsedCatalog, container,
};
use mantissa_model::Checkpoint;
use mantissa_numerics::recipe::ObservedKernel;
use mantissa_numerics::setup::Axis;
use mantissa_numerics::{Generation, Point, Setup};

mod folder;
mod recorder;

pub use folder::lock;
pub use recorder::Recorder;

use folder::{RecordPlan, UNFINISHED, claim_folder, give_back, repetition_folder};
pub(crate) use recorder::computed;

use crate::capture::{Capture, Place, Watch};
use crate::catalog_use;
use crate::declared;
use crate::environment::environment;
use crate::error::LabError;
use crate::prompt::{Prompt, PromptSet};
use crate::session::{Kept, Session};
use crate::setup::of_engine;

/// What happens during a record, for a progress display.
///
/// Example: [`Recorder`].
#[derive(Debug, Clone, Copy)]
pub enum Event<'e> {
    /// Weights are being hashed.
    Hashing {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A repetition starts, is taken over from an earlier attempt, or ends.
    Repetition {
        /// Its configuration.
        config_id: &'e str,
        /// Reference prompt.
        reference: usize,
        /// Repetition.
        rep: usize,
        /// Repetitions before it, over all configurations.
        index: usize,
        /// Repetitions in all.
        total: usize,
        /// Whether it was found on disk.
        resumed: bool,
    },
    /// Tokens that have been fed, over all repetitions that were not found on disk.
    Tokens {
        /// Done.
        done: usize,
        /// In all.
        total: usize,
    },
}

/// What a record left.
///
/// Example: [`Recorder`].
#[derive(Debug)]
pub struct Recorded {
    /// The container's folder.
    pub directory: PathBuf,
    /// Its contents.
    pub experiment: Experiment,
    /// The weakest of what its recipes rest on.
    pub basis: Basis,
    /// Repetitions that were taken over from an earlier attempt.
    pub resumed: usize,
    /// Whether the record was there already.
    pub existed: bool,
}

impl Recorded {
    /// Whether every configuration's repetitions agreed to the bit, as far as they were compared.
    #[must_use]
    pub fn reproducible(&self) -> bool {
        let extras = self.experiment.configurations.iter().filter_map(|c| c.mantissa.as_ref());
        extras.into_iter().all(|e| !matches!(e.reproducibility.outcome, Outcome::Divergent { .. }))
    }
}

impl Recorder<'_> {
    /// Records into the folder `out`, taking up what an earlier attempt at the same record left there.
    ///
    /// *Errors:* an unusable specification, documents that are too short, a folder that holds something else, a full
    /// disk; nothing half-written is left in place of a result.
    pub fn record(&self, out: &Path, progress: &dyn Fn(Event<'_>)) -> Result<Recorded, LabError> {
        let spec = self.spec;
        spec.check(self.checkpoint)?;
        let prompts = self.prompts()?;
        self.check_size(&prompts)?;
        let mut coverage = self.coverage(&prompts);
        // A record that is there says first whether it is this one; what is refused leaves no folder, and no weights
        // are read for it.
        if !folder::is_claimed(out) {
            folder::check_free(out)?;
            if let Some(error) = coverage.iter_mut().find_map(|cell| cell.refused.take()) {
                return Err(error.into());
            }
        }
        let basis = coverage.iter().map(|cell| cell.found.basis).max().unwrap_or(Basis::Own);
        let catalogs = coverage.iter().map(|cell| catalog_use::used(&cell.found));
        let catalogs: Vec<Vec<UsedCatalog>> = catalogs.collect::<Result<_, _>>()?;
        let weights_digest = self.weights_digest(progress)?;
        let all = prompts.references.iter().chain(prompts.neighbours.iter().flatten());
        let used: BTreeSet<&UsedCatalog> = catalogs.iter().flatten().collect();
        let plan = RecordPlan {
            tool: TOOL,
            weights_digest,
            spec,
            prompt_ids_digest: Digest::of_ids(&all.flat_map(|p| p.ids.iter().copied()).collect::<Vec<_>>()),
            catalogs: used.into_iter().cloned().collect(),
        };
        let (finished, _lock) = claim_folder(out, &plan)?;
        if let Some(experiment) = finished {
            return Ok(Recorded { directory: out.to_owned(), experiment, basis, resumed: 0, existed: true });
        }
        // A record that could not even begin leaves nothing.
        let recorded = self.configurations(&prompts, weights_digest, catalogs, out, progress);
        let (configurations, runs, resumed) = recorded.inspect_err(|_| give_back(out))?;
        let experiment =
            Experiment { metadata: self.metadata(&prompts, weights_digest), configurations, runs };
        container::write(out, &experiment)?;
        let scratch = out.join(UNFINISHED);
        std::fs::remove_dir_all(&scratch).map_err(|source| LabError::io(&scratch, "remove", source))?;
        Ok(Recorded { directory: out.to_owned(), experiment, basis, resumed, existed: false })
    }

    /// Refuses what would not fit the model or the machine, before anything is allocated or written.
    pub(crate) fn check_size(&self, prompts: &PromptSet) -> Result<(), LabError> {
        let config = self.checkpoint.config();
        let longest = prompts.references.iter().map(|p| p.ids.len()).max().unwrap_or(0);
        let tokens = longest.saturating_add(self.spec.decode_steps);
        if tokens > config.max_position_embeddings {
            return Err(LabError::ContextLong { tokens, context: config.max_position_embeddings });
        }
        let graph = config.graph();
        let caches = |cell: &Setup| {
            (KvCache::bytes_for(&graph, cell.dtype, tokens) as u64).saturating_mul(computed(cell) as u64)
        };
        let bytes = self.spec.cells.iter().map(caches).max().unwrap_or(0);
        let memory = environment(self.machine.isa).memory_bytes;
        if memory > 0 && bytes > memory {
            return Err(LabError::CachesLarge { bytes, memory });
        }
        Ok(())
    }

    pub(crate) fn weights_digest(&self, progress: &dyn Fn(Event<'_>)) -> Result<Digest, LabError> {
        let total = self.checkpoint.stored_bytes();
        let digest =
            self.checkpoint.digest(&|done| progress(Event::Hashing { done: done.min(total), total }))?;
        digest.digest.parse().map_err(|reason| LabError::Digest { reason })
    }

    fn configurations(
        &self,
        prompts: &PromptSet,
        weights_digest: Digest,
        catalogs: Vec<Vec<UsedCatalog>>,
        out: &Path,
        progress: &dyn Fn(Event<'_>),
    ) -> Result<(Vec<Configuration>, Vec<Run>, usize), LabError> {
        let spec = self.spec;
        let references = prompts.references.len();
        let total = spec.cells.len() * references * spec.repetitions;
        let (mut fed, to_feed) = (0, self.tokens_left(prompts, out));
        let (mut configurations, mut stored, mut resumed, mut index) = (Vec::new(), Vec::new(), 0, 0);
        let mut engine: Option<(Setup, Engine<'_>)> = None;
        for (cell, used) in spec.cells.iter().zip(catalogs) {
            let mut configuration = self.configuration(cell, weights_digest, used);
            let mut runs = Vec::with_capacity(references * spec.repetitions);
            let mut recipes: Vec<ObservedKernel> = Vec::new();
            let mut not_finite: Vec<NotFinite> = Vec::new();
            for reference in 0..references {
                for rep in 0..spec.repetitions {
                    let config_id = configuration.config_id.as_str();
                    let place = repetition_folder(out, config_id, reference, rep);
                    let found = container::is_complete(&place);
                    progress(Event::Repetition { config_id, reference, rep, index, total, resumed: found });
                    let (run, observed, first) = if found {
                        resumed += 1;
                        self.load_repetition(&place)?
                    } else {
                        let wanted = of_engine(*cell);
                        if engine.as_ref().is_none_or(|(loaded, _)| *loaded != wanted) {
                            // Never two at once: converted weights are as large as the model.
                            drop(engine.take());
                        }
                        let engine = match &mut engine {
                            Some((_, engine)) => engine,
                            empty => &mut empty.insert((wanted, self.engine(&wanted, prompts)?)).1,
                        };
                        let batch = prompts
                            .batch(reference, computed(cell))
                            .ok_or(LabError::Nothing { what: "prompt" })?;
                        let told = |done, _| {
                            progress(Event::Tokens { done: fed + done, total: to_feed });
                        };
                        let forced = spec.forced_on(reference);
                        let (run, first) = self.run(engine, &batch, forced, cell, &told)?;
                        fed += self.tokens(&batch);
                        let rep_id = u32::try_from(rep).unwrap_or(u32::MAX);
                        let reference_id = u32::try_from(reference).unwrap_or(u32::MAX);
                        let first = first.map(|first| NotFinite { reference_id, rep_id, ..first });
                        let run =
                            Run { config_id: configuration.config_id.clone(), rep_id, reference_id, ..run };
                        let observed = engine.take_observed();
                        self.save_repetition(
                            &place,
                            &configuration,
                            prompts,
                            weights_digest,
                            &run,
                            (&observed, first.as_ref()),
                        )?;
                        (run, observed, first)
                    };
                    not_finite.extend(first);
                    for kernel in observed {
                        if !recipes.contains(&kernel) {
                            recipes.push(kernel);
                        }
                    }
                    runs.push(run);
                    index += 1;
                }
            }
            let reproducibility = Reproducibility::check(&runs);
            let seconds: Vec<f64> = runs.iter().filter_map(|run| run.runtime_seconds).collect();
            if let Some(extras) = &mut configuration.mantissa {
                extras.recipes = recipes;
                extras.not_finite = not_finite;
                extras.runtime = Runtime::of(&seconds, u32::try_from(self.machine.threads).ok());
                extras.reproducibility = reproducibility.clone();
            }
            if reproducibility.outcome == Outcome::Identical {
                let last = u32::try_from(spec.repetitions - 1).unwrap_or(u32::MAX);
                runs.retain(|run| run.rep_id == last);
            }
            stored.extend(runs);
            configurations.push(configuration);
        }
        Ok((configurations, stored, resumed))
    }

    pub(crate) fn engine(&self, setup: &Setup, prompts: &PromptSet) -> Result<Engine<'_>, LabError> {
        let longest = prompts.references.iter().map(|p| p.ids.len()).max().unwrap_or(0);
        let context = longest + self.spec.decode_steps;
        Ok(Engine::load(self.checkpoint, self.machine.engine(setup, context, self.catalogs))?)
    }

    /// One repetition: prefill of every sequence of the batch, then decode steps; sequence 0 is measured. Of a
    /// prediction `batch` holds that sequence only; kernels are chosen for the batch of `cell`.
    fn run(
        &self,
        engine: &Engine<'_>,
        batch: &[&Prompt],
        forced: Option<&[u32]>,
        cell: &Setup,
        told: &dyn Fn(usize, usize),
    ) -> Result<(Run, Option<NotFinite>), LabError> {
        let spec = self.spec;
        let timestamp = now();
        let start = Instant::now();
        let config = engine.config();
        let reach = spec.signals.reach()?;
        let (length, steps) = (batch[0].ids.len(), spec.decode_steps);
        let first = length.saturating_sub(reach);
        let mut capture = Capture::new(spec.signals.sites(config.num_hidden_layers)?, first);
        let prompts: Vec<&[u32]> = batch.iter().map(|prompt| prompt.ids.as_slice()).collect();
        let Setup { batch_size, padding, .. } = *cell;
        let session = Session {
            prompts: &prompts,
            batch_size,
            padding,
            steps,
            forced,
            settings: &spec.generation,
            hardware: cell.hardware,
        };
        let kept = Kept { capture: &mut capture, reach, top_k: spec.signals.top_k };
        let mut outputs = session.run(engine, Some(kept), told)?;
        let not_finite = if capture.is_not_finite() {
            self.first_not_finite(engine, &session, &capture, length)?
        } else {
            None
        };
        let positions = &spec.signals.positions;
        let ends: Vec<usize> = (1..=steps).map(|step| length + step).collect();
        let output_token_ids = outputs.remove(0);
        let run = Run {
            config_id: String::new(),
            rep_id: 0,
            reference_id: 0,
            timestamp: Some(timestamp),
            runtime_seconds: Some(start.elapsed().as_secs_f64()),
            prompt_text: batch[0].text.clone(),
            prompt_label: None,
            prompt_token_ids: batch[0].ids.clone(),
            output_token_texts: self.texts(&output_token_ids)?,
            output_token_ids,
            neighbours: batch[1..]
                .iter()
                .zip(outputs)
                .map(|(prompt, output_token_ids)| {
                    let source = Some(source(prompt)?);
                    Ok(Neighbour { prompt_token_ids: prompt.ids.clone(), output_token_ids, source })
                })
                .collect::<Result<_, LabError>>()?,
            prompt_source: Some(source(batch[0])?),
            prefill: Some(capture.windows(&[length], positions, config.vocab_size)),
            decode: (steps > 0).then(|| capture.windows(&ends, positions, config.vocab_size)),
        };
        Ok((run, not_finite))
    }

    /// Runs a repetition once more, looking at every site, because something that was kept of it is not finite.
    fn first_not_finite(
        &self,
        engine: &Engine<'_>,
        session: &Session<'_>,
        capture: &Capture,
        length: usize,
    ) -> Result<Option<NotFinite>, LabError> {
        let mut watch = Watch::default();
        session.run(engine, Some(Kept { capture: &mut watch, reach: 1, top_k: 0 }), &|_, _| {})?;
        // The last position of the prompt chooses the first token, each step but the last one more.
        let choices = length.saturating_sub(1)..(length + self.spec.decode_steps).saturating_sub(1);
        let chosen = |position: &usize| self.spec.forced.is_none() && choices.contains(position);
        let nan_choices = capture.nan_positions().iter().filter(|position| chosen(position)).count();
        Ok(watch.first.map(|Place { phase, site, position, value }| NotFinite {
            reference_id: 0,
            rep_id: 0,
            phase,
            site,
            position: position as u64,
            value: match value {
                _ if value.is_nan() => "NaN",
                _ if value > 0.0 => "Infinity",
                _ => "-Infinity",
            }
            .to_owned(),
            nan_choices: nan_choices as u64,
        }))
    }

    /// The text that each token adds, where there is a tokenizer: decoding is not per token where characters span
    /// several.
    fn texts(&self, ids: &[u32]) -> Result<Vec<String>, LabError> {
        let Some(tokenizer) = self.tokenizer else { return Ok(Vec::new()) };
        let text = |id: &u32| {
            let failed = |reason| LabError::Tokenizer { what: format!("decoding token {id}"), reason };
            tokenizer.decode(&[*id], false).map_err(|e| failed(e.to_string()))
        };
        ids.iter().map(text).collect()
    }

    fn save_repetition(
        &self,
        place: &Path,
        configuration: &Configuration,
        prompts: &PromptSet,
        weights_digest: Digest,
        run: &Run,
        (observed, first): (&[ObservedKernel], Option<&NotFinite>),
    ) -> Result<(), LabError> {
        let mut configuration = configuration.clone();
        if let Some(extras) = &mut configuration.mantissa {
            extras.recipes = observed.to_vec();
            extras.not_finite = first.cloned().into_iter().collect();
        }
        let experiment = Experiment {
            metadata: self.metadata(prompts, weights_digest),
            configurations: vec![configuration],
            runs: vec![run.clone()],
        };
        Ok(container::write(place, &experiment)?)
    }

    /// A repetition that an earlier attempt finished, on this machine and instruction set: the record states one.
    fn load_repetition(
        &self,
        place: &Path,
    ) -> Result<(Run, Vec<ObservedKernel>, Option<NotFinite>), LabError> {
        let mut experiment = mantissa_evidence::read(place)?;
        let extras = experiment.configurations.pop().and_then(|c| c.mantissa);
        let (Some(run), Some(extras)) = (experiment.runs.pop(), extras) else {
            return Err(LabError::OtherRecord { path: place.to_owned() });
        };
        let now = environment(self.machine.isa);
        if extras.environment != now {
            let words =
                |e: &mantissa_evidence::Environment| format!("{}, {}", e.cpu, e.cpu_features.join(" "));
            let (found, now) = (words(&extras.environment), words(&now));
            return Err(LabError::OtherMachine { path: place.to_owned(), found, now });
        }
        Ok((run, extras.recipes, extras.not_finite.into_iter().next()))
    }

    fn metadata(&self, prompts: &PromptSet, weights_digest: Digest) -> ExperimentMetadata {
        let (spec, config) = (self.spec, self.checkpoint.config());
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let variable = variable(&spec.varied());
        ExperimentMetadata {
            experiment_type: if variable == "none" { "reference".to_owned() } else { variable.clone() },
            variable_tested: variable,
            model: spec.model.clone(),
            model_size: size_in_words(parameters(self.checkpoint)),
            architecture: if config.moe.is_some() { "MoE" } else { "dense" }.to_owned(),
            sequence_length: number(prompts.references.first().map_or(0, |p| p.ids.len())),
            decode_steps: number(spec.decode_steps),
            extraction_config: ExtractionConfig {
                layers: spec.signals.layer_numbers(config.num_hidden_layers).unwrap_or_default(),
                positions: spec.signals.positions.clone(),
                hidden_dim: number(config.hidden_size),
                key_dim: number(config.graph().width(Some(0), Point::K).unwrap_or(0)),
                top_k_logprobs: number(spec.signals.top_k),
            },
            date_created: Some(now()),
            mantissa: Some(Provenance {
                format_version: FORMAT_VERSION,
                tool: TOOL.to_owned(),
                num_layers: number(config.num_hidden_layers),
                vocab_size: number(config.vocab_size),
                weights_digest: Some(weights_digest),
                config_digest: serde_json::to_vec(config).ok().map(|json| Digest::of_bytes(&json)),
            }),
        }
    }

    pub(crate) fn configuration(
        &self,
        cell: &Setup,
        weights_digest: Digest,
        catalogs: Vec<UsedCatalog>,
    ) -> Configuration {
        let spec = self.spec;
        let model = ModelIdentity { id: spec.model.clone(), weights_digest: Some(weights_digest) };
        let decoding = if spec.forced.is_some() { Decoding::TeacherForced } else { Decoding::Greedy };
        // Said where it could be taken for something else: settings that acted, or a model's own that were left out.
        let own = self.checkpoint.generation().is_ok_and(|own| own.greedy().is_plain());
        let says = spec.forced.is_none() && !(spec.generation.is_plain() && own);
        // A record has as many tokens as were asked for, whichever of them would end an output.
        let generation = says.then(|| Generation {
            ignore_eos: !spec.generation.eos_token_id.is_empty(),
            ..spec.generation.clone()
        });
        let (fixed_params, setup) = declared::declare(cell, self.checkpoint, model, decoding, generation);
        Configuration {
            config_id: declared::config_id(cell, self.checkpoint),
            hardware: setup.hardware.clone(),
            provider: None,
            variable_value: variable_value(&spec.varied(), cell),
            cuda_version: None,
            torch_version: None,
            transformers_version: None,
            flash_attn_version: None,
            python_version: None,
            fixed_params,
            mantissa: Some(ConfigurationExtras {
                setup,
                environment: environment(self.machine.isa),
                recipes: Vec::new(),
                catalogs,
                observed: None,
                answers: None,
                reproducibility: Reproducibility {
                    repetitions: 0,
                    outcome: Outcome::NotChecked,
                    digests: Vec::new(),
                },
                not_finite: Vec::new(),
                runtime: None,
            }),
        }
    }
}

pub(crate) const TOOL: &str = concat!("mantissa ", env!("CARGO_PKG_VERSION"));

/// The names of what differs between configurations.
fn variable(varied: &[Axis]) -> String {
    match varied {
        [] => "none".to_owned(),
        varied => varied.iter().map(|axis| axis.name()).collect::<Vec<_>>().join(","),
    }
}

/// The values of what differs; where nothing does, the batch size.
fn variable_value(varied: &[Axis], cell: &Setup) -> serde_json::Value {
    let value = |axis: Axis| serde_json::json!(cell.get(axis));
    match varied {
        [] => value(Axis::BatchSize),
        [axis] => value(*axis),
        several => several.iter().map(|axis| (axis.name().to_owned(), value(*axis))).collect(),
    }
}

pub(crate) fn source(prompt: &Prompt) -> Result<PromptSource, LabError> {
    let s = &prompt.source;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(PromptSource {
        // Where the file lay on this machine is not evidence.
        document: Path::new(&s.document)
            .file_name()
            .map_or_else(|| s.document.clone(), |n| n.to_string_lossy().into_owned()),
        document_digest: s.file_blake3.parse().map_err(|reason| LabError::Digest { reason })?,
        start: s.start as u64,
        end: s.end as u64,
        prefix_tokens: number(s.prefix_tokens),
        suffix_tokens: number(s.suffix_tokens),
    })
}

fn parameters(checkpoint: &Checkpoint) -> u64 {
    let names: Vec<&str> = checkpoint.weight_names().collect();
    names.iter().filter_map(|name| checkpoint.stored_as(name)).map(|w| (w.rows * w.cols) as u64).sum()
}

/// `135M`, `7B`, `30.5B`: three significant digits at most.
fn size_in_words(parameters: u64) -> String {
    let (unit, name) = match parameters {
        0..1_000_000 => (1_000, "K"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "B"),
    };
    let tenths = (parameters * 10 + unit / 2) / unit;
    if tenths < 100 && !tenths.is_multiple_of(10) {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        format!("{}{name}", (tenths + 5) / 10)
    }
}

/// The time, `YYYY-MM-DD HH:MM:SS` in UTC.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let time =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + std::time::Duration::from_secs(seconds)).to_string();
    time.replace('T', " ").trim_end_matches('Z').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (n, words) in
            [(134_515_008, "135M"), (7_615_616_512, "7.6B"), (30_532_122_624, "31B"), (970_000, "970K")]
        {
            assert_eq!(size_in_words(n), words);
        }
    }

    #[test]
    fn a_time_has_the_plans_form() {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let (before, now, after) = (clock(), now(), clock());
        // `date --utc +'%F %T'`; read back it is the clock's time.
        let read = humantime::parse_rfc3339(&format!("{}Z", now.replacen(' ', "T", 1))).expect(&now);
        let read = read.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        assert!((before..=after).contains(&read), "{now}");
    }
}
