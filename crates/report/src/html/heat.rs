//! Matrices as tables whose cells are painted: every cell has its number or the symbol of its state, colour only
//! repeats it. Small ones without numbers stand side by side.

use std::fmt::Write as _;

use super::scale::{STEPS, Scale};
use crate::foreign::{html as escape, html_name, push};
use crate::words;

/// A matrix.
pub(super) struct Heat {
    pub(super) caption: String,
    /// Over the labels of the rows.
    pub(super) corner: String,
    /// Labels of the columns.
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<HeatRow>,
}

/// A row, or a place where rows are missing that nobody recorded.
pub(super) enum HeatRow {
    Row(String, Vec<HeatCell>),
    Gap(String),
}

pub(super) struct HeatCell {
    pub(super) paint: Paint,
    pub(super) text: String,
    /// Whether it is the one to look at.
    pub(super) first: bool,
}

/// The colour of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// A value of the scale.
    Step(u8),
    Equal,
    /// Other bits, at no known distance.
    Unknown,
    Missing,
    Incomparable,
    /// Nothing to say.
    Blank,
    /// A column that nobody recorded.
    Gap,
}

impl Paint {
    pub(super) fn of(scale: Option<Scale>, value: f64) -> Self {
        scale.filter(|_| value.is_finite()).map_or(Self::Unknown, |scale| Self::Step(scale.step_of(value)))
    }

    fn class(self) -> String {
        match self {
            Self::Step(step) => format!("v{step}"),
            Self::Equal => "equal".to_owned(),
            Self::Unknown => "unknown".to_owned(),
            Self::Missing => "missing".to_owned(),
            Self::Incomparable => "incomparable".to_owned(),
            Self::Blank => "blank".to_owned(),
            Self::Gap => "gap".to_owned(),
        }
    }
}

impl HeatCell {
    pub(super) fn new(paint: Paint, text: impl Into<String>) -> Self {
        Self { paint, text: text.into(), first: false }
    }
}

/// A small matrix without numbers.
pub(super) struct Panel {
    pub(super) caption: String,
    pub(super) description: String,
    pub(super) cells: Vec<Vec<Paint>>,
}

impl Heat {
    /// How many cells there are.
    pub(super) fn cells(&self) -> usize {
        self.rows.iter().map(|row| if let HeatRow::Row(_, cells) = row { cells.len() } else { 0 }).sum()
    }

    /// Appends it; `id` is unique on the page.
    pub(super) fn draw(&self, id: &str, out: &mut String) {
        push(
            out,
            format_args!(
                "<figure class=\"matrix\"><figcaption id=\"{id}\">{}</figcaption>\n\
                 <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"{id}\">\
                 <table class=\"heat\" aria-labelledby=\"{id}\">\n<thead><tr>",
                escape(&self.caption)
            ),
        );
        if self.corner.is_empty() {
            out.push_str("<td></td>");
        } else {
            push(out, format_args!("<th scope=\"col\" class=\"corner\">{}</th>", escape(&self.corner)));
        }
        for column in &self.columns {
            if column.is_empty() {
                out.push_str("<td class=\"gap\"></td>");
            } else {
                push(out, format_args!("<th scope=\"col\">{}</th>", html_name(column)));
            }
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            match row {
                HeatRow::Gap(what) => push(
                    out,
                    format_args!(
                        "<tr class=\"gap\"><td colspan=\"{}\">{}</td></tr>\n",
                        self.columns.len() + 1,
                        escape(what)
                    ),
                ),
                HeatRow::Row(label, cells) => {
                    push(out, format_args!("<tr><th scope=\"row\">{}</th>", html_name(label)));
                    for cell in cells {
                        let first = if cell.first { " first" } else { "" };
                        let class = cell.paint.class();
                        push(
                            out,
                            format_args!(
                                "<td class=\"{class}{first}\"><span>{}</span></td>",
                                escape(&cell.text)
                            ),
                        );
                    }
                    out.push_str("</tr>\n");
                }
            }
        }
        out.push_str("</tbody></table></div></figure>\n");
    }
}

