//! Versions of a catalog's file.

/// What stands first in a catalog's `format`, as it is written.
pub const FORMAT: &str = "mantissa-catalog/2";

/// The format before, which has nothing that was only asked.
pub(super) const FORMAT_1: &str = "mantissa-catalog/1";
