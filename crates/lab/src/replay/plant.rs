//! Known deviations, planted: evidence that is honest except for one thing, to show that a verification finds it.
//!
//! Each is computed as a recorder would, with all rows of its batch; weights are altered in a copy of the model. Left
//! out: whether it is found (the verb that asks).

use std::path::Path;

use mantissa_engine::{Catalogs, Engine, Hardware};
use mantissa_evidence::Run;
use mantissa_model::Checkpoint;
use mantissa_numerics::{Dtype, Generation, Phase, Point, Setup, Site};

use super::produce::{Wanted, produce};
use crate::error::LabError;
use crate::session::Session;
use crate::setup::Machine;

/// Evidence with a known deviation.
///
/// Example: [`Deviations`].
#[derive(Debug)]
pub struct PlantedRun {
    /// What was done to it.
    pub deviation: String,
    /// Whether it has to be caught; false for honest evidence.
    pub dishonest: bool,
    /// The evidence.
    pub run: Run,
    /// Whether any recorded bit or token is other than in honest evidence.
    pub changed: bool,
}

/// What to plant in.
///
/// ```
/// use mantissa_engine::{Catalogs, Isa};
/// use mantissa_lab::Machine;
/// use mantissa_lab::replay::Deviations;
/// use mantissa_numerics::Setup;
///
/// # use mantissa_model::synth::{SynthSpec, write};
/// # use mantissa_model::{Arch, Checkpoint};
/// # let folder = tempfile::tempdir()?;
/// # let model = folder.path().join("model");
/// # write(&SynthSpec::tiny(Arch::LLAMA, 7), &model, &|_| {})?;
/// # let checkpoint = Checkpoint::open(&model)?;
/// let claim = Setup::default();
/// let deviations = Deviations {
///     checkpoint: &checkpoint,
///     claim,
///     others: &[Setup { batch_size: 2, ..claim }],
///     prompt: &[1, 2, 3, 4],
///     steps: 2,
///     catalogs: Catalogs::built_in(),
///     machine: Machine { threads: 1, isa: Isa::detect() },
///     scratch: folder.path(),
/// };
/// let (planted, _left_out) = deviations.plant()?;
/// assert!(!planted[0].dishonest && !planted[0].changed, "honest evidence comes first");
/// assert!(planted[1..].iter().all(|planted| planted.dishonest));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Deviations<'d> {
    /// The model.
    pub checkpoint: &'d Checkpoint,
    /// The honest setup.
    pub claim: Setup,
    /// Setups that are claimed to be it: each is planted.
    pub others: &'d [Setup],
    /// The prompt.
    pub prompt: &'d [u32],
    /// Decode steps.
    pub steps: usize,
    /// What is known of libraries' choices.
    pub catalogs: &'d Catalogs,
    /// Where to run.
    pub machine: Machine,
    /// A folder for altered copies of the model; they are left there.
    pub scratch: &'d Path,
}

