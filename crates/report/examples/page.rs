//! The page of a sample analysis, to look at: `cargo run -p mantissa-report --example page > page.html`.
//! With a name after it, another rendering: `json`, `markdown`, `text`, `text-color`.

use std::io::{self, Write as _};

use mantissa_report::Style;

#[path = "../tests/report/sample.rs"]
mod sample;

fn main() -> io::Result<()> {
    let analysis = sample::analysis();
    let mut out = io::stdout().lock();
    match std::env::args().nth(1).as_deref() {
        None | Some("html") => mantissa_report::html(&analysis, &mut out),
        Some("json") => mantissa_report::json(&analysis, &mut out),
        Some("markdown") => mantissa_report::markdown(&analysis, &mut out),
        Some(name @ ("text" | "text-color")) => {
            let style = Style { color: name == "text-color", ..Style::default() };
            out.write_all(mantissa_report::text(&analysis, style).as_bytes())
        }
        Some(other) => Err(io::Error::other(format!(
            "no rendering '{other}'; use html, json, markdown, text, text-color"
        ))),
    }
}
