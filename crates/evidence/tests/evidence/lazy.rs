//! Records that stay in their files: row by row they are what the whole-file readers give, and no file breaks them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use mantissa_evidence::record::RowKey;
use mantissa_evidence::{EvidenceError, Experiment, Record, container, json};
use mantissa_numerics::{Dtype, Phase, Point, Site};
use proptest::prelude::*;

use crate::sample;

/// Layouts, rows and candidates of two records, and what lies beside them, are the same.
fn assert_same(a: &Record, b: &Record) {
    assert_eq!(a.shell(), b.shell());
    let absent = RowKey { phase: Phase::Decode, step: 99, position: -1 };
    let (mut in_a, mut in_b) = (Vec::new(), Vec::new());
    for run in 0..=a.shell().runs.len() {
        for phase in [Phase::Prefill, Phase::Decode] {
            assert_eq!(a.layout(run, phase), b.layout(run, phase));
            let Some(layout) = a.layout(run, phase) else { continue };
            for step in layout.steps.start.saturating_sub(1)..=layout.steps.end {
                for position in [-9, -3, -2, -1, 0] {
                    let key = RowKey { phase, step, position };
                    for site in layout.tensors.keys().copied().chain([Site::outside(Point::Logits)]) {
                        let row = a.row(run, site, key, &mut in_a).unwrap();
                        let recorded = layout.steps.contains(&step)
                            && layout.positions.contains(&position)
                            && layout.tensors.contains_key(&site);
                        assert_eq!(row.is_some(), recorded);
                        assert_eq!(row, b.row(run, site, key, &mut in_b).unwrap(), "{run} {site} {key:?}");
                    }
                    let (of_a, of_b) = (a.candidates(run, key).unwrap(), b.candidates(run, key).unwrap());
                    let bits = |c: &mantissa_evidence::record::Candidates| {
                        (c.token_ids.clone(), c.log_probs.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
                    };
                    assert_eq!(of_a.as_ref().map(bits), of_b.as_ref().map(bits));
                }
            }
        }
        assert_eq!(a.row(run, Site::outside(Point::FinalNorm), absent, &mut in_a).unwrap(), None);
        assert_eq!(a.candidates(run, absent).unwrap(), None);
    }
}

fn from_text(text: &str) -> Result<Record, EvidenceError> {
    Record::from_bytes(text.as_bytes().to_vec(), Path::new("e.json"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rows_are_those_of_the_whole_file_readers(experiment in sample::any_experiment(), pretty in any::<bool>()) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        json::write(&at("a.json"), &experiment).unwrap();
        if pretty {
            let value: serde_json::Value = serde_json::from_slice(&std::fs::read(at("a.json")).unwrap()).unwrap();
            std::fs::write(at("a.json"), serde_json::to_vec_pretty(&value).unwrap()).unwrap();
        }
        container::write(&at("a"), &experiment).unwrap();
        let eager = Record::from_experiment(json::read(&at("a.json")).unwrap(), &at("a.json"));
        let lazy = Record::open(&at("a.json")).unwrap();
        let mapped = Record::open(&at("a").join("manifest.json")).unwrap();
        prop_assert_eq!(lazy.warnings(), &[] as &[String]);
        assert_same(&eager, &lazy);
        assert_same(&eager, &mapped);
        for record in [eager, lazy, mapped] {
            record.verify().unwrap();
        }
    }

    /// Without `mantissa`, values are f32 and shapes those of the first step, in either reader.
    #[test]
    fn files_of_the_plan_alone_are_read_alike(numbers in proptest::collection::vec(any::<f64>(), 24), pick in 0_usize..4) {
        let numbers: Vec<String> = numbers.iter().map(|x| match pick {
            0 => x.to_string(),
            1 => format!("{x:e}"),
            2 => format!("{}", x % 1e6),
            _ => format!("{:.25}", x % 8.0),
        }).map(|text| if text.parse::<f32>().is_ok_and(f32::is_finite) { text } else { "0".to_owned() }).collect();
        let text = plan(&numbers);
        let eager = Record::from_experiment(json::parse(text.as_bytes(), Path::new("e.json")).unwrap(), Path::new("e.json"));
        assert_same(&eager, &from_text(&text).unwrap());
    }
}

/// Two runs of two steps, one layer of hidden states, one position, three values, as the plan writes them.
fn plan(numbers: &[String]) -> String {
    let mut text = r#"{"experiment_metadata": {"experiment_type": "t", "variable_tested": "v", "model": "m",
        "model_size": "1B", "architecture": "MoE", "sequence_length": 8, "decode_steps": 1, "extraction_config":
        {"layers": [1, 39], "positions": [-1], "hidden_dim": 3, "key_dim": 1, "top_k_logprobs": 1}},
        "configurations": [{"config_id": "a", "hardware": "A100-80GB", "variable_value": 1, "fixed_params":
        {"compile": false, "attention_impl": "eager", "quantization": "none", "tp_size": 1, "ep_size": 1,
        "concurrent_streams": false}}], "runs": ["#
        .to_owned();
    for run in 0..2 {
        let head = r#""config_id": "a", "prompt_text": "p\n\u00e9", "decode_steps": ["#;
        write!(text, "{}{{\"rep_id\": {run}, {head}", if run == 0 { "" } else { ", " }).unwrap();
        for step in 0..2 {
            let row = &numbers[(run * 2 + step) * 6..][..6];
            write!(
                text,
                r#"{}{{"step": {step}, "token_id": {step}, "hidden_states": {{"layer_1": {{"pos_-1": [{}, {},{}]}}}},
                "logprobs": {{"pos_-1": {{"token_ids": [ 3 ,1,0 ], "log_probs": [{},{} , {}
                ]}}}}}}"#,
                if step == 0 { "" } else { "," },
                row[0], row[1], row[2], row[3], row[4], row[5],
            )
            .unwrap();
        }
        text.push_str("]}");
    }
    text.push_str("]}\n");
    text
}

