//! `mantissa run`: the experiments of a plan, each configuration in a process of its own.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use mantissa_lab::document::{Document, PdfReader};
use mantissa_lab::plan::{
    Backend, CarryOut, Cell, CellAxis, Estimate, Finished, GivenFiles, Outcome, Plan, PlanError, Program,
    Progress, Stack, Summary,
};
use mantissa_lab::prompt::{PromptSet, taken};
use mantissa_model::{Checkpoint, Tokenizer};
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde::Serialize;

use super::catalog::config_of;
use super::inspect::outcome_text;
use crate::failure::{EarlyExit, Exit};
use crate::interrupt::Resumable;
use crate::output::written;
use crate::progress::{Bar, Unit};
use crate::settings::{Settings, model_path};
use crate::terminal::{Column, Page, Report, Terminal, bytes};

const EXAMPLES: &str = "\
Examples:
  mantissa run plans/laptop.toml --dry-run
  mantissa run plans/laptop.toml --out results
  mantissa run plans/founding.toml --out h100 --only batch_size,attention --python envs/vllm/bin/python
  mantissa analyze --all h100

Each configuration is a process of its own, with the interpreter and the libraries of its [stack]. What is finished is
kept: the same command goes on where a killed one stopped, and never runs a finished configuration again.
Exit codes: 0 all configurations repeat themselves to the bit, 1 one does not, 2 failure, also of one configuration.";

/// Carry out a plan of experiments: a reference, and what is varied of it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Args {
    /// The plan
    #[arg(value_name = "PLAN.toml")]
    plan: PathBuf,
    /// Folder of the outputs [default: the plan's name]
    #[arg(long, value_name = "DIR", value_parser = written())]
    out: Option<PathBuf>,
    /// These experiments alone, and the reference
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    /// Run nothing: say what would run, and about how much memory, disk and time it takes
    #[arg(long)]
    dry_run: bool,
    /// Run nothing: print the commands that make the plan's environments
    #[arg(long, conflicts_with = "dry_run")]
    prepare: bool,
    /// Document a configuration that does not repeat itself, and go on
    #[arg(long)]
    keep_going: bool,
    /// Begin anew, discarding what was finished
    #[arg(long)]
    fresh: bool,
    /// The Python of the default stack
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Threads of this program's own engine [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::record::threads)]
    threads: Option<u32>,
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut plan = Plan::read(&args.plan).map_err(|error| shown(&error))?;
    if !args.only.is_empty() {
        plan.keep(&args.only).map_err(|known| {
            anyhow!("--only: the plan has no experiment '{}'; use {}", known.0, known.1.join(", "))
        })?;
    }
    plan.prompt.given = plan.given.as_ref().map(GivenFiles::read).transpose()?;
    if let (Some(python), Some(stack)) = (&args.python, plan.stacks.get_mut("default")) {
        stack.python.clone_from(python);
    }
    let threads = super::record::machine(args.threads, "auto")?.threads;
    if args.prepare {
        terminal.print(&Preparation::of(&plan))?;
        return Ok(Exit::Consistent);
    }
    if args.dry_run {
        terminal.print(&Preview::of(&plan, threads))?;
        models_are_there(&plan)?;
        return Ok(Exit::Consistent);
    }
    models_are_there(&plan)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(plan.name.replace(['/', ' '], "-")));
    if args.fresh {
        discard(&out)?;
    }
    let prompts = prompts(&plan)?;
    let program = Program { path: std::env::current_exe()?, threads: args.threads.map(|_| threads) };
    let _resumable = Resumable::new(format!(
        "{} holds what is done: the same command goes on with the next configuration",
        out.display()
    ));
    let work =
        CarryOut { plan: &plan, prompts: prompts.as_ref(), out: &out, program, keep_going: args.keep_going };
    let bar: RefCell<Option<(String, Bar)>> = RefCell::new(None);
    let summary = work.run(&|progress| match progress {
        Progress::Running { id, number: [number, total], seconds } => {
            let mut bar = bar.borrow_mut();
            if bar.as_ref().is_none_or(|(shown, _)| shown != id) {
                *bar = Some((id.to_owned(), Bar::new(settings, id, Some(total as u64), Unit::Runs)));
            }
            if let Some((_, bar)) = bar.as_ref() {
                bar.at(&format!("{id}, {seconds:.0} s"), number as u64, None);
            }
        }
        Progress::Ended(finished) => {
            bar.replace(None);
            terminal.note(&line(finished));
        }
    })?;
    bar.replace(None);
    let failed = summary.cells.iter().find_map(|finished| match &finished.outcome {
        Outcome::Failed { reason, log } => Some((finished.id.clone(), reason.clone(), log.clone())),
        Outcome::Recorded { .. } => None,
    });
    let differs = summary.cells.iter().any(|finished| finished.outcome.differs());
    terminal.print(&Done { out: out.display().to_string(), summary })?;
    if let Some((id, reason, log)) = failed {
        bail!("{id}: {reason}; {} has all it said, and the same command tries it again", log.display());
    }
    Ok(if differs { Exit::Divergent } else { Exit::Consistent })
}

