//! Settings of generation of a record: the model's own, and those of flags.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use mantissa_model::generation::{is_of_draws, meant, settings};
use mantissa_model::{Checkpoint, ModelError};
use mantissa_numerics::Generation;

use crate::terminal::Terminal;

/// Settings that do nothing where no token ends an output.
const READ_ENDS: [&str; 3] = ["min_length", "min_new_tokens", "exponential_decay_length_penalty"];

/// What acts on the choice of tokens.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Choice of tokens (greedy)")]
pub(crate) struct GenerationArgs {
    /// A setting by transformers' name, over the model's own: `repetition_penalty=1.1`, `suppress_tokens=[5,7]`; also
    /// presence_penalty and frequency_penalty
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "teacher_force")]
    generation: Vec<String>,
    /// Leave out what the model's generation_config.json sets
    #[arg(long)]
    no_generation_config: bool,
}

impl GenerationArgs {
    /// The settings that tokens are chosen by, and what is said of them.
    pub(crate) fn settings(
        &self,
        checkpoint: &Checkpoint,
        terminal: &Terminal,
    ) -> anyhow::Result<Generation> {
        let base = if self.no_generation_config {
            checkpoint.generation_without_file()
        } else {
            let own = checkpoint.generation();
            let own = own.map_err(|error| anyhow!("{error}, or leave it out with --no-generation-config"))?;
            if let Some(why) = own.not_computed() {
                let why =
                    if own.do_sample { "a record chooses greedily, without draws" } else { why.as_str() };
                terminal.note(&format!("generation_config.json: {own}; {why}"));
            }
            Generation { eos_token_id: own.eos_token_id.clone(), other: BTreeMap::new(), ..own.greedy() }
        };
        let mut map = match serde_json::to_value(&base)? {
            serde_json::Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        for setting in &self.generation {
            let setting = setting.trim();
            let Some((name, value)) = setting.split_once('=') else {
                bail!("--generation {setting}: no value; write NAME=VALUE, such as repetition_penalty=1.1");
            };
            let greedy = name == "temperature" && value.parse().is_ok_and(|t: f64| t.abs() <= 0.0);
            if greedy {
                continue;
            }
            if is_of_draws(name) {
                bail!(
                    "--generation {name}: acts on draws, and a record chooses greedily; force the tokens of a draw"
                );
            }
            if matches!(name, "max_new_tokens" | "max_length") {
                bail!("--generation {name}: acts on no choice; say with --decode how many tokens are chosen");
            }
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            map.insert(name.to_owned(), value);
        }
        let stated = settings("--generation", &map, checkpoint.config().vocab_size, true);
        let stated = stated.map_err(|error| match error {
            ModelError::Damaged { place, fault, .. } => {
                anyhow!("--generation {place}: {fault}; give a value of that kind")
            }
            other => other.into(),
        })?;
        if let Some(name) = stated.unknown.first() {
            let remedy = match meant(name) {
                Some(known) => format!("did you mean {known}?"),
                None => "use one that acts on a greedy choice, such as repetition_penalty".to_owned(),
            };
            bail!("--generation {name}: no setting that a record computes; {remedy}");
        }
        let asks = |name: &&&str| self.generation.iter().any(|setting| setting.trim().starts_with(**name));
        if let (Some(name), []) = (READ_ENDS.iter().find(asks), stated.generation.eos_token_id.as_slice()) {
            bail!(
                "--generation {name}: acts on the tokens that end an output, and the model's settings name none; give \
                 --generation eos_token_id=ID"
            );
        }
        if let Some(why) = stated.generation.not_computed() {
            bail!(
                "--generation: tokens cannot be chosen so: {why}; give settings that act on a greedy choice"
            );
        }
        let settings = stated.generation.greedy();
        if !settings.is_plain() {
            let source = if self.generation.is_empty() {
                " (generation_config.json; --no-generation-config leaves it out)"
            } else {
                ""
            };
            terminal.note(&format!("tokens are chosen under {settings}{source}"));
        }
        Ok(settings)
    }
}
