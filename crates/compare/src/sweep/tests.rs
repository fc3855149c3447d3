//! Facts on small runs whose every value is known, and on runs of real size.

use mantissa_evidence::{Neighbour, Run, SignalTensor};
use mantissa_numerics::{Dtype, Phase, Point, Site};
use proptest::prelude::*;

use super::*;
use crate::sample::{
    ATTN, EMBED, X_OUT, decode, logprobs, members, prefill, record, run, set, signals, tensor,
};
use crate::{Distance, SignalKind, State, Tokens};

fn facts(a: &Run, b: &Run) -> PairFacts {
    let record = record([a.clone(), b.clone()]);
    pairs(&members(&record), &[(0, 1)], &Selection::default()).unwrap().remove(0)
}

fn of(facts: &PairFacts, phase: Phase, site: Site) -> SiteFacts {
    facts.sites.iter().find(|fact| (fact.phase, fact.site) == (phase, site)).unwrap().clone()
}

fn counts(equal: u64, different: u64, missing: u64, incomparable: u64) -> Counts {
    Counts { equal, different, missing, incomparable }
}

#[test]
fn equal_runs_say_how_much_was_equal_and_neighbours_do_not_matter() {
    let (a, mut b) = (run(), run());
    b.neighbours.push(Neighbour { prompt_token_ids: vec![9], output_token_ids: vec![], source: None });
    let facts = facts(&a, &b);
    assert_eq!((facts.tokens, facts.sites.len(), facts.first), (Tokens::Equal, 4, None));
    assert_eq!(of(&facts, Phase::Prefill, EMBED).counts, counts(3, 0, 0, 0));
    let decode = of(&facts, Phase::Decode, X_OUT);
    assert_eq!((decode.counts, decode.rows.len()), (counts(3, 0, 0, 0), 3));
    let total = decode.total.unwrap();
    assert_eq!((total.values, total.different, total.max_ulps), (6, 0, Some(0)));
    assert_eq!((total.relative, total.cosine), (None, None), "all are zero");
    assert_eq!(facts.counts(None).state(), State::Equal);
}

#[test]
fn a_difference_is_measured_in_its_format_and_located() {
    let (a, mut b) = (run(), run());
    // Step 1, position -2, element 1: the smallest subnormal of bf16, and a larger value later.
    set(decode(&mut b), X_OUT, 1, 1, 1, f32::from_bits(1 << 16));
    set(decode(&mut b), X_OUT, 2, 0, 0, -3.0);
    set(decode(&mut b), EMBED, 2, 2, 0, 4.0);
    let ab = facts(&a, &b);
    let found = of(&ab, Phase::Decode, X_OUT);
    let total = found.total.unwrap();
    // Three tokens, and two rows that are no copies of those.
    assert_eq!((total.values, total.different, total.non_finite), (10, 2, 0));
    assert_eq!(total.max_ulps, Some(0x4040), "bits of bf16 3.0");
    assert_eq!((total.max_abs, total.l2), (Some(3.0), Some(3.0)));
    let row = *found.rows.iter().find(|row| row.position == -2).unwrap();
    let RowState::Different(small) = row.state else { panic!("{row:?}") };
    assert_eq!((row.step, row.position, small.values, small.max_ulps), (1, -2, 2, Some(1)));
    let first = First { phase: Phase::Decode, step: 1, position: -2, site: Some(X_OUT), element: 1 };
    // embed_out comes first in the data flow, and differs only in a later step.
    assert_eq!(ab.first, Some(first));
    set(prefill(&mut b), X_OUT, 0, 2, 0, 1.0);
    let first = First { phase: Phase::Prefill, step: 0, position: -1, site: Some(X_OUT), element: 0 };
    assert_eq!(facts(&b, &a).first, Some(first));
}

