//! Traces: statistics against plain arithmetic, the events of another program, files that are cut or lie, and rows of
//! evidence as events.

use std::path::Path;

use mantissa_evidence::record::RowKey;
use mantissa_evidence::trace::{
    RecordedTrace, Shown, ShownRow, StageTrace, Statistics, TensorTrace, Trace, TraceHash, TraceHeader,
    TraceKind, TraceReader, TraceWriter, TracedPrompt, prompt_id,
};
use mantissa_evidence::{Digest, EvidenceError, ModelIdentity, Record};
use mantissa_numerics::{Dtype, LayerIdx, Phase, Point, Site};
use proptest::prelude::*;

use crate::sample;

/// The two events of the report that named `stage_trace`, as it prints them.
const FOUNDING: &str = r#"{
  "event": "stage_trace",
  "prompt_id": "p0_short",
  "phase": "prefill_last",
  "point": "attn_out",
  "layer": 0,
  "step": 0,
  "pos_id": 37,
  "seq_len": 38,
  "hash": 4144761570523161186,
  "min": -0.00517679,
  "max": 0.00719859,
  "mean": -0.0000471849
}
{
  "event": "stage_trace",
  "prompt_id": "p0_short",
  "phase": "decode0",
  "point": "attn_out",
  "layer": 0,
  "step": 1,
  "pos_id": 37,
  "seq_len": 1,
  "hash": 10153995460507501903,
  "min": -0.00519423,
  "max": 0.00725079,
  "mean": -0.0000474128
}
"#;

fn read(text: &str) -> Result<Trace, EvidenceError> {
    Trace::from_reader(text.as_bytes(), Path::new("t.jsonl"))
}

/// The message of a refusal, which is one line with the line of the file and a remedy.
fn refusal(text: &str) -> String {
    let message = read(text).expect_err("accepted").to_string();
    assert!(message.starts_with("t.jsonl: ") && message.contains("; "), "{message}");
    assert!(!message.contains(char::is_control) && message.len() < 2000, "{message:?}");
    message
}

fn header() -> TraceHeader {
    let model = ModelIdentity { id: "tiny".to_owned(), weights_digest: None };
    let prompts = vec![TracedPrompt::of_ids("p0", vec![5, 6, 7]), TracedPrompt::of_ids("p1", vec![8])];
    TraceHeader { prompts, ..TraceHeader::new("test", model) }
}

/// Events of a prefill and a decode step of `p0`, and a prefill of `p1`.
fn events() -> Vec<StageTrace> {
    let site = |layer| Site::at(layer, Point::XOut);
    let mut whole = TensorTrace::new("p0", 0, 3, site(1), Dtype::Bf16);
    whole.push(&[(1, Some(6)), (2, Some(7))], &[1.0, -2.0, 0.0, f32::INFINITY]);
    let mut second = TensorTrace::new("p0", 0, 3, site(2), Dtype::Bf16);
    second.push(&[(2, Some(7))], &[f32::NAN, f32::NAN]);
    let mut step = TensorTrace::new("p0", 1, 1, site(1), Dtype::Bf16);
    step.push(&[(3, Some(9))], &[0.5, 0.25]);
    let mut other = TensorTrace::new("p1", 0, 1, Site::outside(Point::Logits), Dtype::F32);
    other.push(&[(0, Some(8))], &[-0.0, f32::NEG_INFINITY]);
    [whole, second, step, other].map(TensorTrace::finish).into()
}

fn text() -> String {
    let mut lines = Vec::new();
    let mut writer = TraceWriter::new(&mut lines, &header()).unwrap();
    for event in &events() {
        writer.event(event).unwrap();
    }
    writer.finish().unwrap();
    String::from_utf8(lines).unwrap()
}

