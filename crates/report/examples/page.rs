//! Pages to look at.
//!
//!     cargo run -p mantissa-report --example page -- pages DIR         every kind of page
//!     cargo run -p mantissa-report --example page -- analyze FILE...   the page of an analysis of files
//!     cargo run -p mantissa-report --example page -- NAME              a sample analysis
//!
//! NAME is html, json, markdown, text or text-color.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use mantissa_published::{Content, Opened, open};
use mantissa_report::Style;
use mantissa_verdict::analysis::{Mode, Source};
use mantissa_verdict::drift::Drift;
use mantissa_verdict::{Analysis, Audit, Options, judge};

#[path = "../tests/report/audit_sample.rs"]
mod audit_sample;
#[path = "../tests/report/drift_sample.rs"]
mod drift_sample;
#[path = "../tests/report/experiment.rs"]
mod experiment;
#[path = "../tests/report/sample.rs"]
mod sample;

use experiment::{NINE, NOISY, Shape, TWO};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let analysis = sample::analysis;
    let mut out = io::stdout().lock();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["pages", folder] => pages(Path::new(folder)),
        ["analyze", files @ ..] if !files.is_empty() => mantissa_report::html(&judged(files)?, &mut out),
        [] | ["html"] => mantissa_report::html(&analysis(), &mut out),
        ["json"] => mantissa_report::json(&analysis(), &mut out),
        ["markdown"] => mantissa_report::markdown(&analysis(), &mut out),
        [name @ ("text" | "text-color")] => {
            let style = Style { color: *name == "text-color", ..Style::default() };
            out.write_all(mantissa_report::text(&analysis(), style).as_bytes())
        }
        _ => {
            Err(io::Error::other("use pages DIR, analyze FILE..., html, json, markdown, text or text-color"))
        }
    }
}

fn pages(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = |name: &str| File::create(folder.join(format!("{name}.html"))).map(BufWriter::new);
    let analysis = |name: &str, analysis: &Analysis| mantissa_report::html(analysis, &mut file(name)?);
    let audit = |name: &str, audit: &Audit| mantissa_report::audit_html(audit, &mut file(name)?);
    let comparison = |name: &str, shape: &Shape| {
        let found = experiment::compared(shape);
        mantissa_report::comparison_html(&found, &[experiment::source()], &mut file(name)?)
    };
    analysis("analyze-hostile", &sample::analysis())?;
    analysis("analyze-nine", &experiment::judged(&NINE))?;
    analysis("analyze-noisy", &experiment::judged(&NOISY))?;
    analysis("analyze-two", &experiment::judged(&TWO))?;
    analysis("analyze-empty", &judge(&[], &Options::default()).map_err(io::Error::other)?)?;
    let as_published = Analysis { mode: Mode::AsPublished, pairs: Vec::new(), ..sample::analysis() };
    analysis("analyze-as-published", &as_published)?;
    audit("verify-hostile", &audit_sample::audit())?;
    audit("verify-full", &audit_sample::full())?;
    audit("verify-open", &audit_sample::open())?;
    let drift = |name: &str, drift: &Drift| mantissa_report::drift_html(drift, &mut file(name)?);
    drift("drift-beside", &drift_sample::beside())?;
    drift("drift-hashes", &drift_sample::hashes())?;
    drift("drift-hostile", &drift_sample::hostile())?;
    drift("drift-large", &drift_sample::large())?;
    comparison("compare-nine", &Shape { prompts: 2, repetitions: 1, ..NINE })?;
    comparison("compare-noisy", &Shape { prompts: 2, ..NOISY })?;
    comparison("compare-two", &TWO)
}

fn judged(files: &[&str]) -> io::Result<Analysis> {
    let opened: Vec<Opened> =
        files.iter().map(|file| open(Path::new(file)).map_err(io::Error::other)).collect::<Result<_, _>>()?;
    let given: Vec<(Source, &Content)> = opened.iter().map(|file| (file.into(), &file.content)).collect();
    judge(&given, &Options::default()).map_err(io::Error::other)
}
