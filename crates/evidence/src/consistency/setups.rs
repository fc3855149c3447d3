//! What a configuration says of its setup in several places, and the names and digests that the whole file bears.

use mantissa_numerics::recipe::{KernelRecipe, MatmulRecipe, ObservedKernel};
use mantissa_numerics::setup::Axis;
use mantissa_numerics::{Dtype, Phase};
use serde_json::Value;

use super::conflict::{About, Conflict, Statement, among};
use crate::experiment::{Configuration, Experiment, ExperimentMetadata};
use crate::run::Run;
use crate::words::{is_unquantized, plain, read, says_nothing};

pub(super) fn conflicts(experiment: &Experiment) -> Vec<Conflict> {
    let mut found: Vec<Conflict> = names(experiment).into_iter().collect();
    found.extend(weights(experiment));
    for (index, configuration) in experiment.configurations.iter().enumerate() {
        let id = Some(configuration.config_id.as_str());
        for axis in Axis::ALL {
            let stated = of_axis(experiment, index, axis);
            found.extend(among(About::Axis(axis), id, stated, |a, b| same(axis, a, b)));
        }
        for (name, stated) in versions(configuration, index) {
            found.extend(among(About::Version(name), id, stated, same_version));
        }
    }
    found
}

/// Everything that the file says of an axis of one configuration.
fn of_axis(experiment: &Experiment, index: usize, axis: Axis) -> Vec<Statement> {
    let configuration = &experiment.configurations[index];
    let at = |field: &str| format!("configurations[{index}].{field}");
    let mut stated = Vec::new();
    let mut say = |field: &str, value: &dyn ToString| {
        let value = value.to_string();
        if !says_nothing(&value) {
            stated.push(Statement::new(at(field), &value));
        }
    };
    if let Some(value) = tested(configuration, &experiment.metadata, axis) {
        say("variable_value", &value);
    }
    let fixed = &configuration.fixed_params;
    match axis {
        Axis::Hardware => say("hardware", &configuration.hardware),
        Axis::Attention => say("fixed_params.attention_impl", &fixed.attention_impl),
        Axis::Quantization => say("fixed_params.quantization", &fixed.quantization),
        Axis::Compile => say("fixed_params.compile", &fixed.compile),
        Axis::ConcurrentStreams => say("fixed_params.concurrent_streams", &fixed.concurrent_streams),
        // A provider without ranks may write 0.
        Axis::TpSize => say("fixed_params.tp_size", &fixed.tp_size.max(1)),
        Axis::EpSize => say("fixed_params.ep_size", &fixed.ep_size.max(1)),
        _ => {}
    }
    if let Some(extras) = &configuration.mantissa {
        let setup = &extras.setup;
        let field = format!("mantissa.setup.{}", axis.name());
        match axis {
            Axis::Hardware => say(&field, &setup.hardware),
            Axis::Attention => say(&field, &setup.attention),
            Axis::Quantization => say(&field, &setup.quantization),
            Axis::Compile => say(&field, &setup.compile),
            Axis::ConcurrentStreams => say(&field, &setup.concurrent_streams),
            Axis::TpSize => say(&field, &setup.tp_size.max(1)),
            Axis::EpSize => say(&field, &setup.ep_size.max(1)),
            Axis::Dtype => say(&field, &setup.dtype.name()),
            Axis::BatchSize => say(&field, &setup.batch_size),
            _ => {}
        }
        if let Some(value) = setup.axes.get(axis.name()) {
            say(&format!("mantissa.setup.axes.{}", axis.name()), value);
        }
        if let Some(value) = extras.observed.as_ref().and_then(|found| found.axes.get(axis.name())) {
            say(&format!("mantissa.observed.axes.{}", axis.name()), value);
        }
    }
    if axis == Axis::BatchSize {
        stated.extend(neighbours(experiment, configuration));
    }
    stated.extend(ran(configuration, index, axis));
    stated
}

/// What the kernels that ran say, in a record of this program's own engine: rows of the output projection in decode,
/// and the format that it leaves.
fn ran(configuration: &Configuration, index: usize, axis: Axis) -> Option<Statement> {
    let extras = configuration.mantissa.as_ref()?;
    let decode = |kernel: &&ObservedKernel| (kernel.phase, kernel.op.as_str()) == (Phase::Decode, "o_proj");
    let kernel = extras.recipes.iter().filter(|_| extras.setup.engine == "mantissa-cpu").find(decode)?;
    let place = |what: &str| format!("configurations[{index}].mantissa.recipes, {what} of o_proj in decode,");
    match (axis, kernel.recipe) {
        (Axis::BatchSize, _) => Some(Statement::new(place("rows"), &kernel.m)),
        // Where a bias follows, it is in binary32 whatever is stored.
        (Axis::Dtype, KernelRecipe::Matmul(MatmulRecipe { output, .. })) if output != Dtype::F32 => {
            Some(Statement::new(place("format"), output.name()))
        }
        _ => None,
    }
}

