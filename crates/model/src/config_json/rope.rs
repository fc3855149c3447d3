//! Rotary angles: base and scaling, and refusal of values that make no sense.

use mantissa_numerics::rotary::{LongRope, RopeScaling, Yarn};
use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::config_keys::{Keys, as_size};
use crate::error::{ModelError, shown};

impl Keys<'_> {
    /// Base and stretching of the rotary angles: transformers 4 has `rope_theta` and `rope_scaling` on top,
    /// transformers 5 both in `rope_parameters`.
    /// What the family reads for itself, `own`, is left to it.
    pub(super) fn rope(&self, own: &[&str]) -> Result<(f64, Option<RopeScaling>), ModelError> {
        let mut theta = self.number(self.map, "rope_theta")?;
        let mut scaling = None;
        let mut partial = self.number(self.map, "partial_rotary_factor")?;
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.value(key) else { continue };
            let Value::Object(map) = value else { return Err(self.wrong(key, "an object or null")) };
            if own.contains(&key) && map.values().any(Value::is_object) {
                continue;
            }
            theta = self.number(map, "rope_theta")?.or(theta);
            partial = self.number(map, "partial_rotary_factor")?.or(partial);
            scaling = self.scaling(key, map)?.or(scaling);
        }
        let partial = partial.filter(|partial| partial.to_bits() != 1.0_f64.to_bits());
        if let Some(partial) = partial.filter(|_| !own.contains(&"partial_rotary_factor")) {
            return Err(ModelError::unsupported(
                self.file,
                "partial_rotary_factor",
                format!("rotating {partial} of each head is not computed"),
                "use a model that rotates whole heads",
            ));
        }
        Ok((theta.unwrap_or(10_000.0), scaling))
    }

    pub(crate) fn scaling(
        &self,
        key: &str,
        map: &Map<String, Value>,
    ) -> Result<Option<RopeScaling>, ModelError> {
        let kind = match map.get("rope_type").or_else(|| map.get("type")) {
            None if map.values().any(Value::is_object) => "per layer type",
            None | Some(Value::Null) => "default",
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(self.wrong(&format!("{key}.rope_type"), "a name")),
        };
        let need = |name: &str| {
            self.number(map, name)?.ok_or_else(|| self.wrong(&format!("{key}.{name}"), "a number"))
        };
        match kind {
            "default" => Ok(None),
            "dynamic" => Ok(Some(RopeScaling::Dynamic { factor: need("factor")? })),
            "yarn" => self.yarn(key, map).map(|yarn| Some(RopeScaling::Yarn(yarn))),
            "longrope" => self.longrope(key, map).map(|long| Some(RopeScaling::LongRope(long))),
            "linear" => Ok(Some(RopeScaling::Linear { factor: need("factor")? })),
            "llama3" => Ok(Some(RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_max_position_embeddings: map
                    .get("original_max_position_embeddings")
                    .and_then(as_size)
                    .ok_or_else(|| {
                        self.wrong(&format!("{key}.original_max_position_embeddings"), "a size")
                    })?,
            })),
            other => Err(ModelError::unsupported(
                self.file,
                format!("{key}.rope_type"),
                format!("'{}' is not computed", shown(other)),
                "use a model with default, linear, dynamic, yarn, longrope or llama3 rotary angles",
            )),
        }
    }

    /// transformers' defaults where a key is absent or, as it says itself, 0.
    fn yarn(&self, key: &str, map: &Map<String, Value>) -> Result<Yarn, ModelError> {
        let original = self.original(key, map)?;
        let given = |name: &str| Ok(self.number(map, name)?.filter(|value| value.abs() > 0.0));
        let truncate = match map.get("truncate") {
            None => true,
            Some(value) => {
                value.as_bool().ok_or_else(|| self.wrong(&format!("{key}.truncate"), "true or false"))?
            }
        };
        Ok(Yarn {
            factor: self.stretch(map, original)?,
            original_max_position_embeddings: original,
            attention_factor: self.number(map, "attention_factor")?,
            mscale: self.number(map, "mscale")?,
            mscale_all_dim: self.number(map, "mscale_all_dim")?,
            beta_fast: given("beta_fast")?.unwrap_or(32.0),
            beta_slow: given("beta_slow")?.unwrap_or(1.0),
            truncate,
        })
    }

    fn longrope(&self, key: &str, map: &Map<String, Value>) -> Result<LongRope, ModelError> {
        let original = self.original(key, map)?;
        let list = |name: &str| {
            let values = map.get(name).and_then(Value::as_array);
            values
                .and_then(|values| values.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>())
                .ok_or_else(|| self.wrong(&format!("{key}.{name}"), "a list of numbers"))
        };
        Ok(LongRope {
            short_factor: list("short_factor")?,
            long_factor: list("long_factor")?,
            factor: self.stretch(map, original)?,
            attention_factor: self.number(map, "attention_factor")?,
            original_max_position_embeddings: original,
        })
    }

    /// The original context of `yarn` and `longrope`. transformers prefers the one outside the object (Phi-3) and falls
    /// back to the whole context.
    fn original(&self, key: &str, map: &Map<String, Value>) -> Result<usize, ModelError> {
        const NAME: &str = "original_max_position_embeddings";
        if let Some(size) = self.size(NAME)? {
            return Ok(size);
        }
        match map.get(NAME) {
            None => self.required("max_position_embeddings"),
            Some(value) => as_size(value).ok_or_else(|| self.wrong(&format!("{key}.{NAME}"), "a size")),
        }
    }

    /// `factor`, or the context over the original one.
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
    fn stretch(&self, map: &Map<String, Value>, original: usize) -> Result<f64, ModelError> {
        match self.number(map, "factor")? {
            Some(factor) => Ok(factor),
            None => Ok(self.required("max_position_embeddings")? as f64 / original as f64),
        }
    }
}

