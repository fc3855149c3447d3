//! Tokenizers from GGUF metadata and from folders.

use std::path::Path;

use mantissa_model::tokenizer::from_gguf_bytes;
use mantissa_model::{Message, Tokenizer};
use mantissa_testkit::gguf::Builder;

use crate::one_line;

/// The 256 byte characters of byte-level BPE, then a few merges, then control and user tokens.
fn byte_level(pre: &str) -> Builder {
    let printable = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    let mut tokens: Vec<String> = (0..=255_u8)
        .map(|b| {
            let code = if printable(&b) {
                u32::from(b)
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap().to_string()
        })
        .collect();
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2", "12 3"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    tokens.extend(["<|im_start|>".into(), "<|im_end|>".into(), "<tool>".into()]);
    let mut kinds = vec![1; tokens.len()];
    let end = kinds.len();
    kinds[end - 3..].copy_from_slice(&[3, 3, 4]);
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    Builder::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &merges)
        .u32("tokenizer.ggml.bos_token_id", 263)
        .u32("tokenizer.ggml.eos_token_id", 264)
}

fn sentence_piece() -> Builder {
    let mut tokens: Vec<String> = vec!["<unk>".into(), "<s>".into(), "</s>".into()];
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    let pieces = ["▁", "a", "b", "c", "ab", "bc", "▁a", "▁ab"];
    tokens.extend(pieces.map(str::to_owned));
    let kinds = [vec![2, 3, 3], vec![6; 256], vec![1; pieces.len()]].concat();
    // "bc" outscores "ab": "abc" is a + bc.
    let scores = [vec![0.0; 259], vec![-9.0, -9.1, -9.2, -9.3, -5.0, -4.0, -6.0, -7.0]].concat();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    Builder::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .f32s("tokenizer.ggml.scores", &scores)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.unknown_token_id", 0)
}

fn read(file: &Builder) -> Tokenizer {
    from_gguf_bytes("m.gguf", &file.build()).unwrap()
}

#[test]
fn byte_level_splits_by_the_named_rule() {
    for (pre, digits) in [
        ("smollm", vec!["1", "2", "3", "1"]),
        ("qwen2", vec!["1", "2", "3", "1"]),
        ("llama-bpe", vec!["123", "1"]),
        ("gpt-2", vec!["123", "1"]),
    ] {
        let tokenizer = read(&byte_level(pre));
        let texts = |text: &str| -> Vec<String> {
            let ids = tokenizer.encode(text, false).unwrap();
            ids.into_iter().map(|id| tokenizer.token_text(id).unwrap()).collect()
        };
        assert_eq!(texts("1231"), digits, "{pre}");
        assert_eq!(texts("hello hello"), ["hello", "Ġhello"], "{pre}");
        assert_eq!(texts("<|im_start|>he<tool><|im_end|>"), ["<|im_start|>", "he", "<tool>", "<|im_end|>"]);
        for text in ["", "naïve Ωμ 東京 🦀👩‍🔬", "a\n\n\tb  c   ", "I'll we've", "\u{0}\u{7f}\u{a0}"]
        {
            let ids = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text, "{pre}");
        }
        let chat = tokenizer.encode("<|im_start|>hello<|im_end|>", false).unwrap();
        assert_eq!(tokenizer.decode(&chat, true).unwrap(), "hello");
        assert_eq!(tokenizer.vocab_size(), 266);
        assert_eq!(tokenizer.token_text(266), None);
        assert_eq!(tokenizer.token_id("<|im_end|>"), Some(264));
        // Llama 3 begins texts with a token even when the file does not say so.
        let begins = tokenizer.encode("he", true).unwrap().first() == Some(&263);
        assert_eq!(begins, pre == "llama-bpe", "{pre}");
    }
    let both = byte_level("smollm")
        .bool("tokenizer.ggml.add_bos_token", true)
        .bool("tokenizer.ggml.add_eos_token", true);
    assert_eq!(read(&both).encode("he", true).unwrap(), [263, 256, 264]);
}

