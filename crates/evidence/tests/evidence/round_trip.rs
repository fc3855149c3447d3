//! JSON and container hold the same experiment, bit for bit, and the same experiment gives the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::{Container, Experiment, container, json, read};
use mantissa_numerics::{Dtype, Phase, Point, Site};
use proptest::prelude::*;

use crate::sample;

/// Name and bytes of every file of a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

fn there_and_back(experiment: &Experiment) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    json::write(&at("a.json"), experiment).unwrap();
    container::write(&at("a"), experiment).unwrap();
    let from_json = read(&at("a.json")).unwrap();
    let from_container = read(&at("a")).unwrap();
    assert_eq!(&from_json, experiment);
    assert_eq!(&from_container, experiment);
    container::write(&at("b"), &from_json).unwrap();
    json::write(&at("b.json"), &from_container).unwrap();
    assert_eq!(files(&at("a")), files(&at("b")));
    assert_eq!(std::fs::read(at("a.json")).unwrap(), std::fs::read(at("b.json")).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn json_and_container_are_lossless_both_ways(experiment in sample::any_experiment()) {
        there_and_back(&experiment);
    }
}

/// Every bf16 and f16 pattern, and as many f32 patterns spread over the whole range, survive the JSON.
#[test]
fn every_half_pattern_survives_json() {
    for dtype in Dtype::ALL {
        let mut experiment = sample::fixture();
        experiment.runs.truncate(1);
        experiment.configurations[0].mantissa = None;
        let signals = experiment.runs[0].prefill.as_mut().unwrap();
        signals.logprobs = None;
        let words = 0..65_535_u32;
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => words.flat_map(|w| w.wrapping_mul(0x0001_0001).to_le_bytes()).collect(),
            Dtype::Bf16 | Dtype::F16 => words.flat_map(|w| w.to_le_bytes()[..2].to_vec()).collect(),
        };
        let tensor = mantissa_evidence::SignalTensor { dtype, shape: [1, 3, 65_535 / 3], data: bytes };
        signals.tensors = BTreeMap::from([(Site::at(1, Point::XOut), tensor)]);
        let text = json::to_vec(&experiment, Path::new("memory")).unwrap();
        assert_eq!(json::parse(&text, Path::new("memory")).unwrap(), experiment);
    }
}

/// Readers that parse numbers as f64 and round to f32, as Python and JavaScript do, get the same bits too.
#[test]
fn decimals_survive_a_detour_through_f64() {
    let mut experiment = sample::fixture();
    experiment.runs.truncate(1);
    experiment.configurations[0].mantissa = None;
    let bits: Vec<u32> = (0..30_000_u32).map(|i| i * 71_453).chain([0x15ae_43fd, 0x95ae_43fd, 1]).collect();
    let bits: Vec<u32> = bits.into_iter().filter(|&b| f32::from_bits(b).is_finite()).collect();
    let bits = &bits[bits.len() % 3..];
    let data = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
    let signals = experiment.runs[0].prefill.as_mut().unwrap();
    let tensor = mantissa_evidence::SignalTensor { dtype: Dtype::F32, shape: [1, 3, bits.len() / 3], data };
    signals.tensors = BTreeMap::from([(Site::at(1, Point::XOut), tensor)]);
    let text = json::to_vec(&experiment, Path::new("memory")).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let rows = &value["runs"][0]["prefill"]["hidden_states"]["layer_1"];
    let rows = ["pos_-3", "pos_-2", "pos_-1"].into_iter().flat_map(|p| rows[p].as_array().unwrap());
    #[expect(clippy::cast_possible_truncation, reason = "the rounding that is tested")]
    let read: Vec<u32> = rows.map(|number| (number.as_f64().unwrap() as f32).to_bits()).collect();
    assert_eq!(read, bits);
}

/// The clocks are in `timing.json` and nowhere else, and a record reads without them.
#[test]
fn clocks_change_one_file_of_the_container() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    let early = sample::fixture();
    let mut late = early.clone();
    late.metadata.date_created = Some("2031-01-01 00:00:00".to_owned());
    for run in &mut late.runs {
        run.timestamp = None;
        run.runtime_seconds = Some(99.5);
    }
    late.configurations[0].mantissa.as_mut().unwrap().runtime = None;
    container::write(&a, &early).unwrap();
    container::write(&b, &late).unwrap();
    let (fa, fb) = (files(&a), files(&b));
    let differing: Vec<_> = fa.keys().filter(|name| fa[*name] != fb[*name]).collect();
    assert_eq!(differing, ["timing.json"]);

    std::fs::remove_file(b.join("timing.json")).unwrap();
    let bare = read(&b.join("manifest.json")).unwrap();
    assert_eq!((bare.metadata.date_created, bare.runs[0].runtime_seconds), (None, None));
    assert_eq!(bare.runs[0].signals_digest(), early.runs[0].signals_digest());
}

/// A write that was cut short leaves run files and no manifest; the next one ends with the same bytes.
#[test]
fn an_unfinished_container_is_finished_and_a_finished_one_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    let experiment = sample::fixture();
    container::write(&a, &experiment).unwrap();
    std::fs::create_dir(&b).unwrap();
    std::fs::write(b.join(container::run_file_name(&experiment.runs[0])), b"half").unwrap();
    assert!(!container::is_complete(&b));
    assert!(read(&b).unwrap_err().to_string().contains("no manifest.json"));
    container::write(&b, &experiment).unwrap();
    assert_eq!(files(&a), files(&b));
    let error = container::write(&b, &experiment).unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(files(&a), files(&b));
}

