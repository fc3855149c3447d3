//! What is claimed and what is varied: axes of a setup and their values, and settings of generation.

use std::collections::BTreeMap;
use std::str::FromStr;

use mantissa_evidence::Decoding;
use mantissa_model::generation::{is_of_draws, is_setting, meant, settings};
use mantissa_model::{Checkpoint, ModelError};
use mantissa_numerics::setup::{Axis, QuantizedWeights, SomeAxes, Value};
use mantissa_numerics::{Generation, Setup};
use serde_json::{Map, Value as Json};

use crate::error::LabError;
use crate::replay::Claim;

/// `AXIS=VALUE`.
///
/// ```
/// use mantissa_lab::verify::Assignment;
///
/// assert!("hardware=h200".parse::<Assignment>().is_ok());
/// let wrong = "hardware=tpu".parse::<Assignment>().unwrap_err();
/// assert!(wrong.starts_with("no hardware 'tpu'; use one of cpu, h200"), "{wrong}");
/// // Which of two names is meant, where evidence gives its model both.
/// assert!("model=smollm2-135m".parse::<Assignment>().is_ok());
/// // How tokens were chosen, by transformers' names.
/// assert!("repetition_penalty=1.1".parse::<Assignment>().is_ok());
/// let slip = "repetion_penalty=1.1".parse::<Assignment>().unwrap_err();
/// assert!(slip.ends_with("did you mean repetition_penalty?"), "{slip}");
/// ```
#[derive(Debug, Clone)]
pub struct Assignment(Claimed);

/// What is claimed.
#[derive(Debug, Clone)]
enum Claimed {
    Axis(Value),
    /// The model's name; its weights are known by their digest.
    Model(String),
    /// A setting of generation.
    Setting(String, Json),
}

/// `AXIS=VALUE,…`.
///
/// ```
/// use mantissa_lab::verify::Varied;
///
/// assert!("batch_size=1,2,4".parse::<Varied>().is_ok());
/// let wrong = "batch_size=1,0".parse::<Varied>().unwrap_err();
/// assert!(wrong.starts_with("'0' is no batch size; use a whole number from 1"), "{wrong}");
/// ```
#[derive(Debug, Clone)]
pub struct Varied {
    axis: Axis,
    values: Vec<Value>,
}

fn halves(text: &str) -> Result<(Axis, &str), String> {
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' has no '='; write AXIS=VALUE, like batch_size=4"))?;
    Ok((Axis::named(name).map_err(|wrong| wrong.to_string())?, values))
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("model=").map(str::trim) {
            let named = (!name.is_empty()).then(|| Self(Claimed::Model(name.to_owned())));
            return named.ok_or_else(|| "which model? give its name: model=NAME".to_owned());
        }
        if let Some((name, value)) = text.split_once('=').filter(|(name, _)| is_setting(name)) {
            return setting(name, value).map(|value| Self(Claimed::Setting(name.to_owned(), value)));
        }
        let (axis, value) = halves(text).map_err(|wrong| {
            let slip = text.split_once('=').and_then(|(name, _)| meant(name));
            match slip {
                Some(known) => format!("{wrong}; did you mean {known}?"),
                None => format!("{wrong}; or model=NAME, or a setting of generation"),
            }
        })?;
        axis.parse(value).map(Claimed::Axis).map(Self).map_err(|wrong| wrong.to_string())
    }
}

/// The value of a setting, which has to be one by itself.
fn setting(name: &str, value: &str) -> Result<Json, String> {
    if is_of_draws(name) && name != "do_sample" {
        return Err(format!("{name} acts on draws, which are not computed again; claim do_sample=true"));
    }
    let value: Json = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    let alone = [(name.to_owned(), value.clone())].into_iter().collect();
    match settings("--claim", &alone, usize::MAX, true) {
        Err(ModelError::Damaged { fault, .. }) => Err(format!("{fault}; give a value of that kind")),
        Err(other) => Err(other.to_string()),
        Ok(_) => Ok(value),
    }
}

impl Varied {
    pub(super) const fn axis(&self) -> Axis {
        self.axis
    }
}

impl FromStr for Varied {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (axis, values) = halves(text)?;
        let values = values.split(',').map(|value| axis.parse(value)).collect::<Result<_, _>>();
        Ok(Self { axis, values: values.map_err(|wrong| wrong.to_string())? })
    }
}

/// What is claimed instead of what evidence declares.
///
/// ```
/// use mantissa_lab::verify::claimed;
/// use mantissa_numerics::setup::Axis;
///
/// let found = claimed(&["batch_size=4".parse()?]).expect("given once");
/// assert!(found.get(Axis::BatchSize).is_some() && found.get(Axis::Hardware).is_none());
/// # Ok::<(), String>(())
/// ```
///
/// *Errors:* an axis that is claimed twice.
pub fn claimed(assignments: &[Assignment]) -> Result<SomeAxes, LabError> {
    let mut claimed = SomeAxes::default();
    let mut named: Vec<&str> = Vec::new();
    for Assignment(assigned) in assignments {
        let value = match assigned {
            Claimed::Axis(value) => value,
            Claimed::Model(_) => continue,
            Claimed::Setting(name, _) if named.contains(&name.as_str()) => {
                return Err(LabError::ClaimedTwice { what: name.clone() });
            }
            Claimed::Setting(name, _) => {
                named.push(name);
                continue;
            }
        };
        if claimed.get(value.axis()).is_some() {
            return Err(LabError::ClaimedTwice { what: value.axis().name().to_owned() });
        }
        claimed.set(*value);
    }
    Ok(claimed)
}

