//! bitsandbytes' normal float of 4 bits: an index into a code book of sixteen numbers, and a scale for each 64 values.
//!
//! `weight` is a column of bytes, two values each, the first in the high half; `weight.absmax` the scales;
//! `weight.quant_map` the code book; `weight.quant_state.bitsandbytes__nf4` a JSON object in bytes. Double quantization
//! stores scales as bytes: an index into a dynamic code book of 256 numbers, times a scale of each 256, plus one
//! offset.
//! *Source:* bitsandbytes 0.50.2, `functional.py` (`QuantState`, `create_dynamic_map`) and `backends/default/ops.py`.
//! Left out: its format of 8 bits and `fp4`.

use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::bnb::{Absmax, NF4 as CODE, Nf4Way, dynamic_map};
use serde_json::Value;

use super::parts::{Made, Matrix, Packed, Part, f32_at, largest};

/// Values that share a scale.
pub(super) const BLOCK: usize = 64;
/// The smallest block that kernels know: a lane takes as many values at a time.
const LEAST_BLOCK: usize = 32;
/// Scales that share a scale of their own.
const NESTED_BLOCK: usize = 256;
/// Values that a unit of work quantizes.
const UNIT: usize = 128 << 10;
/// Longest decimal form of a binary32 number in the quantization state.
const LONGEST_NUMBER: usize = 24;
/// Name of the part that holds the state.
pub(super) const STATE: &str = "weight.quant_state.bitsandbytes__nf4";

pub(super) fn parts(rows: usize, cols: usize, dtype: Dtype, double: bool) -> Vec<Part> {
    let (bytes, scales) = ((rows * cols).div_ceil(2), (rows * cols).div_ceil(BLOCK));
    let mut parts = vec![
        Part::new("weight", "U8", &[bytes, 1]),
        Part::new("weight.absmax", if double { "U8" } else { "F32" }, &[scales]),
        Part::new("weight.quant_map", "F32", &[CODE.len()]),
    ];
    if double {
        parts.push(Part::new("weight.nested_absmax", "F32", &[scales.div_ceil(NESTED_BLOCK)]));
        parts.push(Part::new("weight.nested_quant_map", "F32", &[256]));
    }
    let state = state(rows, cols, dtype, double.then_some(0.0));
    parts.push(Part::new(STATE, "U8", &[state.len()]));
    parts
}

/// The quantization state as JSON, padded with spaces: to a multiple of 8 bytes, whatever the offset's digits are.
fn state(rows: usize, cols: usize, dtype: Dtype, offset: Option<f32>) -> Vec<u8> {
    let name = match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "bfloat16",
        Dtype::F16 => "float16",
    };
    let mut text = format!(
        r#"{{"quant_type": "nf4", "blocksize": {BLOCK}, "dtype": "{name}", "shape": [{rows}, {cols}]"#
    );
    let mut length = text.len() + 1;
    if let Some(offset) = offset {
        let blocksize = NESTED_BLOCK.to_string();
        text +=
            &[r#", "nested_blocksize": "#, &blocksize, r#", "nested_dtype": "float32", "nested_offset": "#]
                .concat();
        length = text.len() + LONGEST_NUMBER + 1;
        // The shortest form of the same number in binary64, as Python prints it.
        text += &Value::from(f64::from(offset)).to_string();
    }
    text.push('}');
    let mut bytes = text.into_bytes();
    bytes.resize(length.next_multiple_of(8), b' ');
    bytes
}

/// Units of work but for the scales' of double quantization.
pub(super) fn units(rows: usize, cols: usize) -> usize {
    (rows * cols).div_ceil(UNIT)
}