impl Panel {
    /// Pixels of a cell: small pictures of few setups are not too small, nor those of many too large.
    fn cell(columns: usize) -> usize {
        (150 / columns.max(1)).clamp(9, 26)
    }

    /// Appends it; `id` is unique on the page.
    pub(super) fn draw(&self, id: &str, out: &mut String) {
        let columns = self.cells.iter().map(Vec::len).max().unwrap_or(0);
        let cell = Self::cell(columns);
        let (width, height) = (columns * cell, self.cells.len() * cell);
        push(
            out,
            format_args!(
                "<figure class=\"panel\"><figcaption>{}</figcaption>\
                 <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
                 viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
                 <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
                escape(&self.caption),
                escape(&self.caption),
                escape(&self.description)
            ),
        );
        for (y, row) in self.cells.iter().enumerate() {
            for (x, paint) in row.iter().enumerate().filter(|(_, paint)| **paint != Paint::Gap) {
                let size = cell - 1;
                push(
                    out,
                    format_args!(
                        "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{size}\" height=\"{size}\"/>",
                        paint.class(),
                        x * cell,
                        y * cell
                    ),
                );
            }
        }
        out.push_str("</svg></figure>\n");
    }
}

/// What states look like, and the scale from end to end.
pub(super) fn key(scale: Option<Scale>, out: &mut String) {
    out.push_str("<div class=\"key\">\n");
    if let Some(scale) = scale {
        let (first, last) = scale.ends();
        let kind = if scale.is_logarithmic() { "logarithmic" } else { "linear" };
        push(
            out,
            format_args!(
                "<p class=\"scale\"><span class=\"end\">{}</span><span class=\"steps\" aria-hidden=\"true\">",
                words::number(first, 3)
            ),
        );
        for step in 0..STEPS {
            let _: std::fmt::Result = write!(out, "<i class=\"v{step}\"></i>");
        }
        push(
            out,
            format_args!(
                "</span><span class=\"end\">{}</span> <span>one {kind} scale of distance for all of these</span></p>\n",
                words::number(last, 3)
            ),
        );
    }
    out.push_str(
        "<ul class=\"legend\" aria-label=\"Cell states\"><li><span class=\"swatch equal\">=</span> same bits</li>\
         <li><span class=\"swatch unknown\">≠</span> other bits, distance unknown</li>\
         <li><span class=\"swatch missing\"><span>∅</span></span> missing on one side</li>\
         <li><span class=\"swatch incomparable\"><span>×</span></span> incomparable</li></ul>\n</div>\n",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every paint of the scale carries its text at WCAG AA (4.5 to 1), as the style sheet pairs them.
    #[test]
    fn numbers_are_readable_on_every_step() {
        let style = include_str!("style.css");
        let channel = |hex: &str| f64::from(u8::from_str_radix(hex, 16).expect("hex")) / 255.0;
        let linear = |share: f64| {
            if share <= 0.04045 { share / 12.92 } else { libm::pow((share + 0.055) / 1.055, 2.4) }
        };
        let luminance = |color: &str| {
            let [red, green, blue] = [1, 3, 5].map(|at| linear(channel(&color[at..at + 2])));
            0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05
        };
        let color = |rule: &str, name: &str| {
            let at = rule.find(name).expect("a colour") + name.len();
            rule[at..at + 7].to_owned()
        };
        for step in 0..STEPS {
            let start = style.find(&format!(".v{step} {{")).expect("a rule per step");
            let rule = &style[start..start + style[start..].find('}').expect("an end")];
            let (ground, ink) =
                (luminance(&color(rule, "background: ")), luminance(&color(rule, "; color: ")));
            let contrast = (ground / ink).max(ink / ground);
            assert!(contrast >= 4.5, "{contrast} at {step}");
            assert_eq!(color(rule, "background: "), color(rule, "fill: "), "{rule}");
        }
    }
}
