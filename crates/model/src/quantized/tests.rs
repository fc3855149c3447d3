//! Laws of every layout: bytes filled once, values within half a step, and what bitsandbytes and torch say of
//! constants.

use super::parts::largest;
use super::*;
use crate::safetensors_header::TensorEntry;
use crate::synth::Values;

const SHAPES: [(usize, usize); 3] = [(64, 128), (128, 384), (8, 256)];

/// Parts of a quantized matrix; checks that the units of work fill every byte once.
fn quantized(quantization: Quantization, matrix: &Matrix<'_>) -> Vec<Vec<u8>> {
    let parts = quantization.parts(matrix.rows, matrix.cols, matrix.dtype);
    let mut bytes: Vec<Vec<Option<u8>>> =
        parts.iter().map(|part| vec![None; usize::try_from(part.bytes()).expect("small")]).collect();
    for unit in 0..quantization.units(matrix.rows, matrix.cols) {
        for made in quantization.unit(matrix, unit) {
            for (at, byte) in (made.at..).zip(made.bytes) {
                let place = &mut bytes[made.part][at];
                assert_eq!(place.replace(byte), None, "{quantization} {} twice", parts[made.part].name);
            }
        }
    }
    let whole = |part: Vec<Option<u8>>| part.into_iter().map(|byte| byte.expect("filled")).collect();
    bytes.into_iter().map(whole).collect()
}

/// What the reader makes of parts.
fn decoded(quantization: Quantization, matrix: &Matrix<'_>, bytes: &[Vec<u8>]) -> Vec<f32> {
    let mut file = Vec::new();
    let mut found: Vec<Option<(usize, TensorEntry)>> = Vec::new();
    for (part, bytes) in quantization.parts(matrix.rows, matrix.cols, matrix.dtype).into_iter().zip(bytes) {
        let range = file.len()..file.len() + bytes.len();
        file.extend(bytes);
        let (name, dtype) = (format!("m.{}", part.name), part.dtype.to_owned());
        found.push(Some((0, TensorEntry { name, dtype, shape: part.shape, range })));
    }
    let config = quantization.config_json(matrix.dtype, &[]);
    let scheme = Scheme::read(&config, Some(matrix.dtype)).expect("known").expect("read");
    assert_eq!(scheme.quantization, quantization);
    let shape = [matrix.rows, matrix.cols];
    let decoder =
        scheme.check("m.weight", &shape, &found, |_, entry| &file[entry.range.clone()]).expect("whole");
    let values = decoder.decode(&|_| &file).expect("decoded");
    (0..matrix.rows * matrix.cols).map(|index| decoder.dtype().decode(&values, index)).collect()
}

/// Half of the widest gap between two values of a block, as a part of the block's largest magnitude.
fn half_a_step(quantization: Quantization, values: &[f32], index: usize, cols: usize) -> f32 {
    let (row, col) = (index / cols, index % cols);
    let of_group = |width: usize| &values[row * cols + col / width * width..][..width];
    match quantization {
        // The range may be twice the largest magnitude.
        Quantization::Awq | Quantization::Gptq => 2.0 / 15.0 / 2.0 * largest(of_group(128).iter().copied()),
        // From -1 to -0.696; double quantization moves the scale by less than 1 in 50 of a scale's spread.
        Quantization::BnbNf4 => 0.152 * largest(of_group(64).iter().copied()),
        Quantization::BnbNf4Double => 0.16 * largest(of_group(64).iter().copied()),
        Quantization::Fp8 => values[index].abs() / 16.0 + largest(values.iter().copied()) / 448.0 / 512.0,
    }
}

#[test]
fn decoded_values_lie_within_half_a_step() {
    for quantization in Quantization::ALL {
        for dtype in [Dtype::Bf16, Dtype::F16] {
            for (seed, (rows, cols)) in (1..).zip(SHAPES) {
                let source = Values::new(seed, "w", 0.0, 0.1);
                let at = |index: usize| dtype.round(source.at(index as u64));
                let matrix = Matrix { rows, cols, dtype, at: &at };
                let values: Vec<f32> = (0..rows * cols).map(at).collect();
                let back = decoded(quantization, &matrix, &quantized(quantization, &matrix));
                for (index, (value, back)) in values.iter().zip(&back).enumerate() {
                    // Roundings of scale and result to 16 bits come on top.
                    let bound = half_a_step(quantization, &values, index, cols) * 1.02 + back.abs() / 128.0;
                    assert!((value - back).abs() <= bound, "{quantization} {dtype} {index}: {value} {back}");
                }
                assert!(values.iter().zip(&back).any(|(a, b)| a.to_bits() != b.to_bits()));
            }
        }
    }
}

