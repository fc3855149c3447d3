//! Answers of an OpenAI-compatible API as evidence: log-probabilities by token, and nothing of how they were computed.
//!
//! A file holds answers to completions or chats: one JSON object, a list, one on each line, or the events of a stream.
//! Beside an answer may stand what was asked (`request` and `response`, as batch files and logs have them). `line`
//! reads them, `prompt` what they say of the prompt's own tokens, `number` tells rounded values from binary32 values.
//! Left out: making ids of texts, which a [`Vocabulary`] does, and any claim about the setup.

mod line;
mod number;
mod prompt;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::{
    Answers as Printed, Decoding, Experiment, ExperimentMetadata, ExtractionConfig, Logprobs, PhaseSignals,
    Run,
};
use mantissa_numerics::{Dtype, Generation};

use crate::json::entries::NOT_STATED;
use crate::json::setup::{Stated, configuration};
use line::{Answer, Asked};
use token::{Candidates, Name, Row};

/// What makes ids of the texts that an API hands out.
///
/// Example: [`Answers`].
pub trait Vocabulary {
    /// The only token that can have been shown as `text`.
    fn id(&self, text: &str) -> Option<u32>;

    /// Ids of a prompt that was sent as a text.
    ///
    /// *Errors:* why there are none, with the remedy.
    fn of_text(&self, text: &str) -> std::result::Result<Vec<u32>, String>;

    /// Ids of a conversation, by roles and contents, with the model's turn opened.
    ///
    /// *Errors:* why there are none, with the remedy.
    fn of_chat(&self, turns: &[(String, String)]) -> std::result::Result<Vec<u32>, String>;
}

/// Answers that were read.
///
/// ```
/// use mantissa_numerics::Phase;
///
/// let text = r#"{"object": "text_completion", "model": "m", "choices": [{"prompt_token_ids": [5, 6],
///     "token_ids": [7, 8], "logprobs": {"tokens": ["token_id:7", "token_id:8"], "token_logprobs": [-0.5, -0.25],
///     "top_logprobs": [{"token_id:7": -0.5, "token_id:9": -1.5}, {"token_id:8": -0.25}]}}]}"#;
/// # let folder = tempfile::tempdir().expect("a folder");
/// let path = folder.path().join("answers.json");
/// std::fs::write(&path, text).expect("written");
/// let opened = mantissa_published::open(&path)?;
/// let made = opened.answers.as_ref().expect("answers").experiment(None, false)?;
/// let run = &made.experiment.runs[0];
/// assert_eq!((run.prompt_token_ids.as_slice(), run.output_token_ids.as_slice()), (&[5, 6][..], &[7, 8][..]));
/// let first = run.phase(Phase::Prefill).and_then(|phase| phase.logprobs.as_ref()).expect("log-probabilities");
/// assert_eq!((&first.token_ids[..], &first.log_probs[..]), (&[7, 9][..], &[-0.5, -1.5][..]));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Answers {
    path: std::path::PathBuf,
    list: Vec<Answer>,
    decimals: Option<u8>,
}

/// Answers as an experiment.
///
/// Example: [`Answers`].
#[derive(Debug, Clone)]
pub struct Made {
    /// A run for each answer.
    pub experiment: Experiment,
    /// What was assumed, left out or made of texts.
    pub warnings: Vec<String>,
}

/// What became of the names of a file.
#[derive(Default)]
struct Count {
    unknown: usize,
    cut: usize,
    echoed: usize,
    tokenized: usize,
    unfed: usize,
}

/// Ids that can fill a list.
const MOST_FILLED: usize = 4096;

/// Candidates that fill the lists of a file: what is read is not much larger than the file.
const MOST_FILLED_IN_ALL: usize = 1 << 26;

const REMEDY: &str = "ask the server for `logprobs` (completions) or `logprobs` and `top_logprobs` (chats)";

/// Answers in `bytes`; `None` where they are something else.
///
/// *Errors:* answers without log-probabilities, or that are cut or contradict themselves.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Option<Answers>> {
    let Some(list) = line::answers(bytes).map_err(|flaw: Flaw| flaw.in_file(path))? else { return Ok(None) };
    let values = list.iter().flat_map(|answer| &answer.outputs).flat_map(|output| &output.rows);
    let values = values.flat_map(|row| row.listed.iter().map(|(_, value)| *value));
    let of_prompts = list.iter().flat_map(|answer| answer.prompt_rows.values());
    let decimals = number::decimals(values.chain(of_prompts));
    let is_bare = |answer: &Answer| {
        let has_prompt = !answer.prompt_rows.is_empty() && !answer.outputs.is_empty();
        !has_prompt && answer.outputs.iter().all(|output| output.rows.is_empty())
    };
    if list.iter().all(is_bare) {
        let flaw = Flaw::new("logprobs", "its answers hold no log-probabilities", REMEDY);
        return Err(flaw.in_file(path));
    }
    Ok(Some(Answers { path: path.to_owned(), list, decimals }))
}

