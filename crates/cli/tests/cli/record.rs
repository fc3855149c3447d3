//! `record` and `demo` on synthetic models: what they leave, what they refuse, what survives a kill.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::session::{Session, repository};

/// A session with a tiny model of two heads' width, and the demo's PDF.
fn with_model() -> (Session, String) {
    let session = Session::new();
    assert!(session.output(&["synth", "--arch", "qwen2", "--seed", "3", "--out", "model"]).status.success());
    let document = repository().join("fixtures/documents/demo.pdf").display().to_string();
    (session, document)
}

fn record<'a>(document: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["record", "--model", "model", "--document", document, "--document-tokens", "64"];
    [&base[..], &["--decode", "4", "--out", out], more].concat()
}

/// Every file of a record but its clocks, by name.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let named = files.map(|file| (file.file_name().into_string().unwrap(), file.path()));
    named
        .filter(|(name, _)| name != "timing.json")
        .map(|(name, path)| (name, if path.is_dir() { Vec::new() } else { fs::read(path).unwrap() }))
        .collect()
}

fn json(session: &Session, arguments: &[&str]) -> Value {
    let output = session.output(&[&["--format", "json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", session.text(arguments, &output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_record_of_a_pdf_states_setup_tokens_and_repetitions() {
    let (session, document) = with_model();
    let flags = ["--batch-size", "2,1", "--attention", "eager,sdpa", "--sites", "attn_out,embed_out"];
    let arguments = record(&document, "out", &[&flags[..], &["--json", "out.json"]].concat());
    let summary = json(&session, &arguments);
    assert_eq!((&summary["reproducible"], &summary["was_here"]), (&true.into(), &false.into()));
    let ids: Vec<&str> = summary["configurations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["config_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["cpu_bs2_eager_bf16", "cpu_bs1_eager_bf16", "cpu_bs2_sdpa_bf16", "cpu_bs1_sdpa_bf16"]);
    assert!(
        summary["configurations"].as_array().unwrap().iter().all(|c| c["outcome"]["state"] == "identical")
    );

    let shown = json(&session, &["inspect", "out", "--model", "model"]);
    // Three repetitions were made and are stated; the last is kept.
    assert_eq!(shown["runs"].as_array().unwrap().len(), 4);
    let run = &shown["runs"][0];
    assert_eq!((&run["rep_id"], &run["neighbours"]), (&2.into(), &1.into()));
    assert_eq!(shown["configurations"][0]["mantissa"]["reproducibility"]["repetitions"], 3);
    assert_eq!(run["prompt"]["recorded_text_agrees"], true);
    assert!(run["prompt"]["tail"].as_str().unwrap().contains("summary"), "{}", run["prompt"]["tail"]);
    assert_eq!(run["prompt"]["source"]["end"], 64);
    assert_eq!(run["output"]["ids"].as_array().unwrap().len(), 4);
    let names: Vec<&str> =
        run["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    for name in ["prefill/embed_out", "prefill/layer_4.attn_out", "decode/layer_2.k", "decode/final_norm"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    // The container and the JSON hold the same, and convert into each other.
    let back = json(&session, &["convert", "out.json", "back"]);
    assert_eq!(back["runs"], 4);
    let (mut recorded, back) = (bytes(&session.path("out")), bytes(&session.path("back")));
    recorded.remove("plan.json");
    assert!(recorded == back, "{:?} {:?}", recorded.keys(), back.keys());

    // Run again it has nothing to do; another setup is not mixed in.
    assert_eq!(json(&session, &arguments)["was_here"], true);
    let lines = [
        session.failure(&record(&document, "out", &["--dtype", "f32"])),
        session.failure(&record(&document, "out", &[&flags[..], &["--fresh"]].concat())),
        session.failure(&record(&document, "model", &[])),
        session.failure(&record(&document, "new", &["--json", "out.json"])),
    ];
    insta::assert_snapshot!("occupied", lines.join("\n"));
}

#[test]
fn neither_threads_nor_instruction_set_reach_a_bit() {
    let (session, document) = with_model();
    let mut results = Vec::new();
    for (out, threads, isa) in [("one", "1", "auto"), ("two", "2", "auto"), ("plain", "2", "scalar")] {
        let flags = ["--threads", threads, "--isa", isa, "--batch-size", "1,3", "--reps", "2"];
        assert!(session.output(&record(&document, out, &flags)).status.success());
        let mut files = bytes(&session.path(out));
        // The environment names the instruction set; everything else must agree.
        let manifest = String::from_utf8(files.remove("manifest.json").unwrap()).unwrap();
        let manifest: String = manifest.lines().filter(|line| !line.contains("kernels:")).collect();
        results.push((files, manifest));
    }
    assert!(results[0] == results[1], "threads");
    assert!(results[0].0 == results[2].0, "instruction sets");
}

/// `kill -9` after the first repetition; the same command then ends with the bytes of an undisturbed record.
#[test]
fn a_killed_record_resumes_to_the_same_bytes() {
    let (session, document) = with_model();
    let flags = ["--decode", "200", "--batch-size", "1,2"];
    let long = |out: &'static str| {
        let mut arguments = record(&document, out, &[]);
        arguments.retain(|word| !["--decode", "4"].contains(word));
        [arguments, flags.to_vec()].concat()
    };
    assert!(session.output(&long("whole")).status.success());
    let mut child =
        session.command(&long("killed")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    let finished = || {
        let entries = fs::read_dir(session.path("killed/.unfinished")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().join("manifest.json").exists()).count()
    };
    while finished() == 0 {
        assert!(started.elapsed() < Duration::from_mins(1), "no repetition in a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!session.path("killed/manifest.json").exists(), "it was killed before its end");
    let line = session.failure(&["inspect", "killed"]);
    assert!(line.contains("killed: "), "{line}");
    let summary = json(&session, &long("killed"));
    assert!(summary["repetitions_resumed"].as_u64().unwrap() >= 1);
    assert!(bytes(&session.path("killed")) == bytes(&session.path("whole")));

    // What a killed run left is discarded when asked, and nothing else.
    fs::create_dir(session.path("left")).unwrap();
    fs::write(session.path("left/plan.json"), "{}").unwrap();
    fs::write(session.path("left/notes.txt"), "mine").unwrap();
    let line = session.failure(&record(&document, "left", &["--fresh"]));
    assert!(line.contains("not empty"), "{line}");
    fs::remove_file(session.path("left/notes.txt")).unwrap();
    assert!(session.output(&record(&document, "left", &["--fresh"])).status.success());
}

#[test]
fn forced_tokens_are_fed_and_declared() {
    let (session, document) = with_model();
    fs::write(session.path("ids.json"), "[5, 6,\n7]").unwrap();
    let base = ["record", "--model", "model", "--document", &document, "--document-tokens", "64"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    json(&session, &with(&["--out", "forced", "--teacher-force", "ids.json"]));
    let shown = json(&session, &["inspect", "forced"]);
    assert_eq!(shown["runs"][0]["output"]["ids"], serde_json::json!([5, 6, 7]));
    assert_eq!(shown["configurations"][0]["mantissa"]["setup"]["decoding"], "teacher_forced");
    fs::write(session.path("wrong.txt"), "5 six").unwrap();
    fs::write(session.path("empty.txt"), "").unwrap();
    fs::write(session.path("beyond.txt"), "5 999999").unwrap();
    let force = |file: &'static str| with(&["--out", "x", "--teacher-force", file]);
    let lines = [
        session.failure(&force("wrong.txt")),
        session.failure(&force("empty.txt")),
        session.failure(&force("absent.txt")),
        session.failure(&force("beyond.txt")),
        session.failure(&[&force("ids.json")[..], &["--decode", "9"]].concat()),
    ];
    insta::assert_snapshot!("forced", lines.join("\n"));
}

#[test]
fn what_cannot_be_recorded_is_refused_in_one_line() {
    let (session, document) = with_model();
    let hostile = |name: &str| {
        let path = repository().join("fixtures/documents/hostile").join(name).display().to_string();
        session.failure(&record(&path, "x", &[]))
    };
    fs::write(session.path("short.txt"), "A few words only.").unwrap();
    let lines = [
        hostile("scan.pdf"),
        hostile("truncated.pdf"),
        hostile("password.pdf"),
        hostile("garbage.pdf"),
        session.failure(&record("short.txt", "x", &[])),
        session.failure(&record("absent.pdf", "x", &[])),
        session.failure(&record(&document, "x", &["--batch-size", "100000"])),
        session.failure(&record(&document, "x", &["--batch-size", "2,2"])),
        session.failure(&record(&document, "x", &["--attention", "sdpa,sdpa"])),
        session.failure(&record(&document, "x", &["--layers", "1,99"])),
        session.failure(&record(&document, "x", &["--top-k", "100000"])),
        session.failure(&record(&document, "x", &["--positions=-9999"])),
        session.failure(&record(&document, "short.txt/x", &[])),
    ];
    insta::assert_snapshot!("refused", lines.join("\n"));
    assert!(!session.path("x/manifest.json").exists());
}

#[test]
fn the_demo_shows_a_batch_size_in_decode_and_not_in_prefill() {
    let session = Session::new();
    let started = Instant::now();
    let shown = json(&session, &["demo"]);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let configurations = shown["configurations"].as_array().unwrap();
    assert_eq!(configurations.len(), 2, "{configurations:?}");
    assert!(configurations.iter().all(|c| c["outcome"]["state"] == "identical"));
    let states = |phase: &str| {
        let facts = shown["sites"].as_array().unwrap().iter().filter(|fact| fact["phase"] == phase);
        facts.map(|fact| fact["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let prefill = states("prefill");
    assert!(!prefill.is_empty() && prefill.iter().all(|state| state == "equal"), "{prefill:?}");
    assert!(states("decode").iter().any(|state| state == "different"), "{:?}", states("decode"));
    assert_eq!(shown["first_difference"]["phase"], "decode");
    // The files it names are there, and a second demo shows them again.
    for file in ["record/manifest.json", "experiment.json", "model/config.json"] {
        assert!(session.path("mantissa-demo").join(file).exists(), "{file}");
    }
    let again = json(&session, &["--quiet", "demo"]);
    assert_eq!(again["sites"], shown["sites"]);
    let text = String::from_utf8(session.output(&["demo"]).stdout).unwrap();
    for words in ["identical to the bit", "sites differ", "mantissa inspect mantissa-demo/record"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
