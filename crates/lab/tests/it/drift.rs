//! Two computations of the same tokens: what is equal, explained, unexplained, and what cannot be localized.

use std::path::Path;

use mantissa_engine::{Catalogs, Isa};
use mantissa_evidence::trace::{RecordedTrace, TensorFiles, Trace};
use mantissa_evidence::{EvidenceError, Experiment, Record};
use mantissa_lab::document::Document;
use mantissa_lab::drift::{Computed, PrefillPasses, Request, Side, drift};
use mantissa_lab::prompt::PromptSpec;
use mantissa_lab::prompt::given::{Content, Given, GivenPrompt};
use mantissa_lab::{LabError, Machine, RecordSpec, Recorder, SignalSpec};
use mantissa_model::synth::{SynthSpec, write};
use mantissa_model::{Arch, Checkpoint, Tokenizer};
use mantissa_numerics::setup::{Hardware, Padding, Program, SomeAxes};
use mantissa_numerics::{Dtype, Generation, LayerIdx, Phase, Point, Setup, Site};
use mantissa_verdict::drift::{Drift, DriftAnswer};

const TOKENS: usize = 12;
const EVERY: [Point; 10] = [
    Point::EmbedOut,
    Point::XIn,
    Point::Q,
    Point::V,
    Point::AttnOut,
    Point::XAfterAttn,
    Point::FfnNorm,
    Point::RouterTopk,
    Point::MlpOut,
    Point::Logits,
];

fn machine() -> Machine {
    Machine { threads: 1, isa: Isa::detect() }
}

fn model(folder: &Path, arch: Arch) -> Checkpoint {
    write(&SynthSpec::tiny(arch, 7), folder, &|_| {}).unwrap();
    Checkpoint::open(folder).unwrap()
}

/// A record of every site but those `without`, at every position.
fn recorded(folder: &Path, checkpoint: &Checkpoint, setup: Setup, without: &[Point]) -> Experiment {
    let has = |point| point != Point::RouterTopk || checkpoint.config().arch == Arch::QWEN3_MOE;
    let ids = (1..=u32::try_from(TOKENS).unwrap()).collect();
    let prompt =
        GivenPrompt { name: "ids".to_owned(), file_blake3: "0".repeat(64), content: Content::Ids(ids) };
    let spec = RecordSpec {
        model: "tiny".to_owned(),
        prompt: PromptSpec {
            given: Some(Given { references: vec![prompt], neighbours: Vec::new() }),
            ..PromptSpec::default()
        },
        cells: vec![setup],
        decode_steps: 2,
        repetitions: 1,
        forced: None,
        signals: SignalSpec {
            layers: Some((1..=4).map(mantissa_lab::Layer::Number).collect()),
            positions: (1..=i32::try_from(TOKENS).unwrap()).rev().map(|back| -back).collect(),
            points: EVERY.into_iter().filter(|point| !without.contains(point) && has(*point)).collect(),
            top_k: 1,
        },
        generation: Generation::default(),
    };
    let recorder = Recorder {
        checkpoint,
        tokenizer: Some(&Tokenizer::open(folder).unwrap()),
        documents: &Document::built_in(),
        spec: &spec,
        catalogs: Catalogs::built_in(),
        machine: machine(),
    };
    let out = tempfile::tempdir().unwrap();
    let directory = recorder.record(&out.path().join("record"), &|_| {}).unwrap().directory;
    Record::open(&directory).unwrap().experiment().unwrap()
}

fn beside_the_engine(
    checkpoint: &Checkpoint,
    experiment: Experiment,
    setup: Setup,
) -> Result<Drift, LabError> {
    let record = Record::from_experiment(experiment, "planted".as_ref());
    let claimed = SomeAxes::default();
    let side = Side::Recorded { record: &record, config: None, claimed: &claimed };
    let computed =
        Side::Computed(Computed { setup, prompts: &[], decoded: 0, prefill: PrefillPasses::Whole });
    drift(
        &Request {
            sides: [computed, side],
            model: Some(checkpoint),
            catalogs: Catalogs::built_in(),
            machine: machine(),
        },
        &|_, _| {},
    )
}

