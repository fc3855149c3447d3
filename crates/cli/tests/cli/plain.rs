//! A file that follows the plan's schema alone, as a provider writes it: its variable, its words, what it lacks, prompts
//! as text, several files, gzipped ones.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::session::{Session, repository};

/// A record of a tiny model, and the same as a provider would write it: no ids of the prompt, nothing under `mantissa`.
fn with_plain(batch_size: &str) -> (Session, Value) {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "llama", "--seed", "3", "--out", "model"]).status.success());
    let document = repository().join("fixtures/documents/demo.pdf").display().to_string();
    let base =
        ["record", "--model", "model", "--document", &document, "--document-tokens", "40", "--decode", "3"];
    let rest =
        ["--no-chat-template", "--reps", "1", "--dtype", "f32", "--batch-size", batch_size, "--out", "out"];
    assert!(session.output(&[&base[..], &rest, &["--json", "out.json"]].concat()).status.success());
    let mut tree: Value = serde_json::from_slice(&fs::read(session.path("out.json")).unwrap()).unwrap();
    tree["experiment_metadata"].as_object_mut().unwrap().remove("mantissa");
    tree["experiment_metadata"]["variable_tested"] = "batch_size".into();
    for configuration in tree["configurations"].as_array_mut().unwrap() {
        configuration.as_object_mut().unwrap().remove("mantissa");
        configuration["fixed_params"]["quantization"] = "fp32".into();
    }
    for run in tree["runs"].as_array_mut().unwrap() {
        run.as_object_mut().unwrap().remove("mantissa");
        for phase in ["prefill", "non_finite"] {
            run.as_object_mut().unwrap().remove(phase);
        }
    }
    fs::write(session.path("plain.json"), serde_json::to_vec(&tree).unwrap()).unwrap();
    (session, tree)
}

fn audit(session: &Session, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = session.output(&[&["--format", "json", "--quiet", "verify"], arguments].concat());
    let value = serde_json::from_slice(&output.stdout);
    (output.status.code(), value.unwrap_or_else(|_| panic!("{}", session.text(arguments, &output))))
}

#[test]
fn what_is_missing_is_listed_at_once_and_supplied_by_flags() {
    let (session, tree) = with_plain("3");
    let (code, without) = audit(&session, &["plain.json"]);
    assert_eq!(code, Some(3));
    let enough = without["claims"][0]["enough"].as_str().unwrap().to_owned();
    for words in ["--model", "--tokenize-prompt", "--claim dtype=…"] {
        assert!(enough.contains(words), "{words}: {enough}");
    }
    assert!(!enough.contains("batch_size"), "the variable states it: {enough}");
    let (code, with) = audit(&session, &["plain.json", "--model", "model"]);
    assert_eq!(code, Some(3), "{with}");
    assert!(with.to_string().contains("--tokenize-prompt"), "{with}");
    let all = ["plain.json", "--model", "model", "--tokenize-prompt", "--claim", "dtype=f32"];
    let (code, fits) = audit(&session, &all);
    assert_eq!((code, &fits["claims"][0]["answer"]), (Some(0), &json!("consistent")), "{fits}");
    let warnings = fits["sources"][0]["warnings"].to_string();
    assert!(warnings.contains("were made from their text by the tokenizer of model"), "{warnings}");
    // Another batch size in the variable is another claim.
    let mut other = tree;
    other["configurations"][0]["variable_value"] = 1.into();
    fs::write(session.path("other.json"), serde_json::to_vec(&other).unwrap()).unwrap();
    let (_, read) =
        audit(&session, &["other.json", "--model", "model", "--tokenize-prompt", "--claim", "dtype=f32"]);
    assert!(read["claims"][0]["claim"].as_str().unwrap().contains("bs1"), "{read}");
}

#[test]
fn several_files_of_one_provider_are_one_experiment_gzipped_too() {
    let (session, tree) = with_plain("1,3");
    let configurations = tree["configurations"].as_array().unwrap();
    assert_eq!(configurations.len(), 2);
    let mut names = Vec::new();
    for (index, configuration) in configurations.iter().enumerate() {
        let mut one = tree.clone();
        one["configurations"] = json!([configuration]);
        let id = &configuration["config_id"];
        one["runs"] =
            tree["runs"].as_array().unwrap().iter().filter(|run| run["config_id"] == *id).cloned().collect();
        let name = format!("part{index}.json.gz");
        let mut packed = flate2::write::GzEncoder::new(
            fs::File::create(session.path(&name)).unwrap(),
            flate2::Compression::fast(),
        );
        packed.write_all(&serde_json::to_vec(&one).unwrap()).unwrap();
        packed.finish().unwrap();
        names.push(name);
    }
    let flags = ["--model", "model", "--tokenize-prompt", "--claim", "dtype=f32"];
    let (code, both) = audit(&session, &[&[names[0].as_str(), &names[1]][..], &flags].concat());
    assert_eq!((code, both["claims"].as_array().unwrap().len()), (Some(0), 2), "{both}");
    // The order of files is nothing, and a file given twice counts once.
    let (_, turned) = audit(&session, &[&[names[1].as_str(), &names[0], &names[0]][..], &flags].concat());
    assert_eq!(turned["claims"], both["claims"]);
    let (code, one) = audit(&session, &[&[names[0].as_str()][..], &flags].concat());
    assert_eq!((code, one["claims"].as_array().unwrap().len()), (Some(0), 1));
    let output = session.output(&["analyze", &names[0], &names[1]]);
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{}", session.text(&[], &output));
}

#[test]
fn tokenizing_prompts_needs_a_model_and_prompts_without_ids() {
    let (session, _) = with_plain("1");
    assert_eq!(session.output(&["verify", "plain.json", "--tokenize-prompt"]).status.code(), Some(2));
    let line = session.failure(&["verify", "out", "--model", "model", "--tokenize-prompt"]);
    assert!(line.contains("has a prompt text and no ids"), "{line}");
}
