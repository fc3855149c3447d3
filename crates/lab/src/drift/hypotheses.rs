//! What else the other program may have done: each hypothesis is tried, and kept where the difference then vanishes or
//! is no more than rounding.
//!
//! A trial recomputes every row from what was recorded with one thing done otherwise: a graph with another number in
//! it ([`edits`]), attention over other keys ([`attention`]), a product with another weight ([`weights`]), arithmetic
//! with other roundings ([`casts`], [`fused`]); or it looks for a recorded row among rows of other layers, heads,
//! positions and tokens ([`rows`]). Since every node reads recorded rows, one trial tries all layers at once. No size
//! of a difference names a hypothesis.

mod attention;
mod casts;
mod edits;
mod fused;
mod rows;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::Engine;
use mantissa_numerics::Site;
use mantissa_verdict::drift::{DriftAnswer, Hypothesis};

use super::trial::{Outcome, Trial};
use crate::error::LabError;

/// Hypotheses that explain a site, best first, and the names of all that were tried.
pub(crate) fn hypotheses(
    engine: &mut Engine<'_>,
    trial: &Trial<'_>,
    progress: &dyn Fn(&str, u64),
) -> Result<(Vec<Hypothesis>, Vec<String>), LabError> {
    let mut found: Vec<Hypothesis> = Vec::new();
    let mut tried: BTreeSet<&'static str> = BTreeSet::new();
    let mut count = 0;
    let mut keep = |outcome: Outcome| {
        tried.insert(outcome.name);
        for (site, left) in &outcome.left {
            found.extend(judged(trial, &outcome, *site, left));
        }
        count += 1;
        progress("hypotheses", count);
    };
    rows::outcomes(engine, trial, &mut keep)?;
    edits::outcomes(engine, trial, &mut keep)?;
    attention::outcomes(engine, trial, &mut keep)?;
    weights::outcomes(engine, trial, &mut keep)?;
    casts::outcomes(engine, trial, &mut keep)?;
    fused::outcomes(engine, trial, &mut keep)?;
    found.sort_by(|a, b| {
        let site = |one: &Hypothesis| Site { layer: one.layer, point: one.point };
        site(a).cmp(&site(b)).then(a.deviation.total_cmp(&b.deviation)).then(a.name.cmp(&b.name))
    });
    // A hypothesis of several settings is named once, by the best of them.
    let mut named: BTreeSet<(Site, String)> = BTreeSet::new();
    found.retain(|one| named.insert((Site { layer: one.layer, point: one.point }, one.name.clone())));
    Ok((found, tried.into_iter().map(str::to_owned).collect()))
}

/// A hypothesis about a site, if it explains every row of it.
fn judged(
    trial: &Trial<'_>,
    outcome: &Outcome,
    site: Site,
    left: &BTreeMap<(usize, usize), f64>,
) -> Option<Hypothesis> {
    let (known, spread) = (trial.rows.get(&site)?, trial.spreads.get(&site)?);
    // Rows that cannot be recomputed were never judged.
    let rows: Vec<f64> =
        left.iter().filter(|(key, _)| known.contains_key(key)).map(|(_, row)| *row).collect();
    if rows.len() < known.len() {
        return None;
    }
    let whole = rows.iter().sum::<f64>().sqrt();
    let largest = rows.iter().copied().fold(0.0, f64::max).sqrt();
    let inside = |whole: f64, largest: f64| whole <= spread.site && largest <= spread.rows;
    let before = known.values().map(|row| row.squared).sum::<f64>().sqrt();
    let largest_before = known.values().map(|row| row.squared).fold(0.0, f64::max).sqrt();
    // What only the bound contradicts is explained by nothing but equal bits.
    let explains = if inside(before, largest_before) { whole == 0.0 } else { inside(whole, largest) };
    (explains && whole < before).then(|| Hypothesis {
        name: outcome.name.to_owned(),
        layer: site.layer,
        point: site.point,
        detail: outcome.detail.clone(),
        answer: if whole == 0.0 { DriftAnswer::Equal } else { DriftAnswer::WithinRounding },
        deviation: whole,
    })
}
