//! Machines and configurations in this project's terms, and what had to be assumed of them.

use std::collections::BTreeMap;

use mantissa_evidence::error::Flaw;
use mantissa_evidence::verification::Machine;
use mantissa_evidence::{
    Configuration, ConfigurationExtras, Decoding, Environment, FixedParams, ModelIdentity, Outcome,
    Reproducibility, Setup,
};
use mantissa_numerics::Dtype;

use super::entries::{NOT_STATED, Setting, Settings};

/// A machine as a verification describes it.
pub(crate) fn machine(gpu: &str, settings: &Settings) -> Machine {
    let environment = settings.iter().filter(|(name, _)| *name != "gpu_name");
    Machine {
        gpu: gpu.to_owned(),
        environment: environment
            .map(|(name, Setting(value))| (name.clone(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// A storage format as PyTorch names it; bf16 where a file does not say, which is assumed.
pub(crate) fn dtype(name: Option<&str>) -> std::result::Result<Dtype, Flaw> {
    match name.map(|name| name.strip_prefix("torch.").unwrap_or(name)) {
        Some("float16" | "half") => Ok(Dtype::F16),
        Some("bfloat16") | None => Ok(Dtype::Bf16),
        Some("float32" | "float") => Ok(Dtype::F32),
        Some(other) => {
            let problem = format!("'{other}' is not a known format");
            Err(Flaw::new("dtype", problem, "use float16, bfloat16 or float32"))
        }
    }
}

/// The GPU that an environment names, under whichever name.
pub(crate) fn gpu(settings: &Settings) -> String {
    let named = ["gpu_name", "gpu"].into_iter().find_map(|name| settings.get(name));
    named.map_or_else(|| NOT_STATED.to_owned(), |Setting(name)| name.clone())
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
pub(crate) fn mismatches(generator: &Settings, verifier: &Settings) -> Vec<(String, String, String)> {
    let stated = |settings: &Settings, name: &str| {
        settings.get(name).map_or_else(|| NOT_STATED.to_owned(), |Setting(value)| value.clone())
    };
    let both = NUMERIC.iter().map(|&name| (name.to_owned(), stated(generator, name), stated(verifier, name)));
    both.filter(|(_, a, b)| a != b).collect()
}

/// What a published file says of one configuration.
pub(crate) struct Stated<'a> {
    pub(crate) config_id: String,
    pub(crate) variable_value: serde_json::Value,
    pub(crate) model: &'a str,
    pub(crate) hardware: &'a str,
    pub(crate) engine: &'a str,
    pub(crate) engine_version: Option<&'a str>,
    pub(crate) attention: Option<&'a str>,
    pub(crate) quantization: Option<&'a str>,
    pub(crate) dtype: Dtype,
    pub(crate) batch_size: u32,
    pub(crate) tp_size: u32,
    pub(crate) repetitions: u32,
    pub(crate) settings: BTreeMap<&'static str, Option<String>>,
}

/// The configuration in this project's terms; what is not stated is said to be so, or is the usual (see
/// [`ASSUMED`]).
pub(crate) fn configuration(stated: Stated<'_>) -> Configuration {
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
            tp_size: stated.tp_size,
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
                tp_size: stated.tp_size,
                ep_size: 1,
                axes: std::collections::BTreeMap::new(),
                decoding: Decoding::Greedy,
                generation: None,
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
            observed: None,
            answers: None,
            reproducibility: Reproducibility {
                repetitions: stated.repetitions,
                outcome: Outcome::NotChecked,
                digests: Vec::new(),
            },
            not_finite: Vec::new(),
            runtime: None,
        }),
    }
}

/// The warning that goes with every converted configuration.
pub(crate) const ASSUMED: &str =
    "the file does not state compile, concurrent streams, ranks or decoding: taken as off, off, 1 and greedy";

/// A version, unless the file says that there is none.
pub(crate) fn version(settings: &Settings, name: &str) -> Option<String> {
    settings.get(name).map(|Setting(value)| value.clone()).filter(|value| value != "N/A")
}

/// The versions that [`configuration`] asks for, by its names.
pub(crate) fn versions(settings: &Settings) -> BTreeMap<&'static str, Option<String>> {
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
