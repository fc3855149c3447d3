//! The plan's file: TOML, read strictly, every fault with its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mantissa_numerics::Point;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::cells::{Cell, Experiment, Variation, expand};
use super::error::{PlanError, Source};
use super::values::{Backend, CellAxis, CellSetup, CellValue, Format};
use crate::error::LabError;
use crate::prompt::given::{self, Given};
use crate::prompt::{INSTRUCTION, PromptSpec};
use crate::setup::Layer;

/// Experiments to be carried out.
///
/// ```
/// use mantissa_lab::plan::Plan;
///
/// let text = r#"
/// name = "two sizes"
/// [base]
/// backend = "mantissa"
/// model = "model"
/// [prompt]
/// documents = ["paper.txt"]
/// tokens = 100
/// [[experiment]]
/// name = "batch_size"
/// vary.batch_size = [2, 4]
/// "#;
/// let plan = Plan::parse(text, "plans/two.toml".as_ref())?;
/// // The reference runs once, and stands beside what is varied in every output.
/// let names: Vec<&str> = plan.cells.iter().map(|cell| cell.id.as_str()).collect();
/// assert_eq!(names, ["reference", "batch_size_2", "batch_size_4"]);
/// // Paths are those of the plan's folder.
/// assert_eq!(plan.documents[0], std::path::Path::new("plans/paper.txt"));
///
/// let wrong = Plan::parse(&text.replace("[2, 4]", "[2, 0]"), "two.toml".as_ref()).unwrap_err();
/// assert_eq!(wrong.to_string(),
///     "two.toml:11:23: batch_size cannot be 0; use a whole number from 1 to 1024");
/// # Ok::<(), mantissa_lab::plan::PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it is called.
    pub name: String,
    /// Repetitions of each configuration, compared to the bit.
    pub repetitions: u32,
    /// Whether a configuration that does not repeat itself is documented instead of ending the plan.
    pub keep_going: bool,
    /// How outputs are written.
    pub format: Format,
    /// Documents that prompts are cut from, as they are found from here; none where prompts are given.
    pub documents: Vec<PathBuf>,
    /// Files of prompts that are taken as they are, in place of documents.
    pub given: Option<GivenFiles>,
    /// How documents are cut; neighbours are those of the largest batch.
    pub prompt: PromptSpec,
    /// Where the tokenizer is, if not beside the base model.
    pub tokenizer: Option<PathBuf>,
    /// Decode steps of each run.
    pub decode: u32,
    /// Signals that are kept.
    pub signals: Signals,
    /// Interpreters and libraries by name; `default` is always there.
    pub stacks: BTreeMap<String, Stack>,
    /// Every configuration, each once; the first is the reference.
    pub cells: Vec<Cell>,
    /// What is put together from them.
    pub experiments: Vec<Experiment>,
}

/// Files of prompts that are taken as they are ([`crate::prompt::given`]).
///
/// ```
/// use mantissa_lab::plan::Plan;
///
/// let base = "name = 'p'\n[base]\nbackend = 'mantissa'\nmodel = 'm'\n[prompt]\n";
/// let text = format!("{base}given = 'prompts.jsonl'\nneighbours = 'others.jsonl'\n");
/// let plan = Plan::parse(&text, "plans/p.toml".as_ref())?;
/// let given = plan.given.expect("prompts");
/// assert_eq!(given.references, std::path::Path::new("plans/prompts.jsonl"));
///
/// let both = Plan::parse(&format!("{text}documents = ['d.txt']\n"), "p.toml".as_ref()).unwrap_err();
/// assert!(both.to_string().ends_with("beside given prompts; leave one of the two out"), "{both}");
/// # Ok::<(), mantissa_lab::plan::PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenFiles {
    /// Those that are measured.
    pub references: PathBuf,
    /// Those beside each of them; `None` for the other references.
    pub neighbours: Option<PathBuf>,
}

impl GivenFiles {
    /// The prompts in the files.
    ///
    /// Example: [`crate::prompt::given::read`].
    pub fn read(&self) -> Result<Given, LabError> {
        let neighbours = self.neighbours.as_deref().map(given::read).transpose()?.unwrap_or_default();
        Ok(Given { references: given::read(&self.references)?, neighbours })
    }
}

