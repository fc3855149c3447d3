//! Tokens to logits on the CPU, by explicit recipe, with taps.
pub mod pool;
mod kernel;
mod simd;
pub use simd::Isa;
