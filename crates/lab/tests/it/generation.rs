//! Settings that act on the choice of tokens: recorded, replayed, and told where nothing can be set against the tokens.

use std::path::Path;

use mantissa_compare::ReplayFacts;
use mantissa_engine::{Catalogs, Isa};
use mantissa_evidence::{Decoding, Experiment, Record, json};
use mantissa_lab::document::Document;
use mantissa_lab::prompt::PromptSpec;
use mantissa_lab::replay::{Claim, Finished, Replay, ReplayPlan, Walk};
use mantissa_lab::{LabError, Machine, RecordSpec, Recorder, SignalSpec};
use mantissa_model::synth::{SynthSpec, write};
use mantissa_model::{Arch, Checkpoint, Tokenizer};
use mantissa_numerics::setup::{Padding, SomeAxes};
use mantissa_numerics::{Generation, Setup};

const STEPS: usize = 12;

fn machine() -> Machine {
    Machine { threads: 1, isa: Isa::detect() }
}

fn penalty() -> Generation {
    Generation { repetition_penalty: Some(0.4), ..Generation::default() }
}

/// A tiny model whose generation_config.json is this.
fn model(folder: &Path, config: &str) -> Checkpoint {
    let path = folder.join(format!("model{}", config.len()));
    write(&SynthSpec::tiny(Arch::LLAMA, 7), &path, &|_| {}).unwrap();
    std::fs::write(path.join("generation_config.json"), config).unwrap();
    Checkpoint::open(&path).unwrap()
}

fn spec(generation: Generation) -> RecordSpec {
    RecordSpec {
        model: "tiny".to_owned(),
        prompt: PromptSpec { document_tokens: 16, ..PromptSpec::default() },
        cells: vec![Setup { batch_size: 2, ..Setup::default() }],
        decode_steps: STEPS,
        repetitions: 1,
        forced: None,
        signals: SignalSpec { positions: vec![-1], ..SignalSpec::default() },
        generation,
    }
}

fn record(checkpoint: &Checkpoint, spec: &RecordSpec, out: &Path) -> Result<Experiment, LabError> {
    let documents = Document::built_in();
    let tokenizer = Tokenizer::open(checkpoint.path()).unwrap();
    let recorder = Recorder {
        checkpoint,
        tokenizer: Some(&tokenizer),
        documents: &documents,
        spec,
        catalogs: Catalogs::built_in(),
        machine: machine(),
    };
    recorder.record(out, &|_| {}).map(|recorded| recorded.experiment)
}

/// What a replay of the claim finds.
fn replayed(experiment: &Experiment, checkpoint: &Checkpoint) -> ReplayFacts {
    let record = Record::from_experiment(experiment.clone(), Path::new("record"));
    let claim = Claim::of(&record.shell().configurations[0], &SomeAxes::default(), checkpoint);
    let claimed = claim.candidate.clone().unwrap();
    let catalogs = Catalogs::built_in();
    let plan = ReplayPlan::new(&record, checkpoint, &[claim], &[vec![claimed]], Replay::Decode, catalogs);
    let walk = Walk { checkpoint, record: &record, plan: &plan, machine: machine(), full: true };
    let mut found = None;
    let mut keep = |finished: Finished<'_>| {
        found = Some(finished.facts.clone());
        Ok(())
    };
    walk.run(&|_, _| false, &mut keep, &|_| {}).unwrap();
    found.unwrap()
}

fn with(experiment: &Experiment, decoding: Decoding, generation: Option<Generation>) -> Experiment {
    let mut changed = experiment.clone();
    let setup = &mut changed.configurations[0].mantissa.as_mut().unwrap().setup;
    (setup.decoding, setup.generation) = (decoding, generation);
    changed
}

