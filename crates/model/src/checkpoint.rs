//! A checkpoint on disk: configuration and named weights, from a safetensors folder or a GGUF file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mantissa_numerics::{BlockFormat, Generation};
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::decision::{Decision, Decisions};
pub(crate) use crate::error::LARGEST_JSON;
use crate::error::{ModelError, present, read_small, shown, shown_path};
use crate::folder::{Entries, entries, refuse_adapter, tell_unused, tie, weight_files};
use crate::generation::of_file;
use crate::gguf::Gguf;
use crate::gguf_model::{gguf_config, gguf_weights, unexpected};
use crate::mapped::Mapped;
use crate::quantized::{Int4Matrix, Nf4Matrix, OtherScales, Quantization};
use crate::safetensors_header::read_header;
use crate::shelf::{Found, Shelf};
use crate::stored::Stored;
use crate::weight::{Weight, WeightDtype};

/// Bytes hashed between two reports of progress.
const HASH_STEP: usize = 16 << 20;

/// An opened checkpoint: every weight that the configuration asks for is there, in the right shape.
///
/// ```
/// use mantissa_model::synth::{SynthSpec, write};
/// use mantissa_model::{Arch, Checkpoint};
///
/// # let folder = tempfile::tempdir()?;
/// write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
/// let checkpoint = Checkpoint::open(folder.path())?;
/// let embedding = checkpoint.weight("model.embed_tokens.weight")?;
/// let config = checkpoint.config();
/// assert_eq!((embedding.rows, embedding.cols), (config.vocab_size, config.hidden_size));
/// assert_eq!((embedding.dtype.name(), embedding.row(0).len()), ("bf16", 2 * config.hidden_size));
/// // The same seed gives the same bytes anywhere.
/// let digest = checkpoint.digest(&|_| {})?;
/// assert_eq!(digest.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), [
///     "config.json",
///     "model.safetensors",
/// ]);
/// assert!(checkpoint.weight("lm_head.nonsense").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: ModelConfig,
    /// The `config.json`, for checkpoints that have one.
    config_file: Option<PathBuf>,
    files: Vec<Mapped>,
    weights: BTreeMap<String, Stored>,
    packed: Option<Quantization>,
    decisions: Vec<Decision>,
    /// Or why they are not known.
    generation: Result<Generation, Box<ModelError>>,
    ends_of_config: Vec<u32>,
}

/// Digest of the files that decide a model's numbers.
///
/// Example: [`Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsDigest {
    /// BLAKE3 over the files in the order below: length of the name, name, size (both u64, little-endian),
    /// digest of the content. Hexadecimal.
    pub digest: String,
    /// The files, sorted by name.
    pub files: Vec<FileDigest>,
}

/// Digest of one file.
///
/// Example: [`Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// File name without its folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the content, hexadecimal.
    pub blake3: String,
}

/// How a weight is stored.
///
/// ```
/// use mantissa_model::quantized::Quantization;
/// use mantissa_model::synth::{SynthRequest, SynthSpec, write};
/// use mantissa_model::{Arch, Checkpoint};
///
/// # let folder = tempfile::tempdir()?;
/// let (arch, quantization) = (Some(Arch::LLAMA), Some(Quantization::Awq));
/// let request = SynthRequest { arch, quantization, ..SynthRequest::default() };
/// write(&SynthSpec::new(&request)?, folder.path(), &|_| {})?;
/// let checkpoint = Checkpoint::open(folder.path())?;
/// assert_eq!(checkpoint.packed(), quantization);
/// let name = "model.layers.0.mlp.up_proj.weight";
/// let stored = checkpoint.stored_as(name).expect("there");
/// assert_eq!((stored.format, stored.rows, stored.cols), ("awq", 384, 128));
/// // Half a byte for each value; a scale and a zero point for each 128.
/// assert_eq!(stored.bytes, 384 * 128 / 2 + 384 * 2 + 384 / 2);
/// assert_eq!(checkpoint.weight(name)?.dtype.name(), "f16");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredAs {
    /// Name of the element type, of GGUF's blocks, or of the layout of a quantized matrix.
    pub format: &'static str,
    /// Output features; of stacked experts those of all.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Bytes in the files.
    pub bytes: u64,
}

