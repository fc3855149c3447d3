//! The setups of one or more records: what varies, what is held fixed, which one is the reference.
//!
//! Left out: anything about their signals.

use std::collections::{BTreeMap, BTreeSet};

use mantissa_compare::{Member, Prompt, PromptGroup, by_prompt};
use mantissa_evidence::{Configuration, Decoding, Experiment, Record};
use mantissa_numerics::setup::Axis;

use super::input::Evidence;
use super::options::Options;
use super::ordered::{self, natural};
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
    /// Stored repetitions by prompt, in an order that their contents decide.
    pub(super) runs: BTreeMap<usize, Vec<usize>>,
    /// Of those, one of each content.
    pub(super) distinct: BTreeMap<usize, Vec<usize>>,
    /// Runs that hold what another of the same repetition holds, by prompt.
    pub(super) copies: BTreeMap<usize, usize>,
}

/// Every setup of an analysis.
#[derive(Debug)]
pub(super) struct Setups<'a> {
    pub(super) variable: String,
    pub(super) all: Vec<Setup<'a>>,
    /// Names of the reference prompts.
    pub(super) prompts: Vec<String>,
    /// Index of the setup that everything is measured against; absent where none is named and all pairs count alike.
    pub(super) reference: Option<usize>,
}

impl<'a> Setups<'a> {
    /// Gathers the setups of all records; `None` when there is no record.
    pub(super) fn gather(evidence: &[&'a Evidence<'a>], options: &Options) -> Result<Option<Self>> {
        let records: Vec<(&'a Evidence<'a>, &'a Record)> =
            evidence.iter().filter_map(|&one| one.record.map(|record| (one, record))).collect();
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
                    distinct: BTreeMap::new(),
                    copies: BTreeMap::new(),
                });
            }
        }
        // Files are in order, so setups of one name and value keep theirs.
        all.sort_by_cached_key(|setup| {
            [&setup.value, &setup.hardware, &setup.configuration.config_id].map(|name| natural(name))
        });
        make_unique(&mut all);
        let prompts = assign_runs(&records, &mut all)?;
        let reference = reference(&all, options)?;
        Ok(Some(Self { variable, all, prompts, reference }))
    }

    /// Hardware in the order of setups.
    pub(super) fn hardware(&self) -> Vec<&str> {
        in_order(self.all.iter().map(|setup| setup.hardware.as_str()))
    }

    /// Setups on one hardware.
    pub(super) fn on(&self, hardware: &str) -> Vec<usize> {
        (0..self.all.len()).filter(|&i| self.all[i].hardware == hardware).collect()
    }

    /// Whether a field is the variable, or one of several (`batch_size,attention`).
    fn varies(&self, field: &str) -> bool {
        self.variable.split(',').any(|name| canonical(name.trim()) == field)
    }

    /// Whether two setups differ, among what has to be held fixed, at most in the variable and the hardware.
    pub(super) fn controlled(&self, a: usize, b: usize) -> bool {
        held_fixed().filter(|field| !self.varies(field)).all(|field| {
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
            && self.same_weights(a, b)
            && self.also_differ(a, b).is_empty()
    }

    /// Other fields in which two setups differ: `torch_version 2.9.0 and 2.9.1`.
    pub(super) fn also_differ(&self, a: usize, b: usize) -> Vec<String> {
        let (a, b) = (&self.all[a], &self.all[b]);
        let names = a.fields.keys().filter(|name| !self.varies(name) && *name != "hardware");
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

    /// The stored repetitions of a setup on a prompt, each content once.
    pub(super) fn distinct(&self, setup: usize, prompt: usize) -> impl Iterator<Item = Member<'a>> {
        let setup = &self.all[setup];
        let runs = setup.distinct.get(&prompt).into_iter().flatten();
        runs.map(|&run| Member { record: setup.record, run })
    }

    /// Where the runs of a setup on a prompt stand, by what they are and not by where, so that order is nothing.
    pub(super) fn cite(&self, setup: usize, prompt: usize) -> Option<Citation> {
        let setup = &self.all[setup];
        let runs = &setup.record.shell().runs;
        let references = setup.runs.get(&prompt)?.iter().map(|&run| runs[run].reference_id);
        let references: BTreeSet<String> = references.map(|reference| reference.to_string()).collect();
        let references: Vec<String> = references.into_iter().collect();
        let id = &setup.configuration.config_id;
        Some(setup.evidence.cite(format!("runs[config_id={id}, reference_id={}]", references.join(" or "))))
    }

    /// Whether two setups do not declare different weights.
    pub(super) fn same_weights(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.all[a].fields, &self.all[b].fields);
        let alike = |name: &str| a.get(name).zip(b.get(name)).map(|(a, b)| a == b);
        alike("weights_digest").or_else(|| alike("model")).unwrap_or(true)
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
        let decoding = match setup.decoding {
            Decoding::Greedy => "greedy",
            Decoding::TeacherForced => "teacher_forced",
            Decoding::Sampled => "sampled",
        };
        put("decoding", Some(decoding.to_owned()));
        // A record that states none was chosen under none, or does not say: either is another statement.
        let generation = setup.generation.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        put("generation", Some(generation));
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
fn assign_runs(records: &[(&Evidence<'_>, &Record)], setups: &mut [Setup<'_>]) -> Result<Vec<String>> {
    let members: Vec<Member<'_>> = records
        .iter()
        .flat_map(|&(_, record)| (0..record.shell().runs.len()).map(move |run| Member { record, run }))
        .collect();
    let run_of = |index: usize| &members[index].record.shell().runs[members[index].run];
    let groups = by_prompt(&members);
    let name = |group: &PromptGroup| {
        let smallest = group.members.iter().map(|&index| run_of(index).reference_id).min();
        format!("ref_{}", smallest.unwrap_or_default())
    };
    let mut keyed = Vec::with_capacity(groups.len());
    for group in groups {
        // Of a run that states nothing of its prompt, its place among others says nothing.
        let key = match (&group.prompt, group.members.first().map(|&index| members[index])) {
            (Prompt::Unknown { .. }, Some(one)) => ordered::run_contents(one.record, one.run)?,
            (prompt, _) => format!("{prompt:?}"),
        };
        keyed.push((natural(&name(&group)), key, group.members));
    }
    keyed.sort();
    let mut names: Vec<String> = Vec::new();
    for (prompt, ((_, name), _, group)) in keyed.into_iter().enumerate() {
        names.push(name);
        for member in group.into_iter().map(|index| members[index]) {
            let run = &member.record.shell().runs[member.run];
            let setup = setups.iter_mut().find(|setup| {
                std::ptr::eq(setup.record, member.record) && setup.configuration.config_id == run.config_id
            });
            if let Some(setup) = setup {
                setup.runs.entry(prompt).or_default().push(member.run);
            }
        }
        for setup in &mut *setups {
            by_contents(setup, prompt)?;
        }
    }
    for index in 0..names.len() {
        if names[..index].contains(&names[index]) {
            names[index] = format!("{} (prompt {index})", names[index]);
        }
    }
    Ok(names)
}

/// Puts the repetitions of a prompt in an order that what they hold decides, each repetition once.
fn by_contents(setup: &mut Setup<'_>, prompt: usize) -> Result<()> {
    let Some(runs) = setup.runs.get_mut(&prompt) else { return Ok(()) };
    if runs.len() > 1 {
        let stated = &setup.record.shell().runs;
        let mut held = Vec::with_capacity(runs.len());
        for &run in &*runs {
            let contents = ordered::run_contents(setup.record, run)?;
            // Contents without the number of the repetition.
            let (bits, _) = contents.rsplit_once(' ').unwrap_or((&contents, ""));
            held.push((bits.to_owned(), stated[run].rep_id, run));
        }
        held.sort();
        let all = held.len();
        held.dedup_by(|later, earlier| (&later.0, later.1) == (&earlier.0, earlier.1));
        *runs = held.iter().map(|held| held.2).collect();
        if runs.len() < all {
            setup.copies.insert(prompt, all - runs.len());
        }
        held.dedup_by(|later, earlier| later.0 == earlier.0);
        setup.distinct.insert(prompt, held.into_iter().map(|held| held.2).collect());
    } else {
        let runs = runs.clone();
        setup.distinct.insert(prompt, runs);
    }
    Ok(())
}

fn reference(setups: &[Setup<'_>], options: &Options) -> Result<Option<usize>> {
    let Some(asked) = &options.reference else {
        let from_reference_experiment =
            setups.iter().position(|setup| setup.record.shell().metadata.experiment_type == "reference");
        return Ok(from_reference_experiment);
    };
    let by_label = setups.iter().position(|setup| setup.label == *asked);
    let found = by_label.or_else(|| setups.iter().position(|setup| setup.configuration.config_id == *asked));
    found.map(Some).ok_or_else(|| VerdictError::UnknownReference {
        reference: asked.clone(),
        known: setups.iter().map(|setup| setup.label.clone()).collect(),
    })
}
