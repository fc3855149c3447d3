//! A verdict as text, Markdown, JSON and one self-contained HTML page.
//!
//! It computes nothing: every number shown is in the [`Analysis`](mantissa_verdict::Analysis). What is rounded for
//! display, coloured or cut short here is whole in `analysis_results.json`. Text that came from files is escaped for
//! wherever it is shown. The same analysis gives the same bytes.
#![deny(unsafe_code)]

mod audit;
mod compared;
mod comparison;
mod drift;
mod foreign;
mod grid;
mod html;
mod json;
mod markdown;
mod short;
mod text;
mod words;

pub use audit::{audit_json, audit_markdown, audit_schema, audit_text};
pub use comparison::comparison_text;
pub use drift::{
    drift_baseline_json, drift_baseline_schema, drift_json, drift_markdown, drift_schema, drift_summary,
    drift_text,
};
pub use html::{audit_html, comparison_html, drift_html, html, index};
pub use json::{json, schema};
pub use markdown::markdown;
pub use text::layout::{plain as table, wrap};
pub use text::{Style, text};
pub use words::outcome;
