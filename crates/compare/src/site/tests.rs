//! Facts on small runs whose every value is known.

use mantissa_evidence::Neighbour;
use mantissa_numerics::Point;
use proptest::prelude::*;

use super::*;

const EMBED: Site = Site::outside(Point::EmbedOut);
const ATTN: Site = Site::at(1, Point::AttnOut);
const X_OUT: Site = Site::at(1, Point::XOut);

fn tensor(dtype: Dtype, shape: [usize; 3], values: &[f32]) -> SignalTensor {
    let mut data = Vec::new();
    for &value in values {
        dtype.encode(value, &mut data);
    }
    assert_eq!(values.len(), shape.iter().product::<usize>());
    SignalTensor { dtype, shape, data }
}

fn signals(steps: usize, positions: &[i32], tensors: &[(Site, SignalTensor)]) -> PhaseSignals {
    let tensors = tensors.iter().cloned().collect();
    PhaseSignals { first_step: 0, steps, positions: positions.to_vec(), tensors, logprobs: None }
}

/// A run of four prompt ids, three output ids, and two sites of width two, all values zero.
fn run() -> Run {
    let zeros = |steps: usize| tensor(Dtype::Bf16, [steps, 3, 2], &vec![0.0; steps * 6]);
    let of = |steps| signals(steps, &[-3, -2, -1], &[(EMBED, zeros(steps)), (X_OUT, zeros(steps))]);
    Run {
        config_id: "c".into(),
        rep_id: 0,
        reference_id: 0,
        timestamp: None,
        runtime_seconds: None,
        prompt_text: String::new(),
        prompt_label: None,
        prompt_token_ids: vec![1, 2, 3, 4],
        output_token_ids: vec![5, 6, 7],
        output_token_texts: Vec::new(),
        neighbours: Vec::new(),
        prompt_source: None,
        prefill: Some(of(1)),
        decode: Some(of(3)),
    }
}

fn decode(run: &mut Run) -> &mut PhaseSignals {
    run.decode.as_mut().unwrap()
}

/// Sets one value, by row and element.
fn set(signals: &mut PhaseSignals, site: Site, step: usize, position: usize, element: usize, value: f32) {
    let tensor = signals.tensors.get_mut(&site).unwrap();
    let [_, positions, dim] = tensor.shape;
    let size = tensor.dtype.size();
    let at = ((step * positions + position) * dim + element) * size;
    let mut bytes = Vec::new();
    tensor.dtype.encode(value, &mut bytes);
    tensor.data[at..at + size].copy_from_slice(&bytes);
}

fn of(facts: &[SiteFact], phase: Phase, site: Site) -> SiteFact {
    facts.iter().find(|fact| (fact.phase, fact.site) == (phase, site)).unwrap().clone()
}

#[test]
fn equal_runs_say_how_much_was_equal_and_neighbours_do_not_matter() {
    let (a, mut b) = (run(), run());
    b.neighbours.push(Neighbour { prompt_token_ids: vec![9], output_token_ids: vec![], source: None });
    let facts = site_differences(&a, &b);
    assert_eq!(facts.len(), 4);
    assert_eq!(of(&facts, Phase::Prefill, EMBED).comparison, Comparison::Equal { values: 6 });
    assert_eq!(of(&facts, Phase::Decode, X_OUT).comparison, Comparison::Equal { values: 18 });
    assert_eq!(first_difference(&a, &b), None);
}

#[test]
fn a_difference_is_measured_in_its_format_and_located() {
    let (a, mut b) = (run(), run());
    // Step 1, position -2, element 1: the smallest subnormal of bf16, and a larger value later.
    let tiny = f32::from_bits(1 << 16);
    set(decode(&mut b), X_OUT, 1, 1, 1, tiny);
    set(decode(&mut b), X_OUT, 2, 0, 0, -3.0);
    set(decode(&mut b), EMBED, 2, 2, 0, 4.0);
    let facts = site_differences(&a, &b);
    let Comparison::Different(difference) = of(&facts, Phase::Decode, X_OUT).comparison else { panic!() };
    let first = Place { phase: Phase::Decode, step: 1, position: -2, site: X_OUT, element: 1 };
    assert_eq!((difference.values, difference.different, difference.non_finite), (18, 2, 0));
    assert_eq!(difference.max_ulps, Some(0x4040), "bits of bf16 3.0");
    assert_eq!(difference.max_abs.to_bits(), 3.0_f64.to_bits());
    assert_eq!(difference.l2.to_bits(), 3.0_f64.to_bits(), "a subnormal's square is lost beside 9");
    assert_eq!(difference.first, first);
    // embed_out comes first in the data flow, and differs only in a later step.
    assert_eq!(first_difference(&a, &b), Some(first));
    set(b.prefill.as_mut().unwrap(), X_OUT, 0, 2, 0, 1.0);
    assert_eq!(
        first_difference(&b, &a),
        Some(Place { phase: Phase::Prefill, step: 0, position: -1, site: X_OUT, element: 0 })
    );
}

