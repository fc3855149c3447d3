//! What the passes of a run rest on, and catalogs in the words of evidence.

use mantissa_engine::catalogs::{CatalogId, CatalogUse};
use mantissa_engine::plan::PassShape;
use mantissa_engine::{Catalogs, Dispatch, EngineError, Ranks, Serving};
use mantissa_evidence::{CatalogBasis, UsedCatalog};
use mantissa_model::graph::Graph;
use mantissa_numerics::Setup;
use mantissa_numerics::setup::Basis;

use crate::error::LabError;

/// The program of `setup`, and its ranks.
pub(crate) const fn serving(setup: &Setup) -> Serving {
    let ranks = Ranks { tensor: setup.tp_size, expert: setup.ep_size, all_reduce: setup.all_reduce };
    Serving { program: setup.engine, ranks, linear_backend: setup.linear_backend, runner: setup.model_runner }
}

/// The recipes of `setup`, as far as `catalogs` know them.
pub(crate) const fn dispatch<'c>(setup: &Setup, catalogs: &'c Catalogs) -> Dispatch<'c> {
    let Setup { hardware, dtype, attention, quantization: quantized, .. } = *setup;
    Dispatch { hardware, dtype, attention, serving: serving(setup), quantized, catalogs }
}

/// What runs of a setup rest on, by their plans.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// What the passes rest on that recipes cover.
    pub(crate) found: CatalogUse,
    /// The first pass that they do not cover.
    pub(crate) refused: Option<EngineError>,
}

/// Plans runs of `setup`: each of a prompt of `length` tokens, then `steps` decode steps.
pub(crate) fn of_runs(
    setup: &Setup,
    catalogs: &Catalogs,
    graph: &Graph,
    runs: impl Iterator<Item = [usize; 2]>,
) -> Coverage {
    let mut coverage = Coverage { found: CatalogUse::new(setup.hardware), refused: None };
    for shape in runs.flat_map(|run| passes(setup, run)) {
        match dispatch(setup, catalogs).catalog_use(graph, shape) {
            Ok(found) => coverage.found.join(found),
            Err(error) => coverage.refused = coverage.refused.or(Some(error)),
        }
    }
    coverage
}

/// The passes of a run: a prompt of `length` tokens, then `steps` decode steps.
pub(crate) fn passes(setup: &Setup, [length, steps]: [usize; 2]) -> impl Iterator<Item = PassShape> {
    let (batch_size, padding) = (setup.batch_size, setup.padding.positions());
    let decode = (1..=steps).map(move |step| PassShape::decode(batch_size, length + step));
    let passes = std::iter::once(PassShape::prefill(batch_size, length)).chain(decode);
    passes.map(move |pass| pass.beside(padding))
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

fn stated((id, asked): (&CatalogId, &bool)) -> Result<UsedCatalog, LabError> {
    Ok(UsedCatalog {
        hardware: id.hardware.name().to_owned(),
        cublas: id.stack.cublas.clone(),
        basis: if id.basis == Basis::Verified { CatalogBasis::Verified } else { CatalogBasis::Measured },
        asked: *asked,
        digest: id.digest.parse().map_err(|reason| LabError::Digest { reason })?,
    })
}
