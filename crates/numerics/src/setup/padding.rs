//! Padding of a sequence: positions that no other sees, so that all sequences of a batch are as long as the longest.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::value::AxisValue;

/// Padding of the measured sequence of a batch.
///
/// What the padding holds reaches no other position: its keys are hidden by a mask. Where the sequence's own positions
/// stand in a kernel's rows, and how long these are, does reach them, by the order of sums.
///
/// ```
/// use mantissa_numerics::setup::{Axis, Padding, Value};
///
/// // A prompt of 5 tokens in a batch whose longest has 8: positions of the batch that hold no token of it.
/// assert_eq!(Padding::Left(3).hidden(5), 0..3);
/// assert_eq!(Padding::Right(3).hidden(5), 5..8);
/// assert_eq!(Axis::Padding.parse("left:3")?, Value::Padding(Padding::Left(3)));
/// assert_eq!(
///     Axis::Padding.parse("3").unwrap_err().to_string(),
///     "'3' is no padding; use none, or left:N or right:N with a number of positions"
/// );
/// # Ok::<(), mantissa_numerics::setup::WrongValue>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Padding {
    /// None: the sequence is as long as its batch.
    #[default]
    None,
    /// So many positions before the prompt.
    Left(u32),
    /// So many positions after the prompt, before what is decoded.
    Right(u32),
}

impl Padding {
    /// Positions of padding.
    #[must_use]
    pub const fn positions(self) -> usize {
        match self {
            Self::None => 0,
            Self::Left(n) | Self::Right(n) => n as usize,
        }
    }

    /// Where it lies beside a prompt of `length` tokens, counted in positions of the batch.
    #[must_use]
    pub const fn hidden(self, length: usize) -> Range<usize> {
        match self {
            Self::None => 0..0,
            Self::Left(n) => 0..n as usize,
            Self::Right(n) => length..length + n as usize,
        }
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Left(n) => write!(f, "left:{n}"),
            Self::Right(n) => write!(f, "right:{n}"),
        }
    }
}

impl From<Padding> for String {
    fn from(padding: Padding) -> Self {
        padding.to_string()
    }
}

impl TryFrom<String> for Padding {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).ok_or_else(|| format!("'{text}' is no padding; use {}", Self::FORM))
    }
}

impl AxisValue for Padding {
    const FORM: &'static str = "none, or left:N or right:N with a number of positions";

    fn words() -> Option<Vec<&'static str>> {
        None
    }

    fn read(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        let (side, positions) = text.split_once(':')?;
        let positions = u32::read(positions)?;
        match side {
            "left" => Some(Self::Left(positions)),
            "right" => Some(Self::Right(positions)),
            _ => None,
        }
    }

    fn written(self) -> String {
        self.to_string()
    }
}
