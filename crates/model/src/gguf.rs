//! A GGUF file, versions 2 and 3, read without trusting it: metadata and where each tensor lies.
//!
//! Nothing is copied: strings and arrays borrow from the file, so memory is bounded by its size, whatever
//! counts it claims. Left out: what the entries mean (`gguf_model`, `tokenizer`).
//! *Source:* docs/gguf.md of the ggml repository (specification of version 3).

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use mantissa_numerics::{BlockFormat, Dtype};

use crate::error::{ModelError, shown};
use crate::weight::WeightDtype;

/// Arrays of arrays deeper than this are refused; no known file nests at all.
const DEEPEST: usize = 4;
/// Alignment of tensor data when `general.alignment` is absent.
const ALIGNMENT: u64 = 32;
/// Most axes of a tensor (ggml's own limit).
const MOST_AXES: u32 = 4;

/// A parsed GGUF header, borrowing from the file's bytes.
///
/// ```
/// use mantissa_model::Gguf;
/// use mantissa_model::gguf::Value;
/// use mantissa_numerics::Dtype;
/// use mantissa_testkit::gguf::{Builder, Encoding};
///
/// let values = [0.5; 6];
/// let bytes = Builder::default()
///     .text("general.architecture", "llama")
///     .texts("names", &["a", "b"])
///     .tensor("t", &[2, 3], Encoding::Plain(Dtype::F32), &values)
///     .build();
/// let gguf = Gguf::parse("model.gguf", &bytes)?;
/// assert_eq!(gguf.metadata["general.architecture"], Value::Text("llama"));
/// assert_eq!(gguf.array("names")?.and_then(|names| names.texts()), Some(vec!["a", "b"]));
/// let tensor = &gguf.tensors[0];
/// assert_eq!((tensor.name, &tensor.shape[..], tensor.range.len()), ("t", &[2, 3][..], 24));
/// # Ok::<(), mantissa_model::ModelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gguf<'a> {
    file: String,
    /// Metadata by key.
    pub metadata: BTreeMap<&'a str, Value<'a>>,
    /// Tensors in file order.
    pub tensors: Vec<GgufTensor<'a>>,
}

/// One metadata value.
///
/// Example: [`Gguf`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Any unsigned integer, or a signed one that is not negative.
    Unsigned(u64),
    /// A negative integer.
    Negative(i64),
    /// f32 (widened exactly) or f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    Text(&'a str),
    /// An array.
    Array(Array<'a>),
}

/// An array, checked when the file was read and decoded when it is asked for.
///
/// Example: [`Gguf`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    kind: u32,
    len: usize,
    bytes: &'a [u8],
}

/// One tensor of a GGUF file.
///
/// Example: [`Gguf`].
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTensor<'a> {
    /// Name, as in the file.
    pub name: &'a str,
    /// Storage format.
    pub dtype: WeightDtype,
    /// Sizes, outermost first (the file stores them innermost first).
    pub shape: Vec<usize>,
    /// Where in the file its bytes lie.
    pub range: Range<usize>,
}

impl<'a> Gguf<'a> {
    /// Reads the header of a whole file in memory; `file` names it in errors.
    ///
    /// Every tensor's range lies inside `bytes`, none overlaps another, names and keys are unique.
    pub fn parse(file: &str, bytes: &'a [u8]) -> Result<Self, ModelError> {
        let mut cursor = Cursor { file, bytes, at: 0 };
        if cursor.take(4, "magic")? != b"GGUF" {
            return Err(ModelError::damaged(file, "byte 0", "not a GGUF file"));
        }
        let version = cursor.u32()?;
        if !matches!(version, 2 | 3) {
            let fault = match version.swap_bytes() {
                2 | 3 => "big-endian files are not read".to_owned(),
                _ => format!("version {version} is not read"),
            };
            return Err(ModelError::unsupported(
                file,
                "byte 4",
                fault,
                "convert it to GGUF 3, little-endian",
            ));
        }
        let (tensor_count, key_count) = (cursor.u64()?, cursor.u64()?);
        let mut gguf = Self { file: file.to_owned(), metadata: BTreeMap::new(), tensors: Vec::new() };
        for _ in 0..key_count {
            let at = cursor.at;
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            let value = cursor.value(kind)?;
            if gguf.metadata.insert(key, value).is_some() {
                let fault = format!("key '{}' for the second time", shown(key));
                return Err(ModelError::damaged(file, format!("byte {at}"), fault));
            }
        }
        if let Some(count) = gguf.unsigned("split.count")?.filter(|&count| count > 1) {
            return Err(ModelError::unsupported(
                file,
                "split.count",
                format!("one of {count} shards of a split model"),
                "join them with `llama-gguf-split --merge FIRST-SHARD OUT.gguf`",
            ));
        }
        gguf.read_tensors(cursor, tensor_count)?;
        Ok(gguf)
    }

