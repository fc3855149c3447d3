//! Values of a setup's axes without recipes: they are refused in this one place.
//!
//! Left out: shapes and combinations that a GPU's recipes do not cover (the engine refuses those).

use std::fmt;

use mantissa_numerics::Setup;
use mantissa_numerics::setup::AllReduce;

/// Why a setup has no replay.
///
/// Example: [`uncovered`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What is not offered or not stated.
    pub what: String,
    /// What would help.
    pub remedy: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Refuses a setup with a value that there are no recipes for.
///
/// ```
/// use mantissa_lab::uncovered;
/// use mantissa_numerics::Setup;
///
/// assert!(uncovered(&Setup::default()).is_ok());
/// let ranks = Setup { tp_size: 2, ..Setup::default() };
/// assert_eq!(
///     uncovered(&ranks).unwrap_err().to_string(),
///     "there are no recipes for tensor-parallel ranks; only one rank, uncompiled, is covered"
/// );
/// ```
pub fn uncovered(setup: &Setup) -> Result<(), Unreadable> {
    let refused = [
        ("a compiled model", setup.compile),
        ("concurrent streams", setup.concurrent_streams),
        ("tensor-parallel ranks", setup.tp_size > 1),
        ("expert-parallel ranks", setup.ep_size > 1),
        ("an all-reduce of ranks", setup.all_reduce != AllReduce::None),
    ];
    match refused.into_iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((what, _)) => Err(Unreadable {
            what: format!("there are no recipes for {what}"),
            remedy: "only one rank, uncompiled, is covered".to_owned(),
        }),
    }
}
