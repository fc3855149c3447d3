//! Sliding windows that a configuration declares: in use, not in use, or refused.

use serde_json::{Map, Value};

use crate::config_keys::Keys;
use crate::error::{ModelError, shown};
use crate::family::{Family, Windows};

impl Keys<'_> {
    /// Refuses a window that is in use and not computed, and tells of one that no block uses.
    pub(super) fn windows(&self, family: &Family) -> Result<(), ModelError> {
        let kinds = self.kinds()?;
        match family.windows {
            // Read with the family.
            Windows::ByLayerTypes | Windows::FromLayer | Windows::BySwitch => Ok(()),
            Windows::Everywhere { absent } => {
                let want = if self.window(absent)?.is_some() { SLIDING } else { FULL };
                match kinds.iter().flatten().find(|kind| **kind != want) {
                    Some(kind) => {
                        let fault =
                            format!("{} is not computed, and this family does not read it", shown(kind));
                        self.refuse(
                            "layer_types",
                            fault,
                            "use a model whose blocks are all alike, without the key",
                        )
                    }
                    None => Ok(()),
                }
            }
            Windows::InCache => {
                self.refuse_kinds(kinds.as_deref())?;
                match self.window(None)? {
                    Some(window) if kinds.is_none() => self.cut_off(window),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What `layer_types` says of each block.
    fn kinds(&self) -> Result<Option<Vec<&str>>, ModelError> {
        let wrong = || self.wrong("layer_types", "full_attention or sliding_attention for each layer");
        let Some(value) = self.value("layer_types") else { return Ok(None) };
        let list = value.as_array().ok_or_else(wrong)?;
        if list.len() != self.required("num_hidden_layers")? {
            return Err(wrong());
        }
        list.iter().map(|kind| kind.as_str().ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
    }

    fn refuse_kinds(&self, kinds: Option<&[&str]>) -> Result<(), ModelError> {
        match kinds.into_iter().flatten().find(|kind| **kind != FULL) {
            Some(other) => {
                let fault = format!("{} is not computed", shown(&Value::from(*other).to_string()));
                self.refuse("layer_types", fault, "use a model with full attention in every layer")
            }
            None => Ok(()),
        }
    }

    /// The window, where `use_sliding_window` says that there is one.
    fn switched(&self) -> Result<Option<usize>, ModelError> {
        let window =
            if self.flag("use_sliding_window")?.unwrap_or(false) { self.window(Some(4096))? } else { None };
        if window.is_none()
            && let Some(declared) = self.value("sliding_window")
            && self.flag("use_sliding_window")?.is_none()
        {
            let stated =
                format!("sliding_window is {}, use_sliding_window absent", shown(&declared.to_string()));
            self.decide(stated, "no window", "use_sliding_window is false by default in transformers 5.17");
        }
        Ok(window)
    }

    /// A window in a family whose attention has none.
    fn cut_off(&self, window: usize) -> Result<(), ModelError> {
        if window >= self.required("max_position_embeddings")? {
            let stated = format!("sliding_window is {window}, no shorter than the context");
            self.decide(stated, "no window", "the attention of this family has none in transformers 5.17");
            return Ok(());
        }
        let fault = format!(
            "a sliding window of {window} is declared, and transformers 5.17 gives the attention of this family none, \
             but cuts its cache there"
        );
        self.refuse("sliding_window", fault, "remove the key if the model has no window")
    }

    /// What a configuration keeps of the window of all blocks, if `use_sliding_window` says that there is one.
    ///
    /// *Source:* `Qwen3MoeConfig` of transformers 5.17, which reads no `layer_types`.
    pub(crate) fn window_by_switch(&self) -> Result<Map<String, Value>, ModelError> {
        self.refuse_kinds(self.kinds()?.as_deref())?;
        Ok(self.switched()?.map(in_use).unwrap_or_default())
    }

    /// What a configuration keeps of the window of some blocks: those that `layer_types` names, else those from
    /// `max_window_layers` on, if `use_sliding_window` says that there is one.
    ///
    /// *Source:* `Qwen2Config` of transformers 5.17.
    pub(crate) fn window_from_layer(&self) -> Result<Map<String, Value>, ModelError> {
        let kinds = self.kinds()?;
        if let Some(other) = kinds.iter().flatten().find(|kind| ![FULL, SLIDING].contains(kind)) {
            self.refuse_kinds(Some(&[*other]))?;
        }
        let (first, blocks) =
            (self.size("max_window_layers")?.unwrap_or(28), self.required("num_hidden_layers")?);
        let named = kinds.as_ref().map(|kinds| kinds.contains(&SLIDING));
        let Some(window) = self.switched()? else {
            return match named {
                Some(true) => self.refuse(
                    "layer_types",
                    format!("{SLIDING} is named, and no window is in use"),
                    "set use_sliding_window and sliding_window, or name full_attention",
                ),
                _ => Ok(Map::new()),
            };
        };
        let rule = match (&kinds, named) {
            (Some(kinds), Some(true)) => {
                let mut kept = in_use(window);
                kept.insert("layer_types".to_owned(), kinds.clone().into());
                return Ok(kept);
            }
            (Some(_), _) => "layer_types gives full attention to every block".to_owned(),
            (None, _) if first >= blocks => format!(
                "transformers 5.17 gives the window to the blocks from max_window_layers ({first}) on, of {blocks}"
            ),
            (None, _) => {
                let mut kept = in_use(window);
                kept.insert("max_window_layers".to_owned(), first.into());
                return Ok(kept);
            }
        };
        let stated = format!("use_sliding_window is true, sliding_window {window}");
        self.decide(stated, "no block uses the window", rule);
        Ok(Map::new())
    }
}

fn in_use(window: usize) -> Map<String, Value> {
    [("use_sliding_window".to_owned(), true.into()), ("sliding_window".to_owned(), window.into())]
        .into_iter()
        .collect()
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
