//! What is claimed and what is varied: axes of a setup and their values.

use std::str::FromStr;

use mantissa_numerics::Setup;
use mantissa_numerics::setup::{Axis, QuantizedWeights, SomeAxes, Value};

use crate::error::LabError;

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
/// ```
#[derive(Debug, Clone)]
pub struct Assignment(Claimed);

/// What is claimed.
#[derive(Debug, Clone)]
enum Claimed {
    Axis(Value),
    /// The model's name; its weights are known by their digest.
    Model(String),
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
        let (axis, value) = halves(text).map_err(|wrong| format!("{wrong}; or model=NAME"))?;
        axis.parse(value).map(Claimed::Axis).map(Self).map_err(|wrong| wrong.to_string())
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
    for Assignment(assigned) in assignments {
        let Claimed::Axis(value) = assigned else { continue };
        if claimed.get(value.axis()).is_some() {
            return Err(LabError::ClaimedTwice { axis: value.axis().name() });
        }
        claimed.set(*value);
    }
    Ok(claimed)
}

/// The model's name that is claimed instead of the one that evidence gives it.
pub(super) fn claimed_model(assignments: &[Assignment]) -> Option<&str> {
    assignments.iter().find_map(|Assignment(assigned)| match assigned {
        Claimed::Model(name) => Some(name.as_str()),
        Claimed::Axis(_) => None,
    })
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