/// Pieces as the rules of llama.cpp cut them; `default` applies four patterns, one to what the others left.
#[test]
fn every_rule_cuts_its_own_way() {
    let text = "hello 1231, it's 12\u{20ac} HE'LL\n\n  end";
    for (pre, want) in [
        ("gpt-2", "hello| 1231|,| it|'s| 12|€| HE|'|LL|\n\n | end"),
        ("default", "hello| |123|1|,| it|'|s| |12|€| HE|'|LL|\n\n | end"),
        ("falcon", "hello| |123|1|,| it|'|s| 12|€| HE|'|LL|\n\n | end"),
        ("smollm", "hello| |1|2|3|1|,| it|'s| |1|2|€| HE|'|LL|\n\n | end"),
        ("qwen2", "hello| |1|2|3|1|,| it|'s| |1|2|€| HE|'LL|\n\n| | end"),
        ("llama-bpe", "hello| |123|1|,| it|'s| |12|€| HE|'LL|\n\n| | end"),
        ("tekken", "hello| |1|2|3|1|,| it|'s| |1|2|€| HE|'LL|\n\n| | end"),
        ("gpt-4o", "hello| |123|1|,| it's| |12|€| HE'LL|\n\n| | end"),
        ("deepseek-llm", "hello| |1231|,| it|'|s| |12|€| HE|'|LL|\n|\n| | end"),
        ("bloom", "hello| 1231|,| it's| 12€| HE'LL|\n\n | end"),
    ] {
        assert_eq!(read(&byte_level(pre)).pieces(text).unwrap().join("|"), want, "{pre}");
    }
    // A file that names no rule is cut by `default`, and both say so.
    let unnamed = Builder::default()
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &["1", "2", "12", "Ġ"])
        .texts("tokenizer.ggml.merges", &["1 2"]);
    let tokenizer = read(&unnamed);
    assert_eq!(tokenizer.pieces("1212 12").unwrap().join("|"), "121|2| |12");
    assert_eq!(tokenizer.encode("1212 12", false).unwrap(), [2, 0, 1, 3, 2]);
    let stated = |tokenizer: &Tokenizer| {
        tokenizer.decisions().iter().map(|one| one.stated.clone()).collect::<Vec<_>>()
    };
    assert_eq!(stated(&tokenizer), ["tokenizer.ggml.pre is absent"]);
    assert_eq!(stated(&read(&byte_level("default"))), ["tokenizer.ggml.pre is default"]);
    assert_eq!(stated(&read(&byte_level("qwen2"))), [""; 0]);
}

#[test]
fn sentence_piece_joins_the_best_scored_pair_first() {
    let tokenizer = read(&sentence_piece());
    let id = |piece: &str| tokenizer.token_id(piece).unwrap();
    assert_eq!(tokenizer.encode("abc", false).unwrap(), [id("▁a"), id("bc")]);
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [1, id("▁ab")]);
    assert_eq!(tokenizer.encode("é", false).unwrap(), [id("▁"), id("<0xC3>"), id("<0xA9>")]);
    for text in ["abc abc", "é 東", " a"] {
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }
    let plain = read(&sentence_piece().bool("tokenizer.ggml.add_space_prefix", false));
    assert_eq!(plain.encode("ab", false).unwrap(), [id("ab")]);
}

#[test]
fn chat_templates_render_and_encode_to_single_control_tokens() {
    let template = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}{{ eos_token }}";
    let tokenizer = read(&byte_level("smollm").text("tokenizer.chat_template", template));
    let text = tokenizer.apply_chat_template(&[Message::new("user", "hello")], true).unwrap();
    assert_eq!(text, "<|im_start|>user\nhello<|im_end|>\n<|im_start|><|im_end|>");
    let ids = tokenizer.encode(&text, false).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id >= 263).count(), 4);
    let e = one_line(read(&byte_level("smollm")).apply_chat_template(&[], false));
    assert!(e.contains("chat template: the model has none"), "{e}");
    // Other special tokens, where the template names them; a padding token that is none matters to no other template.
    let named = |pad: u32, template: &str| {
        let file = byte_level("smollm").u32("tokenizer.ggml.padding_token_id", pad);
        file.text("tokenizer.chat_template", template)
    };
    let text = read(&named(265, "{{ pad_token }}{{ unk_token }}.")).apply_chat_template(&[], false);
    assert_eq!(text.unwrap(), "<tool>.");
    assert!(read(&named(9999, "{{ bos_token }}")).has_chat_template());
    let bytes = named(9999, "{{ pad_token }}").build();
    let e = one_line(mantissa_model::tokenizer::from_gguf_bytes("t.gguf", &bytes));
    assert!(e.contains("tokenizer.ggml.padding_token_id"), "{e}");
}

