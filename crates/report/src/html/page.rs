//! One page for every verb: [`Parts`] laid out in one file that needs nothing else.
//!
//! The answer comes first, then what to know before relying on it, the grid, and sections. It is well-formed XML too,
//! which is how its tests read it. Left out: what a verb has to say (`analysis`, `audit`, `comparison`).

use std::borrow::Borrow;
use std::io::{self, Write};

use mantissa_verdict::analysis::Citation;

use super::citations::Citations;
use super::heat;
use super::limits::Cut;
use super::parts::{Block, Mark, Overview, Parts, Tone};
use crate::foreign::{html as escape, html_name, push};
use crate::grid::{Grid, Kind, Row};

/// Nothing is loaded and nothing runs; styles stand in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("style.css");
/// Hatches that small pictures refer to.
const HATCHES: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"0\" height=\"0\" class=\"hatches\" \
     aria-hidden=\"true\" focusable=\"false\"><defs><pattern id=\"hatch-missing\" width=\"5\" height=\"5\" \
     patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"5\" height=\"5\" \
     fill=\"var(--paper)\"/><rect width=\"2\" height=\"5\" fill=\"var(--hatch)\"/></pattern><pattern \
     id=\"hatch-incomparable\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\"><rect width=\"6\" height=\"6\" \
     fill=\"var(--paper)\"/><path d=\"M0 0L6 6M6 0L0 6\" stroke=\"var(--hatch)\"/></pattern></defs></svg>";

/// Rows of a table or list, at most.
pub(super) const ROWS: usize = 500;
/// Rows of the grid, at most.
const OVERVIEW: usize = 90;
/// Warnings that are open at once.
const WARNINGS: usize = 4;
/// Citations listed beside one row or finding, at most.
const BESIDE: usize = 4;

/// Writes a page.
pub(super) fn write(parts: &Parts<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page {
        out: String::new(),
        navigation: String::new(),
        citations: Citations::new(parts.sources),
        ids: 0,
        whole: parts.whole,
    };
    page.lead(parts);
    page.warnings(&parts.warnings);
    let before = std::mem::take(&mut page.out);
    if let Some(overview) = &parts.overview {
        page.overview(overview);
    }
    for section in parts.sections.iter().filter(|section| !section.blocks.is_empty()) {
        page.open(section.id, section.heading);
        page.blocks(&section.blocks, 3);
        page.out.push_str("</section>\n");
    }
    page.sources(parts);
    head(&format!("Mantissa {}: {}, {}", parts.verb.to_lowercase(), parts.lead.word, parts.subject), out)?;
    write!(
        out,
        "<a class=\"skip\" href=\"#main\">Skip to the answer</a>\n{HATCHES}\n\
         <header><p class=\"product\">Mantissa · {}</p><h1>{}</h1>\n<dl class=\"about\">",
        parts.verb,
        escape(&parts.subject)
    )?;
    for (label, value) in &parts.about {
        write!(out, "<div><dt>{label}</dt><dd>{}</dd></div>", escape(value))?;
    }
    let (navigation, body) = (page.navigation, page.out);
    write!(
        out,
        "</dl></header>\n<main id=\"main\" tabindex=\"-1\">\n{before}\
         <nav aria-label=\"Sections\"><ul>{navigation}</ul></nav>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Everything before the contents of a page.
pub(super) fn head(title: &str, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<meta name=\"referrer\" content=\"no-referrer\"/>\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape(title)
    )
}

/// A page under way.
struct Page<'a> {
    out: String,
    navigation: String,
    citations: Citations<'a>,
    ids: usize,
    whole: &'static str,
}

