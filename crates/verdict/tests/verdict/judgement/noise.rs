//! Setups that do not repeat themselves: bits of one repetition decide nothing about them.

use mantissa_numerics::Phase;
use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::{Answer, Comparison, Tier};

use super::synthetic::{Sample, keys, pair};

/// One reference, two repetitions of each setup: `(setup, hardware, value, keys of both)`.
fn sample(setups: &[(&str, &str, u32, [f32; 2])]) -> Sample {
    let configurations: Vec<(&str, &str, u32)> =
        setups.iter().map(|&(id, hardware, value, _)| (id, hardware, value)).collect();
    let mut sample = Sample::new("batch_size", &configurations);
    for &(id, _, _, values) in setups {
        for (rep, key) in (0..).zip(values) {
            sample.run(id, 0, rep, key);
        }
    }
    sample
}

/// No verdict about `noisy` in `phase` is exact.
fn never_exact(analysis: &Analysis, noisy: &str, phase: Phase) {
    let about = analysis
        .pairs
        .iter()
        .filter(|one| one.phase == phase && [&one.a, &one.b].contains(&&noisy.to_owned()));
    assert!(about.clone().count() > 0);
    for one in about {
        assert_ne!(one.tier, Tier::Exact, "{one:#?}");
        assert_ne!(one.answer, Answer::Identical, "{one:#?}");
        assert!(one.sentence.contains("does not repeat itself"), "{}", one.sentence);
    }
}

#[test]
fn equal_first_repetitions_are_no_class_where_others_differ() {
    let sample = sample(&[("bs1", "A100", 1, [1.0, 1.0]), ("bs2", "A100", 2, [1.0, 2.0])]);
    let analysis = sample.judged();
    never_exact(&analysis, "bs2", Phase::Prefill);
    let verdict = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    // One reference can tell nothing apart, and exclude nothing.
    assert_eq!((verdict.answer, verdict.tier), (Answer::Inconclusive, Tier::Statistical));
    assert!(analysis.classes[0].classes.is_empty());
}

#[test]
fn a_baseline_of_a_setup_that_does_not_repeat_itself_is_held_against_its_repetitions() {
    for there in [[1.0, 1.25], [9.0, 9.25]] {
        let sample = sample(&[("A1", "A", 1, [1.0, 1.0]), ("B1", "B", 1, there)]);
        let analysis = sample.judged();
        never_exact(&analysis, "B1", Phase::Prefill);
        let baseline = pair(&analysis, Comparison::CrossHardwareBaseline, "A1", "B1");
        assert_eq!(baseline.floor.as_ref().map(|floor| floor.mean), Some(0.25));
        // One reference is too few to tell more.
        assert_eq!(baseline.answer, Answer::Inconclusive);
        assert!(baseline.sentence.contains("below 4 different repetitions of each setup on 1 reference"));
    }
}

#[test]
fn equal_bits_across_machines_are_no_exact_match_of_noise() {
    let sample = sample(&[
        ("A1", "A", 1, [1.0, 1.0]),
        ("A2", "A", 2, [2.0, 2.0]),
        ("B1", "B", 1, [1.0, 1.5]),
        ("B2", "B", 2, [2.0, 2.0]),
    ]);
    let analysis = sample.judged();
    never_exact(&analysis, "B1", Phase::Prefill);
    let crossed = pair(&analysis, Comparison::CrossHardware, "A1", "B2");
    assert_eq!(crossed.tier, Tier::Statistical);
    assert!(crossed.sentence.contains("B1 does not repeat itself"), "{}", crossed.sentence);
}

#[test]
fn tokens_that_part_between_repetitions_are_noise_as_well() {
    let mut sample =
        sample(&[("bs1", "A100", 1, [1.0; 2]), ("bs2", "A100", 2, [1.0; 2]), ("bs4", "A100", 4, [1.0; 2])]);
    for run in &mut sample.experiment.runs {
        run.decode = Some(keys(&[1.0, 2.0, 3.0]));
        if run.config_id != "bs1" {
            run.output_token_ids = vec![5, 9, 7];
        }
    }
    // The second repetition of bs2 emits what bs1 does.
    sample.experiment.runs[3].output_token_ids = vec![5, 6, 7];
    let analysis = sample.judged();
    never_exact(&analysis, "bs2", Phase::Decode);
    let of = |a: &str, b: &str| {
        let found = analysis.pairs.iter().find(|one| one.phase == Phase::Decode && one.a == a && one.b == b);
        found.unwrap().clone()
    };
    // Tokens of bs1 and bs4 part and both repeat themselves; those of bs2 are noise.
    assert_eq!(of("bs1", "bs4").answer, Answer::Separable);
    assert_eq!((of("bs1", "bs2").answer, of("bs1", "bs2").tier), (Answer::Inconclusive, Tier::None));
    assert_eq!(
        of("bs1", "bs2").sentence,
        "bs1 and bs2 have equal bits in 3 rows of decode key vectors, but bs2 does not repeat itself in decode, so \
         that this would hold of other repetitions was not shown."
    );
}
