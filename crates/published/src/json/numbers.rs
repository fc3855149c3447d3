//! Numbers as these files write them: in lists, matrices and maps, and infinite or not a number where they say so.

use mantissa_evidence::lenient::{self, Number};
use serde::Deserialize;
use serde::de::Deserializer;

use super::entries::{Entries, Layer};

/// Candidates of one position, in the order of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Candidates {
    /// Their ids.
    pub(crate) token_ids: Vec<u32>,
    /// Natural logarithms of their probabilities, as stored.
    #[serde(deserialize_with = "lenient::numbers")]
    pub(crate) log_probs: Vec<f64>,
}

/// A square matrix, row by row; empty where a file leaves it out.
pub(crate) type Square = Vec<Vec<f64>>;

/// A number that a file may leave out, or write as `null`.
pub(crate) fn maybe<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<f64>, D::Error> {
    Ok(Option::<Number>::deserialize(deserializer)?.map(|Number(number)| number))
}

pub(crate) fn rows<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Square, D::Error> {
    let rows = Vec::<Reals>::deserialize(deserializer)?;
    Ok(rows.into_iter().map(|Reals(row)| row).collect())
}

pub(crate) fn cubes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<Square>, D::Error> {
    let squares = Vec::<Vec<Reals>>::deserialize(deserializer)?;
    Ok(squares.into_iter().map(|rows| rows.into_iter().map(|Reals(row)| row).collect()).collect())
}

pub(crate) fn real_entries<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Entries<String, f64>, D::Error> {
    Ok(Entries::<String, Number>::deserialize(deserializer)?.map(|Number(number)| number))
}

/// A list of numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reals(#[serde(deserialize_with = "lenient::numbers")] pub(crate) Vec<f64>);

pub(crate) fn layers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Entries<Layer, Vec<f64>>, D::Error> {
    Ok(Entries::<Layer, Reals>::deserialize(deserializer)?.map(|Reals(row)| row))
}

pub(crate) fn repetitions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Entries<String, Vec<Vec<f64>>>, D::Error> {
    let entries = Entries::<String, Vec<Reals>>::deserialize(deserializer)?;
    Ok(entries.map(|rows| rows.into_iter().map(|Reals(row)| row).collect()))
}
