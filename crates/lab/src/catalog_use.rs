//! What the passes of a run rest on, and catalogs in the words of evidence.

use mantissa_engine::catalogs::{CatalogId, CatalogUse};
use mantissa_engine::plan::PassShape;
use mantissa_engine::{Catalogs, Dispatch, EngineError};
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

/// What a run of `setup` rests on. A pass that no recipe covers adds nothing; [`covered`] refuses it.
pub(crate) fn of_run(
    setup: &Setup,
    catalogs: &Catalogs,
    graph: &Graph,
    [length, steps]: [usize; 2],
) -> CatalogUse {
    let mut found = CatalogUse::new(setup.hardware);
    for shape in passes(setup, [length, steps]) {
        found.join(dispatch(setup, catalogs).catalog_use(graph, shape));
    }
    found
}

/// Whether recipes cover a run of `setup`.
///
/// *Errors:* the first pass that they do not.
pub(crate) fn covered(
    setup: &Setup,
    catalogs: &Catalogs,
    graph: &Graph,
    [length, steps]: [usize; 2],
) -> Result<(), EngineError> {
    passes(setup, [length, steps]).try_for_each(|shape| dispatch(setup, catalogs).check(graph, shape))
}

/// The passes of a run: a prompt of `length` tokens, then `steps` decode steps.
fn passes(setup: &Setup, [length, steps]: [usize; 2]) -> impl Iterator<Item = PassShape> {
    let batch_size = setup.batch_size;
    let decode = (1..=steps).map(move |step| PassShape::decode(batch_size, length + step));
    std::iter::once(PassShape::prefill(batch_size, length)).chain(decode)
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