/// An interpreter and libraries of its own.
///
/// Example: [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The Python that has torch, and transformers or vLLM.
    #[serde(default = "python")]
    pub python: String,
    /// Folders that libraries are looked for in first: another cuBLAS, say.
    #[serde(default)]
    pub libraries: Vec<PathBuf>,
    /// What `--prepare` installs into `python`'s environment.
    #[serde(default)]
    pub install: Vec<String>,
    /// Index that they come from, beside PyPI.
    #[serde(default)]
    pub index: Option<String>,
    /// Further variables of the environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

impl Default for Stack {
    fn default() -> Self {
        Self {
            python: python(),
            libraries: Vec::new(),
            install: Vec::new(),
            index: None,
            environment: BTreeMap::new(),
        }
    }
}

fn python() -> String {
    "python3".to_owned()
}

/// Signals that are kept.
///
/// Example: [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signals {
    /// Decoder blocks, counted from 1, or `last`; absent for those of 1, 2, 4, 12 and last that the model has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<LayerName>>,
    /// Positions from the end of the sequence.
    pub positions: Vec<i32>,
    /// Further points of those blocks, beside the blocks' outputs and keys.
    pub sites: Vec<Point>,
    /// Log-probabilities kept per position.
    pub top_k: u32,
}

impl Default for Signals {
    fn default() -> Self {
        Self { layers: None, positions: vec![-3, -2, -1], sites: Vec::new(), top_k: 10 }
    }
}

/// A block as a plan names it.
///
/// Example: [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LayerName {
    /// Counted from 1.
    Number(u32),
    /// `last`.
    Word(String),
}

impl LayerName {
    /// As flags write it.
    #[must_use]
    pub fn written(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Word(word) => word.clone(),
        }
    }
}

