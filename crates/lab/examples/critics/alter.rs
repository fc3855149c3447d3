//! One alteration of an honest record, and its digests made anew.

use std::fmt;
use std::path::{Path, PathBuf};

use mantissa_evidence::{Configuration, Digest, Experiment, PhaseSignals, Run};
use mantissa_numerics::recipe::KernelRecipe;
use mantissa_numerics::setup::{Axis, Hardware, Value};
use mantissa_numerics::{Dtype, Phase, Point, Setup, Site};
use serde_json::json;

use crate::draw::{Draw, Wanted};
use crate::make::{Made, Model, Refusal, record};

/// What is altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alteration {
    /// A bit of a recorded value, in one copy of its row or in all.
    Value,
    /// A bit of a log-probability.
    Probability,
    /// A token of the prompt, with its text or without.
    PromptId,
    /// A token of the output, with its text or without.
    OutputId,
    /// A row of keys, replaced by another one.
    KeyRow,
    /// Batch size, attention or format, wherever the file states it.
    Claim,
    /// One of several places that state the same.
    Statement,
    /// What two runs left.
    Swap,
    /// The weights that ran: one value, one tensor or one block, each value by one ULP.
    Weights,
}

impl Alteration {
    const ALL: [Self; 9] = [
        Self::Value,
        Self::Probability,
        Self::PromptId,
        Self::OutputId,
        Self::KeyRow,
        Self::Claim,
        Self::Statement,
        Self::Swap,
        Self::Weights,
    ];

    pub(crate) fn draw(draw: &mut Draw) -> Self {
        draw.pick(&Self::ALL)
    }
}

impl fmt::Display for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "a bit of a value",
            Self::Probability => "a bit of a log-probability",
            Self::PromptId => "a token of the prompt",
            Self::OutputId => "a token of the output",
            Self::KeyRow => "a row of keys",
            Self::Claim => "the claim, wherever it stands",
            Self::Statement => "one of two statements",
            Self::Swap => "two runs swapped",
            Self::Weights => "weights by one ULP",
        })
    }
}

/// An altered record.
pub(crate) struct Altered {
    pub(crate) experiment: Experiment,
    /// What was done.
    pub(crate) what: String,
    /// Configurations that it concerns.
    pub(crate) concerns: Vec<usize>,
    /// What each configuration now claims.
    pub(crate) setups: Vec<Setup>,
    /// Whether one of several statements was altered, so that the file contradicts itself.
    pub(crate) in_one_place: bool,
}

/// Makes a record and alters it.
pub(crate) fn altered(
    alteration: Alteration,
    draw: &mut Draw,
    wanted: &Wanted,
    model: &Model,
    place: &Path,
) -> Made<Altered> {
    let made = if alteration == Alteration::Weights {
        with_other_weights(draw, wanted, model, place)?
    } else {
        let experiment = record(wanted, model, &place.join("record"))?;
        (experiment, String::new())
    };
    let (mut experiment, mut what) = made;
    let setups = wanted.cells.clone();
    let mut altered = Altered {
        concerns: (0..setups.len()).collect(),
        setups,
        experiment: experiment.clone(),
        what: what.clone(),
        in_one_place: false,
    };
    let index = draw.below(experiment.runs.len());
    let of_run = |experiment: &Experiment, index: usize| -> Vec<usize> {
        let id = &experiment.runs[index].config_id;
        experiment.configurations.iter().position(|one| one.config_id == *id).into_iter().collect()
    };
    let concerned = of_run(&experiment, index);
    let run = &mut experiment.runs[index];
    match alteration {
        Alteration::Value | Alteration::KeyRow => {
            what = row(draw, run, alteration == Alteration::KeyRow)?;
            altered.concerns = concerned;
        }
        Alteration::Probability => {
            what = probability(draw, run)?;
            altered.concerns = concerned;
        }
        Alteration::PromptId | Alteration::OutputId => {
            what = token(draw, run, model, alteration == Alteration::PromptId)?;
            altered.concerns = concerned;
        }
        Alteration::Claim => {
            let index = draw.below(experiment.configurations.len());
            altered.concerns = vec![index];
            altered.setups[index] = claim(draw, &mut experiment, index, altered.setups[index])?;
            what = format!("{} claims {}", wanted.cells[index], altered.setups[index]);
        }
        Alteration::Statement => {
            (what, altered.concerns) = statement(draw, &mut experiment, index)?;
            altered.in_one_place = true;
        }
        Alteration::Swap => (what, altered.concerns) = swap(&mut experiment, index, of_run)?,
        Alteration::Weights => {}
    }
    seal(&mut experiment);
    (altered.experiment, altered.what) = (experiment, format!("{:?} {what}", wanted.cells));
    Ok(altered)
}

