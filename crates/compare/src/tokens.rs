//! Alignment: how far two runs consumed the same tokens.

use mantissa_evidence::Run;
use mantissa_numerics::Phase;
use serde::Serialize;

/// How far the measured sequences of two runs agree. Neighbours in the batch are no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Tokens {
    /// A record states neither its prompt's ids nor anything that both call it, so nothing can be aligned.
    Unknown,
    /// Prompts are the same ids, and so are the outputs wherever both records state theirs.
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
    /// Both records declare the same prompt (its text, or the label of its file), and at least one does not state its
    /// ids: the prompts are taken as equal and nothing proves it.
    Declared {
        /// Where the outputs part, if both state theirs and they do.
        outputs_part: Option<usize>,
    },
}

impl Tokens {
    /// Aligns two runs.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use mantissa_compare::Tokens;
    /// use mantissa_evidence::Record;
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
    /// let record = Record::open(Path::new(path))?;
    /// let runs = &record.shell().runs;
    /// assert_eq!(Tokens::align(&runs[0], &runs[1]), Tokens::Equal);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn align(a: &Run, b: &Run) -> Self {
        let (outputs_a, outputs_b) = (&a.output_token_ids, &b.output_token_ids);
        // An output that a record does not state is not known to be another.
        let stated = !outputs_a.is_empty() && !outputs_b.is_empty();
        let outputs_part = stated.then(|| parting(outputs_a, outputs_b)).flatten();
        if a.prompt_token_ids.is_empty() || b.prompt_token_ids.is_empty() {
            if !same_declaration(a, b) {
                return Self::Unknown;
            }
            return Self::Declared { outputs_part };
        }
        if let Some(index) = parting(&a.prompt_token_ids, &b.prompt_token_ids) {
            return Self::PromptsPart { index };
        }
        outputs_part.map_or(Self::Equal, |index| Self::OutputsPart { index })
    }

    /// Where outputs that both runs state part.
    #[must_use]
    pub const fn outputs_part(self) -> Option<usize> {
        match self {
            Self::OutputsPart { index } => Some(index),
            Self::Declared { outputs_part } => outputs_part,
            Self::Unknown | Self::Equal | Self::PromptsPart { .. } => None,
        }
    }
}

/// What the alignment of two runs allows to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alignment {
    pub(crate) tokens: Tokens,
    /// Leading outputs known to be the same.
    same_outputs: u64,
}

impl Alignment {
    pub(crate) fn of(a: &Run, b: &Run) -> Self {
        let same = a.output_token_ids.iter().zip(&b.output_token_ids).take_while(|(x, y)| x == y);
        Self { tokens: Tokens::align(a, b), same_outputs: same.count() as u64 }
    }

    /// Whether everything up to and including the token of a row is the same in both runs.
    ///
    /// Step `s` of a decode consumes output `s`, which is its position −1; position −2 is the token before it. An
    /// output that a run does not state is not known to be the same.
    pub(crate) fn same_prefix(self, phase: Phase, step: u64, position: i32) -> bool {
        match self.tokens {
            Tokens::Unknown | Tokens::PromptsPart { .. } => return false,
            Tokens::Equal | Tokens::OutputsPart { .. } | Tokens::Declared { .. } => {}
        }
        match phase {
            Phase::Prefill => true,
            // The row's own output index is step + 1 + position; below zero it lies in the prompt.
            Phase::Decode => i128::from(step) + 1 + i128::from(position) < i128::from(self.same_outputs),
        }
    }
}

/// Whether two runs call their prompt the same. Whether that is true, ids would tell.
fn same_declaration(a: &Run, b: &Run) -> bool {
    let same_text = !a.prompt_text.is_empty() && a.prompt_text == b.prompt_text;
    let contradicted = !a.prompt_text.is_empty() && !b.prompt_text.is_empty() && !same_text;
    let label = |run: &Run| run.prompt_label.clone().filter(|label| !label.is_empty());
    same_text || (!contradicted && label(a).is_some() && label(a) == label(b))
}

/// The first index at which two sequences are not the same.
pub(crate) fn parting(a: &[u32], b: &[u32]) -> Option<usize> {
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    (common < a.len().max(b.len())).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

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
        let aligned = |tokens, same_outputs| Alignment { tokens, same_outputs };
        let parted = aligned(Tokens::OutputsPart { index: 2 }, 2);
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
            (u64::MAX, i32::MIN, false),
        ] {
            assert_eq!(parted.same_prefix(Phase::Decode, step, position), same, "{step} {position}");
        }
        let at_once = aligned(Tokens::OutputsPart { index: 0 }, 0);
        assert!(!at_once.same_prefix(Phase::Decode, 0, -1));
        assert!(at_once.same_prefix(Phase::Decode, 0, -2));
        assert!(at_once.same_prefix(Phase::Prefill, 0, -1));
        assert!(!aligned(Tokens::PromptsPart { index: 5 }, 9).same_prefix(Phase::Prefill, 0, -1));
        assert!(!aligned(Tokens::Unknown, 9).same_prefix(Phase::Prefill, 0, -1));
    }

    #[test]
    fn a_declared_prompt_is_said_to_be_declared() {
        let named = |text: &str, label: Option<&str>, ids: &[u32], outputs: &[u32]| {
            let mut run = sample::run();
            run.prompt_text = text.to_owned();
            run.prompt_label = label.map(str::to_owned);
            run.prompt_token_ids = ids.to_vec();
            run.output_token_ids = outputs.to_vec();
            run
        };
        let declared = |outputs_part| Tokens::Declared { outputs_part };
        for (a, b, tokens) in [
            (named("p", None, &[], &[1]), named("p", None, &[1], &[1]), declared(None)),
            (named("p", None, &[], &[1]), named("p", None, &[], &[2]), declared(Some(0))),
            (named("p", None, &[], &[]), named("p", None, &[], &[2]), declared(None)),
            (named("", Some("x"), &[], &[]), named("", Some("x"), &[], &[]), declared(None)),
            (named("", Some("x"), &[], &[]), named("p", Some("x"), &[3], &[]), declared(None)),
            (named("", Some("x"), &[], &[]), named("", Some("y"), &[], &[]), Tokens::Unknown),
            (named("", Some(""), &[], &[]), named("", Some(""), &[], &[]), Tokens::Unknown),
            (named("", None, &[], &[]), named("", None, &[], &[]), Tokens::Unknown),
            // Texts that differ outweigh a label that does not.
            (named("p", Some("x"), &[], &[]), named("q", Some("x"), &[], &[]), Tokens::Unknown),
            // Ids outweigh any declaration.
            (named("p", None, &[1], &[]), named("p", None, &[2], &[]), Tokens::PromptsPart { index: 0 }),
        ] {
            assert_eq!(Tokens::align(&a, &b), tokens);
            assert_eq!(Tokens::align(&b, &a), tokens);
        }
    }

    #[test]
    fn outputs_that_are_not_stated_forbid_a_comparison_after_them() {
        let mut a = sample::run();
        a.output_token_ids.clear();
        let alignment = Alignment::of(&a, &a);
        assert_eq!(alignment.tokens, Tokens::Equal);
        assert!(alignment.same_prefix(Phase::Prefill, 0, -1));
        assert!(!alignment.same_prefix(Phase::Decode, 0, -1));
        assert!(alignment.same_prefix(Phase::Decode, 0, -2), "the last token of the prompt");
        let stating = sample::run();
        assert_eq!(Tokens::align(&a, &stating), Tokens::Equal, "what is not stated does not part");
        assert!(!Alignment::of(&a, &stating).same_prefix(Phase::Decode, 0, -1));
    }
}
