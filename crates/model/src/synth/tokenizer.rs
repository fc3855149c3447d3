//! The tokenizer of every synthetic checkpoint: byte-level BPE over 512 tokens, any NFC text in, the same text out.
//!
//! 256 bytes, 253 merges learned once from this project's own design pages (`merges.txt`, in order of rank), three
//! ChatML tokens. Left out: a vocabulary as large as the embedding; surplus rows have no text.

use serde_json::{Map, Value, json};

/// One merge a line, in order of rank; parts in GPT-2's byte alphabet.
const MERGES: &str = include_str!("merges.txt");
/// How text is cut before merging: Qwen2's pattern, since transformers 5 puts it into every qwen2 tokenizer, whatever
/// `tokenizer.json` says.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Special tokens, in order of id.
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// ChatML, as Qwen and SmolLM2 write it, without a default system message.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
                             message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}\
                             {{ '<|im_start|>assistant\n' }}{% endif %}";

/// Ids of the special tokens that models refer to.
pub(super) struct SpecialIds {
    /// `<|endoftext|>`: padding, end of a document.
    pub(super) end_of_text: u32,
    /// `<|im_end|>`: end of a turn.
    pub(super) turn_end: u32,
}

/// Ids of the special tokens.
pub(super) fn special_ids() -> SpecialIds {
    let first = u32::try_from(size() - SPECIAL.len()).unwrap_or(u32::MAX);
    SpecialIds { end_of_text: first, turn_end: first + 2 }
}

/// Number of tokens that have a text.
pub(super) fn size() -> usize {
    256 + MERGES.lines().count() + SPECIAL.len()
}

/// `tokenizer.json`.
pub(super) fn tokenizer_json() -> Value {
    let merges: Vec<(&str, &str)> = MERGES.lines().filter_map(|line| line.split_once(' ')).collect();
    let texts = byte_alphabet()
        .into_iter()
        .map(String::from)
        .chain(merges.iter().map(|(left, right)| format!("{left}{right}")))
        .chain(SPECIAL.map(String::from));
    let vocab: Map<String, Value> = texts.zip(0..).map(|(text, id)| (text, Value::from(id))).collect();
    let first = size() - SPECIAL.len();
    let added: Vec<Value> = (first..).zip(SPECIAL).map(|(id, text)| added_token(id, text)).collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split =
        json!({"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// `tokenizer_config.json`.
pub(super) fn tokenizer_config_json(longest: usize) -> Value {
    let first = size() - SPECIAL.len();
    let decoder: Map<String, Value> = (first..)
        .zip(SPECIAL)
        .map(|(id, text)| {
            let mut token = added_token(id, text);
            if let Some(token) = token.as_object_mut() {
                token.shift_remove("id");
            }
            (id.to_string(), token)
        })
        .collect();
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": [SPECIAL[1], SPECIAL[2]],
        "bos_token": null,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": SPECIAL[2],
        "model_max_length": longest,
        "pad_token": SPECIAL[0],
        "unk_token": null,
    })
}

/// `special_tokens_map.json`.
pub(super) fn special_tokens_map_json() -> Value {
    json!({
        "additional_special_tokens": [SPECIAL[1], SPECIAL[2]],
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
    })
}

fn added_token(id: usize, text: &str) -> Value {
    json!({
        "id": id,
        "content": text,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": true,
    })
}

/// GPT-2's printable stand-ins for the 256 bytes, in order of id: printable Latin-1 as itself, the rest from U+0100 on.
fn byte_alphabet() -> Vec<char> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let rest = (0..=u8::MAX).filter(|byte| !printable(byte)).count();
    let stand_ins = ('\u{100}'..).take(rest);
    (0..=u8::MAX).filter(printable).map(char::from).chain(stand_ins).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn there_are_512_different_tokens() {
        let json = tokenizer_json();
        let vocab = json["model"]["vocab"].as_object().expect("an object");
        assert_eq!(vocab.len(), 512);
        assert_eq!(size(), 512);
        let ids: HashSet<u64> = vocab.values().filter_map(Value::as_u64).collect();
        assert_eq!(ids, (0..512).collect());
        assert_eq!(vocab["<|im_end|>"], special_ids().turn_end);
        assert_eq!(vocab["Ġ"], 220, "space, as in GPT-2");
    }

    #[test]
    fn the_tokenizers_crate_reads_it_and_text_survives() {
        let bytes = serde_json::to_vec(&tokenizer_json()).expect("JSON");
        let tokenizer = tokenizers::Tokenizer::from_bytes(bytes).expect("a tokenizer");
        // All of these are their own NFC form.
        let every_char: String = (0..0x300).filter_map(char::from_u32).collect();
        for text in ["the evidence is compared bit for bit", "naïve — 5 × 7 = 35\n\t🦀", &every_char] {
            let ids = tokenizer.encode(text, false).expect("ids");
            assert_eq!(tokenizer.decode(ids.get_ids(), false).expect("text"), text);
        }
        let ids = tokenizer.encode("<|im_start|>user\nhi<|im_end|>", false).expect("ids");
        assert_eq!(ids.get_ids().first(), Some(&510));
        assert_eq!(ids.get_ids().last(), Some(&511));
        // Merges do merge: fewer tokens than bytes.
        let text = " the evidence";
        assert!(tokenizer.encode(text, false).expect("ids").len() < text.len() / 2);
    }
}
