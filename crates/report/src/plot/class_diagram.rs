//! Setups grouped by equal bits: a box per class.

use std::io;

use mantissa_verdict::analysis::ClassSet;
use plotters::style::text_anchor::HPos;

use super::{ADVANCE, Drawn, Plot, PlotColor, breadth, fill, frame, picture, pixels, short, write};
use crate::words;

const WIDTH: i32 = 860;
const LINE: i32 = 20;
/// Setups listed in a box, and boxes; the table has all.
const LISTED: usize = 12;
const BOXES: usize = 60;
/// Longest name, in characters.
const LABEL: usize = 40;

struct Box {
    heading: String,
    lines: Vec<String>,
    placed: bool,
}

/// Draws it.
pub(crate) fn class_diagram(id: &str, set: &ClassSet) -> io::Result<Plot> {
    let boxes = boxes(set);
    let (places, height) = arrange(&boxes);
    picture(id, (WIDTH, height), &title(set), &describe(set), |canvas| {
        boxes.iter().zip(&places).try_for_each(|(class, &(x, y))| -> Drawn {
            let (width, height) = size(class);
            let to = (x + width, y + height);
            let ground = if class.placed { PlotColor::Equal } else { PlotColor::Missing };
            fill(canvas, (x, y), (x + width, y + LINE + 4), ground.marker())?;
            if !class.placed {
                fill(
                    canvas,
                    (x + 6, y + 4),
                    (x + 10 + breadth(&class.heading), y + LINE),
                    PlotColor::Paper.marker(),
                )?;
            }
            frame(canvas, (x, y), to, PlotColor::Muted)?;
            write(canvas, &class.heading, PlotColor::Text.marker(), HPos::Left, (x + 8, y + LINE / 2 + 2))?;
            class.lines.iter().enumerate().try_for_each(|(i, line)| {
                let at = (x + 8, y + LINE * (pixels(i) + 1) + LINE / 2 + 6);
                write(canvas, line, PlotColor::Text.marker(), HPos::Left, at)
            })
        })
    })
}

pub(crate) fn title(set: &ClassSet) -> String {
    format!(
        "Equivalence classes: {}, {}, equal {}",
        set.phase.name(),
        set.scope,
        words::signals(&set.signals)
    )
}

fn boxes(set: &ClassSet) -> Vec<Box> {
    let shown = set.classes.iter().take(BOXES).enumerate().map(|(i, class)| {
        let setups = if class.len() == 1 { "1 setup".to_owned() } else { format!("{} setups", class.len()) };
        Box {
            heading: format!("class {} · {setups}", i + 1),
            lines: lines(class.iter().cloned()),
            placed: true,
        }
    });
    let mut boxes: Vec<Box> = shown.collect();
    if set.classes.len() > BOXES {
        let more = format!("{} more classes, in the table", set.classes.len() - BOXES);
        boxes.push(Box { heading: more, lines: Vec::new(), placed: true });
    }
    if !set.unplaced.is_empty() {
        let unplaced = set.unplaced.iter().map(|(setup, why)| format!("{setup}: {why}"));
        boxes.push(Box { heading: "in no class".to_owned(), lines: lines(unplaced), placed: false });
    }
    boxes
}

fn lines(texts: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = texts.len().saturating_sub(LISTED);
    let mut lines: Vec<String> = texts.take(LISTED).map(|text| short(&text, LABEL)).collect();
    if more > 0 {
        lines.push(format!("{more} more, in the table"));
    }
    lines
}

fn size(class: &Box) -> (i32, i32) {
    let longest = class.lines.iter().chain([&class.heading]).map(|line| breadth(line)).max().unwrap_or(0);
    (longest + 16 + ADVANCE, LINE * (pixels(class.lines.len()) + 1) + 12)
}

/// From left to right, then below.
fn arrange(boxes: &[Box]) -> (Vec<(i32, i32)>, i32) {
    let gap = 12;
    let (mut x, mut y, mut row) = (1, 1, 0);
    let mut places = Vec::with_capacity(boxes.len());
    for class in boxes {
        let (width, height) = size(class);
        if x > 1 && x + width > WIDTH {
            (x, y, row) = (1, y + row + gap, 0);
        }
        places.push((x, y));
        x += width + gap;
        row = row.max(height);
    }
    (places, y + row + 2)
}

fn describe(set: &ClassSet) -> String {
    let classes: Vec<String> = set
        .classes
        .iter()
        .take(BOXES)
        .enumerate()
        .map(|(i, class)| format!("class {}: {}", i + 1, class.join(", ")))
        .collect();
    let unplaced = match set.unplaced.len() {
        0 => String::new(),
        n => format!(" {n} in no class."),
    };
    format!("{} classes. {}.{unplaced} They rest on {}.", set.classes.len(), classes.join("; "), set.basis)
}
