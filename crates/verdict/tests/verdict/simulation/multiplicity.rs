//! Family-wise error, false discovery rate, and "none of these".

use mantissa_verdict::stats::{Identified, PValue, benjamini_hochberg, conformal_p, holm, identify};

use super::chance::{World, assert_at_most, assert_breaks, assert_rate, real};

/// Conformal p-values of scores that share one calibration set: dependent, as in a report.
fn shared_calibration(world: &mut World, n: usize, shifts: &[f64]) -> Vec<PValue> {
    let calibration = world.normals(n);
    shifts.iter().map(|shift| conformal_p(shift + world.normal(), &calibration).unwrap()).collect()
}

#[test]
fn holm_keeps_the_family_wise_rate() {
    let mut world = World::new(30);
    let (trials, alpha) = (5000, 0.05);
    // Eight true hypotheses and two false ones.
    let shifts = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0];
    let (mut corrected, mut uncorrected) = (0, 0);
    for _ in 0..trials {
        let p_values = shared_calibration(&mut world, 399, &shifts);
        corrected += usize::from(holm(&p_values)[..8].iter().any(|&p| p <= alpha));
        uncorrected += usize::from(p_values[..8].iter().any(|p| p.value() <= alpha));
    }
    assert_at_most("any false rejection after Holm", corrected, trials, alpha);
    assert_breaks("any false rejection uncorrected", uncorrected, trials, alpha);
    assert!(corrected > 0, "a correction that never errs is too strict to be this one");
}

/// The mean of `trials` shares in [0, 1] exceeds its expectation by √(ln 10⁶ / 2 trials) with probability below 10⁻⁶
/// (Hoeffding, JASA 58(301), 1963, theorem 1).
#[test]
fn benjamini_hochberg_keeps_the_false_discovery_rate() {
    let mut world = World::new(31);
    let (trials, level) = (10_000, 0.2);
    let shifts: Vec<f64> = (0..20).map(|index| if index < 10 { 0.0 } else { 4.0 }).collect();
    let (mut corrected, mut uncorrected) = (0.0, 0.0);
    for _ in 0..trials {
        let p_values = shared_calibration(&mut world, 199, &shifts);
        let share = |rejected: &[bool]| {
            let false_ones = rejected[..10].iter().filter(|&&is| is).count();
            real(false_ones) / real(rejected.iter().filter(|&&is| is).count().max(1))
        };
        let adjusted = benjamini_hochberg(&p_values);
        corrected += share(&adjusted.iter().map(|&p| p <= level).collect::<Vec<_>>());
        uncorrected += share(&p_values.iter().map(|p| p.value() <= level).collect::<Vec<_>>());
    }
    let margin = libm::sqrt(libm::log(1e6) / (2.0 * real(trials)));
    let expected = level * 10.0 / 20.0;
    assert!(corrected / real(trials) <= expected + margin, "{}", corrected / real(trials));
    assert!(corrected / real(trials) >= expected / 2.0, "{}", corrected / real(trials));
    assert!(uncorrected / real(trials) > expected + margin, "{}", uncorrected / real(trials));
}

/// Three candidates centred at 0, 8 and 16 standard deviations, each with its own honest units.
fn identified(world: &mut World, truth: f64, centres: &[f64]) -> Identified {
    let observed = truth + world.normal();
    let p_values: Vec<PValue> = centres
        .iter()
        .map(|centre| {
            let honest: Vec<f64> = world.normals(299).iter().map(|score| score.abs()).collect();
            conformal_p((observed - centre).abs(), &honest).unwrap()
        })
        .collect();
    identify(&p_values, 0.05).unwrap().identified()
}

#[test]
fn the_truth_is_named_when_it_is_a_candidate() {
    let mut world = World::new(32);
    let trials = 3000;
    let mut none = 0;
    for trial in 0..trials {
        match identified(&mut world, 8.0, &[0.0, 8.0, 16.0]) {
            Identified::One(1) => {}
            Identified::NoneOfThese => none += 1,
            other => panic!("trial {trial}: {other:?}"),
        }
    }
    // The other two are rejected first, so the last is tested at α itself.
    assert_rate("none of these, wrongly", none, trials, 0.05);
}

#[test]
fn none_of_these_when_the_truth_is_no_candidate() {
    let mut world = World::new(33);
    for truth in [-8.0, 100.0, 24.0] {
        for _ in 0..200 {
            assert_eq!(identified(&mut world, truth, &[0.0, 8.0, 16.0]), Identified::NoneOfThese);
        }
    }
}

/// Two candidates of one equivalence class: both stay or both go, never is one named.
#[test]
fn candidates_of_one_class_are_not_told_apart() {
    let mut world = World::new(34);
    let honest: Vec<f64> = world.normals(299).iter().map(|score| score.abs()).collect();
    for _ in 0..500 {
        let p = conformal_p(world.normal().abs(), &honest).unwrap();
        let far = conformal_p(50.0, &honest).unwrap();
        match identify(&[p, p, far], 0.05).unwrap().identified() {
            Identified::Several(which) => assert_eq!(which, [0, 1]),
            other => assert_eq!(other, Identified::NoneOfThese),
        }
    }
}
