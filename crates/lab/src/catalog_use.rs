//! What the passes of a run rest on, and catalogs in the words of evidence.

use mantissa_engine::catalogs::{CatalogId, CatalogUse};
use mantissa_engine::plan::PassShape;
use mantissa_engine::{Catalogs, Dispatch};
use mantissa_evidence::{CatalogBasis, UsedCatalog};
use mantissa_model::graph::Graph;
use mantissa_numerics::Setup;
use mantissa_numerics::setup::Basis;

use crate::error::LabError;

/// The recipes of `setup`, as far as `catalogs` know them.
pub(crate) const fn dispatch<'c>(setup: &Setup, catalogs: &'c Catalogs) -> Dispatch<'c> {
    let Setup { hardware, dtype, attention, .. } = *setup;
    Dispatch { hardware, dtype, attention, catalogs }
}

/// What a run of `setup` rests on: a prompt of `length` tokens, then `steps` decode steps.
pub(crate) fn of_run(
    setup: &Setup,
    catalogs: &Catalogs,
    graph: &Graph,
    length: usize,
    steps: usize,
) -> CatalogUse {
    let (dispatch, batch_size) = (dispatch(setup, catalogs), setup.batch_size);
    let mut found = dispatch.catalog_use(graph, PassShape::prefill(batch_size, length));
    for step in 1..=steps {
        found.join(dispatch.catalog_use(graph, PassShape::decode(batch_size, length + step)));
    }
    found
}

/// The catalogs of `found` as evidence states them.
pub(crate) fn used(found: &CatalogUse) -> Result<Vec<UsedCatalog>, LabError> {
    found.catalogs.iter().map(stated).collect()
}

/// Catalogs in words, within a sentence.
pub(crate) fn in_words(catalogs: &[UsedCatalog]) -> String {
    match catalogs {
        [] => "no catalog".to_owned(),
        some => some.iter().map(|used| format!("the {used}")).collect::<Vec<_>>().join(" and "),
    }
}

fn stated(id: &CatalogId) -> Result<UsedCatalog, LabError> {
    Ok(UsedCatalog {
        hardware: id.hardware.name().to_owned(),
        cublas: id.stack.cublas.clone(),
        basis: if id.basis == Basis::Verified { CatalogBasis::Verified } else { CatalogBasis::Measured },
        digest: id.digest.parse().map_err(|reason| LabError::Digest { reason })?,
    })
}