impl Answers {
    /// Whether a prompt is known by its text or its messages alone.
    ///
    /// Example: [`Answers`].
    #[must_use]
    pub fn has_texts_alone(&self) -> bool {
        self.list
            .iter()
            .any(|answer| answer.prompt.is_none() && matches!(answer.asked, Asked::Text(_) | Asked::Chat(_)))
    }

    /// Whether tokens are shown as texts.
    ///
    /// Example: [`Answers`].
    #[must_use]
    pub fn names_tokens(&self) -> bool {
        let rows = self.list.iter().flat_map(|answer| &answer.outputs).flat_map(|output| &output.rows);
        let names = rows.flat_map(|row| row.listed.iter().map(|(name, _)| name));
        let of_prompts = self.list.iter().flat_map(|answer| answer.prompt_rows.names());
        names.chain(of_prompts).any(|name| matches!(name, Name::Text(_)))
    }

    /// Runs of an experiment: one for each answer, references by prompt, a configuration for each model and way of
    /// choosing tokens.
    ///
    /// Without a vocabulary, tokens that are shown as texts have no ids. With `tokenize` it makes the ids of prompts
    /// that were sent as texts or messages and that the server did not return.
    ///
    /// *Errors:* a prompt that the vocabulary makes no ids of, or whose own log-probabilities are those of other ids.
    ///
    /// Example: [`Answers`].
    pub fn experiment(&self, vocabulary: Option<&dyn Vocabulary>, tokenize: bool) -> Result<Made> {
        let mut count = Count::default();
        let mut runs: Vec<Run> = Vec::new();
        let mut settings: BTreeMap<String, (Decoding, Option<Generation>, String)> = BTreeMap::new();
        let mut prompts: Vec<(Vec<u32>, String)> = Vec::new();
        let k = self.most_candidates()?;
        let id = |name: &Name| match name {
            Name::Id(id) => Some(*id),
            Name::Text(text) => vocabulary.and_then(|vocabulary| vocabulary.id(text)),
        };
        for answer in &self.list {
            let (ids, mut of_prompt) =
                self.prompt(answer, &id, vocabulary.filter(|_| tokenize), &mut count)?;
            count.unfed += usize::from(ids.is_empty());
            let (config_id, decoding, generation) = answer.choice();
            settings.entry(config_id.clone()).or_insert((decoding, generation, answer.model.clone()));
            let text = answer.asked.text();
            let key =
                (ids.clone(), if ids.is_empty() { format!("{text} {}", runs.len()) } else { String::new() });
            let reference = prompts.iter().position(|known| *known == key).unwrap_or_else(|| {
                prompts.push(key);
                prompts.len() - 1
            });
            for output in &answer.outputs {
                let reference_id = u32::try_from(reference).unwrap_or(u32::MAX);
                let same = |run: &&Run| run.config_id == config_id && run.reference_id == reference_id;
                let rep_id = u32::try_from(runs.iter().filter(same).count()).unwrap_or(u32::MAX);
                let known = output.known(&id, &mut count);
                let (tokens, mut rows) =
                    known.map_err(|why| Flaw::new(&answer.place, why, line::RESTORE).in_file(&self.path))?;
                let later = rows.split_off(rows.len().min(1));
                // What is said of the prompt is said once, however many outputs it has.
                let of_prompt = std::mem::take(&mut of_prompt);
                let last = if rows.is_empty() { -2 } else { -1 };
                let before = i32::try_from(of_prompt.len()).unwrap_or(i32::MAX);
                let positions = if before > 0 { -1 - before..=last } else { -1..=-1 };
                let first: Vec<Candidates> = of_prompt.into_iter().chain(rows).collect();
                runs.push(Run {
                    config_id: config_id.clone(),
                    rep_id,
                    reference_id,
                    timestamp: None,
                    runtime_seconds: None,
                    prompt_text: if ids.is_empty() { text.clone() } else { String::new() },
                    prompt_label: ids.is_empty().then(|| answer.place.clone()).filter(|_| text.is_empty()),
                    prompt_token_ids: ids.clone(),
                    output_token_ids: tokens,
                    output_token_texts: Vec::new(),
                    neighbours: Vec::new(),
                    prompt_source: None,
                    prefill: phase(&first, positions.collect(), k),
                    decode: phase(&later, vec![-1], k),
                });
            }
        }
        let configurations = settings.into_iter().map(|(config_id, (decoding, generation, model))| {
            let repetitions = runs.iter().filter(|run| run.config_id == config_id).count();
            let mut made = configuration(Stated {
                config_id,
                variable_value: serde_json::Value::Null,
                model: &model,
                hardware: NOT_STATED,
                engine: NOT_STATED,
                engine_version: None,
                attention: None,
                quantization: None,
                dtype: Dtype::Bf16,
                batch_size: 1,
                tp_size: 1,
                repetitions: u32::try_from(repetitions).unwrap_or(u32::MAX),
                settings: BTreeMap::new(),
            });
            if let Some(extras) = &mut made.mantissa {
                extras.setup.decoding = decoding;
                extras.setup.generation = generation;
                extras.answers = Some(Printed { decimals: self.decimals });
            }
            made
        });
        let configurations = configurations.collect();
        let positions = runs.iter().flat_map(|run| [&run.prefill, &run.decode]).flatten();
        let positions: BTreeSet<i32> = positions.flat_map(|phase| phase.positions.iter().copied()).collect();
        let metadata = ExperimentMetadata {
            model: self.list.first().map_or_else(String::new, |answer| answer.model.clone()),
            extraction_config: ExtractionConfig {
                layers: Vec::new(),
                positions: positions.into_iter().collect(),
                hidden_dim: 0,
                key_dim: 0,
                top_k_logprobs: u32::try_from(k).unwrap_or(u32::MAX),
            },
            ..ExperimentMetadata::bare("answers", "none")
        };
        let warnings = self.warnings(&count);
        Ok(Made { experiment: Experiment { metadata, configurations, runs }, warnings })
    }

