//! Plots as inline SVG, drawn by plotters.
//!
//! Plotters knows colours, not style sheets. Each part is drawn in a marker colour that no scale uses, and the marker
//! becomes a CSS variable (or a hatch) afterwards, so that one SVG is right in light and dark. Attribute values are the
//! only place where a marker can stand: in text, plotters escapes the quotes around it.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::foreign::{html, push, visible};

pub(crate) mod class_diagram;
pub(crate) mod heat_map;
pub(crate) mod line_chart;

/// A picture and its words.
pub(crate) struct Plot {
    /// The `svg` element.
    pub(crate) svg: String,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Something that was drawn, or why not.
type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

/// A part of a plot whose colour the style sheet decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlotColor {
    Text,
    Muted,
    Grid,
    Paper,
    Raised,
    Equal,
    Missing,
    Incomparable,
    Series(u8),
}

/// Series that can be told apart by colour and marker.
pub(crate) const SERIES: usize = 6;

const PLOT_COLORS: [(PlotColor, &str); 8 + SERIES] = [
    (PlotColor::Text, "var(--ink)"),
    (PlotColor::Muted, "var(--muted)"),
    (PlotColor::Grid, "var(--rule)"),
    (PlotColor::Paper, "var(--paper)"),
    (PlotColor::Raised, "var(--raised)"),
    (PlotColor::Equal, "var(--equal)"),
    (PlotColor::Missing, "url(#hatch-missing)"),
    (PlotColor::Incomparable, "url(#hatch-incomparable)"),
    (PlotColor::Series(0), "var(--series-1)"),
    (PlotColor::Series(1), "var(--series-2)"),
    (PlotColor::Series(2), "var(--series-3)"),
    (PlotColor::Series(3), "var(--series-4)"),
    (PlotColor::Series(4), "var(--series-5)"),
    (PlotColor::Series(5), "var(--series-6)"),
];

impl PlotColor {
    const fn marker(self) -> RGBColor {
        let low = match self {
            Self::Text => 1,
            Self::Muted => 2,
            Self::Grid => 3,
            Self::Paper => 4,
            Self::Equal => 5,
            Self::Missing => 6,
            Self::Incomparable => 7,
            Self::Raised => 8,
            Self::Series(i) => 16 + i,
        };
        RGBColor(1, 2, low)
    }
}

/// Draws a picture of so many pixels under a title and a description for those who cannot see it. `id` is unique on
/// the page.
fn picture(
    id: &str,
    (width, height): (i32, i32),
    title: &str,
    description: &str,
    draw: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> io::Result<Plot> {
    let mut drawn = String::new();
    {
        let size = (u32::try_from(width).unwrap_or(1), u32::try_from(height).unwrap_or(1));
        let canvas = SVGBackend::with_string(&mut drawn, size).into_drawing_area();
        draw(&canvas).and_then(|()| canvas.present()).map_err(|e| io::Error::other(e.to_string()))?;
    }
    let (_, body) = drawn.split_once('>').ok_or_else(|| io::Error::other("plotters wrote no svg element"))?;
    // What is the default, or said once for the whole picture.
    let mut body = body
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace(" font-family=\"monospace\"", "")
        .replace(&format!(" font-size=\"{}\"", f64::from(SIZE) / 1.24), "")
        .replace(" stroke-width=\"1\"", "")
        .replace(" text-anchor=\"start\"", "")
        .replace("\n</text>", "</text>")
        .replace("\">\n", "\">");
    for (ink, paint) in PLOT_COLORS {
        let RGBColor(red, green, blue) = ink.marker();
        body = body.replace(&format!("\"#{red:02X}{green:02X}{blue:02X}\""), &format!("\"{paint}\""));
    }
    let mut svg = String::with_capacity(body.len() + 400);
    push(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" aria-labelledby=\"{id}-title {id}-desc\" font-family=\"ui-monospace, monospace\" font-size=\"12\">\
             <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
            html(title),
            html(description)
        ),
    );
    svg.push_str(&body);
    Ok(Plot { svg })
}

/// Pixels that a column of text takes at the size plots use.
const ADVANCE: i32 = 7;
/// Font size, in plotters' units.
const SIZE: i32 = 14;

fn font(color: RGBColor, horizontal: HPos) -> TextStyle<'static> {
    ("monospace", SIZE).into_font().color(&color).pos(Pos::new(horizontal, VPos::Center))
}

fn write(canvas: &Canvas<'_>, text: &str, color: RGBColor, horizontal: HPos, at: (i32, i32)) -> Drawn {
    canvas.draw(&Text::new(text.to_owned(), at, font(color, horizontal)))
}

fn fill(canvas: &Canvas<'_>, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Drawn {
    canvas.draw(&Rectangle::new([from, to], color.filled()))
}

fn frame(canvas: &Canvas<'_>, from: (i32, i32), to: (i32, i32), ink: PlotColor) -> Drawn {
    canvas.draw(&Rectangle::new([from, to], ink.marker().stroke_width(1)))
}

/// A label in at most so many columns, its middle left out where it is longer. The table beside a plot has it whole.
fn short(label: &str, most: usize) -> String {
    let label = visible(label);
    if label.width() <= most {
        return label;
    }
    let room = most.saturating_sub(1);
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut used = 0;
        chars
            .take_while(|c| {
                used += c.width().unwrap_or(0);
                used <= room
            })
            .collect::<String>()
    };
    let tail: String = take(&mut label.chars().rev(), room / 2).chars().rev().collect();
    let head = take(&mut label.chars(), room - room / 2);
    format!("{head}…{tail}")
}

/// Pixels of a label.
fn breadth(label: &str) -> i32 {
    pixels(label.width()) * ADVANCE
}

/// A count as pixels; plots are cut to a size long before this could saturate.
fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lose_their_middle() {
        assert_eq!(short("abcdefghij", 10), "abcdefghij");
        assert_eq!(short("abcdefghijk", 10), "abcde…hijk");
        assert_eq!(short("模型模型模型", 6), "模…型");
    }

    #[test]
    fn text_cannot_pass_for_paint() {
        let name = "\"#010201\" </text><script>";
        let plot = picture("p", (100, 20), name, name, |canvas| {
            write(canvas, name, PlotColor::Text.marker(), HPos::Left, (0, 10))
        });
        let svg = plot.unwrap().svg;
        assert!(svg.contains("&quot;#010201&quot; &lt;/text&gt;&lt;script&gt;</text>"), "{svg}");
        assert!(svg.contains("fill=\"var(--ink)\""), "{svg}");
        assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
    }
}
