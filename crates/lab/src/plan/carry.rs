//! Carrying a plan out: a process for each configuration, what is finished kept, outputs put together in the end.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mantissa_evidence::{Experiment as Evidence, Outcome as Agreement, container, json, write_whole};
use serde::Serialize;

use super::cells::Cell;
use super::file::Plan;
use super::join::join;
use super::process::{CellSpec, GENERATION_CONFIG, Program};
use super::values::{Backend, Format};
use crate::error::LabError;
use crate::prompt::PromptSet;

/// Folder of what is kept while a plan is carried out, in that of its outputs.
const STATE: &str = ".plan";

/// How often a running process is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The most of a log's end that is read for its last line.
const LAST: u64 = 16 * 1024;

/// A plan to be carried out in a folder.
///
/// Finished configurations are never run again; a process that was killed is begun again in the folder that it left.
///
/// ```no_run
/// use mantissa_lab::plan::{CarryOut, Plan, Program};
///
/// let plan = Plan::read("plans/laptop.toml".as_ref())?;
/// let program = Program { path: std::env::current_exe()?, threads: None };
/// let work = CarryOut { plan: &plan, prompts: None, out: "results".as_ref(), program, keep_going: false };
/// let summary = work.run(&|progress| println!("{progress:?}"))?;
/// println!("{} outputs", summary.outputs.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CarryOut<'c> {
    /// The plan.
    pub plan: &'c Plan,
    /// Its prompts, for backends that are given token ids.
    pub prompts: Option<&'c PromptSet>,
    /// Where outputs go.
    pub out: &'c Path,
    /// This program.
    pub program: Program,
    /// Whether a configuration that does not repeat itself is documented instead of ending the plan.
    pub keep_going: bool,
}

/// How far a plan is.
///
/// Example: [`CarryOut`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress<'p> {
    /// A configuration runs.
    Running {
        /// Its name.
        id: &'p str,
        /// Its number, from 0, and how many there are.
        number: [usize; 2],
        /// For so long.
        seconds: f64,
    },
    /// A configuration has ended, or had before.
    Ended(&'p Finished),
}

/// What became of a configuration.
///
/// Example: [`CarryOut`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finished {
    /// Its name.
    pub id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it was finished before.
    pub kept: bool,
    /// Mean of the repetitions' seconds, and their variance if there are several.
    pub seconds: Option<(f64, Option<f64>)>,
}

/// How a configuration ended.
///
/// Example: [`CarryOut`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// It was recorded.
    Recorded {
        /// Repetitions of each prompt.
        repetitions: u32,
        /// Whether they agree to the bit.
        agreement: Agreement,
    },
    /// It left nothing.
    Failed {
        /// Its last words.
        reason: String,
        /// Where all of them are.
        log: PathBuf,
    },
}

impl Outcome {
    /// Whether repetitions differ.
    #[must_use]
    pub const fn differs(&self) -> bool {
        matches!(self, Self::Recorded { agreement: Agreement::Divergent { .. }, .. })
    }
}

/// What became of a plan.
///
/// Example: [`CarryOut`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Its configurations, as far as it came.
    pub cells: Vec<Finished>,
    /// Outputs that were written.
    pub outputs: Vec<PathBuf>,
    /// Experiments without an output, or without one of their configurations.
    pub incomplete: Vec<String>,
    /// The configuration that ended the plan, since it does not repeat itself.
    pub stopped: Option<String>,
}

