//! `doctor`: the shape of its answer; what it finds depends on the machine.

use serde_json::Value;

use crate::session::Session;

#[test]
fn doctor_answers_every_question() {
    let session = Session::new();
    let output = session.output(&["doctor", "--format", "json"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["mantissa", "system", "cpu", "memory", "disks", "models", "python", "gpu"]);
    assert_eq!(keys(&json["cpu"]), ["model", "cores", "features", "engine_isa"]);
    assert_eq!(keys(&json["gpu"]), ["libraries", "searched", "devices"]);
    assert!(json["cpu"]["cores"].as_u64().unwrap() >= 1);
    assert!(["scalar", "avx2", "avx512"].contains(&json["cpu"]["engine_isa"].as_str().unwrap()));
    // The home does not exist yet: its disk is that of the folder it would be made in.
    assert!(json["disks"][0]["free_bytes"].as_u64().unwrap() > 0);
    let names: Vec<_> = json["gpu"]["libraries"].as_array().unwrap().iter().map(|l| &l["name"]).collect();
    assert_eq!(names, ["libcuda.so.1", "libnvidia-ml.so.1", "libnvrtc", "libcublasLt", "libnccl"]);
    let text = String::from_utf8(session.output(&["doctor"]).stdout).unwrap();
    for word in ["CPU", "engine", "memory", "disk", "models", "Python", "libcublasLt"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}
