//! The process of a configuration: what is run, and what it is told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cells::Cell;
use super::file::{LayerName, Plan, Signals};
use super::values::{Backend, CellAxis, CellSetup, CellValue};
use crate::error::LabError;
use crate::prompt::{Prompt, PromptSet};

/// Version of what a cell's process reads.
pub const CELL_FORMAT: &str = "mantissa-cell/1";

/// Whether a model's own settings of generation are applied: no backend does, so that all choose by the largest logit
/// alone.
pub(super) const GENERATION_CONFIG: bool = false;

/// What a cell's process is told: all of it, so that two equal files give equal bytes.
///
/// Example: [`super::CarryOut`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellSpec {
    /// [`CELL_FORMAT`].
    pub format: String,
    /// The cell's name.
    pub id: String,
    /// What computes it.
    pub backend: Backend,
    /// The model.
    pub model: String,
    /// How it runs.
    pub setup: CellSetup,
    /// Prompts that are measured.
    pub references: Vec<SpecPrompt>,
    /// Beside each of them in its batch.
    pub neighbours: Vec<Vec<SpecPrompt>>,
    /// Decode steps.
    pub decode: u32,
    /// Repetitions.
    pub repetitions: u32,
    /// Signals that are kept.
    pub signals: Signals,
}

/// A prompt as it is fed.
///
/// Example: [`super::CarryOut`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecPrompt {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Where it comes from, as evidence states it.
    pub source: Option<serde_json::Value>,
}

/// A command.
///
/// Example: [`Program`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Program.
    pub program: OsString,
    /// Arguments.
    pub arguments: Vec<OsString>,
    /// Variables that are set.
    pub environment: BTreeMap<String, OsString>,
}

/// Where this program is, and how many threads it may use.
///
/// ```
/// use mantissa_lab::plan::{Plan, Program};
///
/// let base = "[base]\nbackend = 'transformers'\nmodel = 'm'\ntp_size = 4\n";
/// let text = format!("name = 'p'\n{base}[prompt]\ndocuments = ['d.txt']\n");
/// let plan = Plan::parse(&text, "p.toml".as_ref())?;
/// let program = Program { path: "mantissa".into(), threads: None };
/// let launch = program.launch(&plan, &plan.cells[0], "cell.json".as_ref(), "out".as_ref());
/// let arguments: Vec<&str> = launch.arguments.iter().filter_map(|word| word.to_str()).collect();
/// // A process for each rank.
/// let ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"];
/// assert_eq!(arguments, [&ranks[..], &["-m", "mantissa_forensics.cell", "cell.json", "out"]].concat());
/// # Ok::<(), mantissa_lab::plan::PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// This program.
    pub path: PathBuf,
    /// Threads of its own engine; `None` for all cores.
    pub threads: Option<usize>,
}

impl CellSpec {
    pub(super) fn new(plan: &Plan, cell: &Cell, prompts: &PromptSet) -> Result<Self, LabError> {
        let beside = cell.setup.count(CellAxis::BatchSize).saturating_sub(1) as usize;
        let neighbours = prompts.neighbours.iter();
        Ok(Self {
            format: CELL_FORMAT.to_owned(),
            id: cell.id.clone(),
            backend: cell.backend,
            model: cell.model.clone(),
            setup: cell.setup.clone(),
            references: prompts.references.iter().map(SpecPrompt::of).collect::<Result<_, _>>()?,
            neighbours: neighbours
                .map(|of| of.iter().take(beside).map(SpecPrompt::of).collect())
                .collect::<Result<_, _>>()?,
            decode: plan.decode,
            repetitions: plan.repetitions,
            signals: plan.signals.clone(),
        })
    }
}

impl SpecPrompt {
    fn of(prompt: &Prompt) -> Result<Self, LabError> {
        let source = serde_json::to_value(crate::record::source(prompt)?).ok();
        Ok(Self { ids: prompt.ids.clone(), text: prompt.text.clone(), source })
    }
}

