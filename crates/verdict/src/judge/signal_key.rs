//! Signals by their names in files.

use mantissa_compare::SignalKind;

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
    SignalKind::ALL.map(Signal::from).into_iter().find(|&signal| signal_key(signal) == name)
}
