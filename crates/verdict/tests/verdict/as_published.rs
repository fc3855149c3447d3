//! The published definitions on an experiment of our own, whose tables are known.

use mantissa_evidence::Record;
use mantissa_published::Content;
use mantissa_verdict::analysis::{Analysis, FindingKind, Outcome, Source};
use mantissa_verdict::{Options, as_published};

fn says(analysis: &Analysis, words: &str) {
    let sentences: Vec<&str> = analysis.findings.iter().map(|finding| finding.sentence.as_str()).collect();
    assert!(sentences.iter().any(|sentence| sentence.contains(words)), "'{words}' is not in {sentences:#?}");
}

/// An experiment on two types of hardware: `value` of the only key, by hardware, batch size and repetition.
fn script_experiment(decode: bool) -> Content {
    let mut runs = Vec::new();
    let mut configurations = Vec::new();
    for (hardware, shift) in [("A100", 0.0), ("H100", 1.0)] {
        for size in [1, 2] {
            let id = format!("{hardware}_bs{size}");
            configurations.push(format!(
                r#"{{"config_id": "{id}", "hardware": "{hardware}", "variable_value": {size}, "fixed_params":
                {{"compile": false, "attention_impl": "sdpa", "quantization": "none", "tp_size": 1, "ep_size": 1,
                "concurrent_streams": false}}}}"#
            ));
            for rep in 0..2 {
                let value = shift + 2.0 * f64::from(size - 1);
                let row = format!(r#"{{"layer_2": {{"pos_-1": [{value}, 0.0]}}}}"#);
                let steps = if decode {
                    format!(r#"{{"step": 0, "token_id": 5, "token_text": "a", "key_vectors": {row}}}"#)
                } else {
                    String::new()
                };
                runs.push(format!(
                    r#"{{"config_id": "{id}", "rep_id": {rep}, "prompt_text": "p", "decode_steps": [{steps}]}}"#
                ));
            }
        }
    }
    let text = format!(
        r#"{{"experiment_metadata": {{"experiment_type": "batch_size", "variable_tested": "batch_size", "model": "m",
        "model_size": "1B", "architecture": "dense", "sequence_length": 4, "decode_steps": 1, "extraction_config":
        {{"layers": [2], "positions": [-1], "hidden_dim": 2, "key_dim": 2, "top_k_logprobs": 1}}}},
        "configurations": [{}], "runs": [{}]}}"#,
        configurations.join(", "),
        runs.join(", ")
    );
    let experiment = mantissa_evidence::json::parse(text.as_bytes(), "script.json".as_ref()).unwrap();
    Content::Record(Record::from_experiment(experiment, "script.json".as_ref()))
}

fn script(decode: bool) -> Analysis {
    let source =
        Source { name: "script.json".to_owned(), layout: "experiment_json".to_owned(), ..Source::default() };
    as_published(&[(source, &script_experiment(decode))], &Options::default()).unwrap()
}

#[test]
fn the_script_s_tables_come_out_with_its_words() {
    let analysis = script(true);
    let rows: Vec<String> =
        analysis.tables.iter().flat_map(|table| table.rows.iter().map(|row| row.join(" "))).collect();
    for row in [
        "A100_bs1 Rep 0 vs Rep 1 ✓ exact",
        "1 A100_bs1 vs H100_bs1 1.00e+00",
        "2 A100_bs2 vs H100_bs2 1.00e+00",
        "A100 1 → 2 2.00e+00",
        // A100 at 1 against H100 at 2 is 3 apart, A100 at 2 against H100 at 1 is 1 apart.
        "A100=1 vs H100=2 3.00e+00 3.00× ✓ DETECTABLE",
        "A100=2 vs H100=1 1.00e+00 1.00× ✗ not detectable",
        "summary 1/2 (50.0%) 2.00× ✗ IS NOT RELIABLY DETECTABLE CROSS-HARDWARE",
        "batch_size batch_size 1.00e+00 50.0% ✗ Weak",
    ] {
        assert!(rows.iter().any(|other| other == row), "'{row}' is not in {rows:#?}");
    }
    assert_eq!(analysis.outcome, Outcome::Divergent);
    says(&analysis, "the script reads layer_39 alone, whatever the model; here it reads layer_2.k");
    says(&analysis, "measures against the smallest value after sorting");
}

#[test]
fn missing_data_print_as_exact_and_are_named() {
    let analysis = script(false);
    let exact = analysis.tables[0].rows.iter().all(|row| row[2] == "✓ exact");
    assert!(exact && !analysis.tables[0].rows.is_empty());
    says(&analysis, "found no row in common");
    assert!(analysis.findings.iter().any(|finding| finding.kind == FindingKind::Missing));
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
}
