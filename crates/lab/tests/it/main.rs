//! The lab from outside: files in, prompts out.

mod copies;
mod documents;
mod generation;
mod prompts;
