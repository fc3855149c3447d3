//! GGUF tokenizer metadata → the structure of a `tokenizer.json`.
//!
//! Two families: byte-level BPE (`gpt2`, split by the rule that `tokenizer.ggml.pre` names: [`split`]) and
//! SentencePiece BPE (`llama`), whose merges are derived from the pieces' scores. Others are refused by name. A file
//! that names no rule is split by llama.cpp's `default`, and a decision says so.
//! Where llama.cpp and Hugging Face differ (Unicode normalization of Qwen), Hugging Face's rule is used.
//! *Source:* the `tokenizer.json` of SmolLM2, Qwen2.5, Llama 3 and Llama 2; `SentencePieceExtractor` and
//! `LlamaConverter` of transformers `convert_slow_tokenizer.py` (4.57); token types of llama.cpp `llama.h`.

mod split;

use std::collections::HashMap;

use serde_json::{Value, json};

use super::chat::Template;
use crate::decision::Decisions;
use crate::error::{ModelError, shown};
use crate::gguf::Gguf;

/// Longest SentencePiece piece whose splits are searched for merges, in bytes; real pieces have at most 48.
const LONGEST_PIECE: usize = 256;

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const BYTE: u64 = 6;

/// Special tokens by the names of GGUF (`tokenizer.ggml.{name}_token_id`, one misspelled there) and of templates.
const SPECIAL: [(&str, &str); 7] = [
    ("bos", "bos_token"),
    ("eos", "eos_token"),
    ("unknown", "unk_token"),
    ("seperator", "sep_token"),
    ("padding", "pad_token"),
    ("cls", "cls_token"),
    ("mask", "mask_token"),
];

/// What a GGUF file has of a tokenizer.
pub(super) struct Parts {
    pub(super) inner: tokenizers::Tokenizer,
    pub(super) template: Option<Template>,
    pub(super) decisions: Decisions,
}

/// The tokenizer of a GGUF file.
pub(super) fn parts(gguf: &Gguf<'_>) -> Result<Parts, ModelError> {
    let vocabulary = Vocabulary::read(gguf)?;
    let decisions = Decisions::default();
    let ByteLevel { mut json, adds_bos } = match gguf.text("tokenizer.ggml.model")? {
        Some("gpt2") => byte_level(gguf, &vocabulary, &decisions)?,
        Some("llama") => ByteLevel { json: sentence_piece(gguf, &vocabulary)?, adds_bos: true },
        Some(other) => {
            let fault = format!("'{}' is not read", shown(other));
            let remedy = "use a file whose tokenizer is gpt2 (byte-level BPE) or llama (SentencePiece BPE), or the \
                          safetensors checkpoint with its tokenizer.json";
            return Err(ModelError::unsupported(gguf.file(), "tokenizer.ggml.model", fault, remedy));
        }
        None => return Err(gguf.wrong("tokenizer.ggml.model", "present")),
    };
    let bos = vocabulary.named(gguf, "bos")?;
    let eos = vocabulary.named(gguf, "eos")?;
    // GGUF has no place for it: as llama.cpp, and as the `tokenizer.json` of Phi-3.
    let name = gguf.text("general.name")?.unwrap_or_default().to_lowercase();
    let phi3 = name.contains("phi-3") || name.contains("phi3");
    json["added_tokens"] =
        vocabulary.added(|token| phi3 && !matches!(token, "<unk>" | "<s>" | "<|endoftext|>"));
    json["post_processor"] = ends(
        bos.filter(|_| gguf.flag("tokenizer.ggml.add_bos_token").ok().flatten().unwrap_or(adds_bos)),
        eos.filter(|_| gguf.flag("tokenizer.ggml.add_eos_token").ok().flatten().unwrap_or(false)),
    );
    let inner = serde_json::from_value(json)
        .map_err(|e| ModelError::damaged(gguf.file(), "tokenizer.ggml", shown(&e.to_string())))?;
    let Some(source) = gguf.text("tokenizer.chat_template")? else {
        return Ok(Parts { inner, template: None, decisions });
    };
    let mut tokens = Vec::new();
    // One that the template does not name is not looked up: files have ids there that are no token's.
    for (kind, name) in SPECIAL.into_iter().filter(|(_, name)| source.contains(name)) {
        tokens.extend(vocabulary.named(gguf, kind)?.map(|(_, text)| (name.to_owned(), text.to_owned())));
    }
    let template = Some(Template::new(gguf.file().to_owned(), source.to_owned(), tokens)?);
    Ok(Parts { inner, template, decisions })
}

