//! A record: setup, tokens, tensors, digests.

use std::io;
use std::path::{Path, PathBuf};

use mantissa_evidence::{
    Configuration, ConfigurationExtras, Digest, Experiment, ExperimentMetadata, FirstDifference, Observed,
    Outcome, PhaseSignals, PromptSource, Record, Run, SignalTensor, consistency,
};
use mantissa_lab::document::is_unreadable;
use mantissa_model::{Tokenizer, pull};
use mantissa_numerics::recipe::ObservedKernel;
use mantissa_numerics::{Dtype, Phase};
use serde::Serialize;
use serde_json::Value;

use crate::evidence::Damage;
use crate::failure::Exit;
use crate::settings::{home, model_path};
use crate::terminal::{Column, Page, Report, Terminal};

/// Tokens shown at either end of a prompt when a model decodes them.
const TOKENS: usize = 24;
/// Characters shown at either end of a prompt when only its recorded text is there, and of an output.
const CHARS: usize = 120;
/// Output ids shown to people; JSON has all.
const IDS: usize = 64;

/// What is shown of a record.
#[derive(Serialize)]
struct Inspected {
    kind: &'static str,
    path: PathBuf,
    metadata: ExperimentMetadata,
    digests: Checked,
    /// What it states twice and not alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contested: Vec<String>,
    configurations: Vec<Configuration>,
    runs: Vec<InspectedRun>,
}

/// Digests that were compared with the data. One that did not match ended the program instead, unless it was to go on.
#[derive(Serialize)]
struct Checked {
    state: &'static str,
    /// Files of a container.
    files: usize,
    /// Runs whose ids and signals were checked.
    runs: usize,
}

#[derive(Serialize)]
struct InspectedRun {
    config_id: String,
    reference_id: u32,
    rep_id: u32,
    timestamp: Option<String>,
    runtime_seconds: Option<f64>,
    prompt: Prompt,
    output: Output,
    neighbours: usize,
    signals_digest: Digest,
    tensors: Vec<Tensor>,
    #[serde(skip)]
    phases: Vec<String>,
}