    fn read_tensors(&mut self, mut cursor: Cursor<'_, 'a>, count: u64) -> Result<(), ModelError> {
        let file = cursor.file;
        let alignment = self.unsigned("general.alignment")?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(self.wrong("general.alignment", "a power of two"));
        }
        let mut names = HashSet::new();
        let mut offsets = Vec::new();
        for _ in 0..count {
            let (tensor, offset) = cursor.tensor()?;
            if !names.insert(tensor.name) {
                return Err(ModelError::tensor(file, tensor.name, "listed twice"));
            }
            if !offset.is_multiple_of(alignment) {
                let fault = format!("offset {offset} is not a multiple of {alignment}");
                return Err(ModelError::tensor(file, tensor.name, fault));
            }
            self.tensors.push(tensor);
            offsets.push(offset);
        }
        let start = u64::try_from(cursor.at).ok().and_then(|at| at.checked_next_multiple_of(alignment));
        for (tensor, offset) in self.tensors.iter_mut().zip(offsets) {
            let size = tensor.range.end;
            let range = start
                .and_then(|start| usize::try_from(start.checked_add(offset)?).ok())
                .and_then(|from| Some(from..from.checked_add(size)?));
            match range {
                Some(range) if range.end <= cursor.bytes.len() => tensor.range = range,
                _ => {
                    let at = start.unwrap_or(u64::MAX);
                    let have = cursor.bytes.len();
                    let fault = format!("{size} bytes at {at} + {offset}, the file has {have}");
                    return Err(ModelError::tensor(file, tensor.name, fault));
                }
            }
        }
        let mut order: Vec<&GgufTensor<'_>> = self.tensors.iter().collect();
        order.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
        for pair in order.windows(2) {
            if pair[1].range.start < pair[0].range.end {
                let fault = format!("its data overlaps that of '{}'", shown(pair[0].name));
                return Err(ModelError::tensor(file, pair[1].name, fault));
            }
        }
        Ok(())
    }

    /// The file's name, for messages.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// An unsigned integer, if the key is there; an error when it is something else.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "an unsigned integer")),
        }
    }

    /// A number, if the key is there.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "a floating-point number")),
        }
    }

    /// A text, if the key is there.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// A boolean, if the key is there.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// An array, if the key is there.
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(*array)),
            Some(_) => Err(self.wrong(key, "an array")),
        }
    }

    /// The error for a key whose value is not what it must be.
    pub(crate) fn wrong(&self, key: &str, want: &str) -> ModelError {
        let got = match self.metadata.get(key) {
            None => "absent".to_owned(),
            Some(Value::Unsigned(value)) => value.to_string(),
            Some(Value::Negative(value)) => value.to_string(),
            Some(Value::Float(value)) => value.to_string(),
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Text(text)) => format!("'{}'", shown(text)),
            Some(Value::Array(array)) => format!("an array of {}", array.len),
        };
        ModelError::damaged(&self.file, key, format!("must be {want}, is {got}"))
    }
}

impl<'a> Array<'a> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements, when they are strings.
    #[must_use]
    pub fn texts(&self) -> Option<Vec<&'a str>> {
        self.decode(|value| if let Value::Text(text) = value { Some(text) } else { None })
    }

    /// The elements, when they are floating-point numbers.
    #[must_use]
    pub fn numbers(&self) -> Option<Vec<f64>> {
        self.decode(|value| if let Value::Float(number) = value { Some(number) } else { None })
    }

    /// The elements, when they are integers of at least zero.
    #[must_use]
    pub fn unsigned(&self) -> Option<Vec<u64>> {
        self.decode(|value| if let Value::Unsigned(number) = value { Some(number) } else { None })
    }

    fn decode<T>(&self, pick: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        let mut cursor = Cursor { file: "", bytes: self.bytes, at: 0 };
        (0..self.len).map(|_| pick(cursor.value(self.kind).ok()?)).collect()
    }
}

