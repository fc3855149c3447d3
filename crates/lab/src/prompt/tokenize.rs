//! What prompts need of a tokenizer, and models that have none.

use mantissa_model::tokenizer::Placed;
use mantissa_model::{Message, Tokenizer};

const NO_TOKENIZER: &str = "there is no tokenizer";

/// What the prompts need of a tokenizer.
///
/// Example: [`super::PromptSet`].
pub trait Tokenize {
    /// The tokens of `text` with their places; `special` adds those that the tokenizer puts around a text.
    fn encode(&self, text: &str, special: bool) -> Result<Vec<Placed>, String>;

    /// Text of `ids`; control tokens are left out if `skip_special`.
    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String>;

    /// The chat template's text for messages; `None` without a template. `generate` opens the model's turn.
    fn render(&self, messages: &[Message], generate: bool) -> Result<Option<String>, String>;
}

impl Tokenize for Tokenizer {
    fn encode(&self, text: &str, special: bool) -> Result<Vec<Placed>, String> {
        self.encode_placed(text, special).map_err(|error| error.to_string())
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        self.decode(ids, skip_special).map_err(|error| error.to_string())
    }

    fn render(&self, messages: &[Message], generate: bool) -> Result<Option<String>, String> {
        if !self.has_chat_template() {
            return Ok(None);
        }
        self.apply_chat_template(messages, generate).map(Some).map_err(|error| error.to_string())
    }
}

/// A model without a tokenizer: ids that are given are fed, and have no text.
impl Tokenize for Option<&Tokenizer> {
    fn encode(&self, text: &str, special: bool) -> Result<Vec<Placed>, String> {
        self.map_or_else(|| Err(NO_TOKENIZER.to_owned()), |one| Tokenize::encode(one, text, special))
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        self.map_or_else(|| Ok(String::new()), |one| Tokenize::decode(one, ids, skip_special))
    }

    fn render(&self, messages: &[Message], generate: bool) -> Result<Option<String>, String> {
        self.map_or_else(|| Err(NO_TOKENIZER.to_owned()), |one| Tokenize::render(one, messages, generate))
    }
}