#[test]
fn within_a_step_the_site_decides_before_the_position_and_candidates_come_last() {
    let (mut a, mut b) = (run(), run());
    set(decode(&mut b), X_OUT, 1, 0, 0, 1.0);
    set(decode(&mut b), EMBED, 1, 2, 0, 1.0);
    decode(&mut a).logprobs = Some(logprobs(3, 3, &[(7, -0.5), (8, -1.0)]));
    decode(&mut b).logprobs = Some(logprobs(3, 3, &[(7, -0.5), (8, -1.5)]));
    let found = facts(&a, &b);
    assert_eq!(found.first.map(|first| (first.step, first.site, first.element)), Some((0, None, 1)));
    assert_eq!((found.logprobs[0].phase, found.logprobs[0].counts), (Phase::Decode, counts(0, 5, 0, 0)));
    decode(&mut b).logprobs = decode(&mut a).logprobs.clone();
    let found = facts(&a, &b);
    assert_eq!(found.first.map(|first| (first.step, first.site, first.position)), Some((1, Some(EMBED), -1)));
    assert_eq!(found.logprobs[0].counts, counts(5, 0, 0, 0));
    decode(&mut b).logprobs = None;
    assert_eq!(facts(&a, &b).logprobs[0].counts, counts(0, 0, 5, 0));
}

#[test]
fn after_the_outputs_part_only_rows_of_a_common_prefix_are_compared() {
    let (mut a, mut b) = (run(), run());
    b.output_token_ids[1] = 99;
    // Rows after the parting: step 1 position -1, step 2 positions -1 and -2. They may differ as they like.
    set(decode(&mut b), X_OUT, 1, 2, 0, 8.0);
    set(decode(&mut b), X_OUT, 2, 1, 0, 8.0);
    set(decode(&mut b), X_OUT, 2, 2, 0, 8.0);
    for run in [&mut a, &mut b] {
        decode(run).logprobs = Some(logprobs(3, 3, &[(7, -0.5)]));
    }
    let found = facts(&a, &b);
    assert_eq!(found.tokens, Tokens::OutputsPart { index: 1 });
    let site = of(&found, Phase::Decode, X_OUT);
    assert_eq!((site.counts, site.total.unwrap().values), (counts(1, 0, 0, 2), 2));
    assert_eq!((found.logprobs[0].counts, found.first), (counts(3, 0, 0, 2), None));
    let states: Vec<_> = site.rows.iter().filter(|row| row.state == RowState::Incomparable).collect();
    assert_eq!(states.iter().map(|row| (row.step, row.position)).collect::<Vec<_>>(), [(1, -1), (2, -1)]);
}

#[test]
fn the_four_states_are_told_apart() {
    let a = run();
    let mut b = run();
    decode(&mut b).tensors.insert(ATTN, tensor(Dtype::Bf16, [3, 3, 2], &[0.0; 18]));
    decode(&mut b).tensors.insert(EMBED, tensor(Dtype::F16, [3, 3, 2], &[0.0; 18]));
    decode(&mut b).tensors.insert(X_OUT, tensor(Dtype::Bf16, [3, 3, 4], &[0.0; 36]));
    let found = facts(&a, &b);
    let attn = of(&found, Phase::Decode, ATTN);
    assert_eq!((attn.counts, attn.total), (counts(0, 0, 5, 0), None));
    // Rows of another width are no copies of the prompt's.
    for (site, rows) in [(EMBED, 3), (X_OUT, 5)] {
        let found = of(&found, Phase::Decode, site);
        assert_eq!((found.counts, found.total), (counts(0, 0, 0, rows), None), "{site}");
        assert_eq!(of(&facts(&a, &a), Phase::Decode, site).counts, counts(3, 0, 0, 0));
    }
    assert_eq!(of(&found, Phase::Prefill, X_OUT).counts, counts(3, 0, 0, 0));
    assert_eq!(found.counts(None), counts(6, 0, 5, 8));
    assert_eq!(found.counts(Some(Phase::Decode)).state(), State::Incomparable);

    let mut no_decode = run();
    no_decode.decode = None;
    assert_eq!(of(&facts(&a, &no_decode), Phase::Decode, X_OUT).counts, counts(0, 0, 3, 0));
    assert!(facts(&no_decode, &no_decode).sites.iter().all(|site| site.phase == Phase::Prefill));

    for (ids, tokens) in [(vec![], Tokens::Unknown), (vec![1, 2, 3, 9], Tokens::PromptsPart { index: 3 })] {
        let mut other = run();
        other.prompt_token_ids = ids;
        set(decode(&mut other), X_OUT, 0, 0, 0, 5.0);
        let found = facts(&a, &other);
        assert_eq!((found.tokens, found.first), (tokens, None), "nothing is comparable");
        assert_eq!(found.counts(None), counts(0, 0, 0, 13));
    }
}

