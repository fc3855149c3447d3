//! Signals by their names in files.

use crate::analysis::Signal;

/// The name in files.
pub(super) const fn signal_key(signal: Signal) -> &'static str {
    match signal {
        Signal::HiddenStates => "hidden_states",
        Signal::KeyVectors => "key_vectors",
        Signal::Logprobs => "logprobs",
    }
}

/// The signal of a name in files.
pub(super) fn signal_of(name: &str) -> Option<Signal> {
    [Signal::HiddenStates, Signal::KeyVectors, Signal::Logprobs]
        .into_iter()
        .find(|&signal| signal_key(signal) == name)
}