/// A fault of a plan, with the place in its file.
fn shown(error: &PlanError) -> anyhow::Error {
    if error.place().is_none() {
        return anyhow!("{error}");
    }
    let mut text = format!("error: {error}\n");
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_context_lines(1);
    // Without a place to draw, the line says it all.
    _ = handler.render_report(&mut text, error);
    EarlyExit::Help(text).into()
}

/// Refuses models that are not on this machine, of all configurations at once. What a hub's name means is left to the
/// backend.
fn models_are_there(plan: &Plan) -> anyhow::Result<()> {
    let missing = |cell: &&Cell| match cell.backend {
        Backend::Mantissa => model_path(&cell.model).is_err(),
        Backend::Transformers | Backend::Vllm => is_path(&cell.model) && !Path::new(&cell.model).exists(),
    };
    let mut names: Vec<&str> = plan.cells.iter().filter(missing).map(|cell| cell.model.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    bail!("the plan's models {}: not on this machine; give folders from the plan's own", names.join(", "))
}

/// Whether a model's name can only be a path: a hub's name is `ORG/NAME`.
fn is_path(name: &str) -> bool {
    name.starts_with(['/', '.', '~']) || name.ends_with('/') || name.split('/').count() > 2
}

/// The prompts of backends that are given token ids; none where this program cuts them itself.
fn prompts(plan: &Plan) -> anyhow::Result<Option<PromptSet>> {
    let Some(cell) = plan.cells.iter().find(|cell| cell.backend != Backend::Mantissa) else {
        return Ok(None);
    };
    let opened = || match &plan.tokenizer {
        Some(path) => Ok(Tokenizer::open(path)?),
        None => Ok(Tokenizer::open(&model_path(&cell.model).map_err(|error| {
            anyhow!("{error}; or say in [prompt] where the tokenizer is: tokenizer = \"FOLDER\"")
        })?)?),
    };
    if let Some(given) = &plan.prompt.given {
        // Ids need none, but have no text without one.
        let tokenizer: anyhow::Result<Tokenizer> = opened();
        let tokenizer = if given.are_ids() { tokenizer.ok() } else { Some(tokenizer?) };
        return Ok(Some(taken::set(given, plan.prompt.neighbours, &tokenizer.as_ref())?));
    }
    let tokenizer = opened()?;
    let reader = PdfReader::this_program()?;
    let documents = plan.documents.iter().map(|path| Document::open(path, &reader));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    Ok(Some(PromptSet::cut(&documents, &plan.prompt, &tokenizer)?))
}

/// Removes what an earlier run of a plan kept.
fn discard(out: &Path) -> anyhow::Result<()> {
    let state = out.join(".plan");
    if !state.is_dir() {
        return Ok(());
    }
    std::fs::remove_dir_all(&state)
        .map_err(|error| anyhow!("{}: cannot remove it ({error}); check its permissions", state.display()))
}

fn line(finished: &Finished) -> String {
    let kept = if finished.kept { " (kept)" } else { "" };
    format!("{}{kept}: {}", finished.id, in_words(&finished.outcome))
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Recorded { repetitions, agreement } => outcome_text(*repetitions, agreement),
        Outcome::Failed { reason, .. } => format!("failed: {reason}"),
    }
}

/// What a plan left.
#[derive(Serialize)]
struct Done {
    out: String,
    #[serde(flatten)]
    summary: Summary,
}

