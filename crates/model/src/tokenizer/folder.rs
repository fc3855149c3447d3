//! The tokenizer of a Hugging Face folder, as transformers 5.17 opens it.
//!
//! `tokenizer.json` is not all: the class that `tokenizer_config.json` names may normalize and split by its own rule
//! and take only vocabulary and merges from the file; tokens are added from the settings; and the class has names for
//! special tokens that templates use. `add_bos_token` and `add_eos_token` of the settings change nothing where there is
//! a `tokenizer.json`: its post-processor counts.
//!
//! Where transformers 4.57 goes by the file instead, a decision says so. *Source:* `AutoTokenizer.from_pretrained`,
//! `TokenizersBackend` and the classes of `llama`, `gemma`, `qwen2`, `gpt2` and `gpt_neox` of transformers 5.17.0; the
//! golden `goldens/prompts.py`. Left out: other classes that build their own tokenizer, which are taken as the file
//! says, with a decision.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::chat::{self, Template};
use crate::checkpoint::LARGEST_JSON;
use crate::decision::Decisions;
use crate::error::{ModelError, present, read_small, shown, shown_path};

/// Names the tokenizer's class.
const CONFIG: &str = "tokenizer_config.json";

/// Special tokens that templates may name, in the order in which they are added. *Source:*
/// `SPECIAL_TOKENS_ATTRIBUTES` of transformers.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Types of models that transformers has a class of tokenizer for, and whether it distrusts the one a folder names.
/// Those whose class is the plain one, which takes the file as it is, are `None`.
const TYPES: [(&str, Option<Class>, bool); 13] = [
    ("qwen2", Some(Class::Qwen2), true),
    ("qwen3", Some(Class::Qwen2), false),
    ("qwen3_moe", Some(Class::Qwen2), false),
    ("gemma", Some(Class::Gemma), false),
    ("gemma2", Some(Class::Gemma), false),
    ("gemma3", Some(Class::Gemma), false),
    ("gemma3_text", Some(Class::Gemma), false),
    ("mistral", None, false),
    ("mixtral", None, false),
    ("phi3", None, true),
    ("olmo2", None, false),
    ("deepseek_v2", None, true),
    ("gpt_neox", Some(Class::GptNeox), false),
];

/// Split rule of Qwen2's class.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+"
);

/// A class of transformers that builds its tokenizer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Llama,
    Gemma,
    Qwen2,
    Gpt2,
    GptNeox,
}

/// What a folder's settings ask for.
enum Asked {
    /// The file as it is.
    File,
    Class(Class),
    /// A class that is not known here.
    Other(String),
}

/// What was made of a folder.
pub(super) struct Opened {
    pub(super) inner: tokenizers::Tokenizer,
    pub(super) template: Option<Template>,
    pub(super) decisions: Decisions,
}

/// Opens the tokenizer whose `tokenizer.json` is at `path` in `folder`.
pub(super) fn open(folder: &Path, path: &Path) -> Result<Opened, ModelError> {
    let file = shown_path(path);
    let damaged = |e: &str| ModelError::damaged(&file, "tokenizer", shown(e));
    let bytes = read_small(path, LARGEST_JSON)?;
    let settings = Settings::read(folder)?;
    let decisions = Decisions::default();
    let class = match settings.asked() {
        Asked::File => None,
        Asked::Class(class) => Some(class),
        Asked::Other(name) => {
            let stated = format!("tokenizer_class is {}", shown(&name));
            decisions.add(
                CONFIG,
                stated,
                "tokenizer.json is followed",
                "no rules of that class are known here",
            );
            None
        }
    };
    let mut inner = match class {
        None => tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| damaged(&e.to_string()))?,
        Some(class) => {
            let mut json: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))?;
            drop(bytes);
            if settings.rebuild(class, &mut json) {
                decisions.add(
                    CONFIG,
                    format!("tokenizer_class is {class:?}Tokenizer, and tokenizer.json has other rules"),
                    "texts are normalized and split by the rules of that class",
                    "transformers 5.17 goes by the class (4.57: by tokenizer.json)",
                );
            }
            serde_json::from_value(json).map_err(|e| damaged(&e.to_string()))?
        }
    };
    for token in settings.to_add(&inner) {
        inner.add_tokens(&[token]);
    }
    if class == Some(Class::Qwen2) {
        let all: Vec<_> =
            settings.special(class).into_iter().map(|(_, text)| AddedToken::from(text, true)).collect();
        inner.add_tokens(&all);
    }
    if settings.map.get("split_special_tokens").and_then(Value::as_bool) == Some(true) {
        inner.set_encode_special_tokens(true);
    }
    let template = chat::from_folder(folder, &settings.map, settings.special(class))?;
    Ok(Opened { inner, template, decisions })
}

