//! The list of layouts, and that the page about them is complete.

use std::collections::BTreeSet;
use std::path::Path;

use mantissa_published::{FileSignature, LAYOUTS};

/// How the page writes what tells a layout.
fn told(signature: FileSignature) -> Vec<String> {
    match signature {
        FileSignature::Keys(sets) => sets
            .iter()
            .map(|set| set.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
            .collect(),
        FileSignature::Titles(titles) => titles.iter().map(|title| format!("`{title}`")).collect(),
    }
}

#[test]
fn no_two_layouts_share_a_name_or_what_tells_them() {
    let names: BTreeSet<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
    assert_eq!(names.len(), LAYOUTS.len());
    let mut seen = BTreeSet::new();
    for layout in &LAYOUTS {
        let by = told(layout.signature);
        assert!(!by.is_empty() && !layout.holds.is_empty(), "{layout:?}");
        assert!(by.into_iter().all(|one| seen.insert(one)), "{layout:?}");
    }
}

#[test]
fn the_page_about_published_files_names_every_layout_and_what_tells_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/published.md");
    let page = std::fs::read_to_string(path).unwrap();
    for layout in &LAYOUTS {
        let line = format!("| `{}` | {} |", layout.name, told(layout.signature)[0]);
        assert!(page.contains(&line), "'{line}' is not in docs/format/published.md");
    }
}
