//! Files over 600 lines and lines over 120 characters.

use std::collections::BTreeMap;

const FILE: usize = 600;
const LINE: usize = 120;

/// Whether the checks read this file.
pub(crate) fn is_checked(path: &str) -> bool {
    [".rs", ".md", ".py"].iter().any(|ending| path.ends_with(ending))
        || matches!(path, "justfile" | ".ci/run")
}

/// Sources of crates over 600 lines, with their lines.
pub(crate) fn long_files(files: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let sources = files.iter().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"));
    let counted = sources.map(|(path, text)| (path.clone(), text.lines().count()));
    counted.filter(|(_, lines)| *lines > FILE).map(|(path, lines)| (path, lines.to_string())).collect()
}

/// How many lines of a file are too long, of those that have any.
pub(crate) fn long_lines(files: &BTreeMap<String, String>) -> BTreeMap<String, usize> {
    let counted =
        files.iter().map(|(path, text)| (path.clone(), count(text, path.rsplit('.').next() == Some("md"))));
    counted.filter(|(_, lines)| *lines > 0).collect()
}

/// Addresses do not count; in Markdown, neither do tables and blocks of code.
fn count(text: &str, markdown: bool) -> usize {
    let mut code = false;
    let mut long = 0;
    for line in text.lines() {
        let start = line.trim_start();
        code ^= markdown && start.starts_with("```");
        let exempt = markdown && (code || start.starts_with('|'));
        let address = |word: &&str| word.contains("https://") || word.contains("http://");
        let addresses: usize = line.split(' ').filter(address).map(|word| word.chars().count()).sum();
        long += usize::from(!exempt && line.chars().count() - addresses > LINE);
    }
    long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_120_characters_is_none_too_many() {
        let line = "ä".repeat(120);
        assert_eq!(count(&line, false), 0);
        assert_eq!(count(&format!("{line}b"), false), 1);
    }

    #[test]
    fn tables_code_and_addresses_of_markdown_do_not_count() {
        let long = "x".repeat(121);
        assert_eq!(count(&format!("| {long}\n```\n{long}\n```\nsee https://{long}\n"), true), 0);
        assert_eq!(count(&format!("```\n```\n{long}\n"), true), 1);
        assert_eq!(count(&format!("| {long}"), false), 1);
    }
}
