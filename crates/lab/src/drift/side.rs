//! One side, ready: its rows, its setup, and the engine that recomputes it.

use std::borrow::Cow;

use mantissa_engine::{Engine, EngineError, Leaving, Perturbation, SectionId};
use mantissa_evidence::Record;
use mantissa_model::Checkpoint;
use mantissa_model::graph::Graph;
use mantissa_numerics::{Dtype, Setup, Site};

use super::fault::DriftFault;
use super::fed::{Schedule, run};
use super::given::Given;
use super::known::{sections, site};
use super::request::{Computed, PrefillPasses, Request, Side};
use super::sheet::Sheet;
use crate::column::Column;
use crate::declared;
use crate::error::LabError;

/// The one configuration of a record that is meant.
///
/// *Errors:* several and none named, or none of that name.
///
/// Example: [`super::traced`].
pub fn configuration(record: &Record, wanted: Option<&str>) -> Result<String, LabError> {
    let file = record.origin().display().to_string();
    let names: Vec<String> =
        record.shell().configurations.iter().map(|configuration| configuration.config_id.clone()).collect();
    match (wanted, names.as_slice()) {
        (Some(wanted), names) if names.iter().any(|name| name == wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => {
            Err(DriftFault::NoConfiguration { file, wanted: wanted.to_owned(), names }.into())
        }
        (None, [one]) => Ok(one.clone()),
        (None, _) => Err(DriftFault::WhichConfiguration { file, count: names.len(), names }.into()),
    }
}

/// The setup of a given side as far as there are recipes for it.
pub(crate) fn stated(given: &Given<'_>, checkpoint: &Checkpoint) -> Option<Setup> {
    let found = given.configuration()?;
    declared::setup(&found, given.tested(), given.claimed, checkpoint).ok()
}

/// The storage format of a sheet: the one that is not binary32, if there is one.
pub(crate) fn dtype(sheet: &Sheet) -> Dtype {
    let narrow = sheet.columns.values().map(|column| column.dtype).find(|dtype| *dtype != Dtype::F32);
    narrow.unwrap_or(Dtype::F32)
}

/// An engine for `setup` and sequences of up to `tokens`.
pub(crate) fn engine<'c>(
    request: &Request<'c>,
    checkpoint: &'c Checkpoint,
    setup: &Setup,
    tokens: usize,
) -> Result<Engine<'c>, EngineError> {
    // A few more, for hypotheses about positions.
    let setup = request.machine.engine(setup, tokens + 8, request.catalogs);
    Engine::load(checkpoint, setup)
}

/// Keeps what every node with a site leaves.
struct Keeping<'k> {
    graph: &'k Graph,
    wanted: &'k dyn Fn(Site, usize) -> bool,
    sheet: Sheet,
}

impl Keeping<'_> {
    fn site(&self, section: SectionId, node: usize) -> Option<Site> {
        let nodes = sections(self.graph).find(|(id, _)| *id == section)?.1;
        nodes.nodes.get(node)?.site.map(|point| site(section, point))
    }
}

impl Perturbation for Keeping<'_> {
    fn wants(&self, section: SectionId, node: usize) -> bool {
        self.site(section, node).is_some()
    }

    fn perturb(&mut self, leaving: Leaving<'_>) -> bool {
        let Some(site) = self.site(leaving.section, leaving.node) else { return false };
        let width = leaving.data.len() / leaving.rows.len().max(1);
        let positions = self.sheet.ids.len();
        for (row, data) in leaving.rows.iter().zip(leaving.data.chunks_exact(width.max(1))) {
            if (self.wanted)(site, row.position) {
                let new = || Column::new(leaving.dtype, width, positions);
                self.sheet.columns.entry(site).or_insert_with(new).put(row.position, data);
            }
        }
        false
    }
}

/// What `engine` computes for `ids`, at the sites and positions that `wanted` names.
pub(crate) fn computed(
    engine: &Engine<'_>,
    schedule: Schedule,
    ids: &[u32],
    kept: usize,
    wanted: &dyn Fn(Site, usize) -> bool,
) -> Result<Sheet, LabError> {
    let sheet = Sheet::new(ids.to_vec(), schedule.prompt);
    let mut keeping = Keeping { graph: engine.graph(), wanted, sheet };
    run(engine, schedule, ids, kept, &mut keeping)?;
    Ok(keeping.sheet)
}

/// What a side is called.
pub(crate) fn name(side: &Side<'_>) -> Cow<'static, str> {
    match side {
        Side::Recorded { record, .. } => record.origin().display().to_string().into(),
        Side::Traced { path, .. } => path.display().to_string().into(),
        Side::Computed(Computed { setup, decoded, prefill, .. }) => {
            let passes = match prefill {
                PrefillPasses::Whole => String::new(),
                PrefillPasses::Chunks(tokens) => format!(" in chunks of {tokens}"),
                PrefillPasses::Cached(tokens) => format!(" behind a cached prefix of {tokens}"),
            };
            match (decoded, prefill) {
                (0, _) => format!("computed: {setup}, prefill{passes}"),
                (decoded, PrefillPasses::Whole) => {
                    format!("computed: {setup}, {decoded} of the tokens decoded")
                }
                (decoded, _) => {
                    format!("computed: {setup}, prefill{passes}, {decoded} of the tokens decoded")
                }
            }
            .into()
        }
    }
}
