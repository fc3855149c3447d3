//! Inverse frequencies that PyTorch computes on a GPU, as vLLM does at load.
//!
//! A number over a tensor is the tensor's reciprocal times the number, a tensor over a number its product with the
//! number's rounded reciprocal. CUDA's `pow` of binary32 is the nearest value for 94 of 100 exponents: the others are a
//! table, and bases that are not in it are not known.
//!
//! *Source:* an H200 with PyTorch 2.11.0+cu130, goldens/parallel/inverse_frequencies.py, 2026-11-30.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A line for each base and number of rotated elements: both, then `place:steps` where the inverse is so many steps of
/// binary32 away from what the nearest power gives.
const MEASURED: &str = include_str!("on_gpu.txt");

/// Places and steps, by base and rotated elements.
type Deviations = BTreeMap<(u64, usize), Places>;

/// Places, each with steps.
type Places = Vec<(usize, i8)>;

fn measured() -> &'static Deviations {
    static TABLE: OnceLock<Deviations> = OnceLock::new();
    TABLE.get_or_init(|| MEASURED.lines().filter_map(entry).collect())
}

fn entry(line: &str) -> Option<((u64, usize), Places)> {
    let mut words = line.split(' ');
    let key = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let places = words.map(|word| {
        let (place, steps) = word.split_once(':')?;
        Some((place.parse().ok()?, steps.parse().ok()?))
    });
    Some((key, places.collect::<Option<_>>()?))
}

/// Where inverse frequencies of `base` over `dim` rotated elements are not what the nearest powers give, and by how
/// many steps; `None` where they were not measured.
pub(super) fn deviations(base: f64, dim: usize) -> Option<&'static [(usize, i8)]> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared below")]
    let whole = base as u64;
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let found = measured().get(&(whole, dim)).filter(|_| (whole as f64).to_bits() == base.to_bits())?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_other_bases_are_not_known() {
        assert_eq!(measured().len(), MEASURED.lines().count());
        let places = measured().iter().flat_map(|((_, dim), places)| places.iter().map(move |p| (dim, p)));
        assert!(
            places.clone().count() > 500 && places.into_iter().all(|(dim, (place, _))| place < &(dim / 2))
        );
        assert_eq!(deviations(5e5, 66), None);
        assert_eq!(deviations(500_000.5, 64), None);
        assert_eq!(deviations(1234.0, 64), None);
    }
}