/// Names and values, each with its place.
type Table = BTreeMap<Spanned<String>, Spanned<toml::Value>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    repetitions: Option<Spanned<u32>>,
    #[serde(default)]
    keep_going: bool,
    #[serde(default)]
    format: Format,
    base: Spanned<Table>,
    prompt: WrittenPrompt,
    #[serde(default)]
    signals: Option<Spanned<Signals>>,
    #[serde(default)]
    models: BTreeMap<String, String>,
    #[serde(default)]
    stack: BTreeMap<String, Stack>,
    #[serde(default)]
    experiment: Vec<WrittenExperiment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPrompt {
    documents: Option<Spanned<Vec<String>>>,
    given: Option<Spanned<String>>,
    neighbours: Option<Spanned<String>>,
    tokens: Option<Spanned<u32>>,
    references: Option<Spanned<u32>>,
    instruction: Option<Spanned<String>>,
    chat_template: Option<Spanned<bool>>,
    #[serde(default = "thirty")]
    decode: u32,
    tokenizer: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenExperiment {
    name: Spanned<String>,
    output: Option<String>,
    #[serde(default)]
    vary: BTreeMap<Spanned<String>, Spanned<Vec<Spanned<toml::Value>>>>,
    #[serde(default)]
    set: Table,
}

const fn thirty() -> u32 {
    30
}

/// The most repetitions, and the most decode steps, that are no slip.
const MOST: u32 = 100_000;

impl Plan {
    /// Reads a plan.
    ///
    /// *Errors:* what cannot be read, or says what no backend can do.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) => Err(Source::new(path, "")
                .whole(format!("cannot be read ({error})"), "check the path and its permissions")),
        }
    }

    /// Leaves out all experiments but these and the reference.
    ///
    /// *Errors:* a name that no experiment has, with those there are.
    ///
    /// ```
    /// use mantissa_lab::plan::Plan;
    ///
    /// let text = r#"
    /// name = "p"
    /// [base]
    /// backend = "mantissa"
    /// model = "model"
    /// [prompt]
    /// documents = ["paper.txt"]
    /// [[experiment]]
    /// name = "batch_size"
    /// vary.batch_size = [2, 4]
    /// [[experiment]]
    /// name = "attention"
    /// vary.attention = ["sdpa"]
    /// "#;
    /// let mut plan = Plan::parse(text, "p.toml".as_ref())?;
    /// assert_eq!(plan.keep(&["size".to_owned()]).unwrap_err().1, ["batch_size", "attention"]);
    /// plan.keep(&["attention".to_owned()]).expect("it is there");
    /// assert_eq!(plan.cells.len(), 2);
    /// # Ok::<(), mantissa_lab::plan::PlanError>(())
    /// ```
    pub fn keep(&mut self, names: &[String]) -> Result<(), (String, Vec<String>)> {
        let known: Vec<String> =
            self.experiments.iter().skip(1).map(|experiment| experiment.name.clone()).collect();
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            return Err((name.clone(), known));
        }
        self.experiments
            .retain(|experiment| experiment.variables.is_empty() || names.contains(&experiment.name));
        let used: Vec<usize> = (0..self.cells.len())
            .filter(|place| self.experiments.iter().any(|experiment| experiment.cells.contains(place)))
            .collect();
        self.cells = used.iter().map(|place| self.cells[*place].clone()).collect();
        for place in self.experiments.iter_mut().flat_map(|experiment| &mut experiment.cells) {
            *place = used.iter().position(|kept| kept == place).unwrap_or(0);
        }
        Ok(())
    }

    /// A plan from the text of the file `path`.
    ///
    /// *Errors:* as [`Self::read`].
    ///
    /// Example: [`Plan`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        let source = Source::new(path, text);
        let written: Written = toml::from_str(text).map_err(|error| {
            let problem = error.message().replace('\n', ", ");
            PlanError::new(&source, error.span(), problem, "docs/run.md has the form of a plan".to_owned())
        })?;
        let Written {
            name,
            repetitions,
            keep_going,
            format,
            base,
            prompt,
            signals,
            models,
            stack,
            experiment,
        } = written;
        let folder = path.parent().unwrap_or(Path::new("."));
        let repetitions = bounded(&source, repetitions.as_ref(), 3, "repetitions")?;
        if let Some(signals) = &signals {
            check_signals(&source, signals)?;
        }
        let (documents, given) = prompt.files(&source, folder)?;
        let mut stacks = stack;
        stacks.entry("default".to_owned()).or_default();
        for stack in stacks.values_mut() {
            // A name of a program is looked for; a path is the plan's.
            if stack.python.contains('/') {
                stack.python = folder.join(&stack.python).display().to_string();
            }
            stack.libraries = stack.libraries.iter().map(|library| folder.join(library)).collect();
        }
        let (backend, model, axes) = of_base(&source, base)?;
        let setting = Setting { source: &source, backend, models: &models, stacks: &stacks };
        let reference = setting.over(CellSetup::new(backend), &axes)?;
        let mut variations = Vec::new();
        for experiment in &experiment {
            let variation = setting.variation(experiment, &reference)?;
            if variations.iter().any(|known: &Variation| known.name == variation.name) {
                return Err(source.at(
                    experiment.name.span(),
                    format!("there are two '{}'", variation.name),
                    "rename one",
                ));
            }
            variations.push(variation);
        }
        let model_of = |setup: &CellSetup| {
            let weights = setup.word(CellAxis::Quantization);
            let named = models.get(weights).unwrap_or(&model);
            let near = folder.join(named);
            if near.exists() { near.display().to_string() } else { named.clone() }
        };
        let (cells, experiments) = expand(backend, &reference, &variations, format, &model_of);
        let largest = cells.iter().map(|cell| cell.setup.count(CellAxis::BatchSize)).max().unwrap_or(1);
        Ok(Self {
            name,
            repetitions,
            keep_going,
            format,
            documents,
            given,
            prompt: PromptSpec {
                document_tokens: prompt.tokens.map_or(512, Spanned::into_inner) as usize,
                references: prompt.references.map_or(1, Spanned::into_inner) as usize,
                neighbours: largest as usize - 1,
                instruction: prompt.instruction.map_or_else(|| INSTRUCTION.to_owned(), Spanned::into_inner),
                chat_template: prompt.chat_template.is_none_or(Spanned::into_inner),
                ..PromptSpec::default()
            },
            tokenizer: prompt.tokenizer.map(|path| folder.join(path)),
            decode: prompt.decode.min(MOST),
            signals: signals.map(Spanned::into_inner).unwrap_or_default(),
            stacks,
            cells,
            experiments,
        })
    }
}

