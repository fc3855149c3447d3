//! A setup that can be replayed, and how it is read from what evidence declares.

use std::fmt;

use mantissa_engine::{Attention, Catalogs, Dispatch, EngineSetup, Hardware, QuantizedWeights};
use mantissa_evidence::{Configuration, Decoding, Digest};
use mantissa_model::Checkpoint;
use mantissa_numerics::Dtype;
use serde::{Deserialize, Serialize};

use crate::setup::Machine;

/// A setup to replay: the part of it that is arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    /// Whose arithmetic.
    pub hardware: Hardware,
    /// Storage format.
    pub dtype: Dtype,
    /// Attention implementation.
    pub attention: Attention,
    /// Sequences of a forward pass.
    pub batch_size: usize,
    /// Whether a quantized checkpoint's weights are decoded first; never set for others.
    pub dequantized: bool,
}

impl Candidate {
    /// The engine that replays it.
    #[must_use]
    pub fn engine(&self, context: usize, machine: Machine, catalogs: &Catalogs) -> EngineSetup {
        EngineSetup {
            hardware: self.hardware,
            dtype: self.dtype,
            attention: self.attention,
            quantized: if self.dequantized { QuantizedWeights::Dequantize } else { QuantizedWeights::Keep },
            catalogs: catalogs.clone(),
            context,
            threads: machine.threads,
            isa: machine.isa,
        }
    }

    /// Its recipes, as far as `catalogs` know them.
    pub(crate) const fn dispatch<'c>(&self, catalogs: &'c Catalogs) -> Dispatch<'c> {
        Dispatch { hardware: self.hardware, dtype: self.dtype, attention: self.attention, catalogs }
    }

    /// Whether `other` runs on the same engine: only the batch size differs.
    #[must_use]
    pub fn shares_engine(&self, other: &Self) -> bool {
        Self { batch_size: other.batch_size, ..*self } == *other
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hardware, dtype, attention, batch_size, dequantized } = self;
        write!(f, "{}_bs{batch_size}_{}_{dtype}", hardware.name(), attention.name())?;
        if *dequantized { f.write_str("_dequantized") } else { Ok(()) }
    }
}

/// What a configuration of evidence declares, as far as replay needs it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Name of the configuration.
    pub config_id: String,
    /// The setup, or why it cannot be replayed.
    pub candidate: Result<Candidate, Unreadable>,
    /// Digest of the weights, where stated.
    pub weights: Option<Digest>,
    /// How tokens were chosen, where stated.
    pub decoding: Option<Decoding>,
    /// Whether the evidence's log-probabilities go by a recipe of ours.
    pub own_logprobs: bool,
    /// Who recorded it.
    pub engine: Option<String>,
}

/// Why a declared setup has no replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What is not offered or not stated.
    pub what: String,
    /// What would help.
    pub remedy: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What is claimed instead of what the evidence declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Whose arithmetic.
    pub hardware: Option<Hardware>,
    /// Storage format.
    pub dtype: Option<Dtype>,
    /// Attention implementation.
    pub attention: Option<Attention>,
    /// Sequences of a forward pass.
    pub batch_size: Option<usize>,
    /// Whether quantized weights are decoded first.
    pub dequantized: Option<bool>,
}

impl Claim {
    /// Reads what `configuration` declares about `checkpoint`, with `overrides` in place of it.
    #[must_use]
    pub fn of(configuration: &Configuration, overrides: Overrides, checkpoint: &Checkpoint) -> Self {
        let extras = configuration.mantissa.as_ref();
        let setup = extras.map(|extras| &extras.setup);
        let ours = |extras: &mantissa_evidence::ConfigurationExtras| {
            extras.recipes.iter().any(|kernel| kernel.op == "log_softmax")
        };
        Self {
            config_id: configuration.config_id.clone(),
            candidate: candidate(configuration, overrides, checkpoint),
            weights: setup.and_then(|setup| setup.model.weights_digest),
            decoding: setup.map(|setup| setup.decoding),
            own_logprobs: extras.is_some_and(ours),
            engine: setup.map(|setup| setup.engine.clone()),
        }
    }
}

/// A field: what is claimed instead, else what is declared, as far as there are recipes for it.
fn field<T: std::str::FromStr>(
    name: &str,
    instead: Option<T>,
    declared: Option<&str>,
) -> Result<T, Unreadable> {
    match (instead, declared) {
        (Some(value), _) => Ok(value),
        (None, None) => Err(Unreadable {
            what: format!("the file does not state the {name} of this setup"),
            remedy: format!("claim one with --claim {name}=…"),
        }),
        (None, Some(text)) => text.parse().map_err(|_| Unreadable {
            what: format!("there are no recipes for {name} '{text}'"),
            remedy: format!("claim another with --claim {name}=…, if it is one"),
        }),
    }
}

fn candidate(
    configuration: &Configuration,
    overrides: Overrides,
    checkpoint: &Checkpoint,
) -> Result<Candidate, Unreadable> {
    let refuse = |what: String, remedy: &str| Err(Unreadable { what, remedy: remedy.to_owned() });
    let fixed = &configuration.fixed_params;
    let setup = configuration.mantissa.as_ref().map(|extras| &extras.setup);
    let stated = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    let hardware = field("hardware", overrides.hardware, stated(&configuration.hardware).as_deref())?;
    let attention = field("attention", overrides.attention, stated(&fixed.attention_impl).as_deref())?;
    let dtype = field("dtype", overrides.dtype, setup.map(|setup| setup.dtype.name()))?;
    let batch_size: usize =
        field("batch_size", overrides.batch_size, setup.map(|s| s.batch_size.to_string()).as_deref())?;
    if batch_size == 0 {
        return refuse("a batch of 0 sequences".to_owned(), "claim one with --claim batch_size=…");
    }
    if let Some(setup) = setup.filter(|s| !matches!(s.engine.as_str(), "mantissa-cpu" | "transformers")) {
        return refuse(
            format!("no recipes for the engine '{}' (there are those of transformers)", setup.engine),
            "only stock Hugging Face inference is covered",
        );
    }
    for (what, set) in [
        ("a compiled model", fixed.compile),
        ("concurrent streams", fixed.concurrent_streams),
        ("tensor-parallel ranks", fixed.tp_size > 1),
        ("expert-parallel ranks", fixed.ep_size > 1),
    ] {
        if set {
            return refuse(
                format!("there are no recipes for {what}"),
                "only one rank, uncompiled, is covered",
            );
        }
    }
    let stored = checkpoint.quantization().map(|block| format!("gguf-{}", block.name()));
    let dequantized = match (&stored, overrides.dequantized) {
        (Some(_), Some(instead)) => instead,
        (Some(stored), None) if fixed.quantization == *stored => false,
        (Some(stored), None) if fixed.quantization == format!("{stored}-dequantized") => true,
        (None, _) if fixed.quantization == "none" => false,
        _ => {
            let model = stored.as_deref().unwrap_or("none");
            return refuse(
                format!("the setup is quantized as '{}', the model given as '{model}'", fixed.quantization),
                "give the model in that form",
            );
        }
    };
    Ok(Candidate { hardware, dtype, attention, batch_size, dequantized })
}
