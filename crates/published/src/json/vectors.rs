//! Vectors of repetitions without tokens, as two layouts keep them: their format, their extent, their prompt.

use mantissa_evidence::error::Flaw;
use mantissa_numerics::Dtype;

use super::check::RESTORE;
use super::{setup, signals};

/// The declared storage format, or the narrowest that holds every value where none is declared.
pub(crate) fn dtype<'a>(
    declared: Option<&str>,
    vectors: impl Iterator<Item = &'a Vec<Vec<f64>>> + Clone,
) -> std::result::Result<Dtype, Flaw> {
    match declared {
        Some(_) => setup::dtype(declared).map_err(|flaw| flaw.under("config")),
        None => Ok(signals::narrowest(&vectors.flatten().flatten()).unwrap_or(Dtype::F32)),
    }
}

/// Checks vectors of one setup against what is declared of them.
pub(crate) fn check(
    rows: &[Vec<f64>],
    repetitions: Option<u32>,
    width: Option<u32>,
    dtype: Dtype,
) -> std::result::Result<(), Flaw> {
    if let Some(repetitions) = repetitions.filter(|stated| rows.len() as u64 != u64::from(*stated)) {
        let problem = format!("{} vectors for {repetitions} repetitions", rows.len());
        return Err(Flaw::new("length", problem, RESTORE));
    }
    let first = rows.first().map_or(0, Vec::len) as u64;
    let width = width.map_or(first, u64::from);
    for (rep, row) in rows.iter().enumerate() {
        let place = format!("[{rep}]");
        if row.len() as u64 != width || row.is_empty() {
            let problem = format!("{} values for a hidden_dim of {width}", row.len());
            return Err(Flaw::new(place, problem, RESTORE));
        }
        if let Some(index) = row.iter().position(|&value| signals::exact(dtype, value).is_none()) {
            let problem = format!("{} is no value of {dtype}, which the file declares", row[index]);
            return Err(Flaw::new(format!("{place}[{index}]"), problem, RESTORE));
        }
    }
    Ok(())
}

/// Most repetitions of a setup, and the width of a vector.
pub(crate) fn extent<'a>(vectors: impl Iterator<Item = &'a Vec<Vec<f64>>> + Clone) -> (u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let most = vectors.clone().map(Vec::len).max().unwrap_or_default();
    let width = vectors.flatten().next().map_or(0, Vec::len);
    (count(most), count(width))
}

/// What stands for a prompt of which neither ids nor text are stated.
pub(crate) fn label(experiment: &str, prompt_tokens: Option<u32>) -> String {
    match prompt_tokens {
        Some(tokens) => format!("{experiment}, {tokens} tokens"),
        None => format!("{experiment}, number of tokens not stated"),
    }
}

/// Says what a prompt is known by.
pub(crate) fn unstated_prompt(experiment: &str, prompt_tokens: Option<u32>) -> String {
    let tokens = prompt_tokens.map(|tokens| format!(" and {tokens} prompt tokens")).unwrap_or_default();
    format!(
        "the file states neither the prompt nor its tokens: two files are taken to share a prompt where both declare \
         experiment '{experiment}'{tokens}"
    )
}
