//! What evidence states twice, compared: axes of a setup, names, counts, shapes, how tokens were chosen, and rows that
//! several passes stored.
//!
//! A [`Conflict`] is the finding, with both places and both values; nothing here decides which of them is right. Left
//! out: texts beside token ids (they need a tokenizer: `mantissa_lab::verify`), data beside their digests
//! ([`Record::verify`]), how a conflict reads in a sentence (`mantissa-verdict`).

mod choice;
mod conflict;
mod contents;
mod rows;
mod setups;

use crate::error::Result;
use crate::record::Record;

pub use choice::past_an_end;
pub use conflict::{About, Conflict, Statement};

/// Everything that `record` states twice and not alike, in the order of the file.
///
/// *Errors:* a row that cannot be read.
///
/// ```
/// use mantissa_evidence::Record;
///
/// let record = Record::open("../../goldens/gpu/evidence_h200".as_ref())?;
/// assert!(mantissa_evidence::consistency::conflicts(&record)?.is_empty(), "what an H200 left is stated alike");
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn conflicts(record: &Record) -> Result<Vec<Conflict>> {
    let mut found = setups::conflicts(record.shell());
    found.extend(choice::conflicts(record.shell()));
    found.extend(contents::conflicts(record));
    found.extend(rows::conflicts(record)?);
    Ok(found)
}
