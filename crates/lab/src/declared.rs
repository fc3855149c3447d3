//! The typed setup and what evidence declares: written and read here alone.
//!
//! On disk an axis has the place that the uniform schema gives it; one that the schema lacks stands by name in
//! [`mantissa_evidence::Setup::axes`], where it is not the default.

use std::collections::BTreeMap;

use mantissa_evidence::{Configuration, Decoding, FixedParams, ModelIdentity, Setup as Declared, words};
use mantissa_model::Checkpoint;
use mantissa_model::quantized::Quantization;
use mantissa_numerics::setup::{
    AllReduce, Attention, Axis, LinearBackend, Program, QuantizedWeights, SomeAxes, Value,
};
use mantissa_numerics::{Dtype, Generation, Setup};

use crate::uncovered::{Unreadable, uncovered};

/// Name of the quantization of `checkpoint`'s weights as a setup declares it.
///
/// Rounded weights are not the checkpoint's: a setup that says "none" would hide it.
pub(crate) fn quantization(weights: QuantizedWeights, checkpoint: &Checkpoint) -> String {
    if let Some(packed) = checkpoint.packed() {
        return match weights {
            QuantizedWeights::Keep => packed.name().to_owned(),
            QuantizedWeights::Dequantize => format!("{packed}-dequantized"),
        };
    }
    match (weights, checkpoint.quantization()) {
        (QuantizedWeights::Keep, Some(block)) => format!("gguf-{}", block.name()),
        (QuantizedWeights::Dequantize, Some(block)) => format!("gguf-{}-dequantized", block.name()),
        (_, None) => "none".to_owned(),
    }
}

/// Whether there is anything to decode in `checkpoint`.
pub(crate) fn is_quantized(checkpoint: &Checkpoint) -> bool {
    checkpoint.quantization().is_some() || checkpoint.packed().is_some()
}

/// Name of the configuration that records `setup`.
pub(crate) fn config_id(setup: &Setup, checkpoint: &Checkpoint) -> String {
    let name = Setup { quantization: QuantizedWeights::Keep, ..*setup };
    match quantization(setup.quantization, checkpoint).as_str() {
        "none" => name.to_string(),
        quantization => format!("{name}_{quantization}"),
    }
}

