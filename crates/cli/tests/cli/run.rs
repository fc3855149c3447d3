//! `mantissa run`: plans, with this program as backend and with a stand-in for Python.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::session::{Session, repository};

const PLAN: &str = r#"
name = "sizes"
repetitions = 2
[base]
backend = "mantissa"
model = "model"
[prompt]
documents = ["document.txt", "document.txt"]
tokens = 30
chat_template = false
decode = 2
[signals]
layers = ["last"]
[[experiment]]
name = "batch_size"
vary.batch_size = [2, 3]
[[experiment]]
name = "attention"
vary.attention = ["sdpa"]
"#;

fn session() -> Session {
    let session = Session::new();
    let words: Vec<String> = (0..400).map(|i| format!("{} words of line {i}", i * 7919 % 1009)).collect();
    fs::write(session.path("document.txt"), words.join("\n")).unwrap();
    let made = session.output(&["synth", "--arch", "llama", "--seed", "5", "--out", "model"]);
    assert!(made.status.success());
    fs::write(session.path("plan.toml"), PLAN).unwrap();
    session
}

fn json(session: &Session, words: &str) -> (Option<i32>, Value, String) {
    let words: Vec<&str> = words.split(' ').chain(["--format", "json"]).collect();
    let output = session.output(&words);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), value, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn read(session: &Session, file: &str) -> Value {
    serde_json::from_slice(&fs::read(session.path(file)).unwrap()).unwrap()
}

#[test]
fn a_plan_runs_is_taken_up_and_is_analyzed() {
    let session = session();
    let (code, preview, error) = json(&session, "run plan.toml --dry-run");
    assert_eq!(code, Some(0), "{error}");
    let cells = preview["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    assert!(cells.iter().all(|cell| cell["estimate"]["passes"] == 2 * 3), "{preview}");
    assert!(!session.path("sizes").exists() && !session.path("out").exists());

    let (code, done, error) = json(&session, "run plan.toml --out out");
    assert_eq!(code, Some(0), "{error}");
    let ids: Vec<&str> =
        done["cells"].as_array().unwrap().iter().map(|cell| cell["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["reference", "batch_size_2", "batch_size_3", "attention_sdpa"]);
    assert!(
        done["cells"]
            .as_array()
            .unwrap()
            .iter()
            .all(|cell| cell["outcome"]["agreement"]["state"] == "identical")
    );
    let sizes = read(&session, "out/batch_size_experiment.json");
    assert_eq!(sizes["experiment_metadata"]["variable_tested"], "batch_size");
    let values: Vec<&Value> =
        sizes["configurations"].as_array().unwrap().iter().map(|c| &c["variable_value"]).collect();
    assert_eq!(values, [1, 2, 3]);
    assert_eq!(sizes["configurations"][1]["config_id"], "cpu_batch_size_2");
    assert_eq!(read(&session, "out/reference_baseline.json")["configurations"].as_array().unwrap().len(), 1);
    let analyzed = session.output(&["analyze", "--all", "out"]);
    assert!(matches!(analyzed.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&analyzed.stderr));

    // What is finished is kept, and what is missing runs again: the same signals.
    let digest = |file: &str| read(&session, file)["runs"][1]["mantissa"]["signals_digest"].clone();
    let before = digest("out/attention_experiment.json");
    fs::remove_dir_all(session.path("out/.plan/cells/attention_sdpa")).unwrap();
    let (code, again, error) = json(&session, "run plan.toml --out out");
    let kept: Vec<&Value> = again["cells"].as_array().unwrap().iter().map(|cell| &cell["kept"]).collect();
    assert_eq!(
        (code, kept),
        (Some(0), vec![&true.into(), &true.into(), &true.into(), &false.into()]),
        "{error}"
    );
    assert_eq!(digest("out/attention_experiment.json"), before);

    // One experiment alone; another plan in the same folder is refused, and --fresh begins anew.
    let (code, only, _) = json(&session, "run plan.toml --out one --only attention");
    assert_eq!((code, only["cells"].as_array().unwrap().len()), (Some(0), 2));
    fs::write(session.path("plan.toml"), PLAN.replace("decode = 2", "decode = 3")).unwrap();
    let refused = session.failure(&["run", "plan.toml", "--out", "one"]);
    assert!(refused.contains("begun with another plan") && refused.contains("--fresh"), "{refused}");
    let (code, ..) = json(&session, "run plan.toml --out one --only attention --fresh");
    assert_eq!(code, Some(0));
}

#[test]
fn a_fault_of_a_plan_is_shown_in_its_file() {
    let session = session();
    fs::write(session.path("plan.toml"), PLAN.replace("[2, 3]", "[2, 0]")).unwrap();
    let output = session.output(&["run", "plan.toml"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("error: plan.toml:16:23: batch_size cannot be 0; use a whole number from 1 to 1024")
    );
    assert!(text.contains("vary.batch_size = [2, 0]") && text.contains('─'), "{text}");
    assert!(session.failure(&["run", "nothing.toml"]).contains("nothing.toml: cannot be read"));
    fs::create_dir(session.path("broken")).unwrap();
    fs::write(session.path("broken/config.json"), "{}").unwrap();
    let broken = PLAN.replace("model = \"model\"", "model = \"broken\"");
    fs::write(session.path("plan.toml"), broken).unwrap();
    let failed = session.output(&["run", "plan.toml", "--out", "out"]);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        failed.status.code() == Some(2) && text.contains("reference: ") && text.contains(".log"),
        "{text}"
    );
}

/// A stand-in for Python: the reference repeats itself, one cell leaves what does not, one fails.
#[test]
fn a_cell_that_fails_loses_no_other_and_one_that_does_not_repeat_itself_ends_the_plan() {
    let session = session();
    let (code, ..) = json(&session, "run plan.toml --out made --only attention");
    assert_eq!(code, Some(0));
    let divergent = repository().join("fixtures/evidence/v1/container");
    let script = format!(
        "#!/bin/sh
case \"$3\" in
  *batch_size_2.json) cp -r {} \"$4\" ;;
  *sdpa_math.json) echo working; echo 'OutOfMemory: 3 GiB' >&2; exit 1 ;;
  *) cp -r {} \"$4\" ;;
esac
",
        divergent.display(),
        session.path("made/.plan/cells/reference").display()
    );
    fs::write(session.path("python"), script).unwrap();
    fs::set_permissions(session.path("python"), fs::Permissions::from_mode(0o755)).unwrap();
    let plan = PLAN.replace("\"mantissa\"", "\"transformers\"").replace("[2, 3]", "[3]");
    let plan = plan.replace("[\"sdpa\"]", "[\"sdpa_math\"]")
        + "[[experiment]]\nname = \"two\"\nvary.batch_size = [2]\n";
    fs::write(session.path("plan.toml"), plan).unwrap();
    let python = session.path("python").display().to_string();
    let run = |more: &str| json(&session, &format!("run plan.toml --out out --python {python}{more}"));

    let (code, done, error) = run("");
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("attention_sdpa_math: OutOfMemory: 3 GiB"), "{error}");
    let states: Vec<&Value> =
        done["cells"].as_array().unwrap().iter().map(|cell| &cell["outcome"]["state"]).collect();
    assert_eq!(states, ["recorded", "recorded", "failed", "recorded"], "{done}");
    assert_eq!(done["stopped"], "batch_size_2");
    assert_eq!(done["incomplete"], serde_json::json!(["attention"]));
    assert!(session.path("out/batch_size_experiment.json").is_file());
    assert!(!session.path("out/attention_experiment.json").exists());
    // What the process was told has the very ids.
    let told = read(&session, "out/.plan/batch_size_3.json");
    assert_eq!((&told["format"], &told["setup"]["batch_size"]), (&"mantissa-cell/1".into(), &3.into()));
    assert_eq!(told["neighbours"][0].as_array().unwrap().len(), 2);
    let made = read(&session, "made/attention_experiment.json");
    assert_eq!(told["references"][0]["ids"], made["runs"][0]["mantissa"]["prompt_token_ids"]);

    // Documented: the plan goes on, and its exit code says so once nothing fails.
    let mended = fs::read_to_string(session.path("python")).unwrap().replace("*sdpa_math.json)", "*never)");
    fs::write(session.path("python"), mended).unwrap();
    let (code, done, error) = run(" --keep-going");
    assert_eq!((code, &done["stopped"]), (Some(1), &Value::Null), "{error}");
    assert!(session.path("out/two_experiment.json").is_file());
}