/// The batch that the sequences beside a run make. What shared single steps in vLLM is no batch.
fn neighbours(experiment: &Experiment, configuration: &Configuration) -> Option<Statement> {
    let setup = &configuration.mantissa.as_ref()?.setup;
    if !matches!(setup.engine.as_str(), "mantissa-cpu" | "transformers") {
        return None;
    }
    let mine = |run: &Run| run.config_id == configuration.config_id && !run.neighbours.is_empty();
    // One that differs from the setup, if there is one.
    let batch = |run: &Run| run.neighbours.len() + 1;
    let (index, run) =
        experiment.runs.iter().enumerate().find(|(_, run)| {
            mine(run) && u32::try_from(batch(run)).unwrap_or(u32::MAX) != setup.batch_size
        })?;
    Some(Statement::new(format!("runs[{index}].mantissa.neighbours, with the run itself"), &batch(run)))
}

/// What `variable_value` says of an axis, where it is what the experiment tests. Files of Mantissa that test nothing
/// have their batch size there.
fn tested(configuration: &Configuration, metadata: &ExperimentMetadata, axis: Axis) -> Option<String> {
    let word = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let names: Vec<&str> = metadata.variable_tested.split(',').map(|name| canonical(name.trim())).collect();
    let value = &configuration.variable_value;
    if names == ["none"] {
        return (axis == Axis::BatchSize && metadata.mantissa.is_some() && value.is_u64())
            .then(|| value.to_string());
    }
    let place = names.iter().position(|name| *name == axis.name());
    match (value, names.as_slice()) {
        (Value::Object(several), _) => several.get(axis.name()).and_then(word),
        (Value::String(text), [_, _, ..]) => {
            let parts: Vec<&str> = text.split(',').collect();
            let part =
                place.filter(|_| parts.len() == names.len()).map(|place| parts[place].trim().to_owned());
            part.filter(|part| !part.is_empty())
        }
        (value, [_]) => place.and_then(|_| word(value)),
        _ => None,
    }
}

/// The axis that a variable's name means.
fn canonical(name: &str) -> &str {
    match name {
        "attention_impl" | "attn_implementation" | "attention_implementation" => "attention",
        "quantization_format" => "quantization",
        "gpu" => "hardware",
        other => other,
    }
}

/// Whether two words of an axis mean the same.
fn same(axis: Axis, a: &str, b: &str) -> bool {
    let (x, y) = (plain(a), plain(b));
    if x == y {
        return true;
    }
    if axis == Axis::Quantization {
        return is_unquantized(a) && is_unquantized(b);
    }
    match (read(axis, a), read(axis, b)) {
        (Ok(a), Ok(b)) => a == b,
        // A device by a longer and a shorter name.
        _ if axis == Axis::Hardware => within(&x, &y) || within(&y, &x),
        _ => false,
    }
}

/// Whether all words of `part` stand in `whole`.
fn within(part: &str, whole: &str) -> bool {
    part.split(' ').all(|word| whole.split(' ').any(|other| other == word))
}

/// Whether one name is the other, without the owner before it, upper case or separators.
pub(super) fn same_name(a: &str, b: &str) -> bool {
    let bare = |name: &str| plain(name.trim_end_matches('/').rsplit('/').next().unwrap_or(name));
    bare(a) == bare(b)
}

/// The model's name. A file of several models bears that of one of them.
fn names(experiment: &Experiment) -> Option<Conflict> {
    let whole = &experiment.metadata.model;
    if says_nothing(whole) {
        return None;
    }
    let mut stated = vec![Statement::new("experiment_metadata.model", whole)];
    for (index, configuration) in experiment.configurations.iter().enumerate() {
        let Some(extras) = &configuration.mantissa else { continue };
        let id = &extras.setup.model.id;
        if says_nothing(id) {
            continue;
        }
        if same_name(id, whole) && several_models(experiment) {
            return None;
        }
        stated.push(Statement::new(format!("configurations[{index}].mantissa.setup.model.id"), id));
    }
    among(About::Model, None, stated, same_name)
}

