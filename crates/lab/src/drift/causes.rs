//! Which nodes two recipes compute otherwise, from the same inputs.
//!
//! The second side's passes are run with what the first side's nodes left: each node then shows by itself whether its
//! recipe has an effect. What both leave of the same inputs is the same recipe's, or another's without effect.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_engine::{Engine, Leaving, Perturbation, SectionId};
use mantissa_numerics::LayerIdx;
use mantissa_numerics::recipe::ObservedKernel;
use mantissa_verdict::drift::Cause;

use super::fed::run;
use super::known::sections;
use super::prompt::Prompt;
use crate::error::LabError;

/// Blocks whose values are held at once: all of them take too much memory for long prompts.
const HELD: usize = 512 << 20;

type NodeId = (SectionId, usize);

/// What nodes of some sections left, by position.
struct Held<'h> {
    wanted: &'h dyn Fn(SectionId) -> bool,
    rows: BTreeMap<NodeId, BTreeMap<usize, Vec<f32>>>,
}

impl Perturbation for Held<'_> {
    fn wants(&self, section: SectionId, _node: usize) -> bool {
        (self.wanted)(section)
    }

    fn perturb(&mut self, leaving: Leaving<'_>) -> bool {
        let width = leaving.data.len() / leaving.rows.len().max(1);
        let known = self.rows.entry((leaving.section, leaving.node)).or_default();
        for (row, data) in leaving.rows.iter().zip(leaving.data.chunks_exact(width.max(1))) {
            known.insert(row.position, data.to_vec());
        }
        false
    }
}

/// Hands those values over, and notes which rows a node would have left otherwise.
struct Beside<'h> {
    held: &'h Held<'h>,
    /// Rows that are compared.
    positions: &'h BTreeSet<usize>,
    differing: BTreeMap<NodeId, u64>,
}

impl Perturbation for Beside<'_> {
    fn wants(&self, section: SectionId, node: usize) -> bool {
        self.held.rows.contains_key(&(section, node))
    }

    fn perturb(&mut self, leaving: Leaving<'_>) -> bool {
        let id = (leaving.section, leaving.node);
        let Some(known) = self.held.rows.get(&id) else { return false };
        let width = leaving.data.len() / leaving.rows.len().max(1);
        let mut changed = false;
        for (row, data) in leaving.rows.iter().zip(leaving.data.chunks_exact_mut(width.max(1))) {
            let Some(known) = known.get(&row.position) else { continue };
            let differs = known.iter().zip(data.iter()).any(|(a, b)| a.to_bits() != b.to_bits());
            if differs && leaving.node > 0 && self.positions.contains(&row.position) {
                *self.differing.entry(id).or_default() += 1;
            }
            data.copy_from_slice(known);
            changed = true;
        }
        changed
    }
}

