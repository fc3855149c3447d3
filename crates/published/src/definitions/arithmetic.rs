//! The arithmetic of the published scripts: numpy's means and norms, in numpy's order of sums, and their words.

use super::cutoffs;
use crate::json::numbers::{Candidates, Square};

/// Candidates of the first list that the published distance looks up in the second.
pub(crate) const FIRST: usize = 5;

/// `np.mean` of a list: numpy's pairwise sum, then one division. Not a number for an empty list.
///
/// *Rounding:* binary64, eight running sums from eight values on. *Source:* numpy 2.1
/// `numpy/_core/src/umath/loops_utils.h.src`, `pairwise_sum`.
pub(crate) fn mean(values: &[f64]) -> f64 {
    pairwise(values) / count(values.len())
}

#[expect(clippy::cast_precision_loss, reason = "counts of cells lie far below 2^53")]
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

fn pairwise(values: &[f64]) -> f64 {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise(&values[..half]) + pairwise(&values[half..]);
    }
    let mut sums = [0.0; 8];
    sums.copy_from_slice(&values[..8]);
    let (blocks, rest) = values[8..].as_chunks::<8>();
    for block in blocks {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}

/// `np.std` of a list: population, about [`mean`].
pub(crate) fn std(values: &[f64]) -> f64 {
    let centre = mean(values);
    let squares: Vec<f64> = values.iter().map(|value| (value - centre) * (value - centre)).collect();
    mean(&squares).sqrt()
}

/// The largest value; negative infinity for an empty list.
pub(crate) fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// `np.linalg.norm(a − b)` in binary64.
///
/// *Rounding:* squares are summed in storage order. numpy leaves the order to its BLAS; of the published values,
/// which have 8 significand bits, every order gives the same sum.
pub(crate) fn l2(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).fold(0.0, |sum, square| sum + square).sqrt()
}

/// The published distance of two lists of candidates: the first five of `row`, each looked up anywhere in `column`, L2
/// over those found; infinite when none is. Not symmetric.
pub(crate) fn first_five(row: &Candidates, column: &Candidates) -> f64 {
    let (mut squares, mut found) = (0.0, false);
    for (id, value) in row.token_ids.iter().zip(&row.log_probs).take(FIRST) {
        if let Some(index) = column.token_ids.iter().position(|other| other == id) {
            let difference = value - column.log_probs[index];
            squares += difference * difference;
            found = true;
        }
    }
    if found { squares.sqrt() } else { f64::INFINITY }
}

/// The mean over positions of what is finite; infinite when nothing is.
pub(crate) fn finite_mean(distances: &[f64]) -> f64 {
    let finite: Vec<f64> = distances.iter().copied().filter(|distance| distance.is_finite()).collect();
    if finite.is_empty() { f64::INFINITY } else { mean(&finite) }
}

/// `np.mean(axis=0)`: cells are added reference by reference.
pub(crate) fn over_references(matrices: &[Square]) -> Square {
    let side = matrices.first().map_or(0, Vec::len);
    let cell = |i: usize, j: usize| {
        let sum = matrices.iter().fold(0.0, |sum, matrix| sum + matrix[i][j]);
        sum / count(matrices.len())
    };
    (0..side).map(|i| (0..side).map(|j| cell(i, j)).collect()).collect()
}

/// The diagonal, from the top.
pub(crate) fn diagonal(matrix: &Square) -> Vec<f64> {
    matrix.iter().enumerate().map(|(i, row)| row[i]).collect()
}

/// Cells off the diagonal, row by row, of which `keep` says yes.
pub(crate) fn off_diagonal(matrix: &Square, keep: impl Fn(usize, usize) -> bool) -> Vec<f64> {
    let cells =
        matrix.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, &v)| (i, j, v)));
    cells.filter(|&(i, j, _)| i != j && keep(i, j)).map(|(_, _, value)| value).collect()
}

/// `signal / noise`, infinite when there is no noise.
pub(crate) fn quotient(signal: f64, noise: f64) -> f64 {
    if noise > 0.0 { signal / noise } else { f64::INFINITY }
}

/// The word the authors print for a distance.
pub(crate) fn size_word(distance: f64) -> &'static str {
    if distance < cutoffs::SMALL {
        "SMALL"
    } else if distance < cutoffs::MODERATE {
        "MODERATE"
    } else {
        "LARGE"
    }
}

/// The words the authors print for a quotient.
pub(crate) fn detectable_words(snr: f64) -> &'static str {
    if snr > cutoffs::DETECTABLE {
        "DETECTABLE"
    } else if snr > cutoffs::MARGINAL {
        "MARGINALLY detectable"
    } else {
        "NOT DETECTABLE"
    }
}

/// Values grouped by distances of exactly zero, transitively, in order; as the authors group kernels.
pub(crate) fn zero_classes(matrix: &Square) -> Vec<Vec<usize>> {
    let mut classes: Vec<Vec<usize>> = Vec::new();
    for (i, row) in matrix.iter().enumerate() {
        let equal = |&j: &usize| row[j] == 0.0 && matrix[j][i] == 0.0;
        match classes.iter_mut().find(|class| class.iter().any(equal)) {
            Some(class) => class.push(i),
            None => classes.push(vec![i]),
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_add_in_pairs_from_eight_values_on() {
        // 2^53 + 1 rounds back to 2^53: in sequence the ones are lost, in eight running sums they are not.
        let mut values = vec![1.0; 16];
        values[0] = 9007199254740992.0;
        assert_eq!((mean(&values) * 16.0).to_bits(), 9007199254741006.0_f64.to_bits());
    }
}
