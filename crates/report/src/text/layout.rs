//! Lines and tables of a given width, measured in columns of a terminal, not in characters.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::foreign::visible;
use crate::grid::{Column, Grid, Kind};

/// Between two columns.
const GAP: usize = 2;
/// Words up to this length are not broken for want of room; digests and paths are longer.
const LONG_WORD: usize = 16;

pub(super) fn blank(width: usize) -> String {
    " ".repeat(width)
}

/// Breaks a line at spaces, and words where they are too long: `width` in columns of a terminal.
///
/// ```
/// assert_eq!(mantissa_report::wrap("aa bb cc", 5), ["aa bb", "cc"]);
/// assert_eq!(mantissa_report::wrap("abcdefg h", 3), ["abc", "def", "g h"]);
/// ```
#[must_use]
pub fn wrap(line: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in line.split(' ') {
        let long = word.width();
        if used > 0 && used + 1 + long > width {
            lines.push(String::new());
            used = 0;
        }
        if used > 0 {
            append(&mut lines, " ");
            used += 1;
        }
        for c in word.chars() {
            let broad = c.width().unwrap_or(0);
            if used + broad > width && used > 0 {
                lines.push(String::new());
                used = 0;
            }
            append(&mut lines, c.encode_utf8(&mut [0; 4]));
            used += broad;
        }
    }
    lines
}

fn append(lines: &mut [String], text: &str) {
    if let Some(last) = lines.last_mut() {
        last.push_str(text);
    }
}

/// How many columns from one on stand beside the first without being squeezed; at least one.
pub(super) fn fitting(grid: &Grid<'_>, from: usize, width: usize) -> usize {
    let natural = |i: usize| {
        let cells = grid.rows.iter().filter_map(|row| row.cells.get(i)).map(|cell| visible(cell).width());
        cells.chain([visible(&grid.columns[i].title).width()]).max().unwrap_or(0)
    };
    let mut used = GAP + natural(0).min(width / 3);
    let mut count = 0;
    for i in from..grid.columns.len() {
        used += GAP + natural(i).min(width / 4);
        if used > width && count > 0 {
            break;
        }
        count += 1;
    }
    count.max(1)
}

/// A table for a terminal: titles (and whether numbers stand under them) over rows of plain text. Columns are as wide
/// as they need to be while all fit into `width`; else titles of numbers wrap, then the broadest columns of words.
/// Where that is not enough, each row is a paragraph.
///
/// ```
/// let rows = [vec!["keys".to_owned(), "12".to_owned()]];
/// let columns = [("signal", false), ("rows", true)];
/// assert_eq!(mantissa_report::table(&columns, &rows, 80, false), "  signal  rows\n  keys      12\n");
/// ```
#[must_use]
pub fn plain(columns: &[(&str, bool)], rows: &[Vec<String>], width: usize, color: bool) -> String {
    let kind = |number: bool| if number { Kind::Number } else { Kind::Words };
    let columns: Vec<Column> =
        columns.iter().map(|&(title, number)| Column::new(title, kind(number))).collect();
    let mut out = String::new();
    table(&mut out, &columns, rows, width, color);
    out
}

/// Appends a table: columns as wide as they need to be while all fit, else titles of numbers wrap, then the broadest
/// columns of words. Where not even whole numbers and words would stand side by side, each row is a paragraph.
pub(super) fn table(out: &mut String, columns: &[Column], rows: &[Vec<String>], width: usize, color: bool) {
    let titles: Vec<String> = columns.iter().map(|column| visible(&column.title)).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let (dim, plain) = if color { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    let Some(widths) = widths(&titles, columns, &rows, width.saturating_sub(GAP * columns.len())) else {
        for row in &rows {
            paragraph(out, &titles, row, width, [dim, plain]);
        }
        return;
    };
    set(out, &titles, columns, &widths, dim, plain);
    for row in &rows {
        set(out, row, columns, &widths, "", "");
    }
}

/// Widths of columns that share `room`, if they can.
fn widths(titles: &[String], columns: &[Column], rows: &[Vec<String>], room: usize) -> Option<Vec<usize>> {
    let longest_word = |text: &str| text.split(' ').map(str::width).max().unwrap_or(0);
    let of = |wide: &dyn Fn(usize, &str, bool) -> usize| -> Vec<usize> {
        let column = |i: usize| {
            let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| wide(i, cell, false)).max();
            cells.unwrap_or(0).max(wide(i, &titles[i], true)).max(1)
        };
        (0..columns.len()).map(column).collect()
    };
    let number = |i: usize| columns[i].kind == Kind::Number;
    let whole = of(&|_, text, _| text.width());
    if whole.iter().sum::<usize>() <= room {
        return Some(whole);
    }
    let mut widths = of(&|i, text, title| if title && number(i) { longest_word(text) } else { text.width() });
    let least = of(&|i, text, title| {
        if number(i) && !title { text.width() } else { longest_word(text).min(LONG_WORD) }
    });
    while widths.iter().sum::<usize>() > room {
        let broadest = (0..widths.len())
            .filter(|&i| widths[i] > least[i])
            .max_by_key(|&i| (!number(i), widths[i], std::cmp::Reverse(i)))?;
        widths[broadest] -= 1;
    }
    Some(widths)
}