impl WrittenPrompt {
    /// Documents or given prompts, as they are found from `folder`.
    fn files(&self, source: &Source, folder: &Path) -> Result<(Vec<PathBuf>, Option<GivenFiles>), PlanError> {
        let Some(given) = &self.given else {
            let Some(documents) = &self.documents else {
                let remedy = "name documents = [\"a.pdf\"], or given = \"prompts.jsonl\"";
                return Err(
                    source.whole("[prompt] has neither documents nor given prompts".to_owned(), remedy)
                );
            };
            if documents.get_ref().is_empty() {
                return Err(source.at(documents.span(), "there are no documents", "name a PDF or a text"));
            }
            if let Some(zero) = self.tokens.as_ref().filter(|tokens| *tokens.get_ref() == 0) {
                return Err(source.at(zero.span(), "a prompt of 0 tokens is none", "use 1 or more"));
            }
            if let Some(neighbours) = &self.neighbours {
                let problem = "neighbours are those of given prompts";
                return Err(source.at(neighbours.span(), problem, "name a second document"));
            }
            return Ok((documents.get_ref().iter().map(|document| folder.join(document)).collect(), None));
        };
        // What says how documents are cut.
        let cutting = [
            ("documents", self.documents.as_ref().map(Spanned::span)),
            ("tokens", self.tokens.as_ref().map(Spanned::span)),
            ("references", self.references.as_ref().map(Spanned::span)),
            ("instruction", self.instruction.as_ref().map(Spanned::span)),
            ("chat_template", self.chat_template.as_ref().map(Spanned::span)),
        ];
        if let Some((name, span)) = cutting.into_iter().find_map(|(name, span)| Some((name, span?))) {
            let problem = format!("{name} stands beside given prompts");
            return Err(source.at(span, problem, "leave one of the two out"));
        }
        let neighbours = self.neighbours.as_ref().map(|path| folder.join(path.get_ref()));
        Ok((Vec::new(), Some(GivenFiles { references: folder.join(given.get_ref()), neighbours })))
    }
}

/// Backend and model of `[base]`, and its axes.
fn of_base(source: &Source, base: Spanned<Table>) -> Result<(Backend, String, Table), PlanError> {
    let (span, mut axes) = (base.span(), base.into_inner());
    let mut take = |name: &str, remedy: &str| match axes.remove(&Spanned::new(0..0, name.to_owned())) {
        Some(value) => match value.get_ref().as_str() {
            Some(word) if !word.is_empty() => Ok((word.to_owned(), value.span())),
            _ => Err(source.at(value.span(), format!("{name} is no name"), remedy)),
        },
        None => Err(source.at(span.clone(), format!("[base] has no {name}"), remedy)),
    };
    let words = Backend::ALL.map(Backend::name).join(", ");
    let (backend, place) = take("backend", &format!("use one of {words}"))?;
    let Some(known) = Backend::ALL.into_iter().find(|known| known.name() == backend) else {
        return Err(source.at(
            place,
            format!("there is no backend '{backend}'"),
            format!("use one of {words}"),
        ));
    };
    let (model, _) = take("model", "name a folder, a GGUF file, a pulled model, or what the backend finds")?;
    Ok((known, model, axes))
}

fn bounded(
    source: &Source,
    number: Option<&Spanned<u32>>,
    default: u32,
    what: &str,
) -> Result<u32, PlanError> {
    let Some(number) = number else { return Ok(default) };
    if (1..=MOST).contains(number.get_ref()) {
        return Ok(*number.get_ref());
    }
    let problem = format!("{what} cannot be {}", number.get_ref());
    Err(source.at(number.span(), problem, format!("use a number from 1 to {MOST}")))
}

fn check_signals(source: &Source, signals: &Spanned<Signals>) -> Result<(), PlanError> {
    let wrong = |problem: &str, remedy: &str| Err(source.at(signals.span(), problem, remedy));
    let Signals { layers, positions, top_k, .. } = signals.get_ref();
    let is_layer = |layer: &LayerName| layer.written().parse::<Layer>().is_ok();
    if layers.as_ref().is_some_and(|layers| layers.is_empty() || !layers.iter().all(is_layer)) {
        return wrong(
            "layers are not blocks",
            "count them from 1, or name the last: layers = [1, 2, \"last\"]",
        );
    }
    if positions.is_empty() || positions.iter().any(|position| *position >= 0) {
        return wrong("positions do not count from the end", "use negative ones: positions = [-3, -2, -1]");
    }
    if *top_k == 0 {
        return wrong("top_k is 0", "keep 1 or more");
    }
    Ok(())
}

