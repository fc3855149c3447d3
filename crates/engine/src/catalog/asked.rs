//! What a library's heuristic names for a product, asked for many numbers of rows and kept as steps.
//!
//! The parts of `K` are a step function of the number of rows. Rows that 8 divides have steps of their own: on an
//! H100 13 of 40 weights have rows `8i` whose parts are those of neither neighbour. Nothing here was compared with a
//! product.

use std::num::NonZeroU16;

use super::error::CatalogError;
use super::sizes::Progressions;

/// Rows that this divides have steps of their own.
pub const ALIGNED: usize = 8;

/// The most parts that a recipe has.
pub const MOST_PARTS: u16 = 64;

/// Parts of `K` that a library's heuristic names for a product with one weight, by rows.
///
/// ```
/// use mantissa_engine::catalog::{Asked, Steps};
///
/// // Three parts up to 8 rows, then two; but three again for 16 and 24.
/// let unaligned = Steps::new("1-31", &[(1, 3), (9, 2)])?;
/// let aligned = Steps::new("8-32/8", &[(8, 3), (32, 2)])?;
/// let asked = Asked::new(unaligned, aligned)?;
/// let parts = |rows| asked.parts(rows).map(u16::from);
/// assert_eq!([7, 8, 9, 15, 16, 17, 32].map(parts), [3, 3, 2, 2, 3, 2, 2].map(Some));
/// // Nothing is said beyond what was asked.
/// assert_eq!(parts(33), None);
/// # Ok::<(), mantissa_engine::catalog::CatalogError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    unaligned: Steps,
    aligned: Steps,
}

/// A step function of the number of rows: the parts from each of some sizes on, up to the last that was asked.
///
/// Example: [`Asked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    /// Sizes that were asked.
    asked: Progressions,
    /// The first size of each step, itself asked, and its parts; ascending.
    steps: Vec<(usize, NonZeroU16)>,
}

impl Steps {
    /// Steps over the sizes of a list such as `1-1024,1032-8192/8`.
    ///
    /// *Errors:* a list that is none; steps that do not ascend or begin at sizes that were not asked, the first at the
    /// first; parts other than 1 to 64.
    pub fn new(asked: &str, steps: &[(usize, u16)]) -> Result<Self, CatalogError> {
        let wrong = |why| CatalogError::Steps { sizes: asked.to_owned(), why };
        let sizes = Progressions::parse(asked)?;
        if steps.first().map(|(from, _)| *from) != sizes.first() {
            return Err(wrong("the first step begins elsewhere"));
        }
        if !steps.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(wrong("steps do not ascend"));
        }
        if steps.iter().any(|(from, _)| !sizes.contains(*from)) {
            return Err(wrong("a step begins at a size that was not asked"));
        }
        let parts = |(from, parts): &(usize, u16)| {
            let known = NonZeroU16::new(*parts).filter(|parts| parts.get() <= MOST_PARTS);
            known
                .map(|parts| (*from, parts))
                .ok_or_else(|| wrong("a product with a weight has 1 to 64 parts"))
        };
        Ok(Self { steps: steps.iter().map(parts).collect::<Result<_, _>>()?, asked: sizes })
    }

    /// Answers as they came, in any order.
    ///
    /// ```
    /// use mantissa_engine::catalog::Steps;
    ///
    /// let two = 2.try_into().expect("not zero");
    /// let steps = Steps::of_answers([(4, two), (1, two), (2, two)]);
    /// assert_eq!(steps.steps().collect::<Vec<_>>(), [(1, two)]);
    /// assert_eq!(steps.last(), Some(4));
    /// ```
    #[must_use]
    pub fn of_answers(answers: impl IntoIterator<Item = (usize, NonZeroU16)>) -> Self {
        let mut answers: Vec<(usize, NonZeroU16)> = answers.into_iter().collect();
        answers.sort_unstable();
        answers.dedup();
        let asked = Progressions::of(answers.iter().map(|(size, _)| *size).collect());
        answers.dedup_by_key(|(_, parts)| *parts);
        Self { asked, steps: answers }
    }

    /// The first size of each step with its parts.
    pub fn steps(&self) -> impl Iterator<Item = (usize, NonZeroU16)> {
        self.steps.iter().copied()
    }

    /// The largest size that was asked.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.asked.last()
    }

    /// The sizes that were asked, as a list of progressions.
    pub(super) fn asked(&self) -> String {
        self.asked.write()
    }

    /// The steps as a file has them.
    pub(super) fn written(&self) -> Vec<(usize, u16)> {
        self.steps().map(|(from, parts)| (from, parts.get())).collect()
    }

    /// The parts of a size that was asked, or of one between two with the same answer. A step begins where the answer
    /// changed between two sizes that were asked; between them it is not known.
    fn parts(&self, size: usize) -> Option<NonZeroU16> {
        let after = self.asked.at_least(size)?;
        let step = |size: usize| {
            let at = self.steps.partition_point(|(from, _)| *from <= size).checked_sub(1)?;
            Some((at, self.steps[at].1))
        };
        let (at, parts) = step(after)?;
        if after == size {
            return Some(parts);
        }
        let before = self.asked.at_most(size)?;
        (step(before)?.0 == at).then_some(parts)
    }
}

