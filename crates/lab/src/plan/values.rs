//! Axes of a plan's configurations and their values: what each backend can set.
//!
//! They are wider than [`mantissa_numerics::Setup`], whose values have recipes: a plan also runs what Mantissa cannot
//! predict.

use std::collections::BTreeMap;
use std::fmt;

use mantissa_numerics::setup::{Attention, AxisValue as _, Hardware, Padding};
use serde::{Deserialize, Serialize};

/// What computes a configuration.
///
/// Example: [`CellSetup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// This program: its own engine, or a predicted GPU.
    Mantissa,
    /// Hugging Face transformers, through the package `mantissa_forensics`.
    Transformers,
    /// vLLM, likewise.
    Vllm,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mantissa, Self::Transformers, Self::Vllm];

    /// The name used in plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mantissa => "mantissa",
            Self::Transformers => "transformers",
            Self::Vllm => "vllm",
        }
    }

    /// Whether it sets an axis.
    #[must_use]
    pub const fn has(self, axis: CellAxis) -> bool {
        use CellAxis::{
            Attention, BatchSize, Compile, ConcurrentStreams, Dtype, EpSize, Hardware, Padding, Quantization,
            Stack, TpSize,
        };
        match axis {
            BatchSize | Dtype | Attention | Quantization => true,
            Hardware | Padding => matches!(self, Self::Mantissa),
            Compile | TpSize | Stack => matches!(self, Self::Transformers | Self::Vllm),
            ConcurrentStreams => matches!(self, Self::Transformers | Self::Vllm),
            EpSize => matches!(self, Self::Vllm),
        }
    }

    /// The words that an axis takes, where they can be listed.
    fn words(self, axis: CellAxis) -> Option<Vec<&'static str>> {
        match (axis, self) {
            (CellAxis::Attention, Self::Mantissa) => Attention::words(),
            (CellAxis::Attention, Self::Transformers) => Some(vec![
                "eager",
                "sdpa",
                "sdpa_flash",
                "sdpa_math",
                "sdpa_cudnn",
                "sdpa_efficient",
                "flash_attention_2",
                "flex_attention",
            ]),
            (CellAxis::Attention, Self::Vllm) => Some(vec![
                "default",
                "FLASH_ATTN",
                "TRITON_ATTN",
                "FLEX_ATTENTION",
                "FLASHINFER",
                "TORCH_SDPA",
            ]),
            (CellAxis::Dtype, _) => Some(vec!["bf16", "f16", "f32"]),
            (CellAxis::Hardware, _) => Hardware::words(),
            _ => None,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How outputs are written.
///
/// Example: [`super::Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The uniform experiment JSON.
    #[default]
    Json,
    /// A container of safetensors.
    Container,
}

/// What a plan can vary.
///
/// Example: [`CellSetup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellAxis {
    /// Sequences of a forward pass.
    BatchSize,
    /// Attention implementation.
    Attention,
    /// Storage format.
    Dtype,
    /// Which weights: `none`, or a name of `[models]`.
    Quantization,
    /// Whether the model is compiled.
    Compile,
    /// Whether other work runs at the same time.
    ConcurrentStreams,
    /// Tensor-parallel ranks.
    TpSize,
    /// Expert-parallel ranks.
    EpSize,
    /// Interpreter and libraries: a name of `[stack]`.
    Stack,
    /// Whose arithmetic is predicted.
    Hardware,
    /// Padding of the measured sequence.
    Padding,
}