impl CarryOut<'_> {
    /// Runs what is not finished, and writes every output whose configurations are.
    ///
    /// A configuration that fails is told of, and the others go on.
    ///
    /// *Errors:* a folder that cannot be written, that another process uses, or that holds another plan's work.
    pub fn run(&self, progress: &dyn Fn(Progress<'_>)) -> Result<Summary, LabError> {
        let state = self.out.join(STATE);
        std::fs::create_dir_all(&state).map_err(|source| LabError::io(&state, "make", source))?;
        let _lock = self.lock(&state)?;
        let mut summary =
            Summary { cells: Vec::new(), outputs: Vec::new(), incomplete: Vec::new(), stopped: None };
        let total = self.plan.cells.len();
        for (number, cell) in self.plan.cells.iter().enumerate() {
            let told =
                |seconds| progress(Progress::Running { id: &cell.id, number: [number, total], seconds });
            let finished = self.cell(&state, cell, &told)?;
            progress(Progress::Ended(&finished));
            let differs = finished.outcome.differs();
            summary.cells.push(finished);
            if differs && !(self.keep_going || self.plan.keep_going) {
                summary.stopped = Some(cell.id.clone());
                break;
            }
        }
        self.put_together(&state, &mut summary)?;
        Ok(summary)
    }

    /// Holds the folder against other processes for as long as the file is open.
    fn lock(&self, state: &Path) -> Result<File, LabError> {
        let path = state.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|source| LabError::io(&path, "open", source))?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => Err(LabError::Busy { path: self.out.to_owned() }),
            // A file system without locks: go on without one.
            Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(file),
        }
    }

    fn cell(&self, state: &Path, cell: &Cell, told: &dyn Fn(f64)) -> Result<Finished, LabError> {
        let (spec, out) = (state.join(format!("{}.json", cell.id)), state.join("cells").join(&cell.id));
        self.write_spec(&spec, cell)?;
        if container::is_complete(&out) {
            return finished(cell, &out, true);
        }
        let log = state.join(format!("{}.log", cell.id));
        let launch = self.program.launch(self.plan, cell, &spec, &out);
        std::fs::create_dir_all(state.join("cells")).map_err(|source| LabError::io(state, "make", source))?;
        let opened = OpenOptions::new().create(true).append(true).open(&log);
        let file = opened.map_err(|source| LabError::io(&log, "open", source))?;
        let again = file.try_clone().map_err(|source| LabError::io(&log, "open", source))?;
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments).envs(&launch.environment);
        command.stdin(Stdio::null()).stdout(file).stderr(again);
        let failed = |reason: String| {
            let outcome = Outcome::Failed { reason, log: log.clone() };
            Ok(Finished { id: cell.id.clone(), outcome, kept: false, seconds: None })
        };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return failed(format!("{}: {error}", launch.program.display())),
        };
        let status = wait(&mut child, told).map_err(|source| LabError::io(&log, "wait for", source))?;
        if container::is_complete(&out) {
            return finished(cell, &out, false);
        }
        failed(last_line(&log).unwrap_or_else(|| format!("it ended with {status} and no word")))
    }

    /// Writes what the cell's process is told. *Errors:* something else was run under its name.
    fn write_spec(&self, path: &Path, cell: &Cell) -> Result<(), LabError> {
        let told = match (cell.backend, self.prompts) {
            (Backend::Mantissa, _) => serde_json::to_vec_pretty(&Own::of(self.plan, cell)?),
            (_, Some(prompts)) => serde_json::to_vec_pretty(&CellSpec::new(self.plan, cell, prompts)?),
            (_, None) => return Err(LabError::Nothing { what: "prompt" }),
        };
        let mut told = told.map_err(|error| LabError::Digest { reason: error.to_string() })?;
        told.push(b'\n');
        match std::fs::read(path) {
            Ok(found) if found == told => Ok(()),
            Ok(_) => Err(LabError::OtherPlan { path: path.to_owned() }),
            Err(_) => Ok(write_whole(path, false, |file| file.write_all(&told))?),
        }
    }

    fn put_together(&self, state: &Path, summary: &mut Summary) -> Result<(), LabError> {
        let holds = |summary: &Summary, place: &usize| {
            let cell = &self.plan.cells[*place];
            summary.cells.iter().any(|f| f.id == cell.id && !matches!(f.outcome, Outcome::Failed { .. }))
        };
        for experiment in &self.plan.experiments {
            let there: Vec<usize> =
                experiment.cells.iter().copied().filter(|place| holds(summary, place)).collect();
            if there.len() < experiment.cells.len() {
                summary.incomplete.push(experiment.name.clone());
            }
            let whole = there.len() == experiment.cells.len();
            // Without its reference, or with nothing beside it, an output says nothing.
            if there.first() != Some(&0) || (there.len() < 2 && !whole) {
                continue;
            }
            let mut cells: Vec<(&Cell, Evidence)> = Vec::new();
            for place in there {
                let cell = &self.plan.cells[place];
                cells.push((cell, mantissa_evidence::read(&state.join("cells").join(&cell.id))?));
            }
            let Some(joined) = join(experiment, cells) else { continue };
            let path = self.out.join(&experiment.output);
            write_output(&path, self.plan.format, &joined)?;
            summary.outputs.push(path);
        }
        Ok(())
    }
}