#[test]
fn a_declared_prompt_is_compared_and_says_so() {
    let (mut a, mut b) = (run(), run());
    for run in [&mut a, &mut b] {
        run.prompt_token_ids.clear();
        run.prompt_label = Some("fibonacci".into());
        run.output_token_ids.clear();
    }
    let found = facts(&a, &b);
    assert_eq!(found.tokens, Tokens::Declared { outputs_part: None });
    assert_eq!(of(&found, Phase::Prefill, X_OUT).counts, counts(3, 0, 0, 0));
    // Outputs that nobody states are not known to be the same; position -1 of step 0 already is one.
    let decode = of(&found, Phase::Decode, X_OUT);
    assert_eq!(decode.counts, counts(0, 0, 0, 3));
}

#[test]
fn rows_of_one_run_alone_are_missing_from_the_other() {
    let (a, mut b) = (run(), run());
    let mut last = signals(3, &[-1], &[(X_OUT, tensor(Dtype::Bf16, [3, 1, 2], &[0.0; 6]))]);
    set(&mut last, X_OUT, 2, 0, 1, 1.0);
    b.decode = Some(last);
    let found = facts(&a, &b);
    assert_eq!(of(&found, Phase::Decode, X_OUT).counts, counts(2, 1, 0, 0));
    assert_eq!(found.first.map(|first| (first.step, first.position, first.element)), Some((2, -1, 1)));
    b.decode = Some(signals(3, &[-9], &[(X_OUT, tensor(Dtype::Bf16, [3, 1, 2], &[0.0; 6]))]));
    assert_eq!(of(&facts(&a, &b), Phase::Decode, X_OUT).counts, counts(0, 0, 6, 0));
}

#[test]
fn steps_need_not_begin_at_zero() {
    let (mut a, mut b) = (run(), run());
    // Only steps 1 and 2 were kept by b; its first stored row is a's step 1.
    set(decode(&mut a), X_OUT, 1, 0, 0, 2.0);
    let mut kept = signals(2, &[-3, -2, -1], &[(X_OUT, tensor(Dtype::Bf16, [2, 3, 2], &[0.0; 12]))]);
    kept.first_step = 1;
    set(&mut kept, X_OUT, 0, 0, 0, 2.0);
    b.decode = Some(kept);
    let site = of(&facts(&a, &b), Phase::Decode, X_OUT);
    assert_eq!((site.counts, site.rows[0].step), (counts(4, 0, 1, 0), 0));
}

#[test]
fn a_selection_restricts_and_changes_nothing_else() {
    let (mut a, mut b) = (run(), run());
    for run in [&mut a, &mut b] {
        decode(run).logprobs = Some(logprobs(3, 3, &[(7, -0.5)]));
    }
    set(decode(&mut b), X_OUT, 1, 2, 1, 2.0);
    let record = record([a, b]);
    let select = |selection: &Selection| pairs(&members(&record), &[(0, 1)], selection).unwrap().remove(0);
    let all = select(&Selection::default());
    let last = select(&Selection { positions: Some([-1].into()), ..Selection::default() });
    assert_eq!(last.first, all.first);
    assert_eq!(of(&last, Phase::Decode, X_OUT).counts, counts(2, 1, 0, 0));
    let only = select(&Selection::of([SignalKind::Logprobs]));
    assert_eq!((only.sites.len(), only.logprobs.len(), only.first), (0, 1, None));
    assert_eq!(only.logprobs, all.logprobs);
    let prefill = select(&Selection { phases: Some([Phase::Prefill].into()), ..Selection::default() });
    assert_eq!((prefill.sites.len(), prefill.counts(None)), (2, counts(6, 0, 0, 0)));
    assert_eq!(
        select(&Selection { layers: Some([7].into()), ..Selection::default() }).sites.len(),
        2,
        "embed_out"
    );
}

