//! The six published JSON layouts: what is read, what is assumed, and what is refused.

use std::path::{Path, PathBuf};

use mantissa_evidence::Experiment;
use mantissa_evidence::verification::Relation;
use mantissa_numerics::{Dtype, LayerIdx, Point, Site};
use mantissa_published::{Content, LAYOUTS, Published, open, parse};
use mantissa_testkit::published;
use serde_json::{Value, json};

fn read(name: &str) -> Published {
    let opened = open(&published(name)).unwrap();
    assert_eq!(opened.name, name);
    match opened.content {
        Content::Published(published) => published,
        Content::Record(_) => panic!("{name} is no experiment"),
    }
}

fn experiment(name: &str) -> Experiment {
    read(name).experiment().unwrap().clone()
}

pub(super) fn every_layout_is_known_by_its_content_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, layout) in [
        ("activations_L40S.json", "activations"),
        ("attention_verification_H100_on_A100.json", "attention_verification"),
        ("batch_generation_H100_sdpa_short.json", "batch_generation"),
        ("batch_verification_A100_on_A100.json", "batch_verification"),
        ("quant_generation_A100.json", "quant_generation"),
        ("quant_verification_A100_on_H100.json", "quant_verification"),
    ] {
        let renamed = folder.path().join("notes.txt");
        std::fs::copy(published(name), &renamed).unwrap();
        let opened = open(&renamed).unwrap();
        assert_eq!(opened.content.layout(), layout);
        let Content::Published(file) = &opened.content else { panic!("{name}") };
        assert_eq!(file.experiment().is_some(), file.verifications().is_empty(), "{name}");
    }
}

pub(super) fn activations_are_an_experiment_over_batch_sizes_whose_site_is_assumed() {
    let published = read("activations_A100-80GB-PCIe.json");
    let experiment = published.experiment().unwrap();
    assert_eq!((experiment.configurations.len(), experiment.runs.len()), (3, 30));
    let configuration = &experiment.configurations[2];
    assert_eq!(configuration.hardware, "NVIDIA A100 80GB PCIe");
    assert_eq!(configuration.torch_version.as_deref(), Some("2.8.0+cu128"));
    assert_eq!(configuration.variable_value, json!(4));
    assert_eq!(experiment.metadata.variable_tested, "batch_size");
    let run = &experiment.runs[0];
    assert_eq!(run.prompt_label.as_deref(), Some("prefill_batch_size_7B_FP16_long_context, 1134 tokens"));
    assert!(run.prompt_token_ids.is_empty());
    let prefill = run.prefill.as_ref().unwrap();
    assert_eq!((prefill.positions.as_slice(), prefill.steps), (&[-1][..], 1));
    let tensor = &prefill.tensors[&Site { layer: None, point: Point::FinalNorm }];
    assert_eq!((tensor.dtype, tensor.shape), (Dtype::F16, [1, 1, 3584]));
    assert_eq!(tensor.dtype.decode(&tensor.data, 0).to_bits(), (-1.426_757_8_f32).to_bits());
    assert!(published.warnings()[0].contains("does not name the site"), "{:?}", published.warnings());
}

pub(super) fn batch_generation_keeps_ids_neighbours_and_the_step_that_consumed_a_token() {
    let published = read("batch_generation_H100_sdpa_short.json");
    let experiment = published.experiment().unwrap();
    assert_eq!((experiment.configurations.len(), experiment.runs.len()), (9, 27));
    let run = experiment.runs.iter().find(|run| run.config_id == "batch_size_17").unwrap();
    assert_eq!((run.neighbours.len(), run.prompt_token_ids.len(), run.output_token_ids.len()), (16, 200, 20));
    let (prefill, decode) = (run.prefill.as_ref().unwrap(), run.decode.as_ref().unwrap());
    assert_eq!(prefill.positions, [-3, -2, -1]);
    assert_eq!((decode.first_step, decode.steps, decode.positions.as_slice()), (16, 3, &[-1][..]));
    let keys = Site { layer: Some(LayerIdx(28)), point: Point::K };
    assert_eq!((decode.tensors[&keys].dtype, decode.tensors[&keys].shape), (Dtype::Bf16, [3, 1, 512]));
    // Step s predicts output s + 1: the first candidate of every step is the token that was generated.
    let logprobs = decode.logprobs.as_ref().unwrap();
    assert_eq!(logprobs.k, 20);
    for step in 0..3 {
        assert_eq!(logprobs.token_ids[step * 20], run.output_token_ids[16 + step + 1]);
    }
    assert!(published.warnings().iter().any(|warning| warning.contains("bf16 is the narrowest")));
}