/// What decides the bytes of a cell of this program, beside what its own record keeps.
#[derive(Serialize)]
struct Own<'c> {
    cell: &'c Cell,
    /// Digests of what prompts are cut from, or of the files that hold them.
    documents: Vec<String>,
    prompt: &'c crate::prompt::PromptSpec,
    decode: u32,
    repetitions: u32,
    signals: &'c super::file::Signals,
    /// Whether the model's own settings of generation are applied.
    generation_config: bool,
}

impl<'c> Own<'c> {
    fn of(plan: &'c Plan, cell: &'c Cell) -> Result<Self, LabError> {
        let digest = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|source| LabError::io(path, "read", source))?;
            Ok(blake3::hash(&bytes).to_hex().to_string())
        };
        let given = plan.given.iter().flat_map(|given| [Some(&given.references), given.neighbours.as_ref()]);
        Ok(Self {
            cell,
            documents: plan
                .documents
                .iter()
                .chain(given.flatten())
                .map(digest)
                .collect::<Result<_, LabError>>()?,
            prompt: &plan.prompt,
            decode: plan.decode,
            repetitions: plan.repetitions,
            signals: &plan.signals,
            generation_config: GENERATION_CONFIG,
        })
    }
}

/// Writes an output, unless these very bytes are there.
fn write_output(path: &Path, format: Format, experiment: &Evidence) -> Result<(), LabError> {
    match format {
        Format::Json => {
            let bytes = json::to_vec(experiment, path)?;
            if std::fs::read(path).is_ok_and(|found| found == bytes) {
                return Ok(());
            }
            Ok(write_whole(path, true, |file| file.write_all(&bytes))?)
        }
        Format::Container => {
            if container::is_complete(path) {
                if mantissa_evidence::read(path).is_ok_and(|found| found == *experiment) {
                    return Ok(());
                }
                std::fs::remove_dir_all(path).map_err(|source| LabError::io(path, "replace", source))?;
            }
            Ok(container::write(path, experiment)?)
        }
    }
}

fn wait(child: &mut Child, told: &dyn Fn(f64)) -> std::io::Result<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        told(began.elapsed().as_secs_f64());
        std::thread::sleep(LOOK);
    }
}

/// What a finished cell holds.
fn finished(cell: &Cell, out: &Path, kept: bool) -> Result<Finished, LabError> {
    let container = container::Container::open(out)?;
    let extras = container.configurations().first().and_then(|configuration| configuration.mantissa.as_ref());
    let found = extras.map(|extras| &extras.reproducibility);
    let outcome = Outcome::Recorded {
        repetitions: found.map_or(1, |found| found.repetitions),
        agreement: found.map_or(Agreement::NotChecked, |found| found.outcome.clone()),
    };
    let runtime = extras.and_then(|extras| extras.runtime.as_ref());
    let seconds = runtime.map(|runtime| (runtime.mean_seconds, runtime.variance));
    Ok(Finished { id: cell.id.clone(), outcome, kept, seconds })
}

/// The last line that says something.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST))).ok()?;
    let mut end = Vec::new();
    file.take(LAST).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