#[test]
fn within_a_step_the_site_decides_before_the_position() {
    let (a, mut b) = (run(), run());
    set(decode(&mut b), X_OUT, 1, 0, 0, 1.0);
    set(decode(&mut b), EMBED, 1, 2, 0, 1.0);
    assert_eq!(first_difference(&a, &b).map(|place| (place.step, place.site)), Some((1, EMBED)));
}

#[test]
fn signed_zeros_differ_in_bits_and_are_no_distance_apart() {
    let (a, mut b) = (run(), run());
    set(decode(&mut b), EMBED, 0, 0, 0, -0.0);
    let Comparison::Different(difference) = of(&site_differences(&a, &b), Phase::Decode, EMBED).comparison
    else {
        panic!()
    };
    assert_eq!((difference.different, difference.max_ulps), (1, Some(0)));
    assert_eq!(difference.l2.to_bits(), 0);
}

#[test]
fn what_is_not_finite_is_counted_and_never_folded_into_a_distance() {
    let (mut a, mut b) = (run(), run());
    set(decode(&mut a), EMBED, 0, 0, 0, f32::NAN);
    set(decode(&mut b), EMBED, 0, 0, 1, f32::INFINITY);
    // The same infinity on both sides is equal.
    for run in [&mut a, &mut b] {
        set(decode(run), EMBED, 1, 0, 0, f32::NEG_INFINITY);
    }
    set(decode(&mut b), EMBED, 2, 0, 0, 0.5);
    let Comparison::Different(difference) = of(&site_differences(&a, &b), Phase::Decode, EMBED).comparison
    else {
        panic!()
    };
    assert_eq!((difference.different, difference.non_finite), (3, 2));
    assert_eq!(difference.max_ulps, Some(0x7f80), "zero to infinity; the NaN has no distance");
    assert_eq!(
        (difference.l2.to_bits(), difference.max_abs.to_bits()),
        (0.5_f64.to_bits(), 0.5_f64.to_bits())
    );
}

#[test]
fn after_the_outputs_part_only_rows_of_a_common_prefix_are_compared() {
    let (a, mut b) = (run(), run());
    b.output_token_ids[1] = 99;
    assert_eq!(Tokens::align(&a, &b), Tokens::OutputsPart { index: 1 });
    // Rows after the parting: step 1 position -1, step 2 positions -1 and -2. They may differ as they like.
    set(decode(&mut b), X_OUT, 1, 2, 0, 8.0);
    set(decode(&mut b), X_OUT, 2, 1, 0, 8.0);
    set(decode(&mut b), X_OUT, 2, 2, 0, 8.0);
    let fact = of(&site_differences(&a, &b), Phase::Decode, X_OUT);
    assert_eq!(fact.rows, Rows { compared: 6, incomparable: 3, only_in_a: 0, only_in_b: 0 });
    assert_eq!(fact.comparison, Comparison::Equal { values: 12 });
    assert_eq!(first_difference(&a, &b), None);
}

#[test]
fn the_four_states_are_told_apart() {
    let a = run();
    let mut b = run();
    let attn = tensor(Dtype::Bf16, [3, 3, 2], &[0.0; 18]);
    decode(&mut b).tensors.insert(ATTN, attn);
    decode(&mut b).tensors.insert(EMBED, tensor(Dtype::F16, [3, 3, 2], &[0.0; 18]));
    decode(&mut b).tensors.insert(X_OUT, tensor(Dtype::Bf16, [3, 3, 4], &[0.0; 36]));
    let facts = site_differences(&a, &b);
    let fact = of(&facts, Phase::Decode, ATTN);
    assert_eq!(fact.comparison, Comparison::Missing { from: Side::A });
    assert_eq!(fact.rows, Rows { only_in_b: 9, ..Rows::default() });
    let formats = Incomparable::Formats { a: Dtype::Bf16, b: Dtype::F16 };
    assert_eq!(of(&facts, Phase::Decode, EMBED).comparison, Comparison::Incomparable(formats));
    let widths = Incomparable::Widths { a: 2, b: 4 };
    assert_eq!(of(&facts, Phase::Decode, X_OUT).comparison, Comparison::Incomparable(widths));
    assert_eq!(of(&facts, Phase::Prefill, X_OUT).comparison, Comparison::Equal { values: 6 });

    let mut no_decode = run();
    no_decode.decode = None;
    let fact = of(&site_differences(&a, &no_decode), Phase::Decode, X_OUT);
    assert_eq!((fact.comparison, fact.rows.only_in_a), (Comparison::Missing { from: Side::B }, 9));

    for (ids, tokens) in [(vec![], Tokens::Unknown), (vec![1, 2, 3, 9], Tokens::PromptsPart { index: 3 })] {
        let mut other = run();
        other.prompt_token_ids = ids;
        set(decode(&mut other), X_OUT, 0, 0, 0, 5.0);
        assert_eq!(first_difference(&a, &other), None, "nothing is comparable");
        for fact in site_differences(&a, &other) {
            assert_eq!(fact.comparison, Comparison::Incomparable(Incomparable::Tokens { tokens }));
        }
    }
}

