//! The distances of the script: the largest over steps and positions of each pair of runs.
//!
//! Rows are read once, one row of each run in memory. Left out: the script's mean, median and deviation over rows,
//! which it computes and never shows.

use std::collections::BTreeSet;

use mantissa_evidence::Record;
use mantissa_evidence::error::Result;
use mantissa_evidence::record::RowKey;
use mantissa_numerics::{Phase, Point, Site};

use super::plan::Plan;
use crate::definitions::arithmetic::l2;
use crate::sheet::Signal;

/// Positions that the script looks at.
const POSITIONS: [i32; 3] = [-3, -2, -1];

/// What the script makes of two runs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Largest distance; 0 where nothing was compared.
    pub(crate) max: f64,
    /// Rows compared.
    pub(crate) rows: u64,
    /// Rows that only one of the two has, or of other width, which would stop the script.
    pub(crate) skipped: u64,
    /// Ranks at which two lists have other ids.
    pub(crate) other_ids: u64,
}

/// The last layer that any run recorded; absent for log-probabilities.
pub(crate) fn last_site(record: &Record, signal: Signal) -> Option<Site> {
    let runs = 0..record.shell().runs.len();
    let sites: BTreeSet<Site> = runs
        .filter_map(|run| record.layout(run, Phase::Decode))
        .flat_map(|layout| layout.tensors.keys().copied())
        .collect();
    let wanted = |site: &&Site| match signal {
        Signal::KeyVectors => site.point == Point::K,
        Signal::HiddenStates => matches!(site.point, Point::XOut | Point::FinalNorm),
        Signal::Logprobs => false,
    };
    sites.iter().rfind(wanted).copied()
}

/// Rows of one run at one place.
#[derive(Default)]
struct Row {
    values: Vec<f64>,
    ids: Vec<u32>,
    present: bool,
}

/// One pass over all rows: each needed row is read once and compared in every pair that has it.
pub(crate) fn measure(
    record: &Record,
    signal: Signal,
    site: Option<Site>,
    plan: &Plan,
) -> Result<Vec<Measured>> {
    let mut measured = vec![Measured::default(); plan.pairs.len()];
    let steps = |run: usize| record.layout(run, Phase::Decode).map_or(0..0, |layout| layout.steps.clone());
    let needed: BTreeSet<usize> = plan.pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
    let first =
        needed.iter().map(|&run| steps(run)).filter(|steps| !steps.is_empty()).map(|steps| steps.start).min();
    let end = needed.iter().map(|&run| steps(run).end).max().unwrap_or(0);
    let mut rows: Vec<Row> = (0..record.shell().runs.len()).map(|_| Row::default()).collect();
    let mut scratch = Vec::new();
    for step in first.unwrap_or(end)..end {
        for position in POSITIONS {
            let key = RowKey { phase: Phase::Decode, step, position };
            for &run in &needed {
                read(record, signal, site, run, key, &mut rows[run], &mut scratch)?;
            }
            for (&(a, b), measured) in plan.pairs.iter().zip(&mut measured) {
                measured.take(&rows[a], &rows[b]);
            }
        }
    }
    Ok(measured)
}

fn read(
    record: &Record,
    signal: Signal,
    site: Option<Site>,
    run: usize,
    key: RowKey,
    row: &mut Row,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    row.values.clear();
    row.ids.clear();
    row.present = false;
    if signal == Signal::Logprobs {
        if let Some(candidates) = record.candidates(run, key)? {
            row.values.extend(candidates.log_probs.iter().map(|&value| f64::from(value)));
            row.ids = candidates.token_ids;
            row.present = true;
        }
        return Ok(());
    }
    let Some(site) = site else { return Ok(()) };
    let layout = record.layout(run, key.phase);
    let Some(tensor) = layout.and_then(|layout| layout.tensors.get(&site)) else { return Ok(()) };
    let dtype = tensor.dtype;
    if let Some(bytes) = record.row(run, site, key, scratch)? {
        let values = bytes.len() / dtype.size();
        row.values.extend((0..values).map(|index| f64::from(dtype.decode(bytes, index))));
        row.present = true;
    }
    Ok(())
}

impl Measured {
    fn take(&mut self, a: &Row, b: &Row) {
        if !a.present && !b.present {
            return;
        }
        if a.present != b.present || a.values.len() != b.values.len() {
            self.skipped += 1;
            return;
        }
        self.rows += 1;
        self.other_ids += a.ids.iter().zip(&b.ids).filter(|(a, b)| a != b).count() as u64;
        let distance = l2(&a.values, &b.values);
        // np.max keeps a NaN once there is one.
        if distance.is_nan() || distance > self.max {
            self.max = distance;
        }
    }
}