impl Program {
    /// The command that runs a cell, whose spec is in a file, into a folder.
    ///
    /// Example: [`Program`].
    #[must_use]
    pub fn launch(&self, plan: &Plan, cell: &Cell, spec: &Path, out: &Path) -> Launch {
        match cell.backend {
            Backend::Mantissa => self.own(plan, cell, out),
            Backend::Transformers | Backend::Vllm => {
                let stack = plan.stacks.get(cell.setup.word(CellAxis::Stack)).cloned().unwrap_or_default();
                let mut arguments: Vec<OsString> = Vec::new();
                let ranks = cell.setup.count(CellAxis::TpSize);
                if cell.backend == Backend::Transformers && ranks > 1 {
                    let launcher = ["-m", "torch.distributed.run", "--standalone"];
                    arguments.extend(launcher.map(OsString::from));
                    arguments.push(format!("--nproc-per-node={ranks}").into());
                }
                arguments.extend(["-m", "mantissa_forensics.cell"].map(OsString::from));
                arguments.extend([spec.as_os_str().to_owned(), out.as_os_str().to_owned()]);
                let mut environment: BTreeMap<String, OsString> =
                    stack.environment.into_iter().map(|(name, value)| (name, value.into())).collect();
                if !stack.libraries.is_empty() {
                    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
                    let folders = stack.libraries.into_iter().chain(std::env::split_paths(&before));
                    if let Ok(paths) = std::env::join_paths(folders) {
                        environment.insert("LD_LIBRARY_PATH".to_owned(), paths);
                    }
                }
                Launch { program: stack.python.into(), arguments, environment }
            }
        }
    }

    fn own(&self, plan: &Plan, cell: &Cell, out: &Path) -> Launch {
        let mut words: Vec<OsString> = vec!["record".into(), "--quiet".into()];
        if !GENERATION_CONFIG {
            words.push("--no-generation-config".into());
        }
        let mut add = |flag: &str, value: OsString| {
            // In one word, since a value may begin with a minus.
            let mut word = OsString::from(format!("--{flag}="));
            word.push(value);
            words.push(word);
        };
        add("model", cell.model.clone().into());
        for document in &plan.documents {
            add("document", document.as_os_str().to_owned());
        }
        let list = |numbers: &[i32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if let Some(given) = &plan.given {
            add("prompt", given.references.as_os_str().to_owned());
            if let Some(neighbours) = &given.neighbours {
                add("neighbours", neighbours.as_os_str().to_owned());
            }
        } else {
            add("document-tokens", plan.prompt.document_tokens.to_string().into());
            add("references", plan.prompt.references.to_string().into());
            add("instruction", plan.prompt.instruction.clone().into());
        }
        add("decode", plan.decode.to_string().into());
        add("reps", plan.repetitions.to_string().into());
        add("positions", list(&plan.signals.positions).into());
        add("top-k", plan.signals.top_k.to_string().into());
        if let Some(layers) = &plan.signals.layers {
            add("layers", layers.iter().map(LayerName::written).collect::<Vec<_>>().join(",").into());
        }
        if !plan.signals.sites.is_empty() {
            let names: Vec<&str> = plan.signals.sites.iter().map(|point| point.name()).collect();
            add("sites", names.join(",").into());
        }
        for (axis, value) in cell.setup.iter() {
            let value = match (axis, value) {
                // Weights of `[models]` are the model already.
                (CellAxis::Quantization, CellValue::Word(word)) if word == "none" || word == "auto" => {
                    word.clone()
                }
                (CellAxis::Quantization, _) => continue,
                (_, value) => value.to_string(),
            };
            add(&axis.name().replace('_', "-"), value.into());
        }
        if let Some(threads) = self.threads {
            add("threads", threads.to_string().into());
        }
        add("out", out.as_os_str().to_owned());
        if !plan.prompt.chat_template {
            words.push("--no-chat-template".into());
        }
        Launch { program: self.path.clone().into(), arguments: words, environment: BTreeMap::new() }
    }
}
