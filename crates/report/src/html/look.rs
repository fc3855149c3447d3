//! How an answer looks: a sign and a colour.

/// An answer about a pair, a candidate or a signal of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    Apart,
    Alike,
    Open,
    Missing,
    None,
    Fits,
    /// What was claimed, and does not fit.
    FitsNot,
    Contradicted,
    /// A drift that named recipes explain.
    Explained,
    /// A drift that rounding may explain.
    Rounding,
    /// A drift that nothing explains.
    Unexplained,
}

impl Look {
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Same | Self::Fits => "=",
            Self::Apart | Self::Contradicted | Self::FitsNot => "≠",
            Self::Alike => "≈",
            Self::Open => "?",
            Self::Missing => "∅",
            Self::None => "×",
            Self::Explained => "+",
            Self::Rounding => "~",
            Self::Unexplained => "!",
        }
    }

    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Apart => "apart",
            Self::Alike | Self::Rounding => "alike",
            Self::Open => "open",
            Self::Missing => "missing",
            Self::None => "none",
            Self::Fits | Self::Explained => "fits",
            Self::Contradicted | Self::FitsNot | Self::Unexplained => "contradicted",
        }
    }
}
