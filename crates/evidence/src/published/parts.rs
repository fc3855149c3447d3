//! What the published layouts share: numbers that may be infinite, maps in the order of the file, positions, layers,
//! environments, candidates; and the narrowest format that holds a tensor.
//!
//! Unknown keys are passed over, as these are other programs' files; wrong types, missing keys, duplicate keys and
//! dimensions that do not fit are errors with their place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use mantissa_numerics::{Dtype, Phase};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{EvidenceError, Flaw, Result, one_line};
use crate::experiment::{
    Configuration, ConfigurationExtras, Decoding, Environment, FixedParams, ModelIdentity, Setup,
};
use crate::lenient::{self, Number};
use crate::reproducibility::{Outcome, Reproducibility};
use crate::run::Logprobs;
use crate::verification::Machine;

/// What every refusal asks for.
pub(super) const RESTORE: &str = "give the file as it was published, whole and unedited";
/// What stands for anything that a file does not say.
pub(super) const NOT_STATED: &str = "not stated";

/// Both phases, in the order of computation.
pub(super) const PHASES: [Phase; 2] = [Phase::Prefill, Phase::Decode];

/// A map in the order of the file. Its keys are unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<K, V>(Vec<(K, V)>);

impl<K: PartialEq, V> Entries<K, V> {
    /// The value of `key`.
    pub fn get<Q: ?Sized + PartialEq>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.iter().find(|(k, _)| (*k).borrow() == key).map(|(_, value)| value)
    }

    /// Keys and values in the order of the file.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Keys in the order of the file.
    #[must_use]
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// Values in the order of the file.
    #[must_use]
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, K, V> Deserialize<'de> for Entries<K, V>
where
    K: Deserialize<'de> + Ord + Clone + fmt::Display,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder<K, V>(PhantomData<(K, V)>);
        impl<'de, K, V> Visitor<'de> for InOrder<K, V>
        where
            K: Deserialize<'de> + Ord + Clone + fmt::Display,
            V: Deserialize<'de>,
        {
            type Value = Vec<(K, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut access: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
                while let Some(key) = access.next_key::<K>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format_args!("duplicate key '{key}'")));
                    }
                    entries.push((key, access.next_value()?));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData)).map(Self)
    }
}

/// A position relative to the end of the sequence, written `pos_-3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub i32);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pos_{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix("pos_").and_then(|number| number.parse().ok());
        let position = number.filter(|number: &i32| (-1_000_000..0).contains(number)).map(Self);
        let position = position.filter(|position| position.to_string() == text);
        position.ok_or_else(|| D::Error::custom(format_args!("'{text}' is no position such as pos_-3")))
    }
}

/// A decoder block as the file numbers it, written `layer_28`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layer(pub u32);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer_{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let layer = text.strip_prefix("layer_").and_then(|number| number.parse().ok()).map(Self);
        let layer = layer.filter(|layer| layer.0 > 0 && layer.to_string() == text);
        layer.ok_or_else(|| D::Error::custom(format_args!("'{text}' is no layer such as layer_28")))
    }
}

/// A setting of an environment as text: a string as it is, a number or a truth value as JSON writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting(pub String);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number, true, false or null")
            }

            fn visit_str<E>(self, text: &str) -> std::result::Result<String, E> {
                Ok(text.to_owned())
            }

            fn visit_u64<E>(self, number: u64) -> std::result::Result<String, E> {
                Ok(number.to_string())
            }

            fn visit_i64<E>(self, number: i64) -> std::result::Result<String, E> {
                Ok(number.to_string())
            }

            fn visit_f64<E>(self, number: f64) -> std::result::Result<String, E> {
                Ok(number.to_string())
            }

            fn visit_bool<E>(self, truth: bool) -> std::result::Result<String, E> {
                Ok(truth.to_string())
            }

            fn visit_unit<E>(self) -> std::result::Result<String, E> {
                Ok(NOT_STATED.to_owned())
            }
        }
        deserializer.deserialize_any(Scalar).map(Self)
    }
}

