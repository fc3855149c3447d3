//! The binary container: `docs/format/container.md`.
//!
//! A directory with `manifest.json` (everything but tensors and clocks), one safetensors file per run and
//! `timing.json` (the clocks), so that manifest and runs are a function of the setup alone. The manifest is written
//! last: a directory without one is an unfinished record. [`Container`] maps the runs and hands out views without
//! copying; [`Container::load`] copies everything and checks every digest.

pub(crate) mod header;
pub(crate) mod manifest;
mod names;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use mantissa_numerics::{Dtype, Phase, Site};
use memmap2::Mmap;
use safetensors::tensor::{Dtype as Stored, TensorView as StoredView};

use crate::damage::Damage;
use crate::digest::Digest;
use crate::error::{EvidenceError, Flaw, Result};
use crate::experiment::{Configuration, Experiment, ExperimentMetadata};
use crate::files::{self, Existing};
use crate::json::text;
use crate::json::wire::{LogprobsLayout, PhaseLayout, RunExtras, SignalsLayout, TensorLayout};
use crate::run::{
    Logprobs, PhaseSignals, Run, SignalTensor, id_bytes, log_probs_name, tensor_name, token_ids_name,
};
use crate::validate;
use manifest::{FileEntry, Manifest, ManifestRun, Timing};

pub use names::{MANIFEST, TIMING, run_file_name};

const RECORD_AGAIN: &str = "copy the container again or record it again";

/// The container that `path` names: a directory, or the manifest inside one.
///
/// ```
/// use mantissa_evidence::container::root;
///
/// assert_eq!(root("record/manifest.json".as_ref()), Some("record".into()));
/// assert_eq!(root("record/run.json".as_ref()), None);
/// ```
#[must_use]
pub fn root(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let parent = path.parent().filter(|_| path.file_name().is_some_and(|name| name == MANIFEST))?;
    Some(if parent == Path::new("") { PathBuf::from(".") } else { parent.to_owned() })
}

/// Whether `directory` holds a finished container.
///
/// ```
/// use mantissa_evidence::container::is_complete;
///
/// assert!(is_complete("../../fixtures/evidence/v1/container".as_ref()));
/// assert!(!is_complete("../../fixtures/evidence/v1".as_ref()));
/// ```
#[must_use]
pub fn is_complete(directory: &Path) -> bool {
    directory.join(MANIFEST).is_file()
}

/// Writes `experiment` as a container. The directory is made if need be; one with a manifest is an error.
///
/// Run files left there by a write that was cut short are replaced. Runs and manifest are a function of the
/// experiment without its clocks.
///
/// ```
/// use mantissa_evidence::{Container, EvidenceError, container, read};
///
/// let experiment = read("../../fixtures/evidence/v1/experiment.json".as_ref())?;
/// # let folder = tempfile::tempdir().expect("a folder");
/// let directory = folder.path().join("record");
/// container::write(&directory, &experiment)?;
/// assert_eq!(Container::open(&directory)?.load()?, experiment);
/// // A finished record is never written over.
/// assert!(matches!(container::write(&directory, &experiment), Err(EvidenceError::Exists { .. })));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn write(directory: &Path, experiment: &Experiment) -> Result<()> {
    validate::experiment(experiment).map_err(|flaw| flaw.in_file(directory))?;
    let manifest_path = directory.join(MANIFEST);
    if manifest_path.symlink_metadata().is_ok() {
        return Err(EvidenceError::Exists { path: manifest_path });
    }
    let found = directory.symlink_metadata().is_ok();
    std::fs::create_dir_all(directory).map_err(|source| EvidenceError::Io {
        path: directory.to_owned(),
        action: "make the directory",
        source,
        remedy: "check that its parent can be written and that no file has its name",
    })?;
    write_files(directory, &manifest_path, experiment).inspect_err(|_| {
        // A directory made here leaves with its files; the error that is reported is the first.
        if !found {
            let _ = std::fs::remove_dir_all(directory);
        }
    })
}

