//! Whose arithmetic: hardware, and what is known of it.

use serde::{Deserialize, Serialize};

use super::value::words;
use crate::tensor_core::Architecture;

words! {
    /// Whose arithmetic is computed.
    ///
    /// What is known from literature alone is asked for as that.
    ///
    /// ```
    /// use mantissa_numerics::setup::{Basis, Hardware};
    ///
    /// assert_eq!(Hardware::H200.basis(), Basis::Verified);
    /// assert_eq!(Hardware::A100.name(), "literature-a100");
    /// ```
    pub enum Hardware {
        /// The engine's own recipes.
        Cpu = "cpu",
        /// An NVIDIA H200 as stock PyTorch and Hugging Face transformers use it; what is covered, docs/coverage.md
        /// says.
        H200 = "h200",
        /// An NVIDIA H100 SXM, likewise.
        H100 = "h100",
        /// An NVIDIA A100: tensor cores as published, library choices unknown.
        A100 = "literature-a100" once "a100",
        /// An NVIDIA L40S: likewise.
        L40s = "literature-l40s" once "l40s",
    }
}

/// What a recipe or a prediction rests on, the strongest first.
///
/// ```
/// use mantissa_numerics::setup::{Basis, Hardware};
/// // A prediction rests on the weakest of what it used.
/// let used = [Basis::Measured, Hardware::H200.basis(), Hardware::Cpu.basis()];
/// assert_eq!(used.into_iter().max(), Some(Basis::Measured));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The engine's own definition.
    Own,
    /// Compared with the hardware, bit for bit; what was not is refused.
    Verified,
    /// Of a product with a weight, the parts of its sum are those that the library's own heuristic names for its number
    /// of rows; the sum by such parts was compared at other numbers of rows, the product of this one was not.
    Asked,
    /// A catalog that its user measured, beside what is verified: nobody else compared it.
    Measured,
    /// Published parameters of the tensor cores; sums uncut, functions as on Hopper. Compared with no hardware: not
    /// evidence.
    Literature,
}

impl Hardware {
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