/// A row under its first cell: what a column is called, and what stands in it.
fn paragraph(out: &mut String, titles: &[String], row: &[String], width: usize, [dim, plain]: [&str; 2]) {
    let mut cells = titles.iter().zip(row);
    if let Some((_, first)) = cells.next() {
        for line in wrap(first, width.saturating_sub(GAP)) {
            out.extend([blank(GAP).as_str(), line.as_str(), "\n"]);
        }
    }
    let room = width.saturating_sub(2 * GAP).max(1);
    let mut used = 0;
    for (title, cell) in cells.filter(|(_, cell)| !cell.is_empty()) {
        let both = title.width() + usize::from(!title.is_empty()) + cell.width();
        if used > 0 && used + GAP + both > room {
            out.push('\n');
            used = 0;
        }
        let before = if used == 0 { 2 * GAP } else { GAP };
        out.push_str(&blank(before));
        used += both + if used == 0 { 0 } else { GAP };
        if both <= room {
            let gap = if title.is_empty() { "" } else { " " };
            out.extend([dim, title, plain, gap, cell]);
        } else {
            let lines = wrap(format!("{title} {cell}").trim_start(), room);
            out.push_str(&lines.join(&format!("\n{}", blank(2 * GAP))));
        }
    }
    if used > 0 {
        out.push('\n');
    }
}

fn set(out: &mut String, row: &[String], columns: &[Column], widths: &[usize], dim: &str, plain: &str) {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, &width)| wrap(cell, width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut text = String::new();
        for ((cell, column), &width) in cells.iter().zip(columns).zip(widths) {
            let part = cell.get(line).map_or("", String::as_str);
            let rest = blank(width.saturating_sub(part.width()));
            text.push_str(&blank(GAP));
            if column.kind == Kind::Number {
                text.extend([rest.as_str(), part]);
            } else {
                text.extend([part, rest.as_str()]);
            }
        }
        out.extend([dim, text.trim_end(), plain, "\n"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_words_and_measure_columns() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("abcdefg h", 3), ["abc", "def", "g h"]);
        assert_eq!(wrap("模型模型", 5), ["模型", "模型"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn tables_keep_to_their_width() {
        let columns = [Column::new("name", Kind::Words), Column::new("much too long", Kind::Number)];
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let mut out = String::new();
        let rows = [row(["模型", "1"]), row(["a name that is far too long for its column", "0.25"])];
        table(&mut out, &columns, &rows, 30, false);
        assert_eq!(
            out,
            "  name                    much\n                           too\n                          long\n  模型                       1\n  a name that is far too  0.25\n  long for its column\n"
        );
        assert!(out.lines().all(|line| line.width() <= 30), "{out}");
    }

    #[test]
    fn numbers_are_never_broken() {
        let columns: Vec<Column> = [("site", Kind::Words), ("min", Kind::Number), ("digest", Kind::Words)]
            .map(|(title, kind)| Column::new(title, kind))
            .into();
        let rows = [["prefill/layer_1.k", "-3.953125", "41fa92e29b26bee3"].map(str::to_owned).to_vec()];
        let mut out = String::new();
        table(&mut out, &columns, &rows, 30, false);
        assert_eq!(out, "  prefill/layer_1.k\n    min -3.953125\n    digest 41fa92e29b26bee3\n");
        out.clear();
        table(&mut out, &columns, &rows, 48, false);
        let titles = "  site                     min  digest\n";
        assert_eq!(out, format!("{titles}  prefill/layer_1.k  -3.953125  41fa92e29b26bee3\n"));
    }
}