fn write_files(directory: &Path, manifest_path: &Path, experiment: &Experiment) -> Result<()> {
    let mut runs = Vec::with_capacity(experiment.runs.len());
    for run in &experiment.runs {
        runs.push(write_run(directory, run)?);
    }
    let timing = Timing::of(experiment);
    files::write(&directory.join(TIMING), Existing::Replace, |out| text::emit(&timing, out))?;
    let manifest = Manifest::of(experiment, runs);
    files::write(manifest_path, Existing::Keep, |out| text::emit(&manifest, out))
}

fn write_run(directory: &Path, run: &Run) -> Result<ManifestRun> {
    let name = run_file_name(run);
    let path = directory.join(&name);
    let bytes = run_bytes(run).map_err(|problem| Flaw::new("run", problem, "report this").in_file(&path))?;
    files::write(&path, Existing::Replace, |out| out.write_all(&bytes))?;
    Ok(ManifestRun {
        config_id: run.config_id.clone(),
        rep_id: run.rep_id,
        prompt_text: run.prompt_text.clone(),
        file: FileEntry { name, bytes: bytes.len() as u64, blake3: Digest::of_bytes(&bytes) },
        mantissa: RunExtras::of(run),
    })
}

fn run_bytes(run: &Run) -> std::result::Result<Vec<u8>, String> {
    let mut logprobs = Vec::new();
    for (phase, signals) in run.phases() {
        if let Some(l) = &signals.logprobs {
            let shape = vec![l.steps, l.positions, l.k];
            logprobs.push((token_ids_name(phase), Stored::U32, shape.clone(), id_bytes(&l.token_ids)));
            logprobs.push((log_probs_name(phase), Stored::F32, shape, crate::run::float_bytes(&l.log_probs)));
        }
    }
    let mut views = Vec::new();
    for (name, dtype, shape, data) in &logprobs {
        views.push((name.clone(), StoredView::new(*dtype, shape.clone(), data).map_err(|e| e.to_string())?));
    }
    for (phase, signals) in run.phases() {
        for (&site, tensor) in &signals.tensors {
            let dtype = match tensor.dtype {
                Dtype::F32 => Stored::F32,
                Dtype::Bf16 => Stored::BF16,
                Dtype::F16 => Stored::F16,
            };
            let view =
                StoredView::new(dtype, tensor.shape.to_vec(), &tensor.data).map_err(|e| e.to_string())?;
            views.push((tensor_name(phase, site), view));
        }
    }
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

/// An open container: manifest and clocks in memory, tensors mapped.
#[derive(Debug)]
pub struct Container {
    directory: PathBuf,
    metadata: ExperimentMetadata,
    configurations: Vec<Configuration>,
    runs: Vec<StoredRun>,
}

#[derive(Debug)]
struct StoredRun {
    /// The run without its signals.
    run: Run,
    extras: RunExtras,
    file: FileEntry,
    map: Mmap,
    tensors: BTreeMap<String, Range<usize>>,
}

/// One run of an open container.
///
/// Example: [`Container::open`].
#[derive(Debug, Clone, Copy)]
pub struct RunView<'a> {
    stored: &'a StoredRun,
}

/// A tensor of an open container, in its storage format.
///
/// Example: [`Container::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// Storage format.
    pub dtype: Dtype,
    /// Steps, positions, dim.
    pub shape: [usize; 3],
    /// Little-endian values, row-major.
    pub data: &'a [u8],
}

