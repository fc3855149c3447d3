//! Distance along layers or steps: one line per pair of setups, told apart by marker as well as by colour.
//!
//! A coordinate that could not be compared leaves a gap. On a logarithmic axis distance 0 has its own line at the foot,
//! and no slope leads there.

use std::io;

use mantissa_verdict::analysis::Profile;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{Canvas, Drawn, Plot, PlotColor, picture, pixels, short, write};
use crate::grid::{profile_caption, profile_name};
use crate::words;

const WIDTH: i32 = 820;
const CHART: i32 = 320;
const LEGEND_ROW: i32 = 22;
/// Markers on a line, at most about so many.
const MARKED: usize = 30;
/// More points than this are not drawn; the table says how many there are.
pub(crate) const DRAWN: usize = 4_000;

/// Draws at most [`super::SERIES`] profiles with one axis.
pub(crate) fn line_chart(id: &str, group: &[&Profile]) -> io::Result<Plot> {
    let height = CHART + 12 + LEGEND_ROW * pixels(group.len());
    let axes = Axes::new(group);
    picture(id, (WIDTH, height), &profile_caption(group), &describe(group, &axes), |canvas| {
        let (upper, lower) = canvas.split_vertically(CHART);
        chart(&upper, group, &axes)?;
        for (i, profile) in group.iter().enumerate() {
            let y = 12 + pixels(i) * LEGEND_ROW;
            let ink = series(i).marker();
            lower.draw(&PathElement::new(vec![(70, y), (110, y)], ink.stroke_width(2)))?;
            mark(&lower, i, (90, y))?;
            write(
                &lower,
                &short(&profile_name(profile), 96),
                PlotColor::Text.marker(),
                HPos::Left,
                (120, y),
            )?;
        }
        Ok(())
    })
}

fn chart(canvas: &Canvas<'_>, group: &[&Profile], axes: &Axes) -> Drawn {
    let x = Ruler { range: (axes.first..axes.last).into(), ticks: axes.x_ticks() };
    let y = Ruler { range: (axes.low..axes.high).into(), ticks: axes.y_ticks() };
    let mut chart = ChartBuilder::on(canvas)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    let label = ("monospace", 14).into_font().color(&PlotColor::Text.marker());
    let axis = group.first().map_or("", |first| words::axis(first.axis));
    chart
        .configure_mesh()
        .bold_line_style(PlotColor::Grid.marker())
        .light_line_style(TRANSPARENT)
        .axis_style(PlotColor::Muted.marker())
        .label_style(label.clone())
        .axis_desc_style(label)
        .x_desc(axis)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| axes.y_label(*y))
        .draw()?;
    for (i, profile) in group.iter().enumerate() {
        let points: Vec<(f64, Option<f64>)> =
            profile.points.iter().take(DRAWN).map(|&(at, value)| (coordinate(at), axes.y(value))).collect();
        let together = |a: &(f64, Option<f64>), b: &(f64, Option<f64>)| {
            a.1.is_some() && b.1.is_some() && axes.is_zero(a.1) == axes.is_zero(b.1)
        };
        for run in points.chunk_by(together) {
            let run: Vec<(f64, f64)> = run.iter().filter_map(|&(x, y)| y.map(|y| (x, y))).collect();
            chart.draw_series(LineSeries::new(run.iter().copied(), series(i).marker().stroke_width(2)))?;
            for point in run.iter().step_by(points.len().div_ceil(MARKED)) {
                let (at, origin) = (chart.backend_coord(point), canvas.get_base_pixel());
                mark(canvas, i, (at.0 - origin.0, at.1 - origin.1))?;
            }
        }
    }
    Ok(())
}

fn series(i: usize) -> PlotColor {
    PlotColor::Series(u8::try_from(i % super::SERIES).unwrap_or(0))
}

/// A marker per series: square, diamond or triangle, filled or hollow.
fn mark(canvas: &Canvas<'_>, i: usize, (x, y): (i32, i32)) -> Drawn {
    let color = series(i).marker();
    let outline = match i % super::SERIES / 2 {
        0 => vec![(x - 3, y - 3), (x + 3, y - 3), (x + 3, y + 3), (x - 3, y + 3)],
        1 => vec![(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)],
        _ => vec![(x, y - 4), (x + 4, y + 4), (x - 4, y + 4)],
    };
    if i.is_multiple_of(2) {
        return canvas.draw(&Polygon::new(outline, color.filled()));
    }
    canvas.draw(&Polygon::new(outline.clone(), PlotColor::Paper.marker().filled()))?;
    let closed: Vec<(i32, i32)> = outline.iter().chain(outline.first()).copied().collect();
    canvas.draw(&PathElement::new(closed, color.stroke_width(2)))
}

