//! The version of the formats that this crate writes and reads.

/// Version of both formats that this crate writes; it reads every version up to this one.
pub const FORMAT_VERSION: u32 = 1;
