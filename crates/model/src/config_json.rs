//! `config.json` → [`ModelConfig`], for the spellings of transformers 4 and 5.
//!
//! A setting that the engine would compute wrongly is refused by name: no record is better than a wrong one.
//! Left out: keys that do not change a forward pass (dropout, cache switches, initializer ranges).

use std::str::FromStr as _;

use mantissa_numerics::Dtype;
use serde_json::{Map, Value};

use crate::arch::Arch;
use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::decision::Decisions;
use crate::error::{ModelError, shown};
use crate::quantized::{Int4, Scheme};

pub(crate) mod rope;
mod windows;

/// Largest value of any dimension: products of two stay far from overflow.
const LARGEST: usize = 1 << 28;
/// Most decoder blocks and most experts of one block.
const MOST: usize = 1 << 14;

impl ModelConfig {
    /// Reads a `config.json`; `file` names it in errors.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        Self::read(file, bytes, &Decisions::default())
    }

    /// Reads a `config.json` and tells what was decided.
    pub(crate) fn read(file: &str, bytes: &[u8], decisions: &Decisions) -> Result<Self, ModelError> {
        let json: Value = serde_json::from_slice(bytes).map_err(|e| {
            ModelError::damaged(file, format!("line {} column {}", e.line(), e.column()), "not JSON")
        })?;
        let Value::Object(map) = &json else {
            return Err(ModelError::damaged(file, "line 1", "not a JSON object"));
        };
        Keys { file, map, decisions }.config()
    }

    /// Refuses dimensions that contradict each other or that no engine could hold.
    pub(crate) fn validate(&self, file: &str) -> Result<(), ModelError> {
        let fault = |key: &str, fault: String| Err(ModelError::damaged(file, key, fault));
        for (key, value, most) in [
            ("hidden_size", self.hidden_size, LARGEST),
            ("intermediate_size", self.intermediate_size, LARGEST),
            ("num_hidden_layers", self.num_hidden_layers, MOST),
            ("num_attention_heads", self.num_attention_heads, MOST),
            ("num_key_value_heads", self.num_key_value_heads, MOST),
            ("head_dim", self.head_dim, MOST),
            ("vocab_size", self.vocab_size, LARGEST),
            ("max_position_embeddings", self.max_position_embeddings, usize::MAX),
        ] {
            if value == 0 || value > most {
                return fault(key, format!("{value} is not in 1..={most}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let (heads, kv) = (self.num_attention_heads, self.num_key_value_heads);
            return fault("num_key_value_heads", format!("{kv} does not divide {heads} query heads"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return fault("head_dim", format!("{} is odd, rotary halves need an even one", self.head_dim));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return fault("rms_norm_eps", format!("{} is not a small positive number", self.rms_norm_eps));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return fault("rope_theta", format!("{} is not a positive number", self.rope_theta));
        }
        rope::validate(self, file)?;
        let Some(moe) = &self.moe else { return Ok(()) };
        if moe.num_experts == 0 || moe.num_experts > MOST {
            return fault("num_experts", format!("{} is not in 1..={MOST}", moe.num_experts));
        }
        if moe.num_experts_per_tok == 0 || moe.num_experts_per_tok > moe.num_experts {
            let (k, all) = (moe.num_experts_per_tok, moe.num_experts);
            return fault("num_experts_per_tok", format!("{k} is not in 1..={all}"));
        }
        if moe.moe_intermediate_size == 0 || moe.moe_intermediate_size > LARGEST {
            return fault("moe_intermediate_size", format!("{} is out of range", moe.moe_intermediate_size));
        }
        if moe.decoder_sparse_step == 0 {
            return fault("decoder_sparse_step", "0 is not a step".into());
        }
        Ok(())
    }
}

impl Keys<'_> {
    fn config(&self) -> Result<ModelConfig, ModelError> {
        let arch = self.arch()?;
        self.refuse_what_changes_the_numbers(arch)?;
        let heads = self.required("num_attention_heads")?;
        let hidden = self.required("hidden_size")?;
        let head_dim = match self.size("head_dim")? {
            Some(size) => size,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        let (rope_theta, rope_scaling) = self.rope(arch.family())?;
        let own =
            arch.family().keys.iter().filter_map(|key| Some(((*key).to_owned(), self.value(key)?.clone())));
        let mut config = ModelConfig {
            arch,
            hidden_size: hidden,
            intermediate_size: self.required("intermediate_size")?,
            num_hidden_layers: self.required("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: self.size("num_key_value_heads")?.unwrap_or(0),
            head_dim,
            vocab_size: self.required("vocab_size")?,
            max_position_embeddings: self.required("max_position_embeddings")?,
            rms_norm_eps: self.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            qkv_bias: false,
            o_bias: false,
            qk_norm: false,
            tie_word_embeddings: self.flag("tie_word_embeddings")?.unwrap_or(false),
            moe: None,
            torch_dtype: self.torch_dtype()?,
            bos_token_id: self.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: self.token_ids("eos_token_id")?,
            nf4_block: None,
            int4: self.int4()?,
            extra: own.collect(),
        };
        (arch.family().read)(self, &mut config)?;
        if config.num_key_value_heads == 0 {
            self.required("num_key_value_heads")?;
        }
        config.validate(self.file)?;
        Ok(config)
    }

    fn arch(&self) -> Result<Arch, ModelError> {
        let class = match self.value("architectures") {
            None => None,
            Some(Value::Array(list)) => match list.as_slice() {
                [] => None,
                [Value::String(class)] => Some(class.as_str()),
                _ => return Err(self.wrong("architectures", "a list of one name")),
            },
            Some(_) => return Err(self.wrong("architectures", "a list of one name")),
        };
        let model_type = self.text("model_type")?;
        let Some(name) = class.or(model_type) else {
            return Err(self.wrong("architectures", "present"));
        };
        let arch = Arch::of_transformers(name).ok_or_else(|| {
            let (mut fault, known) = (format!("'{}' is not known", shown(name)), Arch::titles());
            if let Some(inner) = self.value("text_config").and_then(|config| config.get("model_type")) {
                fault = format!("{fault}; its text_config is of {}", shown(&inner.to_string()));
            }
            ModelError::unsupported(self.file, "architectures", fault, format!("use a model of {known}"))
        })?;
        let Some(model_type) = model_type.filter(|_| class.is_some()) else { return Ok(arch) };
        let stated = || format!("architectures is {}, model_type {}", shown(name), shown(model_type));
        match Arch::of_transformers(model_type) {
            Some(other) if other != arch => {
                let rule = "transformers 5.17 (AutoModelForCausalLM) chooses by it";
                self.decide(stated(), "model_type is followed", rule);
                Ok(other)
            }
            Some(_) => Ok(arch),
            None => {
                let rule =
                    "model_type is no family that is read here, and transformers 5.17 may not know it either";
                self.decide(stated(), "architectures is followed", rule);
                Ok(arch)
            }
        }
    }

    fn refuse_what_changes_the_numbers(&self, arch: Arch) -> Result<(), ModelError> {
        let refuse = |key: &str, fault: String, remedy: &str| {
            Err(ModelError::unsupported(self.file, key, fault, remedy))
        };
        if let Some(quantization) = self.value("quantization_config") {
            self.refuse_quantization(arch, quantization)?;
        }
        // What a family reads for itself is its own to refuse.
        let own = |key: &str| arch.family().keys.contains(&key);
        for key in ["hidden_act", "hidden_activation"].into_iter().filter(|key| !own(key)) {
            match self.text(key)? {
                None | Some("silu" | "swish") => {}
                Some(act) => {
                    return refuse(key, format!("'{}' is not computed", shown(act)), "use a model with silu");
                }
            }
        }
        self.windows(arch.family())?;
        for key in ["text_config", "per_layer_config"] {
            if self.object(key)?.is_some() {
                return refuse(
                    key,
                    "a configuration within this one is not read".into(),
                    "use a model without",
                );
            }
        }
        if self.object("auto_map")?.is_some() {
            let rule =
                "mantissa runs no code of a model's folder; transformers 5.17 does with trust_remote_code";
            self.decide("auto_map names code of its own", format!("computed as {}", arch.name()), rule);
        }
        if !own("mlp_bias") && self.flag("mlp_bias")?.unwrap_or(false) {
            return refuse("mlp_bias", "biases of the MLP are not computed".into(), "use a model without");
        }
        for key in
            ["attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "embedding_multiplier"]
                .into_iter()
                .filter(|key| !own(key))
        {
            if self.value(key).is_some() {
                return refuse(key, "is not computed".into(), "use a model without");
            }
        }
        Ok(())
    }

    /// Refuses a format of weights that the checkpoint's reader does not decode.
    fn refuse_quantization(&self, arch: Arch, config: &Value) -> Result<(), ModelError> {
        let detail = match Scheme::read(config, None) {
            Some(Ok(_)) => return Ok(()),
            Some(Err(detail)) => format!(" ({detail})"),
            None => String::new(),
        };
        let method = config.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
        let fault = format!("weights quantized by '{}' are not read{detail}", shown(method));
        let remedy = match (method, arch.family().gguf) {
            ("mxfp4", _) => "load it with transformers' Mxfp4Config(dequantize=True) and save that",
            (_, None) => "use the unquantized checkpoint",
            (_, Some(_)) => "use the unquantized checkpoint or a GGUF file",
        };
        Err(ModelError::unsupported(self.file, "quantization_config", fault, remedy))
    }

    /// Integers of 4 bits, as the configuration says; files say it better.
    fn int4(&self) -> Result<Option<Int4>, ModelError> {
        let dtype = self.torch_dtype()?;
        let scheme = self.value("quantization_config").and_then(|scheme| Scheme::read(scheme, dtype));
        Ok(scheme.and_then(Result::ok).and_then(Scheme::int4))
    }

    fn torch_dtype(&self) -> Result<Option<Dtype>, ModelError> {
        let key = if self.value("dtype").is_some() { "dtype" } else { "torch_dtype" };
        if let (Some(dtype), Some(old)) = (self.value("dtype"), self.value("torch_dtype"))
            && dtype != old
        {
            let stated =
                format!("dtype is {}, torch_dtype {}", shown(&dtype.to_string()), shown(&old.to_string()));
            self.decide(stated, "dtype is followed", "transformers 5.17 keeps dtype where both are there");
        }
        let Some(name) = self.text(key)? else { return Ok(None) };
        let name = name.strip_prefix("torch.").unwrap_or(name);
        if name == "auto" {
            return Ok(None);
        }
        Dtype::from_str(name).map(Some).map_err(|_| self.wrong(key, "float32, bfloat16 or float16"))
    }

    /// A token id, a list of them, or none.
    fn token_ids(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        token_ids(self.map, key).ok_or_else(|| self.wrong(key, "a token id or a list of them"))
    }
}

/// The token ids under `key`: one, a list, or none; `None` when it is something else.
pub(crate) fn token_ids(map: &Map<String, Value>, key: &str) -> Option<Vec<u32>> {
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    match map.get(key) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(value) => Some(vec![id(value)?]),
    }
}