/// Where a row stands among the rows of a phase, and which position of the sequence it is, from the prompt's end.
fn rows(run: &Run) -> Vec<(bool, usize, i64)> {
    let mut rows = Vec::new();
    for (decode, signals) in [(false, &run.prefill), (true, &run.decode)] {
        let Some(signals) = signals else { continue };
        for step in 0..signals.steps {
            for (place, position) in signals.positions.iter().enumerate() {
                let end = if decode { i64::try_from(step).unwrap_or(0) + 1 } else { 0 };
                rows.push((decode, step * signals.positions.len() + place, end + i64::from(*position)));
            }
        }
    }
    rows
}

fn phase(run: &mut Run, decode: bool) -> Made<&mut PhaseSignals> {
    let signals = if decode { &mut run.decode } else { &mut run.prefill };
    signals.as_mut().ok_or_else(|| Refusal("no such phase".to_owned()))
}

/// The row to alter, and its copies if they are altered too.
fn drawn_rows(draw: &mut Draw, run: &Run) -> (Vec<(bool, usize)>, &'static str) {
    let rows = rows(run);
    let (decode, row, at) = draw.pick(&rows);
    if draw.one_in(2) {
        return (vec![(decode, row)], "in one copy");
    }
    let copies = rows.into_iter().filter(|(.., other)| *other == at);
    (copies.map(|(decode, row, _)| (decode, row)).collect(), "in every copy")
}

/// A bit of a value, or a row of keys replaced by another row.
fn row(draw: &mut Draw, run: &mut Run, keys: bool) -> Made<String> {
    let (copies, how) = drawn_rows(draw, run);
    let signals = phase(run, copies[0].0)?;
    let sites: Vec<Site> =
        signals.tensors.keys().copied().filter(|site| !keys || site.point == Point::K).collect();
    if sites.is_empty() {
        return Err(Refusal("no such site".to_owned()));
    }
    let site = draw.pick(&sites);
    let tensor = &signals.tensors[&site];
    let (width, dtype) = (tensor.shape[2], tensor.dtype);
    let bytes = width * dtype.size();
    let (element, bit) = (draw.below(width), draw.below(dtype.size() * 8));
    let other: Vec<u8> = {
        let from = draw.below(tensor.data.len() / bytes) * bytes;
        tensor.data[from..from + bytes].to_vec()
    };
    let start = copies[0].1 * bytes;
    if keys && tensor.data[start..start + bytes] == other {
        return Err(Refusal("the same row".to_owned()));
    }
    for (decode, row) in copies {
        let Some(tensor) = phase(run, decode)?.tensors.get_mut(&site) else { continue };
        let start = row * bytes;
        if keys {
            tensor.data[start..start + bytes].copy_from_slice(&other);
        } else {
            tensor.data[start + element * dtype.size() + bit / 8] ^= 1 << (bit % 8);
        }
    }
    Ok(if keys {
        format!("row of {site} replaced {how}")
    } else {
        format!("bit {bit} of {site}[{element}] {how}")
    })
}

