//! Models and records, made as a user would make them.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mantissa_engine::{Catalogs, Isa};
use mantissa_evidence::{Experiment, container, json};
use mantissa_lab::document::Document;
use mantissa_lab::prompt::PromptSpec;
use mantissa_lab::{Machine, RecordSpec, Recorder};
use mantissa_model::synth::{Preset, SynthRequest, SynthSpec, write};
use mantissa_model::{Arch, Checkpoint, Tokenizer};
use mantissa_numerics::setup::Hardware;

use crate::draw::{Format, Kind, Wanted};

/// Why a case cannot be made or asked; another is drawn.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type Made<T> = Result<T, Refusal>;

/// Where a case runs: cases share the cores, not one case.
pub(crate) fn machine() -> Machine {
    Machine { threads: 1, isa: Isa::detect() }
}

/// Synthetic models, each written once.
pub(crate) struct Models {
    folder: PathBuf,
    known: Mutex<HashMap<(&'static str, u64, bool), PathBuf>>,
}

/// A model that was opened.
pub(crate) struct Model {
    pub(crate) folder: PathBuf,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) tokenizer: Tokenizer,
}

impl Model {
    pub(crate) fn open(folder: &Path) -> Made<Self> {
        let (checkpoint, tokenizer) = (Checkpoint::open(folder)?, Tokenizer::open(folder)?);
        Ok(Self { folder: folder.to_owned(), checkpoint, tokenizer })
    }
}

/// What every model here is called.
pub(crate) const NAME: &str = "critics-model";

impl Models {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, known: Mutex::default() }
    }

    /// A folder of one case.
    pub(crate) fn scratch(&self, kind: Kind, number: u64, attempt: u64) -> PathBuf {
        self.folder.join(format!("{kind}-{number}-{attempt}"))
    }

    /// The model of a case: tiny, and for a GPU of the widths that its catalog covers, with one or two blocks.
    pub(crate) fn of(&self, wanted: &Wanted) -> Made<Model> {
        let gpu = wanted.cells[0].hardware != Hardware::Cpu;
        let seed = if gpu { wanted.model_seed % 2 } else { wanted.model_seed };
        let folder = self.written(wanted.arch, seed, gpu, || {
            if gpu {
                let request = SynthRequest {
                    // The widths of SmolLM2-135M, in any family.
                    arch: Some(wanted.arch),
                    seed,
                    hidden_size: Some(576),
                    intermediate_size: Some(1536),
                    num_attention_heads: Some(9),
                    num_key_value_heads: Some(3),
                    head_dim: Some(64),
                    vocab_size: Some(49_152),
                    num_hidden_layers: Some(1 + usize::from(seed > 0)),
                    ..SynthRequest::default()
                };
                Ok(SynthSpec::new(&request)?)
            } else {
                Ok(SynthSpec::tiny(wanted.arch, seed))
            }
        })?;
        Model::open(&folder)
    }

    /// The model whose evidence a GPU left.
    pub(crate) fn captured(&self) -> Made<Model> {
        let preset = Some(Preset::SmolLm2_135M);
        let request = SynthRequest { arch: Some(Arch::LLAMA), preset, ..SynthRequest::default() };
        let spec = SynthSpec::new(&request)?;
        let folder = self.folder.join("captured");
        write(&spec, &folder, &|_| {})?;
        Model::open(&folder)
    }

    fn written(&self, arch: Arch, seed: u64, gpu: bool, spec: impl Fn() -> Made<SynthSpec>) -> Made<PathBuf> {
        let mut known = self.known.lock().map_err(|_| Refusal("another case failed".to_owned()))?;
        if let Some(folder) = known.get(&(arch.name(), seed, gpu)) {
            return Ok(folder.clone());
        }
        let folder = self.folder.join(format!("model-{}-{seed}-{gpu}", arch.name()));
        write(&spec()?, &folder, &|_| {})?;
        known.insert((arch.name(), seed, gpu), folder.clone());
        Ok(folder)
    }
}

/// Records what is wanted, with `model` called [`NAME`].
pub(crate) fn record(wanted: &Wanted, model: &Model, out: &Path) -> Made<Experiment> {
    let documents: Vec<Document> = wanted
        .documents
        .iter()
        .enumerate()
        .map(|(n, text)| Document::from_text(&format!("document-{n}.txt"), text.as_bytes()))
        .collect::<Result<_, _>>()?;
    let own = wanted.cells[0].hardware == Hardware::Cpu;
    let most = wanted.cells.iter().map(|cell| cell.batch_size).max().unwrap_or(1);
    let spec = RecordSpec {
        model: NAME.to_owned(),
        prompt: PromptSpec {
            document_tokens: wanted.document_tokens,
            references: wanted.references,
            neighbours: if own { most - 1 } else { 0 },
            chat_template: wanted.chat_template,
            ..PromptSpec::default()
        },
        cells: wanted.cells.clone(),
        decode_steps: wanted.decode_steps,
        repetitions: wanted.repetitions,
        forced: None,
        signals: wanted.signals.clone(),
        generation: mantissa_numerics::Generation::default(),
    };
    let recorder = Recorder {
        checkpoint: &model.checkpoint,
        tokenizer: Some(&model.tokenizer),
        documents: &documents,
        spec: &spec,
        catalogs: Catalogs::built_in(),
        machine: machine(),
    };
    Ok(recorder.record(out, &|_| {})?.experiment)
}

/// Writes `experiment` in its format below `folder`.
pub(crate) fn stored(experiment: &Experiment, format: Format, folder: &Path) -> Made<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("evidence.json");
    match format {
        Format::Container => {
            let path = folder.join("evidence");
            container::write(&path, experiment)?;
            return Ok(path);
        }
        Format::Json => json::write(&path, experiment)?,
        Format::JsonGz => {
            let path = folder.join("evidence.json.gz");
            let file = std::fs::File::create(&path)?;
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(&json::to_vec(experiment, &path)?)?;
            packed.finish()?;
            return Ok(path);
        }
        Format::Converted => {
            json::write(&path, experiment)?;
            let again = folder.join("evidence");
            container::write(&again, &json::read(&path)?)?;
            return Ok(again);
        }
    }
    Ok(path)
}