/// Refuses stretching that gives no frequencies.
pub(super) fn validate(config: &ModelConfig, file: &str) -> Result<(), ModelError> {
    let fault =
        |key: &str, fault: String| Err(ModelError::damaged(file, format!("rope_scaling.{key}"), fault));
    let positive = |key: &str, value: f64| {
        if value.is_finite() && value > 0.0 { Ok(()) } else { fault(key, format!("{value} is not positive")) }
    };
    let optional = |key: &str, value: Option<f64>| value.map_or(Ok(()), |value| positive(key, value));
    match &config.rope_scaling {
        None => Ok(()),
        Some(RopeScaling::Linear { factor }) => positive("factor", *factor),
        Some(RopeScaling::Dynamic { factor }) => {
            positive("factor", *factor)?;
            if config.head_dim < 4 {
                return fault("rope_type", format!("'dynamic' needs heads wider than {}", config.head_dim));
            }
            Ok(())
        }
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        }) => {
            positive("factor", *factor)?;
            positive("low_freq_factor", *low)?;
            positive("high_freq_factor", *high)?;
            if high <= low || *original == 0 {
                let fault = format!("low_freq_factor {low} is not below high_freq_factor {high}");
                return Err(ModelError::damaged(file, "rope_scaling", fault));
            }
            Ok(())
        }
        Some(RopeScaling::Yarn(yarn)) => {
            positive("factor", yarn.factor)?;
            optional("attention_factor", yarn.attention_factor)?;
            optional("mscale", yarn.mscale.filter(|scale| scale.abs() > 0.0))?;
            optional("mscale_all_dim", yarn.mscale_all_dim.filter(|scale| scale.abs() > 0.0))?;
            positive("beta_fast", yarn.beta_fast)?;
            positive("beta_slow", yarn.beta_slow)?;
            if yarn.beta_fast < yarn.beta_slow {
                return fault(
                    "beta_fast",
                    format!("{} is below beta_slow {}", yarn.beta_fast, yarn.beta_slow),
                );
            }
            if config.rope_theta <= 1.0 {
                return fault("rope_theta", format!("{} is not above 1", config.rope_theta));
            }
            original(yarn.original_max_position_embeddings, 1, &fault)
        }
        Some(RopeScaling::LongRope(long)) => {
            positive("factor", long.factor)?;
            optional("attention_factor", long.attention_factor)?;
            for (key, list) in [("short_factor", &long.short_factor), ("long_factor", &long.long_factor)] {
                let want = config.rotary_dim() / 2;
                if list.len() != want {
                    return fault(key, format!("{} numbers, not {want}, one per rotary pair", list.len()));
                }
                list.iter().try_for_each(|factor| positive(key, *factor))?;
            }
            original(long.original_max_position_embeddings, 2, &fault)
        }
    }
}

fn original(
    size: usize,
    least: usize,
    fault: &impl Fn(&str, String) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    if size < least {
        return fault("original_max_position_embeddings", format!("{size} is below {least}"));
    }
    Ok(())
}