#[test]
fn what_contradicts_itself_is_one_clear_error_or_no_comparison() {
    let empty = |width: usize| {
        let mut run = run();
        let tensor = SignalTensor { dtype: Dtype::Bf16, shape: [1, 1, width], data: vec![0; width * 2] };
        run.prefill = Some(signals(1, &[-1], &[(EMBED, tensor)]));
        run.decode = None;
        run
    };
    assert_eq!(
        facts(&empty(0), &empty(0)).counts(None),
        counts(0, 0, 0, 1),
        "nothing is not equal to nothing"
    );
    assert_eq!(facts(&empty(0), &empty(4)).counts(None), counts(0, 0, 0, 1));
    // Fewer bytes than the shape says: the row is not there.
    let mut short = empty(4);
    prefill(&mut short).tensors.get_mut(&EMBED).unwrap().data.truncate(7);
    assert_eq!(facts(&short, &empty(4)).counts(None), counts(0, 0, 1, 0));
    let mut no_candidates = empty(4);
    prefill(&mut no_candidates).logprobs = Some(logprobs(1, 1, &[]));
    let found = facts(&no_candidates, &no_candidates);
    assert_eq!(found.logprobs[0].counts, counts(0, 0, 0, 1));
    // An id listed twice has two log-probabilities: even beside itself, which one counts is open.
    let (mut twice, mut once) = (empty(4), empty(4));
    prefill(&mut twice).logprobs = Some(logprobs(1, 1, &[(7, -0.5), (8, -1.0), (7, -0.5)]));
    prefill(&mut once).logprobs = Some(logprobs(1, 1, &[(7, -0.5), (8, -1.0)]));
    for found in [facts(&twice, &twice), facts(&twice, &once), facts(&once, &twice)] {
        assert_eq!((found.logprobs[0].counts, found.first), (counts(0, 0, 0, 1), None));
    }

    let mut endless = run();
    decode(&mut endless).steps = usize::MAX;
    let record = record([endless, run()]);
    let message =
        |members: &[Member<'_>], which| pairs(members, which, &Selection::default()).unwrap_err().to_string();
    let members = members(&record);
    assert_eq!(
        message(&members, &[(0, 1)]),
        "sample.json: 110680464442257309696 rows to compare over all pairs of runs are more than 8388608; compare fewer \
         files, or one phase, signal or layer of them"
    );
    assert_eq!(
        message(&members, &[(0, 2)]),
        "pair (0, 2) names a member that is not there; 2 members were given, counted from 0"
    );
    assert_eq!(
        message(&[Member { record: &record, run: 5 }], &[(0, 0)]),
        "sample.json: has no run 5; it holds 2 runs, counted from 0"
    );
    assert_eq!(pairs(&[], &[], &Selection::default()).unwrap(), []);
    assert!(
        size_of::<RowFact>() <= 144 && size_of::<LogprobRow>() <= 144,
        "what the limit on rows counts on"
    );
    let many = vec![(0, 1); (1 << 23) + 1];
    let nothing = Selection { phases: Some([].into()), ..Selection::default() };
    assert!(pairs(&members, &many, &nothing).is_err(), "pairs without a row are limited as well");
}

/// A run like those of a model of 135 million parameters: 30 blocks of width 576 (keys 192), 30 steps.
fn real(noise: u32) -> Run {
    let mut run = run();
    run.output_token_ids = (0..30).collect();
    let mut state = 1_u32;
    let mut of = |steps: usize| {
        let sites = (1..=30)
            .flat_map(|layer| [(Site::at(layer, Point::K), 192), (Site::at(layer, Point::XOut), 576)]);
        let sites = sites.chain([(Site::outside(Point::FinalNorm), 576)]);
        let mut all = signals(steps, &[-3, -2, -1], &[]);
        for (site, dim) in sites {
            let mut data = Vec::with_capacity(steps * 3 * dim * 2);
            for _ in 0..steps * 3 * dim {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Values of usual size; noise flips the last bit of some, more of them in deeper blocks.
                let bits = u16::try_from(0x3e00 | state >> 22 & 0x1ff | (state >> 16 & 0x8000)).unwrap();
                let layer = site.layer.map_or(31, |layer| layer.0);
                let flip = noise > 0 && (state >> 8).wrapping_mul(noise) % 997 < layer * noise;
                data.extend((bits ^ u16::from(flip)).to_le_bytes());
            }
            all.tensors.insert(site, SignalTensor { dtype: Dtype::Bf16, shape: [steps, 3, dim], data });
        }
        all.logprobs =
            Some(logprobs(steps, 3, &[(1, -0.5), (2, -1.0 - if noise > 0 { 0.125 } else { 0.0 })]));
        all
    };
    (run.prefill, run.decode) = (Some(of(1)), Some(of(30)));
    run
}

#[test]
fn real_sizes_give_the_same_bytes_for_any_number_of_threads_and_of_pairs() {
    let record = record([real(0), real(1), real(2), real(1), real(0)]);
    let members = members(&record);
    let all: Vec<_> = (0..5).flat_map(|i| (0..5).map(move |j| (i, j))).collect();
    let with = |threads: usize, which: &[(usize, usize)]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| pairs(&members, which, &Selection::default())).unwrap()
    };
    let one = with(1, &all);
    let text = serde_json::to_string(&one).unwrap();
    for threads in [2, 3, 7] {
        assert_eq!(serde_json::to_string(&with(threads, &all)).unwrap(), text);
    }
    // Alone, a pair is compared directly; among many, rows of equal bits are found first. The facts are the same.
    for (place, pair) in all.iter().enumerate().step_by(6) {
        assert_eq!(with(2, &[*pair])[0], one[place]);
    }
    let at = |a: usize, b: usize| &one[a * 5 + b];
    assert_eq!((at(0, 4).counts(None).state(), at(1, 3).counts(None).state()), (State::Equal, State::Equal));
    assert_eq!(at(0, 1).counts(None).state(), State::Different);
    assert_eq!(at(0, 1), at(4, 3));
    assert_eq!(at(0, 1).sites.len(), 2 * 61);
    // Other values at every position: nothing was cached. Candidates are the same everywhere: 30 tokens have some.
    assert_eq!(of(at(0, 1), Phase::Decode, Site::at(1, Point::K)).rows.len(), 90);
    // Noise grows with depth.
    let l2 = |site: Site| of(at(0, 1), Phase::Decode, site).total.unwrap().l2;
    assert!(l2(Site::at(1, Point::XOut)) < l2(Site::at(21, Point::XOut)));
    assert_eq!(at(0, 1).logprobs[1].counts, counts(0, 30, 0, 0));
}

