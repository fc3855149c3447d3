//! Elementwise functions of PyTorch's CUDA kernels, compared with an H200 over every bf16 and every f16.

use std::collections::BTreeMap;
use std::path::Path;

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::functions::{gelu_tanh, sigmoid, silu_each, tanh};

/// FNV-1a over what `function` leaves of every value of a format, as `goldens/gpu/all_functions.py`.
fn digest(dtype: Dtype, function: impl Fn(f32) -> f32) -> String {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for bits in 0..=u16::MAX {
        let y = function(dtype.decode(&bits.to_le_bytes(), 0));
        let mut bytes = Vec::new();
        dtype.encode(y, &mut bytes);
        for byte in if y.is_nan() { &[0xFF, 0x7F] } else { &bytes[..] } {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
    format!("{hash:016x}")
}

fn silu(x: f32) -> f32 {
    let mut x = [x];
    silu_each(&mut x);
    x[0]
}

#[test]
fn every_output_is_that_of_an_h200() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/gpu/all_functions.json");
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let digests: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_value(golden["digests"].clone()).unwrap();
    let mut compared = 0;
    for (format, digests) in digests {
        let dtype: Dtype = serde_json::from_value(format.clone().into()).unwrap();
        let round = |x| dtype.round(x);
        let capped = |x: f32, cap: f32| round(cap * round(tanh(round(x * (1.0 / cap)))));
        for (name, expected) in digests {
            let found = match &*name {
                "tanh" => digest(dtype, |x| round(tanh(x))),
                "sigmoid" => digest(dtype, |x| round(sigmoid(x))),
                "silu" => digest(dtype, |x| round(silu(x))),
                "gelu_tanh" => digest(dtype, |x| round(gelu_tanh(x))),
                "cap_30" => digest(dtype, |x| capped(x, 30.0)),
                "cap_50" => digest(dtype, |x| capped(x, 50.0)),
                "gated_1.702" => digest(dtype, |x| round(x * round(sigmoid(round(x * 1.702))))),
                other => panic!("{other} is not computed"),
            };
            assert_eq!(found, expected, "{name} of {format}");
            compared += 1;
        }
    }
    assert_eq!(compared, 14);
    // A digest tells orders apart: of f16 a quotient would leave other bits than the product.
    let half = |function: &dyn Fn(f32) -> f32| digest(Dtype::F16, |x| Dtype::F16.round(function(x)));
    assert_ne!(half(&|x| x / 30.0), half(&|x| x * (1.0 / 30.0)));
}
