//! A token as an API shows it: by its id or by a text, with the candidates beside it.

use std::collections::BTreeSet;

use mantissa_evidence::Answers as Printed;
use serde_json::Value;

/// A token, and the candidates beside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) token: Name,
    /// The token itself first.
    pub(super) listed: Vec<(Name, f64)>,
}

/// What a token is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Id(u32),
    Text(String),
}

/// Candidates by id.
pub(super) type Candidates = Vec<(u32, f32)>;

impl Name {
    /// `token_id:123` is how vLLM names a token where `return_tokens_as_token_ids` is asked for.
    pub(super) fn of(text: &str) -> Self {
        let id = text.strip_prefix("token_id:").and_then(|digits| digits.parse().ok());
        id.map_or_else(|| Self::Text(text.to_owned()), Self::Id)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "token {id}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl Row {
    /// A candidate that is listed twice, but for the token itself, which stands beside the most likely ones.
    pub(super) fn named_twice(&self) -> Option<&Name> {
        let mut seen = BTreeSet::new();
        self.listed.iter().skip(1).map(|(name, _)| name).find(|name| !seen.insert(*name))
    }

    /// The candidates by id, the token itself, which is `chosen`, first. Those that `id` does not know are counted, and
    /// have no value.
    pub(super) fn by_id(
        &self,
        chosen: Option<u32>,
        id: &dyn Fn(&Name) -> Option<u32>,
        unknown: &mut usize,
    ) -> Candidates {
        let mut row: Candidates = Vec::with_capacity(self.listed.len());
        for (at, (name, value)) in self.listed.iter().enumerate() {
            match if at == 0 { chosen } else { id(name) } {
                Some(id) if row.iter().any(|(other, _)| *other == id) => {}
                Some(id) => row.push((id, single(*value))),
                None => {
                    *unknown += 1;
                    let place = u32::try_from(at).unwrap_or(u32::MAX) % 4096;
                    row.push((Printed::UNKNOWN + place, f32::NEG_INFINITY));
                }
            }
        }
        row
    }
}

/// A value as binary32, which it is, or is rounded.
#[expect(clippy::cast_possible_truncation, reason = "of binary32, or rounded: `decimals` says")]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}

/// A log-probability; what is none counts as minus infinity, which is missing.
pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NEG_INFINITY)
}

pub(super) fn ids(list: &Value) -> Option<Vec<u32>> {
    list.as_array()?.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}