/// What values of axes are held against.
struct Setting<'s> {
    source: &'s Source,
    backend: Backend,
    models: &'s BTreeMap<String, String>,
    stacks: &'s BTreeMap<String, Stack>,
}

impl Setting<'_> {
    fn axis(&self, name: &Spanned<String>) -> Result<CellAxis, PlanError> {
        let known = || {
            let names = CellAxis::ALL.into_iter().filter(|axis| self.backend.has(*axis)).map(CellAxis::name);
            names.collect::<Vec<_>>().join(", ")
        };
        let written = name.get_ref();
        match CellAxis::named(written) {
            Some(axis) if self.backend.has(axis) => Ok(axis),
            Some(_) => Err(self.source.at(
                name.span(),
                format!("backend {} cannot set {written}", self.backend),
                format!("it sets {}", known()),
            )),
            None => Err(self.source.at(
                name.span(),
                format!("there is no axis '{written}'"),
                format!("use {}", known()),
            )),
        }
    }

    fn value(&self, axis: CellAxis, value: &Spanned<toml::Value>) -> Result<CellValue, PlanError> {
        let written = value.get_ref();
        let shown = written.as_str().or_else(|| self.source.text.get(value.span())).unwrap_or("this");
        let wrong =
            |remedy: String| self.source.at(value.span(), format!("{axis} cannot be {shown}"), remedy);
        let read = axis.read(self.backend, written).map_err(|form| wrong(format!("use {form}")))?;
        let CellValue::Word(word) = &read else { return Ok(read) };
        let named = |known: Vec<&str>, table: &str| {
            if known.contains(&word.as_str()) {
                return Ok(());
            }
            let known = known.join(", ");
            Err(wrong(format!("use one of {known}, or name it in [{table}]")))
        };
        match axis {
            CellAxis::Stack => named(self.stacks.keys().map(String::as_str).collect(), "stack")?,
            CellAxis::Quantization => {
                let base = ["none", "auto"].into_iter();
                let own = base.filter(|word| *word == "none" || self.backend == Backend::Mantissa);
                named(own.chain(self.models.keys().map(String::as_str)).collect(), "models")?;
            }
            _ => {}
        }
        Ok(read)
    }

    /// `setup` with the values that a table writes.
    fn over(&self, setup: CellSetup, axes: &Table) -> Result<CellSetup, PlanError> {
        axes.iter().try_fold(setup, |setup, (name, value)| {
            let axis = self.axis(name)?;
            Ok(setup.with(axis, self.value(axis, value)?))
        })
    }

    /// What an experiment asks for.
    fn variation(
        &self,
        experiment: &WrittenExperiment,
        reference: &CellSetup,
    ) -> Result<Variation, PlanError> {
        let mut varied: Vec<(CellAxis, Vec<CellValue>)> = Vec::new();
        for (axis, values) in &experiment.vary {
            let known = self.axis(axis)?;
            if values.get_ref().is_empty() {
                return Err(self.source.at(
                    values.span(),
                    format!("{known} has no values"),
                    "list one or more",
                ));
            }
            let read = values.get_ref().iter().map(|value| self.value(known, value));
            varied.push((known, read.collect::<Result<_, _>>()?));
        }
        let set = self.over(reference.clone(), &experiment.set)?;
        let name = experiment.name.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) || name == "reference" {
            return Err(self.source.at(
                experiment.name.span(),
                format!("'{name}' cannot name an experiment"),
                "use letters, digits, _ and -, and not 'reference'",
            ));
        }
        if varied.is_empty() && set == *reference {
            return Err(self.source.at(
                experiment.name.span(),
                format!("experiment '{name}' differs from the reference in nothing"),
                "say what it varies: vary.batch_size = [2, 4]",
            ));
        }
        let output = experiment.output.clone();
        Ok(Variation { name: name.clone(), output, varied, set })
    }
}
