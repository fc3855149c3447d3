//! What to make: family, dimensions, seed, dtype; every dimension may be overridden.
//!
//! A [`SynthSpec`] exists only when its numbers fit together, so nothing after it has to ask again.
//! Left out: the presets themselves (`presets`), weights (`tensors`) and files (`files`, `write`).

use mantissa_numerics::Dtype;
use serde_json::Value;

use super::error::SynthError;
use super::presets::{Preset, dimensions};
use super::tokenizer;
use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::quantized::Quantization;
use crate::tensor_list::weight_name;

/// Most tensors of one model: their names are held in memory.
const MOST_TENSORS: u64 = 500_000;
/// How the names of the blocks' tensors begin.
pub(super) const BLOCKS: &str = "model.layers.";
/// Smallest shard: smaller ones would be mostly header.
const SMALLEST_SHARD: u64 = 64 << 10;

/// The family called `name`.
///
/// ```
/// use mantissa_model::{Arch, synth::parse_arch};
///
/// assert_eq!(parse_arch("llama")?, Arch::LLAMA);
/// assert!(parse_arch("tarot").is_err_and(|error| error.to_string().contains("use one of llama, ")));
/// # Ok::<(), mantissa_model::synth::SynthError>(())
/// ```
pub fn parse_arch(name: &str) -> Result<Arch, SynthError> {
    Arch::named(name).ok_or_else(|| {
        let names = names();
        SynthError::setting("arch", format!("'{name}'"), "no such family", format!("use one of {names}"))
    })
}

fn names() -> String {
    Arch::all().map(Arch::name).collect::<Vec<_>>().join(", ")
}

/// What a user may ask for; whatever is `None` comes from the preset.
///
/// ```
/// use mantissa_model::synth::{Preset, SynthError, SynthRequest, SynthSpec};
///
/// let request = SynthRequest { preset: Some(Preset::SmolLm2_135M), ..SynthRequest::default() };
/// assert_eq!(SynthSpec::new(&request)?.config().hidden_size, 576);
/// // Numbers that do not fit together are refused, with what would.
/// let odd = SynthRequest { num_key_value_heads: Some(2), ..request };
/// let refused = SynthSpec::new(&odd).expect_err("9 heads are not in pairs");
/// assert!(matches!(refused, SynthError::Setting { .. }));
/// # Ok::<(), SynthError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SynthRequest {
    /// Family; needed unless the preset has only one.
    pub arch: Option<Arch>,
    /// Dimensions to start from ([`Preset::Tiny`] if absent).
    pub preset: Option<Preset>,
    /// A configuration to start from instead, as [`config_of`] reads one.
    pub config: Option<ModelConfig>,
    /// Any number; the same one gives the same bytes.
    pub seed: u64,
    /// Storage dtype of every tensor that is not quantized (if absent bf16, and f16 beside awq and gptq).
    pub dtype: Option<Dtype>,
    /// How the matrices of the blocks are quantized, routers excepted.
    pub quantization: Option<Quantization>,
    /// Width of the residual stream.
    pub hidden_size: Option<usize>,
    /// Inner width of the dense MLP.
    pub intermediate_size: Option<usize>,
    /// Decoder blocks.
    pub num_hidden_layers: Option<usize>,
    /// Query heads.
    pub num_attention_heads: Option<usize>,
    /// Key/value heads.
    pub num_key_value_heads: Option<usize>,
    /// Width of one head. Absent: the preset's, or `hidden_size / heads` where the preset keeps to that.
    pub head_dim: Option<usize>,
    /// Rows of the embedding; may exceed the tokenizer's 512.
    pub vocab_size: Option<usize>,
    /// Longest context, in tokens.
    pub max_position_embeddings: Option<usize>,
    /// Experts per layer (qwen3_moe).
    pub num_experts: Option<usize>,
    /// Experts each token is sent to (qwen3_moe).
    pub num_experts_per_tok: Option<usize>,
    /// Inner width of one expert (qwen3_moe).
    pub moe_intermediate_size: Option<usize>,
    /// Whether the embedding is also the output projection.
    pub tie_word_embeddings: Option<bool>,
    /// Bytes of tensor data after which the next shard begins (5 GB if absent, as the hub's files).
    pub max_shard_bytes: Option<u64>,
}

