//! A whole file, and whether its dimensions fit each other.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use mantissa_evidence::error::{EvidenceError, Flaw, Result, one_line};
use mantissa_numerics::Phase;
use serde::de::DeserializeOwned;

use super::numbers::{Candidates, Square};

/// What every refusal asks for.
pub(crate) const RESTORE: &str =
    "mend the file; docs/format/published.md says what a file of its layout has to state";

/// Both phases, in the order of computation.
pub(crate) const PHASES: [Phase; 2] = [Phase::Prefill, Phase::Decode];

/// Parses a whole file; an error names the JSON path.
pub(crate) fn document<T: DeserializeOwned>(json: &[u8], origin: &Path) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let fail = |path: &str, error: &serde_json::Error| {
        let text = error.to_string();
        let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
        let place = if matches!(path, "." | "") { String::new() } else { format!("{path}: ") };
        EvidenceError::Json {
            path: origin.to_owned(),
            line: error.line(),
            column: error.column(),
            problem: one_line(&format!("{place}{problem}")),
            remedy: RESTORE.to_owned(),
        }
    };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| fail(&error.path().to_string(), error.inner()))?;
    deserializer.end().map_err(|error| fail("", &error))?;
    Ok(value)
}

/// Checks that a matrix has `side` rows and columns, where it is stored.
pub(crate) fn square(matrix: &Square, side: usize, place: &str) -> std::result::Result<(), Flaw> {
    if matrix.is_empty() {
        return Ok(());
    }
    let odd = matrix.iter().position(|row| row.len() != side);
    let problem = match odd {
        _ if matrix.len() != side => format!("{} rows instead of {side}", matrix.len()),
        Some(row) => format!("row {row} has {} cells instead of {side}", matrix[row].len()),
        None => return Ok(()),
    };
    Err(Flaw::new(place, problem, RESTORE))
}

/// Checks one square matrix per reference, where they are stored.
pub(crate) fn squares(
    matrices: &[Square],
    references: usize,
    side: usize,
    place: &str,
) -> std::result::Result<(), Flaw> {
    if !matrices.is_empty() && matrices.len() != references {
        let problem = format!("{} matrices for {references} references", matrices.len());
        return Err(Flaw::new(place, problem, RESTORE));
    }
    matrices.iter().enumerate().try_for_each(|(r, matrix)| square(matrix, side, &format!("{place}[{r}]")))
}

/// Checks that the values of a variable are named and distinct.
pub(crate) fn distinct<T: Ord + fmt::Display>(
    values: impl IntoIterator<Item = T>,
    place: &str,
) -> std::result::Result<(), Flaw> {
    let mut seen = BTreeSet::new();
    for value in values {
        let twice = format!("{value} is listed twice");
        if !seen.insert(value) {
            return Err(Flaw::new(place, twice, RESTORE));
        }
    }
    if seen.is_empty() { Err(Flaw::new(place, "nothing is listed", RESTORE)) } else { Ok(()) }
}

/// Checks that every candidate has a value and no id is listed twice.
pub(crate) fn candidates(row: &Candidates, place: &str) -> std::result::Result<(), Flaw> {
    let (ids, values) = (row.token_ids.len(), row.log_probs.len());
    let distinct: BTreeSet<u32> = row.token_ids.iter().copied().collect();
    let problem = if ids != values {
        format!("{ids} token ids for {values} log-probabilities")
    } else if distinct.len() != ids {
        "a token id is listed twice".to_owned()
    } else {
        return Ok(());
    };
    Err(Flaw::new(place, problem, RESTORE))
}

/// The number in a name such as `ref_2`.
pub(crate) fn reference_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("ref_")?.parse().ok()?;
    (format!("ref_{number}") == name).then_some(number)
}
