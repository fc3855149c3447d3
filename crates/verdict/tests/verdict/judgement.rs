//! The default mode: small experiments of which every answer is known, then the published files.

mod published;
mod synthetic;