/// Everything a file says about a machine.
pub type Settings = Entries<String, Setting>;

/// Candidates of one position, in the order of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Candidates {
    /// Their ids.
    pub token_ids: Vec<u32>,
    /// Natural logarithms of their probabilities, as stored.
    #[serde(deserialize_with = "lenient::numbers")]
    pub log_probs: Vec<f64>,
}

/// A square matrix, row by row.
pub type Square = Vec<Vec<f64>>;

pub(super) fn rows<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Square, D::Error> {
    let rows = Vec::<Reals>::deserialize(deserializer)?;
    Ok(rows.into_iter().map(|Reals(row)| row).collect())
}

pub(super) fn cubes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<Square>, D::Error> {
    let squares = Vec::<Vec<Reals>>::deserialize(deserializer)?;
    Ok(squares.into_iter().map(|rows| rows.into_iter().map(|Reals(row)| row).collect()).collect())
}

pub(super) fn real_entries<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Entries<String, f64>, D::Error> {
    let Entries(entries) = Entries::<String, Number>::deserialize(deserializer)?;
    Ok(Entries(entries.into_iter().map(|(key, Number(number))| (key, number)).collect()))
}

/// A list of numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(super) struct Reals(#[serde(deserialize_with = "lenient::numbers")] pub(super) Vec<f64>);

pub(super) fn layers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Entries<Layer, Vec<f64>>, D::Error> {
    let Entries(entries) = Entries::<Layer, Reals>::deserialize(deserializer)?;
    Ok(Entries(entries.into_iter().map(|(layer, Reals(row))| (layer, row)).collect()))
}

pub(super) fn repetitions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Entries<String, Vec<Vec<f64>>>, D::Error> {
    let Entries(entries) = Entries::<String, Vec<Reals>>::deserialize(deserializer)?;
    let entries = entries.into_iter();
    Ok(Entries(entries.map(|(key, rows)| (key, rows.into_iter().map(|Reals(row)| row).collect())).collect()))
}

/// Parses a whole file; an error names the JSON path.
pub(super) fn document<T: DeserializeOwned>(json: &[u8], origin: &Path) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let fail = |path: &str, error: &serde_json::Error| {
        let text = error.to_string();
        let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
        let place = if matches!(path, "." | "") { String::new() } else { format!("{path}: ") };
        EvidenceError::Json {
            path: origin.to_owned(),
            line: error.line(),
            column: error.column(),
            problem: one_line(&format!("{place}{problem}")),
            remedy: RESTORE.to_owned(),
        }
    };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| fail(&error.path().to_string(), error.inner()))?;
    deserializer.end().map_err(|error| fail("", &error))?;
    Ok(value)
}

/// Checks that a matrix has `side` rows and columns.
pub(super) fn square(matrix: &Square, side: usize, place: &str) -> std::result::Result<(), Flaw> {
    let odd = matrix.iter().position(|row| row.len() != side);
    let problem = match odd {
        _ if matrix.len() != side => format!("{} rows instead of {side}", matrix.len()),
        Some(row) => format!("row {row} has {} cells instead of {side}", matrix[row].len()),
        None => return Ok(()),
    };
    Err(Flaw::new(place, problem, RESTORE))
}

/// Checks one square matrix per reference.
pub(super) fn squares(
    matrices: &[Square],
    references: usize,
    side: usize,
    place: &str,
) -> std::result::Result<(), Flaw> {
    if matrices.len() != references {
        let problem = format!("{} matrices for {references} references", matrices.len());
        return Err(Flaw::new(place, problem, RESTORE));
    }
    matrices.iter().enumerate().try_for_each(|(r, matrix)| square(matrix, side, &format!("{place}[{r}]")))
}

/// Checks that the values of a variable are named and distinct.
pub(super) fn distinct<T: Ord + fmt::Display>(
    values: impl IntoIterator<Item = T>,
    place: &str,
) -> std::result::Result<(), Flaw> {
    let mut seen = BTreeSet::new();
    for value in values {
        let twice = format!("{value} is listed twice");
        if !seen.insert(value) {
            return Err(Flaw::new(place, twice, RESTORE));
        }
    }
    if seen.is_empty() { Err(Flaw::new(place, "nothing is listed", RESTORE)) } else { Ok(()) }
}

