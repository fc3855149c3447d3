//! Text for terminals and Markdown.

use mantissa_report::{Style, markdown, text};
use unicode_width::UnicodeWidthStr as _;

use crate::sample::{HOSTILE, analysis};
use crate::{large, rendered};

#[test]
fn text_of_a_rich_analysis() {
    let page = text(&analysis(), Style::default());
    assert_eq!(page, text(&analysis(), Style::default()));
    insta::assert_snapshot!(page);
}

#[test]
fn markdown_of_a_rich_analysis() {
    insta::assert_snapshot!(rendered(|out| markdown(&analysis(), out)));
}

#[test]
fn no_line_is_broader_than_asked() {
    for width in [60, 80, 100, 132] {
        for analysis in [analysis(), large::analysis()] {
            let page = text(&analysis, Style { width, ..Style::default() });
            for line in page.lines() {
                assert!(line.width() <= width, "{} columns: {line}", line.width());
            }
        }
    }
}

#[test]
fn foreign_text_cannot_drive_a_terminal() {
    for color in [false, true] {
        let page = text(&analysis(), Style { color, ..Style::default() });
        let ours = ["\x1b[1;31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"]
            .iter()
            .fold(page.clone(), |page, ours| page.replace(ours, ""));
        assert_eq!(page != ours, color, "colour only where asked for");
        assert!(!ours.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{ours}");
    }
}

/// As many cells in every row of a table as in its title row, so that no name opens or closes one.
#[test]
fn markdown_tables_keep_their_shape() {
    let page = rendered(|out| markdown(&analysis(), out));
    let cells = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
    let mut width = None;
    let mut rows = 0;
    for line in page.lines() {
        if line.starts_with('|') {
            assert_eq!(*width.get_or_insert(cells(line)), cells(line), "{line}");
            rows += 1;
        } else {
            width = None;
        }
    }
    assert!(rows > 80, "{rows}");
    assert!(!page.contains("<script") && !page.contains("`rm`") && !page.contains("https://"), "{page}");
    assert!(HOSTILE.contains("<script"), "the sample tries");
}
