//! Small experiments of which every answer is known.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_evidence::{
    Configuration, Experiment, ExperimentMetadata, ExtractionConfig, FixedParams, Logprobs, PhaseSignals,
    Record, Run, SignalTensor,
};
use mantissa_numerics::{Dtype, Phase, Point, Site};
use mantissa_verdict::analysis::{
    Answer, Comparison, FindingKind, Outcome, PairVerdict, Signal, Source, State, Tier,
};
use mantissa_verdict::judge::{Evidence, Options, judge_evidence};
use mantissa_verdict::{Analysis, VerdictError};

const KEY: Site = Site::at(1, Point::K);

/// An experiment under construction.
pub(super) struct Sample {
    pub(super) experiment: Experiment,
}

impl Sample {
    /// `configurations`: id, hardware, value.
    pub(super) fn new(variable: &str, configurations: &[(&str, &str, u32)]) -> Self {
        let metadata = ExperimentMetadata {
            experiment_type: variable.into(),
            variable_tested: variable.into(),
            model: "m".into(),
            model_size: "1M".into(),
            architecture: "dense".into(),
            sequence_length: 4,
            decode_steps: 3,
            extraction_config: ExtractionConfig {
                layers: vec![1],
                positions: vec![-1],
                hidden_dim: 2,
                key_dim: 2,
                top_k_logprobs: 2,
            },
            date_created: None,
            mantissa: None,
        };
        let configurations = configurations.iter().map(|&(id, hardware, value)| Configuration {
            config_id: id.into(),
            hardware: hardware.into(),
            provider: None,
            variable_value: value.into(),
            cuda_version: None,
            torch_version: None,
            transformers_version: None,
            flash_attn_version: None,
            python_version: None,
            fixed_params: FixedParams {
                compile: false,
                attention_impl: "sdpa".into(),
                quantization: "none".into(),
                tp_size: 1,
                ep_size: 1,
                concurrent_streams: false,
            },
            mantissa: None,
        });
        let configurations = configurations.collect();
        Self { experiment: Experiment { metadata, configurations, runs: Vec::new() } }
    }

    /// A run with one prefill row of keys `(key, 0)`.
    pub(super) fn run(&mut self, config: &str, reference: u32, rep: u32, key: f32) -> &mut Run {
        self.experiment.runs.push(Run {
            config_id: config.into(),
            rep_id: rep,
            reference_id: reference,
            timestamp: None,
            runtime_seconds: None,
            prompt_text: String::new(),
            prompt_label: None,
            prompt_token_ids: vec![100 + reference, 2, 3, 4],
            output_token_ids: vec![5, 6, 7],
            output_token_texts: Vec::new(),
            neighbours: Vec::new(),
            prompt_source: None,
            prefill: Some(keys(&[key])),
            decode: None,
        });
        self.experiment.runs.last_mut().unwrap()
    }

    pub(super) fn judge(&self, options: &Options) -> Result<Analysis, VerdictError> {
        let record = Record::from_experiment(self.experiment.clone(), Path::new("sample.json"));
        let source = source("sample.json");
        judge_evidence(&[Evidence::of_record(&source, &record)], options)
    }

    pub(super) fn judged(&self) -> Analysis {
        self.judge(&Options::default()).unwrap()
    }
}

pub(super) fn source(name: &str) -> Source {
    Source {
        name: name.into(),
        digest: format!("digest of {name}"),
        layout: "experiment_json".into(),
        ..Source::default()
    }
}

/// One row of keys per step.
pub(super) fn keys(values: &[f32]) -> PhaseSignals {
    let mut data = Vec::new();
    for &value in values {
        Dtype::F32.encode(value, &mut data);
        Dtype::F32.encode(0.0, &mut data);
    }
    let tensor = SignalTensor { dtype: Dtype::F32, shape: [values.len(), 1, 2], data };
    PhaseSignals {
        first_step: 0,
        steps: values.len(),
        positions: vec![-1],
        tensors: BTreeMap::from([(KEY, tensor)]),
        logprobs: None,
    }
}

pub(super) fn pair<'a>(analysis: &'a Analysis, comparison: Comparison, a: &str, b: &str) -> &'a PairVerdict {
    let found: Vec<&PairVerdict> = analysis
        .pairs
        .iter()
        .filter(|pair| pair.comparison == comparison && pair.a == a && pair.b == b)
        .collect();
    assert_eq!(found.len(), 1, "{comparison:?} {a} {b} in {:#?}", analysis.pairs);
    found[0]
}