fn probability(draw: &mut Draw, run: &mut Run) -> Made<String> {
    let (copies, how) = drawn_rows(draw, run);
    let k = phase(run, copies[0].0)?.logprobs.as_ref().map_or(0, |logprobs| logprobs.k);
    if k == 0 {
        return Err(Refusal("no log-probabilities".to_owned()));
    }
    let (candidate, bit) = (draw.below(k), draw.below(32));
    for (decode, row) in copies {
        let Some(logprobs) = &mut phase(run, decode)?.logprobs else { continue };
        let value = &mut logprobs.log_probs[row * k + candidate];
        let altered = f32::from_bits(value.to_bits() ^ (1 << bit));
        if altered == f32::NEG_INFINITY {
            return Err(Refusal("a stand-in for what is missing".to_owned()));
        }
        *value = altered;
    }
    Ok(format!("bit {bit} of candidate {candidate} {how}"))
}

fn token(draw: &mut Draw, run: &mut Run, model: &Model, prompt: bool) -> Made<String> {
    let vocabulary = model.tokenizer.vocab_size().min(model.checkpoint.config().vocab_size);
    let other = u32::try_from(draw.below(vocabulary)).unwrap_or(0);
    let ids = if prompt { &mut run.prompt_token_ids } else { &mut run.output_token_ids };
    let index = draw.below(ids.len());
    if ids[index] == other {
        return Err(Refusal("the same token".to_owned()));
    }
    ids[index] = other;
    let with_text = draw.one_in(2);
    if with_text && prompt {
        run.prompt_text = model.tokenizer.decode(&run.prompt_token_ids, false)?;
    } else if with_text {
        run.output_token_texts[index] = model.tokenizer.decode(&[other], false)?;
    }
    let whose = if prompt { "prompt" } else { "output" };
    Ok(format!("{whose} id {index} is {other}, {} its text", if with_text { "with" } else { "without" }))
}

/// Another batch size, attention or format, in every place that states it.
fn claim(draw: &mut Draw, experiment: &mut Experiment, index: usize, setup: Setup) -> Made<Setup> {
    let gpu = setup.hardware != Hardware::Cpu;
    let (axis, words): (Axis, &[&str]) = match draw.below(3) {
        0 => (Axis::BatchSize, &["1", "2", "3", "4", "5", "8", "9", "16", "17"]),
        1 if gpu => (Axis::Attention, &["eager", "sdpa_flash", "sdpa_math"]),
        1 => (Axis::Attention, &["eager", "sdpa", "flash_attention_2"]),
        _ => (Axis::Dtype, &["bf16", "f16", "f32"]),
    };
    let value = axis.parse(draw.pick(words))?;
    if setup.get(axis) == value {
        return Err(Refusal("the same claim".to_owned()));
    }
    let id = experiment.configurations[index].config_id.clone();
    let tested = experiment.metadata.variable_tested.clone();
    state(&mut experiment.configurations[index], &tested, value);
    if draw.one_in(2) {
        kernels(&mut experiment.configurations[index], value);
    }
    if let Value::BatchSize(batch) = value {
        for run in experiment.runs.iter_mut().filter(|run| run.config_id == id && !run.neighbours.is_empty())
        {
            let last = run.neighbours[run.neighbours.len() - 1].clone();
            run.neighbours.resize(batch - 1, last);
        }
    }
    Ok(setup.with(value))
}

/// Puts a value into every place of a configuration.
fn state(configuration: &mut Configuration, tested: &str, value: Value) {
    let word = json!(value);
    let axis = value.axis().name();
    if let Some(several) = configuration.variable_value.as_object_mut() {
        if several.contains_key(axis) {
            several.insert(axis.to_owned(), word);
        }
    } else if tested == axis || (tested == "none" && value.axis() == Axis::BatchSize) {
        configuration.variable_value = word;
    }
    let Some(extras) = &mut configuration.mantissa else { return };
    match value {
        Value::BatchSize(batch) => extras.setup.batch_size = u32::try_from(batch).unwrap_or(u32::MAX),
        Value::Attention(attention) => {
            attention.name().clone_into(&mut extras.setup.attention);
            attention.name().clone_into(&mut configuration.fixed_params.attention_impl);
        }
        Value::Dtype(dtype) => extras.setup.dtype = dtype,
        _ => {}
    }
}

