//! Paths into a tree: keys with dots between, places of lists in brackets, and names in braces for what varies.
//!
//! `steps[{step}].hidden.layer_{layer}` finds every number of every step and layer. A name stands for a whole number;
//! in brackets for any place of the list.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tree::{Array, Tree, array};

/// What stood at the names of a path.
pub(super) type Places = BTreeMap<String, i64>;

/// A path that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// A key of an object; text and names in turn.
    Key(Vec<Piece>),
    /// A place of a list.
    Place(i64),
    /// Any place of a list.
    Any(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(String),
}

/// What a path leads to.
#[derive(Debug, Clone)]
pub(super) enum Found<'t> {
    Json(&'t Value),
    Array(&'t Array),
}

impl Found<'_> {
    /// Its numbers. *Errors:* what it is instead.
    pub(super) fn array(&self) -> Result<Array, String> {
        match self {
            Self::Json(value) => array(value),
            Self::Array(array) => Ok((*array).clone()),
        }
    }
}

impl Path {
    /// Reads a path. *Errors:* a bracket or a brace that is not closed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for key in text.split('.') {
            let (name, mut rest) = key.find('[').map_or((key, ""), |at| key.split_at(at));
            if !name.is_empty() {
                parts.push(Part::Key(pieces(name)?));
            }
            while let Some(inner) = rest.strip_prefix('[') {
                let (inside, after) =
                    inner.split_once(']').ok_or_else(|| format!("'[' is not closed in '{key}'"))?;
                parts.push(match inside.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) => Part::Any(name.to_owned()),
                    None => {
                        Part::Place(inside.parse().map_err(|_| format!("'{inside}' is no place of a list"))?)
                    }
                });
                rest = after;
            }
            if !rest.is_empty() {
                return Err(format!("'{rest}' follows a bracket in '{key}'"));
            }
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Everything that it leads to from the root of a tree, with what its names stand for.
    pub(super) fn all<'t>(&self, tree: &'t Tree) -> Vec<(Places, Found<'t>)> {
        match tree {
            Tree::Json(value) => {
                let mut found = Vec::new();
                walk(&self.parts, value, &Places::new(), &mut found);
                found
            }
            // Names of arrays may hold dots.
            Tree::Named(arrays) => match pieces(&self.text) {
                Ok(pieces) => arrays
                    .iter()
                    .filter_map(|(name, array)| Some((matched(&pieces, name)?, Found::Array(array))))
                    .collect(),
                Err(_) => Vec::new(),
            },
        }
    }

    /// The same for one value of a name: what it leads to there.
    pub(super) fn at<'t>(&self, tree: &'t Tree, run: i64) -> Vec<(Places, Found<'t>)> {
        let mut found = self.all(tree);
        found.retain(|(places, _)| places.get("run").is_none_or(|at| *at == run));
        found
    }
}

fn walk<'t>(parts: &[Part], value: &'t Value, places: &Places, found: &mut Vec<(Places, Found<'t>)>) {
    let Some((part, rest)) = parts.split_first() else {
        found.push((places.clone(), Found::Json(value)));
        return;
    };
    match (part, value) {
        (Part::Key(pieces), Value::Object(map)) => {
            for (key, value) in map {
                if let Some(more) = matched(pieces, key)
                    && let Some(places) = joined(places, more)
                {
                    walk(rest, value, &places, found);
                }
            }
        }
        (Part::Place(at), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if *at < 0 { length + at } else { *at };
            if let Some(value) = usize::try_from(at).ok().and_then(|at| items.get(at)) {
                walk(rest, value, places, found);
            }
        }
        (Part::Any(name), Value::Array(items)) => {
            for (at, value) in (0_i64..).zip(items) {
                if let Some(places) = joined(places, Places::from([(name.clone(), at)])) {
                    walk(rest, value, &places, found);
                }
            }
        }
        _ => {}
    }
}

/// Both, where they agree.
fn joined(places: &Places, more: Places) -> Option<Places> {
    let mut all = places.clone();
    for (name, at) in more {
        if all.insert(name, at).is_some_and(|other| other != at) {
            return None;
        }
    }
    Some(all)
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let (name, after) = after.split_once('}').ok_or_else(|| format!("'{{' is not closed in '{text}'"))?;
        pieces.push(Piece::Name(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// What the names of a pattern stand for in `text`, which it has to fit as a whole.
fn matched(pattern: &[Piece], text: &str) -> Option<Places> {
    let mut places = Places::new();
    let mut rest = text;
    for piece in pattern {
        match piece {
            Piece::Text(text) => rest = rest.strip_prefix(text.as_str())?,
            Piece::Name(name) => {
                let signed = usize::from(rest.starts_with('-'));
                let digits = rest[signed..].bytes().take_while(u8::is_ascii_digit).count();
                let (number, after) = rest.split_at(signed + digits);
                let number = number.parse().ok().filter(|_| digits > 0)?;
                if places.insert(name.clone(), number).is_some_and(|other| other != number) {
                    return None;
                }
                rest = after;
            }
        }
    }
    rest.is_empty().then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, json: &str) -> Vec<(Vec<i64>, String)> {
        let tree = Tree::Json(serde_json::from_str(json).unwrap());
        let all = Path::parse(path).unwrap().all(&tree);
        let shown = |(places, found): (Places, Found<'_>)| match found {
            Found::Json(value) => (places.into_values().collect(), value.to_string()),
            Found::Array(_) => unreachable!("a tree of JSON"),
        };
        all.into_iter().map(shown).collect()
    }

    #[test]
    fn names_stand_for_what_varies() {
        let json = r#"{"steps": [{"h": {"layer_2": 5, "layer_x": 6, "pos_-1": 7}}, {"h": {"layer_10": 8}}]}"#;
        let layers = found("steps[{step}].h.layer_{layer}", json);
        assert_eq!(layers, [(vec![2, 0], "5".to_owned()), (vec![10, 1], "8".to_owned())]);
        assert_eq!(found("steps[0].h.pos_{position}", json), [(vec![-1], "7".to_owned())]);
        assert_eq!(found("steps[-1].h.layer_10", json), [(vec![], "8".to_owned())]);
        assert!(found("steps[7].h", json).is_empty() && found("h.steps", json).is_empty());
        // One name, one number.
        assert_eq!(found("a[{i}].b[{i}]", r#"{"a": [{"b": [1, 2]}, {"b": [3, 4]}]}"#).len(), 2);
    }

    #[test]
    fn what_is_not_closed_is_no_path() {
        for wrong in ["a[0", "a[{step}", "a[x]", "a{b", "a[0]b"] {
            assert!(Path::parse(wrong).is_err(), "{wrong}");
        }
    }
}