/// Whether the configurations are of several models, which is no conflict: the model may be what is varied.
fn several_models(experiment: &Experiment) -> bool {
    let ids: Vec<&str> = experiment
        .configurations
        .iter()
        .filter_map(|configuration| Some(configuration.mantissa.as_ref()?.setup.model.id.as_str()))
        .collect();
    ids.windows(2).any(|pair| !same_name(pair[0], pair[1]))
}

/// The digest of the weights.
fn weights(experiment: &Experiment) -> Option<Conflict> {
    let whole = experiment.metadata.mantissa.as_ref()?.weights_digest?;
    let mut stated = vec![Statement::new("experiment_metadata.mantissa.weights_digest", &whole)];
    for (index, configuration) in experiment.configurations.iter().enumerate() {
        let digest = configuration.mantissa.as_ref().and_then(|extras| extras.setup.model.weights_digest);
        let place = || format!("configurations[{index}].mantissa.setup.model.weights_digest");
        stated.extend(digest.map(|digest| Statement::new(place(), &digest)));
    }
    among(About::Weights, None, stated, |a, b| a == b)
}

/// Versions of libraries by name, with all that is said of each.
fn versions(configuration: &Configuration, index: usize) -> Vec<(&'static str, Vec<Statement>)> {
    let extras = configuration.mantissa.as_ref();
    let observed = extras.and_then(|extras| extras.observed.as_ref());
    let setup = extras.and_then(|extras| extras.setup.cuda_version.as_ref());
    let engine = extras.map(|extras| &extras.setup).filter(|setup| setup.engine == "transformers");
    let fields = [
        ("cuda", &configuration.cuda_version),
        ("torch", &configuration.torch_version),
        ("transformers", &configuration.transformers_version),
        ("flash_attn", &configuration.flash_attn_version),
        ("python", &configuration.python_version),
    ];
    let stated = fields.into_iter().map(|(name, field)| {
        let mut stated = Vec::new();
        let mut say = |place: String, value: Option<&String>| {
            if let Some(value) = value.filter(|value| !says_nothing(value)) {
                stated.push(Statement::new(format!("configurations[{index}].{place}"), value));
            }
        };
        say(format!("{name}_version"), field.as_ref());
        if name == "cuda" {
            say("mantissa.setup.cuda_version".to_owned(), setup);
        }
        if name == "transformers" {
            say("mantissa.setup.engine_version".to_owned(), engine.map(|setup| &setup.engine_version));
        }
        let found = observed.and_then(|observed| observed.versions.get(name));
        say(format!("mantissa.observed.versions.{name}"), found);
        (name, stated)
    });
    stated.collect()
}

/// Whether one version is the other, or its beginning: `13.0` and `13.0.2`, `2.11.0` and `2.11.0+cu130`.
fn same_version(a: &str, b: &str) -> bool {
    let parts = |version: &str| {
        let public = version.split('+').next().unwrap_or(version);
        public.trim_start_matches('v').split('.').map(str::to_owned).collect::<Vec<_>>()
    };
    let (a, b) = (parts(a), parts(b));
    a.iter().zip(&b).all(|(x, y)| x == y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_for_the_same_are_no_conflict_and_other_values_are() {
        for (axis, a, b, alike) in [
            (Axis::Hardware, "h100", "NVIDIA H100 80GB HBM3", true),
            (Axis::Hardware, "B200", "NVIDIA B200", true),
            (Axis::Hardware, "h100", "h200", false),
            (Axis::Attention, "FlashAttention-2", "flash_attention_2", true),
            (Axis::Attention, "sdpa", "eager", false),
            (Axis::Quantization, "none", "bf16", true),
            (Axis::Quantization, "awq", "none", false),
            (Axis::Quantization, "gguf-q4_1", "gguf-q4_1-dequantized", false),
            (Axis::BatchSize, "4", "4", true),
            (Axis::BatchSize, "4", "eight", false),
            (Axis::Compile, "true", "on", true),
            (Axis::Dtype, "torch.bfloat16", "bf16", true),
        ] {
            assert_eq!(same(axis, a, b), alike, "{axis:?} {a} {b}");
        }
        assert!(same_name("HuggingFaceTB/SmolLM2-135M", "smollm2_135m"));
        assert!(!same_name("Llama-3-8B", "Llama-3-70B"));
        assert!(same_version("13.0", "13.0.2") && same_version("2.11.0+cu130", "2.11.0"));
        assert!(!same_version("2.11.0", "2.9.1"));
    }
}
