//! Digests as text.

use std::fmt::Write as _;

/// Two lower-case digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Into a text, which cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
