//! Stored repetitions and stated ones.

use mantissa_evidence::{
    Configuration, ConfigurationExtras, Decoding, Digest, Environment, FixedParams, ModelIdentity, Record,
    RepetitionDigest, Reproducibility, Run, Setup,
};
use mantissa_numerics::{Dtype, Phase};

use super::*;
use crate::sample::{self, X_OUT, decode, run, set};
use crate::sweep::pairs;

fn repetition(rep_id: u32, reference_id: u32) -> Run {
    Run { rep_id, reference_id, ..run() }
}

fn found(record: &Record) -> Vec<Repetitions> {
    selected(record, &Selection::default())
}

fn selected(record: &Record, selection: &Selection) -> Vec<Repetitions> {
    let members = sample::members(record);
    let which: Vec<(usize, usize)> =
        (0..members.len()).flat_map(|a| (a + 1..members.len()).map(move |b| (a, b))).collect();
    let facts = pairs(&members, &which, selection).unwrap();
    let place = |a: usize, b: usize| which.iter().position(|pair| *pair == (a, b));
    reproducibility(record, selection, |a, b| Some(&facts[place(a, b)?]))
}

#[test]
fn stored_repetitions_are_compared_in_every_pair() {
    let mut third = repetition(2, 0);
    set(decode(&mut third), X_OUT, 2, 2, 1, 3.0);
    let record = sample::record([repetition(0, 0), repetition(0, 1), repetition(1, 0), third]);
    let found = found(&record);
    assert_eq!(found.len(), 2);
    let first = &found[0];
    assert_eq!((first.reference_id, first.basis, first.repetitions), (0, ShownBy::Stored, 3));
    assert_eq!(
        (first.runs.clone(), first.outputs, first.signals),
        (vec![0, 2, 3], State::Equal, State::Different)
    );
    assert_eq!((first.rows.different, first.rows.equal), (2, 34));
    assert_eq!(
        (found[1].basis, found[1].signals, found[1].repetitions),
        (ShownBy::Nothing, State::Missing, 1)
    );
}

#[test]
fn outputs_that_part_are_not_noise() {
    let mut other = repetition(1, 0);
    other.output_token_ids[0] = 99;
    set(decode(&mut other), X_OUT, 2, 2, 1, 3.0);
    let found = found(&sample::record([repetition(0, 0), other])).remove(0);
    assert_eq!(
        (found.outputs, found.part_at, found.signals),
        (State::Different, Some(0), State::Incomparable)
    );
    assert_eq!((found.rows.equal, found.rows.incomparable), (6, 6));
}

#[test]
fn repetitions_that_were_not_compared_are_not_equal() {
    let record = sample::record([repetition(0, 0), repetition(1, 0)]);
    let found = reproducibility(&record, &Selection::default(), |_, _| None).remove(0);
    assert_eq!(
        (found.outputs, found.signals, found.rows),
        (State::Equal, State::Incomparable, Counts::default())
    );
}

/// A record that states `digests` for configuration `c` and stores the last repetition.
fn stating(outcome: Outcome, digests: &[(u32, u32, u8)]) -> Record {
    storing(vec![repetition(2, 0)], 3, outcome, digests)
}

fn storing(runs: Vec<Run>, repetitions: u32, outcome: Outcome, digests: &[(u32, u32, u8)]) -> Record {
    let digests = digests.iter().map(|&(reference_id, rep_id, signals)| RepetitionDigest {
        reference_id,
        rep_id,
        output_ids: Digest::of_ids(&[1]),
        signals: Digest::of_bytes(&[signals]),
    });
    let setup = Setup {
        model: ModelIdentity { id: "m".into(), weights_digest: None },
        hardware: "cpu".into(),
        engine: "e".into(),
        engine_version: "1".into(),
        dtype: Dtype::Bf16,
        batch_size: 1,
        attention: "eager".into(),
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
        cpu_features: Vec::new(),
        cores: 1,
        os: String::new(),
        memory_bytes: 0,
        rustc: String::new(),
    };
    let configuration = Configuration {
        config_id: "c".into(),
        hardware: "cpu".into(),
        provider: None,
        variable_value: 1.into(),
        cuda_version: None,
        torch_version: None,
        transformers_version: None,
        flash_attn_version: None,
        python_version: None,
        fixed_params: FixedParams {
            compile: false,
            attention_impl: "eager".into(),
            quantization: "none".into(),
            tp_size: 1,
            ep_size: 1,
            concurrent_streams: false,
        },
        mantissa: Some(ConfigurationExtras {
            setup,
            environment,
            recipes: Vec::new(),
            catalogs: Vec::new(),
            observed: None,
            answers: None,
            reproducibility: Reproducibility { repetitions, outcome, digests: digests.collect() },
            not_finite: Vec::new(),
            runtime: None,
        }),
    };
    let shell = sample::record([]).shell().clone();
    let experiment = mantissa_evidence::Experiment { configurations: vec![configuration], runs, ..shell };
    Record::from_experiment(experiment, std::path::Path::new("stated.json"))
}

