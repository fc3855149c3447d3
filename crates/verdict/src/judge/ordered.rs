//! One order for everything, whatever order it was given in, and each content once.
//!
//! Files are taken by name, setups and prompts by their values (numbers as numbers), repetitions by what they hold. So
//! no result depends on the order of files, configurations, runs or keys. A file with the contents of another adds
//! nothing and is left out. Left out: anything that is judged.

use std::collections::BTreeMap;

use mantissa_evidence::{Configuration, Digest, Record, Verification};

use super::input::Evidence;
use crate::{Result, VerdictError};

/// A piece of a name: digits are compared as a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Number(u128),
    Text(String),
}

/// A name by its pieces: `batch_size_9` comes before `batch_size_10`. The name itself decides between `01` and `1`.
pub(super) fn natural(name: &str) -> (Vec<Piece>, String) {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        pieces.push(match piece.parse() {
            Ok(number) if digits => Piece::Number(number),
            _ => Piece::Text(piece.to_owned()),
        });
    }
    (pieces, name.to_owned())
}

/// Evidence in the order of names, and which files were left out: their name, and the file whose contents they have.
pub(super) struct Files<'a> {
    pub(super) kept: Vec<&'a Evidence<'a>>,
    pub(super) copies: Vec<(&'a Evidence<'a>, &'a Evidence<'a>)>,
}

/// Orders files and leaves copies out.
pub(super) fn files<'a>(evidence: &'a [Evidence<'a>]) -> Result<Files<'a>> {
    let mut all: Vec<&Evidence<'a>> = evidence.iter().collect();
    all.sort_by_cached_key(|one| (natural(&one.source.name), one.source.digest.clone()));
    let (mut kept, mut copies) = (Vec::new(), Vec::new());
    let mut seen: BTreeMap<String, &Evidence<'a>> = BTreeMap::new();
    for one in all {
        let key = if evidence.len() > 1 { contents(one)? } else { String::new() };
        if let Some(first) = seen.get(&key) {
            copies.push((one, *first));
        } else {
            seen.insert(key, one);
            kept.push(one);
        }
    }
    Ok(Files { kept, copies })
}

/// What a file holds, whatever its name, format and order.
fn contents(one: &Evidence<'_>) -> Result<String> {
    let mut held: Vec<String> = Vec::new();
    if let Some(record) = one.record {
        let configurations = &record.shell().configurations;
        let of = |id: &str| configurations.iter().find(|configuration| configuration.config_id == id);
        for run in 0..record.shell().runs.len() {
            let stated = of(&record.shell().runs[run].config_id).map(statement);
            held.push(format!("{stated:?} {}", run_contents(record, run)?));
        }
        held.extend(configurations.iter().map(statement));
    }
    for verification in &one.verifications {
        let Verification { variable, values, generator, verifier, relation, cells, .. } =
            canonical(verification);
        let cells: Vec<_> =
            cells.iter().map(|(key, cell)| (key, cell.mean.to_bits(), cell.max.map(f64::to_bits))).collect();
        held.push(format!("{variable} {values:?} {generator:?} {verifier:?} {relation:?} {cells:?}"));
    }
    held.sort();
    let said = (&one.repeats, &one.tokens, &one.models);
    if held.is_empty() {
        return Ok(format!("{} {said:?}", one.source.digest));
    }
    Ok(Digest::of_bytes(format!("{held:?}").as_bytes()).to_string())
}

/// What a configuration states, but for clocks.
fn statement(configuration: &Configuration) -> String {
    format!("{configuration:?}")
}

/// What a run holds: its repetition, tokens and signals.
pub(super) fn run_contents(record: &Record, run: usize) -> Result<String> {
    let of = &record.shell().runs[run];
    let signals = record.signals_digest(run);
    let signals = signals.map_err(|error| VerdictError::Evidence { message: error.to_string() })?;
    let outputs = Digest::of_ids(&of.output_token_ids);
    let prompt = (Digest::of_ids(&of.prompt_token_ids), &of.prompt_text, &of.prompt_label);
    Ok(format!("{signals} {outputs} {prompt:?} {} {}", of.reference_id, of.rep_id))
}

/// The same distances with the variable's values in order.
pub(super) fn canonical(verification: &Verification) -> Verification {
    let mut order: Vec<usize> = (0..verification.values.len()).collect();
    order.sort_by_cached_key(|&index| natural(&verification.values[index]));
    let mut place = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    let moved = |index: usize| place.get(index).copied().unwrap_or(index);
    let cells = verification.cells.iter().map(|(key, cell)| {
        let (claimed, verified) = (moved(key.claimed), moved(key.verified));
        (mantissa_evidence::verification::CellKey { claimed, verified, ..key.clone() }, cell.clone())
    });
    Verification {
        values: order.iter().map(|&index| verification.values[index].clone()).collect(),
        cells: cells.collect(),
        ..verification.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["batch 10", "batch 9", "a", "2", "10", "1", "01", "batch 9b"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["01", "1", "2", "10", "a", "batch 9", "batch 9b", "batch 10"]);
    }
}
