//! A record whose signals stay where they are until a row of them is asked for.
//!
//! Comparing needs one row of each run at a time, so a record may be larger than memory. Everything else about
//! a run (ids, texts, neighbours) is in the [`shell`](Record::shell). A container's rows are slices of its mapped
//! files. An experiment JSON is read once, which finds every flaw of its structure, and its rows are parsed from the
//! file when they are asked for. A row must fit into memory, and so must what is not a row: 64 MiB of structure a run.

mod json;
mod layout;
mod number;
mod scan;
mod skeleton;
mod source;
mod text;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mantissa_numerics::{Phase, Site};

use crate::container::{self, Container};
use crate::damage::Damage;
use crate::digest::{Digest, Hasher};
use crate::error::{Flaw, Result};
use crate::experiment::{Configuration, Experiment};
use crate::json::wire;
use crate::run::{Logprobs, PhaseSignals, SignalTensor, log_probs_name, tensor_name, token_ids_name};
use crate::validate;
use layout::phase_index;

pub use layout::{Candidates, OwnRows, PhaseLayout, RowKey, TensorLayout};

/// An experiment with its signals out of reach until asked for.
///
/// ```
/// use mantissa_evidence::Record;
/// use mantissa_evidence::record::RowKey;
/// use mantissa_numerics::{Phase, Point, Site};
///
/// let record = Record::open("../../fixtures/evidence/v1/container".as_ref())?;
/// record.verify()?;
/// assert_eq!(record.shell().runs.len(), 3);
/// let layout = record.layout(0, Phase::Decode).expect("decode steps");
/// assert_eq!((layout.steps.clone(), layout.tensors[&Site::at(1, Point::K)].dim), (0..2, 4));
/// // One row is read when it is asked for.
/// let key = RowKey { phase: Phase::Decode, step: 1, position: -1 };
/// let mut scratch = Vec::new();
/// let row = record.row(0, Site::at(1, Point::K), key, &mut scratch)?.expect("a recorded row");
/// assert_eq!(row.len(), 4 * 2);
/// assert_eq!(record.candidates(0, key)?.expect("log-probabilities").token_ids.len(), 5);
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug)]
pub struct Record {
    origin: PathBuf,
    shell: Experiment,
    layouts: Vec<[Option<PhaseLayout>; 2]>,
    /// The digest that each run states for its signals.
    stated: Vec<Option<Digest>>,
    /// The digest that the signals of each run have, once it was asked for.
    found: Vec<OnceLock<Digest>>,
    warnings: Vec<String>,
    store: Store,
}

/// Room for the digest of each run.
fn unknown<T>(runs: &[T]) -> Vec<OnceLock<Digest>> {
    runs.iter().map(|_| OnceLock::new()).collect()
}

#[derive(Debug)]
enum Store {
    Memory(Experiment),
    /// The container, and where each site of each phase lies in the file of its run.
    Mapped(Container, Vec<[BTreeMap<Site, Range<usize>>; 2]>),
    Json(json::Rows),
}