/// Tokens in the order of their ids.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<u64>,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &Gguf<'a>) -> Result<Self, ModelError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = gguf.array(key)?.and_then(|array| array.texts());
        let Some(tokens) = tokens.filter(|tokens| !tokens.is_empty() && u32::try_from(tokens.len()).is_ok())
        else {
            return Err(gguf.wrong(key, "a list of strings"));
        };
        let kinds = match gguf.array("tokenizer.ggml.token_type")? {
            Some(array) => array.unsigned().filter(|kinds| kinds.len() == tokens.len()),
            None => Some(vec![NORMAL; tokens.len()]),
        };
        let Some(kinds) = kinds else {
            return Err(gguf.wrong("tokenizer.ggml.token_type", "one number per token"));
        };
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(*token, id) {
                let fault = format!("'{}' is both token {first} and {id}", shown(token));
                return Err(ModelError::damaged(gguf.file(), key, fault));
            }
        }
        Ok(Self { tokens, kinds, ids })
    }

    /// Id and text of the token that `tokenizer.ggml.{kind}_token_id` names.
    fn named(&self, gguf: &Gguf<'a>, kind: &str) -> Result<Option<(u64, &'a str)>, ModelError> {
        let key = format!("tokenizer.ggml.{kind}_token_id");
        let Some(id) = gguf.unsigned(&key)? else { return Ok(None) };
        match usize::try_from(id).ok().and_then(|id| self.tokens.get(id)) {
            Some(token) => Ok(Some((id, token))),
            None => Err(gguf.wrong(&key, "a token id")),
        }
    }

    fn json(&self) -> Value {
        self.tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect()
    }

    /// Tokens that are found in a text before it is split: control tokens, and those a user added. `strips` are taken
    /// together with the white space that follows them.
    fn added(&self, strips: impl Fn(&str) -> bool) -> Value {
        let added = |(id, (token, kind)): (usize, (&&str, &u64))| {
            let special = matches!(*kind, CONTROL | UNKNOWN);
            (special || *kind == USER_DEFINED).then(|| {
                json!({
                    "id": id, "content": token, "special": special,
                    "single_word": false, "lstrip": false, "rstrip": strips(token), "normalized": false,
                })
            })
        };
        self.tokens.iter().zip(&self.kinds).enumerate().filter_map(added).collect()
    }
}

/// Byte-level BPE.
struct ByteLevel {
    json: Value,
    /// Whether such tokenizers begin texts with a token unless the file says otherwise.
    adds_bos: bool,
}

fn byte_level(
    gguf: &Gguf<'_>,
    vocabulary: &Vocabulary<'_>,
    decisions: &Decisions,
) -> Result<ByteLevel, ModelError> {
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex});
    let named = gguf.text("tokenizer.ggml.pre")?;
    let Some(rule) = split::rule(named.unwrap_or(split::DEFAULT)) else {
        let fault = format!("split rule '{}' is not known", shown(named.unwrap_or_default()));
        let remedy = format!(
            "use the safetensors checkpoint with its tokenizer.json, or a file whose rule is one of {}",
            split::names()
        );
        return Err(ModelError::unsupported(gguf.file(), "tokenizer.ggml.pre", fault, remedy));
    };
    let stated = match named {
        None => Some("tokenizer.ggml.pre is absent"),
        Some(split::DEFAULT) => Some("tokenizer.ggml.pre is default"),
        Some(_) => None,
    };
    if let Some(stated) = stated {
        let rule = "llama.cpp does, and warns that texts may be split wrongly";
        decisions.add(gguf.file(), stated, "texts are split by the rule 'default'", rule);
    }
    let pieces = rule.patterns.iter().map(|pattern| {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    });
    let pieces: Value = pieces.chain([bytes(false)]).collect();
    let normalizer = if rule.composes { json!({"type": "NFC"}) } else { Value::Null };
    let key = "tokenizer.ggml.merges";
    let Some(merges) = gguf.array(key)?.and_then(|array| array.texts()) else {
        return Err(gguf.wrong(key, "a list of strings"));
    };
    let mut pairs = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.into_iter().enumerate() {
        // The first character may itself be a space in old files.
        let second = merge.chars().next().map_or(0, char::len_utf8);
        let Some(space) = merge[second..].find(' ') else {
            let fault = format!("merge {rank} '{}' is not two tokens", shown(merge));
            return Err(ModelError::damaged(gguf.file(), key, fault));
        };
        let (left, right) = (&merge[..second + space], &merge[second + space + 1..]);
        pairs.push(merge_of(gguf, key, rank, vocabulary, left, right)?);
    }
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pieces},
        "decoder": bytes(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": rule.ignore_merges, "vocab": vocabulary.json(), "merges": pairs,
        },
    });
    Ok(ByteLevel { json, adds_bos: rule.adds_bos })
}