fn sound() -> String {
    let numbers: Vec<String> = (0..24_u8).map(|i| format!("{}.{i}", i32::from(i) - 7)).collect();
    plan(&numbers)
}

/// The message of a refusal, which is one line of bounded length with a remedy.
fn refusal<T>(result: Result<T, EvidenceError>) -> String {
    let message = result.err().expect("accepted").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.len() < 2000 && message.contains("; "), "{message}");
    message
}

/// Reads every row; the first refusal.
fn read_all(record: &Record) -> Result<(), EvidenceError> {
    let mut scratch = Vec::new();
    for run in 0..record.shell().runs.len() {
        for phase in [Phase::Prefill, Phase::Decode] {
            let Some(layout) = record.layout(run, phase) else { continue };
            for step in layout.steps.clone() {
                for &position in &layout.positions {
                    let key = RowKey { phase, step, position };
                    for &site in layout.tensors.keys() {
                        record.row(run, site, key, &mut scratch)?;
                    }
                    record.candidates(run, key)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_python_writes_for_numbers_that_json_lacks_is_read_and_said() {
    let bits = |text: &str| {
        let record = from_text(text).unwrap();
        let key = RowKey { phase: Phase::Decode, step: 1, position: -1 };
        let mut scratch = Vec::new();
        let row = record.row(0, Site::at(1, Point::XOut), key, &mut scratch).unwrap().unwrap().to_vec();
        let row: Vec<u32> = (0..3).map(|i| Dtype::F32.decode(&row, i).to_bits()).collect();
        (row, record.warnings().to_vec())
    };
    let text = sound();
    assert_eq!(bits(&text).0, [-1.6_f32, 0.7, 1.8].map(f32::to_bits));
    let row = "[-1.6, 0.7,1.8]";
    assert!(text.contains(row));
    let (row_bits, warnings) = bits(&text.replace(row, "[NaN, -Infinity,inf]"));
    assert_eq!(row_bits, [0x7fc0_0000, 0xff80_0000, 0x7f80_0000]);
    assert_eq!(
        warnings,
        [
            "line 8: NaN is not JSON; read as not-a-number with the bits of a quiet NaN (1 such place)",
            "line 8: Infinity is not JSON; read as the infinite number of its sign (2 such places)",
        ]
    );
    // Everywhere, also in place of a time; in the format of the tensor where one is stated.
    let (row_bits, warnings) = bits(
        &text
            .replace(row, "[nan,NaN,-nan]")
            .replace("\"rep_id\": 0", "\"rep_id\": 0, \"runtime_seconds\": NaN"),
    );
    assert_eq!(row_bits, [0x7fc0_0000; 3]);
    assert_eq!(
        warnings,
        [
            "line 8: NaN is not JSON; read as not-a-number with the bits of a quiet NaN (3 such places)",
            "line 6: NaN or Infinity outside a row of numbers is not JSON; read as null (1 such place)",
        ]
    );
    // A backslash that escapes nothing of Markdown is no number's.
    let error = Record::from_bytes(text.replace(row, "[\\1.0,2.0,3.0]").into_bytes(), Path::new("x.json"));
    assert!(refusal(error).contains("a backslash before no punctuation"));
}

#[test]
fn backslashes_of_markdown_are_read_and_said() {
    let text = sound();
    let strict = from_text(&text).unwrap();
    let escaped = text.replace('_', "\\_").replace('[', "\\[").replace(']', "\\]");
    let lenient = from_text(&escaped).unwrap();
    assert_same(&strict, &lenient);
    assert!(strict.warnings().is_empty());
    let count = escaped.matches('\\').count() - text.matches('\\').count();
    let message = "line 1: a backslash before punctuation is Markdown, not JSON; read without the backslash";
    assert_eq!(lenient.warnings(), [format!("{message} ({count} such places)")]);
}

#[test]
fn every_truncation_is_refused() {
    for text in
        [sound(), String::from_utf8(json::to_vec(&sample::fixture(), Path::new("m")).unwrap()).unwrap()]
    {
        let text = text.trim_end();
        let step = (text.len() / 400).max(1);
        for end in (0..text.len()).step_by(step).chain(text.len() - 40..text.len()) {
            let Some(cut) = text.get(..end) else { continue };
            let message = refusal(from_text(cut));
            assert!(message.starts_with("e.json: line "), "{message}");
            assert!(message.contains("ends too early") || message.contains("empty"), "{message}");
        }
    }
}

#[test]
fn each_flaw_is_named_with_its_place() {
    let text = sound();
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let row = "\"pos_-1\": [-7.0, -6.1,-5.2]";
    // Line and column of the byte that is `after` bytes into the row's place.
    let at = |after: usize| {
        let byte = text.find(row).unwrap() + after;
        let line = text[..byte].matches('\n').count() + 1;
        format!("line {line}, column {}: ", byte - text[..byte].rfind('\n').unwrap())
    };
    let deep = "[".repeat(2_000_000);
    let cases = [
        (
            edit(row, "\"pos_-1\": [-7.0, -6.1]"),
            "runs[0].decode_steps[1].layer_1.x_out.pos_-1.values: 3 values instead of 2",
        ),
        (
            edit("[-1.6, 0.7,1.8]", "[-1.6, 0.7,1.8,2]"),
            "decode_steps[1].layer_1.x_out.pos_-1.values: 4 values instead of 3",
        ),
        (edit("[ 3 ,1,0 ]", "[ 3 ,1]"), "2 token_ids instead of 3"),
        (edit(row, "\"pos_-1\": []"), "3 values instead of 0"),
        (edit(row, "\"pos_-1\": 3"), &*(at(10) + "expected an array of numbers")),
        (edit(row, "\"pos_-1\": null"), "expected an array of numbers"),
        (edit(row, "\"pos_-1\": [1, \"2\"]"), &*(at(14) + "a row holds something other than numbers")),
        (edit(row, "\"pos_-1\": [[1]]"), "a row holds something other than numbers"),
        (edit(row, "\"pos_-1\": [1, true]"), "a row holds something other than numbers"),
        (edit(row, "\"pos_-1\": [1, nul]"), &*(at(13) + "'nul' is not a number")),
        (
            edit(row, "\"pos_-1\": {\"pos_-1\": [1]}"),
            &*(at(8) + "invalid type: map, expected an array of numbers"),
        ),
        (edit(row, "\"pos_-1\": [1,2,3], \"pos_-1\": [1,2,3]"), &*(at(26) + "duplicate key 'pos_-1'")),
        (edit(row, "\"pos_-2\": [1,2,3]"), "has [pos_-1] instead of the positions"),
        (
            edit("\"layer_1\": {", "\"layer_1\": [1], \"layer_2\": {"),
            "line 6, column 181: invalid type: sequence, expected an object",
        ),
        (edit("{\"pos_-1\": {\"token_ids\"", "{\"pos_-1\": [1,2,3], \"x\": {\"token_ids\""), "expected"),
        (edit("\"hidden_states\"", "\"hidden\\u005fstates\""), ""),
        (edit("\"hidden_states\": {", "\"hidden_states\": {\"final\": [0], "), "'final' is not a layer"),
        (edit("\"step\": 1", "\"step\": 2"), "decode_steps[1].step: is 2; number steps from 0"),
        (edit("\"step\": 1,", "\"step\": 1, \"step\": 1,"), "duplicate field `step`"),
        (edit("\"rep_id\": 1,", "\"rep_id\": 0,"), "runs[1]: a second run"),
        (edit("\"rep_id\": 1,", "\"rep_id\": \"1\","), "invalid type: string"),
        (
            edit("\"config_id\": \"a\", \"prompt", "\"config_id\": \"b\", \"prompt"),
            "is not among the configurations",
        ),
        (edit("\"decode_steps\": [{", "\"decode_steps\": {\"a\": [{"), "expected an array of steps"),
        (edit("\"decode_steps\": [{", "\"decode_steps\": [[{"), "expected an object"),
        (edit("\"decode_steps\": [{", "\"prefill\": 5, \"decode_steps\": [{"), "expected an object"),
        (edit("\"configurations\":", "\"runs\": [], \"configurations\":"), "duplicate field `runs`"),
        (edit("\"configurations\":", "\"surprise\": 1, \"configurations\":"), "unknown field `surprise`"),
        (
            edit("\"experiment_type\"", "\"experiment_types\""),
            "line 1, column 43: unknown field `experiment_types`",
        ),
        (
            edit("\"model\": \"m\",", "\"model\": \"m\", \"mantissa\": {\"format_version\": 7, \"x\": 1},"),
            "format version 7 is newer",
        ),
        (format!("{text}x"), "line 15, column 1: trailing characters"),
        (edit("\"variable_value\": 1", &format!("\"variable_value\": {deep}")), "recursion limit"),
        (
            edit("\"hidden_states\": {", &format!("\"hidden_states\": {}", "{\"a\":".repeat(1_000_000))),
            "recursion limit",
        ),
        (edit(row, &format!("\"pos_-1\": {deep}")), "a row holds something other than numbers"),
        (edit("\"runs\": [", &format!("\"runs\": {deep}")), "expected an object"),
        (deep.clone(), "line 1, column 1: expected an object"),
        ("{\"runs\": []}".to_owned(), "missing field `experiment_metadata`"),
        (String::new(), "the file is empty"),
        ("{\"a\\u0000\\n\": 1}".to_owned(), "unknown field"),
        (format!("{{\"{}\": 1}}", "k".repeat(100_000)), "unknown field"),
        (edit("\"prompt_text\": \"p\\n", "\"prompt_text\": \"p\n"), "control character"),
        (
            edit("\"prompt_text\": \"p\\n", "\"prompt_text\": \"\\ud800"),
            "line 6, column 109: lone leading surrogate",
        ),
    ];
    let mut wrong = Vec::new();
    for (edited, expected) in cases {
        if expected.is_empty() {
            assert_same(&from_text(&edited).unwrap(), &from_text(&text).unwrap());
            continue;
        }
        let message = refusal(from_text(&edited));
        if !message.contains(expected) {
            wrong.push(format!("expected '{expected}' in: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Spelling of numbers is judged when a row is read, with line and column.
#[test]
fn rows_that_do_not_spell_numbers_are_refused_when_read() {
    let text = sound();
    for (row, expected) in [
        ("[-1.6, 0.7,1.]", "line 8, column 100: value 2, '1.', is not a number"),
        ("[-1.6, 00.7,1]", "line 8, column 97: expected a comma"),
        ("[-1.6,,1]", "value 1"),
        ("[-1.6,1e39,1]", "value 1, '1e39'"),
        ("[-1.6,2 3,1]", "expected a comma"),
        ("[1,2,3 4]", "end of the row"),
        ("[1,2,]", "value 2"),
        ("[1,2,null]", "value 2 is null and its bits are not listed under non_finite"),
    ] {
        let edited = text.replace("[-1.6, 0.7,1.8]", row);
        let message = refusal(read_all(&from_text(&edited).unwrap()));
        assert!(message.contains(expected), "expected '{expected}' in: {message}");
        refusal(json::parse(edited.as_bytes(), Path::new("e.json")));
    }
    // Of a log-probability, null without bits is a value that the recorder did not have.
    let start = text.find("\"log_probs\": [").unwrap() + 14;
    let end = start + text[start..].find(']').unwrap();
    let edited = format!("{}-1.5,null,null{}", &text[..start], &text[end..]);
    let whole = json::parse(edited.as_bytes(), Path::new("e.json")).unwrap();
    assert_same(&from_text(&edited).unwrap(), &Record::from_experiment(whole.clone(), Path::new("e.json")));
    let found = whole
        .runs
        .iter()
        .flat_map(mantissa_evidence::Run::phases)
        .filter_map(|(_, phase)| phase.logprobs.as_ref());
    let infinite = found.flat_map(|lists| &lists.log_probs).filter(|value| **value == f32::NEG_INFINITY);
    assert_eq!(infinite.count(), 2);
    for (ids, expected) in [
        ("[3,1,01]", "element 2 is not a token id"),
        ("[3,1,-1]", "element 2"),
        ("[3,1,1.0]", "expected a comma"),
        ("[3,1,4294967296]", "element 2"),
        ("[3,1,3]", "token id 3 is listed twice"),
        ("[3,1,null]", "element 2"),
    ] {
        let edited = text.replace("[ 3 ,1,0 ]", ids);
        let message = refusal(read_all(&from_text(&edited).unwrap()));
        assert!(message.contains(expected), "expected '{expected}' in: {message}");
        refusal(json::parse(edited.as_bytes(), Path::new("e.json")));
    }
}

/// What a digest guards is found by `verify`, in a file and in a container.
#[test]
fn edited_values_are_found_by_verify() {
    let directory = tempfile::tempdir().unwrap();
    let experiment = sample::fixture();
    let mut value: serde_json::Value =
        serde_json::from_slice(&json::to_vec(&experiment, Path::new("m")).unwrap()).unwrap();
    let row = &mut value["runs"][2]["decode_steps"][0]["key_vectors"]["layer_2"]["pos_-2"];
    let at = row.as_array().unwrap().iter().position(serde_json::Value::is_number).unwrap();
    row[at] = 0.25.into();
    let record = from_text(&value.to_string()).unwrap();
    read_all(&record).unwrap();
    assert!(refusal(record.verify()).contains("runs[2].mantissa.signals_digest"));
    value["runs"][0]["decode_steps"][0]["hidden_states"]["layer_1"]["pos_-1"][0] = 0.123_456_79.into();
    assert!(refusal(read_all(&from_text(&value.to_string()).unwrap())).contains("is not a bf16 number"));

    container::write(directory.path(), &experiment).unwrap();
    let name = directory.path().join(container::run_file_name(&experiment.runs[1]));
    let mut bytes = std::fs::read(&name).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&name, bytes).unwrap();
    let record = Record::open(directory.path()).unwrap();
    assert!(refusal(record.verify()).contains("its blake3 is"));
}

/// Peak resident memory of this process in KiB, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Ten gigabytes of nothing, and a row of a billion elements: one error each, at once and without the memory.
#[test]
fn huge_files_are_refused_in_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse.json");
    let text = sound();
    let before = peak();
    std::fs::File::create(&path).unwrap().set_len(10 << 30).unwrap();
    assert!(refusal(Record::open(&path)).contains("line 1, column 1: expected an object"));
    // The same after a sound beginning, in the middle of a row.
    let start = text.find("[-1.6").unwrap() + 1;
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&text.as_bytes()[..start]).unwrap();
    file.set_len(10 << 30).unwrap();
    assert!(refusal(Record::open(&path)).contains("a row holds something other than numbers"));
    // Elements without end: more than any row has.
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&text.as_bytes()[..start]).unwrap();
    let elements = "0,".repeat(1 << 19);
    for _ in 0..80 {
        file.write_all(elements.as_bytes()).unwrap();
    }
    assert!(refusal(Record::open(&path)).contains("a row of more than 64 MiB"));
    if let (Some(before), Some(after)) = (before, peak()) {
        // Other tests of this process run at the same time; the files would be far larger.
        assert!(after - before < 1 << 20, "{before} to {after} KiB");
    }
}

fn assert_shared<T: Send + Sync>() {}

#[test]
fn a_record_is_read_from_several_threads() {
    assert_shared::<Record>();
    let record = from_text(&sound()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| read_all(&record).unwrap());
        }
    });
}

#[test]
fn a_path_that_is_no_record_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(refusal(Record::open(directory.path())).contains("no manifest.json"));
    assert!(refusal(Record::open(&directory.path().join("absent"))).contains("cannot read it"));
    let experiment: Experiment = sample::fixture();
    let path = directory.path().join("e.json");
    json::write(&path, &experiment).unwrap();
    let record = Record::open(&path).unwrap();
    // The file changes under the record: an error, not other values.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert!(refusal(read_all(&record)).contains("cannot read it"));
}