/// A plan of prompts that are given: texts, messages and ids, with their neighbours.
#[test]
fn a_plan_takes_prompts_as_they_are_and_a_dry_run_misses_a_model() {
    let session = session();
    fs::write(session.path("prompts.jsonl"), "[5, 6, 7]\n[8, 9, 10]\n").unwrap();
    fs::write(session.path("others.json"), "[[11, 12, 13], [14, 15, 16]]").unwrap();
    let documents = "documents = [\"document.txt\", \"document.txt\"]\ntokens = 30\nchat_template = false\n";
    let given = "given = \"prompts.jsonl\"\nneighbours = \"others.json\"\n";
    fs::write(session.path("given.toml"), PLAN.replace(documents, given)).unwrap();
    let (code, preview, error) = json(&session, "run given.toml --dry-run");
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(preview["cells"][0]["estimate"]["passes"], 2 * 2 * 3, "two prompts: {preview}");
    let (code, _, error) = json(&session, "run given.toml --out given");
    assert_eq!(code, Some(0), "{error}");
    let sizes = read(&session, "given/batch_size_experiment.json");
    let runs = sizes["runs"].as_array().unwrap();
    let fed: Vec<&Value> = runs.iter().map(|run| &run["mantissa"]["prompt_token_ids"]).collect();
    assert!(fed.contains(&&serde_json::json!([5, 6, 7])) && fed.contains(&&serde_json::json!([8, 9, 10])));
    let largest =
        runs.iter().find(|run| run["mantissa"]["neighbours"].as_array().unwrap().len() == 2).unwrap();
    assert_eq!(largest["mantissa"]["neighbours"][1]["prompt_token_ids"], serde_json::json!([14, 15, 16]));

    fs::write(session.path("none.toml"), PLAN.replace("model = \"model\"", "model = \"models/none\""))
        .unwrap();
    for words in ["run none.toml --dry-run", "run none.toml --out none"] {
        let (code, _, error) = json(&session, words);
        assert_eq!(code, Some(2), "{words}: {error}");
        assert!(error.contains("the plan's models models/none: not on this machine"), "{words}: {error}");
    }
    assert!(!session.path("none").exists(), "nothing ran");
}
