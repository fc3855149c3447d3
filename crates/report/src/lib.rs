//! A verdict as text, Markdown, JSON and one self-contained HTML page.
//!
//! Computes nothing: every number shown stands in the [`Analysis`](mantissa_verdict::Analysis).
#![deny(unsafe_code)]
