//! The published schemas are those of the types, and what is written obeys them.

use std::path::PathBuf;

use mantissa_evidence::{container, json, schema};
use serde_json::Value;

use crate::checker::violations;
use crate::sample;

fn published(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/format").join(name)
}

/// `MANTISSA_UPDATE=1 cargo test -p mantissa-evidence schemas` writes the files anew.
#[test]
fn published_schemas_are_current() {
    let schemas = [
        ("experiment.schema.json", schema::experiment()),
        ("manifest.schema.json", schema::manifest()),
        ("timing.schema.json", schema::timing()),
        ("trace.schema.json", schema::trace()),
    ];
    for (name, schema) in schemas {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        let path = published(name);
        if std::env::var_os("MANTISSA_UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == text,
            "{name} is not current; run the update"
        );
    }
}

#[test]
fn written_files_obey_their_schemas() {
    let directory = tempfile::tempdir().unwrap();
    let (file, folder) = (directory.path().join("e.json"), directory.path().join("c"));
    let experiment = sample::fixture();
    json::write(&file, &experiment).unwrap();
    container::write(&folder, &experiment).unwrap();
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let mut document = read(file);
    assert_eq!(violations(&schema::experiment(), &document), Vec::<String>::new());
    assert_eq!(violations(&schema::manifest(), &read(folder.join("manifest.json"))), Vec::<String>::new());
    assert_eq!(violations(&schema::timing(), &read(folder.join("timing.json"))), Vec::<String>::new());

    // The checker can fail: every one of these edits breaks the schema.
    document["runs"][0]["decode_steps"][0]["token_id"] = "five".into();
    document["runs"][1]["extra"] = 1.into();
    document["runs"][2]["decode_steps"][1]["hidden_states"]["layer_1"]["pos_-1"] = "row".into();
    document["experiment_metadata"]["model"] = Value::Null;
    let places =
        ["experiment_metadata.model", "runs[0].decode_steps[0].token_id", "runs[1].extra", "layer_1.pos_-1"];
    let found = violations(&schema::experiment(), &document);
    assert!(places.iter().all(|place| found.iter().any(|v| v.contains(place))), "{found:?}");
}
