//! Which recorded rows can be recomputed from other recorded rows, and what the others lack.
//!
//! The graph is walked forward: a node's row is known where it was recorded, or where all rows that it reads are.
//! Attention reads the keys and values of every position that its query sees. Nothing is computed across the border
//! of a block: its input has to be recorded, at one of the two sites that are the same rows.

use std::collections::BTreeMap;

use mantissa_engine::SectionId;
use mantissa_model::graph::{Graph, Operation, Section};
use mantissa_numerics::{LayerIdx, Point, Site};

use super::sheet::Sheet;

/// What can be recomputed of a site.
#[derive(Debug, Clone, Default)]
pub(crate) struct Localized {
    /// Of each position, whether its row can be recomputed.
    pub rows: Vec<bool>,
    /// Sites that would have to be recorded for those that cannot.
    pub lacks: Vec<Site>,
    /// Whether these are needed at all earlier positions.
    pub earlier: bool,
    /// Sites that it is recomputed from.
    pub inputs: Vec<Site>,
}

/// The sections of a graph in the order of a pass.
pub(crate) fn sections(graph: &Graph) -> impl Iterator<Item = (SectionId, &Section)> {
    let blocks =
        (0..graph.blocks.len()).filter_map(|layer| Some((SectionId::Block(layer), graph.block(layer)?)));
    let stem = std::iter::once((SectionId::Stem, &graph.stem));
    stem.chain(blocks).chain(std::iter::once((SectionId::Head, &graph.head)))
}

/// The site of a point in a section.
pub(crate) fn site(section: SectionId, point: Point) -> Site {
    let layer = match section {
        SectionId::Block(layer) => u32::try_from(layer + 1).ok().map(LayerIdx),
        SectionId::Stem | SectionId::Head => None,
    };
    Site { layer, point }
}

/// The site that holds the rows which go into a section, where its own input has none.
pub(crate) fn before(graph: &Graph, section: SectionId) -> Option<Site> {
    match section {
        SectionId::Stem => None,
        SectionId::Block(0) => Some(Site::outside(Point::EmbedOut)),
        SectionId::Block(layer) => Some(site(SectionId::Block(layer - 1), Point::XOut)),
        SectionId::Head => Some(site(SectionId::Block(graph.blocks.len().checked_sub(1)?), Point::XOut)),
    }
}

/// Of each site of the graph that `sheet` has rows of, what can be recomputed.
pub(crate) fn localized(graph: &Graph, sheet: &Sheet) -> BTreeMap<Site, Localized> {
    let mut found = BTreeMap::new();
    for (section, nodes) in sections(graph) {
        walk(graph, section, nodes, sheet, &mut found);
    }
    found
}

fn walk(
    graph: &Graph,
    section: SectionId,
    nodes: &Section,
    sheet: &Sheet,
    found: &mut BTreeMap<Site, Localized>,
) {
    let positions = sheet.ids.len();
    let recorded = |site: Site| -> Vec<bool> {
        let column = sheet.columns.get(&site);
        (0..positions).map(|position| column.is_some_and(|column| column.has(position))).collect()
    };
    // Of each node: where its rows are known, and the recorded sites that they come from.
    let mut known: Vec<(Vec<bool>, Vec<Site>)> = Vec::with_capacity(nodes.nodes.len());
    for node in &nodes.nodes {
        let own = node.site.map(|point| site(section, point));
        let (mut computed, mut sources) = (vec![true; positions], Vec::new());
        match &node.operation {
            // Tokens are always known.
            Operation::Embedding { .. } => {}
            Operation::Input => {
                let before = before(graph, section);
                computed = before.map_or_else(|| vec![false; positions], recorded);
                sources.extend(before);
            }
            operation => {
                let earlier = matches!(operation, Operation::Attention(_) | Operation::Expand(_));
                for (place, input) in node.inputs.iter().enumerate() {
                    let (rows, of) = &known[*input];
                    sources.extend(of.iter().copied());
                    let all = earlier && (place > 0 || matches!(operation, Operation::Expand(_)));
                    let window = match operation {
                        Operation::Attention(attention) => attention.window.unwrap_or(positions),
                        _ => positions,
                    };
                    for (position, computed) in computed.iter_mut().enumerate() {
                        let seen = if all {
                            (position + 1).saturating_sub(window)..position + 1
                        } else {
                            position..position + 1
                        };
                        *computed &= rows[seen].iter().all(|row| *row);
                    }
                }
            }
        }
        sources.sort_unstable();
        sources.dedup();
        let Some(own) = own else {
            known.push((computed, sources));
            continue;
        };
        let here = recorded(own);
        if here.iter().any(|row| *row) {
            let lacking = here.iter().zip(&computed).any(|(here, computed)| *here && !computed);
            let incomplete = |site: &Site| {
                let rows = recorded(*site);
                (0..positions).any(|position| !rows[position])
            };
            let lacks =
                if lacking { sources.iter().copied().filter(incomplete).collect() } else { Vec::new() };
            let earlier = nodes_before_are_attention(nodes, node.inputs.as_slice());
            found.insert(own, Localized { rows: computed.clone(), lacks, earlier, inputs: sources.clone() });
        }
        let rows = here.iter().zip(&computed).map(|(here, computed)| *here || *computed).collect();
        // What is recorded is where the next is computed from.
        known.push((rows, vec![own]));
    }
}

/// Whether attention lies between the inputs and the sites they come from.
fn nodes_before_are_attention(nodes: &Section, inputs: &[usize]) -> bool {
    inputs.iter().any(|input| {
        let node = &nodes.nodes[*input];
        matches!(node.operation, Operation::Attention(_))
            || (node.site.is_none() && nodes_before_are_attention(nodes, &node.inputs))
    })
}
