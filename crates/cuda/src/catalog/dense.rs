//! Asks a heuristic for every step of a weight: at many numbers of rows, then by halves between two that differ, then
//! at random.
//!
//! [`ask`] knows no device: what is asked is a function, so tests ask heuristics that were measured before.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use mantissa_engine::catalog::{ALIGNED, Asked, Linear, Steps};

use super::hard::Random;
use crate::device::{Heuristic, Place};
use crate::error::CudaError;

/// How densely a heuristic is asked over numbers of rows.
///
/// Example: [`ask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Density {
    /// Every number to this one.
    pub every: usize,
    /// From there two of every eight to this one: one that 8 divides, one that it does not.
    pub eights: usize,
    /// From there three of every 256 to this one: one that 256 divides, one that 8 divides and 16 does not, and one
    /// that 8 does not divide.
    pub blocks: usize,
    /// Numbers at random of each kind, beside these; the answer of one that no step explains is kept, its steps are
    /// looked for, and as many are drawn again.
    pub random: usize,
}

impl Default for Density {
    fn default() -> Self {
        Self { every: 1024, eights: 8192, blocks: 1 << 20, random: 64 }
    }
}

/// What came of asking.
///
/// Example: [`ask`].
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The steps.
    pub asked: Asked,
    /// Questions.
    pub questions: usize,
    /// Random numbers whose answer the steps known until then did not give.
    pub surprises: usize,
}

/// One kind of numbers of rows, those that 8 divides or the others, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    aligned: bool,
}

impl Kind {
    /// The number of rows at a place.
    const fn rows(self, place: usize) -> usize {
        if self.aligned {
            (place + 1) * ALIGNED
        } else {
            place / (ALIGNED - 1) * ALIGNED + place % (ALIGNED - 1) + 1
        }
    }

    /// The place of the first number of its kind that is at least `rows`.
    const fn place(self, rows: usize) -> usize {
        if self.aligned {
            rows.div_ceil(ALIGNED).saturating_sub(1)
        } else {
            let (block, within) = (rows / ALIGNED, rows % ALIGNED);
            block * (ALIGNED - 1) + within.saturating_sub(1)
        }
    }
}

/// Asks `heuristic` for the parts of a product of so many rows.
///
/// The steps that it finds are exact between two numbers asked that differ. Where two that were asked agree, so may
/// everything between; random numbers look for what does not.
///
/// *Errors:* the first of `heuristic`.
///
/// ```
/// use mantissa_cuda::catalog::{Density, ask};
///
/// // Three parts below 1,500 rows, two below 30,001, then one.
/// let heuristic = |rows: usize| Ok::<u16, ()>(if rows < 1500 { 3 } else if rows < 30_001 { 2 } else { 1 });
/// let found = ask(Density::default(), 0, |rows| heuristic(rows).map(|parts| parts.try_into().expect("parts")))?;
/// for rows in [1, 1499, 1500, 1501, 1504, 30_000, 30_001, 1_000_000] {
///     assert_eq!(found.asked.parts(rows).map(u16::from), heuristic(rows).ok());
/// }
/// assert!(found.questions < 16_000 && found.surprises == 0);
/// # Ok::<(), ()>(())
/// ```
pub fn ask<E>(
    density: Density,
    seed: u64,
    mut heuristic: impl FnMut(usize) -> Result<NonZeroU16, E>,
) -> Result<Answers, E> {
    let mut random = Random(seed);
    let (mut questions, mut surprises) = (0, 0);
    let mut steps_of = |aligned: bool| -> Result<Steps, E> {
        let kind = Kind { aligned };
        let mut search = Search { kind, heuristic: &mut heuristic, known: BTreeMap::new(), questions: 0 };
        let largest = density.every.max(density.eights).max(density.blocks);
        let blocks = density.every.max(density.eights).div_ceil(256)..=density.blocks / 256;
        let in_blocks: &[usize] = if aligned { &[0, 136] } else { &[1] };
        let grid = (1..=density.every)
            .chain((density.every + 1..=density.eights).step_by(ALIGNED))
            .chain(blocks.flat_map(|block| in_blocks.iter().map(move |within| block * 256 + within)));
        for rows in grid.filter(|rows| *rows <= largest) {
            search.answer(kind.place(rows))?;
        }
        search.answer(kind.place(largest + 1).saturating_sub(1))?;
        search.halve_all()?;
        let places = search.known.last_key_value().map_or(0, |(place, _)| place + 1);
        let mut found = 1;
        // What a draw finds leads to another draw; a heuristic without steps would go on for ever.
        for _ in 0..16 {
            if found == 0 {
                break;
            }
            found = 0;
            for _ in 0..density.random {
                found += usize::from(search.surprised(random.below(places))?);
            }
            surprises += found;
        }
        questions += search.questions;
        let answers = search.known.into_iter().map(|(place, parts)| (kind.rows(place), parts));
        Ok(Steps::of_answers(answers))
    };
    let (unaligned, aligned) = (steps_of(false)?, steps_of(true)?);
    let Ok(asked) = Asked::new(unaligned, aligned) else { unreachable!("8 divides the rows of that kind") };
    Ok(Answers { asked, questions, surprises })
}

