//! How much of a file is read at most, and what reading a PDF may cost.

use serde::{Deserialize, Serialize};

/// Largest file that is read: papers and books stay far below.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Bounds on the reading of one PDF.
///
/// Example: [`PdfReader`](super::PdfReader).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PdfLimits {
    /// Address space of the child, file included.
    pub memory_bytes: u64,
    /// Processor time of the child; twice as much by the clock.
    pub seconds: u64,
    /// Pages.
    pub pages: usize,
    /// Text of all pages together.
    pub text_bytes: usize,
}

impl Default for PdfLimits {
    /// Far above any paper or book: 2 GiB, a minute, 20,000 pages, 64 MiB of text.
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, seconds: 60, pages: 20_000, text_bytes: 64 << 20 }
    }
}
