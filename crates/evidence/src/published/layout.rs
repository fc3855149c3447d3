//! Which layout a JSON file has, by its top-level keys.
//!
//! Reading stops at the first key that decides, so a large file costs little. Left out: whether the rest of the file
//! keeps what its keys promise (the readers).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// What the top-level keys of a JSON file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The uniform experiment JSON.
    Experiment,
    /// `raw_activations`.
    Activations,
    /// `measurements`.
    BatchGeneration,
    /// `comparisons` over `metadata.batch_sizes`.
    BatchVerification,
    /// `generations`.
    QuantGeneration,
    /// `comparisons` over `metadata.model_configs`.
    QuantVerification,
    /// `cross_hardware`.
    AttentionVerification,
}

/// What is known after some keys.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    comparisons: bool,
    batch_sizes: bool,
    model_configs: bool,
}

/// Recognizes a JSON object; `None` for anything else, and for an object without a telling key.
pub(crate) fn of(json: &[u8]) -> Option<Layout> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // An early stop and bad JSON are both errors here; what was found by then is the answer.
    let _ = deserializer.deserialize_map(Top(&mut found));
    found
}

struct Top<'a>(&'a mut Option<Layout>);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(key) = access.next_key::<String>()? {
            *self.0 = match key.as_str() {
                "experiment_metadata" | "configurations" | "runs" => Some(Layout::Experiment),
                "raw_activations" | "activation_norms" | "systematic_deviations" | "statistical_noise" => {
                    Some(Layout::Activations)
                }
                "measurements" => Some(Layout::BatchGeneration),
                "generations" | "noise_floors" => Some(Layout::QuantGeneration),
                "cross_hardware" => Some(Layout::AttentionVerification),
                _ => {
                    seen.comparisons |= key == "comparisons";
                    None
                }
            };
            if self.0.is_none() {
                if key == "metadata" {
                    let Keys(keys) = access.next_value()?;
                    seen.batch_sizes |= keys.iter().any(|key| key == "batch_sizes");
                    seen.model_configs |= keys.iter().any(|key| key == "model_configs");
                } else if !(seen.comparisons && (seen.batch_sizes || seen.model_configs)) {
                    access.next_value::<IgnoredAny>()?;
                }
                *self.0 = match seen {
                    Seen { comparisons: true, batch_sizes: true, .. } => Some(Layout::BatchVerification),
                    Seen { comparisons: true, model_configs: true, .. } => Some(Layout::QuantVerification),
                    _ => None,
                };
            }
            if self.0.is_some() {
                return Err(A::Error::custom("recognized"));
            }
        }
        Ok(())
    }
}

/// The first keys of an object, or none for anything else.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Vec<String>, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = access.next_key::<String>()? {
                    if names.len() < 64 {
                        names.push(name);
                    }
                    access.next_value::<IgnoredAny>()?;
                }
                Ok(names)
            }
        }
        deserializer.deserialize_map(Names).map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telling_key_decides_wherever_it_stands() {
        for (json, layout) in [
            (r#"{"a": 1, "experiment_metadata": "#, Some(Layout::Experiment)),
            (r#"{"metadata": {"batch_sizes": []}, "comparisons": "#, Some(Layout::BatchVerification)),
            (r#"{"comparisons": [], "metadata": {"model_configs": {}}}"#, Some(Layout::QuantVerification)),
            (r#"{"metadata": {}, "comparisons": []}"#, None),
            (r#"{"metadata": {}, "cross_hardware""#, Some(Layout::AttentionVerification)),
            (r#"{"metadata": {}, "cross_hardwa"#, None),
            (r#"{"metadata": {}, "cross_hardware": {}}"#, Some(Layout::AttentionVerification)),
            (r#"["measurements"]"#, None),
            ("", None),
        ] {
            assert_eq!(of(json.as_bytes()), layout, "{json}");
        }
    }
}
