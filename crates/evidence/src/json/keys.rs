//! Keys of the uniform schema that carry a number: `pos_-3`, `layer_4`, `layer_30_final_norm`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A position relative to the end of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PosKey(pub(crate) i32);

/// What a tensor of a phase belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LayerKey {
    /// Block, counted from 1.
    Layer(u32),
    /// After the final norm; the number is the last block's.
    FinalNorm(u32),
    /// Outside the blocks.
    Model,
}

impl fmt::Display for PosKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pos_{}", self.0)
    }
}

impl FromStr for PosKey {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let key = s.strip_prefix("pos_").and_then(|n| n.parse().ok()).map(Self);
        // Only the canonical spelling, or two keys could mean one position.
        key.filter(|key| key.to_string() == s)
            .ok_or_else(|| format!("'{s}' is not a position such as 'pos_-1'"))
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(layer) => write!(f, "layer_{layer}"),
            Self::FinalNorm(layer) => write!(f, "layer_{layer}_final_norm"),
            Self::Model => f.write_str("model"),
        }
    }
}

impl FromStr for LayerKey {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let layer = s.strip_prefix("layer_");
        let key = match layer.and_then(|n| n.strip_suffix("_final_norm")) {
            _ if s == "model" => Some(Self::Model),
            Some(number) => number.parse().ok().map(Self::FinalNorm),
            None => layer.and_then(|number| number.parse().ok()).map(Self::Layer),
        };
        key.filter(|key| key.to_string() == s).ok_or_else(|| {
            format!("'{s}' is not a layer such as 'layer_4', 'layer_30_final_norm' or 'model'")
        })
    }
}

macro_rules! string_key {
    ($key:ty, $name:literal, $pattern:literal) => {
        impl Serialize for $key {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $key {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $key {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

string_key!(PosKey, "Position", r"^pos_-[1-9][0-9]*$");
string_key!(LayerKey, "Layer", r"^(layer_[0-9]+(_final_norm)?|model)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse_in_one_spelling_only() {
        for text in ["pos_-3", "pos_-1"] {
            assert_eq!(text.parse::<PosKey>().unwrap().to_string(), text);
        }
        for text in ["layer_4", "layer_30_final_norm", "model"] {
            assert_eq!(text.parse::<LayerKey>().unwrap().to_string(), text);
        }
        for wrong in ["pos_-03", "pos_+1", "pos_", "-1", "pos_-1 ", "pos_-99999999999"] {
            assert!(wrong.parse::<PosKey>().is_err(), "{wrong}");
        }
        for wrong in ["layer_04", "layer_+4", "layer_", "layer__final_norm", "Model", "layer_4_final"] {
            assert!(wrong.parse::<LayerKey>().is_err(), "{wrong}");
        }
    }
}
