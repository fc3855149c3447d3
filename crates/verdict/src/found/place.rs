//! Where something was compared, and what was not shown about it.

/// Where and how setups were compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    On(Vec<String>),
    Between(Vec<String>),
    Across(Vec<String>),
    /// Decode evidence, replayed by prefill on this hardware.
    DecodeByPrefill(String),
}

/// Which repetition was not shown, so that other bits may be noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Unshown {
    #[default]
    Nothing,
    /// That the setups of a pair repeat themselves.
    Setups,
    /// That a run repeats itself; the file does not show it.
    Run,
    /// Whether either machine repeats itself; the file does not say.
    Machines,
}

/// What has to be said of bits besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Caveat {
    /// Fields of the environments that differ besides the GPU.
    pub(crate) versions: Vec<String>,
    pub(crate) unshown: Unshown,
}

/// What a floor is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FloorOf {
    /// Repetitions of either setup, all of them.
    Repetitions,
    /// Repetitions as the file states them.
    StatedRepetitions,
    /// The same setup on two machines.
    SameSetup { here: String, there: String },
    /// Matching replays on this hardware.
    MatchingReplays(String),
}

/// What an exact rule was tried on, for a bound on its false alarms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HonestUnits {
    /// Repetitions of one prompt follow from one program and one input, and phases of a run from each other: together
    /// they are one draw. A setup that was seen not to repeat itself is no subject of an exact rule; what made it known
    /// counts as alarms, and what it happened to repeat does not count.
    Repetitions,
    /// Replays of the claimed setup.
    Replays { variable: String, gpu: String },
}
