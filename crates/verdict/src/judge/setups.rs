//! The setups of one or more records: what varies, what is held fixed, which one is the reference.
//!
//! Left out: anything about their signals.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_compare::{Member, by_prompt};
use mantissa_evidence::{Configuration, Experiment, Record};
use mantissa_numerics::setup::Axis;

use super::input::Evidence;
use super::options::Options;
use crate::analysis::Citation;
use crate::{Result, VerdictError};

/// Axes that must agree for two setups to answer a question about another field, where both state them.
fn held_fixed() -> impl Iterator<Item = &'static str> {
    Axis::ALL.into_iter().filter(|axis| !matches!(axis, Axis::Hardware | Axis::Dtype)).map(Axis::name)
}

/// What stands for a field that nobody stated.
const NOT_STATED: &str = "not stated";

/// One configuration of one record.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    /// Unique in the analysis.
    pub(super) label: String,
    pub(super) evidence: &'a Evidence<'a>,
    pub(super) record: &'a Record,
    pub(super) configuration: &'a Configuration,
    pub(super) hardware: String,
    /// Value of the variable.
    pub(super) value: String,
    fields: BTreeMap<String, String>,
    /// Stored repetitions by prompt.
    pub(super) runs: BTreeMap<usize, Vec<usize>>,
}

/// Every setup of an analysis.
#[derive(Debug)]
pub(super) struct Setups<'a> {
    pub(super) variable: String,
    pub(super) all: Vec<Setup<'a>>,
    /// Names of the reference prompts.
    pub(super) prompts: Vec<String>,
    /// Index of the setup that everything is measured against.
    pub(super) reference: usize,
}

impl<'a> Setups<'a> {
    /// Gathers the setups of all records; `None` when there is no record.
    pub(super) fn gather(evidence: &'a [Evidence<'a>], options: &Options) -> Result<Option<Self>> {
        let records: Vec<(&Evidence<'a>, &'a Record)> =
            evidence.iter().filter_map(|one| one.record.map(|record| (one, record))).collect();
        if records.is_empty() {
            return Ok(None);
        }
        let variable = variable(records.iter().map(|(_, record)| record.shell()), options)?;
        let mut all: Vec<Setup<'a>> = Vec::new();
        for &(evidence, record) in &records {
            for configuration in &record.shell().configurations {
                let fields = fields(record.shell(), configuration);
                all.push(Setup {
                    label: configuration.config_id.clone(),
                    evidence,
                    record,
                    configuration,
                    hardware: configuration.hardware.clone(),
                    value: fields.get(&variable).cloned().unwrap_or_else(|| NOT_STATED.to_owned()),
                    fields,
                    runs: BTreeMap::new(),
                });
            }
        }
        make_unique(&mut all);
        let prompts = assign_runs(&records, &mut all);
        let reference = reference(&all, options)?;
        Ok(Some(Self { variable, all, prompts, reference }))
    }

    /// Hardware in the order given.
    pub(super) fn hardware(&self) -> Vec<&str> {
        in_order(self.all.iter().map(|setup| setup.hardware.as_str()))
    }

    /// Setups on one hardware.
    pub(super) fn on(&self, hardware: &str) -> Vec<usize> {
        (0..self.all.len()).filter(|&i| self.all[i].hardware == hardware).collect()
    }

    /// Whether two setups differ, among what has to be held fixed, at most in the variable and the hardware.
    pub(super) fn controlled(&self, a: usize, b: usize) -> bool {
        held_fixed().filter(|field| *field != self.variable).all(|field| {
            let (a, b) = (self.all[a].fields.get(field), self.all[b].fields.get(field));
            a.zip(b).is_none_or(|(a, b)| a == b)
        })
    }

    /// Whether two setups of different files bear the same name and state nothing in which they differ.
    pub(super) fn stated_alike(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.all[a], &self.all[b]);
        x.configuration.config_id == y.configuration.config_id
            && x.hardware == y.hardware
            && x.value == y.value
            && self.also_differ(a, b).is_empty()
    }

    /// Other fields in which two setups differ: `torch_version 2.9.0 and 2.9.1`.
    pub(super) fn also_differ(&self, a: usize, b: usize) -> Vec<String> {
        let (a, b) = (&self.all[a], &self.all[b]);
        let names = a.fields.keys().filter(|name| **name != self.variable && *name != "hardware");
        let differing = names.filter_map(|name| {
            let (x, y) = (&a.fields[name], b.fields.get(name)?);
            (x != y).then(|| format!("{name} {x} and {y}"))
        });
        differing.collect()
    }

    /// The first stored run of a setup on a prompt.
    pub(super) fn member(&self, setup: usize, prompt: usize) -> Option<Member<'a>> {
        let setup = &self.all[setup];
        Some(Member { record: setup.record, run: *setup.runs.get(&prompt)?.first()? })
    }

    /// Where the run of a setup on a prompt stands.
    pub(super) fn cite(&self, setup: usize, prompt: usize) -> Option<Citation> {
        let run = self.all[setup].runs.get(&prompt)?.first()?;
        Some(self.all[setup].evidence.cite(format!("runs[{run}]")))
    }

    /// The declared model: its weights' digest, else its id, else nothing.
    pub(super) fn model(&self, setup: usize) -> Option<&str> {
        let fields = &self.all[setup].fields;
        fields.get("weights_digest").or_else(|| fields.get("model")).map(String::as_str)
    }
}

/// Distinct items in the order of first appearance.
pub(super) fn in_order<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for item in items {
        if !distinct.contains(&item) {
            distinct.push(item);
        }
    }
    distinct
}

/// The name of a field: `attention_impl` is `attention`.
pub(super) fn canonical(field: &str) -> String {
    match field {
        "attention_impl" | "attn_implementation" | "attention_implementation" => "attention",
        "quantization_format" => "quantization",
        "gpu" => "hardware",
        other => other,
    }
    .to_owned()
}

