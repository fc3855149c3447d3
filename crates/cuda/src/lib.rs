//! An NVIDIA GPU, if there is one.
//!
//! CUDA's libraries are looked for when [`Device::open`] is called; a machine without them gets one clear error.
//! [`device`] asks cuBLAS for products exactly as PyTorch 2.11 does, because the call decides which kernel runs.
//! [`catalog`] finds and verifies recipes from those products.

pub mod catalog;
pub mod device;
mod error;

pub use device::{Device, Heuristic, Launch, Launches, Layout, Place};
pub use error::CudaError;
