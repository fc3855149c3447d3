//! Two computations of the same tokens: what is equal, explained, unexplained, and what cannot be localized.

use std::path::Path;

use mantissa_engine::{Catalogs, Isa};
use mantissa_evidence::{Experiment, Record};
use mantissa_lab::document::Document;
use mantissa_lab::drift::{Computed, Request, Side, drift};
use mantissa_lab::prompt::PromptSpec;
use mantissa_lab::prompt::given::{Content, Given, GivenPrompt};
use mantissa_lab::{LabError, Machine, RecordSpec, Recorder, SignalSpec};
use mantissa_model::synth::{SynthSpec, write};
use mantissa_model::{Arch, Checkpoint, Tokenizer};
use mantissa_numerics::setup::SomeAxes;
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
    let computed = Side::Computed(Computed { setup, prompts: &[], decoded: 0 });
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
    let side = |setup| Side::Computed(Computed { setup, prompts: &prompts, decoded: 3 });
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