/// `tokenizer_config.json`, with what of older files counts.
struct Settings {
    map: Map<String, Value>,
    /// `model_type` of `config.json`.
    model_type: Option<String>,
    /// `tokenizer_class` of `config.json`.
    class_of_model: Option<String>,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self, ModelError> {
        let read = |name: &str| -> Result<Map<String, Value>, ModelError> {
            let Some(path) = present(folder, name) else { return Ok(Map::new()) };
            serde_json::from_slice(&read_small(&path, LARGEST_JSON)?)
                .map_err(|e| ModelError::damaged(&shown_path(&path), "JSON", shown(&e.to_string())))
        };
        let mut map = read(CONFIG)?;
        // As transformers: the older file counts, and goes before, where the newer one does not list added tokens.
        if !map.contains_key("added_tokens_decoder") {
            map.extend(read("special_tokens_map.json")?);
        }
        let config = read("config.json")?;
        let text = |key: &str| config.get(key)?.as_str().map(str::to_owned);
        Ok(Self { map, model_type: text("model_type"), class_of_model: text("tokenizer_class") })
    }

    /// Which class transformers takes: the folder's, unless the type of the model has the plain one, or one that goes
    /// before the folder's.
    fn asked(&self) -> Asked {
        let named = self.map.get("tokenizer_class").and_then(Value::as_str);
        let named = named.or(self.class_of_model.as_deref()).map(|name| name.trim_end_matches("Fast"));
        let of_type = TYPES.iter().find(|(name, ..)| Some(*name) == self.model_type.as_deref());
        let class = match (named, of_type) {
            (None, None) | (_, Some((_, None, _))) => return Asked::File,
            (None, Some((_, Some(class), _))) | (Some(_), Some((_, Some(class), true))) => {
                return Asked::Class(*class);
            }
            (Some(named), _) => named,
        };
        match class {
            "LlamaTokenizer" => Asked::Class(Class::Llama),
            "GemmaTokenizer" => Asked::Class(Class::Gemma),
            "Qwen2Tokenizer" => Asked::Class(Class::Qwen2),
            "GPT2Tokenizer" => Asked::Class(Class::Gpt2),
            "GPTNeoXTokenizer" => Asked::Class(Class::GptNeox),
            "PreTrainedTokenizer" | "TokenizersBackend" => Asked::File,
            other => Asked::Other(other.to_owned()),
        }
    }

