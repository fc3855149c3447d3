//! What the log states without showing it: repeated passes, and how outputs begin.

use mantissa_numerics::Phase;

use super::reader::QuantizationLog;
use crate::stated::{StatedRepeats, StatedTokens};

/// Distances of the repeated passes of each configuration.
pub(crate) fn repetitions(log: &QuantizationLog) -> Vec<StatedRepeats> {
    let by_setup = log.configurations.iter().zip(&log.repetitions).flat_map(|(configuration, repeated)| {
        [Phase::Prefill, Phase::Decode].map(|phase| {
            let figures = repeated.pairs.iter().map(|pair| match phase {
                Phase::Prefill => &pair.prefill,
                Phase::Decode => &pair.decode,
            });
            let lines: Vec<String> = figures.clone().map(|figure| figure.line.to_string()).collect();
            StatedRepeats {
                setup: configuration.name.clone(),
                phase,
                repetitions: Some(repeated.tokens.len() as u64),
                distances: figures.map(|figure| figure.value).collect(),
                place: format!("lines {}", lines.join(", ")),
            }
        })
    });
    by_setup.collect()
}

/// The log shows how outputs begin, as text; its prefill distances are over the prompt alone.
pub(crate) fn first_texts(log: &QuantizationLog) -> Vec<StatedTokens> {
    let references = log.consistency.iter().enumerate().flat_map(|(index, texts)| {
        texts.iter().zip(&log.configurations).map(move |(first, configuration)| StatedTokens {
            reference: format!("ref_{index}"),
            value: configuration.name.clone(),
            ids: Vec::new(),
            text: first.text.clone(),
            consumed_by: vec![Phase::Decode],
            place: format!("line {}", first.line),
        })
    });
    references.collect()
}