impl<'a> Page<'a> {
    fn open(&mut self, id: &str, heading: &str) {
        push(&mut self.navigation, format_args!("<li><a href=\"#{id}\">{heading}</a></li>"));
        push(
            &mut self.out,
            format_args!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n<h2 id=\"{id}-heading\">{heading}</h2>\n"
            ),
        );
    }

    /// A fresh identifier.
    fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}-{}", self.ids)
    }

    fn lead(&mut self, parts: &Parts<'_>) {
        let tone = match parts.lead.tone {
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Open => "unsure",
            Tone::Neutral => "neutral",
        };
        push(
            &mut self.out,
            format_args!(
                "<section id=\"answer\" class=\"answer {tone}\" aria-labelledby=\"answer-heading\">\n\
                 <h2 id=\"answer-heading\">{}</h2>\n",
                escape(&parts.lead.word)
            ),
        );
        for sentence in &parts.lead.sentences {
            push(&mut self.out, format_args!("<p>{}</p>\n", escape(sentence)));
        }
        self.out.push_str("</section>\n");
    }

    fn warnings(&mut self, warnings: &[String]) {
        if warnings.is_empty() {
            return;
        }
        let heading = if warnings.len() == 1 { "A warning" } else { "Warnings" };
        push(
            &mut self.out,
            format_args!(
                "<section id=\"warnings\" class=\"warnings\" aria-labelledby=\"warnings-heading\">\n\
                 <h2 id=\"warnings-heading\">{heading}</h2>\n"
            ),
        );
        let list = |warnings: &[String], out: &mut String| {
            out.push_str("<ul>\n");
            for warning in warnings {
                push(out, format_args!("<li>{}</li>\n", escape(warning)));
            }
            out.push_str("</ul>\n");
        };
        let (first, rest) = warnings.split_at(warnings.len().min(WARNINGS));
        list(first, &mut self.out);
        if !rest.is_empty() {
            push(&mut self.out, format_args!("<details><summary>{} more</summary>\n", rest.len()));
            list(&rest[..rest.len().min(ROWS)], &mut self.out);
            self.cut(Cut::of("further warnings", ROWS, rest.len()));
            self.out.push_str("</details>\n");
        }
        self.out.push_str("</section>\n");
    }

    fn overview(&mut self, overview: &Overview) {
        self.open("overview", overview.heading);
        self.out.push_str("<ul class=\"legend\" aria-label=\"Answers\">");
        for (mark, means) in &overview.legend {
            push(
                &mut self.out,
                format_args!(
                    "<li><span class=\"swatch {}\"><span>{}</span></span> {means}</li>",
                    mark.look.class(),
                    mark.look.symbol()
                ),
            );
        }
        let mut marks = overview.groups.iter().flat_map(|group| &group.rows).flat_map(|(_, marks)| marks);
        if marks.any(Option::is_none) {
            self.out.push_str("<li>blank: not compared</li>");
        }
        self.out.push_str("</ul>\n");
        push(
            &mut self.out,
            format_args!(
                "<figure class=\"matrix\"><figcaption id=\"overview-caption\">{}</figcaption>\n\
                 <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"overview-caption\">\
                 <table class=\"overview\" aria-labelledby=\"overview-caption\">\n\
                 <thead><tr><th scope=\"col\" rowspan=\"2\">{}</th>",
                escape(&overview.caption),
                overview.corner
            ),
        );
        for (phase, signals) in &overview.columns {
            push(
                &mut self.out,
                format_args!("<th scope=\"colgroup\" colspan=\"{}\">{}</th>", signals.len(), escape(phase)),
            );
        }
        self.out.push_str("</tr><tr>");
        for signal in overview.columns.iter().flat_map(|(_, signals)| signals) {
            push(&mut self.out, format_args!("<th scope=\"col\">{}</th>", escape(signal)));
        }
        self.out.push_str("</tr></thead>\n");
        let columns: usize = overview.columns.iter().map(|(_, signals)| signals.len()).sum();
        let mut left = OVERVIEW;
        for group in overview.groups.iter().filter(|group| !group.rows.is_empty()) {
            if left == 0 {
                break;
            }
            self.out.push_str("<tbody>\n");
            if let Some(heading) = &group.heading {
                push(
                    &mut self.out,
                    format_args!(
                        "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{}\">{}</th></tr>\n",
                        columns + 1,
                        escape(heading)
                    ),
                );
            }
            for (label, marks) in group.rows.iter().take(left) {
                push(&mut self.out, format_args!("<tr><th scope=\"row\">{}</th>", html_name(label)));
                for mark in marks {
                    self.mark(mark.as_ref());
                }
                self.out.push_str("</tr>\n");
            }
            left -= group.rows.len().min(left);
            self.out.push_str("</tbody>\n");
        }
        self.out.push_str("</table></div></figure>\n");
        let rows = overview.groups.iter().map(|group| group.rows.len()).sum();
        self.cut(Cut::of("rows", OVERVIEW, rows));
        self.out.push_str("</section>\n");
    }

    fn mark(&mut self, mark: Option<&Mark>) {
        let Some(mark) = mark else {
            self.out.push_str("<td class=\"unasked\"><span class=\"hidden\">not compared</span></td>");
            return;
        };
        push(
            &mut self.out,
            format_args!(
                "<td class=\"{}\"><span><b aria-hidden=\"true\">{}</b><span class=\"hidden\">{}</span>",
                mark.look.class(),
                mark.look.symbol(),
                escape(&mark.word)
            ),
        );
        if !mark.figure.is_empty() {
            push(&mut self.out, format_args!(" <small>{}</small>", escape(&mark.figure)));
        }
        self.out.push_str("</span></td>");
    }

    fn blocks(&mut self, blocks: &[Block<'a>], level: u8) {
        for block in blocks {
            match block {
                Block::Heading(text) => {
                    push(&mut self.out, format_args!("<h{level}>{}</h{level}>\n", escape(text)));
                }
                Block::Text(text) => push(&mut self.out, format_args!("<p>{}</p>\n", escape(text))),
                Block::Facts(facts) => {
                    self.out.push_str("<dl class=\"facts\">");
                    for (label, value) in facts {
                        push(
                            &mut self.out,
                            format_args!("<div><dt>{label}</dt><dd>{}</dd></div>", escape(value)),
                        );
                    }
                    self.out.push_str("</dl>\n");
                }
                Block::List(items) => {
                    self.out.push_str("<ul class=\"findings\">\n");
                    for item in items.iter().take(ROWS) {
                        push(&mut self.out, format_args!("<li>{} ", escape(&item.text)));
                        self.cite_all(item.citations.iter());
                        self.out.push_str("</li>\n");
                    }
                    self.out.push_str("</ul>\n");
                    self.cut(Cut::of("lines", ROWS, items.len()));
                }
                Block::Grid(grid) => self.grid(grid),
                Block::Folded { summary, blocks } => {
                    push(&mut self.out, format_args!("<details><summary>{}</summary>\n", escape(summary)));
                    self.blocks(blocks, level + 1);
                    self.out.push_str("</details>\n");
                }
                Block::Key(scale) => heat::key(*scale, &mut self.out),
                Block::Heat(heat) => {
                    let id = self.id("heat");
                    heat.draw(&id, &mut self.out);
                }
                Block::Panels { caption, panels } => {
                    push(
                        &mut self.out,
                        format_args!(
                            "<p class=\"panels-caption\">{}</p>\n<div class=\"panels\">\n",
                            escape(caption)
                        ),
                    );
                    for panel in panels {
                        let id = self.id("panel");
                        panel.draw(&id, &mut self.out);
                    }
                    self.out.push_str("</div>\n");
                }
                Block::Strips(strips) => {
                    let id = self.id("strip");
                    strips.draw(&id, &mut self.out);
                }
                Block::Lines(lines) => {
                    let id = self.id("lines");
                    lines.draw(&id, &mut self.out);
                }
                Block::Boxes(boxes) => {
                    self.out.push_str("<ul class=\"classes\">\n");
                    for one in boxes.iter().take(ROWS) {
                        let class = if one.placed { "" } else { " class=\"unplaced\"" };
                        push(&mut self.out, format_args!("<li{class}><p>{}</p><ul>", escape(&one.heading)));
                        for member in one.members.iter().take(ROWS) {
                            push(&mut self.out, format_args!("<li>{}</li>", escape(member)));
                        }
                        self.out.push_str("</ul>");
                        self.cut(Cut::of("members", ROWS, one.members.len()));
                        self.out.push_str("</li>\n");
                    }
                    self.out.push_str("</ul>\n");
                    self.cut(Cut::of("classes", ROWS, boxes.len()));
                }
                Block::Cut(cut) => self.cut(Some(cut)),
            }
        }
    }

    /// Says that there is more than is shown.
    fn cut(&mut self, cut: Option<impl Borrow<Cut>>) {
        if let Some(cut) = cut {
            let said = cut.borrow().said(self.whole);
            push(&mut self.out, format_args!("<p class=\"cut\">{}</p>\n", escape(&said)));
        }
    }

    fn grid(&mut self, grid: &Grid<'a>) {
        if grid.rows.is_empty() {
            return;
        }
        let (id, caption) = (self.id("table"), escape(&grid.caption));
        let sourced = grid.rows.iter().any(|row| !row.citations.is_empty());
        push(
            &mut self.out,
            format_args!(
                "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"{id}\"><table>\n\
                 <caption id=\"{id}\">{caption}</caption>\n<thead><tr>"
            ),
        );
        for column in &grid.columns {
            let class = class(column.kind);
            if column.title.is_empty() {
                self.out.push_str("<td></td>");
            } else {
                push(&mut self.out, format_args!("<th scope=\"col\"{class}>{}</th>", escape(&column.title)));
            }
        }
        self.out.push_str(if sourced {
            "<th scope=\"col\">sources</th></tr></thead>\n<tbody>\n"
        } else {
            "</tr></thead>\n<tbody>\n"
        });
        for row in grid.rows.iter().take(ROWS) {
            self.row(grid, row, sourced);
        }
        self.out.push_str("</tbody></table></div>\n");
        self.cut(Cut::of("rows", ROWS, grid.rows.len()));
        if let Some(note) = &grid.note {
            push(&mut self.out, format_args!("<p class=\"note\">{}</p>\n", escape(note)));
        }
    }

    fn row(&mut self, grid: &Grid<'a>, row: &Row<'a>, sourced: bool) {
        self.out.push_str("<tr>");
        for (i, column) in grid.columns.iter().enumerate() {
            let cell = row.cells.get(i).map_or("", String::as_str);
            let text = escape(cell);
            if i == 0 {
                push(&mut self.out, format_args!("<th scope=\"row\">{text}</th>"));
                continue;
            }
            push(&mut self.out, format_args!("<td{}>", class(column.kind)));
            let source = row.source_of(i).filter(|_| column.kind == Kind::Number && !cell.is_empty());
            match source.and_then(|citation| self.citations.number(citation)) {
                Some(number) => push(&mut self.out, format_args!("<a href=\"#c{number}\">{text}</a>")),
                None if column.title == "answer" || column.title == "agreement" => {
                    push(&mut self.out, format_args!("<span class=\"kind\">{text}</span>"));
                }
                None => self.out.push_str(&text),
            }
            self.out.push_str("</td>");
        }
        if sourced {
            self.out.push_str("<td>");
            self.cite_all(row.citations.iter().copied());
            self.out.push_str("</td>");
        }
        self.out.push_str("</tr>\n");
    }

    /// Links to the first citations, and how many more there are.
    fn cite_all(&mut self, citations: impl ExactSizeIterator<Item = &'a Citation>) {
        let more = citations.len().saturating_sub(BESIDE);
        for (i, citation) in citations.enumerate() {
            if i >= BESIDE {
                self.citations.leave_out(citation);
                continue;
            }
            match self.citations.number(citation) {
                Some(number) => push(
                    &mut self.out,
                    format_args!(
                        "<a class=\"cite\" href=\"#c{number}\" aria-label=\"citation {number}\">[{number}]</a> "
                    ),
                ),
                None => push(
                    &mut self.out,
                    format_args!("{}, {} ", escape(&citation.source), escape(&citation.place)),
                ),
            }
        }
        if more > 0 {
            push(&mut self.out, format_args!("<span class=\"more\">and {more} more</span>"));
        }
    }

    /// Every file, and every place in it that something above cites.
    fn sources(&mut self, parts: &Parts<'a>) {
        if parts.sources.is_empty() {
            return;
        }
        self.open("sources", "Sources and citations");
        let id = self.id("table");
        push(
            &mut self.out,
            format_args!(
                "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"{id}\"><table>\n\
                 <caption id=\"{id}\">Evidence</caption>\n<thead><tr><th scope=\"col\">file</th>\
                 <th scope=\"col\">layout</th><th scope=\"col\">blake3</th></tr></thead>\n<tbody>\n"
            ),
        );
        for source in parts.sources.iter().take(ROWS) {
            push(
                &mut self.out,
                format_args!(
                    "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"digest\"><code>{}</code></td></tr>\n",
                    escape(&source.name),
                    escape(&source.layout),
                    escape(&source.digest)
                ),
            );
        }
        self.out.push_str("</tbody></table></div>\n");
        self.cut(Cut::of("files", ROWS, parts.sources.len()));
        self.citations.list(&mut self.out);
        let (shown, cited) = self.citations.counts();
        self.cut(Cut::of("places that numbers come from", shown, cited));
        self.out.push_str("</section>\n");
    }
}

const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Words => "",
        Kind::Number => " class=\"number\"",
        Kind::Prose => " class=\"prose\"",
    }
}
