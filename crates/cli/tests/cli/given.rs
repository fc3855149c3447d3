//! Prompts as they are (texts, messages, ids), one or many, with their neighbours and forced ids; tokenizers that have
//! more tokens than the embedding has rows.

use std::fs;

use serde_json::{Value, json};

use crate::session::Session;

fn with_model() -> Session {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "llama", "--seed", "3", "--out", "model"]).status.success());
    session
}

fn record<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let base =
        ["record", "--model", "model", "--dtype", "f32", "--decode", "2", "--reps", "1", "--positions=-1"];
    [&base[..], more].concat()
}

/// The runs of a record, by the JSON that it was also written as.
fn runs(session: &Session, more: &[&str]) -> Vec<Value> {
    let json = format!("recorded-{}.json", more[more.len() - 1]);
    let output = session.output(&record(&[&["--json", &json], more].concat()));
    assert_eq!(output.status.code(), Some(0), "{}", session.text(more, &output));
    let tree: Value = serde_json::from_slice(&fs::read(session.path(&json)).unwrap()).unwrap();
    tree["runs"].as_array().unwrap().clone()
}

fn ids(run: &Value) -> &Value {
    &run["mantissa"]["prompt_token_ids"]
}

#[test]
fn prompts_are_taken_as_they_are_and_replayed() {
    let session = with_model();
    let write = |name: &str, text: &str| fs::write(session.path(name), text).unwrap();
    write("text.txt", " A plain text,\r\nas it is. ");
    write("chat.json", r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]"#);
    let text = runs(&session, &["--prompt", "text.txt", "--out", "text"]);
    assert_eq!(text[0]["prompt_text"], " A plain text,\r\nas it is. ");
    let chat = runs(&session, &["--prompt", "chat.json", "--out", "chat"]);
    let rendered =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(chat[0]["prompt_text"], rendered);
    // The same ids, given as ids, are the same prompt; texts of ids are those they decode to.
    write("ids.json", &ids(&chat[0]).to_string());
    let fed = runs(&session, &["--prompt", "ids.json", "--out", "ids"]);
    assert_eq!((ids(&fed[0]), &fed[0]["prompt_text"]), (ids(&chat[0]), &json!(rendered)));
    // Many: each is a reference, of its own length.
    write(
        "many.jsonl",
        "\"one\"\n\n{\"text\": \"another text\"}\n[5, 6, 7]\n\
         {\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \
         \"add_generation_prompt\": false}\n",
    );
    write("forced.jsonl", "[1, 2]\n[3, 4]\n[5, 6]\n[7, 8]\n");
    let many =
        runs(&session, &["--prompt", "many.jsonl", "--teacher-force", "forced.jsonl", "--out", "many"]);
    let texts: Vec<&str> = many.iter().map(|run| run["prompt_text"].as_str().unwrap()).collect();
    assert_eq!((texts[0], texts[1], texts[3]), ("one", "another text", "<|im_start|>user\nx<|im_end|>\n"));
    assert_eq!(ids(&many[2]), &json!([5, 6, 7]));
    let outputs: Vec<&Value> = many.iter().map(|run| &run["mantissa"]["output_token_ids"]).collect();
    assert_eq!(outputs, [&json!([1, 2]), &json!([3, 4]), &json!([5, 6]), &json!([7, 8])]);
    // The mark of an editor is no part of a text, and capitals change no extension.
    write("mark.txt", "\u{feff}one");
    write("MANY.JSONL", "[5, 6, 7]\n");
    assert_eq!(runs(&session, &["--prompt", "mark.txt", "--out", "mark"])[0]["prompt_text"], "one");
    assert_eq!(ids(&runs(&session, &["--prompt", "MANY.JSONL", "--out", "capitals"])[0]), &json!([5, 6, 7]));
    // Beside others: those of a file, or the other prompts.
    write("pair.jsonl", "[5, 6, 7]\n[8, 9, 10]\n");
    write("beside.json", "[[11, 12, 13], [14, 15, 16]]");
    let beside =
        ["--prompt", "pair.jsonl", "--neighbours", "beside.json", "--batch-size", "3", "--out", "three"];
    let three = runs(&session, &beside);
    let rows = |run: &Value| -> Vec<Value> {
        let rows = run["mantissa"]["neighbours"].as_array().unwrap().iter();
        rows.map(|row| row["prompt_token_ids"].clone()).collect()
    };
    assert_eq!(rows(&three[1]), [json!([11, 12, 13]), json!([14, 15, 16])]);
    let two = runs(&session, &["--prompt", "pair.jsonl", "--batch-size", "2", "--out", "two"]);
    assert_eq!((rows(&two[0]), rows(&two[1])), (vec![json!([8, 9, 10])], vec![json!([5, 6, 7])]));
    for out in ["text", "chat", "ids", "many", "three"] {
        let output = session.output(&["--quiet", "verify", out, "--model", "model"]);
        assert_eq!(output.status.code(), Some(0), "{}", session.text(&["verify", out], &output));
    }
}

