//! Distance along layers or tokens: a line per pair of setups, told apart by marker as well as by colour.
//!
//! A line joins neighbours only: where a layer was not recorded or could not be compared, there is a gap. On a
//! logarithmic axis distance 0 lies at the foot, and no slope leads there. Left out: the numbers as a table.

use super::limits::Cut;
use super::scale::{Scale, label};
use super::strips::percent;
use crate::foreign::{html as escape, push};
use crate::words;

/// Lines on common axes.
pub(super) struct Lines {
    pub(super) caption: String,
    /// What the horizontal axis counts.
    pub(super) axis: String,
    pub(super) scale: Scale,
    pub(super) series: Vec<Series>,
    /// A coordinate to look at, and why.
    pub(super) marked: Option<(i64, String)>,
}

pub(super) struct Series {
    pub(super) name: String,
    /// In order; absent where it could not be compared.
    pub(super) points: Vec<(i64, Option<f64>)>,
}

/// Series that can be told apart by colour and marker.
pub(super) const SERIES: usize = 6;
/// More points than this are not drawn.
const DRAWN: usize = 1_000;
/// Markers on a line, at most about so many.
const MARKED: usize = 30;
const HEIGHT: i32 = 240;
const TOP: f64 = 10.0;
const FOOT: f64 = 200.0;

/// The least and the largest coordinate.
#[derive(Clone, Copy)]
struct Span {
    first: i64,
    last: i64,
}

impl Span {
    fn x(self, at: i64) -> String {
        let apart = |from: i64, to: i64| real(i128::from(to) - i128::from(from));
        let share =
            if self.first == self.last { 0.5 } else { apart(self.first, at) / apart(self.first, self.last) };
        percent(0.03 + 0.94 * share)
    }
}

impl Lines {
    /// Points that are not drawn, of the series that has most.
    pub(super) fn cut(&self) -> Option<Cut> {
        let most = self.series.iter().map(|series| series.points.len()).max().unwrap_or(0);
        Cut::of("points of a line", DRAWN, most)
    }

    /// Appends them; `id` is unique on the page.
    pub(super) fn draw(&self, id: &str, out: &mut String) {
        push(
            out,
            format_args!(
                "<figure class=\"lines\"><figcaption>{}</figcaption>\n\
                 <div class=\"chart\"><svg width=\"58\" height=\"{HEIGHT}\" aria-hidden=\"true\">",
                escape(&self.caption)
            ),
        );
        let (ticks, span) = (self.ticks(), self.span());
        for &tick in &ticks {
            let (y, label) = (self.y(tick), label(tick));
            push(
                out,
                format_args!("<text x=\"54\" y=\"{}\" text-anchor=\"end\">{label}</text>", round(y + 4.0)),
            );
        }
        push(
            out,
            format_args!(
                "</svg><svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
                 <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
                escape(&self.caption),
                escape(&self.described())
            ),
        );
        for tick in ticks {
            let y = round(self.y(tick));
            push(out, format_args!("<line x1=\"0\" x2=\"100%\" y1=\"{y}\" y2=\"{y}\" class=\"rule\"/>"));
        }
        for at in self.columns(span) {
            push(
                out,
                format_args!("<text x=\"{}%\" y=\"218\" text-anchor=\"middle\">{at}</text>", span.x(at)),
            );
        }
        push(
            out,
            format_args!("<text x=\"50%\" y=\"236\" text-anchor=\"middle\">{}</text>", escape(&self.axis)),
        );
        let marked = self.marked.as_ref().filter(|(at, _)| (span.first..=span.last).contains(at));
        if let Some((at, _)) = marked {
            let x = span.x(*at);
            push(
                out,
                format_args!(
                    "<line x1=\"{x}%\" x2=\"{x}%\" y1=\"0\" y2=\"{}\" class=\"decides\"/>",
                    round(FOOT)
                ),
            );
        }
        for (i, series) in self.series.iter().take(SERIES).enumerate() {
            self.line(i, series, span, out);
        }
        out.push_str("</svg></div>\n<ul class=\"legend series\">");
        if let Some((_, why)) = marked {
            push(out, format_args!("<li><span class=\"line decides\"></span> {}</li>", escape(why)));
        }
        for (i, series) in self.series.iter().take(SERIES).enumerate() {
            push(
                out,
                format_args!(
                    "<li><svg class=\"s{}\" width=\"14\" height=\"14\" viewBox=\"-7 -7 14 14\" \
                     aria-hidden=\"true\">{}</svg> {}</li>",
                    i + 1,
                    marker(i),
                    escape(&series.name)
                ),
            );
        }
        out.push_str("</ul></figure>\n");
    }

