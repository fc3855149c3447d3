//! A matrix as a heat map: every cell has its number or the symbol of its state, colour only repeats it.

use std::io;

use mantissa_verdict::analysis::{Matrix, State};
use plotters::prelude::*;
use plotters::style::colors::colormaps::ViridisRGB;
use plotters::style::text_anchor::HPos;

use super::{Canvas, Drawn, Plot, PlotColor, breadth, fill, font, picture, pixels, short, write};
use crate::grid::matrix_caption;
use crate::words;

const CELL: (i32, i32) = (64, 28);
/// Longest label, in characters.
const LABEL: usize = 30;
/// Height of the colour scale and its numbers.
const KEY: i32 = 44;

/// Draws it.
pub(crate) fn heat_map(id: &str, matrix: &Matrix) -> io::Result<Plot> {
    let layout = Layout::new(matrix);
    let scale = Scale::new(matrix);
    let description = describe(matrix, &scale);
    picture(id, layout.size, &matrix_caption(matrix), &description, |canvas| {
        labels(canvas, matrix, &layout)?;
        for (row, cells) in matrix.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let (x, y) = (layout.left + pixels(column) * CELL.0, layout.top + pixels(row) * CELL.1);
                let (from, to) = ((x + 1, y + 1), (x + CELL.0, y + CELL.1));
                let paint = match (cell.state, cell.value) {
                    (State::Different, Some(value)) => scale.color(value),
                    (State::Different, None) => PlotColor::Raised.marker(),
                    (State::Equal, _) => PlotColor::Equal.marker(),
                    (State::Missing, _) => PlotColor::Missing.marker(),
                    (State::Incomparable, _) => PlotColor::Incomparable.marker(),
                };
                fill(canvas, from, to, paint)?;
                let shown = cell.state == State::Different && cell.value.is_some();
                let ink = if shown { readable_on(paint) } else { PlotColor::Text.marker() };
                let middle = (x + CELL.0 / 2, y + CELL.1 / 2);
                if matches!(cell.state, State::Missing | State::Incomparable) {
                    // A clear spot, so that the hatch does not run through the symbol.
                    fill(
                        canvas,
                        (middle.0 - 9, middle.1 - 9),
                        (middle.0 + 9, middle.1 + 9),
                        PlotColor::Paper.marker(),
                    )?;
                }
                write(canvas, &words::cell(cell, 3), ink, HPos::Center, middle)?;
            }
        }
        scale.draw_key(canvas, (layout.left, layout.size.1 - KEY + 12))
    })
}

struct Layout {
    left: i32,
    top: i32,
    upright: bool,
    size: (i32, i32),
}

impl Layout {
    fn new(matrix: &Matrix) -> Self {
        let longest = |labels: &[String]| labels.iter().map(|l| breadth(&short(l, LABEL))).max().unwrap_or(0);
        let (rows, columns) = (longest(&matrix.rows), longest(&matrix.columns));
        let upright = columns > CELL.0 - 8;
        let (left, top) = (rows + 16, if upright { columns + 16 } else { 28 });
        let breadth = left + (pixels(matrix.columns.len()) * CELL.0).max(Scale::BREADTH + 60) + 12;
        let height = top + pixels(matrix.rows.len()) * CELL.1 + KEY;
        Self { left, top, upright, size: (breadth, height) }
    }
}

fn labels(canvas: &Canvas<'_>, matrix: &Matrix, layout: &Layout) -> Drawn {
    for (i, label) in matrix.rows.iter().enumerate() {
        let at = (layout.left - 8, layout.top + pixels(i) * CELL.1 + CELL.1 / 2);
        write(canvas, &short(label, LABEL), PlotColor::Text.marker(), HPos::Right, at)?;
    }
    for (i, label) in matrix.columns.iter().enumerate() {
        let at =
            (layout.left + pixels(i) * CELL.0 + CELL.0 / 2, layout.top - if layout.upright { 8 } else { 14 });
        let style = if layout.upright {
            font(PlotColor::Text.marker(), HPos::Left).transform(FontTransform::Rotate270)
        } else {
            font(PlotColor::Text.marker(), HPos::Center)
        };
        canvas.draw(&Text::new(short(label, LABEL), at, style))?;
    }
    Ok(())
}

