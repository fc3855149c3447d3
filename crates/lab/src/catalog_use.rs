//! What the passes of a run rest on, and catalogs in the words of evidence.

use mantissa_engine::Basis;
use mantissa_engine::Dispatch;
use mantissa_engine::catalogs::{CatalogId, CatalogUse};
use mantissa_engine::plan::PassShape;
use mantissa_evidence::{CatalogBasis, UsedCatalog};
use mantissa_model::graph::Graph;
use mantissa_numerics::Phase;

use crate::error::LabError;

/// What a run rests on: a prompt of `length` tokens, then `steps` decode steps.
pub(crate) fn of_run(
    dispatch: Dispatch<'_>,
    graph: &Graph,
    batch_size: usize,
    length: usize,
    steps: usize,
) -> CatalogUse {
    let prefill = PassShape { phase: Phase::Prefill, batch_size, positions: length, keys: length };
    let mut found = dispatch.catalog_use(graph, prefill);
    for step in 1..=steps {
        found.join(dispatch.catalog_use(graph, PassShape::decode(batch_size, length + step)));
    }
    found
}

/// The catalogs of `found` as evidence states them.
pub(crate) fn used(found: &CatalogUse) -> Result<Vec<UsedCatalog>, LabError> {
    found.catalogs.iter().map(stated).collect()
}

fn stated(id: &CatalogId) -> Result<UsedCatalog, LabError> {
    Ok(UsedCatalog {
        hardware: id.hardware.name().to_owned(),
        cublas: id.stack.cublas.clone(),
        basis: if id.basis == Basis::Verified { CatalogBasis::Verified } else { CatalogBasis::Measured },
        digest: id.digest.parse().map_err(|reason| LabError::Digest { reason })?,
    })
}
