//! `compare` and `analyze` on published evidence: what is printed, what is written, how it ends.

use std::fs;

use mantissa_testkit::synthetic;

use crate::session::{Session, repository};

/// A session whose working folder holds these synthetic files, and activations of three machines: the first two left the
/// same bits at every batch size, the third did not.
fn with(names: &[&str]) -> Session {
    let session = Session::new();
    for name in names {
        if let Some(machine) = MACHINES.iter().find(|machine| machine.0 == *name) {
            let mut tree: serde_json::Value =
                serde_json::from_slice(&fs::read(synthetic("activations.json")).unwrap()).unwrap();
            tree["hardware"]["gpu"] = machine.1.into();
            if machine.2 {
                for size in ["batch_size_2", "batch_size_4"] {
                    tree["raw_activations"][size] = tree["raw_activations"]["batch_size_1"].clone();
                }
            }
            fs::write(session.path(name), serde_json::to_vec(&tree).unwrap()).unwrap();
        } else {
            fs::copy(synthetic(name), session.path(name)).unwrap();
        }
    }
    session
}

/// File, GPU, whether its batch sizes leave the same bits.
const MACHINES: [(&str, &str, bool); 3] = [
    ("h100.json", "NVIDIA H100 NVL", true),
    ("h200.json", "NVIDIA H200", true),
    ("l40s.json", "NVIDIA L40S", false),
];

fn json(session: &Session, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = session.output(&[&["--format", "json", "--quiet"], arguments].concat());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

const ATTENTION: &str = "attention_verification.json";
const BATCH: &str = "batch_verification.json";
const QUANT: &str = "quant_generation.json";

#[test]
fn analyze_judges_each_pair_and_as_published_reproduces_the_tables() {
    let session = with(&[ATTENTION]);
    insta::assert_snapshot!("attention", session.run(&["analyze", ATTENTION]));
    insta::assert_snapshot!("attention_as_published", session.run(&["analyze", "--as-published", ATTENTION]));
    insta::assert_snapshot!(
        "attention_markdown",
        session.run(&["analyze", ATTENTION, "--signal", "key_vectors", "--format", "markdown"])
    );
}

#[test]
fn files_given_together_are_one_analysis_and_all_of_a_directory_several() {
    let activations = ["h100.json", "h200.json"];
    let session = with(&[&activations[..], &[QUANT]].concat());
    let (code, together) =
        json(&session, &[&["analyze", "--variable", "hardware"], &activations[..]].concat());
    assert_eq!(code, Some(0), "the two machines give the same bits");
    assert_eq!(together["outcome"], "consistent");
    assert_eq!(together["sources"].as_array().unwrap().len(), 2);

    fs::write(session.path("notes.txt"), "not evidence").unwrap();
    let output = session.output(&["--format", "json", "analyze", "--all", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("left out: ./notes.txt"));
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let outcomes: Vec<_> = all["summary"].as_array().unwrap().iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["consistent", "divergent"]);

    // A damaged file does not hide the others, and does not pass either.
    fs::write(session.path("cut.json"), &fs::read(synthetic(QUANT)).unwrap()[..5000]).unwrap();
    let output = session.output(&["--format", "json", "--quiet", "analyze", "--all", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("1 of 4 files could not be read; the first: ./cut.json")
    );
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), all);
}

#[test]
fn results_and_pages_are_written_whole_and_kept() {
    let session = with(&[QUANT]);
    let arguments = ["analyze", QUANT, "--output", "analysis_results.json", "--html", "page.html"];
    assert_eq!(session.output(&arguments).status.code(), Some(1));
    let (results, page) = (session.path("analysis_results.json"), session.path("page.html"));
    let (_, printed) = json(&session, &["analyze", QUANT]);
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&results).unwrap()).unwrap();
    assert_eq!(written, printed);
    let first = (fs::read(&results).unwrap(), fs::read(&page).unwrap());
    assert!(first.1.starts_with(b"<!DOCTYPE html>"));

    let again = session.output(&arguments);
    assert_eq!(again.status.code(), Some(2), "what is there is kept");
    assert!(String::from_utf8_lossy(&again.stderr).contains("already exists"));
    let replaced = session.output(&[&arguments[..], &["--force"]].concat());
    assert_eq!(replaced.status.code(), Some(1));
    assert_eq!((fs::read(&results).unwrap(), fs::read(&page).unwrap()), first, "same evidence, same bytes");

    let output = session.output(&["analyze", "--all", ".", "--html", "pages"]);
    assert_eq!(output.status.code(), Some(1));
    let index = fs::read_to_string(session.path("pages/index.html")).unwrap();
    assert!(index.contains("analysis-1.html") && session.path("pages/analysis-1.html").exists());
}

