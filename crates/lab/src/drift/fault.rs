//! What keeps two sides from being compared.

/// Example: [`crate::drift::Request`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriftFault {
    /// A run whose tokens are unknown.
    #[error(
        "{file}: runs[{run}] states no ids of its prompt; rows are paired by their tokens, so record the ids"
    )]
    WithoutIds {
        /// The file.
        file: String,
        /// Which run.
        run: usize,
    },

    /// No run of one side has the tokens of a run of the other.
    #[error("{a} and {b}: no two runs begin with the same tokens; record both on the same prompts")]
    OtherTokens {
        /// The first side.
        a: String,
        /// The second.
        b: String,
    },

    /// A record of several configurations, of which none was chosen.
    #[error("{file}: has {count} configurations ({}); name one: {file}#{}", names.join(", "), names[0])]
    WhichConfiguration {
        /// The file.
        file: String,
        /// How many.
        count: usize,
        /// Their names.
        names: Vec<String>,
    },

    /// A configuration that is not there.
    #[error("{file}: has no configuration '{wanted}'; it has {}", names.join(", "))]
    NoConfiguration {
        /// The file.
        file: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        names: Vec<String>,
    },

    /// Rows of another width than the model's, which is 0 where it has no such site.
    #[error(
        "{file}: {site} is {found} wide, and the model's is {expected}; give the model that was recorded"
    )]
    OtherWidth {
        /// The file.
        file: String,
        /// The site.
        site: String,
        /// What was recorded.
        found: usize,
        /// The model's.
        expected: usize,
    },

    /// A computed side without a model.
    #[error("one side is to be computed, and there is no model; give --model")]
    NoModel,

    /// Traces of other prompts.
    #[error("{a} and {b}: no prompt is in both; trace both on the same prompts")]
    OtherPrompts {
        /// The first side.
        a: String,
        /// The second.
        b: String,
    },

    /// Nothing is left to be a prompt.
    #[error("prompt {prompt}: {tokens} tokens, of which {decoded} are to be decoded; give longer prompts")]
    TooShort {
        /// Which prompt.
        prompt: String,
        /// Its tokens.
        tokens: usize,
        /// Decode steps.
        decoded: usize,
    },

    /// A cached prefix that is no part of a prompt, or chunks of nothing.
    #[error(
        "prompt {prompt}: {tokens} tokens are no part of a prefill of {prefill}; give fewer, and one at least"
    )]
    NoPart {
        /// Which prompt.
        prompt: String,
        /// Tokens of the prefix or of a chunk.
        tokens: usize,
        /// Tokens of the prefill.
        prefill: usize,
    },

    /// An expert that the model has not.
    #[error(
        "{file}: {site}, position {position}: names an expert that is none of {experts}; record it again"
    )]
    NoExpert {
        /// The file.
        file: String,
        /// The site.
        site: String,
        /// The position.
        position: usize,
        /// Experts of the model.
        experts: usize,
    },
}
