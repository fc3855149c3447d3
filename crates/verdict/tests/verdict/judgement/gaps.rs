//! What is missing is never read as equal: rows, sites, references and outputs that one side lacks.

use mantissa_verdict::analysis::{Answer, Comparison, FindingKind, Outcome, RowCounts, State, TokenBasis};

use super::synthetic::{Sample, keys, pair, sentences};
use mantissa_numerics::Phase;

fn two(decode: [usize; 2]) -> Sample {
    let mut sample = Sample::new("batch_size", &[("bs1", "A100", 1), ("bs2", "A100", 2)]);
    for (config, steps) in ["bs1", "bs2"].into_iter().zip(decode) {
        for rep in 0..2 {
            let run = sample.run(config, 0, rep, 1.0);
            run.prefill = None;
            run.decode = Some(keys(&vec![1.0; steps]));
        }
    }
    sample
}

#[test]
fn rows_that_one_side_lacks_are_not_equal() {
    let analysis = two([3, 1]).judged();
    let verdict = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    assert_eq!(verdict.answer, Answer::Inconclusive);
    assert_eq!(verdict.rows, Some(RowCounts { equal: 1, different: 0, missing: 2, incomparable: 0 }));
    assert_eq!(
        verdict.sentence,
        "bs1 and bs2 are not shown to give the same decode key vectors on A100: 1 row equal, 2 missing in bs2 over 1 \
         reference."
    );
    assert!(analysis.classes[0].classes.is_empty());
    assert_eq!(
        analysis.classes[0].unplaced[1],
        ("bs2".to_owned(), "against bs1 by key vectors: 1 row equal, 2 missing in bs2".to_owned())
    );
    assert_eq!(analysis.matrices[0].cells[0][1].state, State::Missing);
    assert_eq!(analysis.matrices[0].cells[0][0].state, State::Equal);
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
    assert_eq!(two([3, 3]).judged().outcome, Outcome::Consistent);
}

#[test]
fn a_signal_that_one_side_lacks_forbids_consistency() {
    let mut sample = two([3, 3]);
    for run in &mut sample.experiment.runs[..2] {
        run.prefill = Some(keys(&[1.0]));
    }
    let analysis = sample.judged();
    let of = |phase| analysis.pairs.iter().find(|pair| pair.phase == phase).unwrap();
    assert_eq!(of(Phase::Decode).answer, Answer::Identical);
    assert_eq!(of(Phase::Prefill).answer, Answer::Incomparable);
    assert_eq!(of(Phase::Prefill).rows.unwrap().missing, 1);
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
}

#[test]
fn a_reference_that_one_side_lacks_is_a_gap() {
    let mut sample = two([3, 3]);
    for rep in 0..2 {
        let run = sample.run("bs1", 1, rep, 1.0);
        run.prefill = None;
        run.decode = Some(keys(&[1.0, 1.0]));
    }
    let analysis = sample.judged();
    let verdict = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    assert_eq!((verdict.answer, verdict.n, verdict.incomparable), (Answer::Inconclusive, 1, 1));
    assert_eq!(verdict.rows.unwrap().missing, 2);
    assert!(verdict.sentence.contains("3 rows equal, 2 missing in bs2"), "{}", verdict.sentence);
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
}

#[test]
fn a_difference_decides_whatever_is_missing() {
    let mut sample = two([3, 1]);
    for run in &mut sample.experiment.runs[2..] {
        run.decode = Some(keys(&[2.0]));
    }
    let analysis = sample.judged();
    let verdict = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    assert_eq!(verdict.answer, Answer::Separable);
    assert_eq!(verdict.rows, Some(RowCounts { equal: 0, different: 1, missing: 2, incomparable: 0 }));
    assert_eq!(analysis.outcome, Outcome::Divergent);
    assert_eq!(
        sentences(&analysis, FindingKind::Separable).len(),
        1,
        "the pair and its classes are one finding"
    );
}

#[test]
fn an_output_that_stops_early_is_missing_and_not_divergent() {
    let mut sample = two([3, 3]);
    for run in &mut sample.experiment.runs[2..] {
        run.output_token_ids = vec![5, 6];
        run.decode = Some(keys(&[1.0; 2]));
    }
    let analysis = sample.judged();
    let tokens = &analysis.tokens[0];
    assert_eq!((tokens.groups.as_slice(), tokens.part_at), (&[vec!["bs1".to_owned()]][..], None));
    assert_eq!(tokens.stopped, [("bs2".to_owned(), 2)]);
    assert!(sentences(&analysis, FindingKind::TokensDiverge).is_empty());
    assert!(sentences(&analysis, FindingKind::Missing).contains(
        &"ref_0 is not whole in every setup: bs2 stops after 2 outputs; what follows there is missing, not different."
    ));
    let verdict = pair(&analysis, Comparison::WithinHardware, "bs1", "bs2");
    assert_eq!(verdict.answer, Answer::Inconclusive, "{}", verdict.sentence);
    assert!(verdict.sentence.contains("bs2 stops after 2 outputs in ref_0"), "{}", verdict.sentence);
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
    // Prefill alone has nothing behind the stop, and the whole is still not shown to agree.
    for run in &mut sample.experiment.runs {
        run.decode = None;
        run.prefill = Some(keys(&[1.0]));
    }
    let analysis = sample.judged();
    assert!(!analysis.pairs.is_empty());
    assert!(analysis.pairs.iter().all(|pair| pair.answer == Answer::Identical));
    assert_eq!(analysis.outcome, Outcome::NotEnoughEvidence);
}

#[test]
fn one_output_agrees_with_nothing() {
    let mut sample = two([3, 3]);
    sample.experiment.runs.truncate(2);
    let analysis = sample.judged();
    assert_eq!(analysis.tokens[0].basis, TokenBasis::Unknown);
    assert_eq!(two([3, 3]).judged().tokens[0].basis, TokenBasis::Ids);
}
