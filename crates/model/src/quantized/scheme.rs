//! What a `config.json` says of quantized weights, and a quantized matrix found in files.
//!
//! Left out: the arithmetic of an element (`awq`, `gptq`, `bnb`, `fp8`).

use std::num::NonZeroUsize;

use mantissa_numerics::Dtype;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::int4_matrix::{BY_ACTIVATION, NOT_SYMMETRIC};
use super::parts::Packed;
use super::{Int4, Int4Matrix, Quantization, awq, bnb, fp8, gptq, int4};
use crate::error::shown;
use crate::safetensors_header::TensorEntry;

/// How a checkpoint's weights are quantized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scheme {
    pub(crate) quantization: Quantization,
    /// Outputs and inputs that share a scale; no inputs: all.
    block: [usize; 2],
    /// What fp8 decodes to.
    dtype: Dtype,
    /// What makes vLLM multiply otherwise by GPTQ's weights.
    otherwise: Option<&'static str>,
}

impl Scheme {
    /// How integers of 4 bits are stored, if weights are those.
    pub(crate) fn int4(self) -> Option<Int4> {
        let zeros = match self.quantization {
            Quantization::Awq => true,
            Quantization::Gptq => false,
            Quantization::BnbNf4 | Quantization::BnbNf4Double | Quantization::Fp8 => return None,
        };
        Some(Int4 { group: NonZeroUsize::new(self.block[1]), zeros })
    }

    /// Reads a `quantization_config`; `dtype` is what the configuration says of the other tensors. `None` where the
    /// format is not one of [`Quantization::ALL`]; `Err` says what of one is not read.
    pub(crate) fn read(config: &Value, dtype: Option<Dtype>) -> Option<Result<Self, String>> {
        let otherwise = match (&config["desc_act"], &config["sym"]) {
            (Value::Bool(true), _) => Some(BY_ACTIVATION),
            (_, Value::Bool(false)) => Some(NOT_SYMMETRIC),
            _ => None,
        };
        let dtype = dtype.unwrap_or(Dtype::Bf16);
        let with = |quantization, block| Self { quantization, block, dtype, otherwise };
        let of_group = |quantization| match group(config) {
            Some(group) if bits(config) == Some(4) => Ok(with(quantization, [1, group])),
            _ => Err("not 4 bits in groups of inputs".to_owned()),
        };
        let says = |key: &str, value: &str| {
            config
                .get(key)
                .is_none_or(|said| said.as_str().is_some_and(|said| said.eq_ignore_ascii_case(value)))
        };
        Some(match config.get("quant_method").and_then(Value::as_str)? {
            "awq" if !says("version", "gemm") => Err("version is not gemm".to_owned()),
            "awq" if config["zero_point"] == json!(false) => Err("without zero points".to_owned()),
            "awq" => of_group(Quantization::Awq),
            "gptq" if !says("checkpoint_format", "gptq") => Err("checkpoint_format is not gptq".to_owned()),
            "gptq" => of_group(Quantization::Gptq),
            "bitsandbytes" if config["load_in_4bit"] != json!(true) => Err("not in 4 bits".to_owned()),
            "bitsandbytes" if config["bnb_4bit_quant_type"] != "nf4" => {
                Err("bnb_4bit_quant_type is not nf4".to_owned())
            }
            "bitsandbytes" if config["bnb_4bit_use_double_quant"] == json!(true) => {
                Ok(with(Quantization::BnbNf4Double, [1, 1]))
            }
            "bitsandbytes" => Ok(with(Quantization::BnbNf4, [1, 1])),
            "fp8" if !says("fmt", "e4m3") => Err("fmt is not e4m3".to_owned()),
            "fp8" => match serde_json::from_value::<[usize; 2]>(config["weight_block_size"].clone()) {
                Ok(block) if !block.contains(&0) => Ok(with(Quantization::Fp8, block)),
                _ => Err("without weight_block_size".to_owned()),
            },
            _ => return None,
        })
    }

    /// The part that the entry called `name` is: its matrix's name and its number. `None` for an ordinary tensor.
    pub(crate) fn part_of(&self, entry: &TensorEntry) -> Option<(String, usize)> {
        let names = self.part_names();
        let (number, module) = names.iter().enumerate().find_map(|(number, name)| {
            let module = entry.name.strip_suffix(name)?.strip_suffix('.')?;
            Some((number, module))
        })?;
        if names[number] == "weight" && entry.float().is_some() {
            return None;
        }
        Some((format!("{module}.weight"), number))
    }

