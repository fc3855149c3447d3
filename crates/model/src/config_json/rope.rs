//! Rotary angles: base and scaling, and refusal of values that make no sense.

use std::borrow::Cow;

use mantissa_numerics::rotary::{LongRope, RopeScaling, Yarn};
use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::config_keys::{Keys, as_size, unquoted};
use crate::decision::some;
use crate::error::{ModelError, shown};
use crate::family::Family;

/// What speaks of rotary angles in a configuration, as transformers 5 puts it together.
pub(crate) struct Angles<'a> {
    /// The object that is followed, by its key; empty where there is none.
    pub key: &'static str,
    pub map: Cow<'a, Map<String, Value>>,
}

impl<'a> Keys<'a> {
    /// Base and stretching of the rotary angles: transformers 4 has `rope_theta` and `rope_scaling` on top,
    /// transformers 5 both in `rope_parameters`.
    ///
    /// *Source:* `RotaryEmbeddingConfigMixin` of transformers 5.17: a `rope_scaling` that is not empty takes the place
    /// of `rope_parameters`, and what stands inside it comes before what stands on top.
    pub(super) fn rope(&self, family: &Family) -> Result<(f64, Option<RopeScaling>), ModelError> {
        let angles = self.angles(family)?;
        let theta = self.inside_or_top(&angles, "rope_theta", "rope_theta")?;
        let partial = self.inside_or_top(&angles, "partial_rotary_factor", "partial_rotary_factor")?;
        let partial = partial.filter(|partial| partial.to_bits() != 1.0_f64.to_bits());
        if let Some(partial) = partial.filter(|_| !family.keys.contains(&"partial_rotary_factor")) {
            return Err(ModelError::unsupported(
                self.file,
                "partial_rotary_factor",
                format!("rotating {partial} of each head is not computed"),
                "use a model that rotates whole heads",
            ));
        }
        if theta.is_none() {
            self.assume("rope_theta", family.theta);
        }
        Ok((theta.unwrap_or(family.theta), self.scaling(&angles)?))
    }

