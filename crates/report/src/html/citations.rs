//! Places that numbers come from, numbered in the order in which they are cited and listed by file.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_verdict::analysis::{Citation, Source};

use crate::foreign::{html as escape, push};

/// Places on a page, at most.
const MOST: usize = 4_000;

pub(super) struct Citations<'a> {
    sources: &'a [Source],
    numbers: BTreeMap<&'a Citation, usize>,
    /// Cited without a number.
    left_out: BTreeSet<&'a Citation>,
}

impl<'a> Citations<'a> {
    pub(super) const fn new(sources: &'a [Source]) -> Self {
        Self { sources, numbers: BTreeMap::new(), left_out: BTreeSet::new() }
    }

    /// Its number, while the page has room for it.
    pub(super) fn number(&mut self, citation: &'a Citation) -> Option<usize> {
        let next = self.numbers.len() + 1;
        if let Some(&number) = self.numbers.get(citation) {
            return Some(number);
        }
        if next > MOST {
            self.leave_out(citation);
            return None;
        }
        self.numbers.insert(citation, next);
        Some(next)
    }

    /// Notes a place that the page cites and does not name.
    pub(super) fn leave_out(&mut self, citation: &'a Citation) {
        self.left_out.insert(citation);
    }

    /// Places with a number, and all that are cited.
    pub(super) fn counts(&self) -> (usize, usize) {
        let unnamed = self.left_out.iter().filter(|citation| !self.numbers.contains_key(*citation)).count();
        (self.numbers.len(), self.numbers.len() + unnamed)
    }

    /// Appends a list per file.
    pub(super) fn list(&self, out: &mut String) {
        let mut by_file: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
        for (citation, &number) in &self.numbers {
            by_file.entry(&citation.source).or_default().push((number, &citation.place));
        }
        for source in self.sources {
            if let Some(places) = by_file.remove(source.name.as_str()) {
                let digest = source.digest.get(..16).unwrap_or(&source.digest);
                list(out, &source.name, &format!("{}, blake3 {digest}…", source.layout), places);
            }
        }
        for (name, places) in by_file {
            list(out, name, "not among the files analyzed", places);
        }
    }
}

fn list(out: &mut String, name: &str, what: &str, mut places: Vec<(usize, &str)>) {
    places.sort_unstable();
    let (name, what) = (escape(name), escape(what));
    // The heading stays in sight over its list, so that whoever comes by a link sees the file.
    push(
        out,
        format_args!(
            "<div class=\"cited\">\n<h3>{name} <small>{what}</small></h3>\n<ul class=\"citations\">\n"
        ),
    );
    for (number, place) in places {
        push(
            out,
            format_args!(
                "<li id=\"c{number}\"><span class=\"cite\">[{number}]</span> <code>{}</code></li>\n",
                escape(place)
            ),
        );
    }
    out.push_str("</ul>\n</div>\n");
}
