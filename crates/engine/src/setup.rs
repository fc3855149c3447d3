//! What the engine is asked to run: the part of a setup that is arithmetic.

use mantissa_numerics::tensor_core::Architecture;
use serde::{Deserialize, Serialize};

/// Whose arithmetic the engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hardware {
    /// The engine's own recipes.
    Cpu,
    /// An NVIDIA H200 as stock PyTorch and Hugging Face transformers use it; what is covered, docs/coverage.md says.
    H200,
    /// An NVIDIA H100 SXM, likewise.
    H100,
    /// An NVIDIA A100: tensor cores as published, library choices unknown.
    A100,
    /// An NVIDIA L40S: likewise.
    L40s,
}

/// What a prediction rests on, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The engine's own definition.
    Own,
    /// Compared with the hardware, bit for bit; what was not is refused.
    Verified,
    /// A catalog that its user measured, beside what is verified: nobody else compared it.
    Measured,
    /// Published parameters of the tensor cores; sums uncut, functions as on Hopper. Compared with no hardware: not evidence.
    Literature,
}

impl Hardware {
    /// All of it, in the order documentation lists it.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::H200, Self::H100, Self::A100, Self::L40s];

    /// The name used in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::H200 => "h200",
            Self::H100 => "h100",
            Self::A100 => "a100",
            Self::L40s => "l40s",
        }
    }

    /// The generation of its tensor cores; `None` for the engine's own.
    #[must_use]
    pub const fn architecture(self) -> Option<Architecture> {
        match self {
            Self::Cpu => None,
            Self::H200 | Self::H100 => Some(Architecture::Hopper),
            Self::A100 => Some(Architecture::Ampere),
            Self::L40s => Some(Architecture::Ada),
        }
    }

    /// What a prediction of it rests on, before catalogs of a user's own.
    #[must_use]
    pub const fn basis(self) -> Basis {
        match self {
            Self::Cpu => Basis::Own,
            Self::H200 | Self::H100 => Basis::Verified,
            Self::A100 | Self::L40s => Basis::Literature,
        }
    }
}

impl std::str::FromStr for Hardware {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|hardware| hardware.name() == s)
            .ok_or_else(|| format!("unknown hardware '{s}': use cpu, h200, h100, a100 or l40s"))
    }
}

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Scores, softmax and probabilities materialized and rounded, as Hugging Face's `eager`.
    Eager,
    /// Tiled, exact softmax in binary32, one division at the end.
    Sdpa,
    /// Tiled, online softmax.
    #[serde(rename = "flash_attention_2")]
    FlashAttention2,
    /// PyTorch's `scaled_dot_product_attention` on a GPU with its flash backend forced.
    SdpaFlash,
    /// The same with its math backend forced.
    SdpaMath,
}

impl Attention {
    /// Every implementation, in the order documentation lists them.
    pub const ALL: [Self; 5] =
        [Self::Eager, Self::Sdpa, Self::FlashAttention2, Self::SdpaFlash, Self::SdpaMath];

    /// Those that the engine's own recipes have; the others name kernels of a GPU.
    pub const OWN: [Self; 3] = [Self::Eager, Self::Sdpa, Self::FlashAttention2];

    /// The name used in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Sdpa => "sdpa",
            Self::FlashAttention2 => "flash_attention_2",
            Self::SdpaFlash => "sdpa_flash",
            Self::SdpaMath => "sdpa_math",
        }
    }
}

impl std::str::FromStr for Attention {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|a| a.name() == s).ok_or_else(|| {
            format!("unknown attention '{s}': use eager, sdpa, flash_attention_2, sdpa_flash or sdpa_math")
        })
    }
}

/// What happens to the weights of a quantized checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuantizedWeights {
    /// They stay as stored; kernels multiply by the exact binary32 value of each element.
    Keep,
    /// They are decoded and rounded to the storage dtype when the model is loaded, as Hugging Face loads a GGUF file.
    Dequantize,
}
