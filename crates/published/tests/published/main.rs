//! Published files tested through the public API: every layout read, damaged and computed again; the door to evidence.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod dumps;
mod layouts;
mod opening;
mod synthetic;