    /// The object that is followed: of a family that tells kinds of blocks apart, that of blocks that see everything.
    pub(crate) fn angles(&self, family: &Family) -> Result<Angles<'a>, ModelError> {
        let (scaling, parameters) = (self.object("rope_scaling")?, self.object("rope_parameters")?);
        if family.keys.contains(&"rope_parameters") {
            return self.by_kind(scaling, parameters);
        }
        if let (Some(scaling), Some(parameters)) = (scaling, parameters)
            && scaling != parameters
        {
            let unused = |(key, value): (&String, &Value)| {
                (scaling.get(key) != Some(value))
                    .then(|| format!("{} {}", shown(key), shown(&value.to_string())))
            };
            let unused: Vec<String> = parameters.iter().filter_map(unused).collect();
            let unused = if unused.is_empty() { String::new() } else { format!(" ({})", some(&unused)) };
            self.decide(
                "rope_scaling and rope_parameters are both there and differ",
                format!("rope_scaling is followed, rope_parameters{unused} is not used"),
                "transformers 5.17 puts rope_scaling in the place of rope_parameters",
            );
        }
        let (key, map) = match (scaling, parameters) {
            (Some(map), _) => ("rope_scaling", Cow::Borrowed(map)),
            (None, Some(map)) => ("rope_parameters", Cow::Borrowed(map)),
            (None, None) => ("rope_parameters", Cow::Owned(Map::new())),
        };
        Ok(Angles { key, map })
    }

    /// Gemma 3: `rope_scaling` is written over the part of `rope_parameters` that is of full attention, whose type is
    /// `default` where `rope_parameters` says nothing.
    fn by_kind(
        &self,
        scaling: Option<&Map<String, Value>>,
        parameters: Option<&Map<String, Value>>,
    ) -> Result<Angles<'a>, ModelError> {
        let default = || Map::from_iter([("rope_type".to_owned(), Value::from("default"))]);
        let mut map = match parameters.map(|map| map.get("full_attention")) {
            None | Some(None | Some(Value::Null)) => default(),
            Some(Some(Value::Object(full))) => full.clone(),
            Some(Some(_)) => return Err(self.wrong("rope_parameters", "an object for each kind of block")),
        };
        for (key, value) in scaling.into_iter().flatten() {
            if let Some(before) = map.insert(key.clone(), value.clone())
                && before != *value
                && parameters.is_some()
            {
                let (before, now) = (shown(&before.to_string()), shown(&value.to_string()));
                let stated =
                    format!("rope_parameters.full_attention.{} is {before}, rope_scaling {now}", shown(key));
                let rule = "transformers 5.17 writes it over that of full attention";
                self.decide(stated, "rope_scaling is followed", rule);
            }
        }
        Ok(Angles {
            key: if scaling.is_some() { "rope_scaling" } else { "rope_parameters" },
            map: Cow::Owned(map),
        })
    }

    /// A number inside the object, else the one on top under `top`.
    pub(crate) fn inside_or_top(
        &self,
        angles: &Angles<'_>,
        name: &str,
        top: &str,
    ) -> Result<Option<f64>, ModelError> {
        let (inside, outside) = (self.number_in(angles.key, &angles.map, name)?, self.number(top)?);
        if let (Some(inside), Some(outside)) = (inside, outside)
            && inside.to_bits() != outside.to_bits()
        {
            let key = angles.key;
            let stated = format!("{key}.{name} is {inside}, {top} on top {outside}");
            self.decide(
                stated,
                format!("that of {key} is followed"),
                "transformers 5.17 sets the one inside first",
            );
        }
        Ok(inside.or(outside))
    }

    /// The kind of stretching: `rope_type` before `type`.
    fn kind<'m>(&self, key: &str, map: &'m Map<String, Value>) -> Result<&'m str, ModelError> {
        let name = |name: &str| match map.get(name) {
            None => Ok(None),
            Some(Value::String(kind)) => Ok(Some(kind.as_str())),
            Some(_) => Err(self.wrong_in(key, map, name, "a name")),
        };
        match (name("rope_type")?, name("type")?) {
            (Some(kind), Some(old)) if kind != old => {
                let stated = format!("{key}.rope_type is {}, {key}.type {}", shown(kind), shown(old));
                let rule =
                    "transformers 5.17 reads type where rope_type is absent (Llama of 4.57: the other way)";
                self.decide(stated, "rope_type is followed, type is not used", rule);
                Ok(kind)
            }
            (Some(kind), _) | (None, Some(kind)) => Ok(kind),
            (None, None) if map.values().any(Value::is_object) => Ok("per layer type"),
            (None, None) => Ok("default"),
        }
    }

    pub(crate) fn scaling(&self, angles: &Angles<'_>) -> Result<Option<RopeScaling>, ModelError> {
        let (key, map) = (angles.key, &*angles.map);
        let kind = self.kind(key, map)?;
        let unused: Vec<String> = map
            .keys()
            .filter(|name| {
                kind == "default"
                    && !matches!(name.as_str(), "rope_type" | "type" | "rope_theta" | "partial_rotary_factor")
            })
            .map(|name| format!("{key}.{name}"))
            .collect();
        if !unused.is_empty() {
            let stated = format!("{} beside rope_type default", some(&unused));
            self.decide(stated, "not used", "transformers 5.17 reads none of them for that type");
        }
        let need = |name: &str| {
            self.number_in(key, map, name)?.ok_or_else(|| self.wrong_in(key, map, name, "a number"))
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
                original_max_position_embeddings: self.original(key, map)?,
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
        let given = |name: &str| Ok(self.number_in(key, map, name)?.filter(|value| value.abs() > 0.0));
        let truncate = match map.get("truncate") {
            None => true,
            Some(value) => {
                value.as_bool().ok_or_else(|| self.wrong_in(key, map, "truncate", "true or false"))?
            }
        };
        Ok(Yarn {
            factor: self.stretch(key, map, original)?,
            original_max_position_embeddings: original,
            attention_factor: self.number_in(key, map, "attention_factor")?,
            mscale: self.number_in(key, map, "mscale")?,
            mscale_all_dim: self.number_in(key, map, "mscale_all_dim")?,
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
                .ok_or_else(|| self.wrong_in(key, map, name, "a list of numbers"))
        };
        Ok(LongRope {
            short_factor: list("short_factor")?,
            long_factor: list("long_factor")?,
            factor: self.stretch(key, map, original)?,
            attention_factor: self.number_in(key, map, "attention_factor")?,
            original_max_position_embeddings: original,
        })
    }

    /// The original context. transformers prefers the one outside the object (Phi-3) and falls back to the whole
    /// context.
    fn original(&self, key: &str, map: &Map<String, Value>) -> Result<usize, ModelError> {
        const NAME: &str = "original_max_position_embeddings";
        let inside = map.get(NAME).map(|value| {
            as_size(value).ok_or_else(|| self.wrong_in(key, map, NAME, unquoted(value, "a size")))
        });
        match (self.size(NAME)?, inside.transpose()?) {
            (Some(top), Some(inside)) if top != inside => {
                let stated = format!("{key}.{NAME} is {inside}, on top {top}");
                self.decide(
                    stated,
                    "that on top is followed",
                    "transformers 5.17 writes it over the one inside",
                );
                Ok(top)
            }
            (Some(size), _) | (None, Some(size)) => Ok(size),
            (None, None) => {
                let context = self.required("max_position_embeddings")?;
                self.assume(&format!("{key}.{NAME}"), format!("max_position_embeddings ({context})"));
                Ok(context)
            }
        }
    }

    /// `factor`, or the context over the original one.
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
    fn stretch(&self, key: &str, map: &Map<String, Value>, original: usize) -> Result<f64, ModelError> {
        match self.number_in(key, map, "factor")? {
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