#[test]
fn what_is_not_finite_or_lies_in_the_candidates_alone_has_no_distance() {
    let (mut a, mut b) = (run(), run());
    decode(&mut a).logprobs = Some(logprobs(3, 3, &[(7, -0.5)]));
    decode(&mut b).logprobs = Some(logprobs(3, 3, &[(7, -0.5), (8, -0.5)]));
    for step in [0, 1, 2] {
        // The other value of the row stays equal, which makes no distance of 0.
        set(decode(&mut b), X_OUT, step, 0, 0, f32::NAN);
    }
    let found = facts(&a, &b);
    assert_eq!(found.logprobs[0].counts, counts(0, 5, 0, 0));
    let RowState::Different(candidates) = found.logprobs[0].rows[0].state else { panic!() };
    assert_eq!((candidates.common, candidates.l2, candidates.rms, candidates.max_abs), (1, None, None, None));
    let site = of(&found, Phase::Decode, X_OUT);
    let RowState::Different(row) = site.rows[0].state else { panic!() };
    for distance in [row, site.total.unwrap()] {
        assert!(distance.non_finite > 0);
        assert_eq!(
            (distance.l2, distance.max_abs, distance.mean_abs, distance.max_ulps),
            (None, None, None, None)
        );
        assert_eq!(serde_json::to_value(distance).unwrap()["l2"], serde_json::Value::Null);
    }
}