/// Asks the heuristic of a GPU for all `weights`, on all processors. `each` gets them as they come, an error where the
/// library gave no answer.
///
/// *Errors:* the first of the driver.
pub(super) fn ask_all(
    place: &Place,
    weights: &[Linear],
    density: Density,
    mut each: impl FnMut(Linear, Result<Answers, CudaError>),
) -> Result<(), CudaError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(weights.len().max(1));
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let answers = || -> Result<(), CudaError> {
                    let heuristic = Heuristic::new(place)?;
                    while let Some(weight) = weights.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let Linear { n, k, bias, dtype } = *weight;
                        let seed = n as u64 * 1_000_003 + k as u64;
                        let found = ask(density, seed, |m| heuristic.parts(dtype, [m, n, k], bias));
                        if let Err(CudaError::Driver(error)) = found {
                            return Err(error.into());
                        }
                        // Nobody listens only after an error.
                        _ = sender.send(Ok((*weight, found)));
                    }
                    Ok(())
                };
                if let Err(error) = answers() {
                    next.store(weights.len(), Ordering::Relaxed);
                    _ = sender.send(Err(error));
                }
            });
        }
        drop(sender);
        for answer in receiver {
            let (weight, found) = answer?;
            each(weight, found);
        }
        Ok(())
    })
}

/// Rows for which a product is compared: both sides of every step, and `random` others of each kind, evenly on a
/// logarithmic scale; none whose matrices have more than `most` elements.
pub(super) fn compared(weight: Linear, asked: &Asked, random: usize, most: usize) -> BTreeSet<usize> {
    let Linear { n, k, .. } = weight;
    let longest = most / n.max(k).max(1);
    let mut draw = Random(n as u64 ^ (k as u64) << 32);
    let mut rows = BTreeSet::new();
    for aligned in [false, true] {
        let (kind, steps) = (Kind { aligned }, asked.steps(aligned));
        for (first, _) in steps.steps() {
            let place = kind.place(first);
            rows.extend([first, kind.rows(place.saturating_sub(1))]);
        }
        // Evenly on a logarithmic scale: few rows are usual, many are possible.
        let octaves = steps.last().unwrap_or(1).min(longest).max(1).ilog2() as usize + 1;
        rows.extend((0..random).map(|_| {
            let first = 1 << draw.below(octaves);
            kind.rows(kind.place(first + draw.below(first)))
        }));
    }
    rows.retain(|rows| *rows <= longest && asked.parts(*rows).is_some());
    rows
}

/// Numbers of rows of one kind, and what was answered for them.
struct Search<'h, H> {
    kind: Kind,
    heuristic: &'h mut H,
    known: BTreeMap<usize, NonZeroU16>,
    questions: usize,
}

