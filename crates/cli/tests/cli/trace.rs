//! `mantissa trace`: a model as it runs and what was recorded of it leave the same events; values beside a trace.

use std::fs;
use std::path::Path;

use mantissa_evidence::trace::{StageTrace, Trace, TraceHash, TraceHeader};
use mantissa_evidence::{Digest, Outcome};
use mantissa_numerics::{Phase, Point};
use safetensors::SafeTensors;

use crate::session::Session;

fn with_model(arch: &str) -> Session {
    let session = Session::new();
    let synth = ["synth", "--arch", arch, "--seed", "3", "--out", "model"];
    assert!(session.output(&synth).status.success(), "{}", session.run(&synth));
    fs::write(session.path("prompts.jsonl"), "[5, 6, 7, 8, 9]\n[10, 11, 12, 13]\n").unwrap();
    session
}

/// Runs a verb that must end well; what it said on standard error.
fn told(session: &Session, arguments: &[&str]) -> String {
    let output = session.output(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", session.text(arguments, &output));
    String::from_utf8(output.stderr).unwrap()
}

fn trace(session: &Session, name: &str) -> (TraceHeader, Vec<StageTrace>) {
    let trace = Trace::open(&session.path(name)).unwrap();
    (trace.header.unwrap(), trace.events)
}

const MODEL: [&str; 6] = ["--model", "model", "--prompt", "prompts.jsonl", "--decode", "3"];

#[test]
fn a_record_and_the_run_that_made_it_leave_the_same_events() {
    let session = with_model("qwen3_moe");
    let points =
        "embed_out,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,router_logits,router_topk,mlp_out,logits";
    let record =
        [&["record", "--out", "record", "--sites", points, "--layers", "1,2", "--reps", "1"][..], &MODEL];
    told(&session, &[&record.concat()[..], &["--positions=-3,-2,-1"]].concat());
    let said = told(&session, &["trace", "record", "--out", "recorded.jsonl"]);
    let traced =
        [&["trace", "--layers", "1,2", "--positions=-3,-2,-1", "--out", "run.jsonl"][..], &MODEL].concat();
    assert_eq!(told(&session, &traced), said, "the same summary");
    let ((of_record, recorded), (of_run, run)) =
        (trace(&session, "recorded.jsonl"), trace(&session, "run.jsonl"));
    assert_eq!(of_record, of_run, "the model's digest, the setup, the prompts");
    assert_eq!(recorded, run);
    // Every point of the graph, of two prompts, in four passes.
    let sites = 2 * 11 + 3;
    assert_eq!(
        (run.len(), said.as_str()),
        (2 * 4 * sites, "trace: 200 events of 2 prompt(s); all values are finite\n")
    );
    // A row's hash is that of the row in the container.
    let container = mantissa_evidence::read(&session.path("record")).unwrap();
    let stored = &container.runs[1];
    for (event, position) in run
        .iter()
        .filter(|event| event.prompt_id == "p1")
        .flat_map(|event| event.positions.iter().map(move |position| (event, *position)))
    {
        let (phase, step) = (event.phase, usize::try_from(event.step.saturating_sub(1)).unwrap());
        let at = if phase == Phase::Prefill { usize::try_from(position).unwrap() - 1 } else { 2 };
        let row = stored.phase(phase).unwrap().tensors[&event.site().unwrap()].row(step, at).unwrap();
        assert_eq!(event.row_hash(position), Some(TraceHash::Blake3(Digest::of_bytes(row))));
    }
    // Tokens of decode steps are those that were generated.
    let fed = |event: &&StageTrace| event.prompt_id == "p1" && event.point == Point::Logits && event.step > 0;
    let tokens: Vec<u32> = run.iter().filter(fed).flat_map(|event| event.token_ids.clone()).collect();
    assert_eq!(tokens, stored.output_token_ids);
    assert!(container.configurations.iter().all(|one| {
        one.mantissa
            .as_ref()
            .is_some_and(|extras| !matches!(extras.reproducibility.outcome, Outcome::Divergent { .. }))
    }));
}

#[test]
fn threads_instruction_sets_and_standard_output_change_no_byte() {
    let session = with_model("llama");
    let base = [
        "trace",
        "--positions",
        "all",
        "--model",
        "model",
        "--prompt",
        "prompts.jsonl",
        "--decode-steps",
        "2",
    ];
    let output = |more: &[&str]| session.output(&[&base[..], more].concat()).stdout;
    let whole = output(&["--threads", "1", "--isa", "scalar"]);
    assert_eq!(output(&["--threads", "3"]), whole);
    assert_eq!(output(&["--format", "json"]), whole, "a trace is JSON Lines whichever is asked for");
    told(&session, &[&base[..], &["--out", "t.jsonl"]].concat());
    assert_eq!(fs::read(session.path("t.jsonl")).unwrap(), whole);
    // The header first, then the prefill of all positions.
    let (header, events) = trace(&session, "t.jsonl");
    assert_eq!(header.prompts.iter().map(|prompt| prompt.token_ids.len()).collect::<Vec<_>>(), [5, 4]);
    let rows = |event: &StageTrace| (event.positions.clone(), event.token_ids.clone(), event.seq_len);
    assert_eq!(rows(&events[0]), (vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8, 9], 5));
    let last = events.last().unwrap();
    assert_eq!((last.point, last.step, last.pos_id, last.shape), (Point::Logits, 2, 5, Some([1, 512])));
    // Prefill alone, of chosen sites.
    let some =
        ["--phases", "prefill", "--sites", "attn_out,logits", "--layers", "last", "--out", "some.jsonl"];
    told(&session, &[&base[..], &some].concat());
    let wanted = |event: &&StageTrace| {
        let site = event.site().unwrap().to_string();
        event.step == 0 && (site == "logits" || site == "layer_4.attn_out")
    };
    let expected: Vec<StageTrace> = events.iter().filter(wanted).cloned().collect();
    assert_eq!((trace(&session, "some.jsonl").1, expected.len()), (expected, 4));
}