impl Report for Done {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let columns = [
            Column::Left("configuration"),
            Column::Left("repetitions"),
            Column::Right("mean time"),
            Column::Right("variance"),
        ];
        let row = |finished: &Finished| {
            let mean = finished.seconds.map_or_else(|| "-".to_owned(), |(mean, _)| format!("{mean:.2} s"));
            let variance = finished.seconds.and_then(|(_, variance)| variance);
            let variance = variance.map_or_else(|| "-".to_owned(), |variance| format!("{variance:.4} s²"));
            vec![finished.id.clone(), in_words(&finished.outcome), mean, variance]
        };
        page.table(&columns, &self.summary.cells.iter().map(row).collect::<Vec<_>>())?;
        for output in &self.summary.outputs {
            page.field("output", output.display())?;
        }
        for name in &self.summary.incomplete {
            page.field("incomplete", name)?;
        }
        if let Some(id) = &self.summary.stopped {
            let why = "does not repeat itself, so the plan ended; --keep-going documents it and goes on";
            page.field("stopped", format!("{id} {why}"))?;
        }
        page.field("next", format!("mantissa analyze --all {}", self.out))
    }
}

/// What would run.
#[derive(Serialize)]
struct Preview {
    name: String,
    repetitions: u32,
    cells: Vec<PreviewCell>,
    outputs: Vec<String>,
}

#[derive(Serialize)]
struct PreviewCell {
    #[serde(flatten)]
    cell: Cell,
    /// Absent where the model is not on this machine.
    estimate: Option<Estimate>,
}

impl Preview {
    fn of(plan: &Plan, threads: usize) -> Self {
        let estimate = |cell: &Cell| {
            let config = config_of(&cell.model).ok()?;
            let path = model_path(&cell.model).ok()?;
            let stored = Checkpoint::open(&path).ok()?.stored_bytes();
            Some(Estimate::of(plan, cell, &config, stored, threads))
        };
        let cells =
            plan.cells.iter().map(|cell| PreviewCell { cell: cell.clone(), estimate: estimate(cell) });
        Self {
            name: plan.name.clone(),
            repetitions: plan.repetitions,
            cells: cells.collect(),
            outputs: plan.experiments.iter().map(|experiment| experiment.output.clone()).collect(),
        }
    }
}

impl Report for Preview {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.field("plan", &self.name)?;
        page.field("repetitions", self.repetitions)?;
        let columns = [
            Column::Left("configuration"),
            Column::Left("backend"),
            Column::Left("model"),
            Column::Right("passes"),
            Column::Right("memory"),
            Column::Right("disk"),
            Column::Right("time"),
        ];
        let row = |preview: &PreviewCell| {
            let unknown = || "unknown".to_owned();
            let of =
                |shown: &dyn Fn(&Estimate) -> String| preview.estimate.as_ref().map_or_else(unknown, shown);
            let Cell { id, backend, model, setup } = &preview.cell;
            let stack = setup.word(CellAxis::Stack);
            let on = if matches!(stack, "" | "default") { String::new() } else { format!(" ({stack})") };
            vec![
                id.clone(),
                format!("{backend}{on}"),
                model.clone(),
                of(&|estimate| estimate.passes.to_string()),
                of(&|estimate| bytes(estimate.memory_bytes)),
                of(&|estimate| bytes(estimate.disk_bytes)),
                of(&|estimate| format!("{:.0} s", estimate.seconds.ceil())),
            ]
        };
        page.table(&columns, &self.cells.iter().map(row).collect::<Vec<_>>())?;
        page.line("Memory is weights and caches; times are orders of magnitude, by sizes alone.")?;
        self.outputs.iter().try_for_each(|output| page.field("output", output))
    }
}

/// How the plan's environments are made.
#[derive(Serialize)]
struct Preparation {
    commands: Vec<String>,
}

impl Preparation {
    fn of(plan: &Plan) -> Self {
        let used = |name: &str| plan.cells.iter().any(|cell| cell.setup.word(CellAxis::Stack) == name);
        let commands = plan.stacks.iter().filter(|(name, _)| used(name)).flat_map(|(_, stack)| making(stack));
        Self { commands: commands.collect() }
    }
}

/// The commands that make a stack's environment, where its Python is one's own.
fn making(stack: &Stack) -> Vec<String> {
    let mut commands = Vec::new();
    if let Some(folder) = Path::new(&stack.python).parent().and_then(Path::parent)
        && stack.python.contains('/')
    {
        commands.push(format!("python3 -m venv {}", folder.display()));
    }
    if !stack.install.is_empty() {
        let index =
            stack.index.as_ref().map_or_else(String::new, |index| format!(" --extra-index-url {index}"));
        commands.push(format!("{} -m pip install{index} {}", stack.python, stack.install.join(" ")));
    }
    commands.push(format!("{} -m pip install mantissa-forensics", stack.python));
    commands
}

impl Report for Preparation {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.commands.iter().try_for_each(|command| page.line(command))
    }
}