/// `verify` and `compare` write the same kind of page, with the words of the terminal first, and keep what is there.
#[test]
fn verify_and_compare_write_pages_too() {
    let session = Session::new();
    let record = repository().join("fixtures/evidence/v1/container");
    let record = record.to_str().unwrap();
    for (verb, code, words) in [
        ("verify", 3, "<h2 id=\"answer-heading\">Not enough evidence</h2>"),
        ("compare", 1, "<h2 id=\"answer-heading\">Bits differ</h2>"),
    ] {
        let arguments = [verb, record, "--html", "page.html"];
        assert_eq!(session.output(&arguments).status.code(), Some(code), "{verb}");
        let page = fs::read_to_string(session.path("page.html")).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains(words), "{verb}");
        assert_eq!(session.output(&arguments).status.code(), Some(2), "what is there is kept");
        assert_eq!(session.output(&[&arguments[..], &["--force"]].concat()).status.code(), Some(code));
        assert_eq!(fs::read_to_string(session.path("page.html")).unwrap(), page, "same evidence, same bytes");
        fs::remove_file(session.path("page.html")).unwrap();
    }
}

#[test]
fn compare_shows_sites_of_two_runs_and_classes_of_many() {
    let session = with(&["h100.json", "l40s.json", BATCH]);
    let record = repository().join("fixtures/evidence/v1/container");
    insta::assert_snapshot!("compare_fixture", session.run(&["compare", record.to_str().unwrap()]));
    let two = session.output(&["compare", "h100.json", "l40s.json"]);
    assert_eq!(two.status.code(), Some(1));
    let text = String::from_utf8(two.stdout).unwrap();
    assert!(
        text.contains("class 3") && !text.contains("class 4"),
        "the H100 leaves what the L40S leaves at batch size 1, which leaves two others: {text}"
    );
    let (code, facts) = json(&session, &["compare", record.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert_eq!(facts["prompts"][0]["outputs"]["groups"][0]["members"], serde_json::json!([0, 1, 2]));
    assert_eq!(
        facts["repetitions"][0]["signals"], "different",
        "its three repetitions are stored: {}",
        facts["repetitions"]
    );
    // Distances are no signals.
    for verb in ["compare", "inspect"] {
        assert!(session.failure(&["--quiet", verb, BATCH]).contains("use `mantissa analyze`"));
    }
}

#[test]
fn compare_says_where_outputs_part_and_counts_runs_throughout() {
    let name = "quant_generation.json";
    let session = with(&[name]);
    let text = session.output(&["--quiet", "compare", name]);
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("outputs 2    gptq: 6 tokens, part from the first at 0\n"), "{text}");
    let output = session.output(&["--format", "json", "--quiet", "compare", name]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // Numbers of runs mean the same in every list of the second prompt.
    let prompt = &facts["prompts"][1];
    let numbers = |value: &serde_json::Value| {
        let list = value.as_array().unwrap().iter();
        list.map(|run| run.as_u64().unwrap()).collect::<Vec<_>>()
    };
    let mut classes: Vec<u64> =
        prompt["classes"]["classes"].as_array().unwrap().iter().flat_map(numbers).collect();
    classes.sort_unstable();
    assert_eq!(classes, numbers(&prompt["runs"]));
    assert!(!classes.contains(&0), "{classes:?}");
    assert_eq!(prompt["outputs"]["groups"][1]["part_at"], 0);
}

#[test]
fn machines_that_agree_are_consistent_though_they_state_no_outputs() {
    let names = ["h100.json", "h200.json"];
    let session = with(&names);
    let output = session.output(&["--quiet", "compare", names[0], names[1]]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("rep 0-2") && !text.contains("class 2"), "{text}");
    assert!(text.contains("batch_size_1 ref 0 (3 by stored runs), outputs not stated"), "{text}");
}

#[test]
fn a_setup_beside_itself_is_consistent() {
    let session = Session::new();
    let record = repository().join("fixtures/evidence/v1/container");
    let record = record.to_str().unwrap();
    let (code, facts) = json(&session, &["compare", record, record]);
    let states: Vec<&str> = facts["prompts"][0]["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| {
            let run = |side: &str| &facts["runs"][usize::try_from(pair[side].as_u64().unwrap()).unwrap()];
            run("a")["config_id"] == run("b")["config_id"] && run("a")["rep_id"] == run("b")["rep_id"]
        })
        .map(|pair| pair["state"].as_str().unwrap())
        .collect();
    assert!(!states.is_empty() && states.iter().all(|state| *state == "equal"), "{states:?} {code:?}");
}

#[test]
fn a_published_file_with_signals_becomes_an_experiment() {
    let name = "l40s.json";
    let session = with(&[name]);
    for (from, to) in [(name, "experiment.json"), ("experiment.json", "record")] {
        assert_eq!(session.output(&["convert", from, to]).status.code(), Some(0));
    }
    let analysis = |file| json(&session, &["analyze", file]).1;
    let (published, converted, container) = (analysis(name), analysis("experiment.json"), analysis("record"));
    assert_eq!(published["classes"].as_array().unwrap().len(), 1);
    for key in ["tokens", "matrices", "bounds", "outcome"] {
        // Citations name the file; nothing else may differ.
        let plain = |value: &serde_json::Value, file: &str| value[key].to_string().replace(file, "FILE");
        assert_eq!(plain(&published, name), plain(&converted, "experiment.json"), "{key}");
        assert_eq!(plain(&converted, "experiment.json"), plain(&container, "record"), "{key}");
    }
    assert!(session.output(&["inspect", name]).status.success());
}