/// A merge as a pair, both halves and their whole being tokens.
fn merge_of(
    gguf: &Gguf<'_>,
    key: &str,
    rank: usize,
    vocabulary: &Vocabulary<'_>,
    left: &str,
    right: &str,
) -> Result<Value, ModelError> {
    let whole = format!("{left}{right}");
    match [left, right, &whole].into_iter().find(|token| !vocabulary.ids.contains_key(token)) {
        Some(absent) => {
            let fault = format!("merge {rank} needs '{}', which is no token", shown(absent));
            Err(ModelError::damaged(gguf.file(), key, fault))
        }
        None => Ok(json!([left, right])),
    }
}

/// SentencePiece BPE with byte fallback. Of two neighbouring pieces the pair whose union scores highest is
/// joined first, so the merges are all splits of all pieces, sorted by score.
fn sentence_piece(gguf: &Gguf<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value, ModelError> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf.array(key)?.and_then(|array| array.numbers());
    let Some(scores) = scores.filter(|scores| scores.len() == vocabulary.tokens.len()) else {
        return Err(gguf.wrong(key, "one number per token"));
    };
    let mut merges = Vec::new();
    for (id, (piece, &kind)) in vocabulary.tokens.iter().zip(&vocabulary.kinds).enumerate() {
        if kind != NORMAL {
            continue;
        }
        if piece.len() > LONGEST_PIECE {
            let fault = format!("token {id} has {} bytes, no piece is that long", piece.len());
            return Err(ModelError::damaged(gguf.file(), "tokenizer.ggml.tokens", fault));
        }
        let mut splits: Vec<(usize, usize, usize)> = piece
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                Some((*vocabulary.ids.get(&piece[..at])?, *vocabulary.ids.get(&piece[at..])?, at))
            })
            .collect();
        splits.sort_unstable();
        merges.extend(splits.into_iter().map(|(_, _, at)| (scores[id], piece.split_at(at))));
    }
    // Highest score first; of equal ones the longer left half, then the longer right half, in characters.
    let length = |half: &str| half.chars().count();
    merges.sort_by(|(a, (al, ar)), (b, (bl, br))| {
        b.total_cmp(a).then_with(|| length(bl).cmp(&length(al))).then_with(|| length(br).cmp(&length(ar)))
    });
    let pairs: Value = merges.into_iter().map(|(_, (left, right))| json!([left, right])).collect();
    let unknown = vocabulary.named(gguf, "unknown")?.map(|(_, token)| token);
    let has_bytes = vocabulary.kinds.contains(&BYTE);
    let prefix = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": has_bytes,
            "ignore_merges": false, "vocab": vocabulary.json(), "merges": pairs,
        },
    }))
}

/// The step that puts tokens around a text; null when there are none to put.
fn ends(bos: Option<(u64, &str)>, eos: Option<(u64, &str)>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let around = |sequence: Value| -> Value {
        let (bos, eos) = (bos.map(|(_, token)| special(token)), eos.map(|(_, token)| special(token)));
        bos.into_iter().chain([sequence]).chain(eos).collect()
    };
    let tokens: serde_json::Map<String, Value> = bos
        .into_iter()
        .chain(eos)
        .map(|(id, token)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json!({
        "type": "TemplateProcessing",
        "single": around(sequence("A")),
        "pair": [sequence("A"), sequence("B")],
        "special_tokens": tokens,
    })
}