/// The nodes that the second engine computes otherwise than the first, over all prompts.
pub(crate) fn causes(
    prompts: &[Prompt],
    engines: [&Engine<'_>; 2],
    progress: &dyn Fn(&str, u64),
) -> Result<Vec<Cause>, LabError> {
    let graph = engines[0].graph();
    let all: Vec<(SectionId, usize)> = sections(graph)
        .map(|(section, nodes)| (section, nodes.nodes.iter().map(|node| node.width).sum::<usize>() * 4))
        .collect();
    let mut differing: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut ran: [Vec<ObservedKernel>; 2] = [Vec::new(), Vec::new()];
    for prompt in prompts {
        let [a, b] =
            [0, 1].map(|side| &prompt.sheets[side].ids[..prompt.tokens.min(prompt.sheets[side].ids.len())]);
        let positions: BTreeSet<usize> =
            (0..prompt.tokens).filter(|position| is_compared(prompt, *position)).collect();
        let mut next = 0;
        while next < all.len() {
            let mut bytes = 0;
            let first = next;
            while next < all.len() && (next == first || bytes + all[next].1 * a.len() <= HELD) {
                bytes += all[next].1 * a.len();
                next += 1;
            }
            let part: BTreeSet<SectionId> = all[first..next].iter().map(|(section, _)| *section).collect();
            let wanted = |section: SectionId| part.contains(&section);
            let mut held = Held { wanted: &wanted, rows: BTreeMap::new() };
            engines[0].take_observed();
            let steps = run(engines[0], prompt.schedules[0], a, a.len(), &mut held)?;
            note(&mut ran[0], engines[0], steps);
            let mut beside = Beside { held: &held, positions: &positions, differing: BTreeMap::new() };
            engines[1].take_observed();
            let steps = run(engines[1], prompt.schedules[1], b, b.len(), &mut beside)?;
            note(&mut ran[1], engines[1], steps);
            for (id, rows) in beside.differing {
                *differing.entry(id).or_default() += rows;
            }
            progress("causes", next as u64);
        }
    }
    let mut found: BTreeMap<&'static str, (BTreeSet<usize>, u64)> = BTreeMap::new();
    for ((section, node), rows) in differing {
        let nodes = sections(graph).find(|(id, _)| *id == section).map(|(_, nodes)| nodes);
        let Some(node) = nodes.and_then(|nodes| nodes.nodes.get(node)).filter(|node| !node.name.is_empty())
        else {
            continue;
        };
        let (layers, all) = found.entry(node.name).or_default();
        if let SectionId::Block(layer) = section {
            layers.insert(layer + 1);
        }
        *all += rows;
    }
    let causes = found.into_iter().map(|(node, (layers, rows))| {
        let phases = prompts.first().map(last_phases);
        let kernels = [0, 1].map(|side| kernel(&ran[side], node, phases.map(|phases| phases[side])));
        let [a, b] = recipes(otherwise(&ran, node, kernels).map_or(kernels, |found| found.map(Some)));
        let layers: Vec<LayerIdx> =
            layers.into_iter().filter_map(|layer| u32::try_from(layer).ok().map(LayerIdx)).collect();
        Cause { node: node.to_owned(), layers, rows, a, b }
    });
    Ok(causes.collect())
}

/// Whether both sides have rows of a position.
fn is_compared(prompt: &Prompt, position: usize) -> bool {
    let sites = prompt.sheets[0].columns.keys();
    sites.into_iter().any(|site| {
        prompt.sheets.iter().all(|sheet| sheet.columns.get(site).is_some_and(|column| column.has(position)))
    })
}

/// The pass of each side that computed the last token.
fn last_phases(prompt: &Prompt) -> [mantissa_numerics::Phase; 2] {
    [0, 1].map(|side| {
        let origins = &prompt.sheets[side].origins;
        let place = prompt.tokens.min(origins.len()).saturating_sub(1);
        origins.get(place).map_or(mantissa_numerics::Phase::Prefill, |origin| origin.phase)
    })
}

fn note(known: &mut Vec<ObservedKernel>, engine: &Engine<'_>, steps: Vec<ObservedKernel>) {
    for kernel in engine.take_observed().into_iter().chain(steps) {
        if !known.contains(&kernel) {
            known.push(kernel);
        }
    }
}

/// What computed a node: in a phase, if there is such a kernel.
fn kernel<'r>(
    ran: &'r [ObservedKernel],
    node: &str,
    phase: Option<mantissa_numerics::Phase>,
) -> Option<&'r ObservedKernel> {
    let mut of_node = ran.iter().rev().filter(|kernel| kernel.op == node);
    let found = of_node.clone().find(|kernel| phase.is_none_or(|phase| kernel.phase == phase));
    found.or_else(|| of_node.next())
}

/// Two recipes of a node that differ, where those of the passes of the last token do not: of the passes before.
fn otherwise<'r>(
    ran: &'r [Vec<ObservedKernel>; 2],
    node: &str,
    found: [Option<&ObservedKernel>; 2],
) -> Option<[&'r ObservedKernel; 2]> {
    if found[0]?.recipe != found[1]?.recipe {
        return None;
    }
    let of = |side: usize| ran[side].iter().filter(|kernel| kernel.op == node);
    let differs = |a: &ObservedKernel, b: &ObservedKernel| a.phase == b.phase && a.recipe != b.recipe;
    of(0).find_map(|a| of(1).find(|b| differs(a, b)).map(|b| [a, b]))
}

/// How a node was computed on each side, in words: the fields of the two recipes that are not the same.
fn recipes(kernels: [Option<&ObservedKernel>; 2]) -> [String; 2] {
    let fields = kernels.map(|kernel| {
        let mut all = Vec::new();
        fields("", &serde_json::to_value(kernel.map(|kernel| kernel.recipe)).unwrap_or_default(), &mut all);
        all
    });
    [0, 1].map(|side| {
        let Some(kernel) = kernels[side] else { return "a recipe that was not noted".to_owned() };
        let own = fields[side].iter().filter(|field| !fields[1 - side].contains(field));
        let rest: Vec<&str> = own.map(String::as_str).collect();
        let rest = if rest.is_empty() { "by the same recipe".to_owned() } else { rest.join(", ") };
        format!("{} of {} rows, {rest}", kernel.phase.name(), kernel.m)
    })
}

/// The fields of a recipe: `order lane_chains`, `lanes 16`, `scores parts 4`.
fn fields(path: &str, json: &serde_json::Value, all: &mut Vec<String>) {
    let serde_json::Value::Object(members) = json else { return };
    for (key, value) in members.iter().filter(|(key, value)| key.as_str() != "kernel" && !value.is_null()) {
        let name = if path.is_empty() { key.clone() } else { format!("{path} {key}") };
        match value {
            serde_json::Value::Object(_) => fields(&name, value, all),
            serde_json::Value::String(text) => all.push(format!("{name} {text}")),
            other => all.push(format!("{name} {other}")),
        }
    }
}
