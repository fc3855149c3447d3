//! The engine against other people's answers, and against itself.

mod against_llama_cpp;
mod against_transformers;
mod decisions;
mod generation;
mod invariance;
mod last_block;
mod models;
mod nf4;
mod plan;
mod recipes;