impl Container {
    /// Opens a container: reads manifest and clocks, maps every run and checks sizes, names, formats and shapes,
    /// but not the digests; [`Container::verify`] and [`Container::load`] do.
    ///
    /// ```
    /// use mantissa_evidence::Container;
    /// use mantissa_numerics::{Dtype, Phase, Point, Site};
    ///
    /// let container = Container::open("../../fixtures/evidence/v1/container".as_ref())?;
    /// container.verify()?;
    /// let run = container.runs().next().expect("a run");
    /// assert_eq!(run.run().output_token_ids, [1000, 1001, 1002]);
    /// let keys = run.tensor(Phase::Decode, Site::at(1, Point::K)).expect("keys of the first block");
    /// // Two steps, three positions, four elements: borrowed from the mapped file.
    /// assert_eq!((keys.dtype, keys.shape, keys.data.len()), (Dtype::Bf16, [2, 3, 4], 48));
    /// # Ok::<(), mantissa_evidence::EvidenceError>(())
    /// ```
    pub fn open(directory: &Path) -> Result<Self> {
        let manifest_path = directory.join(MANIFEST);
        if directory.is_dir() && !is_complete(directory) {
            let problem = "the directory has no manifest.json, so it holds no finished record";
            return Err(
                Flaw::new(MANIFEST, problem, "run the recording again to finish it").in_file(directory)
            );
        }
        let manifest = Manifest::parse(&files::map(&manifest_path)?, &manifest_path)?;
        let timing_path = directory.join(TIMING);
        let timing = match timing_path.symlink_metadata() {
            Ok(_) => Timing::parse(&files::map(&timing_path)?, &timing_path)?,
            Err(_) => Timing::default(),
        };
        let mut shell = Experiment {
            metadata: manifest.experiment_metadata,
            configurations: manifest.configurations,
            runs: Vec::with_capacity(manifest.runs.len()),
        };
        let mut extras = Vec::with_capacity(manifest.runs.len());
        for (i, entry) in manifest.runs.into_iter().enumerate() {
            let (run, file, rest) = entry.split();
            let expected = run_file_name(&run);
            if file.name != expected {
                let problem = format!("file.name is '{}' instead of '{expected}'", file.name);
                return Err(Flaw::new(format!("runs[{i}]"), problem, RECORD_AGAIN).in_file(&manifest_path));
            }
            shell.runs.push(run);
            extras.push((file, rest));
        }
        timing.restore(&mut shell).map_err(|flaw| flaw.in_file(&timing_path))?;
        // Without its signals a run is still bound by the laws; names are unique before any file is opened.
        validate::shell(&shell).map_err(|flaw| flaw.in_file(&manifest_path))?;
        let runs = shell.runs.into_iter().zip(extras);
        let runs = runs.map(|(run, (file, extras))| StoredRun::open(directory, run, extras, file));
        Ok(Self {
            directory: directory.to_owned(),
            metadata: shell.metadata,
            configurations: shell.configurations,
            runs: runs.collect::<Result<_>>()?,
        })
    }

    /// What was tested, with which model and which signals.
    #[must_use]
    pub const fn metadata(&self) -> &ExperimentMetadata {
        &self.metadata
    }

    /// Every configuration that a run names.
    #[must_use]
    pub fn configurations(&self) -> &[Configuration] {
        &self.configurations
    }

    /// Name of the file of each run, and of the manifest, are relative to this.
    pub(crate) fn manifest_path(&self) -> PathBuf {
        self.directory.join(MANIFEST)
    }

