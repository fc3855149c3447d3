//! The kernels: each computes one recipe, for whatever instruction set and number of threads.
//!
//! A kernel file holds the generic code over [`crate::simd::Simd`] and safe entries that check shapes and share
//! the work out. Work is cut along outputs, never along a sum, so the cut cannot show in a bit.
#![expect(
    clippy::inline_always,
    reason = "generic code must inline into the function compiled for its instruction set"
)]

pub(crate) mod attention;
pub(crate) mod flash;
pub(crate) mod format;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod nvidia;
pub(crate) mod rows;
pub(crate) mod sdpa_math;