/// Puts a value into what is stated of the kernels that ran, as far as it shows there.
fn kernels(configuration: &mut Configuration, value: Value) {
    let Some(extras) = &mut configuration.mantissa else { return };
    for kernel in extras.recipes.iter_mut().filter(|kernel| kernel.phase == Phase::Decode) {
        match (value, &mut kernel.recipe) {
            (Value::BatchSize(batch), _) => kernel.m = batch as u64,
            (Value::Dtype(dtype), KernelRecipe::Matmul(recipe)) => recipe.output = dtype,
            _ => {}
        }
    }
}

/// Alters one of several statements of the same.
fn statement(draw: &mut Draw, experiment: &mut Experiment, run: usize) -> Made<(String, Vec<usize>)> {
    let index = draw.below(experiment.configurations.len());
    let all: Vec<usize> = (0..experiment.configurations.len()).collect();
    let id = experiment.runs[run].config_id.clone();
    let of_run: Vec<usize> =
        all.iter().copied().filter(|i| experiment.configurations[*i].config_id == id).collect();
    let configuration = &mut experiment.configurations[index];
    let setup = configuration.mantissa.as_mut().map(|extras| &mut extras.setup);
    let setup = setup.ok_or_else(|| Refusal("no setup".to_owned()))?;
    Ok(match draw.below(10) {
        0 if configuration.variable_value.is_u64() => {
            configuration.variable_value = json!(setup.batch_size + 1);
            ("another batch size as the value of the variable".to_owned(), vec![index])
        }
        0 | 1 => {
            "sdpa_cudnn".clone_into(&mut configuration.fixed_params.attention_impl);
            ("another attention among the fixed parameters".to_owned(), vec![index])
        }
        2 => {
            configuration.fixed_params.tp_size = 2;
            ("two ranks among the fixed parameters".to_owned(), vec![index])
        }
        3 => {
            setup.compile = true;
            ("compiled in the setup".to_owned(), vec![index])
        }
        4 => {
            "awq".clone_into(&mut configuration.fixed_params.quantization);
            ("other weights among the fixed parameters".to_owned(), vec![index])
        }
        5 => {
            "Llama-3.1-70B".clone_into(&mut experiment.metadata.model);
            ("another model in the metadata".to_owned(), all)
        }
        6 => {
            experiment.metadata.sequence_length += 1;
            ("a longer prompt in the metadata".to_owned(), all)
        }
        7 => {
            experiment.metadata.extraction_config.hidden_dim += 1;
            ("wider hidden states in the metadata".to_owned(), all)
        }
        8 => {
            "Something else was asked.".clone_into(&mut experiment.runs[run].prompt_text);
            ("another text of the prompt".to_owned(), of_run)
        }
        _ => {
            let texts = &mut experiment.runs[run].output_token_texts;
            let place = draw.below(texts.len());
            texts[place].push_str("zzz");
            ("another text of an output token".to_owned(), of_run)
        }
    })
}

/// Swaps what two runs left: of two setups, or of two prompts.
fn swap(
    experiment: &mut Experiment,
    a: usize,
    of_run: impl Fn(&Experiment, usize) -> Vec<usize>,
) -> Made<(String, Vec<usize>)> {
    let mut others = (0..experiment.runs.len()).filter(|b| *b != a);
    let b = others.next().ok_or_else(|| Refusal("one run".to_owned()))?;
    let mut concerns = of_run(experiment, a);
    concerns.extend(of_run(experiment, b));
    concerns.dedup();
    let (low, high) = (a.min(b), a.max(b));
    let (first, second) = experiment.runs.split_at_mut(high);
    let (first, second) = (&mut first[low], &mut second[0]);
    std::mem::swap(&mut first.prefill, &mut second.prefill);
    std::mem::swap(&mut first.decode, &mut second.decode);
    if first.prompt_token_ids == second.prompt_token_ids {
        // Of one prompt the tokens go with what was recorded.
        std::mem::swap(&mut first.output_token_ids, &mut second.output_token_ids);
        std::mem::swap(&mut first.output_token_texts, &mut second.output_token_texts);
    }
    Ok((format!("signals of runs {low} and {high} swapped"), concerns))
}

