//! Which kind of evidence bytes are: by the title of a log, by the keys of a JSON object.
//!
//! An experiment is told by its first key, so a large file costs little; a published file by the most telling of the
//! keys it has. Left out: whether the rest of the file keeps what its keys promise (the readers), and files that are
//! something else (`named`).

use std::collections::BTreeSet;
use std::fmt;

use mantissa_evidence::lenient;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

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
/// A telling key of a published file stands within this many bytes: such files are not larger.
const JSON_START: usize = 1 << 28;
/// A title stands within this many bytes.
const TITLE_START: usize = 400;
/// A title is one of this many first lines.
const TITLE_LINES: usize = 4;
/// Keys of an object that are looked at.
const MOST_KEYS: usize = 256;

/// The kind of evidence that bytes are, and whether it could be told without being lenient.
pub(crate) fn kind(bytes: &[u8]) -> Option<(Kind, bool)> {
    if let Some(layout) = log(bytes) {
        return Some((Kind::Published(layout), true));
    }
    let (found, whole) = keys(bytes);
    match found {
        Found::Experiment => Some((Kind::Experiment, whole)),
        Found::Keys(keys) => most_telling(&keys).map(|layout| (Kind::Published(layout), whole)),
    }
}

/// The keys of a JSON object and those of the objects in it, as `metadata` and `metadata.batch_sizes`; none of anything
/// else.
pub(crate) fn outline(bytes: &[u8]) -> BTreeSet<String> {
    match keys(bytes).0 {
        Found::Experiment => uniform::KEYS.map(str::to_owned).into(),
        Found::Keys(keys) => keys,
    }
}

/// What a JSON object shows, and whether it is JSON as far as that was read.
fn keys(bytes: &[u8]) -> (Found, bool) {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return (Found::Keys(BTreeSet::new()), true);
    }
    let (strict, whole) = json(&bytes[..bytes.len().min(JSON_START)]);
    if whole || matches!(strict, Found::Experiment) {
        return (strict, true);
    }
    // Only the beginning is rewritten: the file may be larger than memory.
    let start = &bytes[..bytes.len().min(LENIENT_START)];
    (json(&lenient::to_json(start).0).0, false)
}

/// The log whose title is one of the first lines.
fn log(bytes: &[u8]) -> Option<&'static Layout> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(TITLE_START)]);
    let titled = |title: &str| {
        let fits = |line: &str| match title.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == title,
        };
        start.lines().take(TITLE_LINES).any(|line| fits(line.trim().trim_start_matches('\u{feff}')))
    };
    LAYOUTS.iter().find(|layout| match layout.signature {
        FileSignature::Titles(titles) => titles.iter().any(|title| titled(title)),
        FileSignature::Keys(_) => false,
    })
}

/// The layout that the most parts of key paths tell; of two, the first of the list.
fn most_telling(keys: &BTreeSet<String>) -> Option<&'static Layout> {
    let has = |path: &str| match path.strip_suffix('*') {
        Some(start) => keys.range(start.to_owned()..).next().is_some_and(|key| key.starts_with(start)),
        None => keys.contains(path),
    };
    let told = |layout: &&Layout| {
        let FileSignature::Keys(sets) = layout.signature else { return 0 };
        let parts = |set: &&[&str]| set.iter().map(|path| path.split('.').count()).sum::<usize>();
        sets.iter().filter(|set| set.iter().all(|path| has(path))).map(parts).max().unwrap_or(0)
    };
    let best = LAYOUTS.iter().map(|layout| told(&layout)).max().filter(|best| *best > 0)?;
    LAYOUTS.iter().find(|layout| told(layout) == best)
}

/// What the keys of a JSON object tell.
enum Found {
    Experiment,
    Keys(BTreeSet<String>),
}

/// What a JSON object shows before it ends, breaks off or is told to be an experiment; the latter two are `false`.
fn json(json: &[u8]) -> (Found, bool) {
    let mut found = Found::Keys(BTreeSet::new());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let whole = deserializer.deserialize_map(Top(&mut found)).is_ok();
    (found, whole)
}

struct Top<'a>(&'a mut Found);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(key) = access.next_key::<String>()? {
            if uniform::KEYS.contains(&key.as_str()) {
                *self.0 = Found::Experiment;
                return Err(A::Error::custom("recognized"));
            }
            let Found::Keys(keys) = &mut *self.0 else { return Ok(()) };
            if keys.len() < MOST_KEYS * MOST_KEYS {
                keys.insert(key.clone());
            }
            access.next_value_seed(Inside { of: &key, keys })?;
        }
        Ok(())
    }
}

/// Notes the keys of an object under the name of the key it stands for; goes through anything else.
struct Inside<'a> {
    of: &'a str,
    keys: &'a mut BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for Inside<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inside<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(name) = access.next_key::<String>()? {
            if count < MOST_KEYS {
                self.keys.insert(format!("{}.{name}", self.of));
            }
            count += 1;
            access.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        IgnoredAny.visit_seq(access).map(|_| ())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
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
            (r#"{"metadata": {}, "cross_hardware": {}}"#, Some("attention_verification")),
            (r#"{"metadata": {}, "cross_hardwa"#, None),
            (r#"{"measurements": [], "metadata": {"batch_sizes": []}}"#, Some("batch_generation")),
            (r#"{"measurements": {}, "metadata": {"tp_sizes": []}}"#, Some("tp_generation")),
            (r#"{"raw_activations": {"layer_1": []}}"#, Some("layer_sweep")),
            (r#"{"raw_activations": {"batch_size_1": []}}"#, Some("activations")),
            (r#"["measurements"]"#, None),
            ("", None),
        ] {
            let found = kind(text.as_bytes()).map(|(kind, _)| match kind {
                Kind::Experiment => "experiment",
                Kind::Published(layout) => layout.name,
            });
            assert_eq!(found, layout, "{text}");
        }
    }
}