/// Changes the rows of a site, in the prefill.
fn changed(experiment: &mut Experiment, site: Site, change: impl Fn(usize, &mut [f32])) {
    let tensor = experiment.runs[0].prefill.as_mut().unwrap().tensors.get_mut(&site).unwrap();
    let (dtype, width) = (tensor.dtype, tensor.shape[2]);
    let mut bytes = Vec::new();
    for position in 0..tensor.shape[1] {
        let at = |index: usize| dtype.decode(&tensor.data, position * width + index);
        let mut row: Vec<f32> = (0..width).map(at).collect();
        change(position, &mut row);
        for x in row {
            dtype.encode(x, &mut bytes);
        }
    }
    tensor.data = bytes;
}

#[test]
fn what_the_engine_recorded_is_reproduced_and_equal() {
    for (arch, dtype) in [(Arch::LLAMA, Dtype::F32), (Arch::QWEN3_MOE, Dtype::Bf16)] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = model(folder.path(), arch);
        let setup = Setup { dtype, ..Setup::default() };
        let found =
            beside_the_engine(&checkpoint, recorded(folder.path(), &checkpoint, setup, &[]), setup).unwrap();
        assert_eq!(found.answer, DriftAnswer::Equal, "{arch:?}");
        assert_eq!(found.sides.each_ref().map(|side| side.reproduced), [Some(true); 2]);
        // Prompt and two decode steps, at four layers of at least seven points.
        assert!(found.counts.pairs >= (TOKENS as u64 + 2) * 28, "{:?}", found.counts);
        assert_eq!(found.counts.missing + found.counts.missing_in_a, 0);
    }
}

#[test]
fn a_batch_is_explained_by_the_products_that_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup { dtype: Dtype::F32, ..Setup::default() };
    let other = Setup { batch_size: 9, ..setup };
    let prompts = [(1..12).collect::<Vec<u32>>()];
    let side = |setup| {
        Side::Computed(Computed { setup, prompts: &prompts, decoded: 3, prefill: PrefillPasses::Whole })
    };
    let request = Request {
        sides: [side(setup), side(other)],
        model: Some(&checkpoint),
        catalogs: Catalogs::built_in(),
        machine: machine(),
    };
    let found = drift(&request, &|_, _| {}).unwrap();
    assert_eq!(found.answer, DriftAnswer::Explained);
    assert!(found.counts.equal > 0 && found.counts.explained > 0, "{:?}", found.counts);
    let names: Vec<&str> = found.causes.iter().map(|cause| cause.node.as_str()).collect();
    assert!(names.contains(&"q_proj") && !names.contains(&"input_norm"), "{names:?}");
    // The first difference is behind the first products.
    let first = found.first.unwrap();
    assert!(first.layer.is_some_and(|layer| layer.0 == 1) && first.point <= Point::V, "{first:?}");
}

#[test]
fn one_wrong_element_is_unexplained_where_it_arose_alone() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup { dtype: Dtype::Bf16, ..Setup::default() };
    let mut experiment = recorded(folder.path(), &checkpoint, setup, &[]);
    // Logits are read by nothing else.
    changed(&mut experiment, Site::outside(Point::Logits), |position, row| {
        if position == 5 {
            row[3] += 1.0;
        }
    });
    let found = beside_the_engine(&checkpoint, experiment, setup).unwrap();
    assert_eq!((found.answer, found.counts.unexplained), (DriftAnswer::Unexplained, 1));
    let first = found.first_unexplained.unwrap();
    assert_eq!((first.position, first.layer, first.point), (5, None, Point::Logits));
    let pair = found.pairs.iter().find(|pair| pair.answer == DriftAnswer::Unexplained).unwrap();
    assert!(pair.bound.unwrap() > 1.0 && !pair.arrived, "{pair:?}");
    assert!(found.hypotheses.is_empty(), "{:?}", found.hypotheses);
}

