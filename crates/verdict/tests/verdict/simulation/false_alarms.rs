//! Stated rates of false alarms hold: exact and noisy, tokens independent and dependent.

use mantissa_verdict::stats::{
    ExactTier, PValue, Shift, Summary, TwoSampleStatistic, conformal_alarm_rank, conformal_p,
    conformal_p_by_sequence, false_alarm_bound, sequence_scores, sign_flip_p, two_sample_p, units_needed,
};

use super::chance::{
    DEPENDENT, Dependence, INDEPENDENT, World, assert_at_most, assert_breaks, assert_rate, range, real,
};

fn alarms(trials: usize, alpha: f64, mut p_value: impl FnMut() -> PValue) -> usize {
    (0..trials).filter(|_| p_value().value() <= alpha).count()
}

#[test]
fn conformal_alarms_once_in_a_hundred() {
    let mut world = World::new(1);
    let trials = 50_000;
    let count = alarms(trials, 1e-2, || conformal_p(world.normal(), &world.normals(99)).unwrap());
    assert_rate("99 honest units", count, trials, 1e-2);
}

/// Ranks of any continuous scores are alike, so uniform ones serve.
#[test]
fn conformal_alarms_once_in_a_thousand() {
    once_in_a_thousand(50_000);
}

#[test]
#[ignore = "slow: `just simulate`"]
fn conformal_alarms_once_in_a_thousand_of_two_million() {
    once_in_a_thousand(2_000_000);
}

fn once_in_a_thousand(trials: usize) {
    let mut world = World::new(2);
    let mut calibration = [0.0; 999];
    let count = alarms(trials, 1e-3, || {
        calibration = std::array::from_fn(|_| world.unit());
        conformal_p(world.unit(), &calibration).unwrap()
    });
    assert_rate("999 honest units", count, trials, 1e-3);
}

/// Scores with few values tie; ties are resolved against an alarm.
#[test]
fn conformal_with_ties_alarms_less() {
    let mut world = World::new(3);
    let trials = 50_000;
    let count = alarms(trials, 1e-2, || {
        let calibration: Vec<f64> = (0..99).map(|_| real(world.below(5))).collect();
        conformal_p(real(world.below(5)), &calibration).unwrap()
    });
    assert_eq!(count, 0, "the largest of five values is always shared among 99");
}

fn by_sequence(seed: u64, dependence: Dependence, summary: Summary, trials: usize) -> usize {
    let mut world = World::new(seed);
    alarms(trials, 1e-2, || {
        let calibration: Vec<Vec<f64>> = (0..99).map(|_| world.sequence(20, dependence)).collect();
        conformal_p_by_sequence(&world.sequence(20, dependence), &calibration, summary).unwrap()
    })
}

#[test]
fn sequences_keep_the_rate_whatever_their_tokens_do() {
    let trials = 2500;
    for (seed, dependence) in [(4, INDEPENDENT), (6, DEPENDENT)] {
        for summary in [Summary::Mean, Summary::Max] {
            let count = by_sequence(seed, dependence, summary, trials);
            assert_rate("99 honest sequences", count, trials, 1e-2);
        }
    }
}

/// How often a test alarmed on honest data.
pub(super) struct Rate {
    pub(super) test: &'static str,
    pub(super) units: &'static str,
    pub(super) stated: f64,
    pub(super) alarms: usize,
    pub(super) trials: usize,
}

/// The same dependent tokens taken as units and summarized by sequence.
pub(super) fn tokens_and_sequences() -> Vec<Rate> {
    let mut world = World::new(8);
    let trials = 4000;
    let mut pooled = |dependence, stated| {
        alarms(trials, stated, || {
            let calibration: Vec<f64> = (0..99).flat_map(|_| world.sequence(20, dependence)).collect();
            conformal_p(world.sequence(20, dependence)[19], &calibration).unwrap()
        })
    };
    let conformal = [pooled(INDEPENDENT, 1e-3), pooled(DEPENDENT, 1e-3)];
    let whole = by_sequence(6, DEPENDENT, Summary::Mean, trials);
    let mut flips = |sequences: usize, stated: f64, summarize: bool| {
        alarms(trials, stated, || {
            let drawn: Vec<Vec<f64>> = (0..sequences).map(|_| world.sequence(4, DEPENDENT)).collect();
            let differences =
                if summarize { sequence_scores(&drawn, Summary::Mean).unwrap() } else { drawn.concat() };
            sign_flip_p(&differences, Shift::Mean, 0).unwrap()
        })
    };
    let flipped = [flips(3, 1e-2, false), flips(10, 1e-2, true)];
    let rate = |test, units, stated, alarms| Rate { test, units, stated, alarms, trials };
    vec![
        rate("conformal", "1,980 independent tokens", 1e-3, conformal[0]),
        rate("conformal", "1,980 tokens of 99 sequences", 1e-3, conformal[1]),
        rate("conformal", "99 sequences", 1e-2, whole),
        rate("sign flip", "12 tokens of 3 sequences", 1e-2, flipped[0]),
        rate("sign flip", "10 sequences", 1e-2, flipped[1]),
    ]
}

