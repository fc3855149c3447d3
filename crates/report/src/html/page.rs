//! A page under way: sections, tables, and links from numbers to their citations.

use mantissa_verdict::Analysis;
use mantissa_verdict::analysis::Citation;

use super::citations::Citations;
use crate::foreign::{html as escape, push};
use crate::grid::{Grid, Kind, Row};

/// Rows of a table or list, at most.
pub(super) const ROWS: usize = 500;
/// Citations listed beside one row or finding, at most.
const BESIDE: usize = 4;

pub(super) struct Page<'a> {
    pub(super) out: String,
    navigation: String,
    citations: Citations<'a>,
    figures: usize,
    tables: usize,
}

impl<'a> Page<'a> {
    pub(super) fn new(analysis: &'a Analysis) -> Self {
        let citations = Citations::new(&analysis.sources);
        Self { out: String::new(), navigation: String::new(), citations, figures: 0, tables: 0 }
    }

    /// What stands in the navigation, and what in the page.
    pub(super) fn finish(self) -> (String, String) {
        (self.navigation, self.out)
    }

    pub(super) fn open(&mut self, id: &str, heading: &str) {
        push(&mut self.navigation, format_args!("<li><a href=\"#{id}\">{heading}</a></li>"));
        push(
            &mut self.out,
            format_args!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n<h2 id=\"{id}-heading\">{heading}</h2>\n"
            ),
        );
    }

    pub(super) fn close(&mut self) {
        self.out.push_str("</section>\n");
    }

    /// Tables under a heading, where there are any.
    pub(super) fn section(&mut self, id: &str, heading: &str, grids: &[Grid<'a>]) {
        if grids.iter().all(|grid| grid.rows.is_empty()) {
            return;
        }
        self.open(id, heading);
        for grid in grids {
            self.grid(grid);
        }
        self.close();
    }

    /// A fresh identifier for a plot.
    pub(super) fn figure(&mut self) -> String {
        self.figures += 1;
        format!("figure-{}", self.figures)
    }

    /// Says that there is more than is shown.
    pub(super) fn cut(&mut self, shown: usize, all: usize, of: &str) {
        if all > shown {
            push(
                &mut self.out,
                format_args!(
                    "<p class=\"cut\">The first {shown} of {all} {of}; all are in analysis_results.json.</p>\n"
                ),
            );
        }
    }

    pub(super) fn grid(&mut self, grid: &Grid<'a>) {
        if grid.rows.is_empty() {
            return;
        }
        self.tables += 1;
        let (id, caption) = (self.tables, escape(&grid.caption));
        let sourced = grid.rows.iter().any(|row| !row.citations.is_empty());
        push(
            &mut self.out,
            format_args!(
                "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"table-{id}\"><table>\n\
                 <caption id=\"table-{id}\">{caption}</caption>\n<thead><tr>"
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
        self.cut(ROWS, grid.rows.len(), "rows");
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
    pub(super) fn cite_all(&mut self, citations: impl ExactSizeIterator<Item = &'a Citation>) {
        let more = citations.len().saturating_sub(BESIDE);
        for citation in citations.take(BESIDE) {
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
    pub(super) fn sources(&mut self, analysis: &Analysis) {
        self.open("sources", "Sources and citations");
        let grid = crate::grid::sources(analysis);
        self.tables += 1;
        let id = self.tables;
        push(
            &mut self.out,
            format_args!(
                "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"table-{id}\"><table>\n<caption id=\"table-{id}\">{}</caption>\n\
                 <thead><tr><th scope=\"col\">file</th><th scope=\"col\">layout</th><th scope=\"col\">blake3</th></tr></thead>\n<tbody>\n",
                grid.caption
            ),
        );
        for source in analysis.sources.iter().take(ROWS) {
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
        self.cut(ROWS, analysis.sources.len(), "files");
        self.citations.list(&mut self.out);
        if self.citations.is_full() {
            self.out.push_str("<p class=\"cut\">Further places are in analysis_results.json.</p>\n");
        }
        self.close();
    }
}

const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Words => "",
        Kind::Number => " class=\"number\"",
        Kind::Prose => " class=\"prose\"",
    }
}