/// The number in a name such as `ref_2`.
pub(super) fn reference_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("ref_")?.parse().ok()?;
    (format!("ref_{number}") == name).then_some(number)
}

/// The narrowest format that holds every value exactly, bf16 before f16 before f32; `None` when none does.
pub(super) fn narrowest<'a>(values: &(impl Iterator<Item = &'a f64> + Clone)) -> Option<Dtype> {
    [Dtype::Bf16, Dtype::F16, Dtype::F32]
        .into_iter()
        .find(|&dtype| values.clone().all(|&value| exact(dtype, value).is_some()))
}

/// `value` in `dtype`, unless that would change it.
pub(super) fn exact(dtype: Dtype, value: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "checked on the next line")]
    let single = value as f32;
    let rounded = dtype.round(single);
    (value.is_nan() || f64::from(rounded).to_bits() == value.to_bits()).then_some(rounded)
}

/// Values as little-endian bytes of `dtype`.
pub(super) fn encode<'a>(dtype: Dtype, values: impl IntoIterator<Item = &'a f64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &value in values {
        #[expect(clippy::cast_possible_truncation, reason = "the caller chose a format that holds it")]
        dtype.encode(dtype.round(value as f32), &mut bytes);
    }
    bytes
}

/// Top-k candidates of equal k: of longer lists those with the largest values stay. Also tells how many were dropped.
pub(super) fn logprobs(steps: usize, positions: usize, rows: &[&Candidates]) -> (Option<Logprobs>, usize) {
    let k = rows.iter().map(|row| row.token_ids.len()).min().unwrap_or(0);
    if k == 0 {
        return (None, rows.iter().map(|row| row.token_ids.len()).sum());
    }
    let (mut token_ids, mut log_probs, mut dropped) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let mut order: Vec<usize> = (0..row.token_ids.len()).collect();
        order.sort_by(|&a, &b| row.log_probs[b].total_cmp(&row.log_probs[a]));
        let mut kept = order[..k].to_vec();
        kept.sort_unstable();
        dropped += order.len() - k;
        for index in kept {
            token_ids.push(row.token_ids[index]);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a recorder's binary32, or stated as rounded"
            )]
            log_probs.push(row.log_probs[index] as f32);
        }
    }
    (Some(Logprobs { steps, positions, k, vocab_size: None, token_ids, log_probs }), dropped)
}

/// Checks that every candidate has a value and no id is listed twice.
pub(super) fn candidates(row: &Candidates, place: &str) -> std::result::Result<(), Flaw> {
    let (ids, values) = (row.token_ids.len(), row.log_probs.len());
    let distinct: BTreeSet<u32> = row.token_ids.iter().copied().collect();
    let problem = if ids != values {
        format!("{ids} token ids for {values} log-probabilities")
    } else if distinct.len() != ids {
        "a token id is listed twice".to_owned()
    } else {
        return Ok(());
    };
    Err(Flaw::new(place, problem, RESTORE))
}

