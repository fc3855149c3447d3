//! Text that came from files, made harmless for the place where it is shown.
//!
//! Control characters, overrides of the writing direction and invisible characters are spelled out as `\u{202e}`, so
//! that a file can neither drive a terminal nor show a name that is not its own.

use std::fmt::Write as _;

/// Longest piece of foreign text that is shown; the rest stands in `analysis_results.json`.
const LONGEST: usize = 2_000;

/// One line in which every character can be seen.
pub(crate) fn visible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for (shown, c) in text.chars().enumerate() {
        if shown == LONGEST {
            push(&mut line, format_args!("… ({} characters in all)", text.chars().count()));
            break;
        }
        if is_hidden(c) {
            push(&mut line, format_args!("{}", c.escape_unicode()));
        } else {
            line.push(c);
        }
    }
    line
}

/// The same for HTML and SVG: content and quoted attributes.
pub(crate) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The same for names, which may break after a `_`, `-` or `/`.
pub(crate) fn html_name(text: &str) -> String {
    let mut broken = String::new();
    for part in html(text).split_inclusive(['_', '-', '/']) {
        if !broken.is_empty() {
            broken.push_str("<wbr/>");
        }
        broken.push_str(part);
    }
    broken
}

/// The same for a line or a table cell of GitHub's Markdown: nothing is a link, a mark, a column or a tag.
pub(crate) fn markdown(text: &str) -> String {
    let line = visible(text);
    let mut escaped = String::with_capacity(line.len());
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let inside_word = before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '_' if inside_word => escaped.push('_'),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '~' | '@' | '$' => escaped.extend(['\\', c]),
            // `https://` and `www.` become links without being asked to.
            ':' if rest.peek() == Some(&'/') => escaped.push_str("\\:"),
            '.' if before.eq_ignore_ascii_case(&'w') => escaped.push_str("\\."),
            c => escaped.push(c),
        }
        before = c;
    }
    escaped
}

/// Characters that steer instead of showing, and those that XML forbids.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Appends to a string, which cannot fail.
pub(crate) fn push(to: &mut String, text: std::fmt::Arguments<'_>) {
    // `fmt::Write` of a `String` never returns an error.
    let _: std::fmt::Result = to.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_spelled_out() {
        assert_eq!(
            visible("a\x1b[2J\nb\u{202e}c\u{200b}\u{feff}"),
            "a\\u{1b}[2J\\u{a}b\\u{202e}c\\u{200b}\\u{feff}"
        );
        assert_eq!(visible("naïve 模型"), "naïve 模型");
        let long = visible(&"x".repeat(3_000));
        assert!(long.ends_with("x… (3000 characters in all)") && long.len() < 2_100, "{long}");
    }

    #[test]
    fn html_has_no_way_out() {
        assert_eq!(html("<script>\"onload='&]]>"), "&lt;script&gt;&quot;onload=&#39;&amp;]]&gt;");
    }

    #[test]
    fn names_break_where_their_parts_end() {
        assert_eq!(html_name("h200_bs1-<a>/b"), "h200_<wbr/>bs1-<wbr/>&lt;a&gt;/<wbr/>b");
        assert_eq!(html_name(""), "");
    }

    #[test]
    fn markdown_has_no_way_out() {
        assert_eq!(markdown("a|b`c\nd<img>"), "a\\|b\\`c\\\\u{a}d&lt;img&gt;");
        assert_eq!(markdown("flash_attention_2 _x_ *y*"), "flash_attention_2 \\_x\\_ \\*y\\*");
        assert_eq!(markdown("https://a.b www.c.d @e [f](g)"), "https\\://a.b www\\.c.d \\@e \\[f\\](g)");
    }
}
