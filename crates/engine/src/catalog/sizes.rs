//! Lists of sizes, as a catalog's file writes them: progressions such as `16-2048/8`.

use std::collections::BTreeSet;

use super::error::CatalogError;

/// Most sizes of one list.
const MOST: usize = 1_000_000;

/// Largest of them: heuristics are asked for so many rows.
const LARGEST_LISTED: usize = 1 << 20;

/// Largest size of [`Progressions`].
const LARGEST: usize = 1 << 32;

/// Sizes as a list of progressions such as `1-9`, `16-2048/8` and `17`.
///
/// *Errors:* anything else, and a list of more than a million.
///
/// ```
/// use mantissa_engine::catalog::{CatalogError, parse_sizes};
///
/// assert_eq!(parse_sizes("1-3,16-32/8")?, [1, 2, 3, 16, 24, 32]);
/// assert!(matches!(parse_sizes("8-1"), Err(CatalogError::Sizes(_))));
/// # Ok::<(), CatalogError>(())
/// ```
pub fn parse_sizes(text: &str) -> Result<Vec<usize>, CatalogError> {
    let wrong = || CatalogError::Sizes(text.to_owned());
    let mut sizes = Vec::new();
    for part in text.split(',') {
        let Progression { first, last, step } = progression(part, LARGEST_LISTED).ok_or_else(wrong)?;
        sizes.extend((first..=last).step_by(step));
        if sizes.len() > MOST {
            return Err(wrong());
        }
    }
    Ok(sizes)
}

/// Sizes as progressions, however many they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progressions(Vec<Progression>);

/// The sizes `first`, `first + step`, … to `last`, which is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progression {
    first: usize,
    last: usize,
    step: usize,
}

impl Progression {
    /// The largest of its sizes that is at most `size`.
    fn at_most(self, size: usize) -> Option<usize> {
        let reached = size.min(self.last).checked_sub(self.first)?;
        Some(self.first + reached / self.step * self.step)
    }

    /// The smallest of its sizes that is at least `size`.
    fn at_least(self, size: usize) -> Option<usize> {
        if size > self.last {
            return None;
        }
        Some(self.first + size.saturating_sub(self.first).div_ceil(self.step) * self.step)
    }
}

impl Progressions {
    /// Reads a list such as `1-1024,1032-8192/8`.
    ///
    /// *Errors:* as [`parse_sizes`], but the sizes may be of any number, in so many progressions.
    pub(super) fn parse(text: &str) -> Result<Self, CatalogError> {
        const MOST_PROGRESSIONS: usize = 2048;
        let parts = text.split(',').take(MOST_PROGRESSIONS + 1).map(|part| progression(part, LARGEST));
        let parts: Option<Vec<Progression>> = parts.collect();
        let few = parts.filter(|parts| parts.len() <= MOST_PROGRESSIONS);
        few.map(Self).ok_or_else(|| CatalogError::Sizes(text.chars().take(40).collect()))
    }

    /// The progressions of a set.
    pub(super) fn of(sizes: BTreeSet<usize>) -> Self {
        Self(progressions(sizes, &[1, 2, 4, 8, 16, 64, 256]))
    }

    /// The list as a file has it.
    pub(super) fn write(&self) -> String {
        let part = |p: &Progression| match (p.first, p.last, p.step) {
            (first, last, _) if first == last => format!("{first}"),
            (first, last, 1) => format!("{first}-{last}"),
            (first, last, step) => format!("{first}-{last}/{step}"),
        };
        self.0.iter().map(part).collect::<Vec<_>>().join(",")
    }

    pub(super) fn contains(&self, size: usize) -> bool {
        self.at_most(size) == Some(size)
    }

    /// The largest of them that is at most `size`.
    pub(super) fn at_most(&self, size: usize) -> Option<usize> {
        self.0.iter().filter_map(|p| p.at_most(size)).max()
    }