impl Checkpoint {
    /// Opens a Hugging Face folder (`config.json` and safetensors), a GGUF file, or a folder with one.
    ///
    /// Reads headers only; weights are mapped and come from the disk when they are used.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let meta = std::fs::metadata(path).map_err(|e| ModelError::io(path, "open", e))?;
        if !meta.is_dir() {
            if path.extension().is_some_and(|ext| ext == "safetensors") {
                let remedy = "give its folder, which holds config.json too";
                let fault = "one weight file is not a model";
                return Err(ModelError::unsupported(&shown_path(path), "path", fault, remedy));
            }
            return Self::open_gguf(path, path);
        }
        refuse_adapter(path)?;
        match present(path, "config.json") {
            Some(config) => Self::open_folder(path, config),
            None => Self::open_gguf(path, &gguf_in(path)?),
        }
    }

    fn open_gguf(path: &Path, gguf_path: &Path) -> Result<Self, ModelError> {
        let mapped = Mapped::open(gguf_path)?;
        let file = shown_path(gguf_path);
        let gguf = Gguf::parse(&file, mapped.bytes())?;
        let config = gguf_config(&gguf, mapped.bytes())?;
        let weights = select_all(&file, &config, gguf_weights(&gguf, &config)?)?;
        let ends_of_config = config.eos_token_ids.clone();
        Ok(Self {
            path: path.to_owned(),
            config,
            config_file: None,
            files: vec![mapped],
            weights,
            packed: None,
            decisions: Vec::new(),
            generation: Ok(ending_at(&ends_of_config)),
            ends_of_config,
        })
    }

    fn open_folder(folder: &Path, config_file: PathBuf) -> Result<Self, ModelError> {
        let shown_folder = shown_path(folder);
        let decisions = Decisions::default();
        let bytes = read_small(&config_file, LARGEST_JSON)?;
        let mut config = ModelConfig::read(&shown_path(&config_file), &bytes, &decisions)?;
        let ends_of_config = config.eos_token_ids.clone();
        // transformers takes the ends of config.json only where the file is not there.
        let generation = match present(folder, "generation_config.json") {
            Some(file) => of_file(&file, &mut config, &decisions),
            None => Ok(ending_at(&ends_of_config)),
        };
        let (files, index) = weight_files(folder, &bytes, &decisions)?;
        let mut shelf = Shelf::new(&config, &bytes);
        let Entries { chosen, unnamed } = entries(&files, index.as_ref(), &decisions)?;
        for (number, entry) in chosen {
            shelf.place(&shown_path(&files[number].path), number, entry)?;
        }
        let packed = shelf.quantization();
        let read = |number: usize| files[number].bytes();
        let mut found = shelf.weights(&shown_folder, &config, &read)?;
        tie(&shown_folder, &mut config, &mut found, &read, &decisions)?;
        let weights = select(&shown_folder, &config, &mut found)?;
        let nf4 = |stored: &Stored| stored.quantized.as_ref().and_then(|decoder| decoder.nf4_block());
        config.nf4_block = weights.values().find_map(nf4);
        let int4 = |stored: &Stored| stored.quantized.as_ref().and_then(|decoder| decoder.int4_layout());
        config.int4 = weights.values().find_map(int4);
        tell_unused(&files, &found, &unnamed, &decisions);
        let decisions = decisions.into_list();
        let config_file = Some(config_file);
        let (path, generation) = (folder.to_owned(), generation.map_err(Box::new));
        Ok(Self { path, config, config_file, files, weights, packed, decisions, generation, ends_of_config })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Dimensions and switches.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What was decided where files contradict each other, leave something open, or hold what is not used.
    ///
    /// Example: [`Decision`].
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The settings of its `generation_config.json` that act on the choice of tokens; without that file the ends that
    /// its configuration names. *Errors:* the file is damaged, which concerns only those who read it.
    ///
    /// *Source:* `adjust_generation_fn` of transformers 5.17.
    pub fn generation(&self) -> Result<&Generation, &ModelError> {
        self.generation.as_ref().map_err(|error| &**error)
    }

    /// The settings without a `generation_config.json`: the ends that the model's configuration names.
    #[must_use]
    pub fn generation_without_file(&self) -> Generation {
        ending_at(&self.ends_of_config)
    }

    /// The weight with this Hugging Face name.
    ///
    /// Borrowed from the memory map, except for q and k of Llama GGUF files, whose rows are copied into
    /// Hugging Face order on each call, and for matrices of a [`Quantization`], which are decoded on each call.
    /// `lm_head.weight` is absent when the embedding serves as output.
    pub fn weight(&self, name: &str) -> Result<Weight<'_>, ModelError> {
        match self.weights.get(name) {
            Some(stored) => stored
                .weight(&|number| self.files[number].bytes())
                .map_err(|fault| ModelError::tensor(&shown_path(&self.path), name, fault)),
            None => Err(ModelError::tensor(&shown_path(&self.path), name, "absent")),
        }
    }

    /// [`Checkpoint::weight`] of a matrix of a [`Quantization`], decoded with the scales of other groups: to try
    /// whether another program took them. `None` where the weight is not quantized so.
    ///
    /// ```
    /// use mantissa_model::quantized::OtherScales;
    /// use mantissa_model::synth::{SynthSpec, write};
    /// use mantissa_model::{Arch, Checkpoint};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// write(&SynthSpec::tiny(Arch::LLAMA, 7), folder.path(), &|_| {})?;
    /// let checkpoint = Checkpoint::open(folder.path())?;
    /// assert!(checkpoint.weight_with("model.norm.weight", OtherScales::Next)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn weight_with(&self, name: &str, other: OtherScales) -> Result<Option<Weight<'_>>, ModelError> {
        let Some(stored) = self.weights.get(name) else { return Ok(None) };
        let found = stored.weight_with(&|number| self.files[number].bytes(), other).transpose();
        found.map_err(|fault| ModelError::tensor(&shown_path(&self.path), name, fault))
    }

    /// The weight with this name as it is stored, if that is nf4.
    ///
    /// ```
    /// use mantissa_model::quantized::Quantization;
    /// use mantissa_model::synth::{SynthRequest, SynthSpec, write};
    /// use mantissa_model::{Arch, Checkpoint};
    /// use mantissa_numerics::nvidia::bnb::Nf4Way;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let (arch, quantization) = (Some(Arch::LLAMA), Some(Quantization::BnbNf4));
    /// let request = SynthRequest { arch, quantization, ..SynthRequest::default() };
    /// write(&SynthSpec::new(&request)?, folder.path(), &|_| {})?;
    /// let checkpoint = Checkpoint::open(folder.path())?;
    /// let name = "model.layers.0.mlp.up_proj.weight";
    /// let stored = checkpoint.nf4(name).expect("it is nf4");
    /// let (mut row, mut decoded) = (vec![0.0; stored.cols()], vec![0.0; stored.cols()]);
    /// stored.row(Nf4Way::Decoded, 1, &mut row);
    /// checkpoint.weight(name)?.row_f32(1, &mut decoded);
    /// assert_eq!((stored.block(), stored.is_multiplied(), row), (64, true, decoded));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn nf4(&self, name: &str) -> Option<Nf4Matrix<'_>> {
        self.weights.get(name)?.quantized.as_ref()?.nf4(&|number| self.files[number].bytes())
    }

    /// The weight with this name as it is stored, if that is integers of 4 bits (AWQ, GPTQ).
    ///
    /// ```
    /// use mantissa_model::quantized::Quantization;
    /// use mantissa_model::synth::{Preset, SynthRequest, SynthSpec, write};
    /// use mantissa_model::{Arch, Checkpoint};
    /// use mantissa_numerics::{Dtype, recipe::PackedKernel};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let (arch, quantization) = (Some(Arch::QWEN3), Some(Quantization::Gptq));
    /// let request = SynthRequest { arch, quantization, dtype: Some(Dtype::Bf16), ..SynthRequest::default() };
    /// write(&SynthSpec::new(&request)?, folder.path(), &|_| {})?;
    /// let checkpoint = Checkpoint::open(folder.path())?;
    /// let name = "model.layers.0.mlp.up_proj.weight";
    /// let stored = checkpoint.int4(name).expect("it is GPTQ");
    /// let (mut row, mut decoded) = (vec![0.0; stored.cols()], vec![0.0; stored.cols()]);
    /// stored.row(PackedKernel::Machete, Dtype::Bf16, 1, &mut row);
    /// checkpoint.weight(name)?.row_f32(1, &mut decoded);
    /// assert_eq!((stored.layout().zeros, stored.refused(), row), (false, None, decoded));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn int4(&self, name: &str) -> Option<Int4Matrix<'_>> {
        self.weights.get(name)?.quantized.as_ref()?.int4(&|number| self.files[number].bytes())
    }

    /// How the weight with this name is stored; reads nothing.
    #[must_use]
    pub fn stored_as(&self, name: &str) -> Option<StoredAs> {
        let stored = self.weights.get(name)?;
        let (rows, cols) = stored.rows_and_cols();
        let packed = self.packed.filter(|_| stored.quantized.is_some());
        let format = packed.map_or(stored.dtype.name(), Quantization::name);
        Some(StoredAs { format, rows, cols, bytes: as_u64(stored.bytes()) })
    }

    /// Whether there is such a weight.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }

    /// The names of all weights, sorted.
    pub fn weight_names(&self) -> impl Iterator<Item = &str> {
        self.weights.keys().map(String::as_str)
    }

    /// Bytes of all weights as stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.weights.values().map(|stored| as_u64(stored.bytes())).sum()
    }

    /// The files that decide the model's numbers: weights, and `config.json` where there is one.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.config_file.as_deref().into_iter().chain(self.files.iter().map(|mapped| mapped.path.as_path()))
    }

    /// The block format that most of the stored bytes have; `None` when no weight is quantized.
    #[must_use]
    pub fn quantization(&self) -> Option<BlockFormat> {
        let mut bytes = BTreeMap::<BlockFormat, u64>::new();
        for stored in self.weights.values() {
            if let WeightDtype::Block(format) = stored.dtype {
                *bytes.entry(format).or_default() += as_u64(stored.range.len());
            }
        }
        bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map(|(format, _)| format)
    }

    /// The layout of a folder whose matrices are quantized; [`Checkpoint::weight`] decodes them.
    #[must_use]
    pub fn packed(&self) -> Option<Quantization> {
        self.packed
    }

    /// Hashes every byte of [`Checkpoint::files`] on all cores; `progress` hears the bytes done so far.
    pub fn digest(&self, progress: &dyn Fn(u64)) -> Result<WeightsDigest, ModelError> {
        let mut done = 0;
        let mut files = Vec::new();
        for mapped in &self.files {
            // Read, not through the map: whoever then uses few weights has not all of them in memory.
            let (path, mut hasher) = (&mapped.path, blake3::Hasher::new());
            let mut file = std::fs::File::open(path).map_err(|e| ModelError::io(path, "open", e))?;
            let (mut window, mut length) = (vec![0; HASH_STEP], 0);
            loop {
                match file.read(&mut window) {
                    Ok(0) => break,
                    Ok(read) => {
                        hasher.update_rayon(&window[..read]);
                        length += read;
                        done += as_u64(read);
                        progress(done);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(ModelError::io(path, "read", e)),
                }
            }
            if length != mapped.bytes().len() {
                return Err(ModelError::Damaged {
                    file: shown_path(path),
                    place: "length".to_owned(),
                    fault: format!("{length} bytes, and {} when it was opened", mapped.bytes().len()),
                    remedy: "let nothing write to it meanwhile",
                });
            }
            files.push(file_digest(path, length, hasher.finalize()));
        }
        if let Some(path) = &self.config_file {
            let bytes = read_small(path, LARGEST_JSON)?;
            files.push(file_digest(path, bytes.len(), blake3::hash(&bytes)));
        }
        files.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let mut whole = blake3::Hasher::new();
        for (file, hash) in &files {
            whole.update(&as_u64(file.name.len()).to_le_bytes());
            whole.update(file.name.as_bytes());
            whole.update(&file.size.to_le_bytes());
            whole.update(hash.as_bytes());
        }
        let files = files.into_iter().map(|(file, _)| file).collect();
        Ok(WeightsDigest { digest: whole.finalize().to_hex().to_string(), files })
    }
}

