//! Synthetic files of every layout: read, computed again, damaged, with a field more and a field less.

use std::collections::BTreeSet;
use std::path::Path;

use mantissa_published::{Agreement, Content, FileSignature, LAYOUTS, Published, open, parse};
use mantissa_testkit::{all_synthetic, synthetic};
use serde_json::{Value, json};

fn read(name: &str) -> Published {
    match open(&synthetic(name)).unwrap().content {
        Content::Published(published) => published,
        Content::Record(_) => panic!("{name} is no experiment"),
    }
}

fn tree(name: &str) -> Value {
    let bytes = std::fs::read(synthetic(name)).unwrap();
    serde_json::from_slice(&mantissa_evidence::lenient::to_json(&bytes).0).unwrap()
}

fn parsed(tree: &Value) -> mantissa_evidence::Result<Option<Published>> {
    parse(&serde_json::to_vec(tree).unwrap(), Path::new("x.json"))
}

fn json_files() -> Vec<String> {
    all_synthetic()
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "json"))
        .collect()
}

#[test]
fn every_layout_has_a_file_that_is_told_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for name in all_synthetic() {
        let renamed = folder.path().join("notes.txt");
        std::fs::copy(synthetic(&name), &renamed).unwrap();
        let opened = open(&renamed).unwrap();
        let Content::Published(file) = &opened.content else { panic!("{name}") };
        seen.insert(file.layout().name);
        assert_eq!(file.experiment().is_some(), file.verifications().is_empty(), "{name}");
        assert!(!opened.warnings.iter().any(|warning| warning.contains('\n')), "{name}");
    }
    let all: BTreeSet<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
    assert_eq!(seen, all);
}

/// Averages of the synthetic files were computed by other code than the definitions.
#[test]
fn every_figure_of_every_file_comes_out() {
    let all: Vec<Published> = all_synthetic().iter().map(|name| read(name)).collect();
    for (name, file) in all_synthetic().iter().zip(&all) {
        let beside: Vec<&Published> = all.iter().collect();
        let sheet = file.sheet(&beside);
        let wrong: Vec<_> =
            sheet.figures.iter().filter(|one| one.agreement == Agreement::DoesNotFollow).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert!(!sheet.figures.is_empty(), "{name}");
    }
}

/// Every number that an average is printed or stored as, one after the other, is made half as large again.
#[test]
fn a_figure_that_was_altered_does_not_follow() {
    let mut altered = 0;
    for (name, pointer) in [
        ("activations.json", "/activation_norms/batch_size_2"),
        ("activations.json", "/systematic_deviations/bs1_vs_bs4"),
        ("layer_sweep.json", "/layer_statistics/layer_2/mean_norm"),
        ("cuda_comparison.json", "/layer_deviations/2/relative_diff"),
        ("compile_summary.json", "/systematic_deviation/mean_l2"),
        ("batch_generation.json", "/decode_sanity_check/key_vectors_mean"),
        ("vllm_batch_generation.json", "/decode_sanity_check/off_diagonal_mean"),
        ("vllm_batch_generation.json", "/decode_sanity_check/per_reference_matrices/1/0/2"),
        ("vllm_batch_generation.json", "/decode_sanity_check/off_diagonal_range/1"),
        ("batch_verification.json", "/prefill_analysis/key_vectors/snr_all"),
        ("batch_verification_older.json", "/prefill_analysis/key_vectors/snr"),
        ("batch_verification_older.json", "/decode_analysis/matrices/logprobs/0/1"),
        ("quant_generation.json", "/snr_analysis/snr"),
        ("quant_generation_older.json", "/prefill_sanity_check/off_diagonal_mean"),
        ("quant_verification.json", "/decode_analysis/pairwise_snr/awq_vs_gptq/snr"),
        ("attention_verification.json", "/cross_hardware/decode/logprob_snr"),
        ("tp_generation.json", "/within_hardware_analysis/off_diagonal"),
        ("tp_verification.json", "/cross_hardware_analysis/snr"),
        ("quant_investigation.json", "/baseline/stats/l2_max"),
    ] {
        let mut tree = tree(name);
        let stored = tree.pointer_mut(pointer).unwrap();
        *stored = json!(stored.as_f64().unwrap() * 1.5);
        let file = parsed(&tree).unwrap().unwrap();
        let wrong = file.sheet(&[]).figures;
        let wrong = wrong.iter().filter(|figure| figure.agreement == Agreement::DoesNotFollow).count();
        assert!(wrong > 0, "{name}{pointer}");
        altered += 1;
    }
    assert_eq!(altered, 19);
    for (name, old, new) in [
        ("quantization.log", "  Mean: ", "  Mean: 9."),
        ("vllm_batch_generation.log", "  Mean: ", "  Mean: 9."),
        ("vllm_batch_generation.log", "  Class 1: [1, 2, 4]", "  Class 1: [1, 2]"),
        ("batch_verification.log", "SNR: ", "SNR: 9"),
        ("batch_verification.log", "Count: 4", "Count: 6"),
        ("tp_generation.log", "Off-diagonal (different TP): ", "Off-diagonal (different TP): 9"),
        ("tp_verification.log", "SNR: 0", "SNR: 9"),
        ("batch_matrix.log", "SNR (signal/noise): 0", "SNR (signal/noise): 9"),
        ("attention.log", "SNR: 9", "SNR: 1"),
    ] {
        let text = std::fs::read_to_string(synthetic(name)).unwrap();
        assert!(text.contains(old), "{name}: {old}");
        let text = if old.ends_with("Mean: ") {
            // A whole figure, not a digit in front of it.
            let at = text.find(old).unwrap() + old.len();
            format!("{}9{}", &text[..at], &text[at + 1..])
        } else {
            text.replacen(old, new, 1)
        };
        let file = parse(text.as_bytes(), Path::new("x.log")).unwrap().unwrap();
        let figures = file.sheet(&[]).figures;
        assert!(figures.iter().any(|one| one.agreement == Agreement::DoesNotFollow), "{name}: {old}");
    }
}