/// A position in a file; every read is checked against its end.
struct Cursor<'f, 'a> {
    file: &'f str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'_, 'a> {
    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], ModelError> {
        let end = self.at.checked_add(count);
        let Some(bytes) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            let have = self.bytes.len();
            let fault = format!("{what} of {count} bytes, the file ends at {have}");
            return Err(self.fault(fault));
        };
        self.at += count;
        Ok(bytes)
    }

    fn fault(&self, fault: impl Into<String>) -> ModelError {
        ModelError::damaged(self.file, format!("byte {}", self.at), fault)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut word = [0; N];
        word.copy_from_slice(self.take(N, "a number")?);
        Ok(word)
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.word()?))
    }

    fn u64(&mut self) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.word()?))
    }

    fn length(&mut self) -> Result<usize, ModelError> {
        let length = self.u64()?;
        usize::try_from(length).map_err(|_| self.fault(format!("a length of {length}")))
    }

    fn text(&mut self) -> Result<&'a str, ModelError> {
        let length = self.length()?;
        let bytes = self.take(length, "a string")?;
        std::str::from_utf8(bytes).map_err(|_| self.fault("the string before it is not UTF-8"))
    }

    fn value(&mut self, kind: u32) -> Result<Value<'a>, ModelError> {
        let signed = |value: i64| u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned);
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.word()?).into()),
            1 => signed(i8::from_le_bytes(self.word()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.word()?).into()),
            3 => signed(i16::from_le_bytes(self.word()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => signed(i32::from_le_bytes(self.word()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.word()?).into()),
            7 => Value::Bool(match self.word::<1>()? {
                [0] => false,
                [1] => true,
                [other] => return Err(self.fault(format!("{other} as a boolean"))),
            }),
            8 => Value::Text(self.text()?),
            9 => Value::Array(self.array(0)?),
            10 => Value::Unsigned(self.u64()?),
            11 => signed(i64::from_le_bytes(self.word()?)),
            12 => Value::Float(f64::from_le_bytes(self.word()?)),
            other => return Err(self.fault(format!("metadata type {other} is not known"))),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Array<'a>, ModelError> {
        let (kind, len) = (self.u32()?, self.length()?);
        let start = self.at;
        match kind {
            0 | 1 | 7 => self.skip(len, 1)?,
            2 | 3 => self.skip(len, 2)?,
            4..=6 => self.skip(len, 4)?,
            10..=12 => self.skip(len, 8)?,
            // Each string takes eight bytes at least and each array twelve: the walk ends with the file.
            8 => (0..len).try_for_each(|_| self.text().map(drop))?,
            9 if depth < DEEPEST => (0..len).try_for_each(|_| self.array(depth + 1).map(drop))?,
            9 => return Err(self.fault(format!("arrays nested deeper than {DEEPEST}"))),
            other => return Err(self.fault(format!("an array of type {other}"))),
        }
        Ok(Array { kind, len, bytes: &self.bytes[start..self.at] })
    }

    fn skip(&mut self, len: usize, size: usize) -> Result<(), ModelError> {
        let Some(count) = len.checked_mul(size) else {
            return Err(self.fault(format!("an array of {len} elements")));
        };
        self.take(count, "an array").map(drop)
    }

    /// The next tensor and its offset in the data; `range.end` holds its size until the data's start is known.
    fn tensor(&mut self) -> Result<(GgufTensor<'a>, u64), ModelError> {
        let (file, name) = (self.file, self.text()?);
        let wrong = |fault: String| ModelError::tensor(file, name, fault);
        let axes = self.u32()?;
        if axes == 0 || axes > MOST_AXES {
            return Err(wrong(format!("{axes} axes")));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            shape.push(self.length()?);
        }
        let (kind, offset) = (self.u32()?, self.u64()?);
        let dtype = dtype(kind).map_err(|name_of_kind| ModelError::Tensor {
            file: file.to_owned(),
            tensor: shown(name),
            fault: format!("type {name_of_kind} is not read"),
            remedy: "use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K or Q6_K",
        })?;
        if shape.contains(&0) {
            return Err(wrong(format!("shape {shape:?} has no elements")));
        }
        let Some(row) = dtype.row_bytes(shape[0]) else {
            return Err(wrong(format!("rows of {} elements are not whole {dtype} blocks", shape[0])));
        };
        let size = shape[1..].iter().try_fold(row, |size, &axis| size.checked_mul(axis));
        let Some(size) = size else {
            return Err(wrong(format!("shape {shape:?} is larger than any file")));
        };
        shape.reverse();
        Ok((GgufTensor { name, dtype, shape, range: 0..size }, offset))
    }
}

/// The storage format of a ggml type, or the name of one that is not read.
/// *Source:* `enum ggml_type` in ggml.h.
fn dtype(kind: u32) -> Result<WeightDtype, String> {
    Ok(match kind {
        0 => WeightDtype::Plain(Dtype::F32),
        1 => WeightDtype::Plain(Dtype::F16),
        30 => WeightDtype::Plain(Dtype::Bf16),
        2 => WeightDtype::Block(BlockFormat::Q4_0),
        3 => WeightDtype::Block(BlockFormat::Q4_1),
        8 => WeightDtype::Block(BlockFormat::Q8_0),
        12 => WeightDtype::Block(BlockFormat::Q4K),
        14 => WeightDtype::Block(BlockFormat::Q6K),
        other => {
            let known = match other {
                6 => "Q5_0",
                7 => "Q5_1",
                9 => "Q8_1",
                10 => "Q2_K",
                11 => "Q3_K",
                13 => "Q5_K",
                15 => "Q8_K",
                16 => "IQ2_XXS",
                17 => "IQ2_XS",
                18 => "IQ3_XXS",
                19 => "IQ1_S",
                20 => "IQ4_NL",
                21 => "IQ3_S",
                22 => "IQ2_S",
                23 => "IQ4_XS",
                24 => "I8",
                25 => "I16",
                26 => "I32",
                27 => "I64",
                28 => "F64",
                29 => "IQ1_M",
                34 => "TQ1_0",
                35 => "TQ2_0",
                39 => "MXFP4",
                _ => return Err(format!("number {other}")),
            };
            return Err(known.to_owned());
        }
    })
}
