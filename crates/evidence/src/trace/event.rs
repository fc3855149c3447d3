//! One event: a tensor at one site, as a pass left it.

use std::fmt;

use mantissa_numerics::{Dtype, LayerIdx, Phase, Point, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shown::Shown;
use crate::digest::Digest;

/// A tensor that a pass left at one site: the rows of one prompt that were traced.
///
/// ```
/// use mantissa_evidence::trace::TensorTrace;
/// use mantissa_numerics::{Dtype, Phase, Point, Site};
///
/// // The first decode step behind a prompt of 37 tokens.
/// let site = Site::at(1, Point::AttnOut);
/// let mut tensor = TensorTrace::new("p0", 1, 1, site, Dtype::F32);
/// tensor.push(&[(37, Some(5))], &[1.0, -3.0]);
/// let event = tensor.finish();
/// assert_eq!((event.phase, event.pos_id, event.shape), (Phase::Decode, 37, Some([1, 2])));
/// assert_eq!((event.min, event.max, event.mean, event.abs_sum), (Some(-3.0), Some(1.0), Some(-1.0), Some(4.0)));
/// assert_eq!((event.site(), event.token(37)), (Some(site), Some(5)));
/// assert_eq!(event.row_hash(37), event.hash, "one row is the whole tensor");
/// assert_eq!(event.row_hash(36), None);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageTrace {
    /// The prompt, as the header names it.
    pub prompt_id: String,
    /// Kind of pass.
    pub phase: Phase,
    /// The point.
    pub point: Point,
    /// The block, counted from 1; null outside the blocks.
    pub layer: Option<LayerIdx>,
    /// The pass, counted from 0: 0 is the prefill, `s + 1` the decode step that evidence calls `s`.
    pub step: u64,
    /// Position of the last row in the sequence, counted from 0.
    pub pos_id: u64,
    /// Tokens of this sequence that the pass was fed: the prompt's in a prefill, 1 in a decode step.
    pub seq_len: u64,
    /// Hash of all rows; absent where a program showed some values and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<TraceHash>,
    /// Smallest value that is not NaN, infinities as words; null where there is none.
    #[serde(with = "extreme")]
    #[schemars(with = "Option<extreme::Extreme>")]
    pub min: Option<f64>,
    /// Largest value that is not NaN, infinities as words; null where there is none.
    #[serde(with = "extreme")]
    #[schemars(with = "Option<extreme::Extreme>")]
    pub max: Option<f64>,
    /// Mean of the finite values; null where there is none.
    pub mean: Option<f64>,
    /// Sum of the magnitudes of the finite values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abs_sum: Option<f64>,
    /// Sum of all values, as another program printed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
    /// Values that are NaN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nan: Option<u64>,
    /// Values that are infinite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inf: Option<u64>,
    /// Values that are not zero; NaN is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonzero: Option<u64>,
    /// Rows and values of a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<[u64; 2]>,
    /// Storage format, whose bytes were hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// Position of each row in the sequence, counted from 0, ascending.
    pub positions: Vec<u64>,
    /// Hash of each row, in the order of `positions`; empty where the program gave none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<TraceHash>,
    /// Token of each row, in the order of `positions`; empty where they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_ids: Vec<u32>,
    /// What another program printed of the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// Where the values are, if they were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<TensorPlace>,
}

/// Where the values of an event are.
///
/// Example: [`TraceWriter`](super::TraceWriter).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorPlace {
    /// A safetensors file, relative to the folder of the trace.
    pub file: String,
    /// Name of the tensor in it.
    pub name: String,
}

/// A hash of values. Two hashes of different kinds say nothing about each other.
///
/// ```
/// use mantissa_evidence::Digest;
/// use mantissa_evidence::trace::TraceHash;
///
/// let (own, other) = (TraceHash::Blake3(Digest::of_bytes(b"")), TraceHash::Opaque(4_144_761_570_523_161_186));
/// assert_eq!(own.same(TraceHash::Blake3(Digest::of_bytes(b"a"))), Some(false));
/// assert_eq!(other.same(other), Some(true));
/// assert_eq!(own.same(other), None, "not comparable");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TraceHash {
    /// Blake3 of the little-endian values of the storage format.
    Blake3(Digest),
    /// A number that another program computed, by a rule that is not known.
    Opaque(u64),
}

impl TraceHash {
    /// Whether two hashes of one kind are equal; `None` where their kinds differ.
    #[must_use]
    pub fn same(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Blake3(a), Self::Blake3(b)) => Some(a == b),
            (Self::Opaque(a), Self::Opaque(b)) => Some(a == b),
            _ => None,
        }
    }
}

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blake3(digest) => digest.fmt(f),
            Self::Opaque(number) => number.fmt(f),
        }
    }
}

impl StageTrace {
    /// The site; `None` where a layer is missing or too many.
    #[must_use]
    pub fn site(&self) -> Option<Site> {
        (self.point.has_layer() == self.layer.is_some())
            .then_some(Site { layer: self.layer, point: self.point })
    }

    /// Hash of the row at a position of the sequence.
    #[must_use]
    pub fn row_hash(&self, position: u64) -> Option<TraceHash> {
        let index = self.positions.binary_search(&position).ok()?;
        match self.rows.get(index) {
            None if self.positions.len() == 1 => self.hash,
            hash => hash.copied(),
        }
    }

    /// Token of the row at a position of the sequence, where it is known.
    #[must_use]
    pub fn token(&self, position: u64) -> Option<u32> {
        self.token_ids.get(self.positions.binary_search(&position).ok()?).copied()
    }
}

/// Extremes as JSON: a number, or the word of an infinity.
mod extreme {
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(untagged)]
    pub(super) enum Extreme {
        Number(f64),
        Infinite(Infinite),
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub(super) enum Infinite {
        Infinity,
        #[serde(rename = "-Infinity")]
        Minus,
    }

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        let extreme = value.map(|x| match x {
            f64::INFINITY => Extreme::Infinite(Infinite::Infinity),
            f64::NEG_INFINITY => Extreme::Infinite(Infinite::Minus),
            x => Extreme::Number(x),
        });
        extreme.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Extreme>::deserialize(deserializer)?.map(|extreme| match extreme {
            Extreme::Number(x) => x,
            Extreme::Infinite(Infinite::Infinity) => f64::INFINITY,
            Extreme::Infinite(Infinite::Minus) => f64::NEG_INFINITY,
        }))
    }
}
