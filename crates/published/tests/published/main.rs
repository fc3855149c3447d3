//! Published files tested through the public API: every layout read, damaged and computed again; the door to evidence.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod json_layouts;
mod layouts;
mod log_figures;
mod logs;
mod opening;
