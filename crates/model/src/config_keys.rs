//! Reading the keys of a `config.json`: absent, null, or of the right kind.

use serde_json::{Map, Value};

use crate::config::MoeConfig;
use crate::error::{ModelError, shown};

/// One `config.json` being read.
pub(crate) struct Keys<'a> {
    pub file: &'a str,
    pub map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    /// Whether `key` is there, be it null.
    pub(crate) fn states(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Experts by the names that most families use; switches are those of a plain mixture.
    pub(crate) fn moe(&self) -> Result<MoeConfig, ModelError> {
        let num_experts = match self.size("num_experts")? {
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
        self.value(key).map(|v| as_size(v).ok_or_else(|| self.wrong(key, "a size"))).transpose()
    }

    pub(crate) fn required(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "present"))
    }

    pub(crate) fn number(&self, map: &Map<String, Value>, key: &str) -> Result<Option<f64>, ModelError> {
        match map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    pub(crate) fn wrong(&self, key: &str, want: &str) -> ModelError {
        let got = self.map.get(key).map_or("absent".to_owned(), |v| shown(&v.to_string()));
        ModelError::damaged(self.file, key, format!("must be {want}, is {got}"))
    }
}

pub(crate) fn as_size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}
