//! `just critics`: honest records that verification must not contradict, and altered ones that it must.
//!
//! Every case is drawn from a seed and its number, so that one can be repeated alone. An honest record is verified
//! against its own claim and other candidates. An altered one differs from an honest one in one thing and is sealed
//! again, so that every digest agrees; verification has to contradict it, or name the contradiction in the file. Where
//! it does not, the claimed setup is computed whole, as a recorder does, without the code of replays: only if it leaves
//! every recorded bit did the alteration change none. Anything else is a failure, printed with its number.
//!
//! - `draw`: what is drawn. `make`: models and records. `alter`: one alteration. `answer`: what verification says.
//! - `table`: what is counted.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a suite prints its table and its progress")]

mod alter;
mod answer;
mod draw;
mod make;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use answer::Judged;
use draw::{Draw, Kind};
use make::{Models, Refusal};
use table::Table;

/// What is asked on the command line.
struct Asked {
    seed: u64,
    honest: u64,
    altered: u64,
    /// One case alone.
    only: Option<u64>,
    threads: u64,
    captures: bool,
}

const USAGE: &str = "critics [--seed S] [--honest N] [--altered N] [--only N] [--threads N] [--no-captures]";

/// Draws of a case before it is given up: refusals are no cases.
const ATTEMPTS: u64 = 60;

impl Asked {
    fn of(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked =
            Self { seed: 14, honest: 1000, altered: 1000, only: None, threads: 2, captures: true };
        while let Some(word) = words.next() {
            if word == "--no-captures" {
                asked.captures = false;
                continue;
            }
            let number = words.next().and_then(|text| text.parse::<u64>().ok());
            let number = number.ok_or_else(|| format!("{word}: needs a number; {USAGE}"))?;
            match word.as_str() {
                "--seed" => asked.seed = number,
                "--honest" => asked.honest = number,
                "--altered" => asked.altered = number,
                "--only" => asked.only = Some(number),
                "--threads" => asked.threads = number.max(1),
                _ => return Err(format!("{word}: unknown; {USAGE}")),
            }
        }
        Ok(asked)
    }
}

fn main() -> ExitCode {
    let asked = match Asked::of(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(wrong) => {
            eprintln!("error: {wrong}");
            return ExitCode::from(2);
        }
    };
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("error: no temporary folder: {error}; free some space");
            return ExitCode::from(2);
        }
    };
    let models = Models::new(folder.path().to_owned());
    let mut table = Table::default();
    if asked.honest > 0 {
        run(&asked, Kind::Honest, asked.honest, &models, &mut table);
    }
    if asked.altered > 0 {
        run(&asked, Kind::Altered, asked.altered, &models, &mut table);
    }
    if asked.captures && asked.honest > 0 && asked.only.is_none() {
        captures(&models, &mut table);
    }
    println!("{}", table.markdown(asked.seed));
    if table.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Cases of one kind, several at a time. What is counted does not depend on which ends first.
fn run(asked: &Asked, kind: Kind, cases: u64, models: &Models, table: &mut Table) {
    let next = AtomicU64::new(asked.only.unwrap_or(0));
    let end = asked.only.map_or(cases, |only| only + 1);
    let done: Mutex<Vec<(u64, Judged, Vec<String>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..asked.threads.min(end) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        break;
                    }
                    let (judged, refused) = case(asked, kind, number, models);
                    if let Judged::Failed { what, .. } = &judged {
                        eprintln!(
                            "FAILURE {kind} case {number} (--seed {} --only {number}): {what}",
                            asked.seed
                        );
                    } else if asked.only.is_some() {
                        eprintln!("{kind} case {number}: {judged:?}");
                    }
                    let Ok(mut done) = done.lock() else { break };
                    done.push((number, judged, refused));
                    if done.len().is_multiple_of(50) {
                        eprintln!("{kind}: {} of {cases}", done.len());
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(number, ..)| *number);
    for (number, judged, refused) in done {
        table.add(kind, number, judged, refused);
    }
}

/// One case, drawn again while it is refused; with the reasons of refusals.
fn case(asked: &Asked, kind: Kind, number: u64, models: &Models) -> (Judged, Vec<String>) {
    let mut refused = Vec::new();
    for attempt in 0..ATTEMPTS {
        let mut draw = Draw::new(asked.seed, kind, number, attempt);
        let place = models.scratch(kind, number, attempt);
        let judged = match kind {
            Kind::Honest => answer::honest(&mut draw, models, &place),
            Kind::Altered => answer::altered(&mut draw, models, &place),
        };
        let _ = std::fs::remove_dir_all(&place);
        match judged {
            Ok(judged) => return (judged, refused),
            Err(Refusal(why)) => refused.push(why),
        }
    }
    let what =
        format!("{ATTEMPTS} draws were refused, the last one: {}", refused.last().map_or("", |why| why));
    (Judged::Failed { group: "refused".to_owned(), what }, refused)
}

/// What GPUs left, verified against its own claims and other batch sizes.
fn captures(models: &Models, table: &mut Table) {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/gpu/evidence_h200"));
    eprintln!("captures of a GPU");
    match answer::capture(models, &folder) {
        Ok(judged) => {
            for (number, one) in (0..).zip(judged) {
                if let Judged::Failed { what, .. } = &one {
                    eprintln!("FAILURE capture {number}: {what}");
                }
                table.add(Kind::Honest, number, one, Vec::new());
            }
        }
        Err(Refusal(why)) => {
            let failed = Judged::Failed { group: "capture".to_owned(), what: why };
            table.add(Kind::Honest, 0, failed, Vec::new());
        }
    }
}