pub(super) fn sentences(analysis: &Analysis, kind: FindingKind) -> Vec<&str> {
    let of_kind = analysis.findings.iter().filter(|finding| finding.kind == kind);
    of_kind.map(|finding| finding.sentence.as_str()).collect()
}

#[test]
fn a_single_bit_separates_setups_that_repeat_themselves() {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2), ("bs4", "A100", 4)]);
    for (config, key) in [("bs1", 1.0), ("bs2", 1.0), ("bs4", 1.0_f32.next_up())] {
        for rep in 0..2 {
            sample.run(config, 0, rep, key);
        }
    }
    let analysis = sample.judged();
    let same = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    assert_eq!((same.answer, same.tier, same.n), (Answer::Identical, Tier::Exact, 1));
    assert_eq!(
        same.sentence,
        "bs1 and bs2 give the same prefill key vectors on A100: 1 row over 1 reference, all of the same bits."
    );
    let other = pair(&analysis, Comparison::WithinHardware, "bs1", "bs4");
    assert_eq!((other.answer, other.tier), (Answer::Separable, Tier::Exact));
    assert_eq!(
        other.sentence,
        "bs1 and bs4 can be told apart by prefill key vectors on A100: 1 of 1 rows differ over 1 reference, by 1.19e-7 on \
         average, first in ref_0 at step 0 layer_1.k position -1."
    );
    assert_eq!(analysis.classes.len(), 1);
    assert_eq!(analysis.classes[0].classes, [vec!["bs1", "bs2"], vec!["bs4"]]);
    let repeated: Vec<_> = analysis.reproducibility.iter().map(|one| (one.state, one.repetitions)).collect();
    assert_eq!(repeated, [(State::Equal, Some(2)); 3]);
    assert_eq!(analysis.outcome, Outcome::Divergent);
    let bound = &analysis.bounds[0];
    assert_eq!((bound.honest_units, bound.alarms, bound.needed_for_one_in_thousand), (3, 0, 2996));
}

#[test]
fn agreement_everywhere_is_consistent() {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2)]);
    for config in ["bs1", "bs2"] {
        for rep in 0..2 {
            sample.run(config, 0, rep, 1.0);
        }
    }
    assert_eq!(sample.judged().outcome, Outcome::Consistent);
}

#[test]
fn one_repetition_is_never_called_exact() {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2)]);
    sample.run("bs1", 0, 0, 1.0);
    sample.run("bs2", 0, 0, 1.5);
    let analysis = sample.judged();
    let repeated: Vec<_> = analysis.reproducibility.iter().map(|one| (one.state, one.repetitions)).collect();
    assert_eq!(repeated, [(State::Missing, Some(1)); 2]);
    assert!(analysis.bounds.is_empty());
    let verdict = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    assert_eq!(verdict.answer, Answer::Separable);
    assert!(
        verdict.sentence.ends_with("; that these setups repeat themselves to the bit was not shown."),
        "{}",
        verdict.sentence
    );
    assert_eq!(
        sentences(&analysis, FindingKind::Missing),
        [
            "bs1 and bs2 have one repetition each in this evidence: whether they repeat themselves bit for bit was not shown by it."
        ]
    );
    let diagonal = &analysis.matrices[0].cells[0][0];
    assert_eq!((diagonal.state, diagonal.value), (State::Missing, None));
}

#[test]
fn missing_data_is_never_equal() {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2), ("bs4", "A100", 4)]);
    sample.run("bs1", 0, 0, 1.0);
    sample.run("bs2", 0, 0, 1.0).prefill = None;
    // bs4 has no run at all.
    let analysis = sample.judged();
    let verdict = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    assert_eq!((verdict.answer, verdict.tier, verdict.n), (Answer::Incomparable, Tier::None, 0));
    assert_eq!((verdict.distance, verdict.floor.clone()), (None, None));
    assert_eq!(pair(&analysis, Comparison::WithinHardware, "bs1", "bs4").answer, Answer::Incomparable);
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
    assert!(analysis.classes[0].classes.is_empty());
    assert_eq!(analysis.classes[0].unplaced.len(), 3);
    let cells: Vec<_> =
        analysis.matrices[0].cells.iter().flatten().map(|cell| (cell.state, cell.value)).collect();
    assert_eq!(cells, [(State::Missing, None); 9]);
}

