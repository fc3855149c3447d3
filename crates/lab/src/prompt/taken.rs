//! What is fed for prompts that are given as they are.
//!
//! A text is encoded with the tokens that the tokenizer puts around one, messages by the model's chat template, as
//! transformers does both. Ids are fed as they stand, and their text is what they decode to.

use super::fault::PromptFault;
use super::given::{Content, Given, GivenPrompt};
use super::{Frame, Prompt, PromptSet, PromptSource, SHOWN, Tokenize, encode};
use crate::error::LabError;

/// The prompts with their texts and ids; `beside` of them stand beside each reference in its largest batch.
///
/// Example: [`Given`].
pub fn set(given: &Given, beside: usize, tokenizer: &impl Tokenize) -> Result<PromptSet, LabError> {
    let all = |prompts: &[GivenPrompt]| -> Result<Vec<Prompt>, LabError> {
        prompts.iter().map(|given| prompt(given, tokenizer)).collect()
    };
    let (references, others) = (all(&given.references)?, all(&given.neighbours)?);
    let of = |index: usize| -> Result<Vec<Prompt>, LabError> {
        let rows: Vec<&Prompt> = if others.is_empty() {
            references[index + 1..].iter().chain(&references[..index]).take(beside).collect()
        } else {
            others.iter().take(beside).collect()
        };
        if rows.len() < beside {
            let (found, needed, batch_size) = (rows.len(), beside, beside + 1);
            return Err(PromptFault::GivenTooFew { found, needed, batch_size }.into());
        }
        let own = &references[index];
        if let Some(other) = rows.iter().find(|row| row.ids.len() != own.ids.len()) {
            return Err(PromptFault::GivenLengths {
                prompt: own.source.document.clone(),
                tokens: own.ids.len(),
                other: other.source.document.clone(),
                others: other.ids.len(),
            }
            .into());
        }
        Ok(rows.into_iter().cloned().collect())
    };
    let neighbours = (0..references.len()).map(of).collect::<Result<_, _>>()?;
    Ok(PromptSet { references, neighbours })
}

fn prompt(given: &GivenPrompt, tokenizer: &impl Tokenize) -> Result<Prompt, LabError> {
    let decode = |ids: &[u32]| {
        let failed = |reason| LabError::Tokenizer { what: format!("decoding {}", given.name), reason };
        tokenizer.decode(ids, false).map_err(failed)
    };
    let ids_of = |text: &str, special| -> Result<Vec<u32>, LabError> {
        Ok(encode(tokenizer, text, special, &given.name)?.into_iter().map(|token| token.id).collect())
    };
    let (text, ids, frame) = match &given.content {
        Content::Text(text) => (text.clone(), ids_of(text, true)?, Frame::Text),
        Content::Ids(ids) => (decode(ids)?, ids.clone(), Frame::Ids),
        Content::Messages { messages, generate } => {
            let what = format!("rendering the messages of {}", given.name);
            let failed = |reason| LabError::Tokenizer { what, reason };
            let text = tokenizer.render(messages, *generate).map_err(failed)?;
            let text = text.ok_or(LabError::NoChatTemplate)?;
            let ids = ids_of(&text, false)?;
            (text, ids, Frame::ChatTemplate)
        }
    };
    if ids.is_empty() {
        let (prompt, fault) = (given.name.clone(), "the tokenizer makes no token of it".to_owned());
        return Err(PromptFault::Given { prompt, fault, remedy: "give it some content" }.into());
    }
    let (head, tail) = (&ids[..ids.len().min(SHOWN)], &ids[ids.len().saturating_sub(SHOWN)..]);
    Ok(Prompt {
        source: PromptSource {
            document: given.name.clone(),
            file_blake3: given.file_blake3.clone(),
            text_blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
            document_tokens: ids.len(),
            start: 0,
            end: ids.len(),
            prefix_tokens: 0,
            suffix_tokens: 0,
            frame,
            head: decode(head)?,
            tail: decode(tail)?,
        },
        text,
        ids,
    })
}
