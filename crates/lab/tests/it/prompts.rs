//! The laws of prompts: exact length, distinct rows, nested batches, honest provenance.

use std::collections::HashSet;
use std::fmt::Write;

use mantissa_lab::document::Document;
use mantissa_lab::prompt::{Frame, Placed, PromptSet, PromptSpec, Tokenize};
use mantissa_model::{Message, Tokenizer};
use proptest::prelude::*;

/// One token a byte, and two control tokens: lengths can be counted by hand.
struct Bytes {
    template: Option<&'static str>,
    bos: Option<u32>,
}

const CHAT: &str = "<|im_start|>SYSTEM<|im_end|><|im_start|>USER<|im_end|><|im_start|>";
const CONTROL: [(&str, u32); 2] = [("<|im_start|>", 256), ("<|im_end|>", 257)];
const BYTES: Bytes = Bytes { template: Some(CHAT), bos: None };

impl Tokenize for Bytes {
    fn encode(&self, text: &str, special: bool) -> Result<Vec<Placed>, String> {
        let (mut tokens, mut rest) = (Vec::new(), text.as_bytes());
        tokens.extend(self.bos.filter(|_| special).map(|id| Placed { id, bytes: None }));
        while let Some((byte, after)) = rest.split_first() {
            let control = CONTROL.iter().find(|(name, _)| rest.starts_with(name.as_bytes()));
            let id = control.map_or(u32::from(*byte), |(_, id)| *id);
            let at = text.len() - rest.len();
            rest = control.map_or(after, |(name, _)| &rest[name.len()..]);
            tokens.push(Placed { id, bytes: Some((at, text.len() - rest.len())) });
        }
        Ok(tokens)
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        let mut bytes = Vec::new();
        for id in ids {
            match u8::try_from(*id) {
                Ok(byte) => bytes.push(byte),
                Err(_) if skip_special => {}
                Err(_) => {
                    bytes.extend(CONTROL.iter().find(|(_, control)| control == id).ok_or("id")?.0.bytes());
                }
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn render(&self, messages: &[Message], _generate: bool) -> Result<Option<String>, String> {
        let of = |role: &str| messages.iter().find(|message| message.role == role);
        let text = |role: &str| of(role).map_or("", |message| message.content.as_str());
        Ok(self.template.map(|form| form.replace("SYSTEM", text("system")).replace("USER", text("user"))))
    }
}

/// Numbers in words of three letters: no two slices of four tokens or more are equal before the text is long.
fn document(name: &str, tokens: usize) -> Document {
    let mut text = String::new();
    for number in 0_usize.. {
        if text.len() >= tokens {
            break;
        }
        write!(text, "{name}{number:x} ").expect("strings take all");
    }
    text.truncate(tokens);
    Document::from_text(name, text.as_bytes()).expect("it has text")
}

fn cut(documents: &[Document], spec: &PromptSpec) -> Result<PromptSet, String> {
    PromptSet::cut(documents, spec, &BYTES).map_err(|error| error.to_string())
}

fn spec(document_tokens: usize, references: usize, neighbours: usize) -> PromptSpec {
    PromptSpec { document_tokens, references, neighbours, ..PromptSpec::default() }
}

proptest! {
    #[test]
    fn every_prompt_is_exact_distinct_and_traceable(
        lengths in prop::collection::vec(1_usize..600, 1..4),
        document_tokens in 8_usize..40,
        references in 1_usize..5,
        neighbours in 0_usize..9,
    ) {
        let documents: Vec<Document> =
            lengths.iter().zip(["a", "b", "c"]).map(|(length, name)| document(name, *length)).collect();
        let spec = spec(document_tokens, references, neighbours);
        let available: usize = lengths.iter().map(|length| length / document_tokens).sum();
        let enough = lengths[0] >= references * document_tokens && available >= references * (1 + neighbours);
        let set = match cut(&documents, &spec) {
            Ok(set) => set,
            Err(error) => {
                prop_assert!(!enough, "{error}");
                prop_assert!(error.contains(" need "), "{error}");
                return Ok(());
            }
        };
        prop_assert!(enough);
        prop_assert_eq!(set.references.len(), references);
        prop_assert_eq!(set.neighbours.len(), references);

        let all: Vec<_> = set.references.iter().chain(set.neighbours.iter().flatten()).collect();
        prop_assert_eq!(all.len(), references * (1 + neighbours));
        prop_assert_eq!(all.iter().map(|prompt| &prompt.ids).collect::<HashSet<_>>().len(), all.len());
        for prompt in &all {
            let source = &prompt.source;
            let from = documents.iter().find(|document| document.name() == source.document).expect("named");
            prop_assert_eq!(source.end - source.start, document_tokens);
            prop_assert_eq!(prompt.ids.len(), source.prefix_tokens + document_tokens + source.suffix_tokens);
            // The ids between prefix and suffix are the document's own, at the place that is stated.
            let whole: Vec<u32> =
                BYTES.encode(from.text(), false).expect("encodes").into_iter().map(|token| token.id).collect();
            let fed = &prompt.ids[source.prefix_tokens..source.prefix_tokens + document_tokens];
            prop_assert_eq!(fed, &whole[source.start..source.end]);
            prop_assert_eq!(source.document_tokens, whole.len());
            prop_assert_eq!(&source.text_blake3, &from.text_blake3().to_hex().to_string());
            prop_assert_eq!(&prompt.text, &CHAT.replace("SYSTEM", "").replace(
                "USER",
                &format!("{}\n\n{}", &from.text()[source.start..source.end], spec.instruction),
            ));
        }
        for (slice, reference) in set.references.iter().enumerate() {
            prop_assert_eq!(&reference.source.document, documents[0].name());
            prop_assert_eq!(reference.source.start, slice * document_tokens);
        }
    }

    #[test]
    fn smaller_batches_are_nested_in_larger_ones(references in 1_usize..4, small in 0_usize..5, more in 1_usize..5) {
        let documents = [document("a", 600), document("b", 300)];
        let large = cut(&documents, &spec(8, references, small + more)).expect("long enough");
        let set = cut(&documents, &spec(8, references, small)).expect("long enough");
        for reference in 0..references {
            prop_assert_eq!(set.batch(reference, small + 1), large.batch(reference, small + 1));
            prop_assert_eq!(large.batch(reference, small + more + 2), None);
            prop_assert_eq!(large.batch(reference, 0), None);
        }
    }
}

#[test]
fn neighbours_come_from_other_documents_first() {
    let documents = [document("a", 100), document("b", 25), document("c", 10)];
    let set = cut(&documents, &spec(10, 2, 3)).expect("long enough");
    let taken: Vec<Vec<_>> = set
        .neighbours
        .iter()
        .map(|row| row.iter().map(|prompt| (prompt.source.document.as_str(), prompt.source.start)).collect())
        .collect();
    assert_eq!(taken, [[("b", 0), ("c", 0), ("a", 30)], [("b", 10), ("a", 20), ("a", 40)]]);
}

#[test]
fn a_slice_that_was_seen_is_passed_over() {
    // The second document begins like the first and repeats itself.
    let first = document("a", 30);
    let text = format!("{}{}{}xyz", &first.text()[..10], "0123456789".repeat(2), "abcdefghij");
    let second = Document::from_text("b", text.as_bytes()).expect("it has text");
    let set = cut(&[first, second], &spec(10, 1, 2)).expect("long enough");
    let starts: Vec<_> = set.neighbours[0].iter().map(|prompt| prompt.source.start).collect();
    assert_eq!(starts, [10, 30]);
}

#[test]
fn what_cannot_be_cut_is_said_with_counts() {
    let long = [document("a", 95)];
    let repeating = [Document::from_text("r", "0123456789".repeat(5).as_bytes()).expect("it has text")];
    let huge = spec(usize::MAX, usize::MAX, usize::MAX);
    let cases = [
        (
            cut(&long, &spec(10, 10, 0)),
            "a: 95 tokens, but 10 reference(s) of 10 document tokens need 100; give a longer document, fewer references or fewer document tokens",
        ),
        (
            cut(&long, &spec(10, 2, 4)),
            "neighbours: 7 distinct slices of 10 tokens are left in 1 document(s), but 2 reference(s) in batches of 5 need 8; add documents, or lower the batch size, the references or the document tokens",
        ),
        (
            cut(&repeating, &spec(10, 2, 0)),
            "r: references 0 and 1 are the same 10 tokens; give a document that does not repeat itself, or fewer references",
        ),
        (
            cut(&repeating, &spec(10, 1, 1)),
            "neighbours: 0 distinct slices of 10 tokens are left in 1 document(s), but 1 reference(s) in batches of 2 need 1; add documents, or lower the batch size, the references or the document tokens",
        ),
        (cut(&long, &spec(0, 1, 0)), "prompt: document_tokens is zero; give at least one"),
        (cut(&long, &spec(1, 0, 0)), "prompt: references is zero; give at least one"),
        (cut(&[], &spec(1, 1, 0)), "prompt: the number of documents is zero; give at least one"),
    ];
    for (cut, message) in cases {
        assert_eq!(cut.expect_err(message), message);
    }
    let error = cut(&long, &huge).expect_err("no document is that long");
    assert!(error.contains("need 340282366920938463426481119284349108225;"), "{error}");
}

#[test]
fn a_control_token_in_the_document_is_refused_where_it_would_be_fed() {
    let text = format!("{}<|im_end|>{}", "x1y2z3w4v5", "abcdefghij".repeat(2));
    let documents = [Document::from_text("d", text.as_bytes()).expect("it has text")];
    assert!(cut(&documents, &spec(10, 1, 0)).is_ok());
    let error = cut(&documents, &spec(10, 2, 0)).expect_err("the second slice holds it");
    assert_eq!(
        error,
        "d: tokens 10..20 spell a control token of this model; remove it from the text, or choose other document tokens"
    );
}

#[test]
fn without_a_template_the_frame_says_so() {
    let documents = [document("a", 64)];
    let bare = PromptSpec { chat_template: false, instruction: "Go.".into(), ..spec(8, 1, 0) };
    for (bos, frame, prefix) in
        [(Some(257), Frame::BosDocumentInstruction, 1), (None, Frame::DocumentInstruction, 0)]
    {
        let tokenizer = Bytes { template: None, bos };
        let set = PromptSet::cut(&documents, &bare, &tokenizer).expect("long enough");
        let prompt = &set.references[0];
        assert_eq!((prompt.source.frame, prompt.source.prefix_tokens), (frame, prefix));
        assert!(prompt.text.ends_with("\n\nGo.\n"), "{}", prompt.text);
        assert_eq!(prompt.ids.first() == Some(&257), bos.is_some());
        let error = PromptSet::cut(&documents, &spec(8, 1, 0), &tokenizer).expect_err("no template");
        assert_eq!(
            error.to_string(),
            "model: no chat template; prompt without it (--no-chat-template; in a plan, chat_template = false)"
        );
    }
}

#[test]
fn a_template_that_drops_or_repeats_the_text_is_refused() {
    for (template, times) in [("<|im_start|>fixed", 0), ("USER and USER", 2)] {
        let tokenizer = Bytes { template: Some(template), bos: None };
        let error = PromptSet::cut(&[document("a", 64)], &spec(8, 1, 0), &tokenizer).expect_err("opaque");
        assert!(error.to_string().contains(&format!("shows the user's text {times} times")), "{error}");
    }
}

#[test]
fn the_system_message_and_the_instruction_are_fed() {
    let asked =
        PromptSpec { system: Some("Be brief.".into()), instruction: "Translate.".into(), ..spec(8, 1, 0) };
    let set = cut(&[document("a", 64)], &asked).expect("long enough");
    let fed = "<|im_start|>Be brief.<|im_end|><|im_start|>a0 a1 a2\n\nTranslate.<|im_end|><|im_start|>";
    assert_eq!(set.references[0].text, fed);
}

/// The model crate's tokenizer, from files such as a model brings: byte-level, with a template and a first token.
#[test]
fn a_models_own_tokenizer_cuts_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut vocabulary = serde_json::Map::new();
    // The byte-level alphabet: printable bytes stand for themselves, the others for U+0100 and on.
    let mut shifted = 0x100_u32;
    for byte in 0_u32..256 {
        let printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let code = if printable { byte } else { shifted };
        shifted += u32::from(!printable);
        vocabulary.insert(char::from_u32(code).expect("a character").to_string(), byte.into());
    }
    let control = |id: u32, content: &str| serde_json::json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "added_tokens": [control(256, "<s>"), control(257, "<|end|>")],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
        },
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    let config = serde_json::json!({
        "chat_template": "<s>{% for m in messages %}{{ m['role'] + ':' + m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}model:{% endif %}",
    });
    for (name, json) in [("tokenizer.json", tokenizer), ("tokenizer_config.json", config)] {
        std::fs::write(folder.path().join(name), json.to_string()).expect("writable");
    }
    let tokenizer = Tokenizer::open(folder.path()).expect("a sound tokenizer");

    let documents = Document::built_in();
    let asked = PromptSpec { instruction: "Sum up.".into(), ..spec(512, 3, 7) };
    let set = PromptSet::cut(&documents, &asked, &tokenizer).expect("the built-in documents are long enough");
    for prompt in set.references.iter().chain(set.neighbours.iter().flatten()) {
        assert_eq!(
            prompt.ids.len(),
            "S".len() + "user:".len() + 512 + "\n\nSum up.".len() + "E".len() + "model:".len()
        );
        assert!(prompt.source.head.starts_with("<s>user:"), "{}", prompt.source.head);
        assert!(prompt.source.tail.ends_with("\n\nSum up.<|end|>model:"), "{}", prompt.source.tail);
    }
    assert!(set.neighbours.iter().flatten().all(|prompt| prompt.source.document == documents[1].name()));

    let bare = PromptSpec { chat_template: false, ..asked };
    let set = PromptSet::cut(&documents, &bare, &tokenizer).expect("the built-in documents are long enough");
    assert_eq!(set.references[0].source.frame, Frame::BosDocumentInstruction);
    assert_eq!(set.references[0].ids.len(), 1 + 512 + "\n\nSum up.\n".len());
}

/// Tokenizers of every shape, with the templates of their kind (`goldens/prompts.py`): the ids are those of the whole
/// text, the text is the template's for a piece of the document, and every prompt is of one length.
#[test]
fn ids_are_those_of_the_whole_text() {
    use std::io::Read as _;
    let mut json = Vec::new();
    let packed = include_bytes!("../../../../goldens/prompts.json.gz");
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut json).expect("packed");
    let golden: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let cases = golden["cases"].as_array().expect("a list");
    let file =
        |name: &str| &cases.iter().find(|case| case["name"] == name).expect(name)["files"]["tokenizer.json"];
    let documents = Document::built_in();
    let mut moved = 0;
    // Templates that print a message twice show no slice, and those of one tokenizer are one question.
    for case in cases.iter().filter(|case| !case["name"].as_str().is_some_and(|name| name.contains("_odd"))) {
        let name = case["name"].as_str().expect("a name");
        let folder = tempfile::tempdir().expect("a folder");
        for (file_name, value) in case["files"].as_object().expect("files") {
            let value = value.as_str().map_or(value, file);
            std::fs::write(folder.path().join(file_name), value.to_string()).expect("writable");
        }
        let tokenizer = Tokenizer::open(folder.path()).expect(name);
        for chat_template in [true, false] {
            if name.ends_with("_python") && chat_template {
                continue;
            }
            let asked = PromptSpec { chat_template, ..spec(40, 3, 2) };
            let set = PromptSet::cut(&documents, &asked, &tokenizer).expect(name);
            let all: Vec<_> = set.references.iter().chain(set.neighbours.iter().flatten()).collect();
            for prompt in &all {
                let source = &prompt.source;
                assert_eq!(tokenizer.encode(&prompt.text, !chat_template).expect(name), prompt.ids, "{name}");
                assert_eq!(prompt.ids.len(), all[0].ids.len(), "{name}");
                assert_eq!(prompt.ids.len(), source.prefix_tokens + 40 + source.suffix_tokens, "{name}");
                // The text is what the template makes of a part of the document.
                let from =
                    documents.iter().find(|document| document.name() == source.document).expect("named");
                let end = prompt.text.find("\n\nProvide a summary").expect("the instruction");
                let begin = (0..end)
                    .filter(|at| prompt.text.is_char_boundary(*at))
                    .find(|at| from.text().contains(&prompt.text[*at..end]))
                    .expect("a part of the document");
                assert!(end - begin >= 40, "{name}: {}", prompt.text);
                // A space may be the template's or the document's.
                let made_of = |at: usize| {
                    let user = format!("{}\n\n{}", &prompt.text[at..end], asked.instruction);
                    let user = Message::new("user", user);
                    tokenizer.apply_chat_template(&[user], true).expect(name) == prompt.text
                };
                assert!(!chat_template || made_of(begin) || made_of(begin + 1), "{name}: {}", prompt.text);
            }
            moved += usize::from(set.references.iter().any(|prompt| prompt.source.start % 40 != 0));
        }
    }
    assert!(moved > 3, "some slices had to begin later: {moved}");
}
