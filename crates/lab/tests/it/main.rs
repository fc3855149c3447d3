//! The lab from outside: files in, prompts out.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod copies;
mod documents;
mod drift;
mod generation;
mod prompts;