pub(super) fn quant_generation_keeps_the_top_five_where_they_were_computed() {
    let published = read("quant_generation_A100.json");
    let experiment = published.experiment().unwrap();
    assert_eq!((experiment.configurations.len(), experiment.runs.len()), (4, 16));
    let models: Vec<&str> = experiment
        .configurations
        .iter()
        .map(|one| one.mantissa.as_ref().unwrap().setup.model.id.as_str())
        .collect();
    let (awq, gptq) = ("Qwen/Qwen3-8B-AWQ", "JunHowie/Qwen3-8B-GPTQ-Int4");
    assert_eq!(models, [awq, awq, gptq, gptq]);
    for run in &experiment.runs {
        let (prefill, decode) = (run.prefill.as_ref().unwrap(), run.decode.as_ref().unwrap());
        // The file's −1 predicts the last token of the prompt, so it was computed one earlier.
        assert_eq!(prefill.positions, [-4, -3, -2]);
        assert_eq!((decode.first_step, decode.steps), (96, 3));
        let (prefill, decode) = (prefill.logprobs.as_ref().unwrap(), decode.logprobs.as_ref().unwrap());
        assert_eq!((prefill.k, decode.k), (5, 5));
        for step in 0..3 {
            assert_eq!(decode.token_ids[step * 5], run.output_token_ids[97 + step]);
        }
        // 77091 is the prompt's own token, far outside the top five.
        assert!(!prefill.token_ids.contains(&77091));
    }
    let warnings = published.warnings().join("\n");
    assert!(warnings.contains("Infinity is not JSON"), "{warnings}");
    assert!(warnings.contains("16 candidates outside the top 5"), "{warnings}");
    assert!(warnings.contains("taken as position -(p+1)"), "{warnings}");
}

pub(super) fn verifications_hold_every_stored_distance_with_its_place() {
    let [batch] = &read("batch_verification_A100_on_H100.json").verifications()[..] else { panic!() };
    assert_eq!(batch.cells.len(), 3 * 9 * 9 * 2 * 2);
    assert_eq!((batch.variable.as_str(), batch.relation), ("batch_size", Relation::ClaimedVerified));
    assert_eq!(
        (batch.generator.gpu.as_str(), batch.verifier.gpu.as_str()),
        ("NVIDIA A100 80GB PCIe", "NVIDIA H100 PCIe")
    );
    assert_eq!(batch.mismatches, []);
    let cell =
        batch.cells.values().find(|cell| cell.place == "comparisons[0].prefill_distances.key_vectors_mean");
    let cell = cell.unwrap();
    assert_eq!(cell.mean.to_bits(), 1.9197817758582847_f64.to_bits());
    assert_eq!(cell.max.unwrap().to_bits(), 2.281300619295349_f64.to_bits());

    let [quant] = &read("quant_verification_A100_on_H100.json").verifications()[..] else { panic!() };
    assert_eq!(quant.cells.len(), 4 * 4 * 4 * 2);
    assert_eq!(quant.values, ["awq", "awq_marlin", "gptq_marlin", "gptq"]);
    let torch = ("torch_version".to_owned(), "2.9.1+cu128".to_owned(), "2.9.0+cu128".to_owned());
    assert_eq!(quant.mismatches, [torch]);

    let [attention] = &read("attention_verification_H100_on_A100.json").verifications()[..] else { panic!() };
    assert_eq!(attention.cells.len(), 3 * 3 * 2 * 2);
    assert!(attention.cells.keys().all(|key| key.reference.is_none()));
    assert_eq!(attention.values, ["eager", "sdpa", "flash_attention_2"]);
}

/// The published file as a tree that can be damaged; infinities become strings, which the reader takes.
fn tree(name: &str) -> Value {
    let bytes = std::fs::read(published(name)).unwrap();
    serde_json::from_slice(&mantissa_evidence::lenient::to_json(&bytes).0).unwrap()
}