impl Asked {
    /// What was named for rows that 8 divides, and for others.
    ///
    /// *Errors:* among the aligned sizes one that 8 does not divide; a step of the others that begins at one.
    pub fn new(unaligned: Steps, aligned: Steps) -> Result<Self, CatalogError> {
        if !aligned.asked.are_multiples_of(ALIGNED) {
            let why = "8 does not divide them all";
            return Err(CatalogError::Steps { sizes: aligned.asked(), why });
        }
        if unaligned.steps().any(|(from, _)| from.is_multiple_of(ALIGNED)) {
            let why = "8 divides the first of a step that is not for such sizes";
            return Err(CatalogError::Steps { sizes: unaligned.asked(), why });
        }
        Ok(Self { unaligned, aligned })
    }

    /// The parts for `rows` rows; `None` beyond what was asked.
    #[must_use]
    pub fn parts(&self, rows: usize) -> Option<NonZeroU16> {
        self.of(rows).parts(rows)
    }

    /// The most rows up to which it was asked for both kinds.
    #[must_use]
    pub fn reach(&self) -> usize {
        let last = |steps: &Steps| steps.last().unwrap_or_default();
        last(&self.unaligned).min(last(&self.aligned))
    }

    /// The steps of rows of one kind: those that 8 divides, or the others.
    #[must_use]
    pub const fn steps(&self, aligned: bool) -> &Steps {
        if aligned { &self.aligned } else { &self.unaligned }
    }

    fn of(&self, rows: usize) -> &Steps {
        self.steps(rows.is_multiple_of(ALIGNED))
    }

    /// A size for which both know the parts and not the same: the first of a step, or the last before one.
    pub(super) fn contradiction(
        &self,
        other: &Self,
        same: impl Fn(NonZeroU16, NonZeroU16) -> bool,
    ) -> Option<usize> {
        let both = |aligned| {
            let (ours, theirs) = (self.steps(aligned), other.steps(aligned));
            let ends = |steps: &Steps| steps.asked.first().into_iter().chain(steps.asked.last());
            let edges = |steps: &Steps| {
                let firsts = steps.steps.iter().map(|(from, _)| *from);
                firsts
                    .chain(
                        steps.steps.iter().filter_map(|(from, _)| steps.asked.at_most(from.checked_sub(1)?)),
                    )
                    .chain(ends(steps))
                    .collect::<Vec<_>>()
            };
            let mut sizes = edges(ours);
            sizes.extend(edges(theirs));
            sizes
                .into_iter()
                .filter(
                    |size| matches!((ours.parts(*size), theirs.parts(*size)), (Some(a), Some(b)) if !same(a, b)),
                )
                .min()
        };
        [false, true].into_iter().filter_map(both).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_two_answers_is_known_if_they_agree() {
        let steps = Steps::new("1-4,8-32/8", &[(1, 4), (3, 2), (16, 1)]).expect("steps");
        let parts = |size| steps.parts(size).map(u16::from);
        // 9 to 15 lie between 8 (two parts) and 16 (one): the step is somewhere there.
        let expected = [(1, 4), (2, 4), (3, 2), (4, 2), (5, 2), (8, 2), (16, 1), (17, 1), (32, 1)];
        for (size, known) in expected {
            assert_eq!(parts(size), Some(known), "{size}");
        }
        for size in [0, 9, 15, 33] {
            assert_eq!(parts(size), None, "{size}");
        }
    }

    #[test]
    fn answers_become_the_same_steps_as_a_file_has() {
        let answer = |parts| NonZeroU16::new(parts).expect("not zero");
        let answers = (1..=32).map(|size| (size, answer(if size < 9 { 4 } else { 1 })));
        let found = Steps::of_answers(answers.rev());
        assert_eq!(found, Steps::new("1-32", &[(1, 4), (9, 1)]).expect("steps"));
        assert_eq!((found.asked().as_str(), found.written()), ("1-32", vec![(1, 4), (9, 1)]));
    }

    #[test]
    fn wrong_steps_are_refused() {
        for (asked, steps, why) in [
            ("1-8", &[][..], "begins elsewhere"),
            ("1-8", &[(2, 1)], "begins elsewhere"),
            ("1-8", &[(1, 1), (4, 2), (4, 1)], "do not ascend"),
            ("1-8", &[(1, 1), (9, 2)], "was not asked"),
            ("1-8", &[(1, 0)], "1 to 64 parts"),
            ("1-8", &[(1, 65)], "1 to 64 parts"),
            ("8-1", &[(1, 1)], "no list of sizes"),
        ] {
            let refused = Steps::new(asked, steps).expect_err(why).to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let steps = |asked, from| Steps::new(asked, &[(from, 1)]).expect("steps");
        assert!(Asked::new(steps("1-7", 1), steps("8-20/4", 8)).is_err());
    }
}
