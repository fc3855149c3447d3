//! What a family's file states.

use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::config_keys::Keys;
use crate::error::ModelError;
use crate::graph::{Graph, Section};

/// Which blocks use a sliding window that a configuration declares, in transformers 5.17.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Windows {
    /// Those that `layer_types` names, or the family's own pattern.
    ByLayerTypes,
    /// All; a configuration that does not mention a window has `absent`.
    Everywhere { absent: Option<usize> },
    /// All, if `use_sliding_window` says so.
    BySwitch,
    /// Those from `max_window_layers` on, if `use_sliding_window` says so.
    FromLayer,
    /// None: the attention has no window. But the cache cuts keys off behind a declared one.
    InCache,
}

/// What is particular to a family.
pub(crate) struct Family {
    /// transformers' `model_type`; the name in flags and records.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// transformers' class.
    pub architecture: &'static str,
    /// GGUF's `general.architecture`, if such files are read.
    pub gguf: Option<&'static str>,
    /// Keys of `config.json` that this family reads for itself: kept in [`ModelConfig::extra`], and not refused.
    pub keys: &'static [&'static str],
    /// Which blocks use a sliding window that is declared.
    pub windows: Windows,
    /// Base of the rotary angles where none is given.
    pub theta: f64,
    /// Completes a configuration whose common keys are read.
    pub read: fn(&Keys<'_>, &mut ModelConfig) -> Result<(), ModelError>,
    /// The forward pass of a configuration that [`ModelConfig::validate`] accepted.
    pub graph: fn(&ModelConfig) -> Graph,
    /// The smallest model, from what tiny models have in common.
    pub tiny: fn(ModelConfig) -> ModelConfig,
    /// The family's own keys, as transformers writes them.
    pub config_json: fn(&ModelConfig) -> Map<String, Value>,
}

/// The map of a JSON object.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Sections of the kinds of blocks that occur, and the kind of each block, in the order kinds first occur.
pub(super) fn kinds<K: PartialEq + Clone>(
    blocks: &[K],
    section: impl Fn(&K) -> Section,
) -> (Vec<Section>, Vec<usize>) {
    let mut known: Vec<K> = Vec::new();
    let places = blocks
        .iter()
        .map(|kind| {
            known.iter().position(|other| other == kind).unwrap_or_else(|| {
                known.push(kind.clone());
                known.len() - 1
            })
        })
        .collect();
    (known.iter().map(section).collect(), places)
}