#[test]
fn noise_is_the_floor_of_a_setup_that_does_not_repeat_itself() {
    let mut sample =
        Sample::new("quantization", &[("plain", "A100", 1), ("noisy", "A100", 2), ("far", "A100", 3)]);
    for reference in 0..8_u8 {
        let base = f32::from(reference);
        for rep in 0..2_u8 {
            let jitter = f32::from(rep) * 0.25;
            sample.run("plain", reference.into(), rep.into(), base);
            sample.run("noisy", reference.into(), rep.into(), base + 0.125 - jitter);
            sample.run("far", reference.into(), rep.into(), base + 8.0);
        }
    }
    let analysis = sample.judged();
    let near = pair(&analysis, Comparison::WithinHardware, "plain", "noisy");
    assert_eq!((near.answer, near.tier, near.n), (Answer::NotSeparable, Tier::Statistical, 8));
    let floor = near.floor.as_ref().unwrap();
    assert_eq!((near.distance, floor.mean.to_bits(), floor.n), (Some(0.125), 0.25_f64.to_bits(), 16));
    let far = pair(&analysis, Comparison::WithinHardware, "noisy", "far");
    assert_eq!((far.answer, far.tier), (Answer::Separable, Tier::Statistical));
    // Of 3 assignments a reference, one is as far apart: 3⁻⁸, two tested pairs.
    assert_eq!((far.p_value, far.p_adjusted), (Some(1.0 / 6561.0), Some(2.0 / 6561.0)));
    // Neither of these two has noise, so bits decide.
    assert_eq!(pair(&analysis, Comparison::WithinHardware, "plain", "far").tier, Tier::Exact);
    let states: Vec<(&str, State)> =
        analysis.reproducibility.iter().map(|one| (one.setup.as_str(), one.state)).collect();
    assert_eq!(states, [("plain", State::Equal), ("noisy", State::Different), ("far", State::Equal)]);
    assert_eq!(sentences(&analysis, FindingKind::NonDeterministic).len(), 1);
    // Eight prompts of plain and of far, and eight alarms of noisy.
    assert_eq!((analysis.bounds[0].honest_units, analysis.bounds[0].alarms), (24, 8));
}

/// Two machines, three values. On B every key moves by `0.25`, for value 2 by 4; value 3 is 0.125 from value 1.
fn two_machines(references: u8) -> Sample {
    let mut sample = Sample::new(
        "batch_size",
        &[("A1", "A", 1), ("A2", "A", 2), ("A3", "A", 3), ("B1", "B", 1), ("B2", "B", 2), ("B3", "B", 3)],
    );
    for reference in 0..references {
        let base = f32::from(reference) * 16.0;
        let keys = [("A1", 0.0), ("A2", 6.0), ("A3", 0.125), ("B1", 0.25), ("B2", 10.0), ("B3", -0.125)];
        for (config, key) in keys {
            sample.run(config, reference.into(), 0, base + key);
        }
    }
    sample
}

#[test]
fn each_pair_across_machines_has_its_own_floor() {
    let analysis = two_machines(8).judged();
    // Wrong: |A1 − B2| = 10, |A2 − B1| = 5.75. Right: |A1 − B1| = 0.25, |A2 − B2| = 4.
    let far = pair(&analysis, Comparison::CrossHardware, "A1", "B2");
    assert_eq!((far.answer, far.tier, far.n), (Answer::Separable, Tier::Statistical, 8));
    assert_eq!(far.distance, Some(7.875));
    let floor = far.floor.as_ref().unwrap();
    assert_eq!(
        (floor.mean.to_bits(), floor.max.to_bits(), floor.n),
        (2.125_f64.to_bits(), 4.0_f64.to_bits(), 16)
    );
    assert_eq!((far.p_value, far.p_adjusted), (Some(1.0 / 256.0), Some(3.0 / 256.0)));
    // Wrong: |A1 − B3| = 0.125, |A3 − B1| = 0.125. Right: 0.25, 0.25: the wrong replay is nearer.
    let near = pair(&analysis, Comparison::CrossHardware, "A1", "B3");
    assert_eq!((near.answer, near.ratio, near.p_value), (Answer::NotSeparable, Some(0.5), Some(1.0)));
    assert_eq!(near.floor.as_ref().unwrap().mean.to_bits(), 0.25_f64.to_bits());
    assert_eq!(
        near.sentence,
        "batch_size 1 and batch_size 3 cannot be told apart by prefill key vectors across A and B: either way the other \
         setup lies 0.125 away on average, the same setup on A and B 0.250 (0.500×); a distance of 0.500× the pair's own \
         floor would have been seen by batch_size 1 evidence; 2.00× was asked for; p = 1.00 over 8 references (the \
         larger of both directions), 1.00 after Holm's correction for 3 pairs."
    );
    let baseline = pair(&analysis, Comparison::CrossHardwareBaseline, "A2", "B2");
    assert_eq!((baseline.answer, baseline.distance), (Answer::Separable, Some(4.0)));
}

