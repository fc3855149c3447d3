//! Reading the keys of a `config.json`: absent, null, or of the right kind.

use serde_json::{Map, Value};

use crate::config::MoeConfig;
use crate::decision::Decisions;
use crate::error::{ModelError, shown};

/// One `config.json` being read.
pub(crate) struct Keys<'a> {
    pub file: &'a str,
    pub map: &'a Map<String, Value>,
    pub decisions: &'a Decisions,
}

impl<'a> Keys<'a> {
    /// Whether `key` is there, be it null.
    pub(crate) fn states(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Experts by the names that most families use; switches are those of a plain mixture.
    pub(crate) fn moe(&self) -> Result<MoeConfig, ModelError> {
        let num_experts = match self.experts()? {
            Some(n) => n,
            None => self.required("num_local_experts")?,
        };
        Ok(MoeConfig {
            num_experts,
            num_experts_per_tok: self.required("num_experts_per_tok")?,
            moe_intermediate_size: self.required("moe_intermediate_size")?,
            norm_topk_prob: false,
            decoder_sparse_step: 1,
            mlp_only_layers: Vec::new(),
        })
    }

    /// The number of experts, which has two names.
    pub(crate) fn experts(&self) -> Result<Option<usize>, ModelError> {
        match (self.size("num_experts")?, self.size("num_local_experts")?) {
            (Some(n), Some(local)) if n != local => {
                let fault = format!("is {n}, and num_local_experts, another name of it, {local}");
                self.refuse("num_experts", fault, "remove the wrong one")
            }
            (n, local) => Ok(n.or(local)),
        }
    }

    /// A list of sizes.
    pub(crate) fn sizes(&self, key: &str, want: &str) -> Result<Option<Vec<usize>>, ModelError> {
        let wrong = || self.wrong(key, want);
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(list)) => {
                list.iter().map(|size| as_size(size).ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// The sliding window; `absent` is that of a configuration that does not mention one.
    pub(crate) fn window(&self, absent: Option<usize>) -> Result<Option<usize>, ModelError> {
        if !self.states("sliding_window") {
            if let Some(window) = absent {
                self.assume("sliding_window", window);
            }
            return Ok(absent);
        }
        match self.size("sliding_window")? {
            Some(0) => Err(self.wrong("sliding_window", "at least 1")),
            window => Ok(window),
        }
    }

    /// Tells what was decided about this file.
    pub(crate) fn decide(
        &self,
        stated: impl Into<String>,
        decided: impl Into<String>,
        rule: impl Into<String>,
    ) {
        self.decisions.add(self.file, stated, decided, rule);
    }

    /// Tells that `key` is absent and that transformers' default is not what one would expect.
    pub(crate) fn assume(&self, key: &str, value: impl std::fmt::Display) {
        self.decide(
            format!("{key} is absent"),
            format!("{value} is used"),
            "the default of transformers 5.17",
        );
    }

    /// An object, with null and the empty one, which transformers reads alike, as absent.
    pub(crate) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map).filter(|map| !map.is_empty())),
            Some(_) => Err(self.wrong(key, "an object or null")),
        }
    }

    /// Refuses what would change the numbers.
    pub(crate) fn refuse<T>(
        &self,
        key: &str,
        fault: impl Into<String>,
        remedy: &str,
    ) -> Result<T, ModelError> {
        Err(ModelError::unsupported(self.file, key, fault, remedy))
    }

    /// The value of `key`, with null read as absent.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.value(key).map(|v| v.as_str().ok_or_else(|| self.wrong(key, "a string"))).transpose()
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.value(key).map(|v| v.as_bool().ok_or_else(|| self.wrong(key, "true or false"))).transpose()
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.value(key).map(|v| as_size(v).ok_or_else(|| self.wrong(key, unquoted(v, "a size")))).transpose()
    }

    pub(crate) fn required(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "present"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.value(key)
            .map(|v| v.as_f64().ok_or_else(|| self.wrong(key, unquoted(v, "a number"))))
            .transpose()
    }

    /// A number of the object `map`, which stands under `object`.
    pub(crate) fn number_in(
        &self,
        object: &str,
        map: &Map<String, Value>,
        key: &str,
    ) -> Result<Option<f64>, ModelError> {
        let Some(value) = map.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
        let wrong = || self.wrong_in(object, map, key, unquoted(value, "a number"));
        value.as_f64().map(Some).ok_or_else(wrong)
    }

    pub(crate) fn wrong(&self, key: &str, want: &str) -> ModelError {
        self.wrong_value(key, self.map.get(key), want)
    }

    /// As [`Keys::wrong`], of the object `map`, which stands under `object`.
    pub(crate) fn wrong_in(
        &self,
        object: &str,
        map: &Map<String, Value>,
        key: &str,
        want: &str,
    ) -> ModelError {
        self.wrong_value(&format!("{object}.{key}"), map.get(key), want)
    }

    fn wrong_value(&self, place: &str, value: Option<&Value>, want: &str) -> ModelError {
        let got = value.map_or("absent".to_owned(), |v| shown(&v.to_string()));
        ModelError::damaged(self.file, place, format!("must be {want}, is {got}"))
    }
}

/// What is wanted in place of `value`: where that is a number as text, without its quotes.
pub(crate) fn unquoted(value: &Value, want: &'static str) -> &'static str {
    match (value.as_str().and_then(|text| text.trim().parse::<f64>().ok()), want) {
        (Some(_), "a number") => "a number without quotes",
        (Some(_), "a size") => "a size without quotes",
        _ => want,
    }
}

pub(crate) fn as_size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}
