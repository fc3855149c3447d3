//! Layouts that keep conclusions and distances without the signals they are of.

pub(crate) mod compile;
pub(crate) mod cuda;

use std::collections::BTreeMap;

use mantissa_evidence::verification::{CellDistance, CellKey, Machine, Relation, Verification};
use mantissa_numerics::Phase;

/// Two setups of one machine: their distance, and the distance 0 of each to itself where its repetitions agree.
fn two(
    variable: &str,
    values: [String; 2],
    machine: Machine,
    (phase, signal): (Phase, &str),
    distance: CellDistance,
    repeats: [Option<&str>; 2],
) -> Verification {
    let key =
        |claimed, verified| CellKey { phase, signal: signal.to_owned(), reference: None, claimed, verified };
    let mut cells = BTreeMap::from([(key(0, 1), distance.clone()), (key(1, 0), distance)]);
    for (index, place) in repeats.into_iter().enumerate() {
        let Some(place) = place else { continue };
        let none = CellDistance { mean: 0.0, max: Some(0.0), rounding: 0.0, place: place.to_owned() };
        cells.insert(key(index, index), none);
    }
    Verification {
        variable: variable.to_owned(),
        values: values.into(),
        generator: machine.clone(),
        verifier: machine,
        mismatches: Vec::new(),
        relation: Relation::WithinMode,
        cells,
    }
}
