//! Number formats, rounding, ULPs, block-quantized layouts and recipes.
//!
//! Everything that decides a bit is a value of this crate: a storage format ([`Dtype`]), the layout of a
//! quantized block ([`block`]), the exact order of arithmetic of a kernel ([`recipe`]).
//! The crate computes nothing in parallel, reads no files and depends on no other crate of the workspace.

pub mod block;
pub mod dtype;
pub mod generation;
pub mod nvidia;
pub mod recipe;
pub mod rotary;
#[cfg(feature = "schema")]
pub mod schema;
pub mod setup;
pub mod site;
pub mod tensor_core;
pub mod torch_cpu;
pub mod ulp;

pub use block::BlockFormat;
pub use dtype::Dtype;
pub use generation::Generation;
pub use setup::Setup;
pub use site::{LayerIdx, Phase, Point, Site};
pub use ulp::Ulps;
