//! Own against other distance: a strip per pair on one axis, with the line that decides drawn through all of them.
//!
//! Places are percentages, so that a strip is as broad as there is room. Left out: the numbers as a table.

use std::collections::BTreeSet;

use super::look::Look;
use super::scale::{Scale, label};
use crate::foreign::{html as escape, html_name, push};

/// Strips on one axis.
pub(super) struct Strips {
    pub(super) caption: String,
    /// What the axis counts.
    pub(super) axis: String,
    pub(super) scale: Scale,
    /// What each look means.
    pub(super) means: Means,
    pub(super) lines: Vec<Line>,
    pub(super) rows: Vec<Strip>,
}

/// What looks mean, in the order of a legend.
pub(super) type Means = &'static [(Look, &'static str)];

/// A line through all strips.
pub(super) struct Line {
    pub(super) at: f64,
    pub(super) label: String,
    /// Whether what lies on either side of it is judged differently.
    pub(super) decides: bool,
}

pub(super) struct Strip {
    pub(super) label: String,
    /// From the least to the largest distance between what is the same.
    pub(super) own: Option<(f64, f64)>,
    /// What is not excluded.
    pub(super) interval: Option<(f64, f64)>,
    pub(super) dots: Vec<(f64, Look)>,
    /// Beside the strip.
    pub(super) figure: String,
    /// For those who do not see it.
    pub(super) said: String,
}

impl Strips {
    /// Appends them; `id` is unique on the page.
    pub(super) fn draw(&self, id: &str, out: &mut String) {
        push(
            out,
            format_args!(
                "<figure class=\"strips\"><figcaption>{}</figcaption>\n<ul class=\"legend\">",
                escape(&self.caption)
            ),
        );
        if self.rows.iter().any(|row| row.own.is_some()) {
            out.push_str("<li><span class=\"band\"></span> own distances, up to the largest</li>");
        }
        if self.rows.iter().any(|row| row.interval.is_some()) {
            out.push_str("<li><span class=\"interval\"></span> interval of the ratio</li>");
        }
        for (look, means) in self.means {
            if self.rows.iter().any(|row| row.dots.iter().any(|dot| dot.1 == *look)) {
                push(
                    out,
                    format_args!(
                        "<li><svg class=\"dot {}\" width=\"14\" height=\"14\" viewBox=\"-7 -7 14 14\" \
                         aria-hidden=\"true\">{}</svg> {means}</li>",
                        look.class(),
                        shape(*look)
                    ),
                );
            }
        }
        for line in &self.lines {
            let class = if line.decides { "decides" } else { "floor" };
            push(out, format_args!("<li><span class=\"line {class}\"></span> {}</li>", escape(&line.label)));
        }
        out.push_str("</ul>\n<ul class=\"rows\">\n");
        for (i, row) in self.rows.iter().enumerate() {
            self.row(&format!("{id}-{i}"), row, out);
        }
        push(
            out,
            format_args!(
                "<li class=\"axis\" aria-hidden=\"true\"><span></span><svg height=\"34\" width=\"100%\">"
            ),
        );
        let zero = self.scale.is_logarithmic() && self.has_zero();
        for tick in zero.then_some(0.0).into_iter().chain(self.scale.ticks()) {
            let x = place(self.scale, tick);
            // On a logarithmic scale 0 lies close before the first tick, and their numbers must not meet.
            let anchor = if zero && tick <= 0.0 { "end" } else { "middle" };
            push(
                out,
                format_args!(
                    "<line x1=\"{x}%\" x2=\"{x}%\" y1=\"0\" y2=\"5\" class=\"rule\"/>\
                     <text x=\"{x}%\" y=\"17\" text-anchor=\"{anchor}\">{}</text>",
                    label(tick)
                ),
            );
        }
        push(
            out,
            format_args!(
                "<text x=\"50%\" y=\"32\" text-anchor=\"middle\">{}</text></svg><span></span></li>\n</ul></figure>\n",
                escape(&self.axis)
            ),
        );
    }

    /// Whether anything lies at 0, which a logarithmic scale has apart from its ticks.
    fn has_zero(&self) -> bool {
        let dots = self.rows.iter().flat_map(|row| &row.dots).map(|dot| dot.0);
        self.lines.iter().map(|line| line.at).chain(dots).any(|value| value <= 0.0)
    }

    fn row(&self, id: &str, row: &Strip, out: &mut String) {
        let at = |value: f64| place(self.scale, value);
        push(
            out,
            format_args!(
                "<li><span class=\"label\">{}</span>\
                 <svg height=\"22\" width=\"100%\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
                 <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
                html_name(&row.label),
                escape(&row.label),
                escape(&row.said)
            ),
        );
        out.push_str("<line x1=\"0\" x2=\"100%\" y1=\"11\" y2=\"11\" class=\"rule\"/>");
        if let Some((low, high)) = row.own {
            let (low, high) = (share(self.scale, low), share(self.scale, high));
            let width = percent((high - low).max(0.004));
            push(
                out,
                format_args!(
                    "<rect x=\"{}%\" y=\"5\" width=\"{width}%\" height=\"12\" class=\"own\"/>",
                    percent(low)
                ),
            );
        }
        for line in &self.lines {
            let class = if line.decides { "decides" } else { "floor" };
            let x = at(line.at);
            push(out, format_args!("<line x1=\"{x}%\" x2=\"{x}%\" y1=\"0\" y2=\"22\" class=\"{class}\"/>"));
        }
        if let Some((low, high)) = row.interval {
            push(
                out,
                format_args!(
                    "<line x1=\"{}%\" x2=\"{}%\" y1=\"11\" y2=\"11\" class=\"interval\"/>",
                    at(low),
                    at(high)
                ),
            );
        }
        // A dot on one like it cannot be seen.
        let mut drawn = BTreeSet::new();
        for (value, look) in &row.dots {
            let dot = format!(
                "<svg x=\"{}%\" y=\"11\" overflow=\"visible\" class=\"dot {}\">{}</svg>",
                at(*value),
                look.class(),
                shape(*look)
            );
            if !drawn.contains(&dot) {
                out.push_str(&dot);
                drawn.insert(dot);
            }
        }
        push(out, format_args!("</svg><span class=\"said\">{}</span></li>\n", escape(&row.figure)));
    }
}

/// Told apart without colour too.
const fn shape(look: Look) -> &'static str {
    match look {
        Look::Apart | Look::Contradicted | Look::Unexplained => "<path d=\"M-5 0L0-5L5 0L0 5Z\"/>",
        Look::Fits | Look::FitsNot | Look::Explained => "<path d=\"M-4-4H4V4H-4Z\"/>",
        Look::Same | Look::Alike | Look::Rounding => "<circle r=\"4\"/>",
        Look::Open | Look::Missing | Look::None => "<circle r=\"4\" class=\"hollow\"/>",
    }
}

fn share(scale: Scale, value: f64) -> f64 {
    0.02 + 0.96 * scale.share(value)
}

fn place(scale: Scale, value: f64) -> String {
    percent(share(scale, value))
}

/// A share in percent, as short as a picture needs it.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