fn refusal(tree: &Value) -> String {
    let bytes = serde_json::to_vec(tree).unwrap();
    let Err(error) = parse(&bytes, Path::new("damaged.json")) else { panic!("a damaged file was read") };
    let error = error.to_string();
    assert!(!error.contains('\n') && error.contains("; "), "{error}");
    assert!(error.starts_with("damaged.json: "), "{error}");
    error
}

/// Replaces what stands at `pointer`.
fn damage(name: &str, pointer: &str, value: Value) -> String {
    let mut tree = tree(name);
    *tree.pointer_mut(pointer).unwrap() = value;
    refusal(&tree)
}

pub(super) fn a_wrong_type_is_named_by_its_json_path() {
    for (name, pointer, place) in [
        ("activations_L40S.json", "/raw_activations/batch_size_2/3/7", "raw_activations.batch_size_2[3][7]"),
        ("activations_L40S.json", "/config/batch_sizes/1", "config.batch_sizes[1]"),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/4/generated_ids/2",
            "measurements[4].generated_ids[2]",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/0/decode_signals/pos_-2/signals/logprobs/log_probs/1",
            "measurements[0].decode_signals.pos_-2.signals.logprobs.log_probs",
        ),
        (
            "batch_verification_A100_on_A100.json",
            "/comparisons/9/decode_distances/logprobs_max",
            "comparisons[9].decode_distances.logprobs_max",
        ),
        (
            "quant_generation_A100.json",
            "/generations/gptq/1/prompt_length",
            "generations.gptq[1].prompt_length",
        ),
        ("quant_verification_A100_on_H100.json", "/prefill_analysis/matrix/2/1", "prefill_analysis.matrix"),
        (
            "attention_verification_H100_on_A100.json",
            "/cross_hardware/decode/key_snr",
            "cross_hardware.decode.key_snr",
        ),
    ] {
        let error = damage(name, pointer, json!("eleven"));
        assert!(error.contains(place), "{error}");
        let error = damage(name, pointer, json!({}));
        assert!(error.contains(place), "{error}");
    }
}

