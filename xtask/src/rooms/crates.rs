//! Which crate of the workspace links which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Room → rooms among its normal dependencies, both without `mantissa-`.
pub(crate) fn rooms(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let asked = Command::new("cargo").args(arguments).current_dir(root).output().context("running cargo")?;
    if !asked.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&asked.stderr));
    }
    read(&serde_json::from_slice(&asked.stdout)?)
}

fn read(metadata: &Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut rooms = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let dependencies = package["dependencies"].as_array().context("a package without dependencies")?;
        // Of kinds, a normal dependency has none; of sources, a crate of the workspace has only a path.
        let linked = dependencies.iter().filter(|one| one["kind"].is_null() && one["path"].is_string());
        let linked = linked.filter_map(|one| one["name"].as_str()).map(short).collect();
        rooms.insert(short(name), linked);
    }
    Ok(rooms)
}

fn short(name: &str) -> String {
    name.strip_prefix("mantissa-").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_dependencies_of_the_workspace_are_links() {
        let metadata = serde_json::json!({"packages": [{"name": "mantissa-a", "dependencies": [
            {"name": "mantissa-b", "kind": null, "path": "/b"},
            {"name": "mantissa-c", "kind": "dev", "path": "/c"},
            {"name": "serde", "kind": null},
        ]}]});
        let rooms = read(&metadata).expect("metadata");
        assert_eq!(rooms, BTreeMap::from([("a".to_owned(), BTreeSet::from(["b".to_owned()]))]));
    }
}