    /// One of the stored runs.
    pub(crate) fn run(&self, index: usize) -> Option<RunView<'_>> {
        self.runs.get(index).map(|stored| RunView { stored })
    }

    /// The stored runs.
    #[must_use]
    pub fn runs(&self) -> impl ExactSizeIterator<Item = RunView<'_>> {
        self.runs.iter().map(|stored| RunView { stored })
    }

    /// Checks the digest of every run file.
    pub fn verify(&self) -> Result<()> {
        self.verify_with(&mut Damage::Refuse)
    }

    pub(crate) fn verify_with(&self, damage: &mut Damage) -> Result<()> {
        for stored in &self.runs {
            let found = Digest::of_bytes(&stored.map);
            if found != stored.file.blake3 {
                let problem = format!("its blake3 is {found}, the manifest states {}", stored.file.blake3);
                let path = self.directory.join(&stored.file.name);
                damage.note(Err(Flaw::altered("file", problem, RECORD_AGAIN)), &path)?;
            }
        }
        Ok(())
    }

    /// Copies the whole experiment into memory, with every digest checked.
    pub fn load(&self) -> Result<Experiment> {
        self.load_with(&mut Damage::Refuse)
    }

    pub(crate) fn load_with(&self, damage: &mut Damage) -> Result<Experiment> {
        self.verify_with(damage)?;
        let mut runs = Vec::with_capacity(self.runs.len());
        for view in self.runs() {
            let mut run = view.stored.run.clone();
            run.prefill = view.load(Phase::Prefill);
            run.decode = view.load(Phase::Decode);
            let path = self.directory.join(&view.stored.file.name);
            damage.notes(crate::json::damage_of(&run, &view.stored.extras), &path)?;
            runs.push(run);
        }
        let (metadata, configurations) = (self.metadata.clone(), self.configurations.clone());
        let experiment = Experiment { metadata, configurations, runs };
        damage.note(validate::experiment(&experiment), &self.directory)?;
        Ok(experiment)
    }
}

impl StoredRun {
    fn open(directory: &Path, run: Run, extras: RunExtras, file: FileEntry) -> Result<Self> {
        let path = directory.join(&file.name);
        let map = files::map(&path)?;
        if map.len() as u64 != file.bytes {
            let problem = format!("has {} bytes, the manifest states {}", map.len(), file.bytes);
            return Err(Flaw::altered("file", problem, RECORD_AGAIN).in_file(&path));
        }
        let tensors = header::read(&map).and_then(|tensors| matching(tensors, &extras.signals));
        let tensors = tensors.map_err(|flaw| flaw.in_file(&path))?;
        Ok(Self { run, extras, file, map, tensors })
    }
}

/// Checks that a file holds exactly the tensors of the manifest's layout, and keeps where each lies.
fn matching(
    mut found: BTreeMap<String, header::Tensor>,
    layout: &SignalsLayout,
) -> std::result::Result<BTreeMap<String, Range<usize>>, Flaw> {
    let mut tensors = BTreeMap::new();
    for (phase, layout) in layout.phases() {
        for (name, dtype, dim) in expected(phase, layout) {
            let missing = || Flaw::new(name.clone(), "is in the manifest and not in the file", RECORD_AGAIN);
            let tensor = found.remove(&name).ok_or_else(missing)?;
            let shape = [layout.steps, layout.positions.len(), dim];
            if tensor.dtype != dtype || tensor.shape != shape {
                let (has, shaped) = (tensor.dtype, tensor.shape);
                let problem = format!("is {has} {shaped:?}, the manifest states {dtype} {shape:?}");
                return Err(Flaw::new(name, problem, RECORD_AGAIN));
            }
            tensors.insert(name, tensor.range);
        }
    }
    match found.into_keys().next() {
        Some(name) => Err(Flaw::new(name, "is in the file and not in the manifest", RECORD_AGAIN)),
        None => Ok(tensors),
    }
}

/// Name of a storage format in a safetensors file.
pub(crate) const fn format_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "F32",
        Dtype::Bf16 => "BF16",
        Dtype::F16 => "F16",
    }
}

/// Name, safetensors format and width of every tensor of a phase.
fn expected(phase: Phase, layout: &PhaseLayout) -> Vec<(String, &'static str, usize)> {
    let sites = layout.tensors.0.iter();
    let mut all: Vec<_> =
        sites.map(|(&site, t)| (tensor_name(phase, site), format_name(t.dtype), t.dim)).collect();
    if let Some(LogprobsLayout { k, .. }) = layout.logprobs {
        all.extend([(token_ids_name(phase), "U32", k), (log_probs_name(phase), "F32", k)]);
    }
    all
}

