//! What is claimed and what is varied: fields of a setup and their values.

use std::str::FromStr;

use mantissa_engine::{Attention, Hardware};
use mantissa_numerics::Dtype;

use crate::error::LabError;
use crate::replay::{Candidate, Overrides};

/// A field of a setup with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Hardware(Hardware),
    Dtype(Dtype),
    Attention(Attention),
    BatchSize(usize),
    Dequantized(bool),
}

/// `FIELD=VALUE`.
#[derive(Debug, Clone, Copy)]
pub struct Assignment(Field);

/// `FIELD=VALUE,…`.
#[derive(Debug, Clone)]
pub struct Varied(Vec<Field>);

impl Field {
    fn parse(name: &str, value: &str) -> Result<Self, String> {
        match name {
            "hardware" => {
                let names = Hardware::ALL.map(Hardware::name).join(", ");
                let found = value.parse().map_err(|_| format!("no hardware '{value}'; use one of {names}"));
                found.map(Self::Hardware)
            }
            "dtype" => {
                let names = Dtype::ALL.map(Dtype::name).join(", ");
                let found = value.parse().map_err(|_| format!("no dtype '{value}'; use one of {names}"));
                found.map(Self::Dtype)
            }
            "attention" => value.parse().map(Self::Attention),
            "batch_size" => match value.parse() {
                Ok(n) if (1..=1 << 20).contains(&n) => Ok(Self::BatchSize(n)),
                _ => Err(format!("'{value}' is no batch size; use a whole number from 1 to 1048576")),
            },
            "quantization" => match value {
                "auto" => Ok(Self::Dequantized(false)),
                "none" => Ok(Self::Dequantized(true)),
                _ => Err(format!("no quantization '{value}'; use auto (as stored) or none (decoded first)")),
            },
            _ => {
                Err(format!("no field '{name}'; use hardware, dtype, attention, batch_size or quantization"))
            }
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Hardware(_) => "hardware",
            Self::Dtype(_) => "dtype",
            Self::Attention(_) => "attention",
            Self::BatchSize(_) => "batch_size",
            Self::Dequantized(_) => "quantization",
        }
    }

    fn set(self, candidate: Candidate, quantized: bool) -> Candidate {
        match self {
            Self::Hardware(hardware) => Candidate { hardware, ..candidate },
            Self::Dtype(dtype) => Candidate { dtype, ..candidate },
            Self::Attention(attention) => Candidate { attention, ..candidate },
            Self::BatchSize(batch_size) => Candidate { batch_size, ..candidate },
            // A model that is not quantized has nothing to decode: both words mean the same.
            Self::Dequantized(dequantized) => {
                Candidate { dequantized: dequantized && quantized, ..candidate }
            }
        }
    }
}

fn halves(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=').ok_or_else(|| format!("'{text}' has no '='; write FIELD=VALUE, like batch_size=4"))
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = halves(text)?;
        Field::parse(name, value).map(Self)
    }
}

impl FromStr for Varied {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = halves(text)?;
        values.split(',').map(|value| Field::parse(name, value)).collect::<Result<_, _>>().map(Self)
    }
}

/// What is claimed instead of what evidence declares.
pub(super) fn overrides(assignments: &[Assignment]) -> Result<Overrides, LabError> {
    let mut overrides = Overrides::default();
    for (i, Assignment(field)) in assignments.iter().enumerate() {
        if assignments[..i].iter().any(|Assignment(other)| other.name() == field.name()) {
            return Err(LabError::ClaimedTwice { field: field.name() });
        }
        match *field {
            Field::Hardware(hardware) => overrides.hardware = Some(hardware),
            Field::Dtype(dtype) => overrides.dtype = Some(dtype),
            Field::Attention(attention) => overrides.attention = Some(attention),
            Field::BatchSize(batch_size) => overrides.batch_size = Some(batch_size),
            Field::Dequantized(dequantized) => overrides.dequantized = Some(dequantized),
        }
    }
    Ok(overrides)
}

/// `claim` first, then every combination of the varied values on top of it, each once.
pub(super) fn candidates(
    claim: Candidate,
    varied: &[Varied],
    quantized: bool,
) -> Result<Vec<Candidate>, LabError> {
    /// More are a slip, and a plan of each is made.
    const MOST: usize = 10_000;
    let mut grid = vec![claim];
    for (i, Varied(values)) in varied.iter().enumerate() {
        let name = values.first().map_or("", |field| field.name());
        if varied[..i].iter().any(|Varied(other)| other.first().is_some_and(|field| field.name() == name)) {
            return Err(LabError::VariedTwice { field: name });
        }
        if grid.len() * values.len() > MOST {
            return Err(LabError::CandidatesTooMany { most: MOST });
        }
        grid = grid
            .iter()
            .flat_map(|candidate| values.iter().map(|field| field.set(*candidate, quantized)))
            .collect();
    }
    let mut candidates = vec![claim];
    for candidate in grid {
        if !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    Ok(candidates)
}