#[test]
fn facts_serialize_with_their_state_beside_their_numbers() {
    let (a, mut b) = (run(), run());
    b.prompt_token_ids[0] = 0;
    let json = serde_json::to_value(&site_differences(&a, &b)[0]).unwrap();
    let expected = serde_json::json!({
        "phase": "prefill",
        "site": "embed_out",
        "rows": {"compared": 0, "incomparable": 3, "only_in_a": 0, "only_in_b": 0},
        "comparison": {
            "state": "incomparable",
            "reason": "tokens",
            "tokens": {"state": "prompts_part", "index": 0},
        },
    });
    assert_eq!(json, expected);
}

#[test]
fn rows_of_one_run_alone_are_counted() {
    let (a, mut b) = (run(), run());
    let mut last = signals(3, &[-1], &[(X_OUT, tensor(Dtype::Bf16, [3, 1, 2], &[0.0; 6]))]);
    set(&mut last, X_OUT, 2, 0, 1, 1.0);
    b.decode = Some(last);
    let fact = of(&site_differences(&a, &b), Phase::Decode, X_OUT);
    assert_eq!(fact.rows, Rows { compared: 3, incomparable: 0, only_in_a: 6, only_in_b: 0 });
    let Comparison::Different(difference) = fact.comparison else { panic!() };
    assert_eq!((difference.values, difference.first.step, difference.first.position), (6, 2, -1));
    b.decode = Some(signals(3, &[-9], &[(X_OUT, tensor(Dtype::Bf16, [3, 1, 2], &[0.0; 6]))]));
    let fact = of(&site_differences(&a, &b), Phase::Decode, X_OUT);
    assert_eq!(fact.comparison, Comparison::Incomparable(Incomparable::NoCommonRow));
}

proptest! {
    /// Swapping the runs swaps the sides and nothing else; the counts are those of a plain loop over bit patterns.
    #[test]
    fn facts_are_symmetric_and_count_every_bit_pattern(
        dtype in prop::sample::select(Dtype::ALL.to_vec()),
        pairs in prop::collection::vec((any::<u32>(), any::<u32>(), any::<bool>()), 1..40),
    ) {
        let size = dtype.size();
        let with = |pick: &dyn Fn(&(u32, u32, bool)) -> u32| {
            let mut run = run();
            let data: Vec<u8> = pairs.iter().flat_map(|pair| pick(pair).to_le_bytes()[..size].to_vec()).collect();
            let tensor = SignalTensor { dtype, shape: [1, 1, pairs.len()], data };
            run.prefill = Some(signals(1, &[-1], &[(EMBED, tensor)]));
            run
        };
        let (a, b) = (with(&|pair| pair.0), with(&|pair| if pair.2 { pair.0 } else { pair.1 }));
        let mask = if size == 4 { u32::MAX } else { 0xffff };
        let differing: Vec<(u32, u32)> = pairs.iter()
            .map(|pair| (pair.0 & mask, if pair.2 { pair.0 & mask } else { pair.1 & mask }))
            .filter(|(x, y)| x != y).collect();
        let (ab, ba) = (site_differences(&a, &b), site_differences(&b, &a));
        match (&of(&ab, Phase::Prefill, EMBED).comparison, &of(&ba, Phase::Prefill, EMBED).comparison) {
            (Comparison::Equal { values }, Comparison::Equal { .. }) => {
                prop_assert!(differing.is_empty());
                prop_assert_eq!(*values, pairs.len() as u64);
            }
            (Comparison::Different(x), Comparison::Different(y)) => {
                prop_assert_eq!((x.different, x.values), (differing.len() as u64, pairs.len() as u64));
                let farthest = differing.iter().filter_map(|&(p, q)| Some(ulps(dtype, p, q)?.0)).max();
                prop_assert_eq!(x.max_ulps, farthest);
                prop_assert!(x.l2.is_finite() && x.l2 >= x.max_abs * (1.0 - 1e-12));
                prop_assert_eq!((x.l2.to_bits(), x.max_abs.to_bits()), (y.l2.to_bits(), y.max_abs.to_bits()));
                prop_assert_eq!(x, y);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
