//! Models that other programs downloaded: the cache of huggingface_hub, `models--ORG--NAME/snapshots/COMMIT`.
//!
//! *Source:* huggingface_hub's guide to its cache: `refs/REVISION` holds the commit of a branch or tag, `snapshots` a
//! folder for each commit. Left out: where the cache is (cli), and writing to it.

use std::path::{Path, PathBuf};

use crate::error::{ModelError, read_small, shown, shown_path};

/// Longest content of a file in `refs`.
const LONGEST_REF: u64 = 256;
/// Fewest characters of a commit that stand for it.
const SHORTEST_COMMIT: usize = 7;

/// The folder of a repository in a cache.
pub(super) fn folder(cache: &Path, id: &str) -> PathBuf {
    cache.join(format!("models--{}", id.replace('/', "--")))
}

/// Whether this is the folder of a repository in a cache.
pub(super) fn is_repository(path: &Path) -> bool {
    path.join("snapshots").is_dir() && !path.join("config.json").exists()
}

/// The snapshot of a revision, or of `main`, or the only one there is.
pub(super) fn snapshot(repository: &Path, revision: Option<&str>) -> Result<PathBuf, ModelError> {
    let snapshots = repository.join("snapshots");
    let here = |name: &str| Some(snapshots.join(name)).filter(|path| path.is_dir());
    let named = |reference: &str| {
        let path = repository.join("refs").join(reference);
        let commit = path.is_file().then(|| read_small(&path, LONGEST_REF)).transpose()?;
        Ok::<_, ModelError>(commit.and_then(|commit| String::from_utf8(commit).ok()))
    };
    let commits = commits(&snapshots)?;
    let by_beginning = |revision: &str| {
        let mut begin = commits.iter().filter(|commit| commit.starts_with(revision));
        let one = begin.next().filter(|_| begin.next().is_none());
        one.filter(|_| revision.len() >= SHORTEST_COMMIT).and_then(|commit| here(commit))
    };
    let found = match (named(revision.unwrap_or("main"))?, revision, commits.as_slice()) {
        (Some(commit), ..) => here(commit.trim()),
        (None, Some(revision), _) => by_beginning(revision),
        (None, None, [only]) => here(only),
        (None, None, _) => None,
    };
    found.ok_or_else(|| {
        let revision = revision.unwrap_or("main");
        let begin = commits.iter().filter(|commit| commit.starts_with(revision)).count();
        let remedy = match begin {
            0 => "download that revision, or name another with @REVISION".to_owned(),
            1 => format!("give at least {SHORTEST_COMMIT} characters of a commit, or a branch or tag"),
            _ => "give more characters of the commit: several begin so".to_owned(),
        };
        ModelError::NotFound {
            spec: shown_path(repository),
            fault: format!("no snapshot of revision {} here; there are {}", shown(revision), list(&commits)),
            remedy,
        }
    })
}

/// `ORG/NAME@COMMIT` of a snapshot's folder.
pub(super) fn name_of(path: &Path) -> Option<String> {
    let (commit, snapshots) = (path.file_name()?.to_str()?, path.parent()?);
    let repository = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    (snapshots.file_name()? == "snapshots").then(|| format!("{}@{commit}", repository.replacen("--", "/", 1)))
}

fn commits(snapshots: &Path) -> Result<Vec<String>, ModelError> {
    let entries = std::fs::read_dir(snapshots).map_err(|e| ModelError::io(snapshots, "list", e))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn list(commits: &[String]) -> String {
    if commits.is_empty() { "none".to_owned() } else { shown(&commits.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(commits: &[&str], refs: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models--some--model");
        std::fs::create_dir_all(path.join("refs/pr")).unwrap();
        std::fs::create_dir_all(path.join("snapshots")).unwrap();
        for commit in commits {
            std::fs::create_dir(path.join("snapshots").join(commit)).unwrap();
        }
        for (name, commit) in refs {
            std::fs::write(path.join("refs").join(name), commit).unwrap();
        }
        folder
    }

    #[test]
    fn a_revision_is_a_reference_or_the_beginning_of_a_commit() {
        let (first, second) = ("0123456789abcdef", "0123456fffffffff");
        let cache =
            repository(&[first, second], &[("main", first), ("v2", second), ("pr/1", second), ("gone", "0")]);
        let path = folder(cache.path(), "some/model");
        assert!(is_repository(&path));
        for (revision, commit) in [
            (None, first),
            (Some("main"), first),
            (Some("v2"), second),
            (Some("pr/1"), second),
            (Some(first), first),
            (Some("0123456f"), second),
        ] {
            let found = snapshot(&path, revision).unwrap();
            assert!(found.ends_with(commit), "{revision:?}: {found:?}");
            assert_eq!(name_of(&found), Some(format!("some/model@{commit}")));
        }
        for (revision, remedy) in [
            ("0123456", "give more characters of the commit: several begin so"),
            ("0123", "give more characters"),
            ("v3", "download that revision"),
            ("gone", "download that revision"),
        ] {
            let e = snapshot(&path, Some(revision)).unwrap_err().to_string();
            let want =
                format!("no snapshot of revision {revision} here; there are {first}, {second}; {remedy}");
            assert!(e.contains(&want), "{e}");
        }
        let only = repository(&[first], &[]);
        let e = snapshot(&folder(only.path(), "some/model"), Some("0123")).unwrap_err().to_string();
        assert!(e.ends_with("give at least 7 characters of a commit, or a branch or tag"), "{e}");
        assert!(snapshot(&folder(only.path(), "some/model"), None).unwrap().ends_with(first));
        assert_eq!(name_of(Path::new("/models/some/model")), None);
    }
}
