//! The default mode: small experiments of which every answer is known.

mod coherent;
mod contradictions;
mod extremes;
mod gaps;
mod noise;
mod order;
mod outcome;
mod repeated;
mod synthetic;
