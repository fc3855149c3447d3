//! Which files of a directory belong in one analysis.

use std::collections::BTreeMap;

use mantissa_published::Content;

/// Groups files: signals of one model and one type of experiment together (the same experiment on several machines),
/// every file of distances by itself.
///
/// Gives indices into `contents`, groups in the order of their first file.
///
/// ```
/// use std::path::Path;
///
/// use mantissa_published::open;
/// use mantissa_verdict::pools;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/evidence/v1/container");
/// let opened = open(Path::new(path))?;
/// // Signals of one model and one type of experiment go together.
/// assert_eq!(pools(&[&opened.content, &opened.content]), [[0, 1]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn pools(contents: &[&Content]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (index, content) in contents.iter().enumerate() {
        let key = match content {
            Content::Record(record) => Some(record.shell().metadata.clone()),
            Content::Published(published) => {
                published.experiment().map(|experiment| experiment.metadata.clone())
            }
        };
        let place = key.map_or(groups.len(), |metadata| {
            *places.entry((metadata.model, metadata.experiment_type)).or_insert(groups.len())
        });
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(index);
    }
    groups
}