/// The configuration that `bytes`, a `config.json` called `file` in errors, states, with `layers` blocks if that is
/// given: the first of those of which it says something each.
///
/// ```
/// use mantissa_model::synth::{SynthRequest, SynthSpec, config_of};
///
/// let published = br#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 576, "intermediate_size": 1536,
///     "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
///     "max_position_embeddings": 8192, "tie_word_embeddings": true}"#;
/// let config = config_of("config.json", published, Some(2))?;
/// let spec = SynthSpec::new(&SynthRequest { config: Some(config), ..SynthRequest::default() })?;
/// assert_eq!((spec.config().hidden_size, spec.config().num_hidden_layers), (576, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn config_of(file: &str, bytes: &[u8], layers: Option<usize>) -> Result<ModelConfig, ModelError> {
    let (Some(layers), Ok(Value::Object(mut map))) = (layers, serde_json::from_slice(bytes)) else {
        return ModelConfig::from_json(file, bytes);
    };
    map.insert("num_hidden_layers".to_owned(), layers.into());
    if let Some(Value::Array(types)) = map.get_mut("layer_types") {
        types.truncate(layers);
    }
    let cut = serde_json::to_vec(&map).unwrap_or_default();
    ModelConfig::from_json(file, &cut)
}

/// Dimensions before anything is overridden.
fn start(request: &SynthRequest) -> Result<ModelConfig, SynthError> {
    if let Some(config) = &request.config {
        let remedy = "leave it out: the configuration says it";
        if let Some(preset) = request.preset {
            return Err(SynthError::setting("preset", preset.name(), "there is a configuration too", remedy));
        }
        if let Some(arch) = request.arch {
            return Err(SynthError::setting("arch", arch.name(), "there is a configuration too", remedy));
        }
        let ids = tokenizer::special_ids();
        let (bos_token_id, eos_token_ids) = (Some(ids.end_of_text), vec![ids.turn_end]);
        return Ok(ModelConfig { bos_token_id, eos_token_ids, ..config.clone() });
    }
    let preset = request.preset.unwrap_or(Preset::Tiny);
    let arch = match (preset.arch(), request.arch) {
        (Some(own), Some(asked)) if own != asked => {
            let fault = format!("preset {} is {}", preset.name(), own.name());
            return Err(SynthError::setting(
                "arch",
                asked.name(),
                fault,
                "leave --arch out or use preset tiny",
            ));
        }
        (Some(own), _) => own,
        (None, Some(asked)) => asked,
        (None, None) => {
            let names = names();
            return Err(SynthError::setting(
                "arch",
                "missing",
                "preset tiny has no family",
                format!("use one of {names}"),
            ));
        }
    };
    Ok(dimensions(preset, arch))
}

/// Everything a synthetic checkpoint follows from, checked.
///
/// Example: [`super::write()`].
#[derive(Debug, Clone, PartialEq)]
pub struct SynthSpec {
    config: ModelConfig,
    seed: u64,
    dtype: Dtype,
    quantization: Option<Quantization>,
    max_shard_bytes: u64,
}