#[test]
fn settings_are_recorded_and_tokens_set_against_the_choice_under_them() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, own) = (model(folder.path(), "{}"), model(folder.path(), r#"{"repetition_penalty": 0.4}"#));
    let without = record(&plain, &spec(Generation::default()), &folder.path().join("without")).unwrap();
    let under =
        record(&own, &spec(own.generation().unwrap().greedy()), &folder.path().join("under")).unwrap();
    let tokens = |experiment: &Experiment| experiment.runs[0].output_token_ids.clone();
    let beside = |experiment: &Experiment| experiment.runs[0].neighbours[0].output_token_ids.clone();
    assert_ne!(tokens(&without), tokens(&under));
    assert_ne!(beside(&without), beside(&under), "rows beside it choose by the same rule");
    let stated = |experiment: &Experiment| {
        experiment.configurations[0].mantissa.as_ref().unwrap().setup.generation.clone()
    };
    // Nothing is said where there is nothing to say, so that such records keep their bytes.
    assert_eq!((stated(&without), stated(&under)), (None, Some(penalty())));
    let bytes = json::to_vec(&without, Path::new("without.json")).unwrap();
    assert!(!String::from_utf8(bytes).unwrap().contains("generation"));
    let read = json::parse(&json::to_vec(&under, Path::new("under.json")).unwrap(), Path::new("under.json"));
    assert_eq!(stated(&read.unwrap()), Some(penalty()));

    // As stated, whatever the model's own file says.
    for checkpoint in [&plain, &own] {
        let facts = replayed(&under, checkpoint);
        assert!(!facts.differs() && facts.tokens == STEPS as u64, "{facts:?}");
        assert_eq!(facts.first_token_without_settings, None);
    }
    // A false statement is contradicted by the first token that it would not give.
    let first = tokens(&without).iter().zip(tokens(&under)).position(|(a, b)| *a != b).unwrap() as u64;
    let denied = with(&under, Decoding::Greedy, Some(Generation::default()));
    assert_eq!(replayed(&denied, &own).first_token.map(|token| token.index), Some(first));
    // A record of the plain choice with a model that has settings says so.
    let left_out = record(&own, &spec(Generation::default()), &folder.path().join("left_out")).unwrap();
    assert_eq!((stated(&left_out), tokens(&left_out)), (Some(Generation::default()), tokens(&without)));
    assert!(!replayed(&left_out, &own).differs());
}

#[test]
fn evidence_that_states_no_settings_may_have_the_models_own_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, own) = (model(folder.path(), "{}"), model(folder.path(), r#"{"repetition_penalty": 0.4}"#));
    let under = record(&own, &spec(penalty()), &folder.path().join("under")).unwrap();
    let silent = with(&under, Decoding::Greedy, None);
    let facts = replayed(&silent, &own);
    assert!(!facts.differs());
    let without = facts.first_token_without_settings.unwrap();
    // A model without them leaves one reading, which the same token contradicts.
    assert_eq!(replayed(&silent, &plain).first_token, Some(without));
    let chosen = record(&plain, &spec(Generation::default()), &folder.path().join("plain")).unwrap();
    let facts = replayed(&chosen, &own);
    assert!(!facts.differs() && facts.first_token_without_settings.is_none());
    // Tokens of neither: those under the settings, then one that nobody would choose.
    let mut neither = silent.clone();
    let last = neither.runs[0].output_token_ids.last_mut().unwrap();
    *last = (*last + 1) % 500;
    assert!(replayed(&neither, &own).first_token.is_some());
}

#[test]
fn drawn_tokens_are_set_against_nothing_and_everything_else_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let own = model(folder.path(), "{}");
    let chosen = record(&own, &spec(Generation::default()), &folder.path().join("record")).unwrap();
    let drawn =
        Generation { do_sample: true, temperature: Some(0.7), seed: Some(1), ..Generation::default() };
    let beams =
        Generation { other: [("num_beams".to_owned(), "4".to_owned())].into(), ..Generation::default() };
    for (decoding, generation, why) in [
        (Decoding::Sampled, None, "they were sampled, and draws"),
        (Decoding::Sampled, Some(drawn.clone()), "they were sampled (do_sample, temperature 0.7, seed 1)"),
        (Decoding::Greedy, Some(drawn), "they were sampled (do_sample, temperature 0.7, seed 1)"),
        (Decoding::Greedy, Some(beams), "nothing here computes num_beams 4"),
    ] {
        let facts = replayed(&with(&chosen, decoding, generation), &own);
        assert!(!facts.differs() && facts.values() > 0 && facts.tokens == 0, "{facts:?}");
        let told = facts
            .decode
            .reasons
            .iter()
            .any(|reason| reason.starts_with("output tokens: ") && reason.contains(why));
        assert!(told, "{:?} / {why}", facts.decode.reasons);
    }
    // Bits are compared all the same.
    let mut other = with(&chosen, Decoding::Sampled, None);
    let decode = other.runs[0].decode.as_mut().unwrap();
    decode.tensors.values_mut().next().unwrap().data[0] ^= 1;
    assert!(replayed(&other, &own).differs());
}

/// What was measured of a GPU's repetition penalty is what transformers computes there.
#[test]
fn the_penalty_of_another_engine_on_a_gpu_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let own = model(folder.path(), r#"{"repetition_penalty": 0.4}"#);
    let under = record(&own, &spec(penalty()), &folder.path().join("under")).unwrap();
    let unchosen = |hardware: &str, engine: &str, generation: Option<Generation>| {
        let mut experiment = with(&under, Decoding::Greedy, generation);
        let configuration = &mut experiment.configurations[0];
        configuration.hardware = hardware.to_owned();
        let record = Record::from_experiment(experiment, Path::new("record"));
        let claim = Claim::of(&record.shell().configurations[0], &SomeAxes::default(), &own);
        let claimed = claim.candidate.clone().unwrap();
        // Nobody's recipes are vLLM's, so its own evidence is refused before; here its claim alone is read.
        let claim = Claim { engine: Some(engine.to_owned()), ..claim };
        let catalogs = Catalogs::built_in();
        let plan = ReplayPlan::new(&record, &own, &[claim], &[vec![claimed]], Replay::Decode, catalogs);
        plan.runs[0].unchosen.clone()
    };
    let unknown = "how vllm applies repetition_penalty 0.4 on a GPU is unknown".to_owned();
    for stated in [None, Some(penalty())] {
        assert_eq!(unchosen("h200", "vllm", stated.clone()), Some(unknown.clone()));
        assert_eq!(unchosen("h200", "transformers", stated.clone()), None);
        assert_eq!(unchosen("cpu", "vllm", stated), None);
    }
    assert_eq!(unchosen("h200", "vllm", Some(Generation::default())), None);
}

#[test]
fn settings_that_no_record_can_follow_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let own = model(folder.path(), "{}");
    let refused = |spec: &RecordSpec| {
        record(&own, spec, &folder.path().join("refused")).map(|_| ()).unwrap_err().to_string()
    };
    let drawn = Generation { do_sample: true, ..Generation::default() };
    assert!(refused(&spec(drawn)).contains("tokens cannot be chosen so: they were sampled"));
    let mut padded = spec(penalty());
    padded.cells = vec![Setup { padding: Padding::Left(3), ..Setup::default() }];
    assert!(
        refused(&padded)
            .contains("repetition_penalty 0.4 beside padding: transformers counts its tokens too")
    );
    assert!(!folder.path().join("refused").exists());
}
