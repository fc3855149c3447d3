//! A token as an API shows it: by its id or by a text, with the candidates beside it.

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Id(u32),
    Text(String),
}

/// Candidates by id.
pub(super) type Candidates = Vec<(u32, f32)>;

impl Name {
    /// `token_id:123` is how vLLM names a token where `return_tokens_as_token_ids` is asked for.
    pub(super) fn of(text: &str) -> Self {
        let id = text.strip_prefix("token_id:").and_then(id_of);
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

/// An id in plain decimal.
pub(super) fn id_of(digits: &str) -> Option<u32> {
    let id: u32 = digits.parse().ok()?;
    (id.to_string() == digits).then_some(id)
}

impl Row {
    /// Of a token, its log-probability and its candidates, among which it may be too. Texts may be those of several
    /// tokens: one that says another value stands beside it.
    ///
    /// *Errors:* values that are none, two of one id.
    pub(super) fn of<'v>(
        token: Name,
        value: &Value,
        others: impl Iterator<Item = (Name, &'v Value)>,
    ) -> Result<Self, String> {
        let mut own = number(value)?;
        let mut listed = vec![(token.clone(), own)];
        for (name, value) in others {
            let value = number(value)?;
            if name != token {
                listed.push((name, value));
            } else if is_missing(own) {
                own = value;
            } else if !is_missing(value) && value.to_bits() != own.to_bits() {
                match token {
                    Name::Id(_) => return Err(unequal(&token, own, value)),
                    Name::Text(_) => listed.push((name, value)),
                }
            }
        }
        listed[0].1 = own;
        Ok(Self { token, listed })
    }

    /// The candidates by id, the token itself, which is `chosen`, first. Those that `id` does not know are counted, and
    /// have no value.
    ///
    /// *Errors:* an id that stands twice, with other values if it is the token's.
    pub(super) fn by_id(
        &self,
        chosen: Option<u32>,
        id: &dyn Fn(&Name) -> Option<u32>,
        unknown: &mut usize,
    ) -> Result<Candidates, String> {
        let mut row: Candidates = Vec::with_capacity(self.listed.len());
        for (at, (name, value)) in self.listed.iter().enumerate() {
            let Some(id) = (if at == 0 { chosen } else { id(name) }) else {
                *unknown += 1;
                let place = u32::try_from(at).unwrap_or(u32::MAX) % 4096;
                row.push((Printed::UNKNOWN + place, f32::NEG_INFINITY));
                continue;
            };
            match row.iter().position(|(other, _)| *other == id) {
                None => row.push((id, single(*value))),
                Some(0) if value.to_bits() == self.listed[0].1.to_bits() => {}
                Some(0) => return Err(unequal(name, self.listed[0].1, *value)),
                Some(_) => return Err(format!("{name} stands twice among one token's candidates")),
            }
        }
        Ok(row)
    }
}

fn unequal(name: &Name, own: f64, listed: f64) -> String {
    format!("{name} has {own} and, among its candidates, {listed}")
}

/// A value as binary32, which it is, or is rounded.
#[expect(clippy::cast_possible_truncation, reason = "of binary32, or rounded: `decimals` says")]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}

/// A log-probability; none counts as minus infinity, which is missing.
///
/// *Errors:* something else than a number.
pub(super) fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Null => Ok(f64::NEG_INFINITY),
        _ => value.as_f64().ok_or_else(|| format!("{value} is no log-probability")),
    }
}

/// Whether a value is none, or what vLLM writes for one.
fn is_missing(value: f64) -> bool {
    value <= STANDS_IN
}

/// What stands in for anything less.
pub(super) const STANDS_IN: f64 = -9999.0;

pub(super) fn ids(list: &Value) -> Option<Vec<u32>> {
    list.as_array()?.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}
