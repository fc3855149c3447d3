//! The default mode: small experiments of which every answer is known, then the published files.

mod extremes;
mod gaps;
mod noise;
mod outcome;
mod published;
mod repeated;
mod synthetic;