impl Deviations<'_> {
    /// All plants, honest evidence first, and what could not be planted.
    ///
    /// *Errors:* the engine's, the model's, a full disk.
    pub fn plant(&self) -> Result<(Vec<PlantedRun>, Vec<String>), LabError> {
        let tokens = self.tokens()?;
        let honest = self.produce(self.checkpoint, self.claim, &tokens)?;
        let mut planted = vec![PlantedRun {
            deviation: format!("nothing: honest evidence of {}", self.claim),
            dishonest: false,
            run: honest.clone(),
            changed: false,
        }];
        let mut left_out = Vec::new();
        let mut add = |deviation: String, run: Run| {
            let changed = run.signals_digest() != honest.signals_digest()
                || run.output_token_ids != honest.output_token_ids;
            planted.push(PlantedRun { deviation, dishonest: true, run, changed });
        };
        for other in self.others {
            match self.produce(self.checkpoint, *other, &tokens) {
                Ok(run) => add(format!("recorded by {other}"), run),
                Err(LabError::Engine(error @ mantissa_engine::EngineError::Uncovered { .. })) => {
                    left_out.push(format!("{other}: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        let mut run = honest.clone();
        if let Some(place) = flip(&mut run) {
            add(format!("last significand bit of one value flipped: {place}"), run);
        }
        let mut run = honest.clone();
        let step = self.steps / 2;
        if let Some(id) = run.output_token_ids.get_mut(step) {
            let vocabulary = u32::try_from(self.checkpoint.config().vocab_size).unwrap_or(u32::MAX);
            *id = (*id + 1) % vocabulary;
            add(format!("output token {step} replaced by its neighbour in the vocabulary"), run);
        }
        let middle = self.checkpoint.config().num_hidden_layers / 2;
        let layer = format!("model.layers.{middle}.");
        let ulp = self.altered("ulp", &|name, dtype, _, bytes| {
            if name.starts_with(&layer) {
                next_value(dtype, bytes);
            }
        })?;
        let four = self.altered("four-bits", &|name, dtype, columns, bytes| {
            if name.starts_with("model.layers.") && columns >= 32 {
                four_bits(dtype, bytes);
            }
        })?;
        for (folder, deviation) in [
            (ulp, format!("weights of layer {} changed by one ULP each", middle + 1)),
            (four, "weights quantized to 4 bits in blocks of 32, claimed as they were".to_owned()),
        ] {
            match folder {
                Some(folder) => {
                    let checkpoint = Checkpoint::open(&folder)?;
                    add(deviation, self.produce(&checkpoint, self.claim, &tokens)?);
                }
                None => left_out.push(format!(
                    "{deviation}: weights are altered in safetensors folders of up to {} MB only",
                    LARGEST / 1_000_000
                )),
            }
        }
        Ok((planted, left_out))
    }

    fn engine<'c>(&self, checkpoint: &'c Checkpoint, candidate: Setup) -> Result<Engine<'c>, LabError> {
        let context = self.prompt.len() + self.steps;
        Ok(Engine::load(checkpoint, self.machine.engine(&candidate, context, self.catalogs))?)
    }

    /// What the claim chooses greedily.
    fn tokens(&self) -> Result<Vec<u32>, LabError> {
        let engine = self.engine(self.checkpoint, self.claim)?;
        let Setup { batch_size, padding, .. } = self.claim;
        let prompts = &[self.prompt];
        let (settings, hardware) = (&Generation::default(), Hardware::Cpu);
        let session =
            Session { prompts, batch_size, padding, steps: self.steps, forced: None, settings, hardware };
        Ok(session.run(&engine, None, &|_, _| {})?.swap_remove(0))
    }

    fn produce(&self, checkpoint: &Checkpoint, setup: Setup, tokens: &[u32]) -> Result<Run, LabError> {
        let engine = self.engine(checkpoint, setup)?;
        let layers = u32::try_from(checkpoint.config().num_hidden_layers).unwrap_or(u32::MAX);
        let mut sites: Vec<Site> = (1..=layers)
            .flat_map(|layer| {
                [Point::K, Point::AttnOut, Point::MlpOut, Point::XOut].map(|point| Site::at(layer, point))
            })
            .collect();
        sites.push(Site::outside(Point::FinalNorm));
        // Neighbours with other contents: the same words, turned.
        let prompts: Vec<Vec<u32>> = (0..setup.batch_size)
            .map(|row| {
                let mut ids = self.prompt.to_vec();
                ids.rotate_left(row % self.prompt.len().max(1));
                ids
            })
            .collect();
        let wanted = Wanted {
            prompts: &prompts,
            padding: setup.padding,
            forced: tokens,
            sites: &sites,
            positions: &[-1],
            top_k: 5,
        };
        produce(&engine, wanted)
    }

    /// A copy of the model with every matrix and vector passed through `change` (name, format, row length, bytes);
    /// `None` where the model is no folder of safetensors, or a large one.
    fn altered(&self, name: &str, change: &Change<'_>) -> Result<Option<std::path::PathBuf>, LabError> {
        let folder = self.checkpoint.path();
        if !folder.is_dir() || self.checkpoint.stored_bytes() > LARGEST {
            return Ok(None);
        }
        let to = self.scratch.join(name);
        let io = |path: &Path, action, source| LabError::Io { path: path.to_owned(), action, source };
        std::fs::create_dir_all(&to).map_err(|e| io(&to, "make", e))?;
        for entry in std::fs::read_dir(folder).map_err(|e| io(folder, "list", e))?.flatten() {
            let path = entry.path();
            if !path.is_file() {
                continue;
            }
            let mut bytes = std::fs::read(&path).map_err(|e| io(&path, "read", e))?;
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                alter(&mut bytes, change);
            }
            let target = to.join(entry.file_name());
            std::fs::write(&target, bytes).map_err(|e| io(&target, "write", e))?;
        }
        Ok(Some(to))
    }
}

/// What happens to a tensor: its name, format, row length (0 for vectors) and bytes.
type Change<'c> = dyn Fn(&str, Dtype, usize, &mut [u8]) + 'c;

/// Larger models are not copied.
const LARGEST: u64 = 2_000_000_000;

/// Passes every tensor of a safetensors file through `change`. The checkpoint was opened, so the file is sound.
fn alter(bytes: &mut [u8], change: &Change<'_>) {
    let Some((length, rest)) = bytes.split_first_chunk_mut::<8>() else { return };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some((header, data)) = rest.split_at_mut_checked(length) else { return };
    let Ok(serde_json::Value::Object(tensors)) = serde_json::from_slice(header) else { return };
    for (name, tensor) in &tensors {
        let dtype = match tensor["dtype"].as_str() {
            Some("BF16") => Dtype::Bf16,
            Some("F16") => Dtype::F16,
            Some("F32") => Dtype::F32,
            _ => continue,
        };
        let number = |value: &serde_json::Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let offsets = (number(&tensor["data_offsets"][0]), number(&tensor["data_offsets"][1]));
        let shape = tensor["shape"].as_array();
        let columns =
            shape.filter(|shape| shape.len() > 1).and_then(|shape| number(shape.last()?)).unwrap_or(0);
        if let (Some(from), Some(until)) = offsets
            && let Some(bytes) = data.get_mut(from..until)
        {
            change(name, dtype, columns, bytes);
        }
    }
}

/// Every value becomes the next larger in magnitude.
fn next_value(dtype: Dtype, bytes: &mut [u8]) {
    for value in bytes.chunks_exact_mut(dtype.size()) {
        for byte in value {
            *byte = byte.wrapping_add(1);
            // Carry into the next byte.
            if *byte != 0 {
                break;
            }
        }
    }
}

/// Values in blocks of 32 become multiples of their largest magnitude over seven.
fn four_bits(dtype: Dtype, bytes: &mut [u8]) {
    for block in bytes.chunks_mut(32 * dtype.size()) {
        let values: Vec<f32> = (0..block.len() / dtype.size()).map(|i| dtype.decode(block, i)).collect();
        let scale = values.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 7.0;
        let mut out = Vec::with_capacity(block.len());
        for value in values {
            let steps = if scale > 0.0 { (value / scale).round_ties_even() } else { 0.0 };
            dtype.encode(dtype.round(steps * scale), &mut out);
        }
        block.copy_from_slice(&out);
    }
}

/// Flips the last significand bit of one value in the middle of a run; says where.
fn flip(run: &mut Run) -> Option<String> {
    let decode = run.decode.as_mut()?;
    let step = decode.steps / 2;
    let (site, tensor) = decode.tensors.iter_mut().nth(2)?;
    let [_, positions, dim] = tensor.shape;
    let element = dim / 3;
    let at = ((step * positions) * dim + element) * tensor.dtype.size();
    *tensor.data.get_mut(at)? ^= 1;
    Some(format!("{} step {step} {site}[{element}]", Phase::Decode.name()))
}
