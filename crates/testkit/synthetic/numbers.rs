//! The authors' arithmetic on few numbers: distances, means, classes, quotients, and how Python prints them.

/// A matrix, row by row.
pub(crate) type Square = Vec<Vec<f64>>;

/// Sum in order, then one division: numpy's mean of fewer than eight values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    assert!(values.len() < 8, "numpy adds eight values and more in pairs");
    values.iter().fold(0.0, |sum, value| sum + value) / values.len() as f64
}

/// Population deviation.
pub(crate) fn std(values: &[f64]) -> f64 {
    let centre = mean(values);
    mean(&values.iter().map(|value| (value - centre) * (value - centre)).collect::<Vec<_>>()).sqrt()
}

/// Distance of two vectors.
pub(crate) fn l2(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + (x - y) * (x - y)).sqrt()
}

/// Candidates of a position.
#[derive(Clone)]
pub(crate) struct List {
    pub(crate) ids: Vec<u32>,
    pub(crate) values: Vec<f64>,
}

/// Distance over the first five ids of `row` that `column` has; infinite where it has none.
pub(crate) fn first_five(row: &List, column: &List) -> f64 {
    let (mut squares, mut found) = (0.0, false);
    for (id, value) in row.ids.iter().zip(&row.values).take(5) {
        if let Some(at) = column.ids.iter().position(|other| other == id) {
            squares += (value - column.values[at]) * (value - column.values[at]);
            found = true;
        }
    }
    if found { squares.sqrt() } else { f64::INFINITY }
}

/// The mean of what is finite.
pub(crate) fn finite_mean(values: &[f64]) -> f64 {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if finite.is_empty() { f64::INFINITY } else { mean(&finite) }
}

/// A matrix from its cells.
pub(crate) fn square(side: usize, cell: impl Fn(usize, usize) -> f64) -> Square {
    (0..side).map(|i| (0..side).map(|j| cell(i, j)).collect()).collect()
}

/// Cell by cell over references.
pub(crate) fn over(matrices: &[Square]) -> Square {
    square(matrices[0].len(), |i, j| mean(&matrices.iter().map(|matrix| matrix[i][j]).collect::<Vec<_>>()))
}

/// The diagonal.
pub(crate) fn diagonal(matrix: &Square) -> Vec<f64> {
    (0..matrix.len()).map(|i| matrix[i][i]).collect()
}

/// Cells off the diagonal of which `keep` says yes.
pub(crate) fn off_diagonal(matrix: &Square, keep: impl Fn(usize, usize) -> bool) -> Vec<f64> {
    let side = matrix.len();
    let pairs = (0..side).flat_map(|i| (0..side).map(move |j| (i, j)));
    pairs.filter(|&(i, j)| i != j && keep(i, j)).map(|(i, j)| matrix[i][j]).collect()
}

/// Cells above the diagonal.
pub(crate) fn upper(matrix: &Square) -> Vec<f64> {
    let side = matrix.len();
    (0..side).flat_map(|i| (i + 1..side).map(move |j| (i, j))).map(|(i, j)| matrix[i][j]).collect()
}

/// Indices grouped by distances of zero.
pub(crate) fn classes(matrix: &Square) -> Vec<Vec<usize>> {
    let mut classes: Vec<Vec<usize>> = Vec::new();
    for i in 0..matrix.len() {
        match classes.iter_mut().find(|class| matrix[class[0]][i] == 0.0 && matrix[i][class[0]] == 0.0) {
            Some(class) => class.push(i),
            None => classes.push(vec![i]),
        }
    }
    classes
}

/// `%.2e`.
pub(crate) fn e2(value: f64) -> String {
    if value.is_infinite() {
        return "inf".to_owned();
    }
    let text = format!("{value:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// The largest value.
pub(crate) fn max_of(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The smallest value.
pub(crate) fn min_of(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