/// The model's name that is claimed instead of the one that evidence gives it.
pub(super) fn claimed_model(assignments: &[Assignment]) -> Option<&str> {
    assignments.iter().find_map(|Assignment(assigned)| match assigned {
        Claimed::Model(name) => Some(name.as_str()),
        Claimed::Axis(_) | Claimed::Setting(..) => None,
    })
}

/// The settings of generation that are claimed, by name.
pub(super) fn claimed_settings(assignments: &[Assignment]) -> Map<String, Json> {
    let settings = assignments.iter().filter_map(|Assignment(assigned)| match assigned {
        Claimed::Setting(name, value) => Some((name.clone(), value.clone())),
        Claimed::Axis(_) | Claimed::Model(_) => None,
    });
    settings.collect()
}

/// Refuses claims of settings where tokens are set against no choice; what says how evidence is to be read may stay.
pub(super) fn refuse_settings(assignments: &[Assignment]) -> Result<(), LabError> {
    let mut claimed = claimed_settings(assignments).into_iter().map(|(setting, _)| setting);
    match claimed.find(|setting| !matches!(setting.as_str(), "do_sample" | "ignore_eos")) {
        Some(setting) => Err(LabError::ChoiceNotChecked { setting }),
        None => Ok(()),
    }
}

/// Puts the settings that are claimed in place of those that `claim` states: its tokens were chosen under them, or
/// drawn. Ends that nothing states are the model's own.
pub(super) fn settle(
    claim: &mut Claim,
    assignments: &[Assignment],
    checkpoint: &Checkpoint,
) -> Result<(), LabError> {
    let claimed = claimed_settings(assignments);
    if claimed.is_empty() {
        return Ok(());
    }
    // What says how evidence is meant makes no choice of tokens that were forced, and no settings where none are
    // stated.
    let only = |names: &[&str]| claimed.keys().all(|name| names.contains(&name.as_str()));
    let drawn = claimed.get("do_sample") == Some(&Json::Bool(true));
    let forced = claim.decoding == Some(Decoding::TeacherForced);
    if forced && !drawn && only(&["do_sample", "ignore_eos"])
        || claim.generation.is_none() && only(&["ignore_eos"])
    {
        return Ok(());
    }
    let ends = || checkpoint.generation().map(|own| own.eos_token_id.clone()).unwrap_or_default();
    let stated = claim.generation.clone();
    let base = stated.unwrap_or_else(|| Generation { eos_token_id: ends(), ..Generation::default() });
    let mut map = match serde_json::to_value(&Generation { other: BTreeMap::new(), ..base.clone() }) {
        Ok(Json::Object(map)) => map,
        _ => Map::new(),
    };
    map.extend(claimed.clone());
    let mut generation = settings("--claim", &map, checkpoint.config().vocab_size, true)?.generation;
    // What nothing here computes stays as it is stated, unless draws alone read it.
    let drawn = generation.do_sample;
    let stays = |name: &str| !claimed.contains_key(name) && (drawn || !is_of_draws(name));
    generation.other.extend(base.other.into_iter().filter(|(name, _)| stays(name)));
    claim.decoding = match (claim.decoding, claimed.contains_key("do_sample"), generation.do_sample) {
        (_, true, true) | (Some(Decoding::Sampled), false, _) => Some(Decoding::Sampled),
        _ => Some(Decoding::Greedy),
    };
    claim.generation = Some(generation);
    Ok(())
}

/// `claim` first, then every combination of the varied values on top of it, each once.
pub(super) fn candidates(claim: Setup, varied: &[Varied], quantized: bool) -> Result<Vec<Setup>, LabError> {
    /// More are a slip, and a plan of each is made.
    const MOST: usize = 10_000;
    let mut grid = vec![claim];
    for (i, Varied { axis, values }) in varied.iter().enumerate() {
        if varied[..i].iter().any(|other| other.axis == *axis) {
            return Err(LabError::VariedTwice { axis: axis.name() });
        }
        if grid.len() * values.len() > MOST {
            return Err(LabError::CandidatesTooMany { most: MOST });
        }
        grid = grid.iter().flat_map(|setup| values.iter().map(|value| setup.with(*value))).collect();
    }
    let mut candidates = vec![claim];
    for mut candidate in grid {
        // A model that is not quantized has nothing to decode: both words mean the same.
        if !quantized {
            candidate.quantization = QuantizedWeights::Keep;
        }
        if !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    Ok(candidates)
}
