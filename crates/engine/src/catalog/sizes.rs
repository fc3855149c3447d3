//! Lists of sizes, as a catalog's file writes them: progressions such as `16-2048/8`.

use std::collections::BTreeSet;

use super::error::CatalogError;

/// Largest size, and most sizes of one list.
const MOST: usize = 1_000_000;

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
    let number = |s: &str| s.parse::<usize>().ok().filter(|n| (1..=MOST).contains(n));
    let mut sizes = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Some(first), Some(last), Some(step)) = (number(first), number(last), number(step)) else {
            return Err(wrong());
        };
        if first > last || step == 0 {
            return Err(wrong());
        }
        sizes.extend((first..=last).step_by(step));
        if sizes.len() > MOST {
            return Err(wrong());
        }
    }
    Ok(sizes)
}

/// The longest progression from the smallest size, again and again.
pub(super) fn write_sizes(mut sizes: BTreeSet<usize>) -> String {
    let mut parts = Vec::new();
    while let Some(first) = sizes.first().copied() {
        let reach = |step: usize| (first..).step_by(step).take_while(|size| sizes.contains(size)).count();
        let best = [1, 2, 4, 8, 16].into_iter().rev().max_by_key(|step| reach(*step)).unwrap_or(1);
        let (step, count) = match (best, reach(best)) {
            (1, count) => (1, count),
            (step, count) if count > 2 => (step, count),
            _ => (1, 1),
        };
        let last = first + (count - 1) * step;
        parts.push(match (count, step) {
            (1, _) => format!("{first}"),
            (_, 1) => format!("{first}-{last}"),
            _ => format!("{first}-{last}/{step}"),
        });
        for size in (first..=last).step_by(step) {
            sizes.remove(&size);
        }
    }
    parts.join(",")
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
}
