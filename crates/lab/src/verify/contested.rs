//! What evidence states twice and not alike, and what of it a claim settles.
//!
//! Most is found when evidence is opened (`mantissa_evidence::consistency`); texts are set beside ids here, where there
//! is a tokenizer, and outputs beside the tokens that end them in the model. A claim that an unsettled conflict
//! concerns is not replayed.

use mantissa_evidence::consistency::past_an_end;
use mantissa_evidence::{About, Conflict, Experiment, Run, Statement};
use mantissa_model::{ModelError, Tokenizer};
use mantissa_published::Content;

use super::grid;
use super::request::{Model, Request};
use crate::error::LabError;
use crate::replay::Claim;
use crate::uncovered::Unreadable;

/// Every conflict of the evidence that `request` names, whose runs are those of `shell`.
pub(super) fn conflicts(request: &Request<'_>, shell: &Experiment) -> Result<Vec<Conflict>, LabError> {
    let mut found = request.evidence.map(|opened| opened.conflicts.clone()).unwrap_or_default();
    if let (Some(opened), Some(model)) = (request.evidence, request.model)
        && matches!(opened.content, Content::Record(_))
    {
        let told = |id: &str| {
            let mut known = found.iter().filter(|known| known.about == About::End);
            known.any(|known| known.config_id.as_deref() == Some(id))
        };
        let ends = shell.configurations.iter().enumerate().filter(|(_, one)| !told(&one.config_id));
        let ends: Vec<Conflict> = ends.filter_map(|(index, _)| past_its_end(shell, index, model)).collect();
        found.extend(ends);
    }
    if let Some(tokenizer) = request.model.and_then(|model| model.tokenizer) {
        let ours = shell.metadata.mantissa.is_some();
        for (index, run) in shell.runs.iter().enumerate() {
            let one = Texts { tokenizer, index, run, ours };
            found.extend(one.prompt()?);
            found.extend(one.output()?);
        }
    }
    Ok(found)
}

/// Whether what `request` claims says what is meant.
pub(super) fn settled(request: &Request<'_>, found: &Conflict) -> bool {
    let claimed = grid::claimed(request.claim).unwrap_or_default();
    match found.about {
        About::Axis(axis) => claimed.get(axis).is_some(),
        // By a claim of the hardware the library version is the one that is meant here.
        About::Version(_) => claimed.hardware.is_some(),
        About::Model => grid::claimed_model(request.claim).is_some(),
        About::Draws => grid::claimed_settings(request.claim).contains_key("do_sample"),
        About::End => grid::claimed_settings(request.claim).get("ignore_eos") == Some(&true.into()),
        _ => false,
    }
}

/// An output that goes on behind a token that ends it in the model, where the settings do not name the tokens that do.
///
/// A record of this project's own recorders has as many tokens as were asked for, unless its settings are those of a
/// `generate` that was seen.
fn past_its_end(shell: &Experiment, index: usize, model: Model<'_>) -> Option<Conflict> {
    let setup = &shell.configurations[index].mantissa.as_ref()?.setup;
    let tool = shell.metadata.mantissa.as_ref().map(|provenance| provenance.tool.as_str());
    let ours = tool.is_some_and(|tool| tool.starts_with("mantissa"));
    let silent = setup.generation.as_ref().is_none_or(|settings| settings.eos_token_id.is_empty());
    let asked_for = ours && (setup.engine == "mantissa-cpu" || setup.generation.is_none());
    if asked_for || !silent {
        return None;
    }
    // Those that `generate` takes; of a damaged file they are not known.
    let own = model.checkpoint.generation().ok()?;
    past_an_end(shell, index, &own.eos_token_id, "eos_token_id of the model")
}

/// Takes from `claims` those that something unsettled concerns, so that nothing is replayed of them.
pub(super) fn set_aside(
    request: &Request<'_>,
    shell: &Experiment,
    claims: &mut [Claim],
) -> Result<(), LabError> {
    let conflicts = conflicts(request, shell)?;
    let open: Vec<&Conflict> = conflicts.iter().filter(|found| !settled(request, found)).collect();
    for claim in claims {
        let concerns = |found: &&&Conflict| found.config_id.as_ref().is_none_or(|id| *id == claim.config_id);
        if open.iter().any(|found| concerns(&found)) {
            claim.candidate = Err(Unreadable {
                what: "the file contradicts itself about it".to_owned(),
                remedy: "settle what is meant with --claim".to_owned(),
            });
        }
    }
    Ok(())
}