/// The bytes of one run of values, or, with double quantization, of all scales.
pub(super) fn unit(matrix: &Matrix<'_>, unit: usize, double: bool) -> Vec<Made> {
    let count = matrix.rows * matrix.cols;
    if unit == units(matrix.rows, matrix.cols) {
        let all: Vec<f32> = (0..count).step_by(BLOCK).map(|first| absmax(&block(matrix, first))).collect();
        return double_quantized(matrix, &all);
    }
    let (mut bytes, mut scales) = (Vec::new(), Vec::new());
    for first in (unit * UNIT..count.min((unit + 1) * UNIT)).step_by(BLOCK) {
        let values = block(matrix, first);
        let scale = absmax(&values);
        let indices = values.iter().map(|&x| nearest(&CODE, x * (1.0 / scale.max(1e-38))));
        let indices: Vec<u8> = indices.collect();
        bytes.extend(indices.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)));
        scales.extend(scale.to_le_bytes());
    }
    let mut made = vec![Made { part: 0, at: unit * UNIT / 2, bytes }];
    if !double {
        made.push(Made { part: 1, at: unit * UNIT / BLOCK * 4, bytes: scales });
        if unit == 0 {
            let state = state(matrix.rows, matrix.cols, matrix.dtype, None);
            made.push(Made { part: 2, at: 0, bytes: bytes_of(&CODE) });
            made.push(Made { part: 3, at: 0, bytes: state });
        }
    }
    made
}

fn block(matrix: &Matrix<'_>, first: usize) -> Vec<f32> {
    (first..(first + BLOCK).min(matrix.rows * matrix.cols)).map(matrix.at).collect()
}

fn absmax(values: &[f32]) -> f32 {
    largest(values.iter().copied())
}

/// Everything but the values, from the scales of all blocks.
///
/// *Rounding:* the offset is the scales' sum in binary64, in order, divided by their number and rounded once to
/// binary32 (bitsandbytes' own mean depends on the machine's vectors); the differences and the products with `1 /
/// absmax` are in binary32.
fn double_quantized(matrix: &Matrix<'_>, scales: &[f32]) -> Vec<Made> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "one rounding, as stated"
    )]
    let offset = (scales.iter().map(|&x| f64::from(x)).sum::<f64>() / scales.len() as f64) as f32;
    let map = dynamic_map();
    let (mut bytes, mut nested) = (Vec::new(), Vec::new());
    for block in scales.chunks(NESTED_BLOCK) {
        let centred: Vec<f32> = block.iter().map(|x| x - offset).collect();
        let scale = absmax(&centred);
        bytes.extend(centred.iter().map(|x| nearest(&map, x * (1.0 / scale.max(1e-38)))));
        nested.push(scale);
    }
    let state = state(matrix.rows, matrix.cols, matrix.dtype, Some(offset));
    let parts = [bytes, bytes_of(&CODE), bytes_of(&nested), bytes_of(&map), state];
    parts.into_iter().enumerate().map(|(part, bytes)| Made { part: part + 1, at: 0, bytes }).collect()
}

/// Index of the number of `code`, which ascends, that lies nearest to `x`; of two equally near ones the lower.
///
/// *Rounding:* the bounds are `(a + b) / 2` in binary32; the index is the number of bounds below `x`.
fn nearest(code: &[f32], x: f32) -> u8 {
    let (mut least, mut most) = (0, code.len() - 1);
    while least < most {
        let middle = usize::midpoint(least, most);
        if f32::midpoint(code[middle], code[middle + 1]) < x {
            least = middle + 1;
        } else {
            most = middle;
        }
    }
    u8::try_from(least).unwrap_or(u8::MAX)
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What a quantization state says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct State {
    /// Values that share a scale.
    pub(super) block: usize,
    /// Scales that share a scale of their own, and the offset; `None` where scales are stored as numbers.
    pub(super) nested: Option<(usize, f32)>,
    /// What decoded values are rounded to.
    pub(super) dtype: Dtype,
}

impl State {
    /// Reads the JSON of a matrix of `shape`; the fault where it says something else.
    pub(super) fn read(json: &[u8], shape: &[usize]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(json).map_err(|_| "is not a JSON object".to_owned())?;
        let size = |key: &str| json[key].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        if json["quant_type"] != "nf4" {
            return Err("quant_type is not nf4".to_owned());
        }
        if json["shape"] != serde_json::json!(shape) {
            return Err(format!("the configuration asks for shape {shape:?}"));
        }
        let dtype = json["dtype"].as_str().and_then(|name| name.parse::<Dtype>().ok());
        let (Some(block), Some(dtype)) = (size("blocksize"), dtype) else {
            return Err("blocksize or dtype is absent or not known".to_owned());
        };
        let nested = match json.get("nested_offset") {
            None => None,
            Some(offset) => {
                #[expect(clippy::cast_possible_truncation, reason = "written from a binary32 number")]
                let offset = offset.as_f64().map(|offset| offset as f32);
                let Some(nested) = size("nested_blocksize").zip(offset) else {
                    return Err("nested_blocksize or nested_offset is no number".to_owned());
                };
                Some(nested)
            }
        };
        Ok(Self { block, nested, dtype })
    }
}

/// A matrix as nf4 is stored, decoded as a GPU does it.
///
/// Example: [`crate::Checkpoint::nf4`].
#[derive(Debug, Clone)]
pub struct Nf4Matrix<'a> {
    packed: Packed<'a>,
    state: State,
}