#[test]
fn digests_speak_for_repetitions_that_are_not_stored() {
    let record = stating(Outcome::Identical, &[(0, 0, 7), (0, 1, 7), (0, 2, 7), (1, 0, 7), (1, 1, 8)]);
    let found = found(&record);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].basis, found[0].repetitions, found[0].runs.clone()), (ShownBy::Digests, 3, vec![0]));
    assert_eq!((found[0].outputs, found[0].signals), (State::Equal, State::Equal));
    // Digests outweigh the stated outcome.
    assert_eq!(
        (found[1].basis, found[1].outputs, found[1].signals),
        (ShownBy::Digests, State::Equal, State::Different)
    );
    assert!(found[1].runs.is_empty() && found[1].rows == Counts::default());
}

#[test]
fn an_outcome_without_digests_is_the_records_word() {
    let only = found(&stating(Outcome::Identical, &[])).remove(0);
    assert_eq!((only.basis, only.repetitions, only.signals), (ShownBy::Stated, 3, State::Equal));
    let only = found(&stating(Outcome::NotChecked, &[])).remove(0);
    assert_eq!((only.basis, only.repetitions, only.signals), (ShownBy::Nothing, 1, State::Missing));
    // One digest says nothing; the record's word is that of three.
    let one = found(&stating(Outcome::Identical, &[(0, 2, 7)])).remove(0);
    assert_eq!((one.basis, one.repetitions, one.signals), (ShownBy::Stated, 3, State::Equal));
}

#[test]
fn what_says_that_repetitions_differ_outweighs_stored_runs_that_agree() {
    let two = || vec![repetition(0, 0), repetition(1, 0)];
    let of = |outcome, digests: &[(u32, u32, u8)]| {
        let found = found(&storing(two(), 3, outcome, digests)).remove(0);
        (found.basis, found.repetitions, found.outputs, found.signals)
    };
    let (equal, different) = (State::Equal, State::Different);
    assert_eq!(of(Outcome::NotChecked, &[]), (ShownBy::Stored, 2, equal, equal));
    assert_eq!(
        of(Outcome::Identical, &[(0, 0, 7), (0, 1, 7), (0, 2, 7)]),
        (ShownBy::Digests, 3, equal, equal)
    );
    assert_eq!(
        of(Outcome::Identical, &[(0, 0, 7), (0, 1, 7), (0, 2, 8)]),
        (ShownBy::Digests, 3, equal, different)
    );
    let divergent = |reference_id, first| Outcome::Divergent { reference_id, repetitions: [0, 2], first };
    let logprobs = FirstDifference::Logprobs { phase: Phase::Decode, step: 0, position: -1, candidate: 0 };
    assert_eq!(of(divergent(0, logprobs.clone()), &[]), (ShownBy::Stated, 3, equal, different));
    let token = FirstDifference::Token { index: 2 };
    assert_eq!(of(divergent(0, token.clone()), &[]), (ShownBy::Stated, 3, different, equal));
    // Of another reference prompt nothing is said, and what was not fed the same is open.
    assert_eq!(of(divergent(9, token), &[]), (ShownBy::Stored, 2, equal, equal));
    assert_eq!(of(divergent(0, FirstDifference::Prompt), &[]).3, State::Incomparable);
    assert_eq!(of(divergent(0, FirstDifference::Layout { phase: Phase::Decode }), &[]).3, State::Missing);
    // Where some signals are selected, what differs may be another; all stored repetitions know better.
    let only = Selection { phases: Some([Phase::Prefill].into()), ..Selection::default() };
    let open = storing(two(), 3, Outcome::NotChecked, &[(0, 0, 7), (0, 1, 7), (0, 2, 8)]);
    assert_eq!(selected(&open, &only)[0].signals, State::Missing);
    let all = storing(two(), 2, Outcome::NotChecked, &[(0, 0, 7), (0, 1, 8)]);
    assert_eq!(selected(&all, &only)[0].signals, State::Equal);
    assert_eq!(found(&all)[0].signals, State::Different);
}

#[test]
fn one_repetition_proves_nothing_whatever_is_stated() {
    for repetitions in [0, 1] {
        let only = found(&storing(vec![repetition(0, 0)], repetitions, Outcome::Identical, &[])).remove(0);
        assert_eq!((only.basis, only.repetitions, only.signals), (ShownBy::Nothing, 1, State::Missing));
    }
}
