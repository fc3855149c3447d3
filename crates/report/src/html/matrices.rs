//! Matrices on one scale, and maps of layers by tokens.

use mantissa_verdict::analysis::{Matrix, State};

use super::heat::{Heat, HeatCell, HeatRow, Paint, Panel};
use super::limits::{CELLS, Cut};
use super::parts::{Block, worth_a_panel};
use super::scale::Scale;
use crate::grid;
use crate::short::Short;
use crate::words;

/// Matrices on one scale, those of single prompts small beside their average. What is alike everywhere is only named.
pub(super) fn matrices(matrices: &[Matrix]) -> Vec<Block<'_>> {
    let all = matrices.iter().flat_map(|matrix| matrix.cells.iter().flatten());
    let scale = Scale::of(all.filter(|cell| cell.state == State::Different).filter_map(|cell| cell.value));
    let mut blocks = vec![Block::Key(scale)];
    let mut alike: Vec<String> = Vec::new();
    let (mut cells, mut shown) = (0, 0);
    let mut rest = matrices;
    while let [first, ..] = rest {
        let same = |other: &&Matrix| {
            (other.kind, other.phase, other.signal) == (first.kind, first.phase, first.signal)
                && (&other.rows, &other.columns) == (&first.rows, &first.columns)
        };
        let count = rest.iter().take_while(same).count();
        let (group, after) = rest.split_at(count);
        rest = after;
        // As many as there is room for.
        let each = (first.rows.len() * first.columns.len()).max(1);
        let group = &group[..count.min((CELLS - cells) / each)];
        if group.is_empty() {
            continue;
        }
        cells += each * group.len();
        shown += group.len();
        let paints = |matrix: &Matrix| -> Vec<Vec<Paint>> {
            matrix
                .cells
                .iter()
                .map(|row| row.iter().map(|cell| paint(cell.state, cell.value, scale)).collect())
                .collect()
        };
        let (pictured, flat): (Vec<&Matrix>, Vec<&Matrix>) =
            group.iter().partition(|matrix| worth_a_panel(paints(matrix).iter().flatten()));
        alike.extend(flat.into_iter().map(grid::matrix_name));
        if pictured.is_empty() {
            continue;
        }
        let (single, average): (Vec<&Matrix>, Vec<&Matrix>) =
            pictured.into_iter().partition(|matrix| matrix.reference.is_some() && group.len() > 1);
        // Where there is no average, the first stands for the others: small ones have no labels.
        let large = if average.is_empty() { single.iter().take(1).copied().collect() } else { average };
        for matrix in large {
            blocks.push(Block::Heat(heat(matrix, scale)));
        }
        if !single.is_empty() {
            let panels = single.iter().map(|matrix| Panel {
                caption: matrix.reference.as_deref().map_or_else(String::new, grid::reference_name),
                description: described(matrix),
                cells: paints(matrix),
            });
            let caption = format!("{}, prompt by prompt", words::lane_name(first.phase, first.signal));
            blocks.push(Block::Panels { caption, panels: panels.collect() });
        }
        let summary = if group.len() == 1 {
            "Values and their places".to_owned()
        } else {
            format!("Values of {} matrices and their places", group.len())
        };
        let values = group.iter().map(|matrix| Block::Grid(grid::matrix(matrix, 6))).collect();
        blocks.push(Block::Folded { summary, blocks: values });
    }
    if !alike.is_empty() {
        blocks.push(Block::Text(format!(
            "Without a picture, because no compared bit differs or nothing was compared: {}.",
            alike.join(" · ")
        )));
    }
    blocks.extend(Cut::of("matrices", shown, matrices.len()).map(Block::Cut));
    if matrices.is_empty() { Vec::new() } else { blocks }
}

pub(super) fn paint(state: State, value: Option<f64>, scale: Option<Scale>) -> Paint {
    match (state, value) {
        (State::Different, Some(value)) => Paint::of(scale, value),
        (State::Different, None) => Paint::Unknown,
        (State::Equal, _) => Paint::Equal,
        (State::Missing, _) => Paint::Missing,
        (State::Incomparable, _) => Paint::Incomparable,
    }
}

fn heat(matrix: &Matrix, scale: Option<Scale>) -> Heat {
    let names: Vec<&str> = matrix.rows.iter().chain(&matrix.columns).map(String::as_str).collect();
    let short = Short::of(&names);
    let rows = matrix.rows.iter().zip(&matrix.cells).map(|(label, cells)| {
        let cells = cells
            .iter()
            .map(|cell| HeatCell::new(paint(cell.state, cell.value, scale), words::cell(cell, 3)));
        HeatRow::Row(short.name(label).to_owned(), cells.collect())
    });
    Heat {
        caption: format!("{}{}", grid::matrix_caption(matrix), short.said("names")),
        corner: String::new(),
        columns: matrix.columns.iter().map(|column| short.name(column).to_owned()).collect(),
        rows: rows.collect(),
    }
}

fn described(matrix: &Matrix) -> String {
    let count = |state| matrix.cells.iter().flatten().filter(|cell| cell.state == state).count();
    format!(
        "{} rows by {} columns: {} cells with the same bits, {} with other bits, {} missing, {} incomparable. The \
         table below has every value.",
        matrix.rows.len(),
        matrix.columns.len(),
        count(State::Equal),
        count(State::Different),
        count(State::Missing),
        count(State::Incomparable),
    )
}

/// A row of a map of layers: its layer, where it has one, and what it is called.
pub(super) struct LayerRow {
    pub(super) layer: Option<u32>,
    pub(super) label: String,
}

impl LayerRow {
    /// Layers, and what stands outside of them.
    pub(super) fn all(layers: impl IntoIterator<Item = Option<u32>>, other: &str) -> Vec<Self> {
        let label = |layer: Option<u32>| layer.map_or_else(|| other.to_owned(), |layer| layer.to_string());
        layers.into_iter().map(|layer| Self { layer, label: label(layer) }).collect()
    }
}

/// A map of layers × tokens, with gaps where neither is known; `gap` says why.
pub(super) fn layer_map(
    caption: String,
    layers: &[LayerRow],
    tokens: &[i64],
    gap: &str,
    cell: impl Fn(usize, i64) -> HeatCell,
) -> Heat {
    let mut columns: Vec<Option<i64>> = Vec::new();
    for &token in tokens {
        if columns.last().copied().flatten().is_some_and(|before| before.checked_add(1) != Some(token)) {
            columns.push(None);
        }
        columns.push(Some(token));
    }
    let mut rows = Vec::new();
    let mut before = 0;
    for (i, row) in layers.iter().enumerate() {
        if let Some(layer) = row.layer {
            if layer > before + 1 {
                let (first, last) = (before + 1, layer - 1);
                let missing = if first == last {
                    format!("layer {first}")
                } else {
                    format!("layers {first} to {last}")
                };
                rows.push(HeatRow::Gap(format!("{missing} {gap}")));
            }
            before = layer;
        }
        let cells = columns
            .iter()
            .map(|token| token.map_or_else(|| HeatCell::new(Paint::Gap, ""), |token| cell(i, token)));
        rows.push(HeatRow::Row(row.label.clone(), cells.collect()));
    }
    let name = |token: i64| token.to_string().replace('-', "−");
    let columns = columns.iter().map(|token| token.map_or_else(String::new, name)).collect();
    Heat { caption, corner: "layer".to_owned(), columns, rows }
}
