//! The list of layouts, and that the page about them is complete.

use std::collections::BTreeSet;
use std::path::Path;

use mantissa_published::{FileSignature, LAYOUTS};

#[test]
fn no_two_layouts_share_a_name_or_what_tells_them() {
    let names: BTreeSet<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
    assert_eq!(names.len(), LAYOUTS.len());
    let mut told = BTreeSet::new();
    for layout in &LAYOUTS {
        let by: Vec<&str> = match layout.signature {
            FileSignature::Keys(keys) => keys.to_vec(),
            FileSignature::ComparisonsOver(key) => vec![key],
            FileSignature::Title(title) => vec![title],
        };
        assert!(!by.is_empty() && !layout.holds.is_empty(), "{layout:?}");
        assert!(by.into_iter().all(|one| told.insert(one)), "{layout:?}");
    }
}

#[test]
fn the_page_about_published_files_names_every_layout_and_what_tells_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/published.md");
    let page = std::fs::read_to_string(path).unwrap();
    for layout in &LAYOUTS {
        let line = match layout.signature {
            FileSignature::Keys(keys) => format!("| `{}` | `{}` |", layout.name, keys[0]),
            FileSignature::ComparisonsOver(key) => {
                format!("| `{}` | `comparisons`, `metadata.{key}` |", layout.name)
            }
            FileSignature::Title(title) => format!("| `{}` | `{title}` |", layout.name),
        };
        assert!(page.contains(&line), "'{line}' is not in docs/format/published.md");
    }
}