#[test]
fn another_token_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup { dtype: Dtype::Bf16, ..Setup::default() };
    let mut experiment = recorded(folder.path(), &checkpoint, setup, &[]);
    let table = checkpoint.weight("model.embed_tokens.weight").unwrap();
    let mut other = vec![0.0; table.cols];
    table.row_f32(77, &mut other);
    changed(&mut experiment, Site::outside(Point::EmbedOut), |position, row| {
        if position == 4 {
            row.copy_from_slice(&other);
        }
    });
    let found = beside_the_engine(&checkpoint, experiment, setup).unwrap();
    let named = found.hypotheses.iter().find(|one| one.point == Point::EmbedOut).unwrap();
    assert_eq!((named.name.as_str(), named.answer), ("wrong_token", DriftAnswer::Equal));
    assert!(named.detail.contains("token 77 in place of 5 at position 4"), "{}", named.detail);
}

#[test]
fn what_lacks_its_inputs_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup { dtype: Dtype::Bf16, ..Setup::default() };
    let mut experiment = recorded(folder.path(), &checkpoint, setup, &[Point::Q, Point::V]);
    changed(&mut experiment, Site::at(2, Point::AttnOut), |position, row| {
        if position > 0 {
            row[0] += 1.0;
        }
    });
    // Queries and values follow from the block's input, unless that is left out too.
    let signals = experiment.runs[0].prefill.as_mut().unwrap();
    signals.tensors.remove(&Site::at(2, Point::XIn));
    signals.tensors.remove(&Site::at(1, Point::XOut));
    let found = beside_the_engine(&checkpoint, experiment, setup).unwrap();
    let site = found.sites.iter().find(|known| known.site() == Site::at(2, Point::AttnOut)).unwrap();
    assert_eq!(site.answer, DriftAnswer::NotLocalized);
    let needs = site.needs.as_deref().unwrap();
    assert_eq!(needs, "record layer_2.q, layer_2.v at every position (--sites q,v --layers 2)");
}

#[test]
fn runs_of_other_tokens_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup::default();
    let experiment = recorded(folder.path(), &checkpoint, setup, &[]);
    let mut other = experiment.clone();
    other.runs[0].prompt_token_ids.iter_mut().for_each(|id| *id += 40);
    let (a, b) =
        (Record::from_experiment(experiment, "a".as_ref()), Record::from_experiment(other, "b".as_ref()));
    assert!(a.layout(0, Phase::Prefill).is_some());
    let claimed = SomeAxes::default();
    let side = |record| Side::Recorded { record, config: None, claimed: &claimed };
    let request = Request {
        sides: [side(&a), side(&b)],
        model: None,
        catalogs: Catalogs::built_in(),
        machine: machine(),
    };
    let refused = drift(&request, &|_, _| {}).unwrap_err().to_string();
    assert!(refused.contains("no two runs begin with the same tokens"), "{refused}");
}

#[test]
fn a_row_that_is_no_number_is_unexplained() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup { dtype: Dtype::Bf16, ..Setup::default() };
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut experiment = recorded(folder.path(), &checkpoint, setup, &[]);
        changed(&mut experiment, Site::at(2, Point::FfnNorm), |position, row| {
            if position == 3 {
                row[1] = wrong;
            }
        });
        let found = beside_the_engine(&checkpoint, experiment, setup).unwrap();
        let first = found.first_unexplained.unwrap();
        assert_eq!((first.layer, first.point), (Some(LayerIdx(2)), Point::FfnNorm), "{wrong}");
    }
}

