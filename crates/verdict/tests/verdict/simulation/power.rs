//! Power is what the formulas predict.

use mantissa_verdict::stats::{conformal_p, power_of_conformal, power_of_exact, units_for_power_of_exact};

use super::chance::{World, assert_rate, real};

fn detections(seed: u64, trials: usize, n: usize, alpha: f64, shift: f64) -> usize {
    let mut world = World::new(seed);
    (0..trials)
        .filter(|_| conformal_p(shift + world.normal(), &world.normals(n)).unwrap().value() <= alpha)
        .count()
}

#[test]
fn conformal_power_is_the_integral() {
    for (index, (trials, n, alpha, shift)) in [
        (20_000, 9, 0.1, 1.0),
        (20_000, 19, 0.05, 2.0),
        (10_000, 99, 0.01, 3.0),
        (10_000, 99, 0.05, 1.5),
        (2_000, 999, 0.001, 4.0),
        (2_000, 999, 0.01, 2.0),
    ]
    .into_iter()
    .enumerate()
    {
        let predicted = power_of_conformal(n as u64, alpha, shift).unwrap();
        assert!(predicted > 0.2 && predicted < 0.95, "{predicted}: a prediction near 0 or 1 tests little");
        assert_rate("detections", detections(index as u64, trials, n, alpha, shift), trials, predicted);
    }
}

/// Below its smallest level the test never alarms, however large the shift.
#[test]
fn too_few_units_have_no_power() {
    assert_eq!(detections(20, 500, 98, 0.01, 100.0), 0);
    assert_eq!(power_of_conformal(98, 0.01, 100.0).unwrap().to_bits(), 0.0_f64.to_bits());
}

/// Another setup whose sequences have one of four equally likely patterns of bits.
#[test]
fn exact_power_is_one_minus_the_chance_of_collision() {
    let mut world = World::new(21);
    let (trials, collision) = (20_000, 0.25);
    for units in [1, 2, 4] {
        let detected = (0..trials).filter(|_| (0..units).any(|_| world.below(4) != 0)).count();
        assert_rate("detections", detected, trials, power_of_exact(collision, units).unwrap());
    }
    let units = units_for_power_of_exact(collision, 0.99).unwrap();
    assert!(power_of_exact(collision, units).unwrap() >= 0.99);
    assert!(power_of_exact(collision, units - 1).unwrap() < 0.99);
    assert!(real(usize::try_from(units).unwrap()) < 5.0);
}