impl CellAxis {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::BatchSize,
        Self::Attention,
        Self::Dtype,
        Self::Quantization,
        Self::Compile,
        Self::ConcurrentStreams,
        Self::TpSize,
        Self::EpSize,
        Self::Stack,
        Self::Hardware,
        Self::Padding,
    ];

    /// The name used in plans and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BatchSize => "batch_size",
            Self::Attention => "attention",
            Self::Dtype => "dtype",
            Self::Quantization => "quantization",
            Self::Compile => "compile",
            Self::ConcurrentStreams => "concurrent_streams",
            Self::TpSize => "tp_size",
            Self::EpSize => "ep_size",
            Self::Stack => "stack",
            Self::Hardware => "hardware",
            Self::Padding => "padding",
        }
    }

    /// The axis of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|axis| axis.name() == name)
    }

    /// What a plan that does not say has.
    #[must_use]
    pub fn default_of(self, backend: Backend) -> CellValue {
        match self {
            Self::BatchSize | Self::TpSize | Self::EpSize => CellValue::Number(1),
            Self::Compile | Self::ConcurrentStreams => CellValue::Truth(false),
            Self::Dtype => CellValue::Word("bf16".to_owned()),
            Self::Attention if backend == Backend::Vllm => CellValue::Word("default".to_owned()),
            Self::Attention if backend == Backend::Transformers => CellValue::Word("sdpa".to_owned()),
            Self::Attention => CellValue::Word("eager".to_owned()),
            Self::Quantization | Self::Padding => CellValue::Word("none".to_owned()),
            Self::Stack => CellValue::Word("default".to_owned()),
            Self::Hardware => CellValue::Word("cpu".to_owned()),
        }
    }

    /// What a file writes as a value of the axis.
    ///
    /// *Errors:* what is no value of it, and what would be.
    pub(super) fn read(self, backend: Backend, value: &toml::Value) -> Result<CellValue, String> {
        let number = "a whole number from 1 to 1024";
        match (self, value) {
            (Self::BatchSize | Self::TpSize | Self::EpSize, toml::Value::Integer(n)) => u32::try_from(*n)
                .ok()
                .filter(|n| (1..=1024).contains(n))
                .map(CellValue::Number)
                .ok_or_else(|| number.to_owned()),
            (Self::BatchSize | Self::TpSize | Self::EpSize, _) => Err(number.to_owned()),
            (Self::Compile | Self::ConcurrentStreams, toml::Value::Boolean(truth)) => {
                Ok(CellValue::Truth(*truth))
            }
            (Self::Compile | Self::ConcurrentStreams, _) => Err("true or false".to_owned()),
            (_, toml::Value::String(word)) => {
                let word = CellValue::Word(word.clone());
                match (backend.words(self), &word) {
                    (Some(words), CellValue::Word(given)) if !words.contains(&given.as_str()) => {
                        Err(format!("one of {}", words.join(", ")))
                    }
                    (None, CellValue::Word(given))
                        if self == Self::Padding && Padding::read(given).is_none() =>
                    {
                        Err(Padding::FORM.to_owned())
                    }
                    _ => Ok(word),
                }
            }
            _ => Err(backend
                .words(self)
                .map_or_else(|| "a word".to_owned(), |w| format!("one of {}", w.join(", ")))),
        }
    }
}

impl fmt::Display for CellAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of an axis.
///
/// Example: [`CellSetup`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CellValue {
    /// A count.
    Number(u32),
    /// Yes or no.
    Truth(bool),
    /// A word.
    Word(String),
}

impl fmt::Display for CellValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Truth(truth) => truth.fmt(f),
            Self::Word(word) => f.write_str(word),
        }
    }
}

/// A value of every axis that the backend has.
///
/// ```
/// use mantissa_lab::plan::{Backend, CellAxis, CellSetup, CellValue};
///
/// let setup = CellSetup::new(Backend::Vllm);
/// assert_eq!(setup.get(CellAxis::BatchSize), Some(&CellValue::Number(1)));
/// // A GPU that runs is not predicted.
/// assert_eq!(setup.get(CellAxis::Hardware), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellSetup(BTreeMap<CellAxis, CellValue>);

impl CellSetup {
    /// Defaults.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        let has = |axis: &CellAxis| backend.has(*axis);
        Self(CellAxis::ALL.into_iter().filter(has).map(|axis| (axis, axis.default_of(backend))).collect())
    }

    /// The value of an axis; `None` where the backend has none.
    #[must_use]
    pub fn get(&self, axis: CellAxis) -> Option<&CellValue> {
        self.0.get(&axis)
    }

    /// The same with another value.
    #[must_use]
    pub fn with(mut self, axis: CellAxis, value: CellValue) -> Self {
        self.0.insert(axis, value);
        self
    }

    /// A count, 1 where the backend has no such axis.
    #[must_use]
    pub fn count(&self, axis: CellAxis) -> u32 {
        match self.get(axis) {
            Some(CellValue::Number(n)) => *n,
            _ => 1,
        }
    }

    /// A word, empty where the backend has no such axis.
    #[must_use]
    pub fn word(&self, axis: CellAxis) -> &str {
        match self.get(axis) {
            Some(CellValue::Word(word)) => word,
            _ => "",
        }
    }

    /// Axes and values.
    pub fn iter(&self) -> impl Iterator<Item = (CellAxis, &CellValue)> {
        self.0.iter().map(|(axis, value)| (*axis, value))
    }
}
