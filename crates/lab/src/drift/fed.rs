//! A pass in which every node reads what another program recorded: what each site would be, computed from the other's
//! own inputs.

use mantissa_engine::{Engine, Forced, Leaving, NoTap, Perturbation, SectionId};
use mantissa_model::graph::Graph;
use mantissa_numerics::recipe::ObservedKernel;
use mantissa_numerics::setup::Padding;
use mantissa_numerics::{Point, Site};

use super::known::{before, site};
use super::request::PrefillPasses;
use super::sheet::Sheet;
use crate::column::Column;
use crate::error::LabError;

/// How the tokens of a sheet are fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Tokens of the prefill; the others are decode steps.
    pub prompt: usize,
    /// Sequences of each pass.
    pub batch_size: usize,
    /// Padding of the sequence.
    pub padding: Padding,
    /// Passes of the prefill.
    pub prefill: PrefillPasses,
}

/// Changes what nodes leave: a hypothesis under trial.
pub(crate) trait Tamper {
    /// The rows that the next pass is fed.
    fn begin(&mut self, _sheet: &Sheet) {}
    fn wants(&self, section: SectionId, node: usize) -> bool;
    /// Changes the values in place.
    fn change(&mut self, leaving: &mut Leaving<'_>);
    /// Sees what later nodes read.
    fn see(&mut self, _leaving: &Leaving<'_>) {}
}

/// Keeps what nodes with a site leave, and puts recorded rows in their place.
struct Feed<'f, 't> {
    graph: &'f Graph,
    sheet: &'f Sheet,
    computed: Sheet,
    tamper: Option<&'t mut (dyn Tamper + 't)>,
}

impl Feed<'_, '_> {
    /// The sites whose rows a node leaves: its own, and for the first of a section the one that ended the last.
    fn sites(&self, section: SectionId, node: usize) -> [Option<Site>; 2] {
        let nodes = match section {
            SectionId::Stem => Some(&self.graph.stem),
            SectionId::Block(layer) => self.graph.block(layer),
            SectionId::Head => Some(&self.graph.head),
        };
        let own = nodes.and_then(|nodes| nodes.nodes.get(node)?.site).map(|point| site(section, point));
        [own, if node == 0 && section != SectionId::Stem { before(self.graph, section) } else { None }]
    }
}

impl Perturbation for Feed<'_, '_> {
    fn wants(&self, section: SectionId, node: usize) -> bool {
        let fed = self.sites(section, node).into_iter().flatten();
        let tampered = self.tamper.as_ref().is_some_and(|tamper| tamper.wants(section, node));
        tampered || fed.into_iter().any(|site| self.sheet.columns.contains_key(&site))
    }

    fn perturb(&mut self, mut leaving: Leaving<'_>) -> bool {
        let mut changed = false;
        if let Some(tamper) = &mut self.tamper
            && tamper.wants(leaving.section, leaving.node)
        {
            tamper.change(&mut leaving);
            changed = true;
        }
        let [own, before] = self.sites(leaving.section, leaving.node);
        let width = leaving.data.len() / leaving.rows.len().max(1);
        for (row, data) in leaving.rows.iter().zip(leaving.data.chunks_exact_mut(width.max(1))) {
            // What came in is what the section before left.
            if let Some(known) = before.and_then(|site| self.sheet.row(site, row.position)) {
                data.copy_from_slice(known);
                changed = true;
            }
            let Some(column) = own.and_then(|site| self.sheet.columns.get(&site)) else { continue };
            if let Some(known) = column.row(row.position).filter(|known| known.len() == data.len()) {
                for x in &mut *data {
                    *x = column.dtype.round(*x);
                }
                let positions = self.sheet.ids.len();
                let new = || Column::new(column.dtype, column.width, positions);
                if let Some(own) = own {
                    self.computed.columns.entry(own).or_insert_with(new).put(row.position, data);
                }
                data.copy_from_slice(known);
                changed = true;
            }
        }
        if let Some(tamper) = &mut self.tamper
            && tamper.wants(leaving.section, leaving.node)
        {
            tamper.see(&leaving);
        }
        changed
    }
}

/// What each recorded row would be, computed by `engine` from the rows of `sheet` that it is computed from, and the
/// kernels of the decode steps.
///
/// *Errors:* a shape that no verified recipe covers, a token outside the vocabulary.
pub(crate) fn recomputed(
    engine: &Engine<'_>,
    schedule: Schedule,
    sheet: &Sheet,
    tamper: Option<&mut dyn Tamper>,
) -> Result<(Sheet, Vec<ObservedKernel>), LabError> {
    let graph = engine.graph().clone();
    let computed = Sheet::new(sheet.ids.clone(), sheet.prompt);
    let mut feed = Feed { graph: &graph, sheet, computed, tamper };
    let steps = run(engine, schedule, &sheet.ids, kept(sheet), &mut feed)?;
    Ok((feed.computed, steps))
}

/// Positions from the end whose logits are computed.
pub(crate) fn kept(sheet: &Sheet) -> usize {
    let first = |point| {
        let column = sheet.columns.get(&Site::outside(point))?;
        let mut positions = column.positions();
        positions.next()
    };
    let first = [Point::FinalNorm, Point::Logits].into_iter().filter_map(first).min();
    first.map_or(1, |first| sheet.ids.len() - first)
}

/// Feeds `ids` as `schedule` says; logits are computed of the last `kept` positions. Returns the kernels of the decode
/// steps; those of the prefill the engine keeps.
pub(crate) fn run(
    engine: &Engine<'_>,
    schedule: Schedule,
    ids: &[u32],
    kept: usize,
    perturbation: &mut dyn Perturbation,
) -> Result<Vec<ObservedKernel>, LabError> {
    let prompt = schedule.prompt.clamp(1, ids.len().max(1)).min(ids.len());
    let (mut first, rest) = ids.split_at(prompt);
    let mut cache = engine.padded_cache(ids.len() + 1, schedule.padding, prompt);
    let keep = kept.saturating_sub(rest.len()).clamp(1, prompt.max(1));
    while !first.is_empty() {
        let (pass, later) = first.split_at(schedule.prefill.next(prompt - first.len(), first.len()));
        // Of the last `keep` tokens of the prompt, those of this pass.
        let keep = keep.saturating_sub(later.len()).min(pass.len());
        engine.perturbed_prefill(&mut cache, pass, schedule.batch_size, keep, &mut NoTap, perturbation)?;
        first = later;
    }
    if !rest.is_empty() {
        let forced = Forced { tokens: rest, batch_size: schedule.batch_size };
        let steps = engine.perturbed_forced(&mut [cache], &[forced], &mut NoTap, perturbation)?;
        return Ok(steps.observed.concat());
    }
    Ok(Vec::new())
}