fn ending_at(ids: &[u32]) -> Generation {
    Generation { eos_token_id: ids.to_vec(), ..Generation::default() }
}

/// The one GGUF file of a folder.
pub(crate) fn gguf_in(folder: &Path) -> Result<PathBuf, ModelError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| ModelError::io(folder, "list", e))? {
        let path = entry.map_err(|e| ModelError::io(folder, "list", e))?.path();
        if path.extension().is_some_and(|ext| ext == "gguf") {
            found.push(path);
        }
    }
    found.sort();
    let (fault, remedy) = match found.as_slice() {
        [one] => return Ok(one.clone()),
        [] => ("neither config.json nor a .gguf file in this folder", "give a model's folder or GGUF file"),
        _ => ("several .gguf files in this folder", "give one of them by its path"),
    };
    let spec = shown_path(folder);
    Err(ModelError::NotFound { spec, fault: fault.into(), remedy: remedy.into() })
}

/// Takes the weights that `config` asks for; an absent or misshapen one is an error.
fn select(
    file: &str,
    config: &ModelConfig,
    found: &mut Found,
) -> Result<BTreeMap<String, Stored>, ModelError> {
    let mut weights = BTreeMap::new();
    for spec in config.tensors() {
        let Some(stored) = found.weights.remove(&spec.name) else {
            return Err(match found.foreign.get(&spec.name) {
                Some((_, dtype)) => ModelError::Tensor {
                    file: file.to_owned(),
                    tensor: shown(&spec.name),
                    fault: format!("type {} is not read", shown(dtype)),
                    remedy: "use a checkpoint in F32, BF16 or F16",
                },
                None => ModelError::tensor(file, &spec.name, "absent"),
            });
        };
        if stored.shape != spec.shape {
            let (have, want) = (&stored.shape, &spec.shape);
            let fault = format!("shape {have:?}, the configuration asks for {want:?}");
            return Err(ModelError::tensor(file, &spec.name, fault));
        }
        weights.insert(spec.name, stored);
    }
    Ok(weights)
}