#[test]
fn a_pair_is_equal_only_where_nothing_is_left_open() {
    let a = run();
    let states = |b: &Run| {
        let found = facts(&a, b);
        [None, Some(Phase::Prefill), Some(Phase::Decode)].map(|phase| found.state(phase))
    };
    assert_eq!(states(&a), [State::Equal; 3]);
    // Outputs part: every row before that is equal, and the pair is not.
    let mut b = a.clone();
    b.output_token_ids[2] = 9;
    assert_eq!(states(&b), [State::Different, State::Equal, State::Different]);
    let mut declared = b.clone();
    declared.prompt_token_ids.clear();
    declared.prompt_text = "p".to_owned();
    let named = Run { prompt_text: "p".to_owned(), ..a.clone() };
    assert_eq!(facts(&named, &declared).tokens, Tokens::Declared { outputs_part: Some(2) });
    assert_eq!(facts(&named, &declared).state(None), State::Different);
    // Outputs that one run does not state leave its decode open.
    let mut b = a.clone();
    b.output_token_ids.clear();
    assert_eq!(states(&b), [State::Incomparable, State::Equal, State::Incomparable]);
    assert_eq!(facts(&a, &b).counts(None).state(), State::Equal, "of what was compared");
    b.decode = None;
    assert_eq!(states(&b), [State::Missing, State::Equal, State::Missing]);
    set(prefill(&mut b), X_OUT, 0, 0, 0, 1.0);
    assert_eq!(states(&b), [State::Different, State::Different, State::Missing]);
    let nothing = Run { prefill: None, decode: None, ..a.clone() };
    assert_eq!(facts(&nothing, &nothing).state(None), State::Missing);
}

#[test]
fn facts_serialize_with_their_state() {
    let (a, mut b) = (run(), run());
    set(prefill(&mut b), EMBED, 0, 0, 0, 1.0);
    b.output_token_ids[0] = 0;
    let json = serde_json::to_value(facts(&a, &b)).unwrap();
    assert_eq!(json["tokens"], serde_json::json!({"state": "outputs_part", "index": 0}));
    assert_eq!(json["sites"][0]["rows"][1], serde_json::json!({"step": 0, "position": -2, "state": "equal"}));
    assert_eq!(
        json["sites"][0]["rows"][0],
        serde_json::json!({"step": 0, "position": -3, "state": {"different": {
            "values": 2, "different": 1, "non_finite": 0, "max_ulps": 0x3f80, "l2": 1.0, "max_abs": 1.0,
            "mean_abs": 0.5, "relative": null, "cosine": null,
        }}})
    );
    assert_eq!(json["first"]["site"], "embed_out");
}

proptest! {
    /// The counts are those of a plain loop over rows, and swapping the runs changes no symmetric figure.
    #[test]
    fn facts_are_symmetric_and_count_every_row(
        dtype in prop::sample::select(Dtype::ALL.to_vec()),
        rows in prop::collection::vec((prop::collection::vec(any::<u8>(), 12), 0_u8..3), 1..12),
    ) {
        let with = |second: bool| {
            let mut run = run();
            let mut data = Vec::new();
            for (row, kind) in &rows {
                let mut row = row.clone();
                if second && *kind == 0 {
                    row[5] ^= 1;
                }
                data.extend(row);
            }
            let tensor = SignalTensor { dtype, shape: [rows.len(), 1, 12 / dtype.size()], data };
            run.output_token_ids = (0..u32::try_from(rows.len()).unwrap()).collect();
            run.decode = Some(signals(rows.len(), &[-1], &[(EMBED, tensor)]));
            run.prefill = None;
            run
        };
        let (ab, ba) = (facts(&with(false), &with(true)), facts(&with(true), &with(false)));
        let differing = rows.iter().filter(|(_, kind)| *kind == 0).count() as u64;
        let equal = rows.len() as u64 - differing;
        prop_assert_eq!(ab.counts(None), counts(equal, differing, 0, 0));
        prop_assert_eq!(ab.first, ba.first);
        let expected = rows.iter().position(|(_, kind)| *kind == 0).map(|step| step as u64);
        prop_assert_eq!(ab.first.map(|first| first.step), expected);
        let symmetric = |d: &Distance| (d.different, d.non_finite, d.max_ulps, d.l2.map(f64::to_bits), d.max_abs.map(f64::to_bits));
        let (x, y) = (ab.sites[0].total.unwrap(), ba.sites[0].total.unwrap());
        prop_assert_eq!(symmetric(&x), symmetric(&y));
    }
}