#[test]
fn nothing_that_can_be_recomputed_is_nothing_reproduced() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup { dtype: Dtype::Bf16, ..Setup::default() };
    // Of the values of one layer alone nothing follows.
    let but_values: Vec<Point> = EVERY.into_iter().filter(|point| *point != Point::V).collect();
    let mut experiment = recorded(folder.path(), &checkpoint, setup, &but_values);
    experiment.runs[0].prefill.as_mut().unwrap().tensors.retain(|site, _| *site == Site::at(2, Point::V));
    experiment.runs[0].decode = None;
    let found = beside_the_engine(&checkpoint, experiment, setup).unwrap();
    assert_eq!(found.sides.each_ref().map(|side| side.reproduced), [None; 2]);
    assert!(found.causes.is_empty());
}

#[test]
fn an_expert_that_no_model_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::QWEN3_MOE);
    let setup = Setup { dtype: Dtype::Bf16, ..Setup::default() };
    let mut experiment = recorded(folder.path(), &checkpoint, setup, &[]);
    changed(&mut experiment, Site::at(1, Point::RouterTopk), |position, row| {
        if position == 2 {
            row[0] = 4096.0;
        }
    });
    let refused = beside_the_engine(&checkpoint, experiment, setup).unwrap_err().to_string();
    assert!(refused.contains("layer_1.router_topk, position 2: names an expert"), "{refused}");
}

/// Sides that people compare: chunked against one-shot, a cached prefix against none, padding against none.
#[test]
fn a_prefill_in_parts_and_padding_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let compared = |tokens, dtype, prefill, padding| {
        let prompts = [(1..=tokens).collect::<Vec<u32>>()];
        let side = |prefill, padding| {
            let setup = Setup { dtype, padding, ..Setup::default() };
            Side::Computed(Computed { setup, prompts: &prompts, decoded: 2, prefill })
        };
        let request = Request {
            sides: [side(PrefillPasses::Whole, Padding::None), side(prefill, padding)],
            model: Some(&checkpoint),
            catalogs: Catalogs::built_in(),
            machine: machine(),
        };
        drift(&request, &|_, _| {})
    };
    for dtype in [Dtype::F32, Dtype::Bf16] {
        for (tokens, prefill, padding, by_products) in [
            (21, PrefillPasses::Chunks(4), Padding::None, true),
            (21, PrefillPasses::Cached(5), Padding::None, true),
            (21, PrefillPasses::Chunks(3), Padding::Left(5), true),
            // Five rows are summed otherwise than thirteen.
            (7, PrefillPasses::Whole, Padding::Left(8), true),
            // A sum over lanes is the same wherever its first element stands: left padding changes no bit.
            (21, PrefillPasses::Whole, Padding::Left(5), false),
            (21, PrefillPasses::Whole, Padding::Right(7), false),
        ] {
            let found = compared(tokens, dtype, prefill, padding).unwrap();
            let what = format!("{dtype:?} {prefill:?} {padding:?}: {:?} {:?}", found.counts, found.causes);
            assert!(found.answer <= DriftAnswer::Explained, "{what}");
            assert_eq!(found.sides.each_ref().map(|side| side.reproduced), [Some(true); 2], "{what}");
            assert_eq!(found.counts.missing + found.counts.missing_in_a, 0, "{what}");
            assert_eq!(found.counts.equal + found.counts.explained, found.counts.pairs, "{what}");
            let names: Vec<&str> = found.causes.iter().map(|cause| cause.node.as_str()).collect();
            if by_products && dtype == Dtype::F32 {
                assert!(
                    names.iter().any(|name| name.ends_with("_proj")) && found.counts.explained > 0,
                    "{what}"
                );
                assert!(found.causes.iter().all(|cause| cause.a != cause.b), "{what}");
            } else if !by_products {
                assert!(names.iter().all(|name| *name == "attention"), "{what}");
            }
        }
    }
    // As many tokens as there are: one pass.
    let whole = compared(21, Dtype::F32, PrefillPasses::Chunks(19), Padding::None).unwrap();
    assert_eq!(whole.answer, DriftAnswer::Equal);
    let refused = compared(21, Dtype::F32, PrefillPasses::Cached(19), Padding::None).unwrap_err().to_string();
    assert!(refused.contains("19 tokens are no part of a prefill of 19"), "{refused}");
}

