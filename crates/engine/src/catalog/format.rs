//! Versions of a catalog's file.

/// What stands first in a catalog's `format`, as it is written.
pub const FORMAT: &str = "mantissa-catalog/3";

/// The format before, which has nothing of what the library launches.
pub(super) const FORMAT_2: &str = "mantissa-catalog/2";

/// The first format, which has nothing that was only asked.
pub(super) const FORMAT_1: &str = "mantissa-catalog/1";
