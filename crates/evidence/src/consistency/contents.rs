//! What the metadata says of the runs, beside the runs.

use std::collections::BTreeSet;

use mantissa_numerics::{Phase, Point};

use super::conflict::{About, Conflict, Statement};
use crate::experiment::ExperimentMetadata;
use crate::record::{PhaseLayout, Record};
use crate::run::{PromptSource, Run};

pub(super) fn conflicts(record: &Record) -> Vec<Conflict> {
    let shell = record.shell();
    let mut found = Vec::new();
    if !shell.runs.is_empty() {
        let metadata = Metadata::of(record);
        found.extend(metadata.prompts());
        found.extend(metadata.steps());
        found.extend(metadata.layers());
        found.extend(metadata.positions());
        found.extend(metadata.widths());
        found.extend(metadata.candidates());
        found.extend(metadata.vocabulary());
    }
    found.extend(shell.runs.iter().enumerate().filter_map(|(index, run)| source(index, run)));
    found
}

/// The metadata and the layouts that it is about.
struct Metadata<'m> {
    stated: &'m ExperimentMetadata,
    runs: &'m [Run],
    /// Place of the run, phase, layout.
    layouts: Vec<(usize, Phase, &'m PhaseLayout)>,
    /// Whether the fields are known to mean what docs/format says.
    ours: bool,
    /// Whether a record of this program's own engine, which stores all that its metadata lists.
    recorded: bool,
}

/// A conflict of a number in the metadata.
fn count(
    what: &'static str,
    field: &str,
    stated: &dyn ToString,
    place: String,
    found: &dyn ToString,
) -> Conflict {
    let statements = vec![
        Statement::new(format!("experiment_metadata.{field}"), &stated.to_string()),
        Statement::new(place, &found.to_string()),
    ];
    Conflict { about: About::Count(what), config_id: None, statements, more: 0 }
}

impl<'m> Metadata<'m> {
    fn of(record: &'m Record) -> Self {
        let shell = record.shell();
        let runs = 0..shell.runs.len();
        let layouts = runs.flat_map(|run| {
            let phases = [Phase::Prefill, Phase::Decode].into_iter();
            phases.filter_map(move |phase| Some((run, phase, record.layout(run, phase)?)))
        });
        let provenance = shell.metadata.mantissa.as_ref();
        Self {
            stated: &shell.metadata,
            runs: &shell.runs,
            layouts: layouts.collect(),
            ours: provenance.is_some(),
            recorded: provenance.is_some_and(|provenance| provenance.tool.starts_with("mantissa ")),
        }
    }

    /// Lengths of prompts. Elsewhere `sequence_length` may leave a template out, or count the output.
    fn prompts(&self) -> Option<Conflict> {
        let stated = self.stated.sequence_length as usize;
        let lengths: BTreeSet<usize> =
            self.runs.iter().map(|run| run.prompt_token_ids.len()).filter(|length| *length > 0).collect();
        let wrong = self.ours && stated > 0 && !lengths.is_empty() && !lengths.contains(&stated);
        let place = self.runs.iter().position(|run| !run.prompt_token_ids.is_empty())?;
        let place = format!("runs[{place}].mantissa.prompt_token_ids");
        wrong.then(|| count("tokens of the prompt", "sequence_length", &stated, place, &in_words(&lengths)))
    }

    /// Steps of outputs. Of an output, the last token need not have been fed; elsewhere an output may end early.
    fn steps(&self) -> Option<Conflict> {
        let stated = self.stated.decode_steps as usize;
        let lengths: BTreeSet<usize> = self.runs.iter().map(|run| run.output_token_ids.len()).collect();
        let most = lengths.last().copied().unwrap_or(0);
        let wrong = if self.ours {
            !lengths.contains(&stated) && !lengths.contains(&(stated + 1))
        } else {
            stated > 0 && most > stated + 1
        };
        let place = self.runs.iter().position(|run| run.output_token_ids.len() == most)?;
        let place = format!("runs[{place}], output tokens");
        wrong.then(|| count("decode steps", "decode_steps", &stated, place, &in_words(&lengths)))
    }

    /// The first layout with something that `wrong` finds.
    fn first<T>(&self, wrong: impl Fn(&PhaseLayout) -> Option<T>) -> Option<(String, T)> {
        self.layouts.iter().find_map(|(run, phase, layout)| {
            wrong(layout).map(|found| (format!("runs[{run}].{}", phase.name()), found))
        })
    }

    fn layers(&self) -> Option<Conflict> {
        let stated: BTreeSet<u32> = self.stated.extraction_config.layers.iter().copied().collect();
        let stored = |layout: &PhaseLayout| -> BTreeSet<u32> {
            layout.tensors.keys().filter_map(|site| site.layer.map(|layer| layer.0)).collect()
        };
        if let Some(most) = self.stated.mantissa.as_ref().map(|provenance| provenance.num_layers) {
            let above = self.first(|layout| stored(layout).last().copied().filter(|last| *last > most));
            if let Some((place, last)) = above {
                let found = format!("layer {last}");
                return Some(count("decoder blocks", "mantissa.num_layers", &most, place, &found));
            }
        }
        let differs = |layout: &PhaseLayout| {
            let stored = stored(layout);
            let wrong = if self.recorded { stored != stated } else { !stored.is_subset(&stated) };
            (wrong && !stored.is_empty()).then_some(stored)
        };
        let (place, found) = self.first(differs).filter(|_| !stated.is_empty())?;
        let (field, stated) = ("extraction_config.layers", in_words(&stated));
        Some(count("layers", field, &stated, place, &in_words(&found)))
    }

