//! The catalogs of a verification: those that its replays used, and those that the evidence used and nobody gave.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::Catalogs;
use mantissa_evidence::{Configuration, UsedCatalog};

use crate::catalog_use;
use crate::error::LabError;
use crate::replay::ReplayPlan;

/// The catalogs that each candidate's recipes are from, by its name.
pub(super) fn used(plan: &ReplayPlan) -> Result<BTreeMap<String, Vec<UsedCatalog>>, LabError> {
    let candidates = plan.candidates.iter().zip(&plan.catalog_use);
    candidates.map(|(candidate, found)| Ok((candidate.to_string(), catalog_use::used(found)?))).collect()
}

/// A note about each catalog that the evidence states and that is not here.
pub(super) fn not_given(configurations: &[Configuration], catalogs: &Catalogs) -> Vec<String> {
    let here: BTreeSet<String> = catalogs.ids().map(|id| id.digest.clone()).collect();
    let stated =
        configurations.iter().filter_map(|c| c.mantissa.as_ref()).flat_map(|extras| &extras.catalogs);
    let missing: BTreeSet<&UsedCatalog> =
        stated.filter(|catalog| !here.contains(&catalog.digest.to_string())).collect();
    let note =
        |catalog| format!("The evidence used a {catalog}, which was not given; --catalog FILE gives it.");
    missing.into_iter().map(note).collect()
}