/// A second quantization finds the same integers: the largest magnitude of a block is kept.
#[test]
fn decoded_values_are_kept_by_a_second_quantization() {
    for quantization in [Quantization::BnbNf4, Quantization::Fp8] {
        let (rows, cols, dtype) = (128, 256, Dtype::F32);
        let source = Values::new(9, "w", 0.0, 0.1);
        let at = |index: usize| source.at(index as u64);
        let first = quantized(quantization, &Matrix { rows, cols, dtype, at: &at });
        let back = decoded(quantization, &Matrix { rows, cols, dtype, at: &at }, &first);
        let again = |index: usize| back[index];
        let second = quantized(quantization, &Matrix { rows, cols, dtype, at: &again });
        assert_eq!(first[0], second[0], "{quantization}");
    }
}

#[test]
fn zeros_stay_zeros() {
    for quantization in Quantization::ALL {
        let matrix = Matrix { rows: 8, cols: 128, dtype: Dtype::Bf16, at: &|_| 0.0 };
        let back = decoded(quantization, &matrix, &quantized(quantization, &matrix));
        assert!(back.iter().all(|x| x.abs() < f32::MIN_POSITIVE), "{quantization}");
    }
}

/// Every number of E4M3, and the nearest one to numbers between: ties to the even pattern.
#[test]
fn e4m3_rounds_to_nearest_even() {
    for bits in 0..=0x7E_u8 {
        let (value, next) = (fp8::decode(bits), fp8::decode((bits + 1).min(0x7E)));
        assert_eq!((fp8::encode(value), fp8::encode(-value)), (bits, bits | 0x80));
        let middle = f32::midpoint(value, next);
        assert_eq!(fp8::encode(middle), if bits.is_multiple_of(2) { bits } else { (bits + 1).min(0x7E) });
        if bits < 0x7E {
            assert_eq!(fp8::encode(middle.next_down()), bits);
            assert_eq!(fp8::encode(middle.next_up()), bits + 1);
        }
    }
    assert!(fp8::decode(0x7F).is_nan() && fp8::decode(0xFF).is_nan());
    assert_eq!((fp8::decode(0x7E).to_bits(), fp8::encode(1e9)), (448.0_f32.to_bits(), 0x7E));
}

/// SHA-256 of `bitsandbytes.functional.create_dynamic_map()` of 0.50.2 with PyTorch 2.15 on an Intel Xeon, as bytes.
#[test]
fn the_dynamic_code_book_is_bitsandbytes() {
    use sha2::Digest as _;
    let bytes: Vec<u8> =
        mantissa_numerics::nvidia::bnb::dynamic_map().iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(
        crate::hex::hex(&sha2::Sha256::digest(&bytes)),
        "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c"
    );
}

#[test]
fn a_layout_that_is_not_read_says_what_of_it() {
    let fault =
        |config: serde_json::Value| Scheme::read(&config, None).map(|read| read.expect_err("refused"));
    let cases = [
        (serde_json::json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}), "gemm"),
        (serde_json::json!({"quant_method": "awq", "bits": 8, "group_size": 128}), "4 bits"),
        (serde_json::json!({"quant_method": "gptq", "bits": 4}), "groups"),
        (
            serde_json::json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "gptq_v2"}),
            "checkpoint_format",
        ),
        (serde_json::json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), "4 bits"),
        (
            serde_json::json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}),
            "nf4",
        ),
        (serde_json::json!({"quant_method": "fp8", "activation_scheme": "static"}), "weight_block_size"),
        (serde_json::json!({"quant_method": "fp8", "weight_block_size": [0, 128]}), "weight_block_size"),
    ];
    for (config, wanted) in cases {
        let fault = fault(config).expect("a known method");
        assert!(fault.contains(wanted), "{fault}");
    }
    assert_eq!(fault(serde_json::json!({"quant_method": "hqq"})), None);
}

#[test]
fn integers_of_four_bits_are_refused_where_vllm_takes_others() {
    use std::num::NonZeroUsize;

    use super::int4_matrix::BY_ACTIVATION;
    use super::{Int4, Int4Matrix};
    use crate::quantized::parts::Packed;

    // Eight outputs of 32 inputs in groups of 16: all 5, around 8.
    let words = [0x55_u8; 32 / 8 * 8 * 4];
    let scales: Vec<u8> = [0x3F80_u16; 16].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let index =
        |group: fn(u32) -> u32| -> Vec<u8> { (0..32).flat_map(|col| group(col).to_le_bytes()).collect() };
    let layout = Int4 { group: NonZeroUsize::new(16), zeros: false };
    let refused = |zeros: u8, indices: &[u8], otherwise| {
        let zeros = [zeros; 8];
        let parts = vec![&words[..], &zeros[..], &scales[..], indices];
        Int4Matrix::new(Packed { rows: 8, cols: 32, parts }, layout, Dtype::Bf16, otherwise).refused()
    };
    let ascending = index(|col| col / 16);
    assert_eq!(refused(0x77, &ascending, None), None);
    assert!(refused(0x77, &ascending, Some(BY_ACTIVATION)).is_some_and(|why| why.contains("desc_act")));
    assert!(refused(0x77, &index(|col| col % 2), None).is_some_and(|why| why.contains("desc_act")));
    assert!(refused(0x76, &ascending, None).is_some_and(|why| why.contains("8 for every zero point")));
}
