use super::*;

/// The clamped unit as gpt-oss's module computes it, a tensor at a time: bit for bit in formats of 16 bits, where the
/// exponential's last bits are rounded away; a NaN stays one and the bounds are reached.
#[test]
fn the_clamped_unit_is_its_operations_on_every_instruction_set() {
    let pool = Pool::new(1).expect("threads");
    for length in [1_u16, 15, 16, 33] {
        let pairs: Vec<f32> = (0..2 * length).map(|i| f32::from(i * 37 % 101) / 5.0 - 10.0).collect();
        for output in Dtype::ALL {
            let pairs: Vec<f32> = pairs.iter().map(|x| output.round(*x)).collect();
            let mut first = None;
            let recipe = ClampedSwiGluRecipe { functions: Elementary::Own, output };
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()) {
                let mut out = vec![f32::NAN; usize::from(length)];
                clamped_swiglu(isa, &pool, recipe, [1.702, 7.0], &pairs, &mut out);
                for (pair, found) in pairs.as_chunks::<2>().0.iter().zip(&out) {
                    let (gate, up) = (pair[0].min(7.0), pair[1].clamp(-7.0, 7.0));
                    let argument = f64::from(output.round(gate * 1.702));
                    #[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding to binary32")]
                    let sigmoid = output.round((1.0 / (1.0 + (-argument).exp())) as f32);
                    let want = output.round(output.round(up + 1.0) * output.round(gate * sigmoid));
                    if output == Dtype::F32 {
                        // The exponential is within two units, the sigmoid and three products round once each.
                        assert!(
                            (found - want).abs() <= 4.0 * f32::EPSILON * want.abs(),
                            "{pair:?}: {found}, {want}"
                        );
                    } else {
                        assert_eq!(found.to_bits(), want.to_bits(), "{pair:?} {output}: {found} for {want}");
                    }
                }
                let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{isa:?} {output} {length}");
                for pair in [[f32::NAN, 1.0], [1.0, f32::NAN]] {
                    clamped_swiglu(isa, &pool, recipe, [1.702, 7.0], &pair, &mut out[..1]);
                    assert!(out[0].is_nan(), "{pair:?}");
                }
            }
        }
    }
}

#[test]
fn neighbours_are_turned_as_complex_numbers() {
    let pool = Pool::new(1).expect("threads");
    let recipe = RotaryRecipe {
        functions: mantissa_numerics::recipe::RotaryFunctions::Own,
        pairs: RotaryPairs::Neighbours,
        output: Dtype::F32,
    };
    // One row of two heads of five, of which the last four are turned: by a right angle and not at all.
    let mut x = [9.0, 1.0, 2.0, 3.0, 4.0, 8.0, 5.0, 6.0, 7.0, 0.5];
    rotary(Isa::Scalar, &pool, recipe, &mut x, [10, 5, 1], &[&[0.0, 1.0, 1.0, 0.0]]);
    assert_eq!(x.map(f32::to_bits), [9.0, -2.0, 1.0, 3.0, 4.0, 8.0, -6.0, 5.0, 7.0, 0.5].map(f32::to_bits));
}