#[test]
fn values_beside_a_trace_hash_to_it() {
    let session = with_model("llama");
    let traced = ["trace", "--positions", "all", "--tensors", "beside/values", "--out", "t.jsonl"];
    told(&session, &[&traced[..], &MODEL].concat());
    let (_, events) = trace(&session, "t.jsonl");
    let mut seen = 0;
    for prompt in ["p0", "p1"] {
        let name = format!("beside/values/{prompt}.safetensors");
        let bytes = fs::read(session.path(&name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for event in events.iter().filter(|event| event.prompt_id == prompt) {
            let place = event.tensor.as_ref().unwrap();
            assert_eq!(place.file, name);
            let tensor = file.tensor(&place.name).unwrap();
            assert_eq!(event.hash, Some(TraceHash::Blake3(Digest::of_bytes(tensor.data()))));
            let shape: Vec<u64> = tensor.shape().iter().map(|n| *n as u64).collect();
            assert_eq!(event.shape.map(Vec::from), Some(shape));
            seen += 1;
        }
    }
    assert_eq!(seen, events.len());
    // Without them the same events, of no place.
    told(&session, &[&["trace", "--positions", "all", "--out", "plain.jsonl"][..], &MODEL].concat());
    let without: Vec<StageTrace> =
        events.into_iter().map(|event| StageTrace { tensor: None, ..event }).collect();
    assert_eq!(trace(&session, "plain.jsonl").1, without);
}

#[test]
fn what_is_not_finite_is_named_at_its_first_place() {
    let session = with_model("llama");
    poison(&session.path("model/model.safetensors"), "model.layers.1.self_attn.o_proj.weight");
    let said = told(&session, &[&["trace", "--out", "t.jsonl"][..], &MODEL].concat());
    assert!(
        said.ends_with("; the first value that is not finite is at layer_2.attn_out of pass 0 of p0\n"),
        "{said}"
    );
    let (_, events) = trace(&session, "t.jsonl");
    let nan = |event: &StageTrace| event.nan.unwrap() > 0;
    let first = events.iter().position(nan).unwrap();
    assert_eq!(events[first].site().unwrap().to_string(), "layer_2.attn_out");
    assert!(!events[..first].iter().any(nan));
}

/// Writes a NaN at the beginning of a bf16 tensor.
fn poison(path: &Path, name: &str) {
    let mut bytes = fs::read(path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, _) = metadata.info(name).unwrap().data_offsets;
    bytes[8 + header + start..][..2].copy_from_slice(&0x7FC0u16.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_cannot_be_traced_is_refused_in_one_line() {
    let session = with_model("llama");
    told(
        &session,
        &[&["record", "--out", "two", "--attention", "eager,sdpa", "--reps", "1"][..], &MODEL].concat(),
    );
    fs::write(session.path("there.jsonl"), "").unwrap();
    fs::create_dir(session.path("values")).unwrap();
    fs::write(session.path("values/p1.safetensors"), "").unwrap();
    let with = |more: &[&'static str]| [&["trace"][..], &MODEL, more].concat();
    let cases = [
        vec!["trace"],
        vec!["trace", "two"],
        vec!["trace", "two", "--config", "three"],
        vec!["trace", "two", "--config", "cpu_bs1_eager_bf16", "--rep", "9"],
        vec!["trace", "two", "--model", "model"],
        vec!["trace", "two", "--dtype", "f32"],
        vec!["trace", "two", "--sites", "k"],
        vec!["trace", "two", "--threads", "1"],
        vec!["trace", "prompts.jsonl"],
        with(&["--batch-size", "1,2"]),
        with(&["--sites", "router_logits"]),
        with(&["--layers", "9"]),
        with(&["--positions", "0"]),
        with(&["--positions=-9"]),
        with(&["--phases", "training"]),
        with(&["--out", "there.jsonl"]),
        with(&["--force"]),
        with(&["--tensors", "../elsewhere", "--out", "t.jsonl"]),
        with(&["--tensors", "values", "--out", "t.jsonl"]),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|words| format!("$ mantissa {}\n{}", words.join(" "), session.failure(words)))
        .collect();
    insta::assert_snapshot!("refused", lines.join("\n"));
    assert!(!session.path("t.jsonl").exists());
}

/// What eval-callback would print of rows of eight values: the first and last three of each.
fn printed(rows: &[Vec<f32>]) -> String {
    let row = |row: &Vec<f32>| {
        let shown = |part: &[f32]| part.iter().map(|x| format!("{x:12.4}")).collect::<Vec<_>>().join(", ");
        format!("            [{},    ..., {}  ],\n", shown(&row[..3]), shown(&row[row.len() - 3..]))
    };
    let (width, count) = (rows[0].len(), rows.len());
    let tensor =
        format!("GET_ROWS(token_embd.weight{{{width}, 512, 1, 1}}, inp_tokens{{{count}, 1, 1, 1}}}})");
    let values: String = rows.iter().map(row).collect();
    format!(
        "ggml_debug: inp_embd = (f32) {tensor} = {{{width}, {count}, 1, 1}}\n    [\n\
         [\n{values}        ],\n    ]\n\
         sum = 0.000000\n"
    )
}

#[test]
fn dumps_of_other_programs_are_traced_and_compared() {
    let session = with_model("llama");
    fs::write(session.path("prompt.jsonl"), "[5, 6, 7, 8, 9]\n").unwrap();
    let traced = "trace --model model --prompt prompt.jsonl --positions all --phases prefill --tensors values --out \
                  ours.jsonl --dtype f32";
    told(&session, &traced.split(' ').collect::<Vec<_>>());
    let bytes = fs::read(session.path("values/p0.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let embedding = file.tensor("prefill/embed_out").unwrap();
    let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let width = embedding.shape()[1];
    let mut rows: Vec<Vec<f32>> = embedding
        .data()
        .chunks_exact(width * 4)
        .map(|row| row.chunks_exact(4).map(float).collect())
        .collect();
    fs::write(session.path("same.txt"), printed(&rows)).unwrap();
    rows[2][1] += 0.5;
    fs::write(session.path("other.txt"), printed(&rows)).unwrap();
    let drift = |other: &str| {
        let output = session.output(&["drift", "ours.jsonl", other, "--format", "json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    // Digits that agree are not called equal; one that differs is a difference at its row.
    let (code, found) = drift("same.txt");
    assert_eq!(
        (code, &found["counts"]["pairs"], &found["counts"]["incomparable"]),
        (Some(3), &0.into(), &5.into())
    );
    assert!(found["notes"].to_string().contains("that a program printed: 5"), "{found:#}");
    let (code, found) = drift("other.txt");
    assert_eq!(
        (code, &found["counts"]["pairs"], &found["first"]["position"]),
        (Some(3), &1.into(), &2.into())
    );
    // A trace of the text says the same, and has no values to keep.
    told(&session, &["trace", "other.txt", "--out", "llama.jsonl"]);
    assert_eq!(drift("llama.jsonl").1["counts"], found["counts"]);
    let refused = session.failure(&["trace", "other.txt", "--tensors", "none", "--out", "t.jsonl"]);
    assert!(refused.contains("some digits of values, and no values"), "{refused}");
    // SGLang's passes, and the trace of them.
    let dumps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dumps");
    let hook = dumps.join("sglang_hook").display().to_string();
    let said = told(&session, &["trace", &hook, "--tensors", "sglang", "--out", "sglang.jsonl"]);
    assert!(
        said.contains("trace: 25 events of 1 prompt(s)") && said.contains("self_attn.qkv_proj"),
        "{said}"
    );
    let (_, again) = trace(&session, "sglang.jsonl");
    assert!(again.iter().all(|event| event.tensor.is_some()));
    told(&session, &["drift", &hook, "sglang.jsonl"]);
    told(&session, &["drift", "sglang.jsonl", "sglang.jsonl"]);
    told(&session, &["drift", "sglang.jsonl", "sglang.jsonl", "--phases", "decode,decode"]);
}

#[test]
fn a_prefill_in_chunks_is_a_side_of_drift() {
    let session = with_model("llama");
    let drift = |parts: &str| {
        let words = format!("drift --model model --prompt prompts.jsonl {parts}");
        words.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    for parts in ["--b chunk=2", "--b cached=2", "--a padding=left:5", "--a padding=right:2 --b chunk=3"] {
        let words = drift(parts);
        told(&session, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for (parts, why) in [
        ("--b chunk=0", "chunk is a number of tokens, like chunk=64"),
        ("--b cached=4", "4 tokens are no part of a prefill of 4"),
        ("--b chunk=2 --b cached=2", "a prefill has one of them"),
        ("--b chunks=2", "no axis 'chunks' of a computed side"),
        ("--a model=other", "no axis 'model' of a computed side"),
        ("--setup repetition_penalty=1.1", "no axis 'repetition_penalty' of a computed side"),
        ("--a tp_size=2", "this engine's own arithmetic is of one rank"),
        ("--setup hardware=h200 --a ep_size=2", "the model has no experts"),
        ("--b compile=true", "there are no recipes for"),
        ("--setup hardware=h200 --b chunk=2", "not covered"),
    ] {
        let words = drift(parts);
        let refused = session.failure(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(refused.contains(why), "{parts}: {refused}");
    }
}