#[derive(Serialize)]
struct Prompt {
    ids: usize,
    ids_digest: Digest,
    /// First and last of it as text.
    head: String,
    tail: String,
    /// The model that decoded the ids; without one the text is the record's own.
    decoded_by: Option<String>,
    /// Whether the record's text is what that model decodes.
    recorded_text_agrees: Option<bool>,
    /// Characters of the recorded text that are U+FFFD or of private use.
    #[serde(skip_serializing_if = "is_zero")]
    unreadable: usize,
    source: Option<PromptSource>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
struct Output {
    ids: Vec<u32>,
    ids_digest: Digest,
    text: String,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: [usize; 3],
    /// Over finite values; `null` when there is none.
    min: Option<f32>,
    max: Option<f32>,
    mean: Option<f64>,
    non_finite: usize,
    blake3: Digest,
}

pub(super) fn run(
    path: &Path,
    model: Option<&str>,
    damage: Damage,
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    let (experiment, altered) = damage.read(path, terminal)?;
    let decoder = Decoder::find(&experiment, model)?;
    if decoder.is_none() {
        terminal.note("note: the model is not pulled, so texts are the record's own; name one with --model");
    }
    // A file that states digests has provenance, and its runs have ids.
    let states_digests = experiment.metadata.mantissa.is_some();
    let with_ids = experiment.runs.iter().filter(|run| !run.prompt_token_ids.is_empty()).count();
    let checked = Checked {
        state: if altered {
            "altered"
        } else if states_digests {
            "ok"
        } else {
            "none_stated"
        },
        files: if path.is_dir() || path.ends_with("manifest.json") { experiment.runs.len() } else { 0 },
        runs: if states_digests { with_ids } else { 0 },
    };
    let runs = experiment.runs.iter().map(|run| InspectedRun::of(run, decoder.as_ref()));
    let contested = consistency::conflicts(&Record::from_experiment(experiment.clone(), path))?;
    let contested: Vec<String> = contested.iter().map(mantissa_verdict::conflict).collect();
    for conflict in &contested {
        terminal.note(conflict);
    }
    let report = Inspected {
        kind: "evidence",
        path: path.to_owned(),
        runs: runs.collect::<anyhow::Result<_>>()?,
        digests: checked,
        contested,
        metadata: experiment.metadata,
        configurations: experiment.configurations,
    };
    terminal.print(&report)?;
    Ok(if altered { Exit::Altered } else { Exit::Consistent })
}

/// A tokenizer for the ids of a record.
struct Decoder {
    name: String,
    tokenizer: Tokenizer,
}

impl Decoder {
    /// The model asked for, else the one the record names, if it is pulled. A path in a record is not followed.
    fn find(experiment: &Experiment, model: Option<&str>) -> anyhow::Result<Option<Self>> {
        let home = match (home(), model) {
            (Ok(home), _) => home,
            (Err(e), Some(_)) => return Err(e),
            (Err(_), None) => return Ok(None),
        };
        let name = if let Some(model) = model {
            model.to_owned()
        } else {
            let stated = experiment.configurations.iter().find_map(|c| c.mantissa.as_ref());
            let stated = stated.map_or(&experiment.metadata.model, |extras| &extras.setup.model.id);
            match pull::pulled(&home).into_iter().find(|name| name.eq_ignore_ascii_case(stated)) {
                Some(name) => name,
                None => return Ok(None),
            }
        };
        let tokenizer = Tokenizer::open(&model_path(&name)?)?;
        Ok(Some(Self { name, tokenizer }))
    }
}

impl InspectedRun {
    fn of(run: &Run, decoder: Option<&Decoder>) -> anyhow::Result<Self> {
        let mut tensors = Vec::new();
        let mut phases = Vec::new();
        for (phase, signals) in run.phases() {
            phases.push(extent(phase, signals));
            for (site, tensor) in &signals.tensors {
                tensors.push(Tensor::of(mantissa_evidence::run::tensor_name(phase, *site), tensor));
            }
        }
        Ok(Self {
            config_id: run.config_id.clone(),
            reference_id: run.reference_id,
            rep_id: run.rep_id,
            timestamp: run.timestamp.clone(),
            runtime_seconds: run.runtime_seconds,
            prompt: Prompt::of(run, decoder)?,
            output: Output::of(run, decoder)?,
            neighbours: run.neighbours.len(),
            signals_digest: run.signals_digest(),
            tensors,
            phases,
        })
    }
}

/// Steps, positions and candidates of a phase.
fn extent(phase: Phase, signals: &PhaseSignals) -> String {
    let steps = if signals.steps == 1 { "1 step".to_owned() } else { format!("{} steps", signals.steps) };
    // All of a prompt, but not a few that somebody chose.
    let positions = match signals.positions[..] {
        [first, .., last]
            if signals.positions.len() > 16 && signals.positions.is_sorted_by(|a, b| a + 1 == *b) =>
        {
            format!("{first} to {last}")
        }
        _ => signals.positions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let logprobs = signals.logprobs.as_ref().map_or_else(String::new, |logprobs| {
        let of = logprobs.vocab_size.map(|size| format!(" of {size}")).unwrap_or_default();
        format!(", top {}{of} log-probabilities", logprobs.k)
    });
    format!("{}: {steps}, positions {positions}{logprobs}", phase.name())
}

impl Prompt {
    fn of(run: &Run, decoder: Option<&Decoder>) -> anyhow::Result<Self> {
        let ids = &run.prompt_token_ids;
        let (mut head, mut tail) = ends(&run.prompt_text);
        let mut recorded_text_agrees = None;
        if let Some(decoder) = decoder {
            let decode = |ids: &[u32]| decoder.tokenizer.decode(ids, false);
            head = decode(&ids[..ids.len().min(TOKENS)])?;
            tail = decode(&ids[ids.len().saturating_sub(TOKENS)..])?;
            let encodes =
                |special| decoder.tokenizer.encode(&run.prompt_text, special).is_ok_and(|of| of == *ids);
            recorded_text_agrees = Some(decode(ids)? == run.prompt_text || encodes(false) || encodes(true));
        }
        Ok(Self {
            ids: ids.len(),
            ids_digest: Digest::of_ids(ids),
            head,
            tail,
            decoded_by: decoder.map(|decoder| decoder.name.clone()),
            recorded_text_agrees,
            unreadable: run.prompt_text.chars().filter(|c| is_unreadable(*c)).count(),
            source: run.prompt_source.clone(),
        })
    }
}

impl Output {
    fn of(run: &Run, decoder: Option<&Decoder>) -> anyhow::Result<Self> {
        let text = match decoder {
            Some(decoder) => decoder.tokenizer.decode(&run.output_token_ids, false)?,
            None => run.output_token_texts.concat(),
        };
        let ids_digest = Digest::of_ids(&run.output_token_ids);
        Ok(Self { ids: run.output_token_ids.clone(), ids_digest, text })
    }
}

impl Tensor {
    /// *Rounding:* every value is exact in binary32; the mean is their binary64 sum in storage order, divided once.
    fn of(name: String, tensor: &SignalTensor) -> Self {
        let values = tensor.data.len() / tensor.dtype.size();
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        let (mut sum, mut finite) = (0.0_f64, 0_u32);
        for value in (0..values).map(|i| tensor.dtype.decode(&tensor.data, i)).filter(|x| x.is_finite()) {
            (min, max) = (min.min(value), max.max(value));
            sum += f64::from(value);
            finite = finite.saturating_add(1);
        }
        let any = finite > 0;
        Self {
            name,
            dtype: tensor.dtype,
            shape: tensor.shape,
            min: any.then_some(min),
            max: any.then_some(max),
            mean: any.then(|| sum / f64::from(finite)),
            non_finite: values - usize::try_from(finite).unwrap_or(values).min(values),
            blake3: Digest::of_bytes(&tensor.data),
        }
    }
}

/// The first and the last characters of a text.
fn ends(text: &str) -> (String, String) {
    let head = text.chars().take(CHARS).collect();
    let skipped = text.chars().count().saturating_sub(CHARS);
    (head, text.chars().skip(skipped).collect())
}

impl Report for Inspected {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let metadata = &self.metadata;
        page.heading(&self.path.display().to_string())?;
        let model = (&metadata.model, &metadata.model_size, &metadata.architecture);
        page.field("experiment", format!("{} over {}", metadata.experiment_type, metadata.variable_tested))?;
        page.field("model", format!("{}, {}, {}", model.0, model.1, model.2))?;
        if let Some(provenance) = &metadata.mantissa {
            page.field("layers", provenance.num_layers)?;
            page.field("vocabulary", provenance.vocab_size)?;
            if let Some(digest) = provenance.weights_digest {
                page.field("weights", digest)?;
            }
            let version = provenance.format_version;
            page.field("written by", format!("{}, format version {version}", provenance.tool))?;
        }
        if let Some(date) = &metadata.date_created {
            page.field("date", format!("{date} UTC"))?;
        }
        page.field("digests", self.digests.text())?;
        for configuration in &self.configurations {
            page.line("")?;
            configuration_text(configuration, page)?;
        }
        self.runs.iter().try_for_each(|run| {
            page.line("")?;
            run.text(page)
        })
    }
}

impl Checked {
    fn text(&self) -> String {
        match (self.state, self.files) {
            ("ok", 0) => format!("OK: ids and signals of {} run(s)", self.runs),
            ("altered", _) => "NOT those that the record states: see the notes".to_owned(),
            ("ok", files) => format!("OK: {files} file(s), ids and signals of {} run(s)", self.runs),
            _ => "none stated in this file, so nothing could be checked".to_owned(),
        }
    }
}

fn configuration_text(configuration: &Configuration, page: &mut Page<'_>) -> io::Result<()> {
    page.heading(&format!("configuration {}", configuration.config_id))?;
    let Some(extras) = &configuration.mantissa else {
        let fixed = &configuration.fixed_params;
        page.field("hardware", &configuration.hardware)?;
        page.field("value", &configuration.variable_value)?;
        return page.field("fixed", flat(&serde_json::to_value(fixed).unwrap_or_default()));
    };
    let ConfigurationExtras {
        setup,
        environment,
        recipes,
        catalogs,
        observed,
        answers,
        reproducibility,
        not_finite,
        runtime,
    } = extras;
    let mut declared = serde_json::to_value(setup).unwrap_or_default();
    if let Value::Object(fields) = &mut declared {
        fields.remove("model");
    }
    page.field("setup", flat(&declared))?;
    page.field(
        "machine",
        format!(
            "{}; {} cores; {}; {}; {}",
            environment.cpu,
            environment.cores,
            environment.cpu_features.join(" "),
            crate::terminal::bytes(environment.memory_bytes),
            environment.os
        ),
    )?;
    page.field("repetitions", outcome_text(reproducibility.repetitions, &reproducibility.outcome))?;
    if let Some(runtime) = runtime {
        let variance = runtime.variance.map(|v| format!(", variance {v:.3e} s²")).unwrap_or_default();
        let threads = runtime.threads.map(|n| format!(", {n} thread(s)")).unwrap_or_default();
        page.field("runtime", format!("mean {:.3} s{variance}{threads}", runtime.mean_seconds))?;
    }
    for first in not_finite {
        page.field("not finite", first)?;
    }
    if let Some(answers) = answers {
        let printed = answers.decimals.map_or_else(|| "binary32".to_owned(), |n| format!("{n} decimals"));
        page.field("answers", format!("log-probabilities of an API, {printed}"))?;
    }
    for used in catalogs {
        page.field("recipes", used)?;
    }
    if let Some(observed) = observed {
        observed_text(observed, page)?;
    }
    let columns = [
        Column::Left("phase"),
        Column::Left("operation"),
        Column::Right("m"),
        Column::Right("n"),
        Column::Right("k"),
        Column::Left("recipe"),
    ];
    let rows: Vec<Vec<String>> = recipes.iter().map(recipe_row).collect();
    page.table(&columns, &rows)
}

/// What a capture found, beside what is declared.
fn observed_text(observed: &Observed, page: &mut Page<'_>) -> io::Result<()> {
    let words = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    page.field("observed", words(&observed.axes))?;
    page.field("versions", words(&observed.versions))?;
    for device in &observed.devices {
        let clusters = device.clusters.as_ref().map_or_else(String::new, |counts| {
            let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
            format!(", active clusters {}", counts.join(" "))
        });
        page.field("device", format!("{}: {}{clusters}", device.device, device.name))?;
    }
    for kernel in &observed.kernels {
        page.field("kernel", format!("{} ({} launched)", kernel.name, kernel.launches))?;
    }
    if !observed.steps.is_empty() {
        page.field("steps", format!("{} made up by the engine", observed.steps.len()))?;
    }
    observed.notes.iter().try_for_each(|note| page.field("note", note))
}

fn recipe_row(observed: &ObservedKernel) -> Vec<String> {
    let ObservedKernel { phase, op, m, n, k, recipe } = observed;
    let recipe = flat(&serde_json::to_value(recipe).unwrap_or_default());
    vec![phase.name().to_owned(), op.clone(), m.to_string(), n.to_string(), k.to_string(), recipe]
}

pub(in crate::verb) fn outcome_text(repetitions: u32, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Identical => format!("{repetitions}, identical to the bit"),
        Outcome::NotChecked => format!("{repetitions}, not compared"),
        Outcome::Divergent { reference_id, repetitions: [a, b], first } => {
            let place = first_text(first);
            format!("{repetitions}, DIVERGENT: reference {reference_id}, repetitions {a} and {b}, {place}")
        }
    }
}

