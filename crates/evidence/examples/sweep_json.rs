//! Times the passes over one experiment JSON: the index alone, one layer of the workload of the ablation plan's
//! comparison, or every signal.
//!
//!     cargo run --release -p mantissa-evidence --example sweep_json FILE [index|plan|all]
//!
//! `plan` (the default) computes what `benches/peers/plan_compare.py` computes and prints the same object; rows are
//! read step by step and position by position, so that each is parsed once. Times and peak memory go to stderr.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the result and the times of a measuring program"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use mantissa_evidence::record::RowKey;
use mantissa_evidence::{EvidenceError, Record};
use mantissa_numerics::{Phase, Point, Site};

fn main() -> Result<(), EvidenceError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, task @ ..] = arguments.as_slice() else {
        eprintln!("usage: sweep_json FILE [index|plan|all]");
        std::process::exit(2);
    };
    let start = Instant::now();
    let record = Record::open(Path::new(file))?;
    let opened = start.elapsed();
    match task.first().map_or("plan", String::as_str) {
        "index" => (),
        "all" => println!("{} bytes of values", all(&record)?),
        _ => plan(&record)?,
    }
    let seconds = start.elapsed().as_secs_f64();
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    eprintln!("index {:.4} s, total {seconds:.4} s, {peak}", opened.as_secs_f64());
    Ok(())
}

fn keys(record: &Record, run: usize) -> Vec<RowKey> {
    let phase = Phase::Decode;
    let layout = record.layout(run, phase);
    let steps = layout.iter().flat_map(|layout| {
        let positions = &layout.positions;
        layout
            .steps
            .clone()
            .flat_map(|step| positions.iter().map(move |&position| RowKey { phase, step, position }))
    });
    steps.collect()
}

/// Reads every row and every candidate; their bytes.
fn all(record: &Record) -> Result<usize, EvidenceError> {
    let (mut bytes, mut scratch) = (0, Vec::new());
    for run in 0..record.shell().runs.len() {
        for key in keys(record, run) {
            for &site in record.layout(run, key.phase).iter().flat_map(|layout| layout.tensors.keys()) {
                bytes += record.row(run, site, key, &mut scratch)?.map_or(0, <[u8]>::len);
            }
            bytes += record.candidates(run, key)?.map_or(0, |candidates| 8 * candidates.token_ids.len());
        }
    }
    Ok(bytes)
}

/// The largest distances of the four analyses over the keys of the last layer.
fn plan(record: &Record) -> Result<(), EvidenceError> {
    let experiment = record.shell();
    let site = record
        .layout(0, Phase::Decode)
        .and_then(|layout| layout.tensors.keys().copied().filter(|site| site.point == Point::K).max());
    let site = site.unwrap_or(Site::at(1, Point::K));
    let mut machines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let runs = |id: &str| -> Vec<usize> {
        (0..experiment.runs.len()).filter(|&run| experiment.runs[run].config_id == id).collect()
    };
    let mut repeated = Vec::new();
    for configuration in &experiment.configurations {
        let runs = runs(&configuration.config_id);
        machines.entry(&configuration.hardware).or_default().push(runs[0]);
        repeated.extend(
            (0..runs.len())
                .flat_map(|i| (i + 1..runs.len()).map(move |j| (i, j)))
                .map(|(i, j)| (runs[i], runs[j])),
        );
    }
    let setups: Vec<&Vec<usize>> = machines.values().take(2).collect();
    let value = |run: usize| {
        let id = &experiment.runs[run].config_id;
        experiment.configurations.iter().find(|c| c.config_id == *id).map(|c| &c.variable_value)
    };
    let across = || setups[0].iter().flat_map(|&a| setups[1].iter().map(move |&b| (a, b)));
    let baseline: Vec<_> = across().filter(|&(a, b)| value(a) == value(b)).collect();
    let cross: Vec<_> = across().filter(|&(a, b)| value(a) != value(b)).collect();
    let within: Vec<_> = machines.values().flat_map(|runs| runs[1..].iter().map(|&b| (runs[0], b))).collect();
    let groups =
        [("reproducibility", repeated), ("baseline", baseline), ("within", within), ("cross", cross)];
    let mut largest: Vec<Vec<f64>> = groups.iter().map(|(_, pairs)| vec![0.0; pairs.len()]).collect();
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); experiment.runs.len()];
    let mut scratch = Vec::new();
    for key in keys(record, 0) {
        for (run, values) in rows.iter_mut().enumerate() {
            let row = record.row(run, site, key, &mut scratch)?.unwrap_or_default();
            values.clear();
            values.extend(row.chunks_exact(4).map(|word| mantissa_numerics::Dtype::F32.decode(word, 0)));
        }
        for ((_, pairs), largest) in groups.iter().zip(&mut largest) {
            for (&(a, b), largest) in pairs.iter().zip(largest) {
                let squares =
                    rows[a].iter().zip(&rows[b]).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2));
                *largest = largest.max(squares.sum::<f64>().sqrt());
            }
        }
    }
    let entries = groups.iter().zip(&largest).map(|((name, _), largest)| format!("\"{name}\": {largest:?}"));
    println!("{{{}}}", entries.collect::<Vec<_>>().join(", "));
    Ok(())
}
