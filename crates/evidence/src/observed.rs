//! What a capture found on the program that ran, where a setup only declares.
//!
//! Left out: kernels with their recipes ([`crate::ConfigurationExtras::recipes`]), which Mantissa's own engine states.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was found on a running program, its libraries and its devices.
///
/// ```
/// use mantissa_evidence::Observed;
///
/// let json = r#"{"axes": {"attention": "sdpa"}, "versions": {"torch": "2.11.0"}, "devices": [{"device": "cuda:0",
///     "name": "NVIDIA H200", "clusters": [132, 66]}], "layers": {"lm_head": "none"}, "kernels": [{"name": "gemvx",
///     "launches": 2}], "notes": []}"#;
/// let observed: Observed = serde_json::from_str(json)?;
/// assert_eq!(observed.axes["attention"], "sdpa");
/// assert_eq!(observed.devices[0].clusters, Some(vec![132, 66]));
/// // A later program's fields are not skipped.
/// assert!(serde_json::from_str::<Observed>(r#"{"axis": {}}"#).is_err());
/// // What is stated twice is refused.
/// assert!(serde_json::from_str::<Observed>(r#"{"axes": {"attention": "sdpa", "attention": "eager"}}"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// What was found of each axis of the setup, by its name.
    #[serde(default, deserialize_with = "crate::strict::map")]
    pub axes: BTreeMap<String, String>,
    /// Versions of the libraries that were loaded.
    #[serde(default, deserialize_with = "crate::strict::map")]
    pub versions: BTreeMap<String, String>,
    /// The devices that computed.
    #[serde(default)]
    pub devices: Vec<ObservedDevice>,
    /// How the weight of each linear layer is stored; `*` stands for the number of a block where all blocks agree.
    #[serde(default, deserialize_with = "crate::strict::map")]
    pub layers: BTreeMap<String, String>,
    /// Kernels of one more pass, in the order of their first launch.
    #[serde(default)]
    pub kernels: Vec<KernelCount>,
    /// Which requests shared each step, where an engine makes steps up itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<ObservedStep>,
    /// What else a reader has to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A device that computed.
///
/// Example: [`Observed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservedDevice {
    /// Its name in the program: `cuda:0`.
    pub device: String,
    /// What it calls itself.
    pub name: String,
    /// Compute capability: `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// Multiprocessors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiprocessors: Option<u32>,
    /// Bytes of its L2 cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2_bytes: Option<u64>,
    /// Bytes of its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Greatest number of active clusters of 1, 2, … blocks, one block to a multiprocessor: the die, as libraries see
    /// it. −1 where it has none of that size; `null` where nobody could ask.
    pub clusters: Option<Vec<i32>>,
}

/// A kernel by its name.
///
/// Example: [`Observed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelCount {
    /// Its name.
    pub name: String,
    /// How often it was launched.
    pub launches: u64,
}

/// The make-up of one step of an engine that decides by itself what shares a step.
///
/// ```
/// use mantissa_evidence::ObservedStep;
///
/// let json = r#"{"repetition": 0, "step": 3, "requests": [{"request": "0", "computed": 700, "tokens": 1}]}"#;
/// let step: ObservedStep = serde_json::from_str(json)?;
/// assert_eq!((step.requests[0].computed, step.requests[0].tokens), (700, 1));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservedStep {
    /// The repetition it belongs to.
    pub repetition: u32,
    /// Its number in that repetition.
    pub step: u64,
    /// Requests in the order of their rows.
    pub requests: Vec<StepRequest>,
}

/// A request's part of a step.
///
/// Example: [`ObservedStep`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRequest {
    /// Which: the place of its prompt among those handed over.
    pub request: String,
    /// Its tokens computed in earlier steps.
    pub computed: u64,
    /// Its tokens in this step.
    pub tokens: u64,
}