impl<'a> Nf4Matrix<'a> {
    pub(super) fn new(packed: Packed<'a>, state: State) -> Self {
        Self { packed, state }
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.packed.rows
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.packed.cols
    }

    /// Values that share a scale.
    #[must_use]
    pub fn block(&self) -> usize {
        self.state.block
    }

    /// Whether scales are quantized too.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        self.state.nested.is_some()
    }

    /// Whether bitsandbytes' kernels multiply by it: they know blocks by a shift, and nested scales in blocks of 256.
    #[must_use]
    pub fn is_multiplied(&self) -> bool {
        let nested = self.state.nested.is_none_or(|(nested, _)| nested == NESTED_BLOCK);
        nested && self.state.block.is_power_of_two() && self.state.block >= LEAST_BLOCK
    }

    /// The weights of a row on a way of bitsandbytes' products. Kernels have the code book of nf4 in themselves.
    ///
    /// # Panics
    /// When there is no such row or `out` has not [`Self::cols`] elements.
    pub fn row(&self, way: Nf4Way, row: usize, out: &mut [f32]) {
        let Packed { cols, parts, .. } = &self.packed;
        assert_eq!(out.len(), *cols, "elements of a row");
        let (mut index, mut rest) = (row * cols, out);
        while !rest.is_empty() {
            let block = index / self.state.block;
            let scale = way.scale(self.absmax(block));
            let table: [f32; 16] =
                std::array::from_fn(|code| way.weight(u8::try_from(code).unwrap_or(0), scale));
            let count = ((block + 1) * self.state.block - index).min(rest.len());
            let (of_block, others) = rest.split_at_mut(count);
            for (index, out) in (index..).zip(of_block) {
                let byte = parts[0][index / 2];
                *out = table[usize::from(if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 })];
            }
            (index, rest) = (index + count, others);
        }
    }

    fn absmax(&self, block: usize) -> Absmax {
        let parts = &self.packed.parts;
        match self.state.nested {
            None => Absmax::Stored(f32_at(parts[1], block)),
            Some((nested, offset)) => Absmax::Nested {
                code: f32_at(parts[4], usize::from(parts[1][block])),
                scale: f32_at(parts[3], block / nested),
                offset,
            },
        }
    }
}

/// The element of output `row` and input `col`.
///
/// *Rounding:* `round(code · absmax)`: a binary32 product, then one rounding to the state's dtype. With double
/// quantization `absmax = code₂ · absmax₂ + offset`, product and sum rounded to binary32 each.
pub(super) fn value(packed: &Packed<'_>, state: &State, row: usize, col: usize) -> f32 {
    let index = row * packed.cols + col;
    let byte = packed.parts[0][index / 2];
    let nibble = if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
    let block = index / state.block;
    let scale = match state.nested {
        None => f32_at(packed.parts[1], block),
        Some((nested, offset)) => {
            let code = f32_at(packed.parts[4], usize::from(packed.parts[1][block]));
            code * f32_at(packed.parts[3], block / nested) + offset
        }
    };
    state.dtype.round(f32_at(packed.parts[2], usize::from(nibble)) * scale)
}