/// As [`select`], for a file whose every tensor must have its place.
fn select_all(
    file: &str,
    config: &ModelConfig,
    weights: BTreeMap<String, Stored>,
) -> Result<BTreeMap<String, Stored>, ModelError> {
    let mut found = Found { weights, foreign: BTreeMap::new() };
    let selected = select(file, config, &mut found)?;
    match found.weights.keys().next() {
        Some(name) => Err(unexpected(file, name, config.arch)),
        None => Ok(selected),
    }
}

fn file_digest(path: &Path, size: usize, hash: blake3::Hash) -> (FileDigest, blake3::Hash) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (FileDigest { name, size: as_u64(size), blake3: hash.to_hex().to_string() }, hash)
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Opens the parts of a checkpoint from memory, for tests and fuzzing: `config.json` and one weight file.
#[doc(hidden)]
pub fn open_in_memory(json: &[u8], safetensors: &[u8]) -> Result<ModelConfig, ModelError> {
    let mut config = ModelConfig::from_json("config.json", json)?;
    let mut shelf = Shelf::new(&config, json);
    for entry in read_header("model.safetensors", safetensors)? {
        shelf.place("model.safetensors", 0, entry)?;
    }
    let file = |_| safetensors;
    let mut found = shelf.weights("model", &config, &file)?;
    tie("model", &mut config, &mut found, &file, &Decisions::default())?;
    for (name, stored) in &select("model", &config, &mut found)? {
        let weight = stored.weight(&file).map_err(|fault| ModelError::tensor("model", name, fault))?;
        let mut row = vec![0.0; weight.cols];
        weight.row_f32(weight.rows - 1, &mut row);
    }
    Ok(config)
}

/// As [`open_in_memory`] for a GGUF file.
#[doc(hidden)]
pub fn open_gguf_in_memory(bytes: &[u8]) -> Result<ModelConfig, ModelError> {
    let gguf = Gguf::parse("model.gguf", bytes)?;
    let config = gguf_config(&gguf, bytes)?;
    for (name, stored) in &select_all("model.gguf", &config, gguf_weights(&gguf, &config)?)? {
        let weight =
            stored.weight(&|_| bytes).map_err(|fault| ModelError::tensor("model.gguf", name, fault))?;
        let mut row = vec![0.0; weight.cols];
        weight.row_f32(weight.rows - 1, &mut row);
    }
    Ok(config)
}
