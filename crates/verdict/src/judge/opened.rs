//! What an opened file gives to a judgement.
//!
//! Left out: reading it, and what its authors computed from it (the published definitions).

use std::collections::BTreeMap;

use mantissa_evidence::open::Content;
use mantissa_evidence::published::{BatchMatrixLog, Published, QuantGeneration, QuantizationLog};
use mantissa_evidence::{Experiment, Record};
use mantissa_numerics::Phase;

use super::input::{Evidence, StatedRepeats, StatedTokens};
use crate::analysis::Source;

/// The signals of a published file as a record; `None` for a record itself and for files without signals.
pub(super) fn signals(content: &Content, source: &Source) -> Option<Record> {
    let Content::Published(published) = content else { return None };
    let experiment: Experiment = published.experiment()?;
    Some(Record::from_experiment(experiment, std::path::Path::new(&source.name)))
}

/// The evidence of a file; `signals` as [`signals`] gave them.
pub(super) fn evidence<'a>(
    source: &'a Source,
    content: &'a Content,
    signals: Option<&'a Record>,
) -> Evidence<'a> {
    let published = match content {
        Content::Record(record) => return Evidence::of_record(source, record),
        Content::Published(published) => published,
    };
    let (repeats, tokens) = match published {
        Published::QuantGeneration(read) => (noise_floors(read), Vec::new()),
        Published::QuantizationLog(log) => (repetitions(log), first_texts(log)),
        Published::BatchMatrixLog(log) => (Vec::new(), outputs(log)),
        _ => (Vec::new(), Vec::new()),
    };
    let models = match published {
        Published::QuantVerification(read) => {
            let configs = read.file.metadata.model_configs.iter();
            configs.map(|(name, config)| (name.clone(), config.model_name.clone())).collect()
        }
        Published::QuantizationLog(log) => {
            log.configurations.iter().map(|one| (one.name.clone(), one.model.clone())).collect()
        }
        _ => BTreeMap::new(),
    };
    Evidence { source, record: signals, verifications: published.verifications(), repeats, tokens, models }
}

fn noise_floors(read: &QuantGeneration) -> Vec<StatedRepeats> {
    let both = read.file.noise_floors.iter().flat_map(|(setup, floor)| {
        [(Phase::Prefill, floor.prefill), (Phase::Decode, floor.decode)].map(|(phase, distance)| {
            StatedRepeats {
                setup: setup.clone(),
                phase,
                repetitions: None,
                distances: vec![distance],
                place: format!("noise_floors.{setup}.{}", phase.name()),
            }
        })
    });
    both.collect()
}

fn repetitions(log: &QuantizationLog) -> Vec<StatedRepeats> {
    let by_setup = log.configurations.iter().zip(&log.repetitions).flat_map(|(configuration, repeated)| {
        [Phase::Prefill, Phase::Decode].map(|phase| {
            let figures = repeated.pairs.iter().map(|pair| match phase {
                Phase::Prefill => &pair.prefill,
                Phase::Decode => &pair.decode,
            });
            let lines: Vec<String> = figures.clone().map(|figure| figure.line.to_string()).collect();
            StatedRepeats {
                setup: configuration.name.clone(),
                phase,
                repetitions: Some(repeated.tokens.len() as u64),
                distances: figures.map(|figure| figure.value).collect(),
                place: format!("lines {}", lines.join(", ")),
            }
        })
    });
    by_setup.collect()
}

/// The log shows how outputs begin, as text; its prefill distances are over the prompt alone.
fn first_texts(log: &QuantizationLog) -> Vec<StatedTokens> {
    let references = log.consistency.iter().enumerate().flat_map(|(index, texts)| {
        texts.iter().zip(&log.configurations).map(move |(first, configuration)| StatedTokens {
            reference: format!("ref_{index}"),
            value: configuration.name.clone(),
            ids: Vec::new(),
            text: first.text.clone(),
            consumed_by: vec![Phase::Decode],
            place: format!("line {}", first.line),
        })
    });
    references.collect()
}

/// The log replays prompt and output by prefill, so that both phases are over the outputs.
fn outputs(log: &BatchMatrixLog) -> Vec<StatedTokens> {
    let references = log.references.iter().flat_map(|reference| {
        reference.runs.iter().map(|run| StatedTokens {
            reference: reference.name.clone(),
            value: run.batch_size.to_string(),
            ids: run.ids.clone(),
            text: String::new(),
            consumed_by: vec![Phase::Prefill, Phase::Decode],
            place: format!("line {}", run.line),
        })
    });
    references.collect()
}