#[test]
fn prompts_that_are_none_are_refused_with_their_place() {
    let session = with_model();
    let refusal = |name: &str, text: &str, more: &[&str], want: &str| {
        fs::write(session.path(name), text).unwrap();
        let arguments = record(&[&["--prompt", name, "--out", "x"], more].concat());
        let output = session.output(&arguments);
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", session.text(&arguments, &output));
        assert!(error.contains(want) && error.lines().count() == 1, "{want}: {error}");
        assert!(!session.path("x").exists());
    };
    for (name, text, want) in [
        ("a.txt", "version https://git-lfs.github.com/spec/v1\noid", "a.txt: a pointer of Git LFS, "),
        ("A.JSON", "[]", "A.JSON: an empty prompt; "),
        ("a.jsonl", "[1]\n[1, -2]\n", "a.jsonl:2: -2 is not a token id; "),
        ("a.jsonl", "[1]\nx\n", "a.jsonl:2: not JSON ("),
        ("a.jsonl", "\n", "a.jsonl: no prompt; "),
        ("a.json", "[]", "a.json: an empty prompt; "),
        ("a.json", "[[1], []]", "a.json[2]: an empty prompt; "),
        ("a.json", "{\"text\": \"a\", \"ids\": [1]}", "a.json: not one of a text, ids and messages; "),
        ("a.json", "{\"text\": \"a\", \"max_tokens\": 1}", "a.json: the key 'max_tokens' is not read"),
        (
            "a.json",
            "[{\"role\": \"user\", \"content\": [1]}]",
            "a.json: message 1: role and content are not both",
        ),
        (
            "a.json",
            "[{\"role\": \"user\", \"content\": \"\", \"name\": 1}]",
            "message 1: the key 'name' is not read",
        ),
        ("a.json", "[1, 99999]", "a.json: id 99999 at position 1 is no token of this model"),
        ("a.txt", "", "a.txt: an empty prompt; "),
    ] {
        refusal(name, text, &[], want);
    }
    refusal(
        "a.json",
        "[1, 2]",
        &["--batch-size", "2"],
        "prompts: 0 beside each prompt, but batches of 2 need 1; ",
    );
    let lengths = "a.jsonl:1: 2 tokens, but";
    refusal("a.jsonl", "[1, 2]\n[3]\n", &["--batch-size", "2"], lengths);
    fs::write(session.path("f.json"), "[[1, 2], [1, 2], [1, 2]]").unwrap();
    let forced = ["--teacher-force", "f.json"];
    refusal("a.jsonl", "[1, 2]\n[3, 4]\n", &forced, "forced tokens: 3 lists for 2 prompts; ");
}