#[test]
fn too_few_references_are_said_to_be_too_few() {
    let analysis = two_machines(4).judged();
    let far = pair(&analysis, Comparison::CrossHardware, "A1", "B2");
    // Both directions separate, by 40× and by 1.4×, and 3/16 is above alpha.
    assert_eq!(far.answer, Answer::Inconclusive);
    assert!(far.sentence.contains("no such p-value is small enough below 6 references"), "{}", far.sentence);
    // Nor is a difference excluded: 2⁻⁴ is above alpha as well.
    let near = pair(&analysis, Comparison::CrossHardware, "A1", "B3");
    assert_eq!((near.answer, near.ratio_bound), (Answer::Inconclusive, None));
}

#[test]
fn the_reference_is_named_or_there_is_none() {
    let mut sample = Sample::new("batch_size", &[("bs4", "A100", 4), ("bs1", "A100", 1), ("bs2", "A100", 2)]);
    for config in ["bs4", "bs1", "bs2"] {
        sample.run(config, 0, 0, 1.0);
    }
    let first = sample.judged();
    assert_eq!(first.question.reference, None);
    let asked = sample.judge(&Options { reference: Some("bs2".into()), ..Options::default() }).unwrap();
    assert_eq!(asked.question.reference.as_deref(), Some("bs2"));
    let names: Vec<(&str, &str)> = asked.pairs.iter().map(|one| (one.a.as_str(), one.b.as_str())).collect();
    assert_eq!(names, [("bs2", "bs1"), ("bs2", "bs4"), ("bs1", "bs4")]);
    let unknown = sample.judge(&Options { reference: Some("bs8".into()), ..Options::default() }).unwrap_err();
    assert_eq!(unknown.to_string(), "no configuration is called 'bs8'; use one of bs1, bs2, bs4");
}

#[test]
fn the_reference_experiment_is_the_reference() {
    let mut ablation = Sample::new("batch_size", &[("bs2", "A100", 2)]);
    ablation.run("bs2", 0, 0, 1.0);
    let mut reference = Sample::new("batch_size", &[("base", "A100", 1)]);
    reference.experiment.metadata.experiment_type = "reference".into();
    reference.run("base", 0, 0, 1.0);
    let records = [ablation, reference]
        .map(|sample| Record::from_experiment(sample.experiment, Path::new("sample.json")));
    let sources = ["ablation.json", "reference.json"].map(source);
    let evidence: Vec<Evidence<'_>> =
        sources.iter().zip(&records).map(|(source, record)| Evidence::of_record(source, record)).collect();
    let analysis = judge_evidence(&evidence, &Options::default()).unwrap();
    assert_eq!(analysis.question.reference.as_deref(), Some("base"));
    assert_eq!(pair(&analysis, Comparison::WithinHardware, "base", "bs2").answer, Answer::Identical);
}

