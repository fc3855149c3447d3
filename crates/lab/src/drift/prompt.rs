//! A prompt that is compared.

use super::fed::Schedule;
use super::sheet::Sheet;

/// A prompt that both sides have.
pub(crate) struct Prompt {
    pub name: String,
    /// Tokens that both sequences begin with.
    pub tokens: usize,
    /// Rows of each side.
    pub sheets: [Sheet; 2],
    /// How each side fed them.
    pub schedules: [Schedule; 2],
}