/// From distances to viridis, which is perceptually uniform and safe for the colour-blind.
struct Scale {
    least: f64,
    most: f64,
    logarithmic: bool,
}

impl Scale {
    const BREADTH: i32 = 240;

    fn new(matrix: &Matrix) -> Self {
        let distances = matrix.cells.iter().flatten().filter(|cell| cell.state == State::Different);
        let positive =
            distances.filter_map(|cell| cell.value).filter(|value| value.is_finite() && *value > 0.0);
        let (least, most) =
            positive.fold((f64::INFINITY, 0.0_f64), |(least, most), v| (least.min(v), most.max(v)));
        Self { least, most, logarithmic: most / least >= 100.0 }
    }

    fn is_empty(&self) -> bool {
        self.most <= 0.0
    }

    fn color(&self, value: f64) -> RGBColor {
        let place = if self.logarithmic {
            libm::log10(value / self.least) / libm::log10(self.most / self.least)
        } else {
            value / self.most
        };
        ViridisRGB.get_color(if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 })
    }

    fn draw_key(&self, canvas: &Canvas<'_>, (x, y): (i32, i32)) -> Drawn {
        if self.is_empty() {
            return Ok(());
        }
        let steps = 40;
        let step = Self::BREADTH / steps;
        for i in 0..steps {
            let place = f64::from(i) / f64::from(steps - 1);
            let at = x + i * step;
            fill(canvas, (at, y), (at + step, y + 10), ViridisRGB.get_color(place))?;
        }
        let (first, word) = if self.logarithmic { (self.least, "log scale") } else { (0.0, "linear scale") };
        let below = y + 20;
        write(canvas, &words::number(first, 3), PlotColor::Text.marker(), HPos::Left, (x, below))?;
        write(canvas, word, PlotColor::Muted.marker(), HPos::Center, (x + Self::BREADTH / 2, below))?;
        write(
            canvas,
            &words::number(self.most, 3),
            PlotColor::Text.marker(),
            HPos::Right,
            (x + Self::BREADTH, below),
        )
    }
}

/// Black or white, whichever stands out more (WCAG relative luminance).
fn readable_on(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let linear = |channel: u8| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { libm::pow((share + 0.055) / 1.055, 2.4) }
    };
    let luminance = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    // Where the contrasts (L + 0.05) / 0.05 and 1.05 / (L + 0.05) are equal.
    if luminance > 0.179 { RGBColor(0, 0, 0) } else { RGBColor(255, 255, 255) }
}

fn describe(matrix: &Matrix, scale: &Scale) -> String {
    let count = |state| matrix.cells.iter().flatten().filter(|cell| cell.state == state).count();
    let range = if scale.is_empty() {
        String::new()
    } else {
        format!(" from {} to {}", words::number(scale.least, 3), words::number(scale.most, 3))
    };
    format!(
        "Heat map of {} rows by {} columns: {} cells with the same bits, {} with other bits{range}, {} missing, {} incomparable. The table below has every value.",
        matrix.rows.len(),
        matrix.columns.len(),
        count(State::Equal),
        count(State::Different),
        count(State::Missing),
        count(State::Incomparable),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every colour of the scale carries its text at WCAG AA (4.5 to 1).
    #[test]
    fn numbers_are_readable_on_every_colour() {
        let luminance = |RGBColor(red, green, blue): RGBColor| {
            let linear = |channel: u8| {
                let share = f64::from(channel) / 255.0;
                if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
        };
        for i in 0..=1000 {
            let paint: RGBColor = ViridisRGB.get_color(f64::from(i) / 1000.0);
            let (ground, ink) = (luminance(paint) + 0.05, luminance(readable_on(paint)) + 0.05);
            let contrast = (ground / ink).max(ink / ground);
            assert!(contrast >= 4.5, "{contrast} at {i}");
        }
    }
}