/// Whether an experiment's declared variable is one: a reference experiment varies nothing.
fn declared_variable(experiment: &Experiment) -> Option<String> {
    let variable = canonical(&experiment.metadata.variable_tested);
    (!matches!(variable.as_str(), "" | "none" | "reference")).then_some(variable)
}

fn variable<'a>(
    experiments: impl Iterator<Item = &'a Experiment> + Clone,
    options: &Options,
) -> Result<String> {
    let declared = in_order(experiments.clone().filter_map(declared_variable));
    let Some(asked) = &options.variable else {
        return match declared.as_slice() {
            [] => Ok("configuration".to_owned()),
            [one] => Ok(one.clone()),
            several => Err(VerdictError::SeveralVariables { declared: several.to_vec() }),
        };
    };
    let asked = canonical(asked);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for experiment in experiments {
        known.extend(experiment.configurations.iter().flat_map(|one| fields(experiment, one).into_keys()));
    }
    if known.contains(&asked) {
        Ok(asked)
    } else {
        Err(VerdictError::UnknownVariable { variable: asked, known: known.into_iter().collect() })
    }
}

/// Everything a configuration states about its setup, by name.
fn fields(experiment: &Experiment, configuration: &Configuration) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty() && value != NOT_STATED) {
            fields.insert(name.to_owned(), value);
        }
    };
    let fixed = &configuration.fixed_params;

    put("hardware", Some(configuration.hardware.clone()));
    put("compile", Some(fixed.compile.to_string()));
    put("attention", Some(fixed.attention_impl.clone()));
    put("quantization", Some(fixed.quantization.clone()));
    put("tp_size", Some(fixed.tp_size.to_string()));
    put("ep_size", Some(fixed.ep_size.to_string()));
    put("concurrent_streams", Some(fixed.concurrent_streams.to_string()));
    put("cuda_version", configuration.cuda_version.clone());
    put("torch_version", configuration.torch_version.clone());
    put("transformers_version", configuration.transformers_version.clone());
    put("flash_attn_version", configuration.flash_attn_version.clone());
    put("python_version", configuration.python_version.clone());
    if let Some(extras) = &configuration.mantissa {
        let setup = &extras.setup;
        put("model", Some(setup.model.id.clone()));
        put("weights_digest", setup.model.weights_digest.map(|digest| digest.to_string()));
        put("engine", Some(setup.engine.clone()));
        put("engine_version", Some(setup.engine_version.clone()));
        put("dtype", Some(setup.dtype.name().to_owned()));
        put("batch_size", Some(setup.batch_size.to_string()));
        put("attention", Some(setup.attention.clone()));
        put("quantization", Some(setup.quantization.clone()));
        for (axis, value) in &setup.axes {
            put(axis, Some(value.clone()));
        }
    }
    if let Some(variable) = declared_variable(experiment) {
        let value = &configuration.variable_value;
        let value =
            value.as_str().map(str::to_owned).or_else(|| (!value.is_null()).then(|| value.to_string()));
        put(&variable, value);
    }
    fields
}

/// Labels: the configuration's id, with hardware and then file name where that is not enough.
fn make_unique(setups: &mut [Setup<'_>]) {
    for attempt in 0..3 {
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        for setup in &*setups {
            *times.entry(setup.label.clone()).or_default() += 1;
        }
        for (index, setup) in setups.iter_mut().enumerate().filter(|(_, setup)| times[&setup.label] > 1) {
            let id = &setup.configuration.config_id;
            setup.label = match attempt {
                0 => format!("{id}@{}", setup.hardware),
                1 => format!("{id}@{} ({})", setup.hardware, setup.evidence.source.name),
                _ => format!("{id}@{} ({}, {index})", setup.hardware, setup.evidence.source.name),
            };
        }
    }
}

/// Groups runs by prompt over all records, and names the prompts.
fn assign_runs(records: &[(&Evidence<'_>, &Record)], setups: &mut [Setup<'_>]) -> Vec<String> {
    let members: Vec<Member<'_>> = records
        .iter()
        .flat_map(|&(_, record)| (0..record.shell().runs.len()).map(move |run| Member { record, run }))
        .collect();
    let mut names: Vec<String> = Vec::new();
    for (prompt, group) in by_prompt(&members).into_iter().enumerate() {
        let mut name = None;
        for member in group.members.into_iter().map(|index| members[index]) {
            let run = &member.record.shell().runs[member.run];
            name.get_or_insert_with(|| format!("ref_{}", run.reference_id));
            let setup = setups.iter_mut().find(|setup| {
                std::ptr::eq(setup.record, member.record) && setup.configuration.config_id == run.config_id
            });
            if let Some(setup) = setup {
                setup.runs.entry(prompt).or_default().push(member.run);
            }
        }
        names.push(name.unwrap_or_default());
    }
    for index in 0..names.len() {
        if names[..index].contains(&names[index]) {
            names[index] = format!("{} (prompt {index})", names[index]);
        }
    }
    names
}

fn reference(setups: &[Setup<'_>], options: &Options) -> Result<usize> {
    let Some(asked) = &options.reference else {
        let from_reference_experiment =
            setups.iter().position(|setup| setup.record.shell().metadata.experiment_type == "reference");
        return Ok(from_reference_experiment.unwrap_or(0));
    };
    let by_label = setups.iter().position(|setup| setup.label == *asked);
    by_label.or_else(|| setups.iter().position(|setup| setup.configuration.config_id == *asked)).ok_or_else(
        || VerdictError::UnknownReference {
            reference: asked.clone(),
            known: setups.iter().map(|setup| setup.label.clone()).collect(),
        },
    )
}