/// Every object of a file, by its pointer.
fn objects(tree: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.push(at.to_owned());
                fields.iter().for_each(|(key, value)| walk(value, &format!("{at}/{key}"), found));
            }
            // Items of a list are alike: the first two do.
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .take(2)
                    .for_each(|(i, item)| walk(item, &format!("{at}/{i}"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(tree, "", &mut found);
    found
}

/// What every layout needs: the signals or distances themselves, and which setup they are of. Everything else may be
/// missing. A missing one is named.
const NEEDED: &[(&str, &[&str])] = &[
    ("activations.json", &["raw_activations", "batch_size_1", "batch_size_2", "batch_size_4"]),
    ("layer_sweep.json", &["raw_activations", "layer_1", "layer_2"]),
    ("layer_sweep_other.json", &["raw_activations", "layer_1", "layer_2"]),
    (
        "cuda_comparison.json",
        &["cuda_versions", "cuda1", "cuda2", "layer_deviations", "l2_distance", "value1"],
    ),
    ("compile_summary.json", &["systematic_deviation", "l2_per_step"]),
    (
        "batch_generation.json",
        &[
            "metadata",
            "measurements",
            "ref_name",
            "batch_size",
            "prompt_token_ids",
            "prefill_signals",
            "decode_signals",
            "pos_-1",
            "pos_-2",
            "pos_-3",
            "logprobs",
            "key_vectors",
            "layer_2",
            "token_ids",
            "log_probs",
            "signals",
            "absolute_position",
            "generated_ids",
        ],
    ),
    (
        "vllm_batch_generation.json",
        &[
            "metadata",
            "measurements",
            "ref_name",
            "batch_size",
            "prompt_token_ids",
            "prefill_signals",
            "decode_signals",
            "pos_-2",
            "pos_-3",
            "pos_-1",
            "logprobs",
            "token_ids",
            "log_probs",
            "generated_ids",
        ],
    ),
    (
        "batch_verification.json",
        &[
            "metadata",
            "comparisons",
            "ref_name",
            "claimed_batch_size",
            "verify_batch_size",
            "prefill_distances",
            "decode_distances",
        ],
    ),
    (
        "batch_verification_older.json",
        &[
            "metadata",
            "comparisons",
            "ref_name",
            "claimed_batch_size",
            "verify_batch_size",
            "prefill_distances",
            "decode_distances",
        ],
    ),
    (
        "quant_generation.json",
        &[
            "metadata",
            "model_configs",
            "awq",
            "awq_marlin",
            "gptq",
            "model_name",
            "generations",
            "prompt_ids",
            "generated_ids",
            "pos_-1",
            "pos_-2",
            "pos_-3",
            "logprobs",
            "token_ids",
            "log_probs",
            "prefill_signals",
            "decode_signals",
        ],
    ),
    (
        "quant_generation_older.json",
        &[
            "metadata",
            "model_configs",
            "awq",
            "awq_marlin",
            "gptq",
            "model_name",
            "generations",
            "prompt_ids",
            "generated_ids",
            "pos_-1",
            "pos_-2",
            "pos_-3",
            "logprobs",
            "token_ids",
            "log_probs",
            "prefill_signals",
            "decode_signals",
        ],
    ),
    (
        "quant_verification.json",
        &[
            "metadata",
            "model_configs",
            "awq",
            "awq_marlin",
            "gptq",
            "model_name",
            "comparisons",
            "ref_idx",
            "claimed_config",
            "verify_config",
            "prefill_distances",
            "decode_distances",
            "logprobs_mean",
            "valid",
            "mismatches",
        ],
    ),
    (
        "attention_verification.json",
        &[
            "metadata",
            "reference_environments",
            "verifier_environments",
            "eager",
            "sdpa",
            "flash_attention_2",
            "gpu_name",
            "cross_hardware",
        ],
    ),
    (
        "tp_generation.json",
        &[
            "metadata",
            "measurements",
            "1",
            "2",
            "4",
            "prefill_signals",
            "pos_-1",
            "pos_-2",
            "pos_-3",
            "logprobs",
            "token_ids",
            "log_probs",
        ],
    ),
    ("tp_verification.json", &["metadata", "tp_sizes", "reference_environments", "cross_hardware_analysis"]),
    ("repeated_runs.json", &["token_sequences", "logprobs_vectors"]),
    ("repeated_runs_top_k.json", &["token_sequences", "logprobs_vectors", "top_k_distributions"]),
    ("quant_investigation.json", &["baseline", "deterministic", "tokens", "logprobs"]),
];

#[test]
fn a_field_more_changes_nothing_and_a_field_less_is_derived_or_named() {
    let known: BTreeSet<&str> = NEEDED.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, json_files().iter().map(String::as_str).collect());
    let mut wrong = Vec::new();
    for (name, needed) in NEEDED {
        let whole = tree(name);
        let experiment = |file: &Published| file.experiment().cloned();
        let before = parsed(&whole).unwrap().unwrap();
        for pointer in objects(&whole) {
            let mut more = whole.clone();
            let fields = more.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
            // Where keys are data (batch sizes, layers, settings), another one is more data.
            let is_data = fields.keys().any(|key| {
                key.starts_with("batch_size_") || key.starts_with("layer_") || key.starts_with("pos_")
            });
            let keys: Vec<String> = fields.keys().cloned().collect();
            fields.insert("somebody_elses_field".to_owned(), json!({"a": [1, null]}));
            match parsed(&more) {
                Ok(Some(after)) => {
                    let same = experiment(&after) == experiment(&before)
                        && format!("{:?}", after.verifications()) == format!("{:?}", before.verifications());
                    // An environment says more, which is kept.
                    let environment = keys.iter().any(|key| key == "gpu_name" || key == "gpu");
                    if !same && !environment {
                        wrong.push(format!("{name}{pointer}: a field more changes it"));
                    }
                }
                Ok(None) => wrong.push(format!("{name}{pointer}: a field more makes it unknown")),
                Err(error) => {
                    let of_data = [
                        "1",
                        "eager",
                        "awq",
                        "GPU",
                        "cu118",
                        "awq_vs_gptq",
                        "2",
                        "gpu_name",
                        "gpu",
                        "bs1_vs_bs2",
                    ];
                    let is_map = is_data || keys.iter().any(|key| of_data.contains(&key.as_str()));
                    if !is_map {
                        wrong.push(format!("{name}{pointer}: {error}"));
                    }
                }
            }
            for key in keys {
                let mut less = whole.clone();
                less.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(&key);
                match parsed(&less) {
                    Ok(Some(_)) => {}
                    Ok(None) if needed.contains(&key.as_str()) => {}
                    Err(error) if needed.contains(&key.as_str()) => {
                        let error = error.to_string();
                        assert!(!error.contains('\n') && error.starts_with("x.json: "), "{error}");
                    }
                    Ok(None) => wrong.push(format!("{name}{pointer}/{key}: it is not known without")),
                    Err(error) => wrong.push(format!("{name}{pointer}/{key}: {error}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Half a file, a file that ends early and a wrong type are one line with a place.
#[test]
fn a_damaged_file_is_refused_in_one_line() {
    for name in json_files() {
        let bytes = std::fs::read(synthetic(&name)).unwrap();
        for end in [bytes.len() / 2, bytes.len() - 3] {
            match parse(&bytes[..end], Path::new("short.json")) {
                Ok(found) => assert!(found.is_none(), "{name} cut at {end}"),
                Err(error) => assert!(error.to_string().contains("line "), "{error}"),
            }
        }
        let whole = tree(&name);
        for pointer in objects(&whole).iter().filter(|pointer| !pointer.is_empty()) {
            let mut wrong = whole.clone();
            *wrong.pointer_mut(pointer).unwrap() = json!("eleven");
            if let Err(error) = parsed(&wrong) {
                let error = error.to_string();
                assert!(!error.contains('\n') && error.contains("; "), "{error}");
            }
        }
    }
    for layout in LAYOUTS.iter().filter(|layout| matches!(layout.signature, FileSignature::Titles(_))) {
        let name = all_synthetic().into_iter().find(|name| {
            Path::new(name).extension().is_some_and(|end| end == "log")
                && read(name).layout().name == layout.name
        });
        let text = std::fs::read_to_string(synthetic(&name.unwrap())).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let cut = lines[..lines.len() / 2].join("\n");
        let error = parse(cut.as_bytes(), Path::new("x.log")).unwrap_err().to_string();
        assert!(error.starts_with("x.log: line ") && error.contains("the log ends before"), "{error}");
    }
}

/// The two minimal files of other programs that a trial began with.
#[test]
fn as_little_as_a_layer_and_a_gpu_is_read() {
    let text = r#"{"raw_activations":{"layer_1":[[0.5],[0.5]]},"config":{"dtype":"bfloat16","prompt_tokens":4,
        "repetitions":2,"hidden_dim":1},"experiment":"x","model":"m","hardware":{"gpu":"g"}}"#;
    let file = parse(text.as_bytes(), Path::new("r.json")).unwrap().unwrap();
    assert_eq!((file.layout().name, file.experiment().unwrap().runs.len()), ("layer_sweep", 2));
    let text =
        r#"{"token_sequences": [[1, 2], [1, 2]], "logprobs_vectors": [[-0.5, null], [-0.5, -9999.0]]}"#;
    let file = parse(text.as_bytes(), Path::new("r.json")).unwrap().unwrap();
    assert_eq!(file.experiment().unwrap().runs.len(), 2);
}

#[test]
fn repeated_runs_are_repetitions_whose_lists_belong_to_the_step_before() {
    let file = read("repeated_runs_top_k.json");
    let experiment = file.experiment().unwrap();
    assert_eq!((experiment.configurations.len(), experiment.runs.len()), (1, 3));
    let run = &experiment.runs[2];
    let (prefill, decode) = (run.prefill.as_ref().unwrap(), run.decode.as_ref().unwrap());
    assert_eq!((prefill.positions.as_slice(), decode.first_step, decode.steps), (&[-1][..], 0, 3));
    let lists = decode.logprobs.as_ref().unwrap();
    // Step s consumed output s and predicts output s + 1.
    assert_eq!((lists.k, lists.token_ids[0], run.output_token_ids[1]), (3, 12, 12));
}

#[test]
fn tensor_parallel_sizes_are_setups_and_their_verification_is_across_and_within() {
    let file = read("tp_generation.json");
    let experiment = file.experiment().unwrap();
    let sizes: Vec<u32> = experiment.configurations.iter().map(|one| one.fixed_params.tp_size).collect();
    assert_eq!((sizes, experiment.runs.len()), (vec![1, 2, 4], 6));
    // The list of six holds the prompt's own token: every list belongs one position earlier.
    assert_eq!(experiment.runs[0].prefill.as_ref().unwrap().positions, [-4, -3, -2]);
    let [across, within] = &read("tp_verification.json").verifications()[..] else { panic!("two") };
    assert_eq!((across.cells.len(), within.cells.len()), (18, 18));
    assert_eq!(across.generator.gpu, "NVIDIA A100-SXM4-80GB");
    assert_eq!(within.generator.gpu, "NVIDIA H100 80GB HBM3");
}

/// The same title stands over the log that generates.
#[test]
fn a_log_of_generation_that_prints_no_distance_is_named() {
    let text = std::fs::read_to_string(synthetic("attention.log")).unwrap();
    let text = text.replace("VERIFICATION MODE", "GENERATION MODE");
    let error = parse(text.as_bytes(), Path::new("x.log")).unwrap_err().to_string();
    assert!(error.contains("layout: it is the log of a generation under several attention"), "{error}");
}

/// A log of keys and log-probabilities whose last lines do not say which of them they are about.
#[test]
fn an_unnamed_average_may_be_of_either_signal() {
    let text = std::fs::read_to_string(synthetic("batch_verification.log")).unwrap();
    // The mean off the diagonal of the keys of prefill, which the log prints a few lines above.
    let keys = text.lines().find_map(|line| line.trim().strip_prefix("Key vectors - Mean: ")).unwrap();
    let mean = keys.split(',').next().unwrap();
    let with = |line: &str| {
        text.replacen("Excluded equivalent pairs", &format!("{line}\nExcluded equivalent pairs"), 1)
    };
    let wrong = |text: &str| {
        let file = parse(text.as_bytes(), Path::new("x.log")).unwrap().unwrap();
        let figures = file.sheet(&[]).figures;
        figures.iter().filter(|one| one.agreement == Agreement::DoesNotFollow).count()
    };
    assert_eq!(wrong(&with(&format!("Mean: {mean}"))), 0);
    assert_eq!(wrong(&with("Mean: 9.99e+01")), 1);
}

#[test]
fn files_that_are_no_evidence_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (content, words) in [
        (&br#"{"prompt_logprobs": [null, {"7": {"logprob": -1.5}}]}"#[..], "vLLM"),
        (
            b"{\"event\": \"stage_trace\", \"layer\": 0}\n{\"event\": \"stage_trace\", \"layer\": 1}\n",
            "stage trace",
        ),
        (br#"{"scores": [], "config": {}}"#, "scores per token"),
        (br#"{"architectures": ["A"], "model_type": "llama"}"#, "configuration of a model"),
        (b"PK\x03\x04 a.npy", "NumPy archive"),
    ] {
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("layout: it is ") && error.contains(words), "{error}");
    }
}

/// Answers of an API are evidence only with log-probabilities: one object, one on each line, a stream.
#[test]
fn answers_without_log_probabilities_are_refused_with_what_to_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    for content in [
        &br#"{"id": "c", "object": "chat.completion", "choices": []}"#[..],
        br#"{"prompt_logprobs": [null, {"7": {"logprob": -1.5}}], "object": "text_completion", "choices": []}"#,
        b"{\"object\": \"text_completion\", \"choices\": []}\n{\"object\": \"text_completion\", \"choices\": []}\n",
        b"data: {\"object\": \"text_completion\", \"choices\": []}\n\ndata: [DONE]\n",
    ] {
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("no log-probabilities; ask the server for `logprobs`"), "{error}");
    }
}

/// Found by fuzzing: a heading with a control character, of which the expected text of the next line is made.
#[test]
fn a_control_character_in_a_heading_is_escaped_wherever_it_is_quoted() {
    let text = std::fs::read_to_string(synthetic("attention.log")).unwrap();
    let odd = "--- Verifying with: flash_atte\u{14}ntion_2 ---";
    let text = text.replace("--- Verifying with: flash_attention_2 ---", odd);
    let message = parse(text.as_bytes(), Path::new("x.log")).unwrap_err().to_string();
    assert!(message.contains("flash_atte\\u{14}ntion_2"), "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

/// Found by fuzzing: a name with a control character, quoted by a warning.
#[test]
fn warnings_are_one_line_whatever_the_file_calls_things() {
    let mut tree = tree("activations.json");
    tree["experiment"] = json!("7B\u{7f}FP16");
    let file = parsed(&tree).unwrap().unwrap();
    assert!(file.warnings().iter().any(|warning| warning.contains("7B\\u{7f}FP16")), "{:?}", file.warnings());
    assert!(!file.warnings().iter().any(|warning| warning.contains(char::is_control)));
}
