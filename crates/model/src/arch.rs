//! The name of a model family.

/// A model family whose forward pass is known; written and read by its name. What belongs to a name is in
/// its file under `family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arch(pub(crate) &'static str);

impl Arch {
    /// The name used in flags and in `config.json`, transformers' `model_type`.
    ///
    /// ```
    /// assert_eq!(mantissa_model::Arch::QWEN3_MOE.name(), "qwen3_moe");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}