/// The names that the evidence, or a claim in its place, gives the model.
pub(super) fn claimed_names(request: &Request<'_>, shell: &Experiment) -> Vec<String> {
    if let Some(name) = grid::claimed_model(request.claim) {
        return vec![name.to_owned()];
    }
    let of = |configuration: &mantissa_evidence::Configuration| {
        configuration.mantissa.as_ref().map(|extras| extras.setup.model.id.clone())
    };
    let mut names: Vec<String> = Vec::new();
    let all = std::iter::once(shell.metadata.model.clone()).chain(shell.configurations.iter().filter_map(of));
    for name in all.filter(|name| !name.is_empty()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The texts of one run.
struct Texts<'t> {
    tokenizer: &'t Tokenizer,
    index: usize,
    run: &'t Run,
    /// Whether the text is known to be the prompt decoded; elsewhere it may be a part of it, without a template.
    ours: bool,
}

impl Texts<'_> {
    /// The prompt's text, which is its ids decoded, or of which they are the ids. Spaces may differ: programs clean
    /// them up in their own ways.
    fn prompt(&self) -> Result<Option<Conflict>, ModelError> {
        let (text, ids) = (&self.run.prompt_text, &self.run.prompt_token_ids);
        if text.is_empty() || ids.is_empty() {
            return Ok(None);
        }
        let mut decoded = String::new();
        for without_control in [true, false] {
            decoded = self.tokenizer.decode(ids, without_control)?;
            let (bare, whole) = (letters(text), letters(&decoded));
            if bare == whole || (!self.ours && !bare.is_empty() && whole.contains(&bare)) {
                return Ok(None);
            }
        }
        for special in [false, true] {
            if self.tokenizer.encode(text, special)? == *ids {
                return Ok(None);
            }
        }
        let [text, decoded] = around(text, &decoded);
        let at = |field: &str| format!("runs[{}].{field}", self.index);
        Ok(Some(self.conflict(
            About::PromptText,
            [
                Statement::new(at("prompt_text"), &text),
                Statement::new(at("mantissa.prompt_token_ids, decoded,"), &decoded),
            ],
            0,
        )))
    }

    /// The texts of output tokens: each its id decoded or as the vocabulary spells it, or all of them together.
    fn output(&self) -> Result<Option<Conflict>, ModelError> {
        let (texts, ids) = (&self.run.output_token_texts, &self.run.output_token_ids);
        let whole = letters(&texts.concat());
        if texts.is_empty() || letters(&self.tokenizer.decode(ids, false)?) == whole {
            return Ok(None);
        }
        let mut different = Vec::new();
        for (step, (text, id)) in texts.iter().zip(ids).enumerate() {
            let decoded = self.tokenizer.decode(&[*id], false)?;
            let spelled = self.tokenizer.token_text(*id).unwrap_or_default();
            if ![decoded.as_str(), &spelled].iter().any(|known| letters(known) == letters(text)) {
                different.push((step, text, decoded));
            }
        }
        let Some((step, text, decoded)) = different.first() else { return Ok(None) };
        let at = |field: &str| format!("runs[{}].{field}", self.index);
        let [text, decoded] = around(text, decoded);
        let statements = [
            Statement::new(at(&format!("output text {step}")), &text),
            Statement::new(at(&format!("output id {step}, decoded,")), &decoded),
        ];
        Ok(Some(self.conflict(About::OutputText, statements, different.len() as u64 - 1)))
    }

    fn conflict(&self, about: About, statements: [Statement; 2], more: u64) -> Conflict {
        let config_id = Some(self.run.config_id.clone());
        Conflict { about, config_id, statements: statements.into(), more }
    }
}

/// A text without blanks and what vocabularies write for them.
fn letters(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !matches!(c, 'Ġ' | '▁' | 'Ċ')).collect()
}

/// Both texts around the first place where they differ.
fn around(a: &str, b: &str) -> [String; 2] {
    const BEFORE: usize = 12;
    const SHOWN: usize = 40;
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    [a, b].map(|text| {
        let from = same.saturating_sub(BEFORE);
        let part: String = text.chars().skip(from).take(SHOWN).collect();
        let (head, tail) =
            (if from > 0 { "…" } else { "" }, if text.chars().count() > from + SHOWN { "…" } else { "" });
        mantissa_evidence::error::one_line(&format!("{head}{part}{tail}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_are_shown_where_they_part() {
        let [a, b] = around("The quick brown fox jumps over the lazy dog.", "The quick brown cat");
        assert_eq!(
            (a.as_str(), b.as_str()),
            ("…quick brown fox jumps over the lazy dog.", "…quick brown cat")
        );
        assert_eq!(around("a", "b"), ["a", "b"]);
        assert_eq!(letters("Ġthe cat\n"), "thecat");
    }
}