impl Record {
    /// Opens a container directory (or its `manifest.json`) or an experiment JSON file, told apart by content.
    ///
    /// Structure, shapes and the digests of ids are checked, those of signals are not: [`Record::verify`] does. A JSON
    /// that departs from the standard as [`crate::lenient`] knows is read with [`warnings`](Record::warnings).
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &mut Damage::Refuse)
    }

    fn open_with(path: &Path, damage: &mut Damage) -> Result<Self> {
        match container::root(path) {
            Some(directory) => Self::from_container(Container::open(&directory)?, path, damage),
            None => Ok(Self::from_json(json::open(path, damage)?, path)),
        }
    }

    /// Opens evidence and checks it as [`Record::verify`] does; data that are not those their digests were made of are
    /// read all the same, and named in the list.
    ///
    /// ```
    /// use mantissa_evidence::Record;
    ///
    /// let (record, damage) = Record::open_despite_damage("../../fixtures/evidence/v1/container".as_ref())?;
    /// assert_eq!((record.shell().runs.len(), damage.len()), (3, 0));
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    pub fn open_despite_damage(path: &Path) -> Result<(Self, Vec<String>)> {
        let mut damage = Damage::Collect(Vec::new());
        let record = Self::open_with(path, &mut damage)?;
        record.verify_with(&mut damage)?;
        Ok((record, damage.into_notes()))
    }

    /// As [`Record::open_despite_damage`], for an experiment JSON in memory; `origin` names it in errors.
    pub fn from_bytes_despite_damage(bytes: Vec<u8>, origin: &Path) -> Result<(Self, Vec<String>)> {
        let mut damage = Damage::Collect(Vec::new());
        let record = Self::from_json(json::from_bytes(bytes, origin, &mut damage)?, origin);
        record.verify_with(&mut damage)?;
        Ok((record, damage.into_notes()))
    }

    /// As [`Record::open`], for an experiment JSON in memory; `origin` names it in errors.
    pub fn from_bytes(bytes: Vec<u8>, origin: &Path) -> Result<Self> {
        Ok(Self::from_json(json::from_bytes(bytes, origin, &mut Damage::Refuse)?, origin))
    }

    /// A record in memory; `origin` names it in errors.
    #[must_use]
    pub fn from_experiment(experiment: Experiment, origin: &Path) -> Self {
        let layouts = experiment.runs.iter().map(|run| {
            [Phase::Prefill, Phase::Decode]
                .map(|phase| run.phase(phase).map(|signals| PhaseLayout::of(&wire::PhaseLayout::of(signals))))
        });
        let layouts = layouts.collect();
        let mut shell = experiment.clone();
        for run in &mut shell.runs {
            run.prefill = None;
            run.decode = None;
        }
        let stated = vec![None; shell.runs.len()];
        let (origin, store) = (origin.to_owned(), Store::Memory(experiment));
        Self { origin, shell, layouts, found: unknown(&stated), stated, warnings: Vec::new(), store }
    }

    /// Puts ids in place of a run's prompt ids, which its file does not state. Nothing happens where there is no such
    /// run.
    pub fn set_prompt_ids(&mut self, run: usize, ids: Vec<u32>) {
        if let Some(run) = self.shell.runs.get_mut(run) {
            run.prompt_token_ids.clone_from(&ids);
        }
        if let Store::Memory(experiment) = &mut self.store
            && let Some(run) = experiment.runs.get_mut(run)
        {
            run.prompt_token_ids = ids;
        }
    }

    /// The record with `warnings` about how it was read.
    #[must_use]
    pub fn with_warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    fn from_json(opened: json::Opened, origin: &Path) -> Self {
        let json::Opened { shell, layouts, stated, warnings, rows } = opened;
        let layouts = layouts.iter().map(|phases| phases.each_ref().map(|l| l.as_ref().map(PhaseLayout::of)));
        let (origin, store) = (origin.to_owned(), Store::Json(rows));
        Self { origin, shell, layouts: layouts.collect(), found: unknown(&stated), stated, warnings, store }
    }

    fn from_container(container: Container, origin: &Path, damage: &mut Damage) -> Result<Self> {
        let (mut layouts, mut ranges, mut stated) = (Vec::new(), Vec::new(), Vec::new());
        let in_manifest = |index: usize, flaw: Flaw| {
            flaw.under(&format!("runs[{index}]")).in_file(&container.manifest_path())
        };
        for (index, view) in container.runs().enumerate() {
            let phases = [Phase::Prefill, Phase::Decode].map(|phase| (phase, view.layout(phase)));
            let altered = view.damage_of_ids().into_iter().map(|flaw| flaw.under(&format!("runs[{index}]")));
            damage.notes(altered, &container.manifest_path())?;
            for (phase, layout) in phases {
                let ids = view.run().output_token_ids.len();
                let lawful = layout.map_or(Ok(()), |layout| validate::layout(phase, layout, ids));
                lawful.map_err(|flaw| in_manifest(index, flaw))?;
            }
            layouts.push(phases.map(|(_, layout)| layout.map(PhaseLayout::of)));
            ranges.push(phases.map(|(phase, _)| {
                view.sites(phase).filter_map(|site| Some((site, view.range(phase, site)?))).collect()
            }));
            stated.push(Some(view.signals_digest()));
        }
        let shell = Experiment {
            metadata: container.metadata().clone(),
            configurations: container.configurations().to_vec(),
            runs: container.runs().map(|view| view.run().clone()).collect(),
        };
        let (origin, store) = (origin.to_owned(), Store::Mapped(container, ranges));
        Ok(Self { origin, shell, layouts, found: unknown(&stated), stated, warnings: Vec::new(), store })
    }

    /// Where it was read from.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Metadata, configurations and runs without their signals.
    #[must_use]
    pub const fn shell(&self) -> &Experiment {
        &self.shell
    }

    /// What was read although it is not as the format asks, with its line and how often.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What run `run` recorded in `phase`; `None` when nothing.
    #[must_use]
    pub fn layout(&self, run: usize, phase: Phase) -> Option<&PhaseLayout> {
        self.layouts.get(run)?[phase_index(phase)].as_ref()
    }

    /// Values that run `run` recorded, candidates included, each once: a row that two passes stored is one.
    ///
    /// ```
    /// let record = mantissa_evidence::Record::open("../../goldens/gpu/evidence_h200".as_ref())?;
    /// // Seventeen passes, each a key of 192 values and a final norm of 576.
    /// assert_eq!(record.values(0), 17 * (192 + 576));
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    #[must_use]
    pub fn values(&self, run: usize) -> u64 {
        let mut values = 0;
        for phase in [Phase::Prefill, Phase::Decode] {
            let Some(layout) = self.layout(run, phase) else { continue };
            let rows = |site| OwnRows::count(&self.own_rows(run, phase, site, layout.steps.clone()));
            values += layout.tensors.iter().map(|(&site, t)| rows(Some(site)) * t.dim as u64).sum::<u64>();
            values += layout.top_k.map_or(0, |k| rows(None) * k as u64);
        }
        values
    }

    /// Rows of a site (of log-probabilities, without one) in some passes of a run, less those that earlier passes
    /// stored too: position −2 of a decode step belongs to the token that was newest one pass earlier.
    ///
    /// ```
    /// use mantissa_numerics::Phase;
    ///
    /// let record = mantissa_evidence::Record::open("../../fixtures/evidence/v1/container".as_ref())?;
    /// let layout = record.layout(0, Phase::Decode).expect("decode steps");
    /// assert_eq!((layout.steps.clone(), layout.positions.clone()), (0..2, vec![-3, -2, -1]));
    /// let site = *layout.tensors.keys().next().expect("a site");
    /// let [own] = &record.own_rows(0, Phase::Decode, Some(site), 0..2)[..] else { panic!("all steps are alike") };
    /// assert_eq!((own.steps.clone(), own.positions.clone()), (0..2, vec![-1]), "only the newest token is new");
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    #[must_use]
    pub fn own_rows(&self, run: usize, phase: Phase, site: Option<Site>, steps: Range<u64>) -> Vec<OwnRows> {
        let Some(layout) = self.layout(run, phase).filter(|layout| layout.holds(site)) else {
            return Vec::new();
        };
        let (start, end) = (steps.start.max(layout.steps.start), steps.end.min(layout.steps.end));
        if phase == Phase::Prefill {
            let all = OwnRows { steps: start..end, positions: layout.positions.clone() };
            return if start < end { vec![all] } else { Vec::new() };
        }
        let prefill = self.layout(run, Phase::Prefill).filter(|prefill| prefill.holds(site));
        let prompt = prefill.map_or(&[][..], |prefill| &prefill.positions);
        // Behind the first steps every step is alike: no position reaches back to before them.
        let reach = layout.positions.first().map_or(0, |first| u64::from(first.unsigned_abs()));
        let alike = (layout.steps.start + reach).clamp(start, end.max(start));
        let apart = (start..alike).map(|step| step..step + 1).chain(std::iter::once(alike..end));
        let mut rows: Vec<OwnRows> = Vec::new();
        for steps in apart.filter(|steps| !steps.is_empty()) {
            let positions = layout.own_positions(steps.start, prompt);
            match rows.last_mut() {
                Some(before) if before.positions == positions => before.steps.end = steps.end,
                _ => rows.push(OwnRows { steps, positions }),
            }
        }
        rows
    }

    /// A row as little-endian values of its storage format; `None` when the run has no such row.
    ///
    /// `scratch` may be used to hold it. Rows may be asked for from several threads.
    pub fn row<'a>(
        &'a self,
        run: usize,
        site: Site,
        key: RowKey,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>> {
        scratch.clear();
        let Some((layout, [step, position])) = self.find(run, key) else { return Ok(None) };
        let Some(&tensor) = layout.tensors.get(&site) else { return Ok(None) };
        match &self.store {
            Store::Memory(experiment) => {
                let signals = experiment.runs.get(run).and_then(|run| run.phase(key.phase));
                Ok(signals.and_then(|signals| signals.tensors.get(&site)?.row(step, position)))
            }
            Store::Mapped(container, ranges) => Ok((|| {
                let range = ranges.get(run)?[phase_index(key.phase)].get(&site)?;
                let bytes = tensor.dim * tensor.dtype.size();
                let start = range.start + (step * layout.positions.len() + position) * bytes;
                container.run(run)?.mapped().get(start..start + bytes)
            })()),
            Store::Json(rows) => {
                let index = layout.tensors.range(..site).count();
                let place = [step, index, position];
                let found = rows.site([run, phase_index(key.phase)], place, tensor, &self.origin, scratch)?;
                Ok(found.then_some(scratch))
            }
        }
    }

    /// Candidates at one position; `None` when the run has none there.
    pub fn candidates(&self, run: usize, key: RowKey) -> Result<Option<Candidates>> {
        let Some((layout, [step, position])) = self.find(run, key) else { return Ok(None) };
        let Some(k) = layout.top_k else { return Ok(None) };
        let start = (step * layout.positions.len() + position) * k;
        let range = start..start + k;
        match &self.store {
            Store::Memory(experiment) => Ok((|| {
                let logprobs = experiment.runs.get(run)?.phase(key.phase)?.logprobs.as_ref()?;
                Some(Candidates {
                    token_ids: logprobs.token_ids.get(range.clone())?.to_vec(),
                    log_probs: logprobs.log_probs.get(range)?.to_vec(),
                })
            })()),
            Store::Mapped(container, _) => {
                let found = container.run(run).and_then(|view| view.candidates(key.phase, range));
                let Some((token_ids, log_probs)) = found else { return Ok(None) };
                match validate::candidates(&token_ids, layout.vocab_size) {
                    None => Ok(Some(Candidates { token_ids, log_probs })),
                    Some(problem) => {
                        let place =
                            format!("runs[{run}].logprobs, step {}, position {}", key.step, key.position);
                        Err(Flaw::new(place, problem, "record it again").in_file(&self.origin))
                    }
                }
            }
            Store::Json(rows) => {
                let place = [run, phase_index(key.phase)];
                rows.candidates(place, [step, position], k, layout.vocab_size, &self.origin)
            }
        }
    }

    /// The whole experiment, signals included.
    ///
    /// *Errors:* a row that cannot be read.
    ///
    /// ```
    /// use mantissa_evidence::Record;
    ///
    /// let path = "../../fixtures/evidence/v1/experiment.json".as_ref();
    /// assert_eq!(Record::open(path)?.experiment()?, mantissa_evidence::read(path)?);
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    pub fn experiment(&self) -> Result<Experiment> {
        if let Store::Memory(experiment) = &self.store {
            return Ok(experiment.clone());
        }
        let mut whole = self.shell.clone();
        for (index, run) in whole.runs.iter_mut().enumerate() {
            run.prefill = self.signals(index, Phase::Prefill)?;
            run.decode = self.signals(index, Phase::Decode)?;
        }
        Ok(whole)
    }

    fn signals(&self, run: usize, phase: Phase) -> Result<Option<PhaseSignals>> {
        let Some(layout) = self.layout(run, phase) else { return Ok(None) };
        let keys: Vec<RowKey> = layout
            .steps
            .clone()
            .flat_map(|step| layout.positions.iter().map(move |&position| RowKey { phase, step, position }))
            .collect();
        let (steps, positions) = (keys.len() / layout.positions.len().max(1), layout.positions.len());
        let mut tensors = BTreeMap::new();
        let mut scratch = Vec::new();
        for (&site, tensor) in &layout.tensors {
            let mut data = Vec::new();
            for key in &keys {
                data.extend_from_slice(self.row(run, site, *key, &mut scratch)?.unwrap_or_default());
            }
            let shape = [steps, positions, tensor.dim];
            tensors.insert(site, SignalTensor { dtype: tensor.dtype, shape, data });
        }
        let mut logprobs = None;
        if let Some(k) = layout.top_k {
            let (mut token_ids, mut log_probs) = (Vec::new(), Vec::new());
            for key in &keys {
                let found = self.candidates(run, *key)?.unwrap_or_default();
                token_ids.extend(found.token_ids);
                log_probs.extend(found.log_probs);
            }
            let vocab_size = layout.vocab_size;
            logprobs = Some(Logprobs { steps, positions, k, vocab_size, token_ids, log_probs });
        }
        let (first_step, positions) = (layout.steps.start, layout.positions.clone());
        Ok(Some(PhaseSignals { first_step, steps, positions, tensors, logprobs }))
    }

    /// Reads everything once and checks it against the digests that the record states, if it states any.
    pub fn verify(&self) -> Result<()> {
        self.verify_with(&mut Damage::Refuse)
    }

    fn verify_with(&self, damage: &mut Damage) -> Result<()> {
        if let Store::Mapped(container, _) = &self.store {
            container.verify_with(damage)?;
        }
        let states = |configuration: &Configuration| configuration.mantissa.is_some();
        if self.stated.iter().all(Option::is_none) && !self.shell.configurations.iter().any(states) {
            return Ok(());
        }
        let digests = (0..self.shell.runs.len()).map(|run| self.signals_digest(run));
        let digests = digests.collect::<Result<Vec<_>>>()?;
        for (run, (stated, &found)) in self.stated.iter().zip(&digests).enumerate() {
            let fits =
                stated.map_or(Ok(()), |stated| crate::json::check_digest("signals_digest", stated, found));
            damage.note(fits.map_err(|flaw| flaw.under(&format!("runs[{run}]"))), &self.origin)?;
        }
        damage.note(validate::statements(&self.shell, |run| digests[run]), &self.origin)
    }

    /// The digest of a run's signals, as [`crate::Run::signals_digest`]: every row is read when it is first asked for.
    /// *Errors:* a row that cannot be read.
    pub fn signals_digest(&self, run: usize) -> Result<Digest> {
        if let Some(known) = self.found.get(run).and_then(OnceLock::get) {
            return Ok(*known);
        }
        let digest = self.hashed(run)?;
        Ok(self.found.get(run).map_or(digest, |found| *found.get_or_init(|| digest)))
    }

    fn hashed(&self, run: usize) -> Result<Digest> {
        let mut hasher = Hasher::default();
        let mut scratch = Vec::new();
        for phase in [Phase::Prefill, Phase::Decode] {
            let Some(layout) = self.layout(run, phase) else { continue };
            let keys = || {
                let positions =
                    |step| layout.positions.iter().map(move |&position| RowKey { phase, step, position });
                layout.steps.clone().flat_map(positions)
            };
            let shape =
                |width| [keys().count() / layout.positions.len().max(1), layout.positions.len(), width];
            for (&site, tensor) in &layout.tensors {
                hasher.begin(&tensor_name(phase, site), tensor.dtype.name(), shape(tensor.dim));
                for key in keys() {
                    hasher.row(self.row(run, site, key, &mut scratch)?.unwrap_or_default());
                }
            }
            if let Some(k) = layout.top_k {
                let candidates = || keys().map(|key| Ok(self.candidates(run, key)?.unwrap_or_default()));
                hasher.begin(&token_ids_name(phase), "u32", shape(k));
                for candidates in candidates() {
                    let candidates: Candidates = candidates?;
                    hasher.row(&crate::run::id_bytes(&candidates.token_ids));
                }
                hasher.begin(&log_probs_name(phase), "f32", shape(k));
                for candidates in candidates() {
                    let candidates: Candidates = candidates?;
                    hasher.row(&crate::run::float_bytes(&candidates.log_probs));
                }
            }
        }
        Ok(hasher.finish())
    }

    /// The layout of a phase and the places of a step and a position in it.
    fn find(&self, run: usize, key: RowKey) -> Option<(&PhaseLayout, [usize; 2])> {
        let layout = self.layout(run, key.phase)?;
        let places = &layout.positions;
        // Most are all those of a range.
        let guess = i64::from(key.position) - i64::from(*places.first()?);
        let guess = usize::try_from(guess).ok().filter(|guess| places.get(*guess) == Some(&key.position));
        let position = guess.or_else(|| places.iter().position(|&position| position == key.position))?;
        let step = Some(key.step).filter(|step| layout.steps.contains(step))?;
        Some((layout, [usize::try_from(step - layout.steps.start).ok()?, position]))
    }
}