    /// Puts the class's own rules in place of those of the file; whether they are others.
    fn rebuild(&self, class: Class, json: &mut Value) -> bool {
        let before = rules(json);
        let flag = |key: &str| self.map.get(key).and_then(Value::as_bool);
        let bytes = |split: bool| {
            let prefix = flag("add_prefix_space").unwrap_or(false);
            json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": split})
        };
        let unknown = self.special(Some(class)).into_iter().find(|(name, _)| name == "unk_token");
        let unknown = unknown.map_or(Value::Null, |(_, text)| Value::String(text));
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let (normalizer, pre_tokenizer, model) = match class {
            Class::Llama => {
                let scheme = match (flag("add_prefix_space"), flag("legacy")) {
                    (Some(false), _) => "never",
                    (_, Some(true)) => "always",
                    _ => "first",
                };
                let pre = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
                (Value::Null, pre, (true, true, Value::Null))
            }
            Class::Gemma => {
                let pre = json!({
                    "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
                });
                (space, pre, (true, true, unknown))
            }
            Class::Qwen2 => {
                let split = json!({
                    "type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false,
                });
                let pre = json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]});
                (json!({"type": "NFC"}), pre, (false, false, Value::Null))
            }
            Class::Gpt2 => (Value::Null, bytes(true), (false, false, Value::Null)),
            Class::GptNeox => (json!({"type": "NFC"}), bytes(true), (false, false, Value::Null)),
        };
        let (fuse, fallback, unknown) = model;
        json["normalizer"] = normalizer;
        json["pre_tokenizer"] = pre_tokenizer;
        if class == Class::GptNeox {
            json["post_processor"] = Value::Null;
        }
        if let Some(model) = json.get_mut("model").and_then(Value::as_object_mut) {
            let set = [
                ("dropout", Value::Null),
                ("unk_token", unknown),
                ("fuse_unk", fuse.into()),
                ("byte_fallback", fallback.into()),
                ("ignore_merges", false.into()),
            ];
            model.extend(set.map(|(key, value)| (key.to_owned(), value)));
        }
        // A class takes the tokens that the settings list; without a list, those of the file.
        if self.map.contains_key("added_tokens_decoder") {
            json["added_tokens"] = json!([]);
        }
        before != rules(json)
    }

    /// Names and texts of the special tokens, those that the class has by default included.
    fn special(&self, class: Option<Class>) -> Vec<(String, String)> {
        let defaults: &[(&str, &str)] = match class {
            None => &[],
            Some(Class::Llama) => &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
            Some(Class::Gemma) => &[
                ("bos_token", "<bos>"),
                ("eos_token", "<eos>"),
                ("unk_token", "<unk>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Some(Class::Qwen2) => &[
                ("eos_token", "<|endoftext|>"),
                ("unk_token", "<|endoftext|>"),
                ("pad_token", "<|endoftext|>"),
            ],
            Some(Class::Gpt2) => &[
                ("bos_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("unk_token", "<|endoftext|>"),
            ],
            Some(Class::GptNeox) => &[
                ("bos_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("unk_token", "<|endoftext|>"),
                ("pad_token", "<|padding|>"),
            ],
        };
        let named = SPECIAL.into_iter().filter_map(|name| {
            let text = match self.map.get(name) {
                Some(value) => content(value)?,
                None => defaults.iter().find(|(of, _)| *of == name)?.1.to_owned(),
            };
            Some((name.to_owned(), text))
        });
        let own =
            self.map.iter().filter(|(key, _)| key.ends_with("_token") && !SPECIAL.contains(&key.as_str()));
        let own = own.filter_map(|(key, value)| Some((key.clone(), content(value)?)));
        named.chain(own).collect()
    }

    /// Tokens of the settings that `tokenizer` has not, in the order in which transformers adds them.
    fn to_add(&self, tokenizer: &tokenizers::Tokenizer) -> Vec<AddedToken> {
        let there: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
        let mut listed: Vec<(u32, AddedToken)> = Vec::new();
        if let Some(Value::Object(decoder)) = self.map.get("added_tokens_decoder") {
            listed =
                decoder.iter().filter_map(|(id, token)| Some((id.parse().ok()?, added(token)?))).collect();
            listed.sort_by_key(|(id, _)| *id);
        }
        let mut add: Vec<AddedToken> =
            listed.iter().map(|(_, token)| token.clone()).filter(|token| !there.contains(token)).collect();
        let extra = ["extra_special_tokens", "additional_special_tokens"];
        let extra = extra.into_iter().find_map(|key| self.map.get(key)?.as_array()).into_iter().flatten();
        let class = match self.asked() {
            Asked::Class(class) => Some(class),
            _ => None,
        };
        let special = self.special(class).into_iter().map(|(_, text)| text);
        for text in special.chain(extra.filter_map(content)) {
            let known = there.iter().chain(&add).any(|token| token.content == text);
            if !known {
                add.push(AddedToken::from(text, true));
            }
        }
        add
    }
}

/// The text of a token, written as such or as an object.
fn content(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// An added token with its flags.
fn added(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    Some(AddedToken {
        content: content(value)?,
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

/// What of a `tokenizer.json` decides ids beside its vocabulary, merges and added tokens.
fn rules(json: &Value) -> Value {
    let mut pre = json["pre_tokenizer"].clone();
    // Offsets are trimmed after the ids are decided.
    let bare = |value: &mut Value| {
        value.as_object_mut().map(|object| object.remove("trim_offsets"));
    };
    bare(&mut pre);
    pre["pretokenizers"].as_array_mut().into_iter().flatten().for_each(bare);
    let flag = |key: &str| json["model"][key].as_bool().unwrap_or(false);
    json!([json["normalizer"], pre, flag("fuse_unk"), flag("byte_fallback"), flag("ignore_merges")])
}
