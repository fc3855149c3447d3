//! The kernels: each computes one recipe, for whatever instruction set and number of threads.
//!
//! A kernel file holds the generic code over [`crate::simd::Simd`] and a safe entry that checks shapes and shares
//! the work out. Work is cut along outputs, never along a sum, so the cut cannot show in a bit.

pub(crate) mod format;
pub(crate) mod matmul;