impl SynthSpec {
    /// Fills in a request from its preset and checks that the numbers fit together.
    pub fn new(request: &SynthRequest) -> Result<Self, SynthError> {
        let usual = request.quantization.map_or(Dtype::Bf16, Quantization::usual_dtype);
        let dtype = request.dtype.unwrap_or(usual);
        let mut config = start(request)?;
        let arch = config.arch;
        config.torch_dtype = Some(dtype);
        let keeps_width = config.head_dim * config.num_attention_heads == config.hidden_size;
        for (place, asked) in [
            (&mut config.hidden_size, request.hidden_size),
            (&mut config.intermediate_size, request.intermediate_size),
            (&mut config.num_hidden_layers, request.num_hidden_layers),
            (&mut config.num_attention_heads, request.num_attention_heads),
            (&mut config.num_key_value_heads, request.num_key_value_heads),
            (&mut config.vocab_size, request.vocab_size),
            (&mut config.max_position_embeddings, request.max_position_embeddings),
        ] {
            *place = asked.unwrap_or(*place);
        }
        config.tie_word_embeddings = request.tie_word_embeddings.unwrap_or(config.tie_word_embeddings);
        config.head_dim = match request.head_dim {
            Some(asked) => asked,
            None if keeps_width => config.hidden_size / config.num_attention_heads.max(1),
            None => config.head_dim,
        };
        let experts = [
            ("num_experts", request.num_experts),
            ("num_experts_per_tok", request.num_experts_per_tok),
            ("moe_intermediate_size", request.moe_intermediate_size),
        ];
        match &mut config.moe {
            Some(moe) => {
                let places =
                    [&mut moe.num_experts, &mut moe.num_experts_per_tok, &mut moe.moe_intermediate_size];
                for (place, (_, asked)) in places.into_iter().zip(experts) {
                    *place = asked.unwrap_or(*place);
                }
            }
            None => {
                if let Some((key, asked)) = experts.into_iter().find_map(|(key, asked)| Some((key, asked?))) {
                    let fault = format!("{} has no experts", arch.name());
                    return Err(SynthError::setting(
                        key,
                        asked,
                        fault,
                        "leave it out or use --arch qwen3_moe",
                    ));
                }
            }
        }
        // Mixtral's and gpt-oss' config.json call the width of an expert so.
        let of_experts = (arch.family().config_json)(&config).contains_key("intermediate_size");
        if let (Some(moe), Some(asked), true) = (&mut config.moe, request.intermediate_size, of_experts) {
            if request.moe_intermediate_size.is_some_and(|width| width != asked) {
                return Err(SynthError::setting(
                    "intermediate_size",
                    asked,
                    format!(
                        "of {} it is the width of an expert, and moe_intermediate_size is another",
                        arch.name()
                    ),
                    "leave one of them out",
                ));
            }
            moe.moe_intermediate_size = asked;
        }
        let spec = Self {
            config,
            seed: request.seed,
            dtype,
            quantization: request.quantization,
            max_shard_bytes: request.max_shard_bytes.unwrap_or(5_000_000_000),
        };
        spec.check()?;
        Ok(spec)
    }

    /// The smallest model of a family, in bf16.
    ///
    /// # Panics
    /// Never: the presets fit together (held by a test).
    #[must_use]
    pub fn tiny(arch: Arch, seed: u64) -> Self {
        let mut config = dimensions(Preset::Tiny, arch);
        config.torch_dtype = Some(Dtype::Bf16);
        Self { config, seed, dtype: Dtype::Bf16, quantization: None, max_shard_bytes: 5_000_000_000 }
    }

    /// Dimensions and switches, as `config.json` will state them.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Storage dtype of every tensor that is not quantized.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// How the matrices of the blocks are quantized.
    #[must_use]
    pub const fn quantization(&self) -> Option<Quantization> {
        self.quantization
    }

    /// Bytes of tensor data after which the next shard begins.
    #[must_use]
    pub const fn max_shard_bytes(&self) -> u64 {
        self.max_shard_bytes
    }

