//! Log-probabilities as an H200 left them by the kernels of vLLM's two model runners (goldens/audit/gpu/probe.py): the
//! same numbers are drawn here, and digests of all bits compared.

use std::collections::BTreeMap;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::softmax::TorchSoftmax;
use mantissa_numerics::nvidia::triton::TritonLogSoftmax;

const GOLDEN: &str = include_str!("../../../goldens/audit/logprobs.json");
const ROWS: usize = 24;
const COLUMNS: usize = 21;

/// SplitMix64, as drawn.py has it.
fn mixed(seed: u64, count: usize) -> impl Iterator<Item = u64> {
    (1..=count as u64).map(move |i| {
        let z = (i.wrapping_add(seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

#[expect(clippy::cast_precision_loss, reason = "rounded as numpy rounds")]
fn row(vocabulary: usize, half: u64, row: u64) -> Vec<f32> {
    let seed = (vocabulary as u64 * 64 + row) * 2 + half;
    let scale = [0.5, 1.0, 2.0, 4.0, 8.0, 32.0][(row % 6) as usize] / (128.0 * 65536.0);
    let bell = |z: u64| {
        let total: u64 = (0..4).map(|i| z >> (8 * i) & 255).sum();
        let fine = z >> 32 & 0xFFFF;
        ((total.cast_signed() - 510) * 65536 + fine.cast_signed()) as f32 * scale
    };
    let mut x: Vec<f32> = mixed(seed, vocabulary).map(bell).collect();
    let special = row / 6;
    if special == 2 {
        for x in &mut x {
            *x = x.round_ties_even();
        }
    }
    if special == 3 {
        let which: Vec<u64> = mixed(seed + (1 << 30), vocabulary).collect();
        let place = usize::try_from(which[0] % vocabulary as u64).expect("within");
        match row % 6 {
            0 => {
                for (x, z) in x.iter_mut().zip(which) {
                    *x = if z.trailing_zeros() >= 4 { f32::NEG_INFINITY } else { *x };
                }
            }
            1 => x.fill(3.0),
            2 => x.fill(f32::NEG_INFINITY),
            3 => x[place] = f32::INFINITY,
            4 => x[place] = 88.0,
            _ => x[place] = f32::NAN,
        }
    }
    if half == 1 { x.into_iter().map(|x| Dtype::Bf16.round(x)).collect() } else { x }
}

fn digests() -> BTreeMap<String, String> {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).expect("JSON");
    let digests = golden["digests"].as_object().expect("digests");
    digests
        .iter()
        .map(|(name, digest)| (name.clone(), digest.as_str().expect("a digest").to_owned()))
        .collect()
}

/// FNV-1a over bits, NaNs as one.
fn digest(values: impl Iterator<Item = f32>) -> String {
    let bits = values.map(|x| if x.is_nan() { 0x7FC0_0000 } else { x.to_bits() });
    let hash = bits.flat_map(u32::to_le_bytes).fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    format!("{hash:016x}")
}

/// A row's largest value and the logarithm of its sum, by the row's number too.
type LogSum<'s> = dyn Fn(&[f32], usize) -> (f32, f32) + 's;

/// What the tokens that the script asked for get, where a row's largest and sum are `of` it and its number.
fn found(vocabulary: usize, half: u64, of: &LogSum<'_>) -> String {
    let asked: Vec<u64> = mixed(vocabulary as u64 * 2 + half + (1 << 20), ROWS * COLUMNS).collect();
    digest((0..ROWS).flat_map(|number| {
        let x = row(vocabulary, half, number as u64);
        let (largest, log) = of(&x, number);
        let asked = asked[number * COLUMNS..][..COLUMNS].to_vec();
        asked
            .into_iter()
            .map(move |id| x[usize::try_from(id % vocabulary as u64).expect("within")] - largest - log)
    }))
}

#[test]
fn those_of_both_runners_are_an_h200s() {
    let mut compared = 0;
    for (name, expected) in digests() {
        let words: Vec<&str> = name.split('-').collect();
        let (Some(Ok(vocabulary)), Some(kernel)) = (words.get(1).map(|n| n.parse::<usize>()), words.last())
        else {
            continue;
        };
        let (half, dtype) = if words[0] == "bf16" { (1, Dtype::Bf16) } else { (0, Dtype::F32) };
        let stride = if words.contains(&"cut") { vocabulary.next_multiple_of(64) } else { vocabulary };
        let of_triton = TritonLogSoftmax::laid_out(stride, dtype);
        // Runner V1 makes binary32 of the logits, rows close together.
        let of_torch = TorchSoftmax::of(vocabulary, Dtype::F32);
        let digest = match *kernel {
            "triton" => found(vocabulary, half, &|x, _| of_triton.log_sum(x)),
            _ => found(vocabulary, half, &|x, row| of_torch.log_sum(x, row * vocabulary)),
        };
        assert_eq!(digest, expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 140);
}
