//! GGUF metadata and tensor names → [`ModelConfig`] and Hugging Face names.
//!
//! *Source:* keys as in docs/gguf.md; tensor names as in gguf-py `constants.py`; what the converter does to
//! values as in `convert_hf_to_gguf.py` (llama.cpp, 2025).

use std::collections::BTreeMap;

use crate::arch::Arch;
use crate::config::{ModelConfig, MoeConfig, RopeScaling};
use crate::error::{ModelError, shown};
use crate::gguf::{Gguf, GgufTensor, Value};
use crate::stored::{Stored, split_experts};
use crate::weight::WeightDtype;

/// Tensor of rotary frequency divisors that llama.cpp's converter writes for Llama 3.1 and later.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Reads the configuration of the model in a GGUF file; `bytes` is the whole file.
///
/// ```
/// use mantissa_model::Gguf;
/// use mantissa_model::gguf_model::gguf_config;
/// use mantissa_testkit::gguf::Builder;
///
/// let bytes = Builder::default().text("general.architecture", "unheard_of").build();
/// let gguf = Gguf::parse("model.gguf", &bytes)?;
/// let error = gguf_config(&gguf, &bytes).expect_err("no such family");
/// assert!(error.to_string().contains("'unheard_of' is not known"), "{error}");
/// # Ok::<(), mantissa_model::ModelError>(())
/// ```
pub fn gguf_config(gguf: &Gguf<'_>, bytes: &[u8]) -> Result<ModelConfig, ModelError> {
    let name = gguf.text("general.architecture")?;
    let Some(name) = name else { return Err(gguf.wrong("general.architecture", "present")) };
    let Some(arch) = Arch::of_gguf(name) else {
        let (fault, known) = (format!("'{}' is not known", shown(name)), Arch::gguf_names());
        let key = "general.architecture";
        return Err(ModelError::unsupported(gguf.file(), key, fault, format!("use a model of {known}")));
    };
    Reader { gguf, bytes, arch, prefix: name }.config()
}

struct Reader<'g, 'a> {
    gguf: &'g Gguf<'a>,
    bytes: &'g [u8],
    arch: Arch,
    prefix: &'g str,
}