    /// Names of the parts, in the order of [`Quantization::parts`].
    fn part_names(&self) -> Vec<&'static str> {
        self.quantization.parts(int4::GROUP, int4::GROUP, Dtype::F16).iter().map(|part| part.name).collect()
    }

    /// Checks the parts of matrix `tensor` of `shape` and says how it is decoded; `bytes` gives an entry's bytes.
    pub(crate) fn check<'a>(
        &self,
        tensor: &str,
        shape: &[usize],
        parts: &[Option<(usize, TensorEntry)>],
        bytes: impl Fn(usize, &TensorEntry) -> &'a [u8],
    ) -> Result<Decoder, (String, String)> {
        let wrong = |name: &str, fault: String| (name.to_owned(), fault);
        let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
        let &[rows, cols] = shape else {
            return Err(wrong(
                tensor,
                format!("shape {shape:?} cannot be quantized as {}", self.quantization),
            ));
        };
        let mut found = Vec::new();
        for (name, part) in self.part_names().into_iter().zip(parts) {
            match part {
                Some((file, entry)) => found.push((*file, entry)),
                None => return Err(wrong(&format!("{module}.{name}"), "absent".to_owned())),
            }
        }
        let scales = |part: usize| match found[part].1.float() {
            Some(dtype) => Ok(dtype),
            None => {
                Err(wrong(&found[part].1.name, format!("type {} is no scale's", shown(&found[part].1.dtype))))
            }
        };
        let (element, expected) = match self.quantization {
            Quantization::Awq | Quantization::Gptq => {
                let group = if self.block[1] == 0 { cols } else { self.block[1] };
                if !rows.is_multiple_of(int4::NIBBLES)
                    || !cols.is_multiple_of(int4::NIBBLES)
                    || !cols.is_multiple_of(group.max(1))
                {
                    return Err(wrong(tensor, format!("shape {shape:?} is not whole groups of {group}")));
                }
                let (words, groups, dtype) = (rows / int4::NIBBLES, cols / group.max(1), scales(2)?);
                let tail = [("I32", vec![groups, words]), ("", vec![groups, rows])];
                if self.quantization == Quantization::Awq {
                    let head = ("I32", vec![cols, words]);
                    (Element::Awq { group, dtype }, [vec![head], tail.to_vec()].concat())
                } else {
                    let head = ("I32", vec![cols / int4::NIBBLES, rows]);
                    let indices = ("I32", vec![cols]);
                    (
                        Element::Gptq { groups, dtype, otherwise: self.otherwise },
                        [vec![head], tail.to_vec(), vec![indices]].concat(),
                    )
                }
            }
            Quantization::BnbNf4 | Quantization::BnbNf4Double => {
                let (file, entry) = found[found.len() - 1];
                let state =
                    bnb::State::read(bytes(file, entry), shape).map_err(|fault| wrong(&entry.name, fault))?;
                let (count, double) = (rows * cols, self.quantization == Quantization::BnbNf4Double);
                if state.nested.is_some() != double {
                    let fault = "it and bnb_4bit_use_double_quant contradict each other".to_owned();
                    return Err(wrong(&entry.name, fault));
                }
                let scales = count.div_ceil(state.block);
                let mut expected = vec![
                    ("U8", vec![count.div_ceil(2), 1]),
                    (if double { "U8" } else { "F32" }, vec![scales]),
                    ("F32", vec![16]),
                ];
                if let Some((nested, _)) = state.nested {
                    expected.extend([("F32", vec![scales.div_ceil(nested)]), ("F32", vec![256])]);
                }
                (Element::Bnb(state), expected)
            }
            Quantization::Fp8 => {
                let [down, across] = self.block;
                let (dtype, scales) = (self.dtype, scales(1)?);
                let grid = vec![rows.div_ceil(down), cols.div_ceil(across)];
                let expected = vec![("F8_E4M3", vec![rows, cols]), ("", grid)];
                (Element::Fp8 { block: self.block, scales, dtype }, expected)
            }
        };
        for ((_, entry), (dtype, shape)) in found.iter().zip(&expected) {
            if entry.shape != *shape || !(dtype.is_empty() || entry.dtype == *dtype) {
                let kind = if dtype.is_empty() { "scales" } else { dtype };
                let (have, have_kind) = (&entry.shape, shown(&entry.dtype));
                return Err(wrong(
                    &entry.name,
                    format!(
                        "{have_kind} of shape {have:?}, {} asks for {kind} of {shape:?}",
                        self.quantization
                    ),
                ));
            }
        }
        let parts = found.iter().map(|(file, entry)| (*file, entry.range.clone())).collect();
        Ok(Decoder { element, rows, cols, parts })
    }
}

fn bits(config: &Value) -> Option<u64> {
    config.get("bits").or_else(|| config.get("w_bit"))?.as_u64()
}

