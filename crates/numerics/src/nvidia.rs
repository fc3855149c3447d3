//! What NVIDIA GPUs compute outside their tensor cores: approximate functions, and the sums of PyTorch's CUDA kernels.
//!
//! All of it is binary32 arithmetic in an order that the kernel's source or a measurement gives; every function here is
//! compared with an H200 bit for bit (docs/coverage.md), but for what `bnb`, `flash3` and `gating` say. Left out:
//! threads and layouts, which are the engine's.

pub mod bnb;
pub mod cudnn;
pub mod flash;
pub mod flash3;
pub mod functions;
pub mod gating;
pub mod launch;
pub mod logarithm;
pub mod machete;
pub mod marlin;
pub mod marlin_experts;
pub mod products;
pub mod reduce;
pub mod softmax;
pub mod topk;
pub mod triton;
pub mod vllm;