fn first_text(first: &FirstDifference) -> String {
    match first {
        FirstDifference::Prompt => "fed different prompts".to_owned(),
        FirstDifference::Layout { phase } => format!("with different signals in {}", phase.name()),
        FirstDifference::NeighbourToken { sequence, index } => {
            format!("first at output token {index} of the neighbour in row {sequence}")
        }
        FirstDifference::Token { index } => format!("first at output token {index}"),
        FirstDifference::Signal { phase, step, position, site, element } => {
            format!("first at {} step {step}, position {position}, {site}[{element}]", phase.name())
        }
        FirstDifference::Logprobs { phase, step, position, candidate } => {
            let phase = phase.name();
            format!("first at {phase} step {step}, position {position}, log-probability {candidate}")
        }
    }
}

impl InspectedRun {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Self { config_id, reference_id, rep_id, prompt, output, .. } = self;
        page.heading(&format!("run {config_id}, reference {reference_id}, repetition {rep_id}"))?;
        page.field("prompt", format!("{} ids, {}", prompt.ids, prompt.ids_digest))?;
        page.field("  head", quoted(&prompt.head))?;
        page.field("  tail", quoted(&prompt.tail))?;
        match (&prompt.decoded_by, prompt.recorded_text_agrees) {
            (Some(model), Some(false)) => {
                page.field("  text", format!("decoded by {model}; the record's own text is another"))?;
            }
            (Some(model), _) => page.field("  text", format!("decoded by {model}, as recorded"))?,
            (None, _) => page.field("  text", "as recorded")?,
        }
        if prompt.unreadable > 0 {
            page.field("  lost", format!("{} characters are U+FFFD or of private use", prompt.unreadable))?;
        }
        if let Some(source) = &prompt.source {
            let PromptSource { document, start, end, prefix_tokens, suffix_tokens, .. } = source;
            page.field(
                "  from",
                format!(
                    "{document}, tokens {start}..{end} between {prefix_tokens} before and {suffix_tokens} after"
                ),
            )?;
        }
        if self.neighbours > 0 {
            page.field("beside", format!("{} other sequence(s)", self.neighbours))?;
        }
        page.field("output", format!("{} ids, {}", output.ids.len(), output.ids_digest))?;
        let shown: Vec<String> = output.ids.iter().take(IDS).map(ToString::to_string).collect();
        let more = if output.ids.len() > IDS { " …" } else { "" };
        page.field("  ids", shown.join(" ") + more)?;
        page.field("  text", quoted(&output.text))?;
        for phase in &self.phases {
            page.field("signals", phase)?;
        }
        page.field("  digest", self.signals_digest)?;
        let columns = [
            Column::Left("tensor"),
            Column::Left("dtype"),
            Column::Right("shape"),
            Column::Right("min"),
            Column::Right("max"),
            Column::Right("mean"),
            Column::Right("non-finite"),
            Column::Left("blake3"),
        ];
        let rows: Vec<Vec<String>> = self.tensors.iter().map(Tensor::row).collect();
        page.table(&columns, &rows)
    }
}

impl Tensor {
    fn row(&self) -> Vec<String> {
        let number = |x: Option<f64>| match x {
            None => "-".to_owned(),
            Some(x) if x == 0.0 || (1e-3..1e6).contains(&x.abs()) => format!("{x:.5}"),
            Some(x) => format!("{x:.4e}"),
        };
        let [steps, positions, dim] = self.shape;
        vec![
            self.name.clone(),
            self.dtype.to_string(),
            format!("{steps}x{positions}x{dim}"),
            number(self.min.map(f64::from)),
            number(self.max.map(f64::from)),
            number(self.mean),
            self.non_finite.to_string(),
            self.blake3.to_string().chars().take(16).collect(),
        ]
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// A JSON object as `key=value` words, nested keys joined by dots; absent values left out.
fn flat(value: &Value) -> String {
    fn words(prefix: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                for (key, value) in fields {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    words(&format!("{prefix}{dot}{key}"), value, out);
                }
            }
            Value::String(text) => out.push(format!("{prefix}={text}")),
            other => out.push(format!("{prefix}={other}")),
        }
    }
    let mut out = Vec::new();
    words("", value, &mut out);
    out.join(" ")
}
