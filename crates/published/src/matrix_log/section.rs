//! Where in such a log a line stands: which phase, signal and reference the titles before it name.

use mantissa_numerics::Phase;

use crate::sheet::Signal;

/// Which matrices belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    /// The phase.
    pub(crate) phase: Phase,
    /// Claimed × verified, or within one machine.
    pub(crate) across: bool,
    /// The signal.
    pub(crate) signal: Signal,
}

/// Where in the log the reader is.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    /// The phase.
    pub(crate) phase: Phase,
    /// Whether two machines are compared.
    pub(crate) across: bool,
    /// The signal.
    pub(crate) signal: Signal,
    /// The reference; none where averages are printed.
    pub(crate) reference: Option<String>,
}

impl Section {
    pub(crate) fn group(&self, signal: Option<Signal>) -> Group {
        Group { phase: self.phase, across: self.across, signal: signal.unwrap_or(self.signal) }
    }

    /// Takes in a title, a name of a reference or of a signal.
    pub(crate) fn enter(&mut self, text: &str, title: bool) {
        if title {
            let phases = [text.contains("PREFILL"), text.contains("DECODE")];
            match phases {
                [true, false] => self.phase = Phase::Prefill,
                [false, true] => self.phase = Phase::Decode,
                _ => {}
            }
            let effects =
                text.contains("EFFECTS") || text.contains("COMPARISON") || text.contains("DETECTABILITY");
            if text.starts_with("WITHIN-HARDWARE") {
                self.across = false;
            } else if text.starts_with("CROSS-HARDWARE") && effects {
                self.across = true;
            }
            if effects || text.starts_with("AGGREGATE") {
                self.reference = None;
                self.signal = Signal::Logprobs;
            }
        }
        if let Some(reference) = reference(text) {
            self.reference = Some(reference);
            self.signal = Signal::Logprobs;
        }
        if text.ends_with(':') {
            if text.starts_with("Key Vectors") {
                self.signal = Signal::KeyVectors;
            } else if text.starts_with("Logprobs") {
                self.signal = Signal::Logprobs;
            }
        }
    }
}

/// The reference that a line names: `ref_0:`, `REF_0`, `--- ref_0 ---`, `REFERENCE: ref_0`.
fn reference(text: &str) -> Option<String> {
    let bare = text.trim_matches(|c: char| c == '-' || c == ' ' || c == ':');
    let bare = bare.rsplit(' ').next()?.to_lowercase();
    let prefix = ["", "reference:", "token consistency for"];
    let before = text.to_lowercase();
    let before = before
        .trim_matches(|c: char| c == '-' || c == ' ' || c == ':')
        .strip_suffix(&bare)?
        .trim()
        .to_owned();
    let number = bare.strip_prefix("ref_")?;
    let named = prefix.contains(&before.as_str()) && !number.is_empty();
    (named && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_by_their_words() {
        for text in
            ["ref_2:", "REF_2", "--- ref_2 ---", "REFERENCE: ref_2", "--- Token consistency for ref_2 ---"]
        {
            assert_eq!(reference(text).as_deref(), Some("ref_2"), "{text}");
        }
        for text in ["ref_0: 3 positions captured", "ref_", "no ref_1"] {
            assert_eq!(reference(text), None, "{text}");
        }
    }
}