    fn line(&self, i: usize, series: &Series, span: Span, out: &mut String) {
        push(out, format_args!("<g class=\"s{}\">", i + 1));
        let points: Vec<(i64, Option<f64>)> = series.points.iter().take(DRAWN).copied().collect();
        let joined = |a: (i64, Option<f64>), b: (i64, Option<f64>)| match (a.1, b.1) {
            (Some(from), Some(to)) => {
                a.0.checked_add(1) == Some(b.0)
                    && (!self.scale.is_logarithmic() || (from > 0.0) == (to > 0.0))
            }
            _ => false,
        };
        for pair in points.windows(2).filter(|pair| joined(pair[0], pair[1])) {
            let [(from, Some(a)), (to, Some(b))] = [pair[0], pair[1]] else { continue };
            push(
                out,
                format_args!(
                    "<line x1=\"{}%\" x2=\"{}%\" y1=\"{}\" y2=\"{}\"/>",
                    span.x(from),
                    span.x(to),
                    round(self.y(a)),
                    round(self.y(b))
                ),
            );
        }
        let stride = points.len().div_ceil(MARKED).max(1);
        for (k, &(at, value)) in points.iter().enumerate() {
            let Some(value) = value else { continue };
            let before = k > 0 && joined(points[k - 1], points[k]);
            let after = points.get(k + 1).is_some_and(|&next| joined(points[k], next));
            if k.is_multiple_of(stride) || !(before || after) {
                let (x, y) = (span.x(at), round(self.y(value)));
                push(out, format_args!("<svg x=\"{x}%\" y=\"{y}\" overflow=\"visible\">{}</svg>", marker(i)));
            }
        }
        out.push_str("</g>");
    }

    fn span(&self) -> Span {
        let all =
            || self.series.iter().flat_map(|series| series.points.iter().take(DRAWN)).map(|point| point.0);
        Span { first: all().min().unwrap_or(0), last: all().max().unwrap_or(0) }
    }

    /// Up to a dozen recorded coordinates; numbers beside one another would not be read.
    fn columns(&self, span: Span) -> Vec<i64> {
        let mut all: Vec<i64> =
            self.series.iter().flat_map(|s| s.points.iter().take(DRAWN)).map(|p| p.0).collect();
        all.sort_unstable();
        all.dedup();
        let nearest = (i128::from(span.last) - i128::from(span.first)) / 10;
        let mut kept: Vec<i64> = Vec::new();
        for at in all {
            let far = kept.last().is_none_or(|&before| i128::from(at) - i128::from(before) >= nearest.max(1));
            if far {
                kept.push(at);
            }
        }
        kept
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let points = self.series.iter().flat_map(|series| series.points.iter().take(DRAWN));
        points.filter_map(|point| point.1).filter(|value| value.is_finite())
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = self.scale.ticks();
        if self.scale.is_logarithmic() && self.values().any(|value| value <= 0.0) {
            ticks.insert(0, 0.0);
        }
        ticks
    }

    fn y(&self, value: f64) -> f64 {
        FOOT - (FOOT - TOP) * self.scale.share(value)
    }

    fn described(&self) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        let most = self.values().fold(0.0, f64::max);
        let gaps =
            self.series.iter().flat_map(|series| &series.points).filter(|point| point.1.is_none()).count();
        let kind = if self.scale.is_logarithmic() { "logarithmic" } else { "linear" };
        let marked =
            self.marked.as_ref().map_or_else(String::new, |(at, why)| format!(" Marked at {at}: {why}."));
        format!(
            "Lines: {}. The vertical axis is {kind}; the largest distance is {}. Coordinates that could not be \
             compared: {gaps}.{marked} The table below has every value.",
            names.join("; "),
            words::number(most, 3)
        )
    }
}

/// Square, diamond or triangle, filled or hollow.
const fn marker(i: usize) -> &'static str {
    match i % SERIES {
        0 => "<path d=\"M-4-4H4V4H-4Z\"/>",
        1 => "<path d=\"M-4-4H4V4H-4Z\" class=\"hollow\"/>",
        2 => "<path d=\"M-5 0L0-5L5 0L0 5Z\"/>",
        3 => "<path d=\"M-5 0L0-5L5 0L0 5Z\" class=\"hollow\"/>",
        4 => "<path d=\"M0-5L5 4H-5Z\"/>",
        _ => "<path d=\"M0-5L5 4H-5Z\" class=\"hollow\"/>",
    }
}

/// A pixel in tenths.
fn round(pixels: f64) -> String {
    let text = format!("{pixels:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// A count of layers or tokens.
#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
const fn real(count: i128) -> f64 {
    count as f64
}