#[expect(clippy::too_many_lines, reason = "one entry per damage")]
pub(super) fn dimensions_that_do_not_fit_are_refused() {
    let mut wrong = Vec::new();
    for (name, pointer, value, problem) in [
        ("activations_L40S.json", "/config/hidden_dim", json!(3585), "3584 values for a hidden_dim of 3585"),
        (
            "activations_L40S.json",
            "/config/repetitions",
            json!(4_000_000_000_u32),
            "10 vectors for 4000000000 repetitions",
        ),
        ("activations_L40S.json", "/config/dtype", json!("float8"), "'float8' is not a known format"),
        ("activations_L40S.json", "/config/dtype", json!("bfloat16"), "is no value of bf16"),
        ("activations_L40S.json", "/config/batch_sizes", json!([1, 2, 2]), "2 is listed twice"),
        ("activations_L40S.json", "/config/batch_sizes", json!([1, 2, 8]), "'batch_size_8' is missing"),
        (
            "batch_generation_H100_sdpa_short.json",
            "/metadata/batch_sizes",
            json!([1, 2]),
            "not among metadata.batch_sizes",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/metadata/layer_indices",
            json!([27]),
            "metadata.layer_indices",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/1/batch_size",
            json!(1),
            "ref_0 at batch size 1 again",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/0/ref_name",
            json!("first"),
            "first at batch size 2 is missing",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/0/prompt_token_ids",
            json!([]),
            "0 rows at batch size 1",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/0/generated_ids/3",
            json!(7),
            "row 0 is not generated_ids",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/0/decode_signals/pos_-1/absolute_position",
            json!(u64::MAX),
            "lies outside the 20 ids",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/0/decode_signals/pos_-1/absolute_position",
            json!(214),
            "do not follow one another",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/0/prefill_signals/pos_-1/logprobs/token_ids/4",
            json!(2571),
            "a token id is listed twice",
        ),
        (
            "batch_generation_H100_sdpa_short.json",
            "/prefill_sanity_check/key_matrix/3",
            json!([0.0]),
            "row 3 has 1 cells instead of 9",
        ),
        (
            "batch_verification_A100_on_A100.json",
            "/comparisons/1/verify_batch_size",
            json!(1),
            "again, after comparisons[0]",
        ),
        (
            "batch_verification_A100_on_A100.json",
            "/comparisons/1/verify_batch_size",
            json!(7),
            "batch size 7 is not among",
        ),
        (
            "batch_verification_A100_on_A100.json",
            "/decode_analysis/excluded_pairs/0",
            json!([2, 6]),
            "batch size 6 is not among",
        ),
        ("quant_generation_A100.json", "/metadata/num_references", json!(5), "4 runs for num_references 5"),
        ("quant_generation_A100.json", "/generations/awq/1/ref_idx", json!(0), "ref_idx 0 is used twice"),
        (
            "quant_generation_A100.json",
            "/generations/awq/1/num_generated",
            json!(1),
            "100 ids for num_generated 1",
        ),
        (
            "quant_generation_A100.json",
            "/metadata/top_k_logprobs",
            json!(6),
            "5 candidates for top_k_logprobs 6",
        ),
        (
            "quant_generation_A100.json",
            "/metadata/model_configs/awq/dtype",
            json!("int4"),
            "'int4' is not a known format",
        ),
        (
            "quant_verification_A100_on_H100.json",
            "/comparisons/3/is_diagonal",
            json!(false),
            "is_diagonal is false for",
        ),
        (
            "quant_verification_A100_on_H100.json",
            "/comparisons/3/verify_config",
            json!("exl2"),
            "'exl2' is not among",
        ),
        (
            "attention_verification_H100_on_A100.json",
            "/metadata/verifier_environments",
            json!({}),
            "'eager' is missing",
        ),
        (
            "attention_verification_H100_on_A100.json",
            "/cross_hardware/prefill/key_matrix/0",
            json!([1, 2]),
            "row 0 has 2 cells",
        ),
    ] {
        let error = damage(name, pointer, value);
        if !error.contains(problem) {
            wrong.push(format!("{pointer}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub(super) fn a_reference_without_a_number_is_refused() {
    let mut tree = tree("batch_generation_H100_sdpa_short.json");
    for one in tree["measurements"].as_array_mut().unwrap() {
        if one["ref_name"] == "ref_1" {
            one["ref_name"] = json!("ref_01");
        }
    }
    let error = refusal(&tree);
    assert!(error.contains("'ref_01' is no name such as ref_0"), "{error}");
}

pub(super) fn a_missing_signal_and_a_missing_comparison_are_refused() {
    for (name, parent, key) in [
        ("activations_L40S.json", "/raw_activations", "batch_size_2"),
        ("batch_generation_H100_sdpa_short.json", "/measurements/3", "prompt_token_ids"),
        (
            "batch_generation_H100_sdpa_short.json",
            "/measurements/3/prefill_signals/pos_-2/logprobs",
            "token_ids",
        ),
        ("batch_verification_A100_on_A100.json", "/comparisons/3", "claimed_batch_size"),
        ("quant_generation_A100.json", "/metadata/model_configs/gptq", "model_name"),
        ("quant_verification_A100_on_H100.json", "/comparisons/0/prefill_distances", "logprobs_mean"),
        ("attention_verification_H100_on_A100.json", "/metadata", "verifier_environments"),
    ] {
        let mut tree = tree(name);
        tree.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        let error = refusal(&tree);
        assert!(error.contains(key), "{error}");
    }
    for name in ["batch_verification_A100_on_A100.json", "quant_verification_A100_on_H100.json"] {
        let mut tree = tree(name);
        tree["comparisons"].as_array_mut().unwrap().pop();
        let error = refusal(&tree);
        assert!(error.contains("comparisons instead of"), "{error}");
    }
}

pub(super) fn a_truncated_file_and_a_duplicate_key_are_refused_at_their_line() {
    for name in
        ["activations_L40S.json", "batch_verification_A100_on_A100.json", "quant_generation_A100.json"]
    {
        let bytes = std::fs::read(published(name)).unwrap();
        let error = parse(&bytes[..bytes.len() / 2], Path::new("half.json"));
        // Without its telling key, half a file is of no known layout; with it, it is a broken file.
        match error {
            Ok(published) => assert!(published.is_none()),
            Err(error) => assert!(error.to_string().contains("line "), "{error}"),
        }
        let error = parse(&bytes[..bytes.len() - 3], Path::new("short.json")).unwrap_err().to_string();
        assert!(error.contains("line ") && error.contains("EOF"), "{error}");
    }
    let text = std::fs::read_to_string(published("quant_verification_A100_on_H100.json")).unwrap();
    for (key, twice) in [
        ("\"valid\": false", "\"valid\": false, \"valid\": false"),
        (
            "\"awq\": {",
            "\"awq\": {\"model_name\": \"a\", \"quantization\": \"b\", \"dtype\": \"c\"}, \"awq\": {",
        ),
    ] {
        let damaged = text.replacen(key, twice, 1);
        assert_ne!(damaged, text);
        let error = parse(damaged.as_bytes(), Path::new("twice.json")).unwrap_err().to_string();
        assert!(error.contains("duplicate"), "{error}");
    }
}

pub(super) fn not_a_number_everywhere_is_read_and_stays_one() {
    let text = std::fs::read_to_string(published("attention_verification_H100_on_A100.json")).unwrap();
    let mut all = String::new();
    for line in text.lines() {
        let number = line.trim_start().starts_with(|c: char| c.is_ascii_digit());
        let comma = if line.ends_with(',') { "," } else { "" };
        all.push_str(if number { "NaN" } else { line.trim_end_matches(',') });
        all.push_str(comma);
        all.push('\n');
    }
    let published = parse(all.as_bytes(), Path::new("nan.json")).unwrap().unwrap();
    assert!(published.verifications()[0].cells.values().all(|cell| cell.mean.is_nan()));
    assert!(published.warnings()[0].contains("NaN"), "{:?}", published.warnings());

    let mut tree = tree("activations_L40S.json");
    for row in tree.pointer_mut("/raw_activations/batch_size_1").unwrap().as_array_mut().unwrap() {
        row.as_array_mut().unwrap().fill(json!("NaN"));
    }
    let bytes = serde_json::to_vec(&tree).unwrap();
    let published = parse(&bytes, Path::new("nan.json")).unwrap().unwrap();
    let experiment = published.experiment().unwrap();
    let tensor = experiment.runs[0].prefill.as_ref().unwrap().tensors.values().next().unwrap();
    assert!((0..3584).all(|index| tensor.dtype.decode(&tensor.data, index).is_nan()));
}

pub(super) fn an_unknown_file_gets_one_error_that_lists_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    for content in ["{\"metadata\": {}, \"measures\": []}", "[1, 2]", "once upon a time"] {
        let path: PathBuf = folder.path().join("unknown.json");
        std::fs::write(&path, content).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        let own = ["container", "experiment JSON"];
        for layout in own.into_iter().chain(LAYOUTS.iter().map(|layout| layout.name)) {
            assert!(error.contains(layout), "{content:?}: {error}");
        }
    }
    for (content, problem) in [
        (&b""[..], "is empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0}\0", "is UTF-16"),
        (b"{", "damaged JSON (EOF while parsing an object at line 1 column 1)"),
        (b"{\"a\": NaN}", "damaged JSON (expected value at line 1 column 7)"),
        (b"{\"a\": 1}\n{\"b\":", "no known kind"),
    ] {
        let path = folder.path().join("other.json");
        std::fs::write(&path, content).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains(problem));
    }
    let nested = format!("{}1", "{\"a\":".repeat(100_000));
    std::fs::write(folder.path().join("deep.json"), nested).unwrap();
    assert!(open(&folder.path().join("deep.json")).is_err());
}

pub(super) fn all_published_experiments_keep_the_laws_of_a_record() {
    for name in
        ["activations_H200.json", "batch_generation_H100_sdpa_short.json", "quant_generation_A100.json"]
    {
        let experiment = experiment(name);
        let bytes = mantissa_evidence::json::to_vec(&experiment, Path::new("out.json"));
        assert!(bytes.is_ok(), "{name}: {:?}", bytes.err());
    }
}

/// Ten gigabytes of nothing behind a telling beginning, or behind none: one error, and the file is not read through.
pub(super) fn a_file_of_ten_gigabytes_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.json");
    for start in ["{\"raw_activations\": {", "{\"comparisons\": [", "", "PREFILL vs DECODE EXPERIMENT\n"] {
        std::fs::write(&path, start).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(10 << 30).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("are more than the 268435456 of a published file"), "{error}");
    }
}