/// The mistake this crate's units exist to prevent: 99 sequences of 20 tokens are not 1,980 units.
#[test]
fn tokens_as_units_break_the_rate_and_sequences_keep_it() {
    let rates = tokens_and_sequences();
    let [independent, pooled, whole, flipped_tokens, flipped] = &rates[..] else { panic!("five rates") };
    let at_most = |rate: &Rate| assert_at_most(rate.units, rate.alarms, rate.trials, rate.stated);
    let breaks = |rate: &Rate| assert_breaks(rate.units, rate.alarms, rate.trials, rate.stated);
    at_most(independent);
    breaks(pooled);
    assert_rate(whole.units, whole.alarms, whole.trials, 1e-2);
    breaks(flipped_tokens);
    // Of 1024 sign patterns the 10 most extreme reach 0.01.
    assert_rate(flipped.units, flipped.alarms, flipped.trials, 10.0 / 1024.0);
    // By sequence no p-value can be as small as the pooled tokens pretend, and none is.
    let mut world = World::new(16);
    let calibration: Vec<Vec<f64>> = (0..99).map(|_| world.sequence(20, DEPENDENT)).collect();
    let p = conformal_p_by_sequence(&[f64::MAX; 20], &calibration, Summary::Max).unwrap();
    assert!(p.smallest_possible() > 1e-3 && p.value() > 1e-3);
}

/// For one given calibration set, the rate of alarms is at most the bound in 95 % of sets: with uniform scores the rate
/// is 1 minus the r-th largest of them.
#[test]
fn one_calibration_set_has_a_bounded_rate() {
    let mut world = World::new(9);
    let trials = 20_000;
    for (n, alpha) in [(99, 0.05), (299, 0.01), (99, 0.01)] {
        let rank = conformal_alarm_rank(n, alpha).unwrap();
        let bound = false_alarm_bound(rank - 1, n, 0.95).unwrap();
        let beyond = (0..trials)
            .filter(|_| {
                let mut scores: Vec<f64> = (0..n).map(|_| world.unit()).collect();
                scores.sort_by(|left, right| right.total_cmp(left));
                1.0 - scores[usize::try_from(rank).unwrap() - 1] > bound
            })
            .count();
        assert_rate("rate beyond its bound", beyond, trials, 0.05);
    }
}

#[test]
fn labels_of_sequences_keep_the_rate() {
    let mut world = World::new(10);
    let trials = 4000;
    for statistic in [TwoSampleStatistic::Mean, TwoSampleStatistic::AbsoluteMean, TwoSampleStatistic::Max] {
        let count = alarms(trials, 1e-2, || {
            let mut group = |size: usize| {
                let sequences: Vec<Vec<f64>> = (0..size).map(|_| world.sequence(4, DEPENDENT)).collect();
                sequence_scores(&sequences, Summary::Mean).unwrap()
            };
            two_sample_p(&group(4), &group(6), statistic, 0).unwrap()
        });
        // Of 210 assignments the 2 most extreme reach 0.01.
        assert_rate("4 against 6 sequences", count, trials, 2.0 / 210.0);
    }
}

#[test]
fn drawn_rearrangements_keep_the_rate() {
    let mut world = World::new(12);
    let trials = 300;
    let count = alarms(trials, 0.05, || sign_flip_p(&world.normals(17), Shift::AbsoluteMean, 13).unwrap());
    assert_rate("17 sequences, drawn", count, trials, 0.05);
}

/// A kernel is a sum of f32 in a fixed order.
fn kernel(inputs: &[f32], block: usize) -> u32 {
    inputs.chunks(block).map(|part| part.iter().sum::<f32>()).sum::<f32>().to_bits()
}

#[test]
fn equal_bits_never_alarm_and_another_order_does() {
    let mut world = World::new(14);
    let (mut false_alarms, mut detected) = (0, 0);
    for _ in 0..2000 {
        #[expect(clippy::cast_possible_truncation, reason = "any f32 will do")]
        let inputs: Vec<f32> = (0..256).map(|_| world.normal() as f32).collect();
        false_alarms += usize::from(kernel(&inputs, 16) != kernel(&inputs, 16));
        detected += usize::from(kernel(&inputs, 16) != kernel(&inputs, 64));
    }
    assert_eq!(false_alarms, 0);
    assert!(detected > 1000, "{detected}");
    // The same honest repeats as distances: all zero, all tied, p = 1.
    let p = conformal_p(0.0, &[0.0; 999]).unwrap();
    assert_eq!(p.at_least(), p.of());
    // And one difference, however small, is the smallest p-value that 999 units give.
    let p = conformal_p(f64::from_bits(1), &[0.0; 999]).unwrap();
    assert_eq!(p.value().to_bits(), 1e-3_f64.to_bits());
}

/// A setup that looks deterministic differs once in 500: its bound is above the truth in at least 95 % of studies.
#[test]
fn the_bound_of_a_nearly_exact_setup_holds() {
    let mut world = World::new(15);
    let (trials, rate) = (4000, 2e-3);
    for repeats in [100, 501, 1500] {
        let too_low = (0..trials)
            .filter(|_| {
                let differing = (1..repeats).filter(|_| world.happens(rate)).count() as u64;
                ExactTier::of_repeats(repeats, differing, 0.95).unwrap().rate_bound < rate
            })
            .count();
        assert_at_most("bound below the truth", too_low, trials, 0.05);
    }
    // 1,499 comparisons are enough for the bound to be reached: by then "no difference" is rare, and the claim sharp.
    let n = units_needed(rate, 0.95).unwrap();
    let silent = (0..trials).filter(|_| !(0..n).any(|_| world.happens(rate))).count();
    let expected = libm::pow(1.0 - rate, real(usize::try_from(n).unwrap()));
    assert!(expected <= 0.05 && range(trials, expected).contains(&silent), "{silent} {expected}");
}