impl<'a> RunView<'a> {
    /// The run without its signals.
    #[must_use]
    pub const fn run(self) -> &'a Run {
        &self.stored.run
    }

    /// Size and digest of its file.
    #[must_use]
    pub const fn file(self) -> &'a FileEntry {
        &self.stored.file
    }

    /// Steps and positions of a phase, or `None` when it was not recorded.
    #[must_use]
    pub fn steps(self, phase: Phase) -> Option<(usize, &'a [i32])> {
        self.layout(phase).map(|layout| (layout.steps, layout.positions.as_slice()))
    }

    /// Sites recorded in a phase, in the order of data flow.
    pub fn sites(self, phase: Phase) -> impl Iterator<Item = Site> + 'a {
        self.layout(phase).into_iter().flat_map(|layout| layout.tensors.0.keys().copied())
    }

    /// The tensor of a site, not copied.
    #[must_use]
    pub fn tensor(self, phase: Phase, site: Site) -> Option<TensorView<'a>> {
        let layout = self.layout(phase)?;
        let TensorLayout { dtype, dim } = *layout.tensors.0.get(&site)?;
        let data = self.bytes(&tensor_name(phase, site))?;
        Some(TensorView { dtype, shape: [layout.steps, layout.positions.len(), dim], data })
    }

    /// The log-probabilities of a phase, copied.
    #[must_use]
    pub fn logprobs(self, phase: Phase) -> Option<Logprobs> {
        let layout = self.layout(phase)?;
        let LogprobsLayout { k, vocab_size } = layout.logprobs?;
        let (token_ids, log_probs) = self.candidates(phase, 0..layout.steps * layout.positions.len() * k)?;
        Some(Logprobs {
            steps: layout.steps,
            positions: layout.positions.len(),
            k,
            vocab_size,
            token_ids,
            log_probs,
        })
    }

    /// What its manifest states about the signals of a phase.
    pub(crate) fn layout(self, phase: Phase) -> Option<&'a PhaseLayout> {
        self.stored.extras.signals.phases().find(|(found, _)| *found == phase).map(|(_, layout)| layout)
    }

    /// The digest that the manifest states for its signals.
    pub(crate) const fn signals_digest(self) -> Digest {
        self.stored.extras.signals_digest
    }

    /// What of its ids is not as the manifest states.
    pub(crate) fn damage_of_ids(self) -> Vec<Flaw> {
        crate::json::damage_of_ids(&self.stored.extras)
    }

    /// Where the tensor of a site lies in [`Self::mapped`].
    pub(crate) fn range(self, phase: Phase, site: Site) -> Option<Range<usize>> {
        self.stored.tensors.get(&tensor_name(phase, site)).cloned()
    }

    /// Its file.
    pub(crate) fn mapped(self) -> &'a [u8] {
        &self.stored.map
    }

    /// Candidates `range` of a phase, row-major over steps and positions.
    pub(crate) fn candidates(self, phase: Phase, range: Range<usize>) -> Option<(Vec<u32>, Vec<f32>)> {
        let words = |name: &str| {
            let words = self.bytes(name)?.get(range.start * 4..range.end * 4)?.chunks_exact(4);
            Some(words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
        };
        let log_probs = words(&log_probs_name(phase))?.map(f32::from_bits).collect();
        Some((words(&token_ids_name(phase))?.collect(), log_probs))
    }

    fn bytes(self, name: &str) -> Option<&'a [u8]> {
        self.stored.map.get(self.stored.tensors.get(name)?.clone())
    }

    fn load(self, phase: Phase) -> Option<PhaseSignals> {
        let layout = self.layout(phase)?;
        let tensors = self.sites(phase).filter_map(|site| {
            let TensorView { dtype, shape, data } = self.tensor(phase, site)?;
            Some((site, SignalTensor { dtype, shape, data: data.to_vec() }))
        });
        Some(PhaseSignals {
            first_step: layout.first_step,
            steps: layout.steps,
            positions: layout.positions.clone(),
            tensors: tensors.collect(),
            logprobs: self.logprobs(phase),
        })
    }
}
