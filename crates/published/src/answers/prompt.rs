//! Log-probabilities of a prompt's own tokens: `prompt_logprobs`, or a prompt that stands before the output (`echo`).
//!
//! The first token has none. Maps of `prompt_logprobs` do not say which of their ids is the prompt's own, so they are
//! read beside the prompt's ids; an echo names them.

use serde_json::Value;

use super::token::{Candidates, Name, Row, STANDS_IN, id_of, number, single};

/// What an answer says of its prompt's tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct PromptRows {
    /// Candidates of each token but the first.
    listed: Option<Vec<Vec<(u32, f64)>>>,
    /// All tokens.
    echoed: Option<Vec<Row>>,
}

/// Keeps what each choice repeats, or says `unlike`.
fn said_alike<T: PartialEq>(known: &mut Option<T>, said: T, unlike: &str) -> Result<(), String> {
    match known {
        Some(known) if *known != said => Err(unlike.to_owned()),
        _ => {
            *known = Some(said);
            Ok(())
        }
    }
}

impl PromptRows {
    /// Adds `prompt_logprobs`, which each choice of an answer repeats.
    pub(super) fn add(&mut self, stated: Option<&Value>) -> Result<(), String> {
        let Some(list) = stated.filter(|list| !list.is_null()) else { return Ok(()) };
        let list = list.as_array().ok_or("prompt_logprobs is no list")?;
        let Some((Value::Null, behind)) = list.split_first() else {
            return Err("prompt_logprobs does not begin with null, as of a first token".to_owned());
        };
        let entry = |(place, entry): (usize, &Value)| {
            let wrong = |what: &str| format!("prompt_logprobs[{place}]: {what}");
            let map = entry.as_object().ok_or_else(|| wrong("it is no map of token ids"))?;
            let candidate = |(id, said): (&String, &Value)| {
                let id = id_of(id).ok_or_else(|| wrong(&format!("'{id}' is no token id")))?;
                let value = said.get("logprob").ok_or_else(|| wrong(&format!("{id} has no logprob")))?;
                Ok((id, number(value).map_err(|what| wrong(&what))?))
            };
            map.iter().map(candidate).collect::<Result<Vec<_>, String>>()
        };
        let listed = (1..).zip(behind).map(entry).collect::<Result<Vec<_>, _>>()?;
        said_alike(&mut self.listed, listed, "its prompt_logprobs are not those of another choice")
    }

    /// Adds the tokens of an echo.
    pub(super) fn add_echo(&mut self, rows: Vec<Row>) -> Result<(), String> {
        said_alike(&mut self.echoed, rows, "its echoed prompt is not that of another choice")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_none() && self.echoed.is_none()
    }

    fn echo(&self) -> &[Row] {
        self.echoed.as_deref().unwrap_or_default()
    }

    /// Every value.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> + Clone {
        let listed = self.listed.iter().flatten().flatten().map(|(_, value)| *value);
        listed.chain(self.echo().iter().flat_map(|row| row.listed.iter().map(|(_, value)| *value)))
    }

    /// How many candidates each token has.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        let listed = self.listed.iter().flatten().map(Vec::len);
        listed.chain(self.echo().iter().skip(1).map(|row| row.listed.len()))
    }

    /// What tokens are called that are not shown by id alone.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.echo()
            .iter()
            .flat_map(|row| std::iter::once(&row.token).chain(row.listed.iter().map(|(name, _)| name)))
    }

    /// The prompt's ids, where an echo names all of them.
    pub(super) fn ids(&self, id: &dyn Fn(&Name) -> Option<u32>) -> Option<Vec<u32>> {
        self.echoed.as_ref()?.iter().map(|row| id(&row.token)).collect()
    }

    /// Candidates of each token of the prompt `ids` but the first, the token itself first. Counts those that are not
    /// known by an id.
    ///
    /// *Errors:* what does not belong to a prompt of these ids, and what the two statements say differently.
    pub(super) fn by_id(
        &self,
        ids: &[u32],
        id: &dyn Fn(&Name) -> Option<u32>,
        unknown: &mut usize,
    ) -> Result<Vec<Candidates>, String> {
        let tokens = ids.len();
        if let Some(echoed) = &self.echoed {
            if echoed.len() != tokens {
                return Err(format!("{} echoed tokens beside {tokens} prompt ids", echoed.len()));
            }
            let named = echoed.iter().map(|row| id(&row.token)).zip(ids).enumerate();
            for (place, (named, own)) in named {
                if let Some(named) = named.filter(|named| named != own) {
                    return Err(format!("token {place} of the echoed prompt is {named}, of its ids {own}"));
                }
            }
        }
        let Some(listed) = &self.listed else {
            let rows = self.echo().iter().zip(ids).skip(1);
            return rows.map(|(row, own)| row.by_id(Some(*own), id, unknown)).collect();
        };
        if listed.len() + 1 != tokens {
            return Err(format!(
                "{} entries of prompt_logprobs beside {tokens} prompt ids",
                listed.len() + 1
            ));
        }
        let mut rows = Vec::with_capacity(listed.len());
        for (place, (entry, own)) in (1..).zip(listed.iter().zip(&ids[1..])) {
            let Some(value) = entry.iter().find(|(id, _)| id == own).map(|(_, value)| *value) else {
                return Err(format!("prompt_logprobs[{place}]: the prompt's own token {own} is not in it"));
            };
            if let Some((_, again)) = self.echo().get(place).and_then(|row| row.listed.first())
                && again.to_bits() != value.to_bits()
                && *again > STANDS_IN
            {
                return Err(format!("token {place} of the prompt has {value} and, echoed, {again}"));
            }
            let others = entry.iter().filter(|(id, _)| id != own);
            rows.push(others.fold(vec![(*own, single(value))], |mut row, (id, value)| {
                row.push((*id, single(*value)));
                row
            }));
        }
        Ok(rows)
    }
}
