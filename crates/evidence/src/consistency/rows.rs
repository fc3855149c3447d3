//! Rows that several passes of a run stored: a pass with a cache computes a position once, so its copies are the same
//! bits.

use std::collections::BTreeMap;

use mantissa_numerics::{Dtype, Phase, Site};

use super::conflict::{About, Conflict, Statement};
use crate::error::Result;
use crate::record::{Record, RowKey};

pub(super) fn conflicts(record: &Record) -> Result<Vec<Conflict>> {
    let mut found = Vec::new();
    for run in 0..record.shell().runs.len() {
        let mut first: Option<Conflict> = None;
        let mut tell = |statements: [Statement; 2]| {
            if let Some(known) = &mut first {
                known.more += 1;
                return;
            }
            let config_id = Some(record.shell().runs[run].config_id.clone());
            let statements = statements.into();
            first = Some(Conflict { about: About::Row, config_id, statements, more: 0 });
        };
        for site in sites(record, run) {
            rows(record, run, site, &mut tell)?;
        }
        candidates(record, run, &mut tell)?;
        found.extend(first);
    }
    Ok(found)
}

/// What is told of two copies that differ.
type Tell<'t> = dyn FnMut([Statement; 2]) + 't;

/// Sites of which a position may be stored twice.
fn sites(record: &Record, run: usize) -> Vec<Site> {
    let mut sites: Vec<Site> = [Phase::Prefill, Phase::Decode]
        .into_iter()
        .filter_map(|phase| record.layout(run, phase))
        .flat_map(|layout| layout.tensors.keys().copied())
        .collect();
    sites.sort_unstable();
    sites.dedup();
    sites
}

/// The windows of a run in the order they were computed: the key of each row.
fn windows(record: &Record, run: usize) -> impl Iterator<Item = Vec<RowKey>> {
    let decode = record.layout(run, Phase::Decode);
    // Positions beside the newest are stored again only where there are decode steps.
    let again = decode.is_some_and(|layout| layout.positions.iter().any(|position| *position < -1));
    let phases = [Phase::Prefill, Phase::Decode].into_iter().filter(move |_| again);
    phases.filter_map(move |phase| Some((phase, record.layout(run, phase)?))).flat_map(|(phase, layout)| {
        layout.steps.clone().map(move |step| {
            layout.positions.iter().map(|&position| RowKey { phase, step, position }).collect()
        })
    })
}

fn rows(record: &Record, run: usize, site: Site, tell: &mut Tell<'_>) -> Result<()> {
    let mut known: BTreeMap<i64, (RowKey, Vec<u8>)> = BTreeMap::new();
    let mut scratch = Vec::new();
    for window in windows(record, run) {
        forget(&mut known, &window);
        for key in window {
            let tensor = record.layout(run, key.phase).and_then(|layout| layout.tensors.get(&site));
            let Some(dtype) = tensor.map(|tensor| tensor.dtype) else { continue };
            let Some(row) = record.row(run, site, key, &mut scratch)? else { continue };
            match known.get(&key.token()) {
                Some((before, copy)) if copy != row => {
                    let element = first_other(dtype, copy, row);
                    let stated = |key: &RowKey, row: &[u8]| {
                        Statement::new(
                            place(run, key, &format!("{site}[{element}]")),
                            &bits(dtype, row, element),
                        )
                    };
                    tell([stated(before, copy), stated(&key, row)]);
                }
                Some(_) => {}
                None => {
                    known.insert(key.token(), (key, row.to_vec()));
                }
            }
        }
    }
    Ok(())
}

fn candidates(record: &Record, run: usize, tell: &mut Tell<'_>) -> Result<()> {
    let mut known: BTreeMap<i64, (RowKey, Vec<(u32, u32)>)> = BTreeMap::new();
    for window in windows(record, run) {
        forget(&mut known, &window);
        for key in window {
            let Some(found) = record.candidates(run, key)? else { continue };
            let mut row: Vec<(u32, u32)> = found
                .token_ids
                .into_iter()
                .zip(found.log_probs.iter().map(|value| value.to_bits()))
                .collect();
            // Candidates are identified by id; ties may be listed in any order.
            row.sort_unstable();
            match known.get(&key.token()) {
                Some((before, copy)) if *copy != row => {
                    let other = copy.iter().zip(&row).position(|(a, b)| a != b).unwrap_or_default();
                    let stated = |key: &RowKey, row: &[(u32, u32)]| {
                        let value = row.get(other).map_or_else(
                            || format!("{} candidates", row.len()),
                            |(id, bits)| format!("token {id} 0x{bits:08x}"),
                        );
                        Statement::new(place(run, key, "logprobs"), &value)
                    };
                    tell([stated(before, copy), stated(&key, &row)]);
                }
                Some(_) => {}
                None => {
                    known.insert(key.token(), (key, row));
                }
            }
        }
    }
    Ok(())
}

/// Drops rows that no later window reaches.
fn forget<T>(known: &mut BTreeMap<i64, T>, window: &[RowKey]) {
    if let Some(first) = window.first() {
        *known = known.split_off(&first.token());
    }
}

fn place(run: usize, key: &RowKey, what: &str) -> String {
    format!("runs[{run}], {} step {}, position {}, {what}", key.phase.name(), key.step, key.position)
}

/// The first element that two rows do not share.
fn first_other(dtype: Dtype, a: &[u8], b: &[u8]) -> usize {
    let byte = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or_else(|| a.len().min(b.len()));
    byte / dtype.size()
}

fn bits(dtype: Dtype, row: &[u8], element: usize) -> String {
    let start = element * dtype.size();
    row.get(start..start + dtype.size()).map_or_else(
        || "nothing".to_owned(),
        |bytes| {
            let value = bytes.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            format!("0x{value:0digits$x}", digits = 2 * bytes.len())
        },
    )
}
