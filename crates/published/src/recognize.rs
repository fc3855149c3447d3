//! Which kind of evidence bytes are: by the title of a log, by the top-level keys of a JSON object.
//!
//! Reading stops at the first key that decides, so a large file costs little. Left out: whether the rest of the file
//! keeps what its keys promise (the readers).

use std::fmt;

use mantissa_evidence::lenient;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::layout::{FileSignature, Layout};
use crate::layouts::LAYOUTS;
use crate::uniform;

/// What bytes are told to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// The uniform experiment JSON.
    Experiment,
    /// A published file.
    Published(&'static Layout),
}

/// A telling key of a file that is not quite JSON stands within this many bytes.
const LENIENT_START: usize = 1 << 24;
/// A title stands within this many bytes.
const TITLE_START: usize = 400;
/// A title is one of this many first lines.
const TITLE_LINES: usize = 4;
/// Keys of `metadata` that are looked at.
const MOST_KEYS: usize = 64;

/// The kind of evidence that bytes are, and whether it could be told without being lenient.
pub(crate) fn kind(bytes: &[u8]) -> Option<(Kind, bool)> {
    if let Some(layout) = log(bytes) {
        return Some((Kind::Published(layout), true));
    }
    let object = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !object {
        return None;
    }
    let strict = json(bytes).map(|kind| (kind, true));
    // Only the beginning is rewritten: the file may be larger than memory.
    let start = &bytes[..bytes.len().min(LENIENT_START)];
    strict.or_else(|| Some((json(&lenient::to_json(start).0)?, false)))
}

/// The log whose title is one of the first lines.
fn log(bytes: &[u8]) -> Option<&'static Layout> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(TITLE_START)]);
    let titled = |title: &str| start.lines().take(TITLE_LINES).any(|line| line.trim() == title);
    LAYOUTS.iter().find(|layout| matches!(layout.signature, FileSignature::Title(title) if titled(title)))
}

/// The kind of a JSON object; `None` for anything else, and for an object without a telling key.
fn json(json: &[u8]) -> Option<Kind> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // An early stop and bad JSON are both errors here; what was found by then is the answer.
    let _ = deserializer.deserialize_map(Top(&mut found));
    found
}

/// The kind that has `key` at the top and no other kind has.
fn by_key(key: &str) -> Option<Kind> {
    if uniform::KEYS.contains(&key) {
        return Some(Kind::Experiment);
    }
    let told =
        |layout: &&Layout| matches!(layout.signature, FileSignature::Keys(keys) if keys.contains(&key));
    LAYOUTS.iter().find(told).map(Kind::Published)
}

/// The layout with comparisons over one of `metadata`'s keys.
fn by_metadata(metadata: &[String]) -> Option<Kind> {
    let told = |layout: &&Layout| match layout.signature {
        FileSignature::ComparisonsOver(name) => metadata.iter().any(|key| key == name),
        FileSignature::Keys(_) | FileSignature::Title(_) => false,
    };
    LAYOUTS.iter().find(told).map(Kind::Published)
}

struct Top<'a>(&'a mut Option<Kind>);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let (mut comparisons, mut over) = (false, None);
        while let Some(key) = access.next_key::<String>()? {
            *self.0 = by_key(&key);
            if self.0.is_none() {
                comparisons |= key == "comparisons";
                if key == "metadata" {
                    let Keys(keys) = access.next_value()?;
                    over = over.or(by_metadata(&keys));
                } else if !comparisons || over.is_none() {
                    access.next_value::<IgnoredAny>()?;
                }
                *self.0 = over.filter(|_| comparisons);
            }
            if self.0.is_some() {
                return Err(A::Error::custom("recognized"));
            }
        }
        Ok(())
    }
}

/// The first keys of an object, or none for anything else.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Vec<String>, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = access.next_key::<String>()? {
                    if names.len() < MOST_KEYS {
                        names.push(name);
                    }
                    access.next_value::<IgnoredAny>()?;
                }
                Ok(names)
            }
        }
        deserializer.deserialize_map(Names).map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telling_key_decides_wherever_it_stands() {
        for (text, layout) in [
            (r#"{"a": 1, "experiment_metadata": "#, Some("experiment")),
            (r#"{"metadata": {"batch_sizes": []}, "comparisons": "#, Some("batch_verification")),
            (r#"{"comparisons": [], "metadata": {"model_configs": {}}}"#, Some("quant_verification")),
            (r#"{"metadata": {}, "comparisons": []}"#, None),
            (r#"{"metadata": {}, "cross_hardware""#, Some("attention_verification")),
            (r#"{"metadata": {}, "cross_hardwa"#, None),
            (r#"{"metadata": {}, "cross_hardware": {}}"#, Some("attention_verification")),
            (r#"["measurements"]"#, None),
            ("", None),
        ] {
            let found = json(text.as_bytes()).map(|kind| match kind {
                Kind::Experiment => "experiment",
                Kind::Published(layout) => layout.name,
            });
            assert_eq!(found, layout, "{text}");
        }
    }
}
