//! What hypotheses are tried on, and what a trial leaves.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::Engine;
use mantissa_model::Checkpoint;
use mantissa_numerics::Site;
use mantissa_verdict::drift::Spread;

use super::fed::Tamper;
use super::local::{LocalRows, deviations};
use super::prompt::Prompt;
use crate::error::LabError;

/// What is to be explained.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'t> {
    pub checkpoint: &'t Checkpoint,
    pub prompts: &'t [Prompt],
    pub side: usize,
    pub sites: &'t [Site],
    pub spreads: &'t BTreeMap<Site, Spread>,
    pub rows: &'t BTreeMap<Site, LocalRows>,
}

impl Trial<'_> {
    /// Blocks of the sites, counted from 0.
    pub(crate) fn layers(&self) -> BTreeSet<usize> {
        let numbers = self.sites.iter().filter_map(|site| site.layer);
        numbers.filter_map(|layer| usize::try_from(layer.0).ok()?.checked_sub(1)).collect()
    }
}

/// Squared deviations of a site's rows, by prompt and position.
pub(crate) type Deviations = BTreeMap<Site, BTreeMap<(usize, usize), f64>>;

/// What is left of the deviations when one thing is done otherwise.
pub(crate) struct Outcome {
    pub name: &'static str,
    pub detail: String,
    pub left: Deviations,
}

/// Recomputes all prompts and says what is left at the sites.
pub(crate) fn left(
    engine: &Engine<'_>,
    trial: &Trial<'_>,
    mut tamper: Option<&mut dyn Tamper>,
) -> Result<Deviations, LabError> {
    let mut found = Deviations::new();
    for (number, prompt) in trial.prompts.iter().enumerate() {
        let sheet = &prompt.sheets[trial.side];
        if let Some(tamper) = tamper.as_mut() {
            tamper.begin(sheet);
        }
        let again: Option<&mut dyn Tamper> = match tamper.as_mut() {
            Some(tamper) => Some(&mut **tamper),
            None => None,
        };
        let rows = deviations(engine, prompt.schedules[trial.side], sheet, again, trial.sites)?;
        for (site, rows) in rows {
            let known = found.entry(site).or_default();
            known.extend(rows.into_iter().map(|(position, squared)| ((number, position), squared)));
        }
    }
    Ok(found)
}
