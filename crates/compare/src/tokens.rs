//! Alignment: how far two runs consumed the same tokens.

use mantissa_evidence::Run;
use mantissa_numerics::Phase;
use serde::Serialize;

/// How far the measured sequences of two runs agree. Neighbours in the batch are no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Tokens {
    /// A record does not state its prompt's ids, so nothing can be aligned.
    Unknown,
    /// Prompts and outputs are the same ids.
    Equal,
    /// The prompts part: at this index the ids differ, or one prompt has ended.
    PromptsPart {
        /// Index into the prompts.
        index: usize,
    },
    /// The outputs part after equal prompts: at this index the ids differ, or one output has ended.
    OutputsPart {
        /// Index into the outputs.
        index: usize,
    },
}

impl Tokens {
    /// Aligns two runs.
    #[must_use]
    pub fn align(a: &Run, b: &Run) -> Self {
        if a.prompt_token_ids.is_empty() || b.prompt_token_ids.is_empty() {
            return Self::Unknown;
        }
        if let Some(index) = parting(&a.prompt_token_ids, &b.prompt_token_ids) {
            return Self::PromptsPart { index };
        }
        parting(&a.output_token_ids, &b.output_token_ids)
            .map_or(Self::Equal, |index| Self::OutputsPart { index })
    }

    /// Whether everything up to and including the token of a row is the same in both runs.
    ///
    /// Step `s` of a decode consumes output `s`, which is its position −1; position −2 is the token before it.
    #[must_use]
    pub(crate) fn same_prefix(self, phase: Phase, step: usize, position: i32) -> bool {
        match (self, phase) {
            (Self::Equal, _) | (Self::OutputsPart { .. }, Phase::Prefill) => true,
            (Self::Unknown | Self::PromptsPart { .. }, _) => false,
            (Self::OutputsPart { index }, Phase::Decode) => {
                let behind = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
                // The row's own output index is step + 1 − behind; below zero it lies in the prompt.
                step.saturating_add(1).saturating_sub(behind) < index || step.saturating_add(1) < behind
            }
        }
    }
}

/// The first index at which two sequences are not the same.
fn parting(a: &[u32], b: &[u32]) -> Option<usize> {
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    (common < a.len().max(b.len())).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_part_where_ids_differ_or_one_ends() {
        for (a, b, at) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], None),
            (&[1, 2, 3], &[1, 9, 3], Some(1)),
            (&[1, 2], &[1, 2, 3], Some(2)),
            (&[], &[], None),
        ] {
            assert_eq!(parting(a, b), at);
            assert_eq!(parting(b, a), at);
        }
    }

    #[test]
    fn a_row_is_comparable_up_to_the_token_where_outputs_part() {
        let tokens = Tokens::OutputsPart { index: 2 };
        // Output index of (step, position): step + 1 + position.
        for (step, position, same) in [
            (0, -1, true),
            (1, -1, true),
            (2, -1, false),
            (2, -2, true),
            (3, -2, false),
            (3, -3, true),
            (0, -3, true),
            (0, -100, true),
        ] {
            assert_eq!(tokens.same_prefix(Phase::Decode, step, position), same, "{step} {position}");
        }
        let at_once = Tokens::OutputsPart { index: 0 };
        assert!(!at_once.same_prefix(Phase::Decode, 0, -1));
        assert!(at_once.same_prefix(Phase::Decode, 0, -2));
        assert!(at_once.same_prefix(Phase::Prefill, 0, -1));
        assert!(!Tokens::PromptsPart { index: 5 }.same_prefix(Phase::Prefill, 0, -1));
        assert!(!Tokens::Unknown.same_prefix(Phase::Prefill, 0, -1));
    }
}
