//! The catalogs of a verification: those that its replays used, and those that the evidence used and nobody gave.
//!
//! A claim is about the library version that the evidence states: by recipes of another it is not replayed at all.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::Catalogs;
use mantissa_evidence::{CatalogBasis, Configuration, Experiment, UsedCatalog};
use mantissa_numerics::setup::SomeAxes;

use super::contested;
use super::grid;
use super::request::{Model, Request};
use crate::catalog_use;
use crate::error::LabError;
use crate::replay::{Claim, ReplayPlan};
use crate::uncovered::Unreadable;

/// What the configurations of `experiment` claim, with `claimed` in place of it. Where the user claims the hardware,
/// the library version is the one that is meant here.
pub(super) fn claims(
    experiment: &Experiment,
    claimed: &SomeAxes,
    model: Model<'_>,
    request: &Request<'_>,
) -> Result<Vec<Claim>, LabError> {
    let claim = |configuration: &Configuration| {
        let variable = &experiment.metadata.variable_tested;
        let mut claim = Claim::tested(configuration, variable, claimed, model.checkpoint);
        if let (Ok(setup), None) = (&claim.candidate, claimed.hardware)
            && let Some(meant) = request.catalogs.of(setup.hardware)
        {
            let meant = &meant.origin().cublas;
            let stated = configuration.mantissa.iter().flat_map(|extras| &extras.catalogs);
            let loaded = observed_cublas(configuration).filter(|loaded| !same_minor(loaded, meant));
            if let Some(loaded) = loaded {
                claim.candidate = Err(Unreadable {
                    what: format!(
                        "the evidence was made with cuBLAS {loaded}, and recipes of {meant} are meant here"
                    ),
                    remedy: "give a catalog of that version with --catalog FILE".to_owned(),
                });
                return claim;
            }
            let die = request.catalogs.of(setup.hardware).map(|known| &known.origin().active_clusters);
            if let (Some(found), Some(known)) = (observed_clusters(configuration), die)
                && !known.is_empty()
                && found != *known
            {
                let counts =
                    |counts: &[u32]| counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                claim.candidate = Err(Unreadable {
                    what: format!(
                        "the evidence was made on a die of clusters {}, and recipes of one of {} are meant here",
                        counts(&found),
                        counts(known)
                    ),
                    remedy: "give a catalog of that die with --catalog FILE".to_owned(),
                });
                return claim;
            }
            let mut other =
                stated.filter(|used| used.hardware == setup.hardware.name() && used.cublas != *meant);
            if let Some(used) = other.next() {
                claim.candidate = Err(Unreadable {
                    what: format!("the evidence used a {used}, and recipes of cuBLAS {meant} are meant here"),
                    remedy: format!(
                        "give that catalog with --catalog FILE, and --cublas {} beside others",
                        used.cublas
                    ),
                });
            }
        }
        claim
    };
    let mut claims: Vec<Claim> = experiment.configurations.iter().map(claim).collect();
    for claim in &mut claims {
        grid::settle(claim, request.claim, model.checkpoint)?;
    }
    contested::set_aside(request, experiment, &mut claims)?;
    Ok(claims)
}

/// The version of cuBLAS that a capture found loaded.
fn observed_cublas(configuration: &Configuration) -> Option<&str> {
    let observed = configuration.mantissa.as_ref()?.observed.as_ref()?;
    observed.versions.get("cublas").map(String::as_str)
}

/// The cluster counts of the first device that a capture found, where all are known.
fn observed_clusters(configuration: &Configuration) -> Option<Vec<u32>> {
    let observed = configuration.mantissa.as_ref()?.observed.as_ref()?;
    let counts = observed.devices.first()?.clusters.as_ref()?;
    counts.iter().map(|count| u32::try_from(*count).ok()).collect()
}

/// Whether two versions have the same major and minor number: within them the library's choices were the same.
fn same_minor(a: &str, b: &str) -> bool {
    let head = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    head(a) == head(b)
}

/// The catalogs that each candidate's recipes are from, by its name.
pub(super) fn used(plan: &ReplayPlan) -> Result<BTreeMap<String, Vec<UsedCatalog>>, LabError> {
    let candidates = plan.candidates.iter().zip(&plan.catalog_use);
    candidates.map(|(candidate, found)| Ok((candidate.to_string(), catalog_use::used(found)?))).collect()
}

/// A note about each catalog that the evidence states and that is not here. One that was part of Mantissa is of another
/// version of it.
pub(super) fn not_given(configurations: &[Configuration], catalogs: &Catalogs) -> Vec<String> {
    let here: BTreeSet<String> = catalogs.ids().map(|id| id.digest.clone()).collect();
    let stated =
        configurations.iter().filter_map(|c| c.mantissa.as_ref()).flat_map(|extras| &extras.catalogs);
    let missing: BTreeSet<&UsedCatalog> =
        stated.filter(|catalog| !here.contains(&catalog.digest.to_string())).collect();
    let note = |catalog: &UsedCatalog| match catalog.basis {
        CatalogBasis::Measured => {
            format!("The evidence used a {catalog}, which was not given; --catalog FILE gives it.")
        }
        CatalogBasis::Verified => format!(
            "The evidence used a {catalog}, of another version; the catalogs of this version were used instead."
        ),
    };
    missing.into_iter().map(note).collect()
}