/// A record by weights of which some are off by one ULP, claimed to be of the model's own.
fn with_other_weights(
    draw: &mut Draw,
    wanted: &Wanted,
    model: &Model,
    place: &Path,
) -> Made<(Experiment, String)> {
    let (folder, what) = other_weights(draw, model, &place.join("weights"))?;
    let mut experiment = record(wanted, &Model::open(&folder)?, &place.join("record"))?;
    let digest: Digest = model.checkpoint.digest(&|_| {})?.digest.parse().map_err(Refusal)?;
    if let Some(provenance) = &mut experiment.metadata.mantissa {
        provenance.weights_digest = Some(digest);
    }
    for extras in experiment.configurations.iter_mut().filter_map(|one| one.mantissa.as_mut()) {
        extras.setup.model.weights_digest = Some(digest);
    }
    Ok((experiment, what))
}

/// A copy of the model in which one value, one tensor or one block is off by one ULP.
fn other_weights(draw: &mut Draw, model: &Model, to: &Path) -> Made<(PathBuf, String)> {
    std::fs::create_dir_all(to)?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&model.folder)?.flatten() {
        let path = entry.path();
        let target = to.join(entry.file_name());
        std::fs::copy(&path, &target)?;
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(target);
        }
    }
    files.sort();
    let file = draw.pick(&files);
    let mut bytes = std::fs::read(&file)?;
    let mut length = [0; 8];
    length.copy_from_slice(&bytes[..8]);
    let data = 8 + usize::try_from(u64::from_le_bytes(length))?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes[8..data])?;
    let mut names: Vec<&String> = header.keys().filter(|name| *name != "__metadata__").collect();
    names.sort();
    let name = draw.pick(&names);
    let extent = draw.below(3);
    let block = name.split('.').take(3).collect::<Vec<_>>().join(".") + ".";
    for other in names.iter().filter(|other| **other == name || (extent == 2 && other.starts_with(&block))) {
        let entry = &header[*other];
        let size = match entry["dtype"].as_str() {
            Some("F32") => Dtype::F32.size(),
            _ => Dtype::Bf16.size(),
        };
        let offset =
            |place: usize| entry["data_offsets"][place].as_u64().and_then(|at| usize::try_from(at).ok());
        let (Some(from), Some(until)) = (offset(0), offset(1)) else { continue };
        let values = (until - from) / size;
        let drawn = draw.below(values);
        for value in if extent == 0 { drawn..drawn + 1 } else { 0..values } {
            // The next value away from zero; a carry goes on into the next byte.
            let at = data + from + value * size;
            for byte in &mut bytes[at..at + size] {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
    }
    std::fs::write(&file, bytes)?;
    let what = ["one value of", "all of", "the block of"][extent];
    Ok((to.to_owned(), format!("{what} {name}")))
}

/// Makes the digests of repetitions anew; those of files and runs are made when they are written.
fn seal(experiment: &mut Experiment) {
    for configuration in &mut experiment.configurations {
        let Some(extras) = &mut configuration.mantissa else { continue };
        for stated in &mut extras.reproducibility.digests {
            let of_it = experiment.runs.iter().find(|run| {
                run.config_id == configuration.config_id && run.reference_id == stated.reference_id
            });
            if let Some(run) = of_it {
                stated.output_ids = Digest::of_ids(&run.output_token_ids);
                stated.signals = run.signals_digest();
            }
        }
    }
}
