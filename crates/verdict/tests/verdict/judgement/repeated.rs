//! What repetitions show, and what a record says of them: as notes, distances and units of the bound.

use mantissa_evidence::{
    ConfigurationExtras, Decoding, Digest, Environment, FirstDifference, ModelIdentity, Outcome as Stated,
    Record, RepetitionDigest, Reproducibility as Statement, Setup,
};
use mantissa_numerics::{Dtype, Phase};
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Answer, Comparison, FindingKind, Outcome, Reproducibility, State, Tier};
use mantissa_verdict::judge::{Evidence, Options, StatedRepeats, judge_evidence};

use super::synthetic::{Sample, keys, sentences, source};

fn two_setups(repetitions: u32) -> Sample {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2)]);
    for config in ["bs1", "bs2"] {
        for rep in 0..repetitions {
            sample.run(config, 0, rep, 1.0);
        }
    }
    sample
}

fn extras(reproducibility: Statement) -> ConfigurationExtras {
    let setup = Setup {
        model: ModelIdentity { id: "m".into(), weights_digest: None },
        hardware: "A100".into(),
        engine: "e".into(),
        engine_version: "1".into(),
        dtype: Dtype::F32,
        batch_size: 2,
        attention: "sdpa".into(),
        quantization: "none".into(),
        compile: false,
        concurrent_streams: false,
        cuda_version: None,
        tp_size: 1,
        ep_size: 1,
        axes: std::collections::BTreeMap::new(),
        decoding: Decoding::Greedy,
        generation: None,
    };
    let environment = Environment {
        cpu: String::new(),
        cpu_features: vec![],
        cores: 1,
        os: String::new(),
        memory_bytes: 0,
        rustc: String::new(),
    };
    ConfigurationExtras {
        setup,
        environment,
        recipes: vec![],
        catalogs: vec![],
        observed: None,
        answers: None,
        reproducibility,
        not_finite: Vec::new(),
        runtime: None,
    }
}

/// What the record states of its second setup.
fn stating(repetitions: u32, outcome: Stated, digests: &[(u32, u32, u32)]) -> Analysis {
    let digests = digests.iter().map(|&(reference_id, rep_id, signals)| RepetitionDigest {
        reference_id,
        rep_id,
        output_ids: Digest::of_ids(&[5]),
        signals: Digest::of_ids(&[signals]),
    });
    let mut sample = two_setups(repetitions);
    sample.experiment.configurations[1].mantissa =
        Some(extras(Statement { repetitions: 3, outcome, digests: digests.collect() }));
    sample.judged()
}

fn divergent() -> Stated {
    Stated::Divergent { reference_id: 0, repetitions: [0, 1], first: FirstDifference::Token { index: 1 } }
}

fn of<'a>(analysis: &'a Analysis, setup: &str) -> Vec<&'a Reproducibility> {
    analysis.reproducibility.iter().filter(|one| one.setup == setup).collect()
}

#[test]
fn repetitions_of_one_prompt_are_one_unit() {
    for repetitions in [2, 5] {
        let bound = &two_setups(repetitions).judged().bounds[0];
        assert_eq!((bound.honest_units, bound.alarms), (2, 0), "{repetitions}");
    }
    // A setup of which one prompt differs: that prompt is an alarm, the quiet one does not count.
    let mut sample = two_setups(3);
    for rep in 0..3 {
        sample.run("bs2", 1, rep, if rep == 2 { 2.0 } else { 1.0 });
    }
    let bound = &sample.judged().bounds[0];
    assert_eq!((bound.honest_units, bound.alarms), (2, 1));
}

#[test]
fn repetitions_that_could_not_be_compared_whole_are_no_unit() {
    let mut sample = two_setups(2);
    sample.experiment.runs[3].prefill = None;
    let analysis = sample.judged();
    assert_eq!(analysis.bounds[0].honest_units, 1);
    let found = of(&analysis, "bs2")[0];
    assert_eq!((found.state, found.distance), (State::Missing, None));
    assert_eq!(
        found.note,
        "bs2 lacks rows of prefill in some repetition (1 of 1 row comparison), so that it repeats itself was not shown."
    );
}

#[test]
fn comparisons_are_called_comparisons() {
    let analysis = two_setups(3).judged();
    assert_eq!(
        of(&analysis, "bs1")[0].note,
        "bs1 repeats itself to the bit in prefill: 3 repetitions over 1 reference, 3 row comparisons."
    );
}

#[test]
fn no_distance_is_zero_where_none_is_finite() {
    // Other bits without a distance, beside rows of the same bits.
    let mut sample = two_setups(2);
    for (index, key) in [(2, f32::NAN), (3, 1.0)] {
        sample.experiment.runs[index].decode = Some(keys(&[1.0, key]));
    }
    let analysis = sample.judged();
    let found = of(&analysis, "bs2").into_iter().find(|one| one.phase == Some(Phase::Decode)).unwrap();
    assert_eq!((found.state, found.distance), (State::Different, None));
    // Tokens part before anything is compared.
    let mut sample = two_setups(2);
    sample.experiment.runs[3].output_token_ids = vec![9];
    let analysis = sample.judged();
    let found = of(&analysis, "bs2").into_iter().find(|one| one.phase == Some(Phase::Decode)).unwrap();
    assert_eq!((found.state, found.distance, found.repetitions), (State::Different, None, Some(2)));
    assert_eq!(
        found.note,
        "bs2 is non-deterministic in decode: the outputs of its 2 repetitions part over 1 reference."
    );
}

