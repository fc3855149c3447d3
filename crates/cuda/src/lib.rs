//! An NVIDIA GPU, if there is one.
//!
//! CUDA's libraries are looked for when [`Device::open`] is called; a machine without them gets one clear error.
//! Products are asked for exactly as PyTorch 2.11 asks cuBLAS for them, because what is asked decides which kernel
//! runs: [`device`]. From them [`catalog`] finds and verifies recipes.

pub mod catalog;
pub mod device;

pub use device::{CudaError, Device};
