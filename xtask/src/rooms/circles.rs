//! Circles in the graph of files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::uses::Uses;

/// Files of which each leads to each other (a strongly connected component), with the uses among them.
pub(crate) struct Circle {
    uses: Uses,
}

/// All circles of one crate.
pub(crate) fn circles(uses: &Uses) -> Vec<Circle> {
    let files: BTreeSet<&str> = uses.keys().map(|(from, _)| from.as_str()).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|file| (*file, reach(uses, file))).collect();
    let mut placed = BTreeSet::new();
    let mut circles = Vec::new();
    for file in files {
        if !reached[file].contains(file) || placed.contains(file) {
            continue;
        }
        let back = |other: &&&str| reached.get(**other).is_some_and(|there| there.contains(file));
        let members: BTreeSet<&str> = reached[file].iter().filter(back).copied().collect();
        let inside = uses
            .iter()
            .filter(|((from, to), _)| members.contains(from.as_str()) && members.contains(to.as_str()));
        circles.push(Circle { uses: inside.map(|(edge, names)| (edge.clone(), names.clone())).collect() });
        placed.extend(members);
    }
    circles
}

/// Files that a file leads to, in one step or more.
fn reach<'a>(uses: &'a Uses, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for (_, to) in uses.keys().filter(|(user, _)| user == file) {
            if reached.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    reached
}

impl Circle {
    pub(crate) fn files(&self) -> BTreeSet<String> {
        self.uses.keys().map(|(from, _)| from.clone()).collect()
    }

    /// The circle in words: its files and a shortest way round, or every use inside it.
    pub(crate) fn told(&self, whole: bool) -> String {
        let files: Vec<_> = self.files().into_iter().collect();
        let mut told = vec![format!("circle of {} files: {}", files.len(), files.join(" "))];
        let way: Vec<(String, String)> =
            if whole { self.uses.keys().cloned().collect() } else { self.shortest() };
        for edge in way {
            let names: Vec<_> =
                self.uses[&edge].iter().map(|(name, line)| format!("{name} (line {line})")).collect();
            told.push(format!("  {} uses {}: {}", edge.0, edge.1, names.join(", ")));
        }
        told.join("\n")
    }

    fn shortest(&self) -> Vec<(String, String)> {
        let ways = self.files().into_iter().filter_map(|file| self.round(&file));
        ways.min_by_key(Vec::len).unwrap_or_default()
    }

    /// A shortest way from a file back to itself.
    fn round(&self, start: &str) -> Option<Vec<(String, String)>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = VecDeque::from([start]);
        while let Some(file) = open.pop_front() {
            for (_, to) in self.uses.keys().filter(|(from, _)| from == file) {
                if !before.contains_key(to.as_str()) {
                    before.insert(to, file);
                    open.push_back(to);
                }
            }
        }
        let mut way = Vec::new();
        let mut file = start;
        loop {
            let previous = *before.get(file)?;
            way.push((previous.to_owned(), file.to_owned()));
            file = previous;
            if file == start {
                way.reverse();
                return Some(way);
            }
        }
    }
}