/// A token that was added to the tokenizer, to a model whose embedding was not resized.
#[test]
fn a_token_without_a_row_is_named() {
    let session = with_model();
    let path = session.path("model/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let token = json!({"id": 512, "content": "<PRE>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": false});
    tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    fs::write(&path, tokenizer.to_string()).unwrap();
    fs::write(session.path("a.txt"), "before <PRE> after").unwrap();
    let error = session.failure(&record(&["--prompt", "a.txt", "--out", "x"]));
    let want = "it is the tokenizer's own, which has 513 tokens, but the embedding has 512 rows";
    assert!(error.contains("token 512 '<PRE>'") && error.contains(want), "{error}");
    let shown = session.run(&["inspect", "model"]);
    assert!(shown.contains("more than the embedding's 512 rows"), "{shown}");
}

/// Ids need no tokenizer: the record has no texts, and is verified all the same.
#[test]
fn ids_are_recorded_without_a_tokenizer() {
    let session = with_model();
    fs::write(session.path("ids.json"), "[5, 6, 7]").unwrap();
    fs::write(session.path("a.txt"), "a text").unwrap();
    let with = runs(&session, &["--prompt", "ids.json", "--out", "with"]);
    fs::remove_file(session.path("model/tokenizer.json")).unwrap();
    let without = runs(&session, &["--prompt", "ids.json", "--out", "without"]);
    let tokens = |run: &Value| run["mantissa"]["output_token_ids"].clone();
    assert_eq!((tokens(&without[0]), &without[0]["prompt_text"]), (tokens(&with[0]), &json!("")));
    let output = session.output(&["verify", "without", "--model", "model"]);
    let text = session.text(&[], &output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("texts are not set beside ids, since there is no tokenizer: "), "{text}");
    let line = session.failure(&record(&["--prompt", "a.txt", "--out", "x", "--quiet"]));
    assert!(line.contains("no tokenizer.json beside config.json"), "{line}");
}

#[test]
fn lists_of_forced_tokens_of_other_lengths_are_named() {
    let session = with_model();
    fs::write(session.path("a.jsonl"), "[1, 2]\n[3, 4]\n[5, 6]\n").unwrap();
    fs::write(session.path("f.jsonl"), "[1, 2, 3]\n[4, 5, 6]\n[7, 8]\n").unwrap();
    let forced = ["--prompt", "a.jsonl", "--teacher-force", "f.jsonl", "--out", "x"];
    let all: Vec<&str> =
        record(&forced).into_iter().map(|word| if word == "2" { "3" } else { word }).collect();
    let line = session.failure(&all);
    assert_eq!(
        line,
        "error: forced tokens: list 3 of 3 has 2 tokens for 3 decode steps; all lists must have the same length, and \
         theirs are 2 (1) to 3 (2)"
    );
    assert!(!session.path("x").exists());
}

/// Where something is written is asked before anything runs, alike in all verbs.
#[test]
fn standard_output_is_no_file_and_folders_are_there() {
    let session = with_model();
    fs::write(session.path("ids.json"), "[5, 6, 7]").unwrap();
    let line = session.failure(&record(&["--prompt", "ids.json", "--out", "x", "--json", "none/x.json"]));
    assert!(line.contains("none/x.json: its folder is not there; make it first"), "{line}");
    assert!(!session.path("x").exists(), "nothing ran");
    for words in [
        "record --model model --prompt ids.json --out -",
        "record --model model --prompt ids.json --out x --json -",
        "verify x --html -",
        "verify x --output -",
        "verify x --state -",
        "analyze x --html -",
        "analyze x --output -",
        "compare x --html -",
        "drift x --output -",
        "drift x --html -",
        "drift x --summary -",
        "drift x --write-baseline -",
        "convert x -",
        "synth --arch llama --out -",
        "demo --out -",
        "trace model --out -",
        "trace model --tensors -",
        "drift a b --output -",
        "import x --map m.toml --out -",
        "import x --map m.toml --json -",
        "run plan.toml --out -",
        "man --out -",
    ] {
        let line = session.failure(&words.split(' ').collect::<Vec<_>>());
        assert!(line.contains("standard output is the result itself"), "{words}: {line}");
    }
    assert!(!session.path("-").exists());
}
