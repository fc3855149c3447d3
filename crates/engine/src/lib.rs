//! Tokens to logits on the CPU, by explicit recipe, with taps.
//!
//! A [`Dispatch`] turns a setup and a shape into recipes. Kernels compute exactly the recipe they are given, with the
//! same bits on any number of threads and any instruction set. [`Engine`] puts them together as the forward pass of a
//! Hugging Face model and reports what ran ([`Engine::take_observed`]).
//! Left out: files, clocks, JSON, sampling beyond the greedy token.

mod backend;
mod cache;
pub mod catalog;
pub mod catalogs;
mod cpu;
mod dispatch;
mod engine;
mod error;
pub mod generation;
mod kernel;
mod logits;
mod missing;
mod overrides;
mod pass;
mod perturbation;
pub mod plan;
mod pool;
mod products;
mod rope;
mod run;
mod serving;
mod setup;
mod shape;
mod simd;
mod spot;
mod tap;
mod variation;
mod weights;

pub use cache::KvCache;
pub use catalogs::Catalogs;
pub use dispatch::Dispatch;
pub use engine::{Engine, Forced, ForcedSteps};
pub use error::EngineError;
pub use logits::{RowLogprobs, TokenLogprob, greedy, logprobs_at, logprobs_by};
pub use mantissa_numerics::setup::{Attention, Basis, Hardware, Program, QuantizedWeights, Ranks};
pub use missing::Missing;
pub use overrides::{Override, Overrides};
pub use perturbation::{Leaving, Perturbation, SectionId};
pub use products::Products;
pub use serving::Serving;
pub use setup::EngineSetup;
pub use simd::Isa;
pub use spot::{SpotInputs, SpotRow, inputs as spot_inputs};
pub use tap::{NoTap, RowId, Tap, View};
pub use variation::{Angle, Variation};
