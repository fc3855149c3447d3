//! The lab from outside: files in, prompts out.

mod documents;
mod prompts;