    fn positions(&self) -> Option<Conflict> {
        let stated = &self.stated.extraction_config.positions;
        let differs = |layout: &PhaseLayout| {
            let stored = &layout.positions;
            let wrong = match (self.recorded, self.ours) {
                (true, _) => stored != stated,
                (_, true) => stored.iter().any(|position| !stated.contains(position)),
                // Elsewhere the list may be about the prompt alone.
                _ => !self
                    .layouts
                    .iter()
                    .any(|(.., layout)| layout.positions.iter().any(|p| stated.contains(p))),
            };
            wrong.then(|| format!("{stored:?}"))
        };
        let (place, found) = self.first(differs).filter(|_| !stated.is_empty())?;
        Some(count("positions", "extraction_config.positions", &format!("{stated:?}"), place, &found))
    }

    fn widths(&self) -> Vec<Conflict> {
        let config = &self.stated.extraction_config;
        let (hidden, key) = (config.hidden_dim as usize, config.key_dim as usize);
        let of = |layout: &PhaseLayout, wanted: &[Point]| -> BTreeSet<usize> {
            let sites = layout.tensors.iter().filter(|(site, _)| wanted.contains(&site.point));
            sites.map(|(_, tensor)| tensor.dim).collect()
        };
        let hidden_states = [Point::XOut, Point::FinalNorm];
        let other = |layout: &PhaseLayout| of(layout, &hidden_states).into_iter().find(|dim| *dim != hidden);
        let mut found = Vec::new();
        if let Some((place, dim)) = self.first(other).filter(|_| hidden > 0) {
            let what = "values of a hidden state";
            found.push(count(what, "extraction_config.hidden_dim", &hidden, place, &dim));
        }
        // What a compressed cache holds is counted differently by other programs, and layers may have keys of their own
        // width.
        let none = |layout: &PhaseLayout| {
            let widths = of(layout, &[Point::K]);
            (!widths.is_empty() && !widths.contains(&key)).then(|| in_words(&widths))
        };
        if let Some((place, widths)) = self.first(none).filter(|_| key > 0 && (self.recorded || !self.ours)) {
            found.push(count("values of a key", "extraction_config.key_dim", &key, place, &widths));
        }
        found
    }

    fn candidates(&self) -> Option<Conflict> {
        let stated = self.stated.extraction_config.top_k_logprobs as usize;
        let (place, found) = self.first(|layout| layout.top_k.filter(|k| *k != stated))?;
        let what = "candidates of a position";
        (stated > 0).then(|| count(what, "extraction_config.top_k_logprobs", &stated, place, &found))
    }

    fn vocabulary(&self) -> Option<Conflict> {
        let stated = self.stated.mantissa.as_ref()?.vocab_size;
        let (what, field) = ("tokens of the vocabulary", "mantissa.vocab_size");
        let differs = |layout: &PhaseLayout| layout.vocab_size.filter(|size| *size != stated);
        if let Some((place, found)) = self.first(differs).filter(|_| self.recorded) {
            return Some(count(what, field, &stated, place, &found));
        }
        let beyond = |run: &Run| {
            let ids = run.prompt_token_ids.iter().chain(&run.output_token_ids);
            ids.copied().find(|id| *id >= stated)
        };
        let mut runs = self.runs.iter().enumerate();
        let (index, id) = runs.find_map(|(index, run)| Some((index, beyond(run)?)))?;
        (stated > 0).then(|| count(what, field, &stated, format!("runs[{index}]"), &format!("token {id}")))
    }
}

/// A prompt beside what it was cut from.
fn source(index: usize, run: &Run) -> Option<Conflict> {
    let PromptSource { start, end, prefix_tokens, suffix_tokens, .. } = run.prompt_source.as_ref()?;
    let stated = end.saturating_sub(*start) + u64::from(*prefix_tokens) + u64::from(*suffix_tokens);
    let found = run.prompt_token_ids.len();
    (found > 0 && stated != found as u64).then(|| Conflict {
        about: About::Count("tokens of the prompt"),
        config_id: Some(run.config_id.clone()),
        statements: vec![
            Statement::new(format!("runs[{index}].mantissa.prompt_source"), &stated),
            Statement::new(format!("runs[{index}].mantissa.prompt_token_ids"), &found),
        ],
        more: 0,
    })
}

/// A few numbers as a list.
fn in_words<T: ToString>(numbers: &BTreeSet<T>) -> String {
    const MOST: usize = 8;
    let mut words: Vec<String> = numbers.iter().take(MOST).map(ToString::to_string).collect();
    if numbers.len() > MOST {
        words.push("…".to_owned());
    }
    words.join(", ")
}