    fn check(&self) -> Result<(), SynthError> {
        let config = &self.config;
        let moe = config.moe.as_ref();
        let vocab_floor = tokenizer::size();
        let experts = moe.map_or(1, |moe| moe.num_experts);
        let ranges = [
            ("hidden_size", config.hidden_size, 1, 1 << 16),
            ("intermediate_size", config.intermediate_size, 1, 1 << 20),
            ("num_hidden_layers", config.num_hidden_layers, 1, 1 << 10),
            ("num_attention_heads", config.num_attention_heads, 1, 1 << 10),
            ("num_key_value_heads", config.num_key_value_heads, 1, 1 << 10),
            ("head_dim", config.head_dim, 2, 1 << 10),
            ("vocab_size", config.vocab_size, vocab_floor, 1 << 22),
            ("max_position_embeddings", config.max_position_embeddings, 1, 1 << 24),
            ("num_experts", experts, 1, 1 << 12),
            ("num_experts_per_tok", moe.map_or(1, |moe| moe.num_experts_per_tok), 1, experts),
            ("moe_intermediate_size", moe.map_or(1, |moe| moe.moe_intermediate_size), 1, 1 << 16),
        ];
        for (key, value, least, most) in ranges {
            if value < least || value > most {
                return Err(SynthError::setting(
                    key,
                    value,
                    "out of range",
                    format!("use {least} to {most}"),
                ));
            }
        }
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        if !heads.is_multiple_of(kv_heads) {
            let fault = format!("does not divide {heads} query heads");
            return Err(SynthError::setting(
                "num_key_value_heads",
                kv_heads,
                fault,
                format!("use {}", divisors(heads)),
            ));
        }
        if !config.head_dim.is_multiple_of(2) {
            let (below, above) = (config.head_dim - 1, config.head_dim + 1);
            let remedy = format!("use an even --head-dim, such as {below} or {above}");
            return Err(SynthError::setting(
                "head_dim",
                config.head_dim,
                "rotary halves need an even width",
                remedy,
            ));
        }
        // transformers refuses such a Llama even when head_dim says otherwise.
        if config.arch == Arch::LLAMA && !config.hidden_size.is_multiple_of(heads) {
            let fault = format!("transformers wants llama's to be a multiple of {heads} heads");
            let (below, above) =
                (config.hidden_size / heads * heads, config.hidden_size.next_multiple_of(heads));
            let remedy = if below == 0 { format!("use {above}") } else { format!("use {below} or {above}") };
            return Err(SynthError::setting("hidden_size", config.hidden_size, fault, remedy));
        }
        if self.max_shard_bytes < SMALLEST_SHARD {
            let remedy = format!("use at least {SMALLEST_SHARD}");
            return Err(SynthError::setting("max_shard_bytes", self.max_shard_bytes, "too small", remedy));
        }
        let tensors = config.num_hidden_layers as u64 * (16 + 3 * experts as u64);
        if tensors > MOST_TENSORS {
            let fault = format!("with {experts} experts gives about {tensors} tensors");
            let remedy = format!("keep layers x experts x 3 under {MOST_TENSORS}");
            return Err(SynthError::setting("num_hidden_layers", config.num_hidden_layers, fault, remedy));
        }
        self.quantization.map_or(Ok(()), |quantization| self.check_quantization(quantization))
    }

    /// Whether every matrix of the blocks can be stored as `quantization` has it.
    fn check_quantization(&self, quantization: Quantization) -> Result<(), SynthError> {
        let refused = |fault: String, remedy: String| {
            Err(SynthError::setting("quantization", quantization, fault, remedy))
        };
        let packed = matches!(quantization, Quantization::Awq | Quantization::Gptq);
        if packed && self.dtype == Dtype::F32 {
            return refused("its scales have 16 bits".to_owned(), "use --dtype f16 or bf16".to_owned());
        }
        for tensor in self.config.tensors() {
            match tensor.shape.as_slice() {
                [_, _, _] => {
                    let fault = format!("{}'s experts are stacked", self.config.arch.name());
                    return refused(fault, "use a family whose experts have a tensor each".to_owned());
                }
                &[rows, cols] if tensor.name.starts_with(BLOCKS) => {
                    if let Some((fault, remedy)) = quantization.misfit(rows, cols) {
                        return refused(format!("'{}': {fault}", tensor.name), remedy);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The routers' modules, which are never quantized.
    pub(super) fn routers(&self) -> Vec<String> {
        let graph = self.config.graph();
        let layers = 0..self.config.num_hidden_layers;
        let names = layers.filter_map(|layer| Some(weight_name(graph.router_of(layer)?, layer, 0)));
        names.filter_map(|name| name.strip_suffix(".weight").map(str::to_owned)).collect()
    }
}

/// The divisors of `n`, as a list to choose from.
fn divisors(n: usize) -> String {
    let all: Vec<String> = (1..=n).filter(|&d| n.is_multiple_of(d)).map(|d| d.to_string()).collect();
    match all.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}