    /// The smallest of them that is at least `size`.
    pub(super) fn at_least(&self, size: usize) -> Option<usize> {
        self.0.iter().filter_map(|p| p.at_least(size)).min()
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.at_least(0)
    }

    pub(super) fn last(&self) -> Option<usize> {
        self.at_most(usize::MAX)
    }

    /// Whether `divisor` divides all of them.
    pub(super) fn are_multiples_of(&self, divisor: usize) -> bool {
        let divides = |p: &Progression| {
            p.first.is_multiple_of(divisor) && (p.first == p.last || p.step.is_multiple_of(divisor))
        };
        self.0.iter().all(divides)
    }
}

/// A progression of sizes up to `largest`; its last is one of them. `None` for another text.
fn progression(text: &str, largest: usize) -> Option<Progression> {
    let number = |s: &str| s.parse::<usize>().ok().filter(|n| (1..=largest).contains(n));
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    let reach = last.checked_sub(first)?;
    Some(Progression { first, last: first + reach / step * step, step })
}

/// A set as a list of progressions.
pub(super) fn write_sizes(sizes: BTreeSet<usize>) -> String {
    Progressions(progressions(sizes, &[1, 2, 4, 8, 16])).write()
}

/// The longest progression from the smallest size by one of `steps`, again and again.
fn progressions(mut sizes: BTreeSet<usize>, steps: &[usize]) -> Vec<Progression> {
    let mut parts = Vec::new();
    while let Some(first) = sizes.first().copied() {
        let reach = |step: usize| (first..).step_by(step).take_while(|size| sizes.contains(size)).count();
        let best = steps.iter().copied().rev().max_by_key(|step| reach(*step)).unwrap_or(1);
        let (step, count) = match (best, reach(best)) {
            (1, count) => (1, count),
            (step, count) if count > 2 => (step, count),
            _ => (1, 1),
        };
        let last = first + (count - 1) * step;
        parts.push(Progression { first, last, step });
        for size in (first..=last).step_by(step) {
            sizes.remove(&size);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let cases: [(&[usize], &str); 5] = [
            (&[5], "5"),
            (&[1, 2, 3, 4], "1-4"),
            (&[2, 4, 6, 8, 9], "2-8/2,9"),
            (&[1, 9, 17, 25, 26, 27], "1-25/8,26-27"),
            (&[3, 100], "3,100"),
        ];
        for (sizes, text) in cases {
            assert_eq!(write_sizes(sizes.iter().copied().collect()), text);
            let mut read = parse_sizes(text).expect(text);
            read.sort_unstable();
            assert_eq!(read, sizes);
        }
        for text in ["", "x", "4-2", "1-5/0", "1-", "99999999", "0", "0-4", "1-1000000,1-1000000"] {
            assert!(parse_sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn progressions_know_their_neighbours() {
        let sizes = Progressions::parse("1-5,8-32/8,40-1000000/16").expect("a list");
        let listed: Vec<usize> =
            (1..=5).chain((8..=32).step_by(8)).chain((40..=1_000_000).step_by(16)).collect();
        assert_eq!((sizes.first(), sizes.last()), (Some(1), listed.last().copied()));
        for size in (0..200).chain([999_990, 999_991, 1_000_000, 1_000_001]) {
            let (at_most, at_least) =
                (listed.iter().rfind(|s| **s <= size), listed.iter().find(|s| **s >= size));
            assert_eq!((sizes.at_most(size), sizes.at_least(size)), (at_most.copied(), at_least.copied()));
            assert_eq!(sizes.contains(size), listed.contains(&size), "{size}");
        }
        assert!(!sizes.are_multiples_of(8));
        assert!(Progressions::parse("8,16-64/8").expect("a list").are_multiples_of(8));
        for wrong in ["", "0", "4-2", "1-4/0", "5000000000", "a"] {
            assert!(Progressions::parse(wrong).is_err(), "{wrong}");
        }
    }
}