    /// Ids of an answer's prompt as far as they are known, and candidates of its own tokens but the first; `vocabulary`
    /// makes ids of what was asked.
    fn prompt(
        &self,
        answer: &Answer,
        id: &dyn Fn(&Name) -> Option<u32>,
        vocabulary: Option<&dyn Vocabulary>,
        count: &mut Count,
    ) -> Result<(Vec<u32>, Vec<Candidates>)> {
        let flaw = |why, remedy| Flaw::new(&answer.place, why, remedy).in_file(&self.path);
        let mut remedy = line::RESTORE;
        let ids = match (&answer.prompt, answer.prompt_rows.ids(id), vocabulary) {
            (Some(ids), ..) => ids.clone(),
            (None, Some(ids), _) => {
                count.echoed += 1;
                ids
            }
            (None, None, Some(vocabulary)) => {
                count.tokenized += 1;
                remedy = "the ids that were made of the prompt were not fed; ask for return_token_ids";
                let made = match &answer.asked {
                    Asked::Text(text) => vocabulary.of_text(text),
                    Asked::Chat(turns) => vocabulary.of_chat(turns),
                    Asked::Nothing => Ok(Vec::new()),
                };
                made.map_err(|why| flaw(why, "ask for return_token_ids"))?
            }
            (None, None, None) => Vec::new(),
        };
        if ids.is_empty() {
            return Ok((ids, Vec::new()));
        }
        let rows = answer.prompt_rows.by_id(&ids, id, &mut count.unknown);
        let rows = rows.map_err(|why| flaw(why, remedy))?;
        Ok((ids, rows))
    }

    /// The most candidates of a row; rows of fewer are filled up.
    fn most_candidates(&self) -> Result<usize> {
        let rows = self.list.iter().flat_map(|answer| &answer.outputs).flat_map(|output| &output.rows);
        let of_prompts = self.list.iter().flat_map(|answer| answer.prompt_rows.lengths());
        let lengths: Vec<usize> = rows.map(|row| row.listed.len()).chain(of_prompts).collect();
        let (least, most) = (lengths.iter().min().copied(), lengths.iter().max().copied().unwrap_or(0));
        let filled = most.saturating_mul(lengths.len()) - lengths.iter().sum::<usize>();
        if most - least.unwrap_or(0) > MOST_FILLED || filled > MOST_FILLED_IN_ALL {
            let what = format!("{most} candidates of one token and {} of another", least.unwrap_or(0));
            let remedy = "ask for as many of each";
            return Err(Flaw::new("logprobs", what, remedy).in_file(&self.path));
        }
        Ok(most)
    }

