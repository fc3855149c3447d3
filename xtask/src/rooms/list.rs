//! The list beside the checks, `xtask/rooms.txt`: which room may use which, and what breaks a rule today.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// The list as it stands, or what was found, in the same shape.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct List {
    /// Room → rooms that it links.
    pub(crate) rooms: BTreeMap<String, BTreeSet<String>>,
    /// Files of one circle.
    pub(crate) circles: Vec<BTreeSet<String>>,
    /// File over the limit → its reason, or, where found, its number of lines.
    pub(crate) long_files: BTreeMap<String, String>,
    /// File → number of lines that are too long.
    pub(crate) long_lines: BTreeMap<String, usize>,
}

impl List {
    /// Reads the list: a line is an entry, `#` begins a comment.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut list = Self::default();
        for (number, line) in text.lines().enumerate() {
            list.entry(line).with_context(|| format!("xtask/rooms.txt, line {}: {line}", number + 1))?;
        }
        Ok(list)
    }

    fn entry(&mut self, line: &str) -> Result<()> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (kind, rest) = line.split_once(' ').context("an entry needs a value")?;
        match kind {
            "room" => {
                let (room, linked) = rest.split_once(':').context("room NAME: ROOMS")?;
                self.rooms.insert(room.to_owned(), linked.split_whitespace().map(str::to_owned).collect());
            }
            "circle" => self.circles.push(rest.split_whitespace().map(str::to_owned).collect()),
            "long-file" => {
                let (file, reason) = rest.split_once(": ").context("long-file PATH: REASON")?;
                self.long_files.insert(file.to_owned(), reason.to_owned());
            }
            "long-lines" => {
                let (count, file) = rest.split_once(' ').context("long-lines COUNT PATH")?;
                self.long_lines.insert(file.to_owned(), count.parse()?);
            }
            _ => bail!("no such entry; use room, circle, long-file or long-lines"),
        }
        Ok(())
    }

    /// What of `found` the list does not allow, and what of the list was not found. (A new circle is told elsewhere,
    /// with its way round.)
    pub(crate) fn against(&self, found: &Self) -> Vec<String> {
        const GONE: &str = "; `cargo run -p xtask -- rooms --shrink` takes it off the list";
        let mut said = Vec::new();
        let rooms: BTreeSet<_> = self.rooms.keys().chain(found.rooms.keys()).collect();
        for room in rooms {
            let (listed, linked) = (self.rooms.get(room), found.rooms.get(room));
            if listed != linked {
                said.push(format!("room {room}: links {linked:?}, the list says {listed:?}"));
            }
        }
        for circle in self.circles.iter().filter(|circle| !found.circles.contains(circle)) {
            let files: Vec<_> = circle.iter().map(String::as_str).collect();
            said.push(format!("circle {}: gone or smaller{GONE}", files.join(" ")));
        }
        for (file, lines) in &found.long_files {
            if !self.long_files.contains_key(file) {
                said.push(format!("{file}: {lines} lines, more than 600; split it where the idea parts"));
            }
        }
        for file in self.long_files.keys().filter(|file| !found.long_files.contains_key(*file)) {
            said.push(format!("long-file {file}: no longer over 600 lines{GONE}"));
        }
        for (file, count) in &found.long_lines {
            let allowed = self.long_lines.get(file).copied().unwrap_or(0);
            if *count > allowed {
                said.push(format!("{file}: {count} lines over 120 characters, {allowed} on the list"));
            }
        }
        for (file, allowed) in &self.long_lines {
            let count = found.long_lines.get(file).copied().unwrap_or(0);
            if count < *allowed {
                said.push(format!("long-lines {file}: {count}, the list says {allowed}{GONE}"));
            }
        }
        said
    }

    /// A list's text without what is not among these findings. Nothing is added.
    pub(crate) fn shrink(&self, text: &str) -> String {
        let mut kept = Vec::new();
        for line in text.lines() {
            let mut entry = Self::default();
            let read = entry.entry(line);
            debug_assert!(read.is_ok(), "the list was read before");
            if let Some(circle) = entry.circles.first() {
                for smaller in self.circles.iter().filter(|smaller| smaller.is_subset(circle)) {
                    let files: Vec<_> = smaller.iter().map(String::as_str).collect();
                    kept.push(format!("circle {}", files.join(" ")));
                }
            } else if let Some((file, allowed)) = entry.long_lines.first_key_value() {
                let count = self.long_lines.get(file).copied().unwrap_or(0).min(*allowed);
                if count > 0 {
                    kept.push(format!("long-lines {count} {file}"));
                }
            } else if entry.long_files.keys().all(|file| self.long_files.contains_key(file)) {
                kept.push(line.to_owned());
            }
        }
        kept.push(String::new());
        kept.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# why\nroom a: b\ncircle x y z\nlong-file f: reason\nlong-lines 3 g\nlong-lines 1 h\n";

    #[test]
    fn what_stands_on_the_list_is_allowed_and_nothing_more() {
        let list = List::parse(TEXT).expect("the list");
        assert_eq!(list.against(&list), Vec::<String>::new());
        let mut more = List::parse(TEXT).expect("the list");
        more.long_lines.insert("g".to_owned(), 4);
        more.long_files.insert("new".to_owned(), "601".to_owned());
        more.rooms.insert("a".to_owned(), BTreeSet::new());
        assert_eq!(list.against(&more).len(), 3);
    }

    #[test]
    fn what_no_longer_occurs_is_told_and_shrunk() {
        let list = List::parse(TEXT).expect("the list");
        let found = List::parse("room a: b\ncircle x y\nlong-lines 2 g\n").expect("the findings");
        assert_eq!(list.against(&found).len(), 4);
        let shrunk = found.shrink(TEXT);
        assert_eq!(shrunk, "# why\nroom a: b\ncircle x y\nlong-lines 2 g\n");
        assert!(List::parse(&shrunk).expect("the list").against(&found).is_empty());
    }

    #[test]
    fn a_line_that_is_no_entry_is_an_error() {
        assert!(List::parse("circles a b").is_err());
        assert!(List::parse("long-lines many a").is_err());
    }
}
