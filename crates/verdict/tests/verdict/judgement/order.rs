//! Order is nothing, and a copy is no evidence: whatever is permuted, the analysis is the same bytes.

use std::path::Path;

use mantissa_evidence::{Experiment, Record};
use mantissa_published::{Content, open};
use mantissa_testkit::synthetic;
use mantissa_verdict::analysis::{Answer, FindingKind, Source};
use mantissa_verdict::judge::{Evidence, Options, judge_evidence};
use mantissa_verdict::{Analysis, judge};
use proptest::prelude::*;

use super::synthetic::{Sample, keys, sentences, source};

fn judged(files: &[(&str, &Experiment)]) -> Analysis {
    let records: Vec<Record> = files
        .iter()
        .map(|(name, experiment)| Record::from_experiment((*experiment).clone(), Path::new(name)))
        .collect();
    let sources: Vec<Source> = files.iter().map(|(name, _)| source(name)).collect();
    let evidence: Vec<Evidence<'_>> =
        sources.iter().zip(&records).map(|(source, record)| Evidence::of_record(source, record)).collect();
    judge_evidence(&evidence, &Options::default()).unwrap()
}

fn bytes(files: &[(&str, &Experiment)]) -> String {
    serde_json::to_string_pretty(&judged(files)).unwrap()
}

/// A run that is drawn: configuration, prompt, what it left, the last output.
type Drawn = (usize, u32, u8, u32);

/// An experiment of three setups on two machines. Few different values, so that repetitions agree as often as not.
fn experiment(drawn: &[Drawn]) -> Experiment {
    let names = [("b1", "A", 1), ("b2", "A", 2), ("b1 there", "B", 1)];
    let mut sample = Sample::new("batch_size", &names);
    let mut repetitions = [[0; 3]; 3];
    for &(config, reference, key, token) in drawn {
        let rep = &mut repetitions[config][reference as usize];
        let run = sample.run(names[config].0, reference, *rep, f32::from(key));
        run.decode = Some(keys(&[1.0, f32::from(key) + 0.5, 2.0]));
        run.output_token_ids[2] = token;
        *rep += 1;
    }
    sample.experiment
}

fn shuffled<T: Clone>(items: &[T], keys: &[u32]) -> Vec<T> {
    let mut order: Vec<(u32, usize)> = keys.iter().copied().cycle().zip(0..items.len()).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, index)| items[index].clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn repetitions_runs_configurations_and_files_may_come_in_any_order(
        drawn in prop::collection::vec((0..3_usize, 0..3_u32, 0..4_u8, 7..9_u32), 1..24),
        keys in prop::collection::vec(any::<u32>(), 31),
    ) {
        let first = experiment(&drawn);
        let expected = bytes(&[("a.json", &first)]);
        // Another number for each repetition, which is what comes of drawing in another order.
        let again = experiment(&shuffled(&drawn, &keys));
        prop_assert_eq!(&bytes(&[("a.json", &again)]), &expected);
        // The same numbers, stored in another order.
        let mut moved = first.clone();
        moved.runs = shuffled(&first.runs, &keys);
        moved.configurations = shuffled(&first.configurations, &keys[7..]);
        prop_assert_eq!(&bytes(&[("a.json", &moved)]), &expected);
        // The same runs in two files, given either way, and in either order within.
        let part = |of: &Experiment, mine: bool| {
            let mut part = of.clone();
            part.configurations.retain(|one| (one.config_id == "b1") == mine);
            part.runs.retain(|run| (run.config_id == "b1") == mine);
            part
        };
        let (x, y) = (part(&first, true), part(&first, false));
        let (other_x, other_y) = (part(&moved, true), part(&moved, false));
        let split = bytes(&[("x.json", &x), ("y.json", &y)]);
        prop_assert_eq!(&bytes(&[("y.json", &other_y), ("x.json", &other_x)]), &split);
    }

    #[test]
    fn a_copy_of_a_file_or_a_run_changes_nothing_but_that_it_is_said(
        drawn in prop::collection::vec((0..3_usize, 0..3_u32, 0..4_u8, 7..9_u32), 2..16),
        keys in prop::collection::vec(any::<u32>(), 31),
    ) {
        let first = experiment(&drawn);
        let expected = judged(&[("a.json", &first)]);
        let mut moved = first.clone();
        moved.runs = shuffled(&first.runs, &keys);
        let mut twice = judged(&[("a.json", &first), ("b.json", &moved)]);
        let said = |finding: &mantissa_verdict::analysis::Finding| finding.sentence.contains("is no further evidence");
        prop_assert_eq!(twice.findings.iter().filter(|one| said(one)).count(), 1);
        twice.findings.retain(|one| !said(one));
        twice.sources.truncate(1);
        prop_assert_eq!(&twice, &expected);
        let mut copied = first.clone();
        copied.runs.extend(first.runs.first().cloned());
        let mut copied = judged(&[("a.json", &copied)]);
        prop_assert_eq!(copied.findings.iter().filter(|one| said(one)).count(), 1);
        copied.findings.retain(|one| !said(one));
        prop_assert_eq!(&copied, &expected);
    }
}

/// The same repetitions, those of one side the other way round.
#[test]
fn three_repetitions_each_are_too_few_whichever_comes_first() {
    let [order1, order2] = [[-1.01, -1.11, -1.21], [-1.21, -1.11, -1.01]].map(|second| {
        let mut sample = Sample::new("hardware", &[("a", "a", 1), ("b", "b", 2)]);
        for (config, values) in [("a", [-1.0, -1.1, -1.2]), ("b", second)] {
            for (rep, value) in (0..).zip(values) {
                sample.run(config, 0, rep, value);
            }
        }
        sample.experiment
    });
    let analysis = judged(&[("a.json", &order1)]);
    assert_eq!(analysis, judged(&[("a.json", &order2)]));
    let [pair] = &analysis.pairs[..] else { panic!("{:#?}", analysis.pairs) };
    assert_eq!(pair.answer, Answer::Inconclusive);
    assert!(pair.p_value >= Some(0.1), "2 of 20 at best");
    assert!(
        pair.sentence.contains("below 4 different repetitions of each setup on 1 reference"),
        "{}",
        pair.sentence
    );
    assert!(sentences(&analysis, FindingKind::NotSeparable).is_empty());
}

/// Distances that others measured: the order of a matrix's rows is nothing either.
#[test]
fn values_of_stored_distances_may_come_in_any_order() {
    for name in ["quant_verification.json", "batch_verification.json", "attention.log"] {
        let file = open(&synthetic(name)).unwrap();
        let Content::Published(published) = &file.content else { panic!("{name}") };
        let given = Source::from(&file);
        let as_is = judge(&[(given.clone(), &file.content)], &Options::default()).unwrap();
        let mut turned = published.verifications();
        for verification in &mut turned {
            verification.values.reverse();
            let last = verification.values.len() - 1;
            let cells = std::mem::take(&mut verification.cells);
            verification.cells = cells
                .into_iter()
                .map(|(mut key, cell)| {
                    (key.claimed, key.verified) = (last - key.claimed, last - key.verified);
                    (key, cell)
                })
                .collect();
        }
        let mut evidence = Evidence::of_verifications(&given, turned);
        (evidence.repeats, evidence.tokens) = (published.repeats(), published.tokens());
        evidence.models = published.models();
        assert_eq!(judge_evidence(&[evidence], &Options::default()).unwrap(), as_is, "{name}");
    }
}