    fn warnings(&self, count: &Count) -> Vec<String> {
        let mut warnings = vec![
            "answers of an API state no setup: format and weights taken as the model has them (bf16 for binary32), one \
             request at a time and one rank unless they are claimed"
                .to_owned(),
        ];
        let servers: BTreeSet<&String> =
            self.list.iter().filter_map(|answer| answer.fingerprint.as_ref()).collect();
        if !servers.is_empty() {
            let names: Vec<String> = servers.into_iter().map(|name| format!("'{name}'")).collect();
            warnings.push(format!("the server calls itself {}", names.join(", ")));
        }
        let empty = self.list.iter().filter(|answer| answer.outputs.is_empty()).count();
        if empty > 0 {
            warnings.push(format!("{empty} answers hold no choice"));
        }
        let lacking = |answer: &&Answer| answer.asked_of_prompt && answer.prompt_rows.is_empty();
        let lacking = self.list.iter().filter(lacking).count();
        if lacking > 0 {
            warnings.push(format!("{lacking} answers lack the prompt_logprobs that were asked for"));
        }
        if let Some(decimals) = self.decimals {
            warnings.push(format!(
                "log-probabilities are rounded to {decimals} decimals: equal means equal at that precision"
            ));
        }
        if count.unknown > 0 {
            warnings.push(format!(
                "{} candidates are shown as texts that no token or several may have: not compared (ask for \
                 return_tokens_as_token_ids)",
                count.unknown
            ));
        }
        if count.cut > 0 {
            warnings.push(format!(
                "{} outputs are followed up to the first token whose id is not known (ask for return_token_ids)",
                count.cut
            ));
        }
        if count.echoed > 0 {
            warnings.push(format!(
                "prompt ids of {} answers are those of the tokens that the server echoed",
                count.echoed
            ));
        }
        if count.tokenized > 0 {
            warnings.push(format!(
                "prompt ids of {} answers were made from what was asked (--tokenize-prompt): whether these ids were \
                 fed, the file does not say",
                count.tokenized
            ));
        }
        if count.unfed > 0 {
            warnings.push(format!("{} answers have no prompt ids", count.unfed));
        }
        warnings
    }
}

impl line::Output {
    /// Ids of the output as far as they are known, and candidates of each token by id, the chosen one first.
    ///
    /// *Errors:* a token's candidates that contradict each other, with its place.
    fn known(
        &self,
        id: &dyn Fn(&Name) -> Option<u32>,
        count: &mut Count,
    ) -> std::result::Result<(Vec<u32>, Vec<Candidates>), String> {
        let (mut tokens, mut rows) = (Vec::new(), Vec::new());
        for (place, row @ Row { token, .. }) in self.rows.iter().enumerate() {
            let chosen = self.ids.as_ref().and_then(|ids| ids.get(place).copied()).or_else(|| id(token));
            let found = row.by_id(chosen, id, &mut count.unknown);
            rows.push(found.map_err(|what| format!("token {place} of an output: {what}"))?);
            let Some(chosen) = chosen else {
                count.cut += usize::from(place + 1 < self.rows.len());
                break;
            };
            tokens.push(chosen);
        }
        Ok((tokens, rows))
    }
}

/// Steps from step 0, each of `positions`; lists are filled up to `k`.
fn phase(rows: &[Candidates], positions: Vec<i32>, k: usize) -> Option<PhaseSignals> {
    if rows.is_empty() || k == 0 {
        return None;
    }
    let filled = rows.iter().flat_map(|row| {
        let fill = (0..MOST_FILLED).zip(Printed::FILLER..).map(|(_, id)| (id, f32::NEG_INFINITY));
        row.iter().copied().chain(fill).take(k)
    });
    let (token_ids, log_probs) = filled.unzip();
    let steps = rows.len() / positions.len().max(1);
    let logprobs = Logprobs { steps, positions: positions.len(), k, vocab_size: None, token_ids, log_probs };
    Some(PhaseSignals { first_step: 0, steps, positions, tensors: BTreeMap::new(), logprobs: Some(logprobs) })
}

#[cfg(test)]
mod tests;
