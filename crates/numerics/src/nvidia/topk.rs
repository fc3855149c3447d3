//! The choice and the order of the largest values, as PyTorch's `topk` makes them on a GPU.

/// Values that the sorting network takes.
const NETWORK: usize = 32;

/// The places of the `count` largest values, the largest first. Of equals that are not all chosen, the first are.
///
/// *Order of equals:* what is larger than the smallest that is chosen stands in order of place, then those that equal
/// it; a bitonic network of 32 sorts them, which is not stable; more than 32 are sorted by a stable sort.
///
/// *Source:* PyTorch, aten/src/ATen/native/cuda/TensorTopK.cu (`sbtopk`), Sort.cu and SortUtils.cuh, restated.
///
/// ```
/// use mantissa_numerics::nvidia::topk::largest;
/// assert_eq!(largest(&[1.0, 3.0, 2.0, 0.0], 2), [1, 2]);
/// // Of three equals the first two are chosen; the network leaves them as it happens.
/// let mut chosen = largest(&[1.0, 7.0, 1.0, 1.0], 3);
/// chosen.sort_unstable();
/// assert_eq!(chosen, [0, 1, 2]);
/// ```
#[must_use]
pub fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let count = count.min(values.len());
    let mut by_value: Vec<usize> = (0..values.len()).collect();
    by_value.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let Some(smallest) = count.checked_sub(1).map(|last| values[by_value[last]]) else { return Vec::new() };
    // Zeros of both signs are one value.
    let above = |place: &usize| values[*place] > smallest;
    let equal = |place: &usize| !above(place) && values[*place] >= smallest;
    let places = || 0..values.len();
    let mut chosen: Vec<usize> = places().filter(above).chain(places().filter(equal)).take(count).collect();
    if count <= NETWORK {
        sort_by_network(values, &mut chosen);
    } else {
        chosen.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    }
    chosen
}

/// Sorts at most 32 places by their values, the largest first, as the network does; places that are not there go to the
/// end.
fn sort_by_network(values: &[f32], chosen: &mut [usize]) {
    let mut held: [Option<usize>; NETWORK] = std::array::from_fn(|i| chosen.get(i).copied());
    let mut size = 2;
    while size < NETWORK {
        stage(values, &mut held, size / 2, |thread| thread & (size / 2) != 0);
        size *= 2;
    }
    stage(values, &mut held, NETWORK / 2, |_| false);
    for (to, from) in chosen.iter_mut().zip(held.into_iter().flatten()) {
        *to = from;
    }
}

/// Steps of half the length each, from `longest` to 1: every thread looks at a pair and swaps it, or leaves it, so that
/// its values fall, or rise where `rising`.
fn stage(
    values: &[f32],
    held: &mut [Option<usize>; NETWORK],
    longest: usize,
    rising: impl Fn(usize) -> bool,
) {
    let mut stride = longest;
    while stride > 0 {
        for thread in 0..NETWORK / 2 {
            let first = 2 * thread - (thread & (stride - 1));
            let (a, b) = (held[first], held[first + stride]);
            let falls = match (a, b) {
                (Some(a), Some(b)) => values[a] > values[b],
                (_, None) => true,
                (None, Some(_)) => false,
            };
            // Equals are swapped where values are to fall.
            if falls == rising(thread) {
                held.swap(first, first + stride);
            }
        }
        stride /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_values_are_simply_sorted() {
        let value = |i: usize| f32::from(u16::try_from(i * 7919 % 257).unwrap());
        let values: Vec<f32> = (0..128).map(value).collect();
        let mut expected: Vec<usize> = (0..128).collect();
        expected.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        for count in [0, 1, 2, 4, 8, 31, 32, 33, 128] {
            assert_eq!(largest(&values, count), expected[..count], "{count}");
        }
        assert_eq!(largest(&values, 200), expected);
    }

    #[test]
    fn of_equals_the_first_are_chosen() {
        for count in 1..=40 {
            let mut chosen = largest(&[2.0; 64], count);
            chosen.sort_unstable();
            assert_eq!(chosen, (0..count).collect::<Vec<_>>());
        }
        let values = [0.0, 5.0, -0.0, 5.0, 1.0];
        assert_eq!(largest(&values, 4).iter().filter(|place| values[**place] > 0.5).count(), 3);
        assert_eq!(largest(&values, 4)[3], 0);
    }
}