#[test]
fn folders_keep_template_and_tokens_in_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let open = || Tokenizer::open(folder.path());
    write("config.json", "{}");
    assert!(one_line(open()).contains("no tokenizer.json beside config.json"));
    write("tokenizer.json", "{\"version\": 1}");
    assert!(one_line(open()).contains("tokenizer.json: tokenizer: "));
    // Truncation and padding of a saved tokenizer must not reach prompts.
    write(
        "tokenizer.json",
        r#"{"version":"1.0","truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0},
            "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"a"},
            "added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,
            "model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}"#,
    );
    let tokenizer = open().unwrap();
    assert_eq!(tokenizer.encode("abab", true).unwrap(), [0, 1, 0, 1]);
    assert!(!tokenizer.has_chat_template());
    let render = || open().unwrap().apply_chat_template(&[Message::new("user", "b")], false).unwrap();
    write(
        "tokenizer_config.json",
        r#"{"bos_token":{"content":"<s>"},"chat_template":"{{bos_token}}{{messages[0].content}}"}"#,
    );
    assert_eq!(render(), "<s>b");
    // As transformers 5.17 renders them: the older file goes before, unless the newer one lists added tokens.
    let template = "{{bos_token}}|{{eos_token}}|{{pad_token}}|{{unk_token}}|{{sep_token}}";
    let config = |more: &str| {
        let text = format!(
            r#"{{"bos_token":"<b>","pad_token":"<p>","sep_token":null,"chat_template":"{template}"{more}}}"#
        );
        write("tokenizer_config.json", &text);
    };
    write(
        "special_tokens_map.json",
        r#"{"bos_token":"<old>","eos_token":{"content":"<e>"},"unk_token":"<u>"}"#,
    );
    config("");
    assert_eq!(render(), "<old>|<e>|<p>|<u>|");
    config(r#","added_tokens_decoder":{}"#);
    assert_eq!(render(), "<b>||<p>||");
    write(
        "tokenizer_config.json",
        r#"{"chat_template":[{"name":"tool","template":"t"},{"name":"default","template":"d"}]}"#,
    );
    assert_eq!(render(), "d");
    write("chat_template.jinja", "j");
    assert_eq!(render(), "j");
    write("tokenizer_config.json", "{");
    assert!(one_line(open()).contains("tokenizer_config.json: JSON"));
}

#[test]
fn tokenizers_that_contradict_themselves_are_refused() {
    for (file, want) in [
        (
            byte_level("kimi-k2"),
            "tokenizer.ggml.pre: split rule 'kimi-k2' is not known; use the safetensors checkpoint with its \
             tokenizer.json, or a file whose rule is one of a.x-4.0, bailingmoe, ",
        ),
        (Builder::default(), "tokenizer.ggml.tokens: must be a list of strings"),
        (Builder::default().texts("tokenizer.ggml.tokens", &["a"]), "tokenizer.ggml.model: must be present"),
        (
            Builder::default().texts("tokenizer.ggml.tokens", &["a"]).text("tokenizer.ggml.model", "t5"),
            "tokenizer.ggml.model: 't5' is not read",
        ),
        (
            Builder::default().texts("tokenizer.ggml.tokens", &["a", "b", "a"]),
            "tokenizer.ggml.tokens: 'a' is both token 0 and 2",
        ),
        (
            Builder::default()
                .texts("tokenizer.ggml.tokens", &["a", "b"])
                .text("tokenizer.ggml.model", "gpt2")
                .texts("tokenizer.ggml.merges", &["a b"]),
            "merge 0 needs 'ab', which is no token",
        ),
        (
            Builder::default()
                .texts("tokenizer.ggml.tokens", &["a", "b"])
                .text("tokenizer.ggml.model", "gpt2")
                .texts("tokenizer.ggml.merges", &["ab"]),
            "merge 0 'ab' is not two tokens",
        ),
        (
            Builder::default()
                .texts("tokenizer.ggml.tokens", &["a"])
                .i32s("tokenizer.ggml.token_type", &[1, 1]),
            "tokenizer.ggml.token_type: must be one number per token",
        ),
        (
            Builder::default()
                .texts("tokenizer.ggml.tokens", &[&"a".repeat(300)])
                .text("tokenizer.ggml.model", "llama")
                .f32s("tokenizer.ggml.scores", &[0.0]),
            "token 0 has 300 bytes",
        ),
        (
            Builder::default()
                .texts("tokenizer.ggml.tokens", &["a"])
                .text("tokenizer.ggml.model", "llama")
                .u32("tokenizer.ggml.bos_token_id", 1)
                .f32s("tokenizer.ggml.scores", &[0.0]),
            "tokenizer.ggml.bos_token_id: must be a token id, is 1",
        ),
    ] {
        let e = one_line(from_gguf_bytes("m.gguf", &file.build()));
        assert!(e.contains(want), "{e} / {want}");
    }
}

/// Ids of five prompts as llama.cpp makes them from the same file (`goldens/llama_cpp_smollm2.py`).
#[test]
#[ignore = "needs `mantissa pull smollm2-135m-instruct`"]
fn smollm2_agrees_with_llama_cpp() {
    let home = std::env::var_os("MANTISSA_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap()).join(".local/share/mantissa"),
        Into::into,
    );
    let model = mantissa_model::pull::resolve(mantissa_model::pull::SMOLLM2, &home, None).unwrap();
    let tokenizer = Tokenizer::open(&model).unwrap();
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../../goldens/llama_cpp_smollm2.json")).unwrap();
    let prompts = golden["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 5);
    for prompt in prompts {
        let text = prompt["text"].as_str().unwrap();
        let ids: Vec<u64> = tokenizer.encode(text, false).unwrap().into_iter().map(u64::from).collect();
        let want: Vec<u64> =
            prompt["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert_eq!(ids, want, "{text}");
    }
    let chat = tokenizer.apply_chat_template(&[Message::new("user", "Hi")], true).unwrap();
    assert_eq!(
        chat,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(tokenizer.encode(&chat, false).unwrap()[0], 1);
}
