//! What can be wrong with a prompt that is made or given, each in one line: place, fault; remedy.

/// Why a prompt was refused.
///
/// ```
/// use mantissa_lab::LabError;
/// use mantissa_lab::prompt::PromptFault;
///
/// let error = LabError::from(PromptFault::ForcedLists { lists: 3, references: 2 });
/// assert!(error.to_string().starts_with("forced tokens: 3 lists for 2 prompts; "));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptFault {
    /// Nowhere near does a document have a slice of the exact number of tokens.
    #[error(
        "{document}: no slice of exactly {document_tokens} tokens begins at tokens {start} to {} in the text of a \
         prompt; choose other document tokens, or --no-chat-template", start + tried
    )]
    NoExactSlice {
        /// Document name.
        document: String,
        /// Tokens of each slice.
        document_tokens: usize,
        /// First token that was tried as a slice's first.
        start: usize,
        /// How many were.
        tried: usize,
    },

    /// A file of prompts is not what it should be.
    #[error("{prompt}: {fault}; {remedy}")]
    Given {
        /// File and place in it.
        prompt: String,
        /// What is wrong there.
        fault: String,
        /// What to do.
        remedy: &'static str,
    },

    /// Fewer prompts than a batch has rows.
    #[error(
        "prompts: {found} beside each prompt, but batches of {batch_size} need {needed}; give more with --neighbours, \
         or lower the batch size"
    )]
    GivenTooFew {
        /// Prompts that stand beside one.
        found: usize,
        /// Prompts that have to.
        needed: usize,
        /// Rows of the largest batch.
        batch_size: usize,
    },

    /// Rows of a batch that are not of one length.
    #[error(
        "{prompt}: {tokens} tokens, but {other} beside it has {others}: rows of a batch are of one length here; \
         give prompts of one length with --neighbours, or record with --batch-size 1"
    )]
    GivenLengths {
        /// The prompt.
        prompt: String,
        /// Its tokens.
        tokens: usize,
        /// The prompt beside it.
        other: String,
        /// Tokens of that.
        others: usize,
    },

    /// A prompt holds an id that is no token.
    #[error(
        "{prompt}: id {token} at position {position} is no token of this model, whose embedding has {rows} rows; \
         feed ids of this model's own tokenizer"
    )]
    TokenUnknown {
        /// Which prompt.
        prompt: String,
        /// The id.
        token: u32,
        /// Where it stands.
        position: usize,
        /// Rows of the embedding.
        rows: usize,
    },

    /// Not as many lists of forced tokens as prompts.
    #[error("forced tokens: {lists} lists for {references} prompts; give one for all, or one for each")]
    ForcedLists {
        /// Lists given.
        lists: usize,
        /// Prompts.
        references: usize,
    },

    /// A prompt holds a token that the tokenizer has and the embedding has not.
    #[error(
        "{prompt}: token {token} '{text}' at position {position}: it is the tokenizer's own, \
         which has {tokens} tokens, but the embedding has {rows} rows; remove '{text}' from the text, \
         or give a model whose embedding was resized to its tokenizer"
    )]
    TokenWithoutRow {
        /// Which prompt.
        prompt: String,
        /// The token.
        token: u32,
        /// Its text.
        text: String,
        /// Where it stands in the prompt.
        position: usize,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
}
