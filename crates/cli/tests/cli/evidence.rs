//! `inspect` and `convert` of evidence, sound and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::session::{Session, repository};

fn fixture(name: &str) -> PathBuf {
    repository().join("fixtures/evidence/v1").join(name)
}

/// Copies a folder of files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Every file of a folder with its bytes, sorted.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_iter().map(|(name, _)| name).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn inspect_shows_a_container_and_the_same_of_its_json() {
    let session = Session::new();
    let container = fixture("container");
    insta::assert_snapshot!("inspect_container", session.run(&["inspect", text(&container)]));
    let json = |name: &str| {
        let output = session.output(&["--format", "json", "--quiet", "inspect", text(&fixture(name))]);
        assert!(output.status.success() && output.stderr.is_empty());
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let (a, b) = (json("container"), json("experiment.json"));
    for key in ["metadata", "configurations", "runs"] {
        assert_eq!(a[key], b[key], "{key}");
    }
    assert_eq!(a["digests"], serde_json::json!({"state": "ok", "files": 3, "runs": 3}));
    assert_eq!(b["digests"], serde_json::json!({"state": "ok", "files": 0, "runs": 3}));
    assert_eq!(a["runs"][0]["tensors"][0]["name"], "prefill/embed_out");
    assert_eq!(a["runs"][0]["tensors"][0]["non_finite"], 1);
}

#[test]
fn convert_there_and_back_keeps_every_byte() {
    let session = Session::new();
    let (json, container) = (fixture("experiment.json"), fixture("container"));
    for (from, to) in [(text(&json), "record"), ("record", "again.json"), ("again.json", "second")] {
        // The second time it replaces what the first left.
        for arguments in [&["convert", from, to][..], &["convert", from, to, "--force"]] {
            let output = session.output(arguments);
            assert_eq!(
                (output.status.code(), String::from_utf8_lossy(&output.stdout)),
                (Some(0), format!("{to}\n").into())
            );
        }
    }
    assert_eq!(files(&session.path("record")), files(&container));
    assert_eq!(files(&session.path("second")), files(&container));
    assert_eq!(fs::read(session.path("again.json")).unwrap(), fs::read(&json).unwrap());
    // Nothing is left beside what was asked for.
    let mut here: Vec<_> = fs::read_dir(session.path(""))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    here.sort();
    assert_eq!(here, ["again.json", "record", "second"]);
}

#[test]
fn convert_replaces_only_its_own_kind_and_only_when_told() {
    let session = Session::new();
    let from = fixture("experiment.json");
    let from = text(&from);
    fs::create_dir(session.path("thesis")).unwrap();
    fs::write(session.path("thesis/chapter.tex"), "years of work").unwrap();
    fs::create_dir(session.path("folder.json")).unwrap();
    fs::write(session.path("here.json"), "{}").unwrap();
    let lines = [
        session.failure(&["convert", from, "here.json"]),
        session.failure(&["convert", from, "thesis"]),
        session.failure(&["convert", from, "thesis", "--force"]),
        session.failure(&["convert", from, "folder.json", "--force"]),
        session.failure(&["convert", from, "no/such/folder/x.json"]),
        session.failure(&["convert", "absent.json", "y.json"]),
    ];
    insta::assert_snapshot!("convert_refusals", lines.join("\n"));
    assert_eq!(fs::read(session.path("thesis/chapter.tex")).unwrap(), b"years of work");
    assert_eq!(fs::read(session.path("here.json")).unwrap(), b"{}");
}

#[test]
fn damaged_evidence_is_named_by_file_and_place() {
    let session = Session::new();
    let container = fixture("container");
    let run = "run-cpu%20bs%2f2-ref0-rep1.safetensors";
    // What its digests and sizes tell is an answer of its own; what cannot be read at all is a failure.
    let damage = |name: &str, change: &dyn Fn(&Path)| {
        let folder = session.path(name);
        copy(&container, &folder);
        change(&folder);
        let code = if matches!(name, "bit" | "short") { 4 } else { 2 };
        session.failure_of(code, &["inspect", name])
    };
    let lines = [
        // One bit of one value: only the digest can tell.
        damage("bit", &|folder| {
            let mut bytes = fs::read(folder.join(run)).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(folder.join(run), bytes).unwrap();
        }),
        damage("short", &|folder| {
            let bytes = fs::read(folder.join(run)).unwrap();
            fs::write(folder.join(run), &bytes[..bytes.len() - 7]).unwrap();
        }),
        damage("absent", &|folder| fs::remove_file(folder.join(run)).unwrap()),
        damage("unfinished", &|folder| fs::remove_file(folder.join("manifest.json")).unwrap()),
        damage("cut", &|folder| {
            let manifest = fs::read(folder.join("manifest.json")).unwrap();
            fs::write(folder.join("manifest.json"), &manifest[..manifest.len() / 2]).unwrap();
        }),
    ];
    insta::assert_snapshot!("damaged_containers", lines.join("\n"));

    let json = fs::read_to_string(fixture("experiment.json")).unwrap();
    let write = |name: &str, text: &str| {
        fs::write(session.path(name), text).unwrap();
        let code = if name == "ids.json" { 4 } else { 2 };
        [session.failure_of(code, &["inspect", name]), session.failure_of(code, &["convert", name, "out"])]
    };
    let lines = [
        write("empty.json", ""),
        write("half.json", &json[..json.len() / 2]),
        write("ids.json", &json.replacen("1000,1001,1002", "1000,1001,1003", 1)),
        write("newer.json", &json.replacen("\"format_version\": 1", "\"format_version\": 99", 1)),
        write("deep.json", &"[".repeat(100_000)),
        write("prose.json", "\u{1b}[2Jnot JSON"),
    ];
    insta::assert_snapshot!("damaged_json", lines.concat().join("\n"));
    assert!(!session.path("out").exists());
}

/// Conversion of what a full disk cut short leaves nothing behind.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    let session = Session::new();
    // A file size limit stands for the disk: the shell's `ulimit -f` counts KiB.
    let shell = |arguments: &str| {
        let script = format!("ulimit -f 2; trap '' XFSZ; exec \"$0\" {arguments}");
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_mantissa")]).current_dir(session.path(""));
        command.output().unwrap()
    };
    let from = fixture("experiment.json");
    for to in ["copy.json", "record"] {
        let output = shell(&format!("convert '{}' {to}", from.display()));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
        assert_eq!(names(&session.path("")), Vec::<String>::new(), "{to}");
    }
}
