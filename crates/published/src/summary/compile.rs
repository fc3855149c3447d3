//! Layout `compile_summary`: decode with and without compilation, a distance of keys per step.

use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::verification::CellDistance;
use mantissa_numerics::{Dtype, Phase};
use serde::Deserialize;

use crate::definitions::arithmetic::{max, mean};
use crate::json::check::{self, RESTORE};
use crate::json::entries::Settings;
use crate::json::numbers::{self, Reals};
use crate::json::setup;
use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::{Sheet, Signal};
use crate::stated::StatedTokens;

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "compile_summary",
    holds: "distances of keys per decode step, with and without compilation",
    signature: FileSignature::Keys(&[
        &["systematic_deviation.l2_per_step"],
        &["token_divergence.compiled_tokens"],
    ]),
    read,
};

/// The content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct File {
    #[serde(default)]
    model: String,
    #[serde(default)]
    hardware: Settings,
    #[serde(default)]
    reproducibility: Repeats,
    systematic_deviation: Deviation,
    #[serde(default)]
    token_divergence: Tokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
struct Repeats {
    eager: Option<bool>,
    compiled: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Deviation {
    l2_per_step: Reals,
    #[serde(default, deserialize_with = "numbers::maybe")]
    mean_l2: Option<f64>,
    #[serde(default, deserialize_with = "numbers::maybe")]
    max_l2: Option<f64>,
    #[serde(default, deserialize_with = "numbers::maybe")]
    min_l2: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "as the file has them")]
struct Tokens {
    tokens_match: Option<bool>,
    #[serde(default)]
    eager_tokens: Vec<u32>,
    #[serde(default)]
    compiled_tokens: Vec<u32>,
}

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let file: File = check::document(json, origin)?;
    if file.systematic_deviation.l2_per_step.0.is_empty() {
        let flaw = Flaw::new("systematic_deviation.l2_per_step", "no step is stored", RESTORE);
        return Err(flaw.in_file(origin));
    }
    let warnings = vec![
        "the file keeps a distance per step and not the keys; the site of its keys is not named".to_owned(),
        "repetitions that are said to agree are taken to be 0 apart".to_owned(),
    ];
    Ok(Read::new(file, warnings))
}

impl Statement for File {
    fn verifications(&self) -> Vec<Verification> {
        let steps = &self.systematic_deviation.l2_per_step.0;
        let distance = CellDistance {
            mean: mean(steps),
            max: Some(max(steps)),
            rounding: 0.0,
            place: "systematic_deviation.l2_per_step".to_owned(),
        };
        let Repeats { eager, compiled } = self.reproducibility;
        let repeats = [(eager, "reproducibility.eager"), (compiled, "reproducibility.compiled")];
        let repeats = repeats.map(|(agree, place)| (agree == Some(true)).then_some(place));
        let values = ["false".to_owned(), "true".to_owned()];
        let machine = setup::machine(&setup::gpu(&self.hardware), &self.hardware);
        vec![super::two("compile", values, machine, (Phase::Decode, "key_vectors"), distance, repeats)]
    }

    fn tokens(&self) -> Vec<StatedTokens> {
        let Tokens { eager_tokens, compiled_tokens, .. } = &self.token_divergence;
        let both = [("false", eager_tokens, "eager_tokens"), ("true", compiled_tokens, "compiled_tokens")];
        let both = both.into_iter().filter(|(_, ids, _)| !ids.is_empty());
        let stated = both.map(|(value, ids, field)| StatedTokens {
            reference: "ref_0".to_owned(),
            value: value.to_owned(),
            ids: ids.clone(),
            text: String::new(),
            consumed_by: vec![Phase::Decode],
            place: format!("token_divergence.{field}"),
        });
        stated.collect()
    }

    fn models(&self) -> std::collections::BTreeMap<String, String> {
        let named = (!self.model.is_empty()).then(|| self.model.clone());
        named
            .into_iter()
            .flat_map(|model| ["false", "true"].map(|value| (value.to_owned(), model.clone())))
            .collect()
    }

    /// The mean was computed in bf16, as its steps were; the order of its sums is not stated.
    fn sheet(&self, _: &[&dyn Statement]) -> Sheet {
        let mut sheet = Sheet::of("compile");
        sheet.signal(Signal::KeyVectors);
        let Deviation { l2_per_step: Reals(steps), mean_l2, max_l2, min_l2 } = &self.systematic_deviation;
        #[expect(clippy::cast_possible_truncation, reason = "on the way to 8 significand bits")]
        let rounded = f64::from(Dtype::Bf16.round(mean(steps) as f32));
        let note = "rounded to bf16, as its steps are";
        sheet.noted("mean distance of keys", *mean_l2, rounded, "systematic_deviation.mean_l2", Some(note));
        sheet.figure("largest distance of keys", *max_l2, max(steps), "systematic_deviation.max_l2");
        let least = steps.iter().copied().fold(f64::INFINITY, f64::min);
        sheet.figure("smallest distance of keys", *min_l2, least, "systematic_deviation.min_l2");
        let Tokens { tokens_match, eager_tokens, compiled_tokens } = &self.token_divergence;
        let kept = !eager_tokens.is_empty() && !compiled_tokens.is_empty();
        let printed = tokens_match.filter(|_| kept).map(|word| word.to_string());
        let follows = (eager_tokens == compiled_tokens).to_string();
        sheet.text("tokens match", printed, follows, "token_divergence.tokens_match", None);
        sheet.finding(
            "distances are rounded to bf16, so no figure here has more than three significant digits",
            &["systematic_deviation"],
        );
        sheet
    }
}