/// Inputs that share a scale; 0 for all of them.
fn group(config: &Value) -> Option<usize> {
    match config.get("group_size").or_else(|| config.get("q_group_size"))?.as_i64()? {
        -1 => Some(0),
        group => usize::try_from(group).ok().filter(|&group| group > 0),
    }
}

/// How an element is computed from the parts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Element {
    Awq { group: usize, dtype: Dtype },
    Gptq { groups: usize, dtype: Dtype, otherwise: Option<&'static str> },
    Bnb(bnb::State),
    Fp8 { block: [usize; 2], scales: Dtype, dtype: Dtype },
}

/// A quantized matrix by place, checked.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    element: Element,
    rows: usize,
    cols: usize,
    /// File and bytes of each part.
    parts: Vec<(usize, std::ops::Range<usize>)>,
}

/// Which group's scale a value takes in place of its own: what an off-by-one in a kernel does.
///
/// Example: [`crate::Checkpoint::weight_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherScales {
    /// Each group takes that of the next, the last that of the first.
    Next,
    /// Each group takes that of the one before, the first that of the last.
    Previous,
    /// The last group alone takes that of the one before.
    LastFromPrevious,
}

impl Decoder {
    /// What its values are rounded to.
    pub(crate) fn dtype(&self) -> Dtype {
        match self.element {
            Element::Awq { dtype, .. } | Element::Gptq { dtype, .. } | Element::Fp8 { dtype, .. } => dtype,
            Element::Bnb(state) => state.dtype,
        }
    }

    /// Bytes as stored.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.parts.iter().map(|(_, range)| range.len()).sum()
    }

    /// Every value, row-major, in [`Decoder::dtype`]; the fault where parts contradict each other.
    pub(crate) fn decode<'a>(&self, file: &dyn Fn(usize) -> &'a [u8]) -> Result<Vec<u8>, String> {
        self.decode_parts(self.parts.iter().map(|(number, range)| &file(*number)[range.clone()]).collect())
    }

    /// The matrix as it is stored, if that is nf4.
    pub(crate) fn nf4<'a>(&self, file: &dyn Fn(usize) -> &'a [u8]) -> Option<bnb::Nf4Matrix<'a>> {
        let Element::Bnb(state) = self.element else { return None };
        let parts = self.parts.iter().map(|(number, range)| &file(*number)[range.clone()]).collect();
        Some(bnb::Nf4Matrix::new(Packed { rows: self.rows, cols: self.cols, parts }, state))
    }

    /// Values that share a scale, of nf4.
    pub(crate) fn nf4_block(&self) -> Option<NonZeroUsize> {
        let Element::Bnb(state) = self.element else { return None };
        NonZeroUsize::new(state.block)
    }

    /// How its integers are stored, if they have 4 bits.
    pub(crate) fn int4_layout(&self) -> Option<Int4> {
        let (group, zeros) = match self.element {
            Element::Awq { group, .. } => (group, true),
            Element::Gptq { groups, .. } => (self.cols / groups.max(1), false),
            Element::Bnb(_) | Element::Fp8 { .. } => return None,
        };
        Some(Int4 { group: NonZeroUsize::new(group).filter(|group| group.get() < self.cols), zeros })
    }

    /// The matrix as it is stored, if that is integers of 4 bits.
    pub(crate) fn int4<'a>(&self, file: &dyn Fn(usize) -> &'a [u8]) -> Option<Int4Matrix<'a>> {
        let layout = self.int4_layout()?;
        let parts = self.parts.iter().map(|(number, range)| &file(*number)[range.clone()]).collect();
        let packed = Packed { rows: self.rows, cols: self.cols, parts };
        let otherwise = match self.element {
            Element::Gptq { otherwise, .. } => otherwise,
            _ => None,
        };
        Some(Int4Matrix::new(packed, layout, self.dtype(), otherwise))
    }

    /// [`Decoder::decode`] with the scales of other groups.
    pub(crate) fn decode_with<'a>(
        &self,
        file: &dyn Fn(usize) -> &'a [u8],
        other: OtherScales,
    ) -> Result<Vec<u8>, String> {
        let mut parts: Vec<&[u8]> =
            self.parts.iter().map(|(number, range)| &file(*number)[range.clone()]).collect();
        // Where scales are, how many bytes a group's take, and over how many of them a group has neighbours.
        let (place, group, line) = match &self.element {
            Element::Awq { dtype, .. } | Element::Gptq { dtype, .. } => {
                (2, self.rows * dtype.size(), parts[2].len())
            }
            Element::Bnb(state) => (1, if state.nested.is_some() { 1 } else { 4 }, parts[1].len()),
            Element::Fp8 { block, scales, .. } => {
                (1, scales.size(), self.cols.div_ceil(block[1]) * scales.size())
            }
        };
        let mut moved = parts[place].to_vec();
        for line in moved.chunks_exact_mut(line.max(1)) {
            let (groups, last) = (line.len() / group.max(1), line.len().saturating_sub(group));
            match other {
                OtherScales::Next => line.rotate_left(group.min(line.len())),
                OtherScales::Previous => line.rotate_right(group.min(line.len())),
                OtherScales::LastFromPrevious if groups > 1 => line.copy_within(last - group..last, last),
                OtherScales::LastFromPrevious => {}
            }
        }
        parts[place] = &moved;
        self.decode_parts(parts)
    }

    fn decode_parts(&self, parts: Vec<&[u8]>) -> Result<Vec<u8>, String> {
        let packed = Packed { rows: self.rows, cols: self.cols, parts };
        if let Element::Gptq { groups, .. } = self.element
            && let Some(col) = (0..self.cols).find(|&col| gptq::group_of(&packed, col) >= groups)
        {
            return Err(format!("g_idx of input {col} is none of {groups} groups"));
        }
        let (dtype, size) = (self.dtype(), self.dtype().size());
        let mut out = vec![0; self.rows * self.cols * size];
        out.par_chunks_mut((self.cols * size).max(1)).enumerate().for_each(|(row, bytes)| {
            let mut values = Vec::with_capacity(bytes.len());
            for col in 0..self.cols {
                dtype.encode(self.value(&packed, row, col), &mut values);
            }
            bytes.copy_from_slice(&values);
        });
        Ok(out)
    }

    fn value(&self, packed: &Packed<'_>, row: usize, col: usize) -> f32 {
        match &self.element {
            Element::Awq { group, dtype } => awq::value(packed, *group, *dtype, row, col),
            Element::Gptq { dtype, .. } => gptq::value(packed, *dtype, row, col),
            Element::Bnb(state) => bnb::value(packed, state, row, col),
            Element::Fp8 { block, scales, dtype } => fp8::value(packed, *block, *scales, *dtype, row, col),
        }
    }
}