impl<E, H: FnMut(usize) -> Result<NonZeroU16, E>> Search<'_, H> {
    fn answer(&mut self, place: usize) -> Result<NonZeroU16, E> {
        if let Some(parts) = self.known.get(&place) {
            return Ok(*parts);
        }
        let parts = (self.heuristic)(self.kind.rows(place))?;
        self.questions += 1;
        self.known.insert(place, parts);
        Ok(parts)
    }

    /// Asks between all neighbours that differ until each step is exact.
    fn halve_all(&mut self) -> Result<(), E> {
        let known: Vec<usize> = self.known.keys().copied().collect();
        for pair in known.windows(2) {
            self.halve(pair[0], pair[1])?;
        }
        Ok(())
    }

    /// Asks in the middle of two places that differ, and of the halves that do.
    fn halve(&mut self, from: usize, to: usize) -> Result<(), E> {
        if to - from < 2 || self.answer(from)? == self.answer(to)? {
            return Ok(());
        }
        let middle = from + (to - from) / 2;
        self.answer(middle)?;
        self.halve(from, middle)?;
        self.halve(middle, to)
    }

    /// Whether the answer for a place is not what the one before it says; then the steps around it are looked for.
    fn surprised(&mut self, place: usize) -> Result<bool, E> {
        let before = self.known.range(..=place).next_back().map(|(at, parts)| (*at, *parts));
        let after = self.known.range(place..).next().map(|(at, parts)| (*at, *parts));
        let parts = self.answer(place)?;
        let (Some((from, expected)), Some((to, _))) = (before, after) else { return Ok(false) };
        if parts == expected {
            // What adds nothing is not kept, so that lists of what was asked stay progressions.
            if from != place {
                self.known.remove(&place);
            }
            return Ok(false);
        }
        self.halve(from, place)?;
        self.halve(place, to)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: u16) -> NonZeroU16 {
        NonZeroU16::new(parts).expect("parts")
    }

    #[test]
    fn places_are_numbers_of_rows() {
        for aligned in [false, true] {
            let kind = Kind { aligned };
            let all = 1..=80_usize;
            let rows: Vec<usize> = all.filter(|rows| rows.is_multiple_of(ALIGNED) == aligned).collect();
            let places: Vec<usize> = (0..rows.len()).map(|place| kind.rows(place)).collect();
            assert_eq!(places, rows);
            for wanted in 1..=80 {
                let next = rows.iter().position(|rows| *rows >= wanted);
                if let Some(next) = next {
                    assert_eq!(kind.place(wanted), next, "{wanted} {aligned}");
                }
            }
        }
    }

    /// A heuristic as an H100's for 3584 × 18944: rows of 8 and their neighbours in turn, and steps at any number.
    #[test]
    fn every_step_is_found_and_exact() {
        let heuristic = |rows: usize| match rows {
            0..=8 => 7,
            _ if rows < 600 && rows.is_multiple_of(16) => 4,
            _ if rows < 600 && rows.is_multiple_of(8) => 3,
            9..=599 | 5004..=70_000 => 2,
            600..=5003 => 3,
            _ => 1,
        };
        let found = ask(Density::default(), 1, |rows| Ok::<_, ()>(parts(heuristic(rows)))).expect("answers");
        for rows in (1..20_000).chain(69_900..70_100).chain([1 << 20]) {
            assert_eq!(found.asked.parts(rows).map(u16::from), Some(heuristic(rows)), "{rows}");
        }
        assert_eq!(found.asked.parts((1 << 20) + 8), None);
        assert!(found.questions < 20_000, "{}", found.questions);
    }

    /// What two answers that agree hide between them, a random number finds; then its borders are exact.
    #[test]
    fn what_lies_between_equal_answers_is_looked_for_at_random() {
        // Between 200,193 and 200,449, which are asked of those that 8 does not divide, and nearly as wide as that.
        let heuristic = |rows: usize| if (200_200..200_440).contains(&rows) { 5 } else { 1 };
        let density = Density { random: 40_000, ..Density::default() };
        let found = ask(density, 7, |rows| Ok::<_, ()>(parts(heuristic(rows)))).expect("answers");
        assert!(found.surprises > 0);
        for rows in 200_000..200_600 {
            assert_eq!(found.asked.parts(rows).map(u16::from), Some(heuristic(rows)), "{rows}");
        }
    }

    #[test]
    fn products_are_compared_at_both_sides_of_every_step() {
        let steps = |asked, steps| Steps::new(asked, steps).expect("steps");
        let asked = Asked::new(steps("1-900", &[(1, 4), (73, 2)]), steps("8-896/8", &[(8, 4), (80, 1)]));
        let weight = Linear { n: 64, k: 512, bias: false, dtype: mantissa_numerics::Dtype::Bf16 };
        let rows = compared(weight, asked.as_ref().expect("steps"), 3, 1 << 20);
        for side in [1, 71, 73, 8, 72, 80] {
            assert!(rows.contains(&side), "{side} of {rows:?}");
        }
        assert!(rows.len() > 6 && rows.iter().all(|rows| *rows <= 900), "{rows:?}");
        // What is too large for the device's memory is left out.
        let few = compared(weight, &asked.expect("steps"), 3, 512 * 72);
        assert!(few.contains(&72) && !few.contains(&73), "{few:?}");
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut asked = 0;
        let found = ask(Density::default(), 0, |rows| {
            asked += 1;
            if rows == 100 { Err("no answer") } else { Ok(parts(1)) }
        });
        assert_eq!(found.expect_err("an error"), "no answer");
        assert!(asked < 200, "{asked}");
    }
}
