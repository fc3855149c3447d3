//! `doctor`: the shape of its answer; what it finds depends on the machine.

use serde_json::Value;

use crate::session::Session;

#[test]
fn doctor_answers_every_question() {
    let session = Session::new();
    let output = session.output(&["doctor", "--format", "json"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    // What scripts read (`jq .cpu.engine_isa`).
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["mantissa", "system", "cpu", "memory", "disks", "models", "python", "gpu"]);
    assert_eq!(keys(&json["cpu"]), ["model", "cores", "features", "engine_isa"]);
    assert_eq!(keys(&json["gpu"]), ["libraries", "searched", "devices", "die"]);
    assert!(json["cpu"]["cores"].as_u64().unwrap() >= 1);
    assert!(["scalar", "avx2", "avx512"].contains(&json["cpu"]["engine_isa"].as_str().unwrap()));
    // The home does not exist yet: its disk is that of the folder it would be made in.
    assert!(json["disks"][0]["free_bytes"].as_u64().unwrap() > 0);
    let text = String::from_utf8(session.output(&["doctor"]).stdout).unwrap();
    for word in ["CPU", "engine", "memory", "disk", "models", "Python"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // The text has a line for each library of the JSON, with its place.
    let libraries = json["gpu"]["libraries"].as_array().unwrap();
    assert!(!libraries.is_empty());
    for library in libraries {
        let of = |key: &str| library[key].as_str();
        let (name, purpose) = (of("name").unwrap(), of("purpose").unwrap());
        let line = format!("{name} ({purpose}): {}", of("path").unwrap_or("not found"));
        assert!(text.contains(&line), "{line}: {text}");
    }
}