/// A trace with its values beside it is recomputed as a record is.
#[test]
fn a_trace_with_values_is_read_as_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let setup = Setup { dtype: Dtype::Bf16, ..Setup::default() };
    let mut experiment = recorded(folder.path(), &checkpoint, setup, &[]);
    changed(&mut experiment, Site::at(2, Point::MlpOut), |position, row| {
        if position == 3 {
            row[1] += 4.0;
        }
    });
    let record = Record::from_experiment(experiment, "planted".as_ref());
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("trace.jsonl");
    let of_record = RecordedTrace::new(&record, &record.shell().configurations[0].config_id, None).unwrap();
    let mut files = TensorFiles::new(out.path(), "");
    let mut events = Vec::new();
    of_record
        .events(true, &mut |mut event, values| {
            files.add(&mut event, &values)?;
            events.push(event);
            Ok::<(), EvidenceError>(())
        })
        .unwrap();
    files.finish().unwrap();
    let trace = Trace { header: Some(of_record.header("test")), events, has_end: true };
    let claimed = SomeAxes::default();
    let traced = Side::Traced { trace: &trace, path: &path, claimed: &claimed };
    let of_record = Side::Recorded { record: &record, config: None, claimed: &claimed };
    let prefill = PrefillPasses::Whole;
    let computed = Side::Computed(Computed { setup, prompts: &[], decoded: 0, prefill });
    let between = |sides, model| {
        let (catalogs, machine) = (Catalogs::built_in(), machine());
        drift(&Request { sides, model, catalogs, machine }, &|_, _| {}).unwrap()
    };
    // The record it was made of, row by row, without a model.
    let same = between([of_record, traced], None);
    assert_eq!((same.answer, same.counts.equal), (DriftAnswer::Equal, same.counts.pairs));
    assert!(
        same.counts.pairs > 100 && same.counts.missing + same.counts.missing_in_a == 0,
        "{:?}",
        same.counts
    );
    // Beside the engine, the same findings as the record's.
    let [by_trace, by_record] = [traced, of_record].map(|side| between([computed, side], Some(&checkpoint)));
    assert_eq!((by_trace.answer, by_trace.counts), (DriftAnswer::Unexplained, by_record.counts));
    let place = |found: &Drift| found.first_unexplained.as_ref().map(|at| (at.position, at.layer, at.point));
    assert_eq!(place(&by_trace), place(&by_record));
    assert_eq!(by_trace.first_unexplained.unwrap().layer.map(|layer| layer.0), Some(2));
}

/// What nobody computes is no side: it would be equal to the plain one.
#[test]
fn a_computed_side_without_recipes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = model(folder.path(), Arch::LLAMA);
    let prompts = [(1..9).collect::<Vec<u32>>()];
    let plain = Setup::default();
    for (other, why) in [
        (Setup { tp_size: 2, ..plain }, "own arithmetic is of one rank"),
        (Setup { ep_size: 2, ..plain }, "own arithmetic is of one rank"),
        (Setup { engine: Program::Vllm024, ..plain }, "own arithmetic is of one rank"),
        (Setup { ep_size: 2, hardware: Hardware::H200, ..plain }, "the model has no experts"),
        (Setup { compile: true, ..plain }, "there are no recipes for"),
    ] {
        let side = |setup| {
            Side::Computed(Computed { setup, prompts: &prompts, decoded: 2, prefill: PrefillPasses::Whole })
        };
        let request = Request {
            sides: [side(plain), side(other)],
            model: Some(&checkpoint),
            catalogs: Catalogs::built_in(),
            machine: machine(),
        };
        let refused = drift(&request, &|_, _| {}).unwrap_err().to_string();
        assert!(refused.contains(why), "{other}: {refused}");
    }
}