impl Quantization {
    /// The `quantization_config` of a model whose modules `kept` are not quantized, as published checkpoints state it.
    pub(crate) fn config_json(self, dtype: Dtype, kept: &[String]) -> Value {
        let torch = match dtype {
            Dtype::F32 => "float32",
            Dtype::Bf16 => "bfloat16",
            Dtype::F16 => "float16",
        };
        match self {
            Self::Awq => json!({
                "bits": 4,
                "group_size": int4::GROUP,
                "modules_to_not_convert": if kept.is_empty() { Value::Null } else { json!(kept) },
                "quant_method": "awq",
                "version": "gemm",
                "zero_point": true,
            }),
            Self::Gptq => {
                let skipped =
                    kept.iter().map(|module| (format!("-:{}$", module.replace('.', "\\.")), json!({})));
                let mut config = json!({
                    "bits": 4,
                    "checkpoint_format": "gptq",
                    "damp_percent": 0.01,
                    "desc_act": false,
                    "group_size": int4::GROUP,
                    "lm_head": false,
                    "quant_method": "gptq",
                    "static_groups": false,
                    "sym": true,
                    "true_sequential": true,
                });
                if !kept.is_empty() {
                    config["dynamic"] = Value::Object(skipped.collect());
                }
                config
            }
            Self::BnbNf4 | Self::BnbNf4Double => json!({
                "_load_in_4bit": true,
                "_load_in_8bit": false,
                "bnb_4bit_compute_dtype": torch,
                "bnb_4bit_quant_storage": "uint8",
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": self == Self::BnbNf4Double,
                "llm_int8_enable_fp32_cpu_offload": false,
                "llm_int8_has_fp16_weight": false,
                "llm_int8_skip_modules": with_output(kept),
                "llm_int8_threshold": 6.0,
                "load_in_4bit": true,
                "load_in_8bit": false,
                "quant_method": "bitsandbytes",
            }),
            Self::Fp8 => json!({
                "activation_scheme": "dynamic",
                "fmt": "e4m3",
                "modules_to_not_convert": with_output(kept),
                "quant_method": "fp8",
                "weight_block_size": [fp8::BLOCK, fp8::BLOCK],
            }),
        }
    }
}

/// The modules that are not quantized, with the output projection.
fn with_output(kept: &[String]) -> Vec<&str> {
    std::iter::once("lm_head").chain(kept.iter().map(String::as_str)).collect()
}