/// The same in version 1, which has no end.
fn without_end() -> String {
    let text = text().replacen("\"version\":2", "\"version\":1", 1);
    text.lines().filter(|line| !line.contains("trace_end")).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn what_is_written_is_read() {
    let trace = read(&text()).unwrap();
    assert_eq!((trace.header, trace.events), (Some(header()), events()));
    // Values that JSON has no numbers for.
    assert!(text().contains(
        r#""max":"Infinity","mean":-0.3333333333333333,"abs_sum":3.0,"nan":0,"inf":1,"nonzero":3"#
    ));
    assert!(
        text().contains(r#""min":null,"max":null,"mean":null,"abs_sum":0.0,"nan":2,"inf":0,"nonzero":2"#)
    );
    assert!(text().contains(r#""min":"-Infinity","max":0.0,"mean":0.0,"#), "{}", text());
    let text = text();
    let mut reader = TraceReader::new(text.as_bytes(), Path::new("t.jsonl")).unwrap();
    assert_eq!((reader.kind(), reader.by_ref().count()), (TraceKind::Own, 4));
}

#[test]
fn the_founding_events_are_read() {
    for text in [FOUNDING.to_owned(), FOUNDING.replace(",\n  ", ", ").replace("{\n", "{").replace("\n}", "}")]
    {
        let Trace { header, events, has_end } = read(&text).unwrap();
        assert_eq!((header, has_end), (None, false));
        let [prefill, decode] = &events[..] else { panic!("{events:?}") };
        // Blocks are counted from 0 there, and from 1 here.
        assert_eq!((prefill.point, prefill.layer), (Point::AttnOut, Some(LayerIdx(1))));
        assert_eq!((prefill.phase, prefill.step, prefill.seq_len), (Phase::Prefill, 0, 38));
        assert_eq!((decode.phase, decode.step, decode.seq_len), (Phase::Decode, 1, 1));
        assert_eq!((prefill.pos_id, &prefill.positions), (37, &vec![37]));
        assert_eq!(prefill.hash, Some(TraceHash::Opaque(4_144_761_570_523_161_186)));
        assert_eq!(
            (decode.min, decode.max, decode.mean),
            (Some(-0.00519423), Some(0.00725079), Some(-0.0000474128))
        );
        // Rows pair, and differ, as the report says. With a hash of this program nothing can be said.
        let rows = [prefill, decode].map(|event| event.row_hash(37).unwrap());
        assert_eq!(rows[0].same(rows[1]), Some(false));
        assert_eq!(rows[0].same(events_hash()), None);
        assert_eq!((prefill.shape, prefill.nan, prefill.token(37)), (None, None, None), "nothing is guessed");
    }
}

fn events_hash() -> TraceHash {
    events()[0].hash.unwrap()
}

#[test]
fn a_trace_that_is_cut_off_says_where() {
    let whole = text();
    let whole = whole.trim_end();
    let starts: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    for end in 0..whole.len() {
        let Some(cut) = whole.get(..end) else { continue };
        if starts.contains(&end) || starts.contains(&(end + 1)) {
            // Whole lines: the end is missing.
            let line = cut.lines().count();
            let expected =
                format!("line {line}.trace_end: {} events and no end: the file was cut off", line - 1);
            assert!(refusal(cut).contains(&expected), "{cut}");
            continue;
        }
        let line = cut.lines().count().max(1);
        let message = refusal(cut);
        let place = if end == 0 { "layout".to_owned() } else { format!("line {line}, column ") };
        assert!(message.contains(&place), "{end}: {message}");
    }
    // Of version 1, whole lines are a shorter trace, of which nothing says that it was longer.
    let old = without_end();
    let lines: Vec<&str> = old.lines().collect();
    for count in 1..=lines.len() {
        let trace = read(&lines[..count].join("\n")).unwrap();
        assert_eq!((trace.events.len(), trace.has_end), (count - 1, false));
    }
    for end in 1..FOUNDING.find("\n{").unwrap() {
        assert!(refusal(&FOUNDING[..end]).contains("the file was cut off"), "{end}");
    }
}

#[test]
fn each_contradiction_is_named_with_its_line() {
    let text = text();
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        text.replacen(from, to, 1)
    };
    let line = |number: usize| text.lines().nth(number - 1).unwrap();
    let huge = format!("{}{}", line(1), " ".repeat((64 << 20) + 1));
    let cases = [
        (edit("\"version\":2", "\"version\":3"), "format version 3 is newer than 2"),
        (edit("\"version\":2", "\"version\":\"2\""), "line 1, column"),
        (edit("\"version\":2", "\"version\":1"), "line 6.trace_end: in a trace of version 1"),
        (edit("\"events\":4", "\"events\":5"), "line 6.trace_end: it says 5 events, and there are 4"),
        (edit("\"max\":0.0", "\"max\":0.5"), "line 6.trace_end: altered or damaged"),
        (text.clone() + line_of(&text, 2) + "\n", "line 7.event: a line behind the end"),
        (
            text.lines().filter(|line| !line.contains("\"p1\",\"phase")).collect::<Vec<_>>().join("\n"),
            "there are 3",
        ),
        (
            edit("\"prompts\":[{\"prompt_id\":\"p0\"", "\"prompts\":[{\"prompt_id\":\"p1\""),
            "line 1.prompts: 'p1'",
        ),
        (edit("[5,6,7]", "[5,6,8]"), "line 1.prompts[0].digest: altered or damaged"),
        (edit("\"token_ids\":[6,7]", "\"token_ids\":[6,8]"), "line 2.token_ids: token 8 at position 2"),
        (edit("\"token_ids\":[6,7]", "\"token_ids\":[6]"), "line 2.token_ids: 1 for 2 positions"),
        (edit("\"positions\":[1,2]", "\"positions\":[2,2]"), "line 2.positions: not ascending up to pos_id"),
        (edit("\"pos_id\":2", "\"pos_id\":1"), "line 2.positions: not ascending up to pos_id"),
        (edit("\"shape\":[2,2]", "\"shape\":[3,2]"), "line 2.shape: [3, 2] for 2 positions"),
        (edit("\"shape\":[2,2]", "\"shape\":[2,18446744073709551616]"), "line 2, column"),
        (edit("\"seq_len\":3", "\"seq_len\":4"), "line 2.seq_len: 4 of a prefill of 3 tokens"),
        (edit("\"layer\":1", "\"layer\":0"), "line 2.layer: 0: layers are counted from 1"),
        (edit("\"layer\":1", "\"layer\":null"), "line 2.layer: x_out with layer None"),
        (
            edit("\"layer\":2", "\"layer\":1"),
            "line 3.point: layer_1.x_out of pass 0 is there twice or out of order",
        ),
        (
            edit(
                "\"phase\":\"decode\",\"point\":\"x_out\",\"layer\":1,\"step\":1",
                "\"phase\":\"decode\",\"point\":\"x_out\",\"layer\":1,\"step\":0",
            ),
            "line 4.step: 0 of a decode",
        ),
        (edit("\"dtype\":\"bf16\"", "\"dtype\":\"bf61\""), "unknown variant `bf61`"),
        (edit("\"nan\":0", "\"nan\":-1"), "line 2, column"),
        (edit("\"nan\":0", "\"nam\":0"), "unknown field `nam`"),
        (edit("\"nan\":0", "\"nan\":0,\"nan\":0"), "duplicate field `nan`"),
        (edit("\"min\":-2.0", "\"min\":\"NaN\""), "line 2, column"),
        (edit("\"event\":\"stage_trace\"", "\"event\":\"stage\""), "unknown variant `stage`"),
        (edit("\"p1\",\"phase\"", "\"p2\",\"phase\""), "line 5.prompt_id: 'p2' is not in the header"),
        (
            format!("{}\n{}", without_end().trim_end(), line(2)),
            "line 6.prompt_id: 'p0' is not in the header, or out of order",
        ),
        (format!("{}\n{}", line(1), line(1)), "line 2.event: a second header"),
        (format!("{}\n{}", line(1), line(2).replace(&events_hash().to_string(), "7")), "line 2, column"),
        (huge, "line 1.length: longer than 64 MiB"),
        (String::new(), "an empty file"),
        ("once upon a time".to_owned(), "line 1, column 1"),
        (FOUNDING.replace("attn_out", "attn"), "line 14.point: 'attn' is not known"),
        (FOUNDING.replace("decode0", "decode_0"), "line 28.phase: 'decode_0' is not known"),
        (FOUNDING.replace("\"layer\": 0", "\"layer\": -1"), "line 14.layer: not a block counted from 0"),
        (FOUNDING.replace("1015399546050750190", "-1015399546050750190"), "line 24, column 31: invalid type"),
        (
            FOUNDING.replace("\"decode0\"", "\"prefill_last\"").replace("\"step\": 1", "\"step\": 0"),
            "line 28.point: the same event as in line 14",
        ),
    ];
    for (text, expected) in cases {
        let message = refusal(&text);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

fn line_of(text: &str, number: usize) -> &str {
    text.lines().nth(number - 1).unwrap()
}

/// What another program printed: some digits, and no hash.
#[test]
fn shown_values_are_read_and_checked() {
    let row = |position, values: [&str; 2]| ShownRow { position, values: values.map(str::to_owned).into() };
    let shown =
        Shown { columns: vec![0, 3], rows: vec![row(1, ["0.0123", "-1.5000"]), row(2, ["nan", "-inf"])] };
    let [whole, ..] = &events()[..] else { panic!() };
    let event = StageTrace {
        hash: None,
        rows: Vec::new(),
        shape: Some([2, 4]),
        sum: Some("-0.250000".to_owned()),
        shown: Some(shown),
        ..whole.clone()
    };
    let written = |event: &StageTrace| {
        let mut lines = Vec::new();
        let mut writer = TraceWriter::new(&mut lines, &header()).unwrap();
        writer.event(event).unwrap();
        writer.finish().unwrap();
        String::from_utf8(lines).unwrap()
    };
    assert_eq!(read(&written(&event)).unwrap().events, std::slice::from_ref(&event));
    assert_eq!((event.row_hash(1), event.row_hash(2)), (None, None));
    let shown = |change: fn(&mut Shown)| {
        let mut event = event.clone();
        change(event.shown.as_mut().unwrap());
        event
    };
    for (lying, expected) in [
        (
            StageTrace { shown: None, ..event.clone() },
            "line 2.hash: absent, and nothing is shown in its place",
        ),
        (StageTrace { sum: Some("1e3".to_owned()), ..event.clone() }, "line 2.sum: no number"),
        (shown(|shown| shown.columns = vec![3, 0]), "line 2.shown: columns or rows are not ascending"),
        (shown(|shown| shown.columns = vec![0, 4]), "line 2.shown: a column behind the last of 4"),
        (shown(|shown| shown.rows[0].position = 0), "line 2.shown: position 0 is none of the event's"),
        (shown(|shown| shown.columns = vec![0]), "line 2.shown: 2 values for 1 columns"),
        (
            shown(|shown| shown.rows[0].values[1] = "x".to_owned()),
            "line 2.shown: position 1: a value is no number",
        ),
    ] {
        let message = refusal(&written(&lying));
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

/// The beginning of what llama.cpp's README shows, and a dump as SGLang names its files.
#[test]
fn what_other_programs_print_is_named_and_not_guessed_at() {
    let callback = "llama_new_context_with_model: n_ctx      = 512\n...\n\
        ggml_debug:     inp_embd = (f32)   GET_ROWS(token_embd.weight{2560, 51200, 1, 1}, inp_tokens{1, 1, 1, 1}}) = \
        {2560, 1, 1, 1}\n  [\n   [\n    [ -0.0181,   0.0272,   0.0272, ...],\n   ],\n  ]\n";
    assert!(
        refusal(callback).contains("what llama.cpp's eval-callback prints; `mantissa trace t.jsonl --out")
    );
    assert!(refusal(&callback.replace("ggml_debug", "common_debug_cb_eval")).contains("makes a trace of it"));
    assert!(refusal(&callback.replace("ggml_debug", "debug")).contains("line 1, column 1"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forward_pass_id=1___rank=0___name=hidden_states___dump_index=1.pt");
    std::fs::write(&file, b"PK\x03\x04").unwrap();
    for path in [folder.path(), &file] {
        let message = Trace::open(path).unwrap_err().to_string();
        let named =
            message.contains("a dump of tensors of SGLang") && message.ends_with("makes a trace of it");
        assert!(named, "{message}");
    }
}

#[test]
fn the_hash_of_the_only_row_is_that_of_the_tensor() {
    let text = text();
    let only = text.lines().nth(3).unwrap();
    let hash = events()[2].hash.unwrap().to_string();
    let lying = only.replacen(&hash, &Digest::of_bytes(b"other").to_string(), 1);
    let message = refusal(&format!("{}\n{lying}", text.lines().next().unwrap()));
    assert!(message.contains("line 2.rows: the only row has another hash"), "{message}");
}

/// Statistics as their text says, written once more: extremes and counts by definition, sums lane by lane.
fn plain(rows: &[Vec<f32>]) -> (Option<f64>, Option<f64>, Option<f64>, f64, [u64; 3]) {
    let all = || rows.iter().flatten().map(|x| f64::from(*x));
    let numbers: Vec<f64> = all().filter(|x| !x.is_nan()).collect();
    let extreme = |order: fn(f64, f64) -> f64| numbers.iter().copied().reduce(order).map(|x| x + 0.0);
    let sum = |of: fn(f64) -> f64| {
        let mut total = 0.0;
        for row in rows {
            let mut lanes = [0.0; 16];
            for (index, x) in row.iter().enumerate().filter(|(_, x)| x.is_finite()) {
                lanes[index % 16] += of(f64::from(*x));
            }
            let eight: Vec<f64> = (0..8).map(|lane| lanes[lane] + lanes[lane + 8]).collect();
            let four: Vec<f64> = (0..4).map(|lane| eight[lane] + eight[lane + 4]).collect();
            total += (four[0] + four[2]) + (four[1] + four[3]);
        }
        total
    };
    let count = |which: fn(f64) -> bool| all().filter(|x| which(*x)).count() as u64;
    let finite = count(f64::is_finite);
    let mean = (finite > 0).then(|| sum(|x| x) / f64::from(u32::try_from(finite).unwrap()));
    let counts = [count(f64::is_nan), count(f64::is_infinite), count(|x| x != 0.0)];
    (extreme(f64::min), extreme(f64::max), mean, sum(f64::abs), counts)
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => any::<u32>().prop_map(f32::from_bits),
        4 => -4.0f32..4.0,
        1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => Just(f32::NEG_INFINITY), 1 => Just(-0.0), 1 => Just(0.0),
    ]
}

proptest! {
    #[test]
    fn statistics_are_those_of_plain_arithmetic(
        rows in (1usize..70).prop_flat_map(|width| proptest::collection::vec(
            proptest::collection::vec(value(), width), 1..5))
    ) {
        let mut found = Statistics::default();
        for row in &rows {
            found.add(&Statistics::of(row));
        }
        let bits = |x: Option<f64>| x.map(f64::to_bits);
        let (min, max, mean, abs_sum, counts) = plain(&rows);
        prop_assert_eq!([found.min(), found.max(), found.mean()].map(bits), [min, max, mean].map(bits));
        prop_assert_eq!(found.abs_sum().to_bits(), abs_sum.to_bits());
        prop_assert_eq!([found.nan(), found.inf(), found.nonzero()], counts);
    }
}

#[test]
fn rows_in_blocks_and_on_many_threads_are_the_same_event() {
    let (rows, width) = (300u64, 512usize);
    let value = |n: u32| Dtype::Bf16.round(f32::from(u16::try_from(n % 60_007).unwrap()).sin());
    let values: Vec<f32> = (0..300 * 512).map(value).collect();
    let names: Vec<(u64, Option<u32>)> = (0..rows).map(|row| (row, Some(9))).collect();
    let new = || TensorTrace::new("p0", 0, rows, Site::outside(Point::EmbedOut), Dtype::Bf16).keep(true);
    let mut whole = new();
    whole.push(&names, &values);
    let mut parts = new();
    for (name, row) in names.iter().zip(values.chunks(width)) {
        parts.push(&[*name], row);
    }
    let (event, bytes) = whole.finish_with_values();
    assert_eq!(parts.finish_with_values(), (event.clone(), bytes.clone()));
    // What is stored is what was computed.
    let mut stored = new();
    stored.push_stored(&names, &bytes);
    assert_eq!(stored.finish_with_values(), (event.clone(), bytes.clone()));
    assert_eq!(event.hash, Some(TraceHash::Blake3(Digest::of_bytes(&bytes))));
    let row = |at: usize| TraceHash::Blake3(Digest::of_bytes(&bytes[at * width * 2..][..width * 2]));
    assert!((0..300).all(|at| event.rows[at] == row(at)));
}

/// Every row that a record stores stands in its trace once, at the pass that computed it.
#[test]
fn a_record_is_traced_row_by_row() {
    let record = Record::from_experiment(sample::fixture(), Path::new("memory"));
    for (index, run) in record.shell().runs.iter().enumerate() {
        let trace = RecordedTrace::new(&record, &run.config_id, Some(run.rep_id)).unwrap();
        let mut lines = Vec::new();
        let mut writer = TraceWriter::new(&mut lines, &trace.header("test")).unwrap();
        let mut each = |event: StageTrace, bytes: Vec<u8>| {
            assert_eq!(event.hash, Some(TraceHash::Blake3(Digest::of_bytes(&bytes))));
            writer.event(&event).unwrap();
            Ok::<(), EvidenceError>(())
        };
        trace.events(true, &mut each).unwrap();
        writer.finish().unwrap();
        let mut events = Trace::from_reader(&lines[..], Path::new("memory")).unwrap().events;
        events.retain(|event| event.prompt_id == prompt_id(run.reference_id));
        let traced: usize = events.iter().map(|event| event.positions.len()).sum();
        assert!(traced > 0 && rows_found(&record, index, &events) == traced, "{index}: {traced}");
    }
}

/// How many rows of a run no earlier pass stored; each is compared with its event.
fn rows_found(record: &Record, index: usize, events: &[StageTrace]) -> usize {
    let run = &record.shell().runs[index];
    let length = i64::try_from(run.prompt_token_ids.len()).unwrap();
    let (mut found, mut scratch, mut before) = (0, Vec::new(), Vec::new());
    for phase in [Phase::Prefill, Phase::Decode] {
        let layout = record.layout(index, phase).unwrap();
        for (site, step) in
            layout.tensors.keys().flat_map(|site| layout.steps.clone().map(move |step| (*site, step)))
        {
            for position in &layout.positions {
                let key = RowKey { phase, step, position: *position };
                if key.earlier().any(|key| record.row(index, site, key, &mut before).unwrap().is_some()) {
                    continue;
                }
                let row = record.row(index, site, key, &mut scratch).unwrap().unwrap();
                let pass = u64::try_from(key.token() + 1).unwrap_or(0);
                let event =
                    events.iter().find(|event| event.site() == Some(site) && event.step == pass).unwrap();
                let at = u64::try_from(length + key.token()).unwrap();
                assert_eq!(event.row_hash(at), Some(TraceHash::Blake3(Digest::of_bytes(row))), "{key:?}");
                let fed = run
                    .prompt_token_ids
                    .iter()
                    .chain(&run.output_token_ids)
                    .nth(usize::try_from(at).unwrap());
                assert_eq!(event.token(at), fed.copied());
                found += 1;
            }
        }
    }
    found
}