/// A machine as a verification describes it.
pub(super) fn machine(gpu: &str, settings: &Settings) -> Machine {
    let environment = settings.iter().filter(|(name, _)| *name != "gpu_name");
    Machine {
        gpu: gpu.to_owned(),
        environment: environment
            .map(|(name, Setting(value))| (name.clone(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// Settings that can change a bit; hosts, containers, platforms, counts and Python itself cannot.
const NUMERIC: [&str; 8] = [
    "torch_version",
    "cuda_version",
    "cudnn_version",
    "transformers_version",
    "vllm_version",
    "flash_attn_version",
    "numpy_version",
    "attn_implementation",
];

/// Settings that can change a bit and differ: name, the first value, the second.
pub(super) fn mismatches(generator: &Settings, verifier: &Settings) -> Vec<(String, String, String)> {
    let stated = |settings: &Settings, name: &str| {
        settings.get(name).map_or_else(|| NOT_STATED.to_owned(), |Setting(value)| value.clone())
    };
    let both = NUMERIC.iter().map(|&name| (name.to_owned(), stated(generator, name), stated(verifier, name)));
    both.filter(|(_, a, b)| a != b).collect()
}

/// What a published file says of one configuration.
pub(super) struct Stated<'a> {
    pub(super) config_id: String,
    pub(super) variable_value: serde_json::Value,
    pub(super) model: &'a str,
    pub(super) hardware: &'a str,
    pub(super) engine: &'a str,
    pub(super) engine_version: Option<&'a str>,
    pub(super) attention: Option<&'a str>,
    pub(super) quantization: Option<&'a str>,
    pub(super) dtype: Dtype,
    pub(super) batch_size: u32,
    pub(super) repetitions: u32,
    pub(super) settings: BTreeMap<&'static str, Option<String>>,
}

/// The configuration in this project's terms; what is not stated is said to be so, or is the usual (see
/// [`ASSUMED`]).
pub(super) fn configuration(stated: Stated<'_>) -> Configuration {
    let text = |value: Option<&str>| value.unwrap_or(NOT_STATED).to_owned();
    let setting = |name: &str| stated.settings.get(name).cloned().flatten();
    let (attention, quantization) = (text(stated.attention), text(stated.quantization));
    Configuration {
        config_id: stated.config_id,
        hardware: stated.hardware.to_owned(),
        provider: None,
        variable_value: stated.variable_value,
        cuda_version: setting("cuda"),
        torch_version: setting("torch"),
        transformers_version: setting("transformers"),
        flash_attn_version: setting("flash_attn"),
        python_version: setting("python"),
        fixed_params: FixedParams {
            compile: false,
            attention_impl: attention.clone(),
            quantization: quantization.clone(),
            tp_size: 1,
            ep_size: 1,
            concurrent_streams: false,
        },
        mantissa: Some(ConfigurationExtras {
            setup: Setup {
                model: ModelIdentity { id: stated.model.to_owned(), weights_digest: None },
                hardware: stated.hardware.to_owned(),
                engine: stated.engine.to_owned(),
                engine_version: text(stated.engine_version),
                dtype: stated.dtype,
                batch_size: stated.batch_size,
                attention,
                quantization,
                compile: false,
                concurrent_streams: false,
                cuda_version: setting("cuda"),
                tp_size: 1,
                ep_size: 1,
                decoding: Decoding::Greedy,
            },
            environment: Environment {
                cpu: NOT_STATED.to_owned(),
                cpu_features: Vec::new(),
                cores: 0,
                os: text(setting("platform").as_deref()),
                memory_bytes: 0,
                rustc: NOT_STATED.to_owned(),
            },
            recipes: Vec::new(),
            catalogs: Vec::new(),
            reproducibility: Reproducibility {
                repetitions: stated.repetitions,
                outcome: Outcome::NotChecked,
                digests: Vec::new(),
            },
            runtime: None,
        }),
    }
}

/// The warning that goes with every converted configuration.
pub(super) const ASSUMED: &str =
    "the file does not state compile, concurrent streams, ranks or decoding: taken as off, off, 1 and greedy";

/// A version, unless the file says that there is none.
pub(super) fn version(settings: &Settings, name: &str) -> Option<String> {
    settings.get(name).map(|Setting(value)| value.clone()).filter(|value| value != "N/A")
}

/// The versions that [`configuration`] asks for, by its names.
pub(super) fn versions(settings: &Settings) -> BTreeMap<&'static str, Option<String>> {
    [
        ("cuda", "cuda_version"),
        ("torch", "torch_version"),
        ("transformers", "transformers_version"),
        ("flash_attn", "flash_attn_version"),
        ("python", "python_version"),
        ("platform", "platform"),
    ]
    .map(|(short, name)| (short, version(settings, name)))
    .into()
}