#[test]
fn a_token_is_one_row_wherever_its_row_is_stored() {
    let stored = |values: [[f32; 3]; 3], prompt: [f32; 3]| {
        let mut run = run();
        for (position, value) in prompt.into_iter().enumerate() {
            set(prefill(&mut run), X_OUT, 0, position, 0, value);
        }
        for (step, row) in values.into_iter().enumerate() {
            for (position, value) in row.into_iter().enumerate() {
                set(decode(&mut run), X_OUT, step, position, 0, value);
            }
        }
        run
    };
    // Tokens 1 to 3 are the prompt's; each decode step adds one, and stores the two before it once more.
    let cached = stored([[2.0, 3.0, 4.0], [3.0, 4.0, 5.0], [4.0, 5.0, 6.0]], [1.0, 2.0, 3.0]);
    let mut other = cached.clone();
    // Token 5 differs, in its own pass and in the copy behind it: one row.
    set(decode(&mut other), X_OUT, 1, 2, 1, 1.0);
    set(decode(&mut other), X_OUT, 2, 1, 1, 1.0);
    let site = of(&facts(&cached, &other), Phase::Decode, X_OUT);
    assert_eq!(site.counts, counts(2, 1, 0, 0));
    assert_eq!(site.rows.iter().map(|row| row.position).collect::<Vec<_>>(), [-1; 3]);
    // What was computed again, with other bits, is a row of its own.
    let again = stored([[2.5, 3.5, 4.0], [3.6, 4.5, 5.0], [4.6, 5.5, 6.0]], [1.0, 2.0, 3.0]);
    assert_eq!(of(&facts(&cached, &again), Phase::Decode, X_OUT).counts, counts(3, 6, 0, 0));
    assert_eq!(of(&facts(&again, &again), Phase::Decode, X_OUT).counts, counts(9, 0, 0, 0));
    // Beside a run that stores the newest token alone, nothing is missing but the prompt's rows.
    let mut newest = cached.clone();
    let values = [4.0, 0.0, 5.0, 0.0, 6.0, 0.0];
    newest.decode = Some(signals(3, &[-1], &[(X_OUT, tensor(Dtype::Bf16, [3, 1, 2], &values))]));
    assert_eq!(of(&facts(&cached, &newest), Phase::Decode, X_OUT).counts, counts(3, 0, 0, 0));
    let alone = Selection { phases: Some([Phase::Decode].into()), ..Selection::default() };
    let record = record([cached, newest]);
    let found = pairs(&members(&record), &[(0, 1)], &alone).unwrap().remove(0);
    assert_eq!(of(&found, Phase::Decode, X_OUT).counts, counts(3, 0, 2, 0), "the prefill takes no part");
}

/// Positions −3 and −1: what a step stores at −3 stood at −1 two passes earlier.
#[test]
fn copies_are_known_across_passes_that_did_not_store_them() {
    let stored = |fifth: f32| {
        let mut run = run();
        run.output_token_ids = vec![7; 5];
        let prompt = [1.0, 0.0, 3.0, 0.0];
        run.prefill = Some(signals(1, &[-3, -1], &[(X_OUT, tensor(Dtype::Bf16, [1, 2, 2], &prompt))]));
        // The newest token of step s is token s + 4.
        let rows = (0..4_u8).flat_map(|step| [step + 2, step + 4]);
        let values: Vec<f32> =
            rows.flat_map(|token| [f32::from(token), if token == 5 { fifth } else { 0.0 }]).collect();
        run.decode = Some(signals(4, &[-3, -1], &[(X_OUT, tensor(Dtype::Bf16, [4, 2, 2], &values))]));
        run
    };
    // Token 2 is stored by step 0 alone, token 3 by the prompt and step 1, token 5 by steps 1 and 3.
    let found = facts(&stored(0.0), &stored(1.0));
    assert_eq!(of(&found, Phase::Prefill, X_OUT).counts, counts(2, 0, 0, 0));
    assert_eq!(of(&found, Phase::Decode, X_OUT).counts, counts(4, 1, 0, 0));
}
