//! The door to evidence: what is damaged is refused before anything is compared.

use std::path::Path;

use mantissa_evidence::{Experiment, container, json};
use mantissa_published::{Content, Opened, Signal, open, read};

/// The experiment kept in `fixtures/evidence/v1`.
fn fixture() -> Experiment {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/evidence/v1/container");
    read(&path).unwrap()
}

fn refusal(result: mantissa_evidence::Result<Opened>) -> String {
    let message = result.err().unwrap().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Damage is no difference of setups: what is opened to be compared is checked first.
#[test]
fn damaged_evidence_is_refused_and_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("record");
    container::write(&directory, &fixture()).unwrap();
    assert!(open(&directory).is_ok());
    let run = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let run = run.into_iter().find(|path| path.extension().is_some_and(|e| e == "safetensors")).unwrap();
    let mut bytes = std::fs::read(&run).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&run, bytes).unwrap();
    assert!(refusal(open(&directory)).contains("its blake3 is"));
    // The same in JSON: a value that was altered without its digest.
    let path = folder.path().join("experiment.json");
    let text = String::from_utf8(json::to_vec(&fixture(), &path).unwrap()).unwrap();
    std::fs::write(&path, &text).unwrap();
    assert!(open(&path).is_ok());
    // The sign of a key, which any format can hold.
    let number = |at: &usize| text[at + 1..].starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let keys = text.find("\"key_vectors\"").unwrap();
    let first = text[keys..].match_indices('[').map(|(at, _)| keys + at).find(number).unwrap() + 1;
    let rest = &text[first..];
    let other = rest.strip_prefix('-').map_or_else(|| format!("-{rest}"), str::to_owned);
    std::fs::write(&path, format!("{}{other}", &text[..first])).unwrap();
    let message = refusal(open(&path));
    assert!(message.contains("signals_digest"), "{message}");
}

#[test]
fn evidence_of_our_own_is_told_by_its_content_and_has_a_sheet() {
    let folder = tempfile::tempdir().unwrap();
    container::write(&folder.path().join("record"), &fixture()).unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, json::to_vec(&fixture(), &path).unwrap()).unwrap();
    for (path, layout) in [(folder.path().join("record"), "container"), (path, "experiment_json")] {
        let content = open(&path).unwrap().content;
        assert_eq!(content.layout(), layout);
        assert!(matches!(content, Content::Record(_)));
        assert_eq!(read(&path).unwrap(), fixture());
        let sheet = content.sheet(&[], Some(&[Signal::Logprobs])).unwrap();
        assert_eq!(
            (sheet.variable, sheet.signals),
            (fixture().metadata.variable_tested, vec![Signal::Logprobs])
        );
        assert!(sheet.overall.is_some());
    }
}

#[test]
fn a_file_of_distances_is_no_experiment() {
    let path = mantissa_testkit::synthetic("attention_verification.json");
    let message = read(&path).unwrap_err().to_string();
    assert!(message.contains("layout attention_verification: it holds distances, not signals"), "{message}");
}