#[test]
fn a_repetition_that_stops_early_shows_no_equality() {
    let mut sample = two_setups(2);
    sample.experiment.runs[3].output_token_ids = vec![5, 6];
    let analysis = sample.judged();
    let found = of(&analysis, "bs2").into_iter().find(|one| one.phase == Some(Phase::Decode)).unwrap();
    assert_eq!(
        (found.state, found.note.as_str()),
        (
            State::Missing,
            "A repetition of bs2 stops before another in decode, so that it repeats itself was not shown."
        )
    );
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
}

#[test]
fn a_statement_that_repetitions_differ_outweighs_equal_ones() {
    let analysis = stating(2, divergent(), &[]);
    let found = of(&analysis, "bs2");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].state, found[0].distance), (State::Different, None));
    assert_eq!(
        found[0].note,
        "bs2 is non-deterministic, as the record states: two of its 3 repetitions differ, although the stored ones have \
         no bits that differ."
    );
    assert_eq!((analysis.bounds[0].honest_units, analysis.bounds[0].alarms), (2, 1));
    assert_eq!(analysis.outcome, Outcome::Divergent);
    // Equal bits of two of three repetitions are no class, and zero between them is no floor.
    let verdict = &analysis.pairs[0];
    assert_eq!((verdict.answer, verdict.tier), (Answer::Inconclusive, Tier::None), "{}", verdict.sentence);
}

#[test]
fn what_a_record_states_without_digests_is_said_to_be_stated() {
    let alone = stating(1, Stated::Identical, &[]);
    assert_eq!(
        of(&alone, "bs2")[0].note,
        "bs2 repeats itself to the bit, as the record states of 3 repetitions without their digests."
    );
    assert_eq!(of(&alone, "bs2")[0].tokens_part, None);
    assert!(alone.bounds.is_empty(), "a statement is no honest unit");
    // A single digest compares nothing either.
    assert_eq!(of(&stating(1, Stated::Identical, &[(0, 0, 1)]), "bs2")[0].tokens_part, None);
    let digests = stating(1, Stated::Identical, &[(0, 0, 1), (0, 1, 1), (0, 2, 1)]);
    assert_eq!(
        of(&digests, "bs2")[0].note,
        "bs2 repeats itself to the bit by the stated digests of 3 repetitions."
    );
    assert_eq!((digests.bounds[0].honest_units, digests.bounds[0].alarms), (1, 0));
    assert_eq!(of(&digests, "bs2")[0].tokens_part, Some(false));
    // Digests tell although nobody compared them.
    let unchecked = stating(1, Stated::NotChecked, &[(0, 0, 1), (0, 1, 2)]);
    assert_eq!(of(&unchecked, "bs2")[0].state, State::Different);
    assert_eq!(of(&stating(1, Stated::NotChecked, &[]), "bs2")[0].state, State::Missing);
}

#[test]
fn stated_distances_need_two_repetitions_and_a_distance() {
    let judged = |repetitions, distances: &[f64]| {
        let sample = two_setups(1);
        let record = Record::from_experiment(sample.experiment, std::path::Path::new("sample.json"));
        let source = source("sample.json");
        let mut evidence = Evidence::of_record(&source, &record);
        evidence.repeats = vec![StatedRepeats {
            setup: "bs2".into(),
            phase: Phase::Prefill,
            repetitions,
            distances: distances.to_vec(),
            place: "noise_floors.bs2.prefill".into(),
        }];
        let analysis = judge_evidence(&[evidence], &Options::default()).unwrap();
        let found = of(&analysis, "bs2")[0].clone();
        (found.state, found.distance)
    };
    for (repetitions, distances) in [(Some(3), &[][..]), (None, &[]), (Some(0), &[0.0]), (Some(1), &[0.0])] {
        assert_eq!(judged(repetitions, distances), (State::Missing, None), "{repetitions:?} {distances:?}");
    }
    assert_eq!(judged(None, &[0.0]), (State::Equal, Some(0.0)));
    assert_eq!(judged(Some(2), &[0.5]), (State::Different, Some(0.5)));
    assert_eq!(judged(Some(2), &[f64::INFINITY]), (State::Different, None));
}

#[test]
fn outputs_that_nobody_recorded_do_not_agree() {
    let mut sample = two_setups(2);
    for run in &mut sample.experiment.runs {
        run.output_token_ids.clear();
    }
    let analysis = sample.judged();
    let parted: Vec<_> = analysis.reproducibility.iter().map(|one| one.tokens_part).collect();
    assert_eq!(parted, [None; 2]);
    assert!(sentences(&analysis, FindingKind::TokensDiverge).is_empty());
}

/// The same name, value and settings on two machines, of checkpoints that are or are not the same.
#[test]
fn other_weights_are_no_same_setup_on_another_machine() {
    for (there, twins) in [(&b"weights"[..], 1), (b"other weights", 0)] {
        let mut sample = Sample::new("batch_size", &[("here", "A", 2), ("there", "B", 2)]);
        for (configuration, weights) in
            sample.experiment.configurations.iter_mut().zip([&b"weights"[..], there])
        {
            let statement = Statement { repetitions: 1, outcome: Stated::NotChecked, digests: Vec::new() };
            let mut extras = extras(statement);
            extras.setup.hardware.clone_from(&configuration.hardware);
            extras.setup.model.weights_digest = Some(Digest::of_bytes(weights));
            configuration.mantissa = Some(extras);
        }
        sample.run("here", 0, 0, 1.0);
        sample.run("there", 0, 0, 2.0);
        let analysis = sample.judged();
        let baselines =
            analysis.pairs.iter().filter(|pair| pair.comparison == Comparison::CrossHardwareBaseline);
        assert_eq!(baselines.count(), twins);
    }
}
