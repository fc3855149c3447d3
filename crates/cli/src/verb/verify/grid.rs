//! `--claim` and `--vary`: fields of a setup and their values.

use std::str::FromStr;

use anyhow::bail;
use mantissa_engine::{Attention, Hardware};
use mantissa_lab::replay::{Candidate, Instead};
use mantissa_numerics::Dtype;

/// A field of a setup with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Hardware(Hardware),
    Dtype(Dtype),
    Attention(Attention),
    BatchSize(usize),
    Dequantized(bool),
}

/// `FIELD=VALUE`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Assignment(Field);

/// `FIELD=VALUE,…`.
#[derive(Debug, Clone)]
pub(super) struct Axis(Vec<Field>);

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

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = halves(text)?;
        values.split(',').map(|value| Field::parse(name, value)).collect::<Result<_, _>>().map(Self)
    }
}

/// What is claimed instead of what evidence declares.
pub(super) fn instead(assignments: &[Assignment]) -> anyhow::Result<Instead> {
    let mut instead = Instead::default();
    for (i, Assignment(field)) in assignments.iter().enumerate() {
        if assignments[..i].iter().any(|Assignment(other)| other.name() == field.name()) {
            bail!("--claim: {} is given twice; give each field once", field.name());
        }
        match *field {
            Field::Hardware(hardware) => instead.hardware = Some(hardware),
            Field::Dtype(dtype) => instead.dtype = Some(dtype),
            Field::Attention(attention) => instead.attention = Some(attention),
            Field::BatchSize(batch_size) => instead.batch_size = Some(batch_size),
            Field::Dequantized(dequantized) => instead.dequantized = Some(dequantized),
        }
    }
    Ok(instead)
}

/// `claim` first, then every combination of the axes' values on top of it, each once.
pub(super) fn candidates(claim: Candidate, axes: &[Axis], quantized: bool) -> anyhow::Result<Vec<Candidate>> {
    /// More are a slip, and a plan of each is made.
    const MOST: usize = 10_000;
    let mut grid = vec![claim];
    for (i, Axis(values)) in axes.iter().enumerate() {
        let name = values.first().map_or("", |field| field.name());
        if axes[..i].iter().any(|Axis(other)| other.first().is_some_and(|field| field.name() == name)) {
            bail!("--vary: {name} is given twice; give all its values at once");
        }
        if grid.len() * values.len() > MOST {
            bail!("--vary: more than {MOST} candidates; vary less at once");
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
