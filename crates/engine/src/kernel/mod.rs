//! The kernels: each computes one recipe, for whatever instruction set and number of threads.
//!
//! A kernel file holds the generic code over [`crate::simd::Simd`] and safe entries that check shapes and share
//! the work out. Work is cut along outputs, never along a sum, so the cut cannot change a bit.
#![expect(
    clippy::inline_always,
    reason = "generic code must inline into the function compiled for its instruction set"
)]

/// Loops that LLVM unrolls: an iterator's closure would not inherit the kernel's instruction set.
macro_rules! each {
    ($i:ident < $n:expr => $body:expr) => {{
        let mut $i = 0;
        while $i < $n {
            $body;
            $i += 1;
        }
    }};
    ($i:ident < $n:expr, $j:ident < $m:expr => $body:expr) => {
        each!($i < $n => each!($j < $m => $body))
    };
}
pub(crate) mod attention;
mod chain;
mod cudnn;
mod eager;
mod flash;
mod flash3;
pub(crate) mod format;
#[cfg(test)]
mod hashed;
pub(crate) mod heads;
mod lanes;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod matrix;
pub(crate) mod moe;
mod nf4;
#[cfg(test)]
mod nf4_tests;
mod own_attention;
mod packed;
#[cfg(test)]
mod packed_tests;
pub(crate) mod rows;
mod sdpa_math;
pub(crate) mod share;
mod source;
pub(crate) mod tanh;
mod tensor_core;
mod tiles;
mod torch_rows;
#[cfg(test)]
mod vllm_tests;
