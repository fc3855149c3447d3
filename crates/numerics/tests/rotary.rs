//! Rotary frequencies and PyTorch's `pow` against `goldens/torch_rope.json` (PyTorch and transformers on AVX2 and
//! AVX-512).

use mantissa_numerics::rotary::{Arithmetic, Rope, RopeScaling, proportional};
use mantissa_numerics::torch_cpu::{self, CpuCapability, glibc, sleef_powf};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    powers: Vec<[String; 3]>,
    pairs: Pairs,
    rope: Vec<Case>,
    proportional: Vec<(f64, usize, f64, f64, String, String)>,
}

#[derive(Deserialize)]
struct Pairs {
    vectors: String,
    elements: String,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    base: f64,
    dim: usize,
    max_position_embeddings: usize,
    scaling: Option<RopeScaling>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    length: Option<usize>,
    avx2: String,
    avx512: String,
    attention_factor: String,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../goldens/torch_rope.json")).expect("a golden")
}

/// FNV-1a over the values' little-endian bytes.
fn digest(values: &[f32]) -> String {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    format!("{hash:016x}")
}

/// As the script draws them.
fn numbers(count: usize) -> Vec<u32> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 32).expect("32 bits")
    };
    (0..count).map(next).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "exact below 2^24; rounding as the script's")]
fn single(x: f64) -> f32 {
    x as f32
}

#[test]
fn powers_of_every_width_are_pytorchs() {
    let golden = golden();
    assert!(golden.powers.len() >= 50);
    for [base, avx2, avx512] in golden.powers {
        let bits = u64::from_str_radix(&base, 16).expect("hexadecimal");
        for (cpu, want) in CpuCapability::ALL.into_iter().zip([avx2, avx512]) {
            let width = |dim: u32| {
                let exponents: Vec<f32> =
                    (0..dim / 2).map(|i| single(f64::from(2 * i)) / single(f64::from(dim))).collect();
                torch_cpu::pow(cpu, f64::from_bits(bits), &exponents)
            };
            let all: Vec<f32> = (2..=512).step_by(2).flat_map(width).collect();
            assert_eq!(digest(&all), want, "base {} with {cpu:?}", f64::from_bits(bits));
        }
    }
}

#[test]
fn powers_of_any_pair_are_pytorchs() {
    let draw = numbers(1 << 18);
    let pairs = draw.chunks_exact(2).map(|pair| {
        let base = f32::from_bits((107 << 23) + pair[0] % (50 << 23));
        (base, single(f64::from(pair[1]) / 1_073_741_824.0 - 2.0))
    });
    let (vectors, elements): (Vec<f32>, Vec<f32>) =
        pairs.map(|(base, exponent)| (sleef_powf(base, exponent), glibc::powf(base, exponent))).unzip();
    let golden = golden().pairs;
    assert_eq!([digest(&vectors), digest(&elements)], [golden.vectors, golden.elements]);
}

#[test]
fn frequencies_are_those_of_transformers() {
    let golden = golden();
    assert!(!golden.rope.is_empty() && !golden.proportional.is_empty());
    for case in golden.rope {
        let Case { name, base, dim, max_position_embeddings, scaling, answers } = case;
        let rope = Rope { base, dim, scaling: scaling.as_ref(), max_position_embeddings };
        assert!(!answers.is_empty(), "{name}");
        for Answer { length, avx2, avx512, attention_factor } in answers {
            for (cpu, want) in CpuCapability::ALL.into_iter().zip([&avx2, &avx512]) {
                let found = rope.frequencies(Arithmetic::Torch(cpu), length);
                let factor = format!("{:08x}", found.attention_factor.to_bits());
                let place = format!("{name} at {length:?} with {cpu:?}");
                assert_eq!((&digest(&found.inverse), factor), (want, attention_factor.clone()), "{place}");
            }
            if length.is_none() && dim.is_multiple_of(64) {
                let one = rope.one_answer().expect("whole vectors are one answer");
                assert_eq!(digest(&one.inverse), avx2, "{name}");
            }
            if avx2 != avx512 {
                assert_eq!(rope.one_answer(), None, "{name}");
            }
        }
    }
    for (base, dim, partial, factor, avx2, avx512) in golden.proportional {
        for (cpu, want) in CpuCapability::ALL.into_iter().zip([avx2, avx512]) {
            let found = proportional(Arithmetic::Torch(cpu), base, dim, partial, factor);
            assert_eq!(digest(&found), want, "proportional {base} {dim} {partial} {factor} with {cpu:?}");
        }
    }
}
