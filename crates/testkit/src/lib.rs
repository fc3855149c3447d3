//! Tiny checkpoints and hostile files for tests.
