//! What a project knows of a drift: its baseline, and what a baseline is of.
//!
//! Left out: how a drift is compared with one (`mantissa_verdict::drift`).

use std::path::PathBuf;

use anyhow::anyhow;
use mantissa_evidence::trace::Trace;
use mantissa_evidence::{Digest, Record};
use mantissa_lab::drift::configuration;
use mantissa_verdict::drift::{BaselineOf, BaselineSide, Drift, DriftBaseline};

use super::super::record::Model;
use crate::output::written;
use crate::progress::{Bar, Unit};
use crate::settings::Settings;

#[derive(Debug, clap::Args)]
pub(super) struct KnownArgs {
    /// What is known, as --write-baseline wrote it: only what is new beside it fails
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write what fails here, to be committed as the baseline of later runs
    #[arg(long, value_name = "FILE", value_parser = written())]
    pub(super) write_baseline: Option<PathBuf>,
}

/// The model and the tokens of a comparison.
#[derive(Debug, Default)]
pub(super) struct Subject {
    model: Option<String>,
    weights_digest: Option<Digest>,
    tokens_digest: Option<Digest>,
    /// How many sides are computed; they come first.
    computed: usize,
}

/// A baseline under way: what was given, and what is compared now.
pub(super) struct Known<'a> {
    args: &'a KnownArgs,
    given: Option<DriftBaseline>,
}

impl<'a> Known<'a> {
    /// Reads the baseline, before anything is computed.
    pub(super) fn open(args: &'a KnownArgs) -> anyhow::Result<Self> {
        let given = args.baseline.as_ref().map(|path| DriftBaseline::open(path)).transpose()?;
        Ok(Self { args, given })
    }

    /// Whether it has to be known what is compared.
    pub(super) const fn is_asked(&self) -> bool {
        self.given.is_some() || self.args.write_baseline.is_some()
    }

    /// Says what of `drift` is new; the baseline to write, if one is asked for.
    pub(super) fn settle(
        &self,
        drift: &mut Drift,
        subject: Subject,
        strict: bool,
    ) -> anyhow::Result<Option<DriftBaseline>> {
        let side = |number: usize| {
            let side = &drift.sides[number];
            // A computed side is called by its setup and by what of it was decoded, a recorded one by its file.
            let setup = if number < subject.computed { &side.name } else { &side.setup };
            BaselineSide { setup: setup.clone(), digest: side.digest }
        };
        let sides = [side(0), side(1)];
        let Subject { model, weights_digest, tokens_digest, .. } = subject;
        let made_of = BaselineOf { model, weights_digest, tokens_digest, sides };
        if let (Some(given), Some(path)) = (&self.given, &self.args.baseline) {
            given.is_of(&made_of, path)?;
            drift.baseline = Some(given.against(drift, &path.display().to_string(), strict));
        }
        let asked = self.args.write_baseline.is_some();
        Ok(asked.then(|| DriftBaseline::of(drift, made_of, strict)))
    }
}

impl Subject {
    /// Of prompts of which both sides are computed.
    pub(super) fn of_prompts(prompts: &[Vec<u32>]) -> Self {
        let tokens_digest = of_tokens(prompts.iter().map(Vec::as_slice));
        Self { tokens_digest, ..Self::default() }
    }

    /// Of a configuration of a record.
    pub(super) fn of_record(record: &Record, config: Option<&str>) -> anyhow::Result<Self> {
        let config = configuration(record, config)?;
        let runs = || record.shell().runs.iter().filter(|run| run.config_id == config);
        let first = runs().map(|run| run.rep_id).min();
        let runs = runs().filter(|run| Some(run.rep_id) == first);
        let metadata = &record.shell().metadata;
        Ok(Self {
            model: Some(metadata.model.clone()),
            weights_digest: metadata.mantissa.as_ref().and_then(|provenance| provenance.weights_digest),
            tokens_digest: of_tokens(runs.map(|run| run.prompt_token_ids.as_slice())),
            computed: 0,
        })
    }

    /// Of a trace, as far as it says.
    pub(super) fn of_trace(trace: &Trace) -> Self {
        let Some(header) = &trace.header else { return Self::default() };
        Self {
            model: Some(header.model.id.clone()),
            weights_digest: header.model.weights_digest,
            tokens_digest: of_tokens(header.prompts.iter().map(|prompt| prompt.token_ids.as_slice())),
            computed: 0,
        }
    }

    /// The same, of which the first `computed` sides are computed here, and the model that is given.
    pub(super) fn given(
        self,
        model: Option<&Model>,
        computed: usize,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let Some(model) = model else { return Ok(Self { computed, ..self }) };
        let bar = Bar::new(settings, "digest", Some(model.checkpoint.stored_bytes()), Unit::Bytes);
        let digest = model.checkpoint.digest(&|done| bar.at("digest", done, None))?.digest;
        let digest = digest.parse().map_err(|reason: String| anyhow!("{reason}"))?;
        Ok(Self { model: Some(model.name.clone()), weights_digest: Some(digest), computed, ..self })
    }
}

/// Digest of prompts, each behind its length; absent where no token is known.
fn of_tokens<'t>(prompts: impl Iterator<Item = &'t [u32]>) -> Option<Digest> {
    let mut all = Vec::new();
    for ids in prompts {
        all.push(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        all.extend_from_slice(ids);
    }
    all.iter().any(|id| *id > 0).then(|| Digest::of_ids(&all))
}