/// `setup` as evidence declares it: in the uniform schema's fields, and whole.
pub(crate) fn declare(
    setup: &Setup,
    checkpoint: &Checkpoint,
    model: ModelIdentity,
    decoding: Decoding,
    generation: Option<Generation>,
) -> (FixedParams, Declared) {
    let attention = setup.attention.name().to_owned();
    let quantization = quantization(setup.quantization, checkpoint);
    let Setup { compile, concurrent_streams, tp_size, ep_size, .. } = *setup;
    let by_name =
        setup.differing(&Setup::default()).filter(|axis| place(*axis).is_none() || CAPTURED.contains(axis));
    let axes: BTreeMap<String, String> =
        by_name.map(|axis| (axis.name().to_owned(), setup.get(axis).to_string())).collect();
    let fixed = FixedParams {
        compile,
        attention_impl: attention.clone(),
        quantization: quantization.clone(),
        tp_size,
        ep_size,
        concurrent_streams,
    };
    let whole = Declared {
        model,
        hardware: setup.hardware.name().to_owned(),
        engine: "mantissa-cpu".to_owned(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        dtype: setup.dtype,
        batch_size: u32::try_from(setup.batch_size).unwrap_or(u32::MAX),
        attention,
        quantization,
        compile,
        concurrent_streams,
        cuda_version: None,
        tp_size,
        ep_size,
        axes,
        decoding,
        generation,
    };
    (fixed, whole)
}

/// Axes that stand by name here, and that captures state elsewhere or in words of their own.
const CAPTURED: [Axis; 3] = [Axis::Engine, Axis::AllReduce, Axis::LinearBackend];

/// What a file states of an axis.
enum Stated {
    Nothing,
    Typed(Value),
    Word(String),
}

/// Reads an axis in its place.
type Read = fn(&Configuration) -> Stated;

/// What the schema has a place for, and what reads it there.
const PLACES: [(Axis, Read); 12] = [
    (Axis::Hardware, |c| word(&c.hardware)),
    (Axis::Engine, program),
    (Axis::Attention, attention),
    (Axis::AllReduce, all_reduce),
    (Axis::LinearBackend, linear_backend),
    (Axis::Dtype, |c| whole(c, |setup| Some(Value::Dtype(setup.dtype)))),
    (Axis::BatchSize, |c| whole(c, |setup| setup.batch_size.try_into().ok().map(Value::BatchSize))),
    (Axis::Compile, |c| Stated::Typed(Value::Compile(c.fixed_params.compile))),
    (Axis::ConcurrentStreams, |c| Stated::Typed(Value::ConcurrentStreams(c.fixed_params.concurrent_streams))),
    (Axis::TpSize, |c| Stated::Typed(Value::TpSize(c.fixed_params.tp_size.max(1)))),
    (Axis::EpSize, |c| Stated::Typed(Value::EpSize(c.fixed_params.ep_size.max(1)))),
    // Its words name the stored format too: `weights` reads them beside the checkpoint.
    (Axis::Quantization, |_| Stated::Nothing),
];

fn place(axis: Axis) -> Option<Read> {
    PLACES.into_iter().find(|(placed, _)| *placed == axis).map(|(_, read)| read)
}

/// The program: an axis of its own in predictions, the engine and its version in captures.
fn program(configuration: &Configuration) -> Stated {
    let Some(setup) = configuration.mantissa.as_ref().map(|extras| &extras.setup) else {
        return Stated::Nothing;
    };
    if let Some(text) = setup.axes.get(Axis::Engine.name()) {
        return Stated::Word(text.clone());
    }
    match setup.engine.as_str() {
        "mantissa-cpu" | "transformers" => Stated::Nothing,
        "vllm" => match setup.engine_version.split('.').take(2).collect::<Vec<_>>()[..] {
            ["0", "24"] => Stated::Typed(Value::Engine(Program::Vllm024)),
            _ => Stated::Word(format!("vllm-{}", setup.engine_version)),
        },
        other => word(other),
    }
}

/// Attention; vLLM's name for it covers two versions, of which its capture says which ran.
fn attention(configuration: &Configuration) -> Stated {
    let stated = &configuration.fixed_params.attention_impl;
    let observed = configuration.mantissa.as_ref().and_then(|extras| extras.observed.as_ref());
    let version = observed.and_then(|observed| observed.axes.get("flash_attention"));
    match version.map(String::as_str) {
        Some("3") if stated == "FLASH_ATTN" => Stated::Typed(Value::Attention(Attention::FlashAttention3)),
        _ => word(stated),
    }
}

/// The all-reduce; captures of vLLM name its communicators in the order in which they are tried.
fn all_reduce(configuration: &Configuration) -> Stated {
    let extras = configuration.mantissa.as_ref();
    let Some(text) = extras.and_then(|extras| extras.setup.axes.get(Axis::AllReduce.name())) else {
        return Stated::Nothing;
    };
    let tried = text.split('+').next().unwrap_or_default();
    match tried {
        "ca" => Stated::Typed(Value::AllReduce(AllReduce::None)),
        "pynccl" | "torch" => Stated::Typed(Value::AllReduce(AllReduce::Ring)),
        _ => Stated::Word(text.clone()),
    }
}

/// Who multiplied by packed weights: an axis of its own in predictions; captures of vLLM say what each layer had. A
/// layer that had Machete was left to vLLM's choice, which is Marlin where Machete does not take the shape.
fn linear_backend(configuration: &Configuration) -> Stated {
    let Some(extras) = configuration.mantissa.as_ref() else { return Stated::Nothing };
    if let Some(text) = extras.setup.axes.get(Axis::LinearBackend.name()) {
        return Stated::Word(text.clone());
    }
    let Some(observed) = extras.observed.as_ref() else { return Stated::Nothing };
    let had = |kernel: &str| observed.layers.values().any(|word| word.ends_with(kernel));
    match (had("/MacheteLinearKernel"), had("/MarlinLinearKernel")) {
        (true, _) => Stated::Typed(Value::LinearBackend(LinearBackend::Auto)),
        (false, true) => Stated::Typed(Value::LinearBackend(LinearBackend::Marlin)),
        (false, false) => Stated::Nothing,
    }
}

fn word(text: &str) -> Stated {
    if words::says_nothing(text) { Stated::Nothing } else { Stated::Word(text.to_owned()) }
}

fn whole(configuration: &Configuration, of: impl Fn(&Declared) -> Option<Value>) -> Stated {
    let value = configuration.mantissa.as_ref().and_then(|extras| of(&extras.setup));
    value.map_or(Stated::Nothing, Stated::Typed)
}

/// The value of the variable that an experiment tests, where `axis` is it.
fn tested(configuration: &Configuration, variable: &str, axis: Axis) -> Stated {
    let name = match variable {
        "attention_impl" | "attn_implementation" | "attention_implementation" => "attention",
        "gpu" => "hardware",
        other => other,
    };
    let value = match &configuration.variable_value {
        serde_json::Value::Object(several) => several.get(axis.name()),
        value if name == axis.name() => Some(value),
        _ => None,
    };
    match value {
        None | Some(serde_json::Value::Null) => Stated::Nothing,
        Some(serde_json::Value::String(text)) => word(text),
        Some(other) => word(&other.to_string()),
    }
}

/// A value: what is claimed, else what is declared, as far as it can be read.
fn value(
    configuration: &Configuration,
    variable: &str,
    claimed: &SomeAxes,
    axis: Axis,
) -> Result<Option<Value>, Unreadable> {
    if let Some(value) = claimed.get(axis) {
        return Ok(Some(value));
    }
    let by_name = || {
        let extras = configuration.mantissa.as_ref();
        let text = extras.and_then(|extras| extras.setup.axes.get(axis.name()));
        text.map_or(Stated::Nothing, |text| Stated::Word(text.clone()))
    };
    let stated = match place(axis).map_or_else(by_name, |read| read(configuration)) {
        Stated::Nothing => tested(configuration, variable, axis),
        stated => stated,
    };
    match stated {
        Stated::Nothing => Ok(engines_own(configuration, claimed, axis)),
        Stated::Typed(value) => Ok(Some(value)),
        Stated::Word(text) => words::read(axis, &text).map(Some).map_err(|why| Unreadable {
            what: format!(
                "there are no recipes for {axis} '{text}'{why}",
                axis = axis.name(),
                why = why.map(|why| format!(" ({why})")).unwrap_or_default()
            ),
            remedy: format!("claim another with --claim {}=…, if it is one", axis.name()),
        }),
    }
}

/// What a server takes that was told nothing: answers of an API state no attention.
fn engines_own(configuration: &Configuration, claimed: &SomeAxes, axis: Axis) -> Option<Value> {
    let answers = configuration.mantissa.as_ref().is_some_and(|extras| extras.answers.is_some());
    let of_vllm = answers && axis == Axis::Attention && claimed.engine == Some(Program::Vllm024);
    of_vllm.then_some(Value::Attention(Attention::FlashAttention3))
}

/// Without these nothing says what was computed.
const REQUIRED: [Axis; 4] = [Axis::Hardware, Axis::Attention, Axis::Dtype, Axis::BatchSize];

/// Everything that a configuration lacks, or states in words that are not known, with the flags that supply it.
pub(crate) fn lacks(configuration: &Configuration, variable: &str, claimed: &SomeAxes) -> Vec<Unreadable> {
    let (mut missing, mut lacking) = (Vec::new(), Vec::new());
    for axis in REQUIRED {
        match value(configuration, variable, claimed, axis) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(axis.name()),
            Err(unreadable) => lacking.push(unreadable),
        }
    }
    if !missing.is_empty() {
        let flags: Vec<String> = missing.iter().map(|name| format!("--claim {name}=…")).collect();
        let names = match missing.as_slice() {
            [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
            names => names.concat(),
        };
        let unreadable = Unreadable {
            what: format!("the file does not state the {names} of this setup"),
            remedy: format!(
                "claim {} with {}",
                if flags.len() > 1 { "them" } else { "one" },
                flags.join(" ")
            ),
        };
        lacking.insert(0, unreadable);
    }
    lacking
}

/// Several reasons as one.
pub(crate) fn joined(reasons: Vec<Unreadable>) -> Option<Unreadable> {
    reasons.into_iter().reduce(|all, one| Unreadable {
        what: format!("{}; {}", all.what, one.what),
        remedy: format!("{}; {}", all.remedy, one.remedy),
    })
}

/// The setup that `configuration` declares of `checkpoint`, with `claimed` in place of it.
///
/// *Errors:* what is not stated, or has no recipes.
pub(crate) fn setup(
    configuration: &Configuration,
    variable: &str,
    claimed: &SomeAxes,
    checkpoint: &Checkpoint,
) -> Result<Setup, Unreadable> {
    let mut setup = Setup::default();
    let whole = configuration.mantissa.as_ref().map(|extras| &extras.setup);
    if let Some(lacking) = joined(lacks(configuration, variable, claimed)) {
        return Err(lacking);
    }
    for axis in REQUIRED {
        if let Some(value) = value(configuration, variable, claimed, axis)? {
            setup.set(value);
        }
    }
    if configuration.mantissa.as_ref().is_some_and(|extras| extras.answers.is_some())
        && claimed.dtype.is_none()
    {
        setup.dtype = served(checkpoint);
    }
    let refuse = |what: String, remedy: &str| Err(Unreadable { what, remedy: remedy.to_owned() });
    if setup.batch_size == 0 {
        return refuse("a batch of 0 sequences".to_owned(), "claim one with --claim batch_size=…");
    }
    if let Some((axis, value)) = whole.and_then(unknown_axis) {
        let remedy = "only evidence without it is covered; an upgrade of mantissa may know it";
        return refuse(format!("there are no recipes for {axis} '{value}'"), remedy);
    }
    for axis in Axis::ALL.into_iter().filter(|axis| !REQUIRED.contains(axis)) {
        if let Some(value) = value(configuration, variable, claimed, axis)? {
            setup.set(value);
        }
    }
    uncovered(&setup)?;
    setup.quantization = weights(&configuration.fixed_params.quantization, claimed, checkpoint)?;
    Ok(setup)
}

/// The format in which a server serves a model unless it is told otherwise: that of its configuration, or of its
/// embedding where the configuration names none; bf16 for binary32.
///
/// *Source:* `_resolve_auto_dtype` of vLLM 0.24's `vllm/config/model.py`, which takes bf16 for Gemma in f16 too: vLLM's
/// Gemma has no recipes.
fn served(checkpoint: &Checkpoint) -> Dtype {
    let stored = || {
        let embedding = checkpoint.weight_names().find(|name| name.ends_with("embed_tokens.weight"))?;
        checkpoint.stored_as(embedding).map(|stored| stored.format)
    };
    match checkpoint.config().torch_dtype {
        Some(Dtype::F16) => Dtype::F16,
        None if stored() == Some(Dtype::F16.name()) => Dtype::F16,
        _ => Dtype::Bf16,
    }
}

/// What `configuration` states of some axes, whatever has recipes; other axes are at their defaults.
///
/// *Errors:* one of them that it does not state.
pub(crate) fn stated(
    configuration: &Configuration,
    variable: &str,
    claimed: &SomeAxes,
    axes: &[Axis],
) -> Result<Setup, Unreadable> {
    let read = |setup: Setup, axis: &Axis| {
        let found = value(configuration, variable, claimed, *axis)?.ok_or_else(|| Unreadable {
            what: format!("the file does not state the {} of this setup", axis.name()),
            remedy: format!("claim one with --claim {}=…", axis.name()),
        })?;
        Ok(setup.with(found))
    };
    axes.iter().try_fold(Setup::default(), read)
}

/// An axis that a file states and that is none of ours: what it changed nobody here can compute.
fn unknown_axis(declared: &Declared) -> Option<(&String, &String)> {
    declared.axes.iter().find(|(name, _)| Axis::named(name).is_err())
}

/// What happens to the weights of `checkpoint`, where a file says that they are quantized as `declared`.
fn weights(
    declared: &str,
    claimed: &SomeAxes,
    checkpoint: &Checkpoint,
) -> Result<QuantizedWeights, Unreadable> {
    let quantized = is_quantized(checkpoint);
    if let Some(claimed) = claimed.quantization {
        // Of weights that are not quantized every claim is the same.
        return Ok(if quantized { claimed } else { QuantizedWeights::Keep });
    }
    if !quantized && words::is_unquantized(declared) {
        return Ok(QuantizedWeights::Keep);
    }
    // Captures of transformers name the type of the values alone.
    let of_capture =
        checkpoint.packed() == Some(Quantization::BnbNf4Double) && declared == Quantization::BnbNf4.name();
    if of_capture {
        return Ok(QuantizedWeights::Keep);
    }
    // Whoever states nothing is held to the model as it is given.
    if words::says_nothing(declared) {
        return Ok(QuantizedWeights::Keep);
    }
    let fits = |weights: &QuantizedWeights| quantization(*weights, checkpoint) == declared;
    // Keep first: of weights that are not quantized both say "none".
    QuantizedWeights::ALL.into_iter().find(fits).ok_or_else(|| Unreadable {
        what: format!(
            "the setup is quantized as '{declared}', the model given as '{}'",
            quantization(QuantizedWeights::Keep, checkpoint)
        ),
        remedy: "give the model in that form; or say --claim quantization=auto, if it was as the model is"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use mantissa_engine::Isa;
    use mantissa_evidence::{Answers, ConfigurationExtras, Outcome, Reproducibility};
    use mantissa_model::Arch;
    use mantissa_model::synth::{self, SynthRequest, SynthSpec};

    use super::*;

    fn checkpoint() -> Checkpoint {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        synth::write(&SynthSpec::tiny(Arch::LLAMA, 0), &path, &|_| {}).unwrap();
        Checkpoint::open(&path).unwrap()
    }

    fn configuration(typed: &Setup, checkpoint: &Checkpoint) -> Configuration {
        let model = ModelIdentity { id: "model".to_owned(), weights_digest: None };
        let (fixed_params, setup) = declare(typed, checkpoint, model, Decoding::Greedy, None);
        Configuration {
            config_id: config_id(typed, checkpoint),
            hardware: setup.hardware.clone(),
            provider: None,
            variable_value: 1.into(),
            cuda_version: None,
            torch_version: None,
            transformers_version: None,
            flash_attn_version: None,
            python_version: None,
            fixed_params,
            mantissa: Some(ConfigurationExtras {
                setup,
                environment: crate::environment(Isa::Scalar),
                recipes: Vec::new(),
                catalogs: Vec::new(),
                observed: None,
                answers: None,
                reproducibility: Reproducibility {
                    repetitions: 0,
                    outcome: Outcome::NotChecked,
                    digests: Vec::new(),
                },
                not_finite: Vec::new(),
                runtime: None,
            }),
        }
    }

    #[test]
    fn what_is_declared_reads_back_or_is_refused_for_its_recipes() {
        let checkpoint = checkpoint();
        for axis in Axis::ALL {
            let some = if axis == Axis::Padding { ["none", "left:7"] } else { ["1", "7"] };
            for word in axis.words().unwrap_or_else(|| some.to_vec()) {
                let mut typed = Setup::default().with(axis.parse(word).unwrap());
                let stated = configuration(&typed, &checkpoint);
                // Weights that are not quantized have nothing to decode.
                typed.quantization = QuantizedWeights::Keep;
                let expected = uncovered(&typed).map(|()| typed);
                assert_eq!(setup(&stated, "", &SomeAxes::default(), &checkpoint), expected);
                // A claim takes the place of what is stated.
                let mut claimed = SomeAxes::default();
                claimed.set(Setup::default().get(axis));
                assert_eq!(setup(&stated, "", &claimed, &checkpoint), Ok(Setup::default()));
            }
        }
    }

    #[test]
    fn an_axis_that_nobody_knows_is_refused_by_name() {
        let checkpoint = checkpoint();
        let mut padded = configuration(&Setup::default(), &checkpoint);
        padded.mantissa.as_mut().unwrap().setup.axes.insert("padding".to_owned(), "left".to_owned());
        let refused = setup(&padded, "none", &SomeAxes::default(), &checkpoint).unwrap_err();
        assert!(refused.to_string().starts_with("there are no recipes for padding 'left'; "), "{refused}");
    }

    #[test]
    fn files_of_earlier_versions_name_literature_without_saying_so() {
        let checkpoint = checkpoint();
        let mut old = configuration(&Setup::default(), &checkpoint);
        old.hardware = "a100".to_owned();
        let read = setup(&old, "", &SomeAxes::default(), &checkpoint).unwrap();
        assert_eq!(read.to_string(), "literature-a100_bs1_eager_bf16");
        old.hardware = "b200".to_owned();
        let refused = setup(&old, "", &SomeAxes::default(), &checkpoint).unwrap_err().to_string();
        let said =
            "there are no recipes for hardware 'b200'; claim another with --claim hardware=…, if it is one";
        assert_eq!(refused, said);
        old.hardware = String::new();
        let refused = setup(&old, "", &SomeAxes::default(), &checkpoint).unwrap_err().to_string();
        assert_eq!(
            refused,
            "the file does not state the hardware of this setup; claim one with --claim hardware=…"
        );
    }

    /// A file that follows the plan's schema alone.
    #[test]
    fn a_plain_file_states_its_variable_and_what_it_lacks_is_listed_at_once() {
        let checkpoint = checkpoint();
        let mut plain = configuration(&Setup::default(), &checkpoint);
        plain.mantissa = None;
        plain.hardware = "cpu".to_owned();
        plain.fixed_params.quantization = "fp16".to_owned();
        plain.variable_value = 3.into();
        let refused = setup(&plain, "batch_size", &SomeAxes::default(), &checkpoint).unwrap_err().to_string();
        assert_eq!(
            refused,
            "the file does not state the dtype of this setup; claim one with --claim dtype=…"
        );
        let mut claimed = SomeAxes::default();
        claimed.set(Axis::Dtype.parse("f32").unwrap());
        let read = setup(&plain, "batch_size", &claimed, &checkpoint).unwrap();
        assert_eq!((read.batch_size, read.quantization), (3, QuantizedWeights::Keep));
        // The variable is another one: the batch size is not stated, and the value not taken for it.
        plain.hardware = "b200".to_owned();
        plain.fixed_params.attention_impl = "not stated".to_owned();
        let refused = setup(&plain, "tp_size", &SomeAxes::default(), &checkpoint).unwrap_err().to_string();
        assert_eq!(
            refused,
            "the file does not state the attention, dtype and batch_size of this setup; there are no recipes for \
             hardware 'b200'; claim them with --claim attention=… --claim dtype=… --claim batch_size=…; claim another \
             with --claim hardware=…, if it is one"
        );
        plain.variable_value = "NVIDIA H100 80GB HBM3".into();
        plain.hardware = String::new();
        let value = value(&plain, "hardware", &SomeAxes::default(), Axis::Hardware).unwrap();
        assert_eq!(value.map(|value| value.to_string()).as_deref(), Some("h100"));
    }

    /// An API's answers state nothing: they are held to the model as it is given.
    #[test]
    fn answers_are_of_the_model_as_it_is_given() {
        for (dtype, expected, quantization) in [
            (Dtype::F16, Dtype::F16, None),
            (Dtype::Bf16, Dtype::Bf16, None),
            (Dtype::F32, Dtype::Bf16, None),
            (Dtype::F16, Dtype::F16, Some(Quantization::Awq)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model");
            let request = SynthRequest {
                arch: Some(Arch::LLAMA),
                dtype: Some(dtype),
                quantization,
                hidden_size: Some(128),
                intermediate_size: Some(128),
                ..SynthRequest::default()
            };
            synth::write(&SynthSpec::new(&request).unwrap(), &path, &|_| {}).unwrap();
            let checkpoint = Checkpoint::open(&path).unwrap();
            let mut answers = configuration(&Setup::default(), &checkpoint);
            answers.fixed_params.quantization = "not stated".to_owned();
            answers.mantissa.as_mut().unwrap().answers = Some(Answers { decimals: None });
            let read = setup(&answers, "", &SomeAxes::default(), &checkpoint).unwrap();
            assert_eq!((read.dtype, read.quantization), (expected, QuantizedWeights::Keep));
            let mut claimed = SomeAxes::default();
            claimed.set(Axis::Dtype.parse("bf16").unwrap());
            assert_eq!(setup(&answers, "", &claimed, &checkpoint).unwrap().dtype, Dtype::Bf16);
        }
    }
}
