//! What share of some runs can be predicted, and which measurement would add most: the answer of `mantissa coverage`
//! and of `--coverage`.

use std::io;

use mantissa_engine::{Basis, Catalogs, Hardware};
use mantissa_lab::coverage::{Cause, PlannedRun, Tally};
use mantissa_model::graph::Graph;
use serde::Serialize;

use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::{Column, Page, Report};

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    models: Vec<String>,
    hardware: Vec<OnHardware>,
}

impl Answer {
    /// Counts `runs` of `models`, whose forward passes are `graphs`, by hardware in the order of the runs.
    pub(crate) fn of(
        models: &[String],
        graphs: &[Graph],
        catalogs: &Catalogs,
        runs: &[PlannedRun],
        settings: &Settings,
    ) -> Self {
        let mut hardware: Vec<Hardware> = Vec::new();
        for run in runs {
            if !hardware.contains(&run.setup.hardware) {
                hardware.push(run.setup.hardware);
            }
        }
        let on = |hardware: Hardware| {
            let runs: Vec<PlannedRun> =
                runs.iter().copied().filter(|run| run.setup.hardware == hardware).collect();
            OnHardware::of(hardware.name().to_owned(), models, graphs, catalogs, &runs, settings)
        };
        Self { models: models.to_vec(), hardware: hardware.into_iter().map(on).collect() }
    }
}

#[derive(Debug, Serialize)]
struct OnHardware {
    hardware: String,
    runs: usize,
    /// Runs by what they rest on.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<usize>,
    verified: usize,
    asked: usize,
    measured: usize,
    literature: usize,
    refused: usize,
    causes: Vec<OfModel>,
}

#[derive(Debug, Serialize)]
struct OfModel {
    model: String,
    #[serde(flatten)]
    cause: Cause,
}

impl OnHardware {
    fn of(
        hardware: String,
        models: &[String],
        graphs: &[Graph],
        catalogs: &Catalogs,
        runs: &[PlannedRun],
        settings: &Settings,
    ) -> Self {
        let bar = Bar::new(settings, &hardware, Some(runs.len() as u64), Unit::Runs);
        let mut tally = Tally::default();
        for run in runs {
            tally.add(&graphs[run.model], catalogs, *run);
            bar.add(1);
        }
        bar.clear();
        let of = |basis| tally.covered().get(&basis).copied().unwrap_or_default();
        let causes = tally.causes().map(|mut cause| {
            let model = models[cause.model].clone();
            if let Some(command) = &mut cause.command {
                *command =
                    command.replace("FILE", &format!("{hardware}.json")).replace("MODEL", &quoted(&model));
            }
            OfModel { model, cause }
        });
        Self {
            runs: tally.runs(),
            own: Some(of(Basis::Own)).filter(|own| *own > 0),
            verified: of(Basis::Verified),
            asked: of(Basis::Asked),
            measured: of(Basis::Measured),
            literature: of(Basis::Literature),
            refused: tally.refused(),
            causes: causes.collect(),
            hardware,
        }
    }

    fn share(&self, runs: usize) -> String {
        #[expect(clippy::cast_precision_loss, reason = "a percentage of at most a million runs")]
        let percent = 100.0 * runs as f64 / self.runs.max(1) as f64;
        format!("{runs} of {} ({percent:.1}%)", self.runs)
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Causes that are listed; JSON has all.
const LISTED: usize = 12;

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for on in &self.hardware {
            page.heading(&on.hardware)?;
            for (label, runs) in [
                ("own recipes", on.own.unwrap_or_default()),
                ("verified", on.verified),
                ("asked", on.asked),
                ("your catalogs", on.measured),
                ("literature", on.literature),
            ] {
                if runs > 0 {
                    page.field(label, on.share(runs))?;
                }
            }
            page.field("refused", on.share(on.refused))?;
            if on.causes.is_empty() {
                continue;
            }
            let several = self.models.len() > 1;
            let row = |of: &OfModel| {
                let what =
                    if several { format!("{}: {}", of.model, of.cause.what) } else { of.cause.what.clone() };
                vec![what, of.cause.runs.to_string(), of.cause.alone.to_string()]
            };
            let columns = [Column::Left("what is missing"), Column::Right("runs"), Column::Right("alone")];
            page.table(&columns, &on.causes.iter().take(LISTED).map(row).collect::<Vec<_>>())?;
            if on.causes.len() > LISTED {
                page.line(&format!("and {} more; --format json lists all", on.causes.len() - LISTED))?;
            }
            // The first that a catalog lifts: without it most runs would be covered, or else most runs lack it.
            if let Some((cause, command)) =
                on.causes.iter().find_map(|of| Some((&of.cause, of.cause.command.as_ref()?)))
            {
                let gain = match cause.alone {
                    0 => format!("{} run(s) lack it, each with something else", cause.runs),
                    alone => format!("{alone} run(s) lack nothing else"),
                };
                page.field("adds most", format!("{command} ({gain})"))?;
            }
        }
        Ok(())
    }
}