#[test]
fn tokens_that_part_are_an_outcome_and_no_distance() {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2)]);
    sample.run("bs1", 0, 0, 1.0).decode = Some(keys(&[1.0, 2.0, 3.0]));
    let other = sample.run("bs2", 0, 0, 1.0);
    other.output_token_ids = vec![5, 9, 7];
    other.decode = Some(keys(&[1.5, 200.0, 300.0]));
    let analysis = sample.judged();
    assert_eq!(analysis.tokens[0].part_at, Some(1));
    assert_eq!(
        sentences(&analysis, FindingKind::TokensDiverge),
        [
            "ref_0 is divergent, not noisy: its outputs part at index 1 into {bs1}, {bs2}; distances behind that are over other \
         texts and are left out."
        ]
    );
    let decode = analysis.pairs.iter().find(|one| one.phase == Phase::Decode).unwrap();
    // Only step 0 consumed the same token.
    assert_eq!((decode.answer, decode.distance), (Answer::Separable, Some(0.5)));
    assert!(decode.sentence.contains("1 of 1 rows differ"), "{}", decode.sentence);
    assert_eq!(
        analysis.pairs.iter().find(|one| one.phase == Phase::Prefill).unwrap().answer,
        Answer::Identical
    );
    assert_eq!(analysis.outcome, Outcome::Divergent);
    let steps = &analysis.profiles.iter().find(|one| one.phase == Phase::Decode).unwrap().points;
    assert_eq!(*steps, [(0, Some(0.5)), (1, None), (2, None)]);
}

#[test]
fn setups_that_differ_in_something_else_are_not_compared() {
    let mut sample =
        Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2), ("eager", "A100", 4)]);
    sample.experiment.configurations[2].fixed_params.attention_impl = "eager".into();
    sample.experiment.configurations[1].torch_version = Some("2.9.0".into());
    sample.experiment.configurations[0].torch_version = Some("2.9.1".into());
    for config in ["bs1", "bs2", "eager"] {
        sample.run(config, 0, 0, 1.0);
    }
    let analysis = sample.judged();
    assert_eq!(analysis.pairs.len(), 1);
    assert!(sentences(&analysis, FindingKind::Confounded)[0].contains("torch_version 2.9.1 and 2.9.0"));
    let by_attention =
        sample.judge(&Options { variable: Some("attention_impl".into()), ..Options::default() }).unwrap();
    assert_eq!(by_attention.question.variable, "attention");
    assert_eq!(by_attention.pairs.len(), 0, "batch sizes differ as well");
    let unknown =
        sample.judge(&Options { variable: Some("colour".into()), ..Options::default() }).unwrap_err();
    assert!(
        unknown.to_string().starts_with("no configuration states 'colour'; use one of attention, batch_size")
    );
}

#[test]
fn the_same_evidence_gives_the_same_bytes() {
    let sample = two_machines(6);
    let once = serde_json::to_string(&sample.judged()).unwrap();
    assert_eq!(once, serde_json::to_string(&sample.judged()).unwrap());
    // Sites enter their map in another order.
    let mut shuffled = two_machines(6);
    for run in &mut shuffled.experiment.runs {
        let prefill = run.prefill.as_mut().unwrap();
        prefill.tensors = std::mem::take(&mut prefill.tensors).into_iter().rev().collect();
    }
    assert_eq!(once, serde_json::to_string(&shuffled.judged()).unwrap());
    assert!(!once.contains("null,null"), "no value stands for one that is missing");
}

#[test]
fn levels_outside_their_range_are_refused() {
    let sample = two_machines(1);
    let error = sample.judge(&Options { alpha: 0.0, ..Options::default() }).unwrap_err();
    assert_eq!(error.to_string(), "alpha is 0; it must lie between 0 and 1, both excluded");
}

#[test]
fn signals_can_be_chosen() {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2)]);
    for (config, log_prob) in [("bs1", -0.5_f32), ("bs2", -0.75)] {
        let logprobs = Logprobs {
            steps: 1,
            positions: 1,
            k: 2,
            vocab_size: None,
            token_ids: vec![7, 8],
            log_probs: vec![log_prob, -2.0],
        };
        sample.run(config, 0, 0, 1.0).prefill.as_mut().unwrap().logprobs = Some(logprobs);
    }
    assert_eq!(sample.judged().question.signals, [Signal::KeyVectors, Signal::Logprobs]);
    let options = Options { signals: Some([Signal::Logprobs].into()), ..Options::default() };
    let analysis = sample.judge(&options).unwrap();
    assert_eq!(analysis.question.signals, [Signal::Logprobs]);
    assert_eq!(analysis.pairs.len(), 1);
    // Root mean square over two ids of which one moved by 0.25.
    let expected = (0.25_f64 * 0.25 / 2.0).sqrt();
    assert!((analysis.pairs[0].distance.unwrap() - expected).abs() < 1e-12);
}