#[test]
fn views_are_the_mapped_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let experiment = sample::fixture();
    container::write(directory.path(), &experiment).unwrap();
    let open = Container::open(directory.path()).unwrap();
    open.verify().unwrap();
    assert_eq!(open.metadata(), &experiment.metadata);
    assert_eq!(open.configurations(), experiment.configurations);
    assert_eq!(open.runs().count(), experiment.runs.len());
    for (view, run) in open.runs().zip(&experiment.runs) {
        for (phase, signals) in run.phases() {
            assert_eq!(view.steps(phase), Some((signals.steps, signals.positions.as_slice())));
            assert!(view.sites(phase).eq(signals.tensors.keys().copied()));
            for (&site, tensor) in &signals.tensors {
                let found = view.tensor(phase, site).unwrap();
                assert_eq!(
                    (found.dtype, found.shape, found.data),
                    (tensor.dtype, tensor.shape, &*tensor.data)
                );
            }
            assert_eq!(view.logprobs(phase), signals.logprobs);
        }
    }
    assert_eq!(open.runs().next().unwrap().tensor(Phase::Decode, Site::outside(Point::Logits)), None);
}

/// The plan's own reader: field names, keys and order of the uniform schema.
#[test]
fn json_has_the_plan_s_fields() {
    let experiment = sample::fixture();
    let text = json::to_vec(&experiment, Path::new("memory")).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let step = &value["runs"][0]["decode_steps"][1];
    let decode = experiment.runs[0].decode.as_ref().unwrap();
    for (family, layer, site) in [
        ("hidden_states", "layer_2", Site::at(2, Point::XOut)),
        ("hidden_states", "layer_12_final_norm", Site::outside(Point::FinalNorm)),
        ("key_vectors", "layer_12", Site::at(12, Point::K)),
    ] {
        for (index, position) in ["pos_-3", "pos_-2", "pos_-1"].into_iter().enumerate() {
            let row = decode.tensors[&site].row(1, index).unwrap();
            let written = step[family][layer][position].as_array().unwrap();
            assert_eq!(written.len(), decode.tensors[&site].shape[2]);
            for (i, number) in written.iter().enumerate() {
                let value = Dtype::Bf16.decode(row, i);
                let same = number.as_f64().map_or(!value.is_finite(), |n| n.to_string() == value.to_string());
                assert!(same || number.as_f64() == Some(f64::from(value)), "{number} {value:e}");
            }
        }
    }
    assert_eq!(step["token_id"], 1001);
    assert_eq!(step["token_text"], " t1001");
    assert_eq!(step["logprobs"]["pos_-1"]["token_ids"].as_array().unwrap().len(), 5);
    assert!(step["sites"]["attn_out"]["layer_2"]["pos_-1"].is_array());
    assert!(step["sites"]["embed_out"]["model"]["pos_-1"].is_array());
}

/// A file that follows the plan and has nothing under `mantissa` reads, and is complete once written again.
#[test]
fn a_file_of_the_plan_alone_reads() {
    let text = r#"{"experiment_metadata": {"experiment_type": "t", "variable_tested": "v", "model": "m",
        "model_size": "1B", "architecture": "MoE", "sequence_length": 8, "decode_steps": 1, "extraction_config":
        {"layers": [1, 39], "positions": [-1], "hidden_dim": 2, "key_dim": 1, "top_k_logprobs": 1},
        "date_created": "2025-01-01 00:00:00"},
        "configurations": [{"config_id": "A100_bs1", "hardware": "A100-80GB", "provider": "RunPod",
        "variable_value": 1, "cuda_version": "12.8", "torch_version": "2", "transformers_version": "4",
        "flash_attn_version": "2", "python_version": "3", "fixed_params": {"compile": false, "attention_impl": "eager",
        "quantization": "gptq-int4", "tp_size": 1, "ep_size": 1, "concurrent_streams": false}}],
        "runs": [{"config_id": "A100_bs1", "rep_id": 0, "timestamp": "2025-01-01 00:00:00", "runtime_seconds": 123.45,
        "prompt_text": "p", "decode_steps": [{"step": 0, "token_id": 5, "token_text": "five",
        "hidden_states": {"layer_1": {"pos_-1": [0.15625, -0.0]}, "layer_39": {"pos_-1": [1, 1e-45]}},
        "key_vectors": {"layer_1": {"pos_-1": [16777217]}}, "logprobs": {"pos_-1": {"token_ids": [7],
        "log_probs": [-0.1]}}}]}]}"#;
    let experiment = json::parse(text.as_bytes(), Path::new("plan.json")).unwrap();
    let run = &experiment.runs[0];
    let decode = run.decode.as_ref().unwrap();
    let tensor = &decode.tensors[&Site::at(1, Point::XOut)];
    assert_eq!((tensor.dtype, tensor.shape), (Dtype::F32, [1, 1, 2]));
    assert_eq!(tensor.data, [0x3e20_0000_u32.to_le_bytes(), 0x8000_0000_u32.to_le_bytes()].concat());
    assert_eq!(
        (run.output_token_ids.as_slice(), run.output_token_texts.as_slice()),
        (&[5][..], &["five".to_owned()][..])
    );
    assert!(run.prompt_token_ids.is_empty() && run.prefill.is_none());
    there_and_back(&experiment);
}
