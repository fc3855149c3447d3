//! The order in which the authors' scripts added the positions of a distance, which their files do not state.
//!
//! Sums of three numbers depend on which is added last. The order that reproduces most stored cells is taken and named.

use mantissa_numerics::Phase;

use super::arithmetic::{finite_mean, first_five};
use crate::json::entries::Position;
use crate::json::numbers::{Candidates, Square};
use crate::sheet::Sheet;

/// The published distance of two setups: the mean over positions, added in `order`.
pub(crate) fn distance(
    a: &[(Position, &Candidates)],
    b: &[(Position, &Candidates)],
    order: &[Position],
) -> f64 {
    let at = |rows: &[(Position, &Candidates)], position: Position| {
        rows.iter().find(|(other, _)| *other == position).map(|(_, row)| (*row).clone())
    };
    let distances =
        order.iter().filter_map(|&position| Some(first_five(&at(a, position)?, &at(b, position)?)));
    finite_mean(&distances.collect::<Vec<f64>>())
}

/// The order in which most `stored` cells come out in every bit, `own` where that is as good; the matrices that it
/// gives; how many cells come out in the file's own order.
#[expect(clippy::needless_pass_by_value, reason = "each caller makes it for this")]
pub(crate) fn best(
    own: Vec<Position>,
    stored: &[Square],
    matrices: impl Fn(&[Position]) -> Vec<Square>,
) -> (Vec<Position>, Vec<Square>, usize) {
    let score = |order: &[Position]| {
        let matrices = matrices(order);
        let pairs = matrices.iter().flatten().flatten().zip(stored.iter().flatten().flatten());
        let agree = pairs.filter(|(a, b)| a.to_bits() == b.to_bits()).count();
        (agree, matrices)
    };
    let (own_score, matrices) = score(&own);
    let mut best = (own_score, own.clone(), matrices);
    // Three numbers have three distinct sums: the one that is added last decides.
    if own.len() == 3 {
        for last in 0..3 {
            let mut order: Vec<Position> = own.iter().copied().rev().collect();
            let moved = order.remove(last);
            order.push(moved);
            let (agree, matrices) = score(&order);
            if agree > best.0 {
                best = (agree, order, matrices);
            }
        }
    }
    (best.1, best.2, own_score)
}

fn shown(order: &[Position]) -> String {
    let shown: Vec<String> = order.iter().map(|position| position.0.to_string()).collect();
    shown.join(", ")
}

/// What stands beside figures that rest on the order.
pub(crate) fn note(order: &[Position]) -> String {
    format!("positions added in the order {}", shown(order))
}

/// Says so where the order is not that of the file.
pub(crate) fn say(
    sheet: &mut Sheet,
    phase: Phase,
    order: &[Position],
    in_file_order: usize,
    cells: usize,
    place: &str,
) {
    if order.windows(2).any(|pair| pair[0] > pair[1]) {
        sheet.finding(
            format!(
                "{}: added in the order {} all last bits of the distances come out, in the order of the file only \
                 {in_file_order} of {cells}: an order that nothing in the file gives, as a \
                 collection without order would, so the last bits need not come out in another run of the script",
                phase.name(),
                shown(order)
            ),
            &[place],
        );
    }
}
