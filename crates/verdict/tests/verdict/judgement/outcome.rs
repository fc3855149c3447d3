//! The outcome in one word never says less than the findings.

use std::path::Path;

use mantissa_evidence::Record;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Answer, FindingKind, Outcome, State};
use mantissa_verdict::judge::{Evidence, Options, judge_evidence};

use super::synthetic::{Sample, keys, sentences, source};

/// Judges samples as files of their own: `0.json`, `1.json`, …
fn judged(samples: &[Sample]) -> Analysis {
    let names: Vec<String> = (0..samples.len()).map(|index| format!("{index}.json")).collect();
    let sources: Vec<_> = names.iter().map(|name| source(name)).collect();
    let records: Vec<Record> = samples
        .iter()
        .zip(&names)
        .map(|(sample, name)| Record::from_experiment(sample.experiment.clone(), Path::new(name)))
        .collect();
    let evidence: Vec<Evidence<'_>> =
        sources.iter().zip(&records).map(|(source, record)| Evidence::of_record(source, record)).collect();
    judge_evidence(&evidence, &Options::default()).unwrap()
}

fn batch_one(key: f32) -> Sample {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1)]);
    for rep in 0..2 {
        sample.run("bs1", 0, rep, key);
    }
    sample
}

#[test]
fn the_same_setup_in_two_files_with_other_bits_is_divergent() {
    let analysis = judged(&[batch_one(1.0), batch_one(2.0)]);
    assert_eq!(analysis.outcome, Outcome::Divergent);
    assert_eq!(
        sentences(&analysis, FindingKind::NonDeterministic),
        [
            "bs1@A100 (0.json) and bs1@A100 (1.json) state the same setup and differ in prefill, in 1 of 1 compared rows: \
             the setup does not repeat itself, or something that is not stated differs."
        ]
    );
    let again = analysis.reproducibility.last().unwrap();
    assert_eq!((again.state, again.distance, again.tokens_part), (State::Different, Some(1.0), Some(false)));
    let same = judged(&[batch_one(1.0), batch_one(1.0)]);
    assert_eq!(same.outcome, Outcome::Consistent);
    assert_eq!(same.reproducibility.last().unwrap().state, State::Equal);
}

#[test]
fn setups_with_other_versions_are_no_repetition_and_still_divergent() {
    let (mut first, mut other) = (batch_one(1.0), batch_one(2.0));
    first.experiment.configurations[0].torch_version = Some("2.9.1".into());
    other.experiment.configurations[0].torch_version = Some("2.9.0".into());
    let analysis = judged(&[first, other]);
    assert!(sentences(&analysis, FindingKind::NonDeterministic).is_empty());
    assert_eq!(sentences(&analysis, FindingKind::Separable).len(), 1);
    assert_eq!(analysis.outcome, Outcome::Divergent);
}

/// Numbers of which only the variety matters.
struct Lot(u64);

impl Lot {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn key(&mut self) -> f32 {
        [1.0, 1.0, 1.0, 1.25, 2.0][usize::try_from(self.below(5)).unwrap()]
    }
}

/// One to three setups on two machines, up to two repetitions on up to two references, rows and outputs now and then
/// others, shorter or missing.
fn drawn(lot: &mut Lot) -> Sample {
    let all = [("a", "A", 1), ("b", "A", 2), ("c", "B", 1), ("d", "B", 2)];
    let first = usize::try_from(lot.below(4)).unwrap();
    let setups: Vec<_> = all[first..].iter().copied().take(3).collect();
    let mut sample = Sample::new("batch_size", &setups);
    let (references, repetitions) = (1 + lot.below(2), 1 + lot.below(2));
    for (id, _, _) in setups {
        for reference in 0..references {
            for rep in 0..repetitions {
                let key = if lot.below(3) == 0 { lot.key() } else { 1.0 };
                let run = sample.run(id, u32::try_from(reference).unwrap(), u32::try_from(rep).unwrap(), key);
                if lot.below(8) == 0 {
                    run.prefill = None;
                }
                if lot.below(2) == 0 {
                    run.decode = Some(keys(&[1.0, 2.0, 3.0][..usize::try_from(1 + lot.below(3)).unwrap()]));
                }
                match lot.below(16) {
                    0 => run.output_token_ids = vec![5, 9, 7],
                    1 => run.output_token_ids = vec![5, 6],
                    _ => {}
                }
            }
        }
    }
    sample
}

#[test]
fn a_finding_that_something_differs_implies_divergent() {
    let mut lot = Lot(7);
    let (mut outcomes, mut kinds) = (Vec::new(), Vec::new());
    for _ in 0..600 {
        let files = 1 + lot.below(2);
        let samples: Vec<Sample> = (0..files).map(|_| drawn(&mut lot)).collect();
        let analysis = judged(&samples);
        let differs = |kind| {
            matches!(
                kind,
                FindingKind::Separable
                    | FindingKind::NonDeterministic
                    | FindingKind::TokensDiverge
                    | FindingKind::OtherWeights
            )
        };
        let found: Vec<_> = analysis.findings.iter().filter(|finding| differs(finding.kind)).collect();
        assert_eq!(!found.is_empty(), analysis.outcome == Outcome::Divergent, "{analysis:#?}");
        if analysis.outcome == Outcome::Consistent {
            assert!(analysis.pairs.iter().all(|pair| pair.answer == Answer::Identical));
            assert!(analysis.classes.iter().all(|set| set.classes.len() == 1 && set.unplaced.is_empty()));
        }
        outcomes.push(analysis.outcome);
        kinds.extend(found.iter().map(|finding| finding.kind));
    }
    for outcome in [Outcome::Consistent, Outcome::Divergent, Outcome::NotEnoughEvidence] {
        assert!(outcomes.contains(&outcome), "{outcome:?} never drawn");
    }
    for kind in [FindingKind::Separable, FindingKind::NonDeterministic, FindingKind::TokensDiverge] {
        assert!(kinds.contains(&kind), "{kind:?} never drawn");
    }
}

/// A grid over two axes: setups that differ in both are pairs too, and a third field is still held fixed.
#[test]
fn several_fields_may_vary_together() {
    let setups = [("a", "h", 1), ("b", "h", 2), ("c", "h", 3)];
    let mut sample = Sample::new("batch_size,attention_impl", &setups);
    sample.experiment.configurations[1].fixed_params.attention_impl = "eager".into();
    sample.experiment.configurations[2].fixed_params.tp_size = 2;
    for (config, key) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        sample.run(config, 0, 0, key);
    }
    let analysis = sample.judged();
    let pairs: Vec<(&str, &str)> =
        analysis.pairs.iter().map(|one| (one.a.as_str(), one.b.as_str())).collect();
    assert_eq!(pairs, [("a", "b")]);
}