impl Reader<'_, '_> {
    fn config(&self) -> Result<ModelConfig, ModelError> {
        self.refuse_what_changes_the_numbers()?;
        let heads = self.required("attention.head_count")?;
        let hidden = self.required("embedding_length")?;
        let head_dim = match self.size("attention.key_length")? {
            Some(size) => size,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        let same_as_head = |key: &str| match self.size(key)? {
            Some(other) if other != head_dim => Err(ModelError::unsupported(
                self.gguf.file(),
                self.key(key),
                format!("{other} differs from the {head_dim} of a head, which is not computed"),
                "use a model that rotates and caches whole heads",
            )),
            _ => Ok(()),
        };
        same_as_head("attention.value_length")?;
        same_as_head("rope.dimension_count")?;
        let embedding = self.tensor("token_embd.weight");
        let Some(vocab) = embedding.map(|tensor| tensor.shape[0]) else {
            return Err(ModelError::tensor(self.gguf.file(), "token_embd.weight", "absent"));
        };
        let config = ModelConfig {
            arch: self.arch,
            hidden_size: hidden,
            intermediate_size: match (self.size("feed_forward_length")?, self.arch) {
                (Some(size), _) => size,
                (None, Arch::QWEN3_MOE) => self.required("expert_feed_forward_length")?,
                (None, _) => self.required("feed_forward_length")?,
            },
            num_hidden_layers: self.required("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: self.size("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocab_size: vocab,
            max_position_embeddings: self.required("context_length")?,
            rms_norm_eps: match self.gguf.number(&self.key("attention.layer_norm_rms_epsilon"))? {
                Some(eps) => eps,
                None => {
                    return Err(self.gguf.wrong(&self.key("attention.layer_norm_rms_epsilon"), "present"));
                }
            },
            rope_theta: self.gguf.number(&self.key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: None,
            qkv_bias: self.arch == Arch::QWEN2 || self.tensor("blk.0.attn_q.bias").is_some(),
            o_bias: self.tensor("blk.0.attn_output.bias").is_some(),
            qk_norm: matches!(self.arch, Arch::QWEN3 | Arch::QWEN3_MOE),
            tie_word_embeddings: self.tensor("output.weight").is_none(),
            moe: if self.arch == Arch::QWEN3_MOE { Some(self.moe()?) } else { None },
            torch_dtype: None,
            bos_token_id: self.token("bos")?,
            eos_token_ids: self.eos()?,
            nf4_block: None,
            int4: None,
            extra: serde_json::Map::new(),
        };
        let config = ModelConfig { rope_scaling: self.scaling(&config)?, ..config };
        config.validate(self.gguf.file())?;
        Ok(config)
    }

    fn refuse_what_changes_the_numbers(&self) -> Result<(), ModelError> {
        // Zero, false, absent and an empty list say "not used".
        for key in [
            "attention.sliding_window",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "attention.scale",
            "attention.clamp_kqv",
            "attention.max_alibi_bias",
            "logit_scale",
            "residual_scale",
            "embedding_scale",
            "use_parallel_residual",
            "pooling_type",
            "expert_shared_count",
            "expert_weights_scale",
            "leading_dense_block_count",
        ] {
            let used = match self.gguf.metadata.get(self.key(key).as_str()) {
                None | Some(Value::Unsigned(0) | Value::Bool(false)) => false,
                Some(Value::Float(value)) => *value != 0.0,
                Some(Value::Array(array)) => !array.is_empty(),
                Some(_) => true,
            };
            if used {
                return Err(self.refuse(key, "is not computed", "use a model without"));
            }
        }
        if self.gguf.flag(&self.key("attention.causal"))? == Some(false) {
            return Err(self.refuse("attention.causal", "false is not computed", "use a causal model"));
        }
        if self.arch != Arch::QWEN3_MOE && self.size("expert_count")?.is_some_and(|count| count > 0) {
            let remedy = "use a dense model or Qwen3-MoE";
            return Err(self.refuse("expert_count", "experts are not computed for this family", remedy));
        }
        Ok(())
    }

    fn scaling(&self, config: &ModelConfig) -> Result<Option<RopeScaling>, ModelError> {
        let declared = self.gguf.text(&self.key("rope.scaling.type"))?;
        let factor = match self.gguf.number(&self.key("rope.scaling.factor"))? {
            Some(factor) => Some(factor),
            None => self.gguf.number(&self.key("rope.scale_linear"))?,
        };
        let linear = match (declared, factor) {
            (Some("none"), _) | (None, None) => None,
            (Some("linear") | None, Some(factor)) => Some(RopeScaling::Linear { factor }),
            (Some("linear"), None) => {
                return Err(self.gguf.wrong(&self.key("rope.scaling.factor"), "present"));
            }
            (Some(other), _) => {
                let fault = format!("'{}' is not computed", shown(other));
                let remedy = "use a model with plain, linear or llama3 rotary angles";
                return Err(self.refuse("rope.scaling.type", &fault, remedy));
            }
        };
        match (self.tensor(ROPE_FREQS), linear) {
            (None, linear) => Ok(linear),
            (Some(tensor), None) => self.llama3(tensor, config).map(Some),
            (Some(_), Some(_)) => {
                let fault = "linear scaling together with rope_freqs.weight is not computed";
                Err(self.refuse("rope.scaling.type", fault, "use the safetensors checkpoint"))
            }
        }
    }

    /// The Llama 3.1 parameters whose frequency divisors are those stored. Files keep the divisors alone, so
    /// the published parameter sets are tried; none fitting is an error, not a guess.
    fn llama3(&self, tensor: &GgufTensor<'_>, config: &ModelConfig) -> Result<RopeScaling, ModelError> {
        let file = self.gguf.file();
        if tensor.shape != [config.head_dim / 2] || !matches!(tensor.dtype, WeightDtype::Plain(_)) {
            let fault = format!("shape {:?}, not one divisor per rotary pair", tensor.shape);
            return Err(ModelError::tensor(file, ROPE_FREQS, fault));
        }
        let mut stored = vec![0.0; config.head_dim / 2];
        tensor.dtype.decode(&self.bytes[tensor.range.clone()], &mut stored);
        let factor = stored.iter().copied().fold(1.0, f32::max);
        for original in [8192, 4096, 16384, 32768, 131_072] {
            let scaling = RopeScaling::Llama3 {
                factor: factor.into(),
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: original,
            };
            let fits = llama3_divisors(config.head_dim, config.rope_theta, factor.into(), original)
                .zip(&stored)
                // The converter computes in f64 or f32 depending on its version: a few f32 roundings apart.
                .all(|(want, &have)| (want - f64::from(have)).abs() <= 1e-5 * want);
            if fits {
                return Ok(scaling);
            }
        }
        Err(ModelError::unsupported(
            file,
            ROPE_FREQS,
            "its frequency divisors fit no known llama3 scaling",
            "use the safetensors checkpoint, whose config.json states the scaling",
        ))
    }

    fn moe(&self) -> Result<MoeConfig, ModelError> {
        Ok(MoeConfig {
            num_experts: self.required("expert_count")?,
            num_experts_per_tok: self.required("expert_used_count")?,
            moe_intermediate_size: self.required("expert_feed_forward_length")?,
            // llama.cpp's qwen3moe graph always rescales; the converter writes no key for it.
            norm_topk_prob: self.gguf.flag(&self.key("expert_weights_norm"))?.unwrap_or(true),
            decoder_sparse_step: 1,
            mlp_only_layers: Vec::new(),
        })
    }

    /// Tokens that end a text or a turn.
    fn eos(&self) -> Result<Vec<u32>, ModelError> {
        let mut ids = Vec::new();
        for kind in ["eos", "eot", "eom"] {
            ids.extend(self.token(kind)?.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }

    fn token(&self, kind: &str) -> Result<Option<u32>, ModelError> {
        let key = format!("tokenizer.ggml.{kind}_token_id");
        let Some(id) = self.gguf.unsigned(&key)? else { return Ok(None) };
        u32::try_from(id).map(Some).map_err(|_| self.gguf.wrong(&key, "a token id"))
    }

    fn tensor(&self, name: &str) -> Option<&GgufTensor<'_>> {
        self.gguf.tensors.iter().find(|tensor| tensor.name == name)
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// A size; an array of equal sizes, one per layer, counts as one size.
    fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let key = self.key(key);
        let wrong = || self.gguf.wrong(&key, "a size, the same in every layer");
        let size = match self.gguf.metadata.get(key.as_str()) {
            None => return Ok(None),
            Some(Value::Unsigned(size)) => *size,
            Some(Value::Array(array)) => {
                let sizes = array.unsigned().ok_or_else(wrong)?;
                match sizes.split_first() {
                    Some((first, rest)) if rest.iter().all(|size| size == first) => *first,
                    _ => return Err(wrong()),
                }
            }
            Some(_) => return Err(wrong()),
        };
        usize::try_from(size).map(Some).map_err(|_| wrong())
    }

    fn required(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| self.gguf.wrong(&self.key(key), "present"))
    }

    fn refuse(&self, key: &str, fault: &str, remedy: &str) -> ModelError {
        ModelError::unsupported(self.gguf.file(), self.key(key), fault, remedy)
    }
}

/// Divisors of the rotary frequencies under Llama 3.1 scaling with frequency factors 1 and 4.
/// *Source:* `_compute_llama3_parameters` of transformers `modeling_rope_utils.py`.
fn llama3_divisors(head_dim: usize, theta: f64, factor: f64, original: usize) -> impl Iterator<Item = f64> {
    let (low, high) = (1.0, 4.0);
    let as_f64 = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let (dim, original) = (as_f64(head_dim), as_f64(original));
    (0..head_dim / 2).map(move |pair| {
        let wavelength = std::f64::consts::TAU * theta.powf(2.0 * as_f64(pair) / dim);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    })
}

/// Every tensor of the file under its Hugging Face name, q and k rows marked for reordering.
pub(crate) fn gguf_weights(
    gguf: &Gguf<'_>,
    config: &ModelConfig,
) -> Result<BTreeMap<String, Stored>, ModelError> {
    let mut weights = BTreeMap::new();
    for tensor in &gguf.tensors {
        if tensor.name == ROPE_FREQS {
            continue;
        }
        let mut stored = Stored {
            file: 0,
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            range: tensor.range.clone(),
            interleaved: None,
            quantized: None,
        };
        let place = place(tensor.name).ok_or_else(|| unexpected(gguf.file(), tensor.name, config.arch))?;
        match place {
            Place::One(name) => {
                let rotated = name.contains(".q_proj.") || name.contains(".k_proj.");
                if config.arch == Arch::LLAMA && rotated {
                    stored.interleaved = Some(config.head_dim);
                }
                weights.insert(name, stored);
            }
            Place::Experts { layer, part } => {
                split_experts(gguf.file(), tensor.name, &stored, layer, &[part], &mut weights)?;
            }
        }
    }
    Ok(weights)
}

/// The error for a tensor that this family has no use for: it would take part in arithmetic unknown here.
pub(crate) fn unexpected(file: &str, tensor: &str, arch: Arch) -> ModelError {
    ModelError::Tensor {
        file: file.to_owned(),
        tensor: shown(tensor),
        fault: format!("has no place in a model of family {} with this configuration", arch.family().title),
        remedy: "use a plain checkpoint of that family",
    }
}

enum Place {
    One(String),
    Experts { layer: usize, part: &'static str },
}

/// Where a GGUF tensor belongs; `None` for a name that has no place.
fn place(name: &str) -> Option<Place> {
    let one = |name: &str| Some(Place::One(name.to_owned()));
    match name {
        "token_embd.weight" => return one("model.embed_tokens.weight"),
        "output_norm.weight" => return one("model.norm.weight"),
        "output.weight" => return one("lm_head.weight"),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok().filter(|parsed: &usize| parsed.to_string() == layer)?;
    let rest = match rest {
        "attn_norm.weight" => "input_layernorm.weight",
        "attn_q.weight" => "self_attn.q_proj.weight",
        "attn_q.bias" => "self_attn.q_proj.bias",
        "attn_k.weight" => "self_attn.k_proj.weight",
        "attn_k.bias" => "self_attn.k_proj.bias",
        "attn_v.weight" => "self_attn.v_proj.weight",
        "attn_v.bias" => "self_attn.v_proj.bias",
        "attn_output.weight" => "self_attn.o_proj.weight",
        "attn_output.bias" => "self_attn.o_proj.bias",
        "attn_q_norm.weight" => "self_attn.q_norm.weight",
        "attn_k_norm.weight" => "self_attn.k_norm.weight",
        "ffn_norm.weight" => "post_attention_layernorm.weight",
        "ffn_gate.weight" => "mlp.gate_proj.weight",
        "ffn_up.weight" => "mlp.up_proj.weight",
        "ffn_down.weight" => "mlp.down_proj.weight",
        "ffn_gate_inp.weight" => "mlp.gate.weight",
        "ffn_gate_exps.weight" => {
            return Some(Place::Experts {
                layer,
                part: "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight",
            });
        }
        "ffn_up_exps.weight" => {
            return Some(Place::Experts {
                layer,
                part: "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight",
            });
        }
        "ffn_down_exps.weight" => {
            return Some(Place::Experts {
                layer,
                part: "model.layers.{layer}.mlp.experts.{expert}.down_proj.weight",
            });
        }
        _ => return None,
    };
    one(&format!("model.layers.{layer}.{rest}"))
}
