//! The statement about repetitions: identical, divergent with the first place, or not checked.

use mantissa_evidence::{FirstDifference, Outcome, Reproducibility, Run, first_difference};
use mantissa_numerics::{Dtype, Phase, Point, Site};

use crate::sample;

fn repetition(rep_id: u32) -> Run {
    sample::run(rep_id, Dtype::Bf16, 3, 9)
}

#[test]
fn equal_bits_are_identical_whatever_the_clocks() {
    let check = Reproducibility::check(&[repetition(0), repetition(1), repetition(2)]);
    assert_eq!((check.repetitions, &check.outcome), (3, &Outcome::Identical));
    assert_eq!(check.digests.len(), 3);
    assert!(check.digests.windows(2).all(|pair| pair[0].signals == pair[1].signals));
    assert_eq!(Reproducibility::check(&[repetition(0)]).outcome, Outcome::NotChecked);
    assert_eq!(Reproducibility::check(&[]).outcome, Outcome::NotChecked);
}

/// One flipped bit anywhere is found, at its place, and changes the digest.
#[test]
fn every_flipped_byte_is_found_where_it_is() {
    let a = repetition(0);
    let mut flips = 0;
    for phase in [Phase::Prefill, Phase::Decode] {
        for (&site, tensor) in &a.phase(phase).unwrap().tensors {
            let [_, positions, dim] = tensor.shape;
            for byte in 0..tensor.data.len() {
                let mut b = repetition(1);
                let signals = if phase == Phase::Prefill { &mut b.prefill } else { &mut b.decode };
                signals.as_mut().unwrap().tensors.get_mut(&site).unwrap().data[byte] ^= 0x10;
                let value = byte / 2;
                let expected = FirstDifference::Signal {
                    phase,
                    step: (value / dim / positions) as u64,
                    position: [-3, -2, -1][value / dim % positions],
                    site,
                    element: (value % dim) as u64,
                };
                assert_eq!(first_difference(&a, &b), Some(expected));
                assert_ne!(a.signals_digest(), b.signals_digest());
                flips += 1;
            }
        }
    }
    assert!(flips > 500);
}

#[test]
fn tokens_logprobs_prompts_and_layouts_differ_by_name() {
    let a = repetition(0);
    let mut b = repetition(1);
    b.output_token_ids[3] += 1;
    assert_eq!(first_difference(&a, &b), Some(FirstDifference::Token { index: 3 }));
    let mut d = repetition(1);
    d.neighbours[0].output_token_ids[0] += 1;
    let expected = FirstDifference::NeighbourToken { sequence: 1, index: 0 };
    assert_eq!(first_difference(&a, &d), Some(expected));
    let logprobs = b.decode.as_mut().unwrap().logprobs.as_mut().unwrap();
    logprobs.log_probs[5 * 3 * 2 + 5 + 3] = -7.5;
    let expected = FirstDifference::Logprobs { phase: Phase::Decode, step: 2, position: -2, candidate: 3 };
    assert_eq!(first_difference(&a, &b), Some(expected.clone()));
    b.rep_id = 2;
    let check = Reproducibility::check(&[a.clone(), repetition(1), b.clone()]);
    assert_eq!(check.outcome, Outcome::Divergent { reference_id: 0, repetitions: [0, 2], first: expected });
    b.decode.as_mut().unwrap().tensors.remove(&Site::at(1, Point::K));
    assert_eq!(first_difference(&a, &b), Some(FirstDifference::Layout { phase: Phase::Decode }));
    b.neighbours[0].prompt_token_ids[0] += 1;
    assert_eq!(first_difference(&a, &b), Some(FirstDifference::Prompt));
    let mut c = repetition(1);
    c.decode = None;
    c.prefill = None;
    assert_eq!(first_difference(&a, &c), Some(FirstDifference::Layout { phase: Phase::Prefill }));
}

/// A recorder that kept only later steps: their differences have their own numbers, after the tokens before them.
#[test]
fn steps_are_numbered_from_the_first_token() {
    let later = |rep_id| {
        let mut run = repetition(rep_id);
        run.decode.as_mut().unwrap().first_step = 1;
        run
    };
    let (a, mut b) = (later(0), later(1));
    assert_eq!(first_difference(&a, &b), None);
    let layout = Some(FirstDifference::Layout { phase: Phase::Decode });
    assert_eq!(first_difference(&a, &repetition(1)), layout);
    b.decode.as_mut().unwrap().logprobs.as_mut().unwrap().log_probs[5 * 3 + 1] = -7.5;
    let expected = FirstDifference::Logprobs { phase: Phase::Decode, step: 2, position: -3, candidate: 1 };
    assert_eq!(first_difference(&a, &b), Some(expected));
    b.output_token_ids[1] += 1;
    assert_eq!(first_difference(&a, &b), Some(FirstDifference::Token { index: 1 }));
}
