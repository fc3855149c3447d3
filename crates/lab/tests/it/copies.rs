//! Rows that several passes stored are one row each, for replays and spot checks too.

use mantissa_engine::{Catalogs, Isa};
use mantissa_evidence::Record;
use mantissa_lab::document::Document;
use mantissa_lab::prompt::PromptSpec;
use mantissa_lab::replay::{self, Claim, Replay, ReplayPlan, SpotCheck, Walk};
use mantissa_lab::{Machine, RecordSpec, Recorder, SignalSpec};
use mantissa_model::synth::{SynthSpec, write};
use mantissa_model::{Arch, Checkpoint, Tokenizer};
use mantissa_numerics::setup::SomeAxes;
use mantissa_numerics::{Phase, Setup};

const STEPS: usize = 4;

/// Rows of each site of a run of [`STEPS`] steps that stored these positions: those of the prompt's end, and those
/// that each step brings anew.
fn distinct(positions: &[i32]) -> u64 {
    let ends = (0..=i64::try_from(STEPS).unwrap())
        .flat_map(|end| positions.iter().map(move |p| end + i64::from(*p)));
    ends.collect::<std::collections::BTreeSet<_>>().len() as u64
}

#[test]
fn a_row_that_several_passes_stored_is_compared_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write(&SynthSpec::tiny(Arch::LLAMA, 7), &model, &|_| {}).unwrap();
    let (checkpoint, tokenizer) = (Checkpoint::open(&model).unwrap(), Tokenizer::open(&model).unwrap());
    let machine = Machine { threads: 1, isa: Isa::detect() };
    let (documents, catalogs) = (Document::built_in(), Catalogs::built_in());
    // Neighbours; with a gap, so that steps lie between the copies; the newest alone.
    for positions in [vec![-3, -2, -1], vec![-3, -1], vec![-2], vec![-1]] {
        let spec = RecordSpec {
            model: "tiny".to_owned(),
            prompt: PromptSpec { document_tokens: 16, ..PromptSpec::default() },
            cells: vec![Setup::default()],
            decode_steps: STEPS,
            repetitions: 1,
            forced: None,
            signals: SignalSpec { positions: positions.clone(), ..SignalSpec::default() },
            generation: mantissa_numerics::Generation::default(),
        };
        let recorder = Recorder {
            checkpoint: &checkpoint,
            tokenizer: Some(&tokenizer),
            documents: &documents,
            spec: &spec,
            catalogs,
            machine,
        };
        let name = format!("record{}", positions.len() * 10 + positions[0].unsigned_abs() as usize);
        let directory = recorder.record(&folder.path().join(name), &|_| {}).unwrap().directory;
        let record = Record::open(&directory).unwrap();

        let prefill = record.layout(0, Phase::Prefill).unwrap();
        let width: usize =
            prefill.tensors.values().map(|tensor| tensor.dim).sum::<usize>() + prefill.top_k.unwrap();
        let expected = distinct(&positions) * width as u64;
        assert_eq!(record.values(0), expected, "{positions:?}");

        let claim = Claim::of(&record.shell().configurations[0], &SomeAxes::default(), &checkpoint);
        let claimed = claim.candidate.clone().unwrap();
        let plan =
            ReplayPlan::new(&record, &checkpoint, &[claim], &[vec![claimed]], Replay::Decode, catalogs);
        let walk = Walk { checkpoint: &checkpoint, record: &record, plan: &plan, machine, full: true };
        let mut compared = Vec::new();
        let mut keep = |finished: replay::Finished<'_>| {
            assert!(!finished.facts.differs());
            compared.push(finished.facts.values());
            Ok(())
        };
        walk.run(&|_, _| false, &mut keep, &|_| {}).unwrap();
        assert_eq!(compared, [expected], "{positions:?}");

        let check = SpotCheck {
            checkpoint: &checkpoint,
            record: &record,
            runs: &[(0, &plan.runs[0])],
            claim: claimed,
            draws: 50,
            seed: 1,
            catalogs,
            machine,
        };
        let spot = check.run(&|_| {}).unwrap();
        let candidates = distinct(&positions) * prefill.top_k.unwrap() as u64;
        let unreachable: u64 = spot.out_of_reach.values().sum();
        assert_eq!(spot.population + unreachable, expected - candidates, "{positions:?}");
        assert_eq!(spot.different, 0);

        // A repetition beside itself: log-probabilities are not compared there.
        let beside = replay::between(&record, 0, 0).unwrap();
        assert_eq!(beside.values(), expected - candidates, "{positions:?}");
    }
}