/// A range of numbers with ticks where we want them.
struct Ruler {
    range: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ranged for Ruler {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.range()
    }
}

/// Where values come to lie.
struct Axes {
    first: f64,
    last: f64,
    /// Of distances, or of their logarithms.
    low: f64,
    high: f64,
    least: f64,
    most: f64,
    logarithmic: bool,
    has_zero: bool,
}

impl Axes {
    fn new(group: &[&Profile]) -> Self {
        let points = || group.iter().flat_map(|profile| profile.points.iter().take(DRAWN));
        let (mut first, mut last) = points()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), &(at, _)| {
                (first.min(coordinate(at)), last.max(coordinate(at)))
            });
        if !first.is_finite() {
            (first, last) = (0.0, 1.0);
        }
        let values = || points().filter_map(|(_, value)| *value).filter(|value| value.is_finite());
        let (least, most) = values()
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        let has_zero = values().any(|value| value <= 0.0);
        let logarithmic = most > 0.0 && most / least >= 100.0;
        let (low, high) = if logarithmic {
            let low = libm::floor(libm::log10(least));
            (if has_zero { low - 1.0 } else { low }, libm::ceil(libm::log10(most)).max(low + 1.0))
        } else {
            (0.0, if most > 0.0 { most * 1.05 } else { 1.0 })
        };
        Self { first: first - 0.5, last: last + 0.5, low, high, least, most, logarithmic, has_zero }
    }

    fn y(&self, value: Option<f64>) -> Option<f64> {
        let value = value.filter(|value| value.is_finite())?;
        Some(match (self.logarithmic, value > 0.0) {
            (false, _) => value,
            (true, true) => libm::log10(value),
            (true, false) => self.low,
        })
    }

    /// Whether a height is the line of zeros, which no slope leads to.
    fn is_zero(&self, y: Option<f64>) -> bool {
        self.logarithmic && self.has_zero && y.is_some_and(|y| y <= self.low)
    }

    fn x_ticks(&self) -> Vec<f64> {
        let mut step = 1.0;
        for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
            if (self.last - self.first) / step <= 16.0 {
                break;
            }
            step *= factor;
        }
        ticks(libm::ceil(self.first / step), self.last, step)
    }

    fn y_ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let step = libm::ceil((self.high - self.low) / 8.0).max(1.0);
            let mut decades = ticks(libm::ceil(self.low / step), self.high, step);
            if self.has_zero {
                decades.retain(|decade| *decade > self.low);
                decades.insert(0, self.low);
            }
            return decades;
        }
        let mut step = libm::pow(10.0, libm::floor(libm::log10(self.high)));
        for factor in [0.5, 0.4, 0.5].into_iter().cycle() {
            if self.high / step >= 4.0 {
                break;
            }
            step *= factor;
        }
        ticks(0.0, self.high, step)
    }

    fn y_label(&self, y: f64) -> String {
        if !self.logarithmic {
            return words::number(y, 3);
        }
        if self.has_zero && y <= self.low { "0".to_owned() } else { format!("1e{y:.0}") }
    }
}

/// Multiples of a step, from the `start`th up to an end.
fn ticks(start: f64, end: f64, step: f64) -> Vec<f64> {
    (0..32).map(|i| (start + f64::from(i)) * step).take_while(|tick| *tick <= end).collect()
}

/// A layer or a token on the axis; there are never as many as 2³¹.
fn coordinate(at: i64) -> f64 {
    f64::from(i32::try_from(at).unwrap_or(if at < 0 { i32::MIN } else { i32::MAX }))
}

fn describe(group: &[&Profile], axes: &Axes) -> String {
    let names: Vec<String> = group.iter().map(|profile| profile_name(profile)).collect();
    let range = if axes.most > 0.0 {
        format!("Distances range from {} to {}.", words::number(axes.least, 3), words::number(axes.most, 3))
    } else {
        "No distance is above 0.".to_owned()
    };
    let gaps = group.iter().flat_map(|profile| &profile.points).filter(|(_, value)| value.is_none()).count();
    let zeros = if axes.has_zero { " Some are 0." } else { "" };
    let scale = if axes.logarithmic { "logarithmic" } else { "linear" };
    format!(
        "Line chart with a {scale} vertical axis. Lines: {}. {range}{zeros} Coordinates that could not be compared: {gaps}. The table below has every value.",
        names.join("; ")
    )
}
