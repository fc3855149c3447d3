//! Where something was compared, and what was not shown, as parts of a sentence.

use super::words;
use crate::found::{Caveat, FloorOf, HonestUnits, Place, Unshown};

/// `on NVIDIA A100`.
pub(super) fn place(place: &Place) -> String {
    match place {
        Place::On(gpus) => format!("on {}", words::list(gpus)),
        Place::Between(gpus) => format!("between {}", words::list(gpus)),
        Place::Across(gpus) => format!("across {}", words::list(gpus)),
        Place::DecodeByPrefill(gpu) => format!("of decode evidence replayed by prefill on {gpu}"),
    }
}

pub(super) const fn unshown(unshown: Unshown) -> &'static str {
    match unshown {
        Unshown::Nothing => "",
        Unshown::Setups => "; that these setups repeat themselves to the bit was not shown",
        Unshown::Run => "; that a run repeats itself to the bit, the file does not show",
        Unshown::Machines => "; whether either machine repeats itself to the bit, the file does not say",
    }
}

pub(super) fn caveat(caveat: &Caveat) -> String {
    format!("{}{}", versions(&caveat.versions), unshown(caveat.unshown))
}

/// Fields of environments that differ besides the GPU.
pub(super) fn versions(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("; {} {} too", words::list(names), if names.len() == 1 { "differs" } else { "differ" })
    }
}

/// What a floor is made of.
pub(crate) fn floor_of(floor: &FloorOf) -> String {
    match floor {
        FloorOf::Repetitions => "repetitions of either".to_owned(),
        FloorOf::StatedRepetitions => "repetitions as the file states them".to_owned(),
        FloorOf::SameSetup { here, there } => format!("the same setup on {here} and {there}"),
        FloorOf::MatchingReplays(gpu) => format!("matching replays on {gpu}"),
    }
}

/// What a bound on false alarms is about, and what its unit is.
pub(crate) fn honest_units(units: &HonestUnits) -> String {
    match units {
        HonestUnits::Repetitions => "exact comparison of the repetitions of a setup; a unit is one setup on one \
            reference prompt, however often repeated; of setups that do not repeat themselves, only prompts that \
            differ count, as alarms"
            .to_owned(),
        HonestUnits::Replays { variable, gpu } => format!(
            "exact comparison with the replay of the claimed {variable} on {gpu}; a unit is one setup on one \
             reference prompt"
        ),
    }
}
