//! The rooms' own order: no circle between the files of a room, no file and no line that is too long, and between
//! crates only what `xtask/rooms.txt` names.
//!
//! What breaks a rule today is in that list, which can only shrink: an entry that no longer occurs is a failure too.
//! Left out: code of tests (`#[cfg(test)]`), which may look at everything.

mod circles;
mod crates;
mod lines;
mod list;
pub(crate) mod modules;
mod uses;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use list::List;

const LIST: &str = "xtask/rooms.txt";

/// What was found, as lines to print; nothing if all is in order.
///
/// With `shrink`, entries of the list that no longer occur are taken out of it first. With `explain`, every use inside
/// a circle is printed, not only one way round.
pub(crate) fn check(root: &Path, shrink: bool, explain: bool) -> Result<Vec<String>> {
    let files = tracked(root)?;
    let path = root.join(LIST);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let listed = List::parse(&text)?;
    let (mut found, circles) = (List::default(), circles_of_rooms(&files)?);
    found.circles = circles.iter().map(circles::Circle::files).collect();
    found.long_files = lines::long_files(&files);
    found.long_lines = lines::long_lines(&files);
    found.rooms = crates::rooms(root)?;
    if shrink {
        fs::write(&path, found.shrink(&text))?;
        return check(root, false, explain);
    }
    let mut said = listed.against(&found);
    for circle in &circles {
        if explain || !listed.circles.iter().any(|known| circle.files().is_subset(known)) {
            said.push(circle.told(explain));
        }
    }
    Ok(said)
}

/// The circles of every crate, each crate by itself.
fn circles_of_rooms(files: &BTreeMap<String, String>) -> Result<Vec<circles::Circle>> {
    let mut circles = Vec::new();
    for root in files.keys().filter(|path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")) {
        let modules = modules::read(files, root).with_context(|| format!("reading the modules of {root}"))?;
        circles.extend(circles::circles(&uses::uses(&modules)));
    }
    Ok(circles)
}

/// The files that the checks read, by their path from the root: those of git, and new ones that it does not ignore.
pub(crate) fn tracked(root: &Path) -> Result<BTreeMap<String, String>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(arguments).current_dir(root).output().context("running git")?;
    if !listed.status.success() {
        bail!("git ls-files failed in {}; run this inside the repository", root.display());
    }
    let mut files = BTreeMap::new();
    for path in String::from_utf8(listed.stdout)?.lines().filter(|path| lines::is_checked(path)) {
        if root.join(path).is_file() {
            files.insert(
                path.to_owned(),
                fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?,
            );
        }
    }
    Ok(files)
}
