//! Several files of one experiment as one: a provider may give a file per setup, per prompt or per repetition.

use std::path::{Path, PathBuf};

use mantissa_evidence::error::Result;
use mantissa_evidence::{Configuration, Conflict, Digest, Experiment, Outcome, Record, Run};

use crate::open::{Content, Opened, open, open_despite_damage, read_despite_damage};

/// Opens several files as one experiment. Configurations that are stated alike are one, runs of the same prompt have
/// the same reference, and a file given twice counts once.
///
/// *Errors:* as [`open()`]; a file that holds distances instead of signals.
///
/// ```
/// let [a, b] = ["layer_sweep.json", "layer_sweep_other.json"].map(mantissa_testkit::synthetic);
/// let both = mantissa_published::together(&[a.clone(), b, a], false)?;
/// let mantissa_published::Content::Record(record) = &both.content else { panic!("signals") };
/// assert_eq!((record.shell().configurations.len(), record.shell().runs.len()), (2, 4));
/// assert!(both.warnings.iter().any(|warning| warning.contains("given twice")));
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
pub fn together(paths: &[PathBuf], despite_damage: bool) -> Result<Opened> {
    let mut all: Option<Experiment> = None;
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    let (mut warnings, mut damage, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
    // Nothing depends on the order in which files are given.
    let mut paths = paths.to_vec();
    paths.sort();
    for path in &paths {
        let opened = if despite_damage { open_despite_damage(path)? } else { open(path)? };
        if digests.contains(&opened.digest) {
            warnings.push(format!("{} was given twice and counts once", opened.name));
            continue;
        }
        let (experiment, _) = read_despite_damage(path)?;
        digests.push(opened.digest);
        warnings.extend(opened.warnings.iter().map(|warning| format!("{}: {warning}", opened.name)));
        damage.extend(opened.damage);
        let renamed = match &mut all {
            None => {
                all = Some(experiment);
                Vec::new()
            }
            Some(all) => add(all, experiment, &opened.name),
        };
        conflicts.extend(opened.conflicts.into_iter().map(|found| of_file(found, &opened.name, &renamed)));
        names.push(opened.name);
    }
    let path = paths.first().cloned().unwrap_or_default();
    let experiment = all.unwrap_or_else(|| Experiment {
        metadata: mantissa_evidence::ExperimentMetadata::bare("", "none"),
        configurations: Vec::new(),
        runs: Vec::new(),
    });
    let words: Vec<String> = digests.iter().map(ToString::to_string).collect();
    Ok(Opened {
        content: Content::Record(Record::from_experiment(experiment, Path::new(&names.join(" and ")))),
        digest: Digest::of_bytes(words.concat().as_bytes()),
        name: names.join(" and "),
        path,
        warnings,
        damage,
        conflicts,
        answers: None,
    })
}

/// A conflict inside one of several files: its places with the file's name, its configuration by its new name.
fn of_file(mut found: Conflict, name: &str, renamed: &[(String, String)]) -> Conflict {
    for statement in &mut found.statements {
        statement.place = format!("{name}: {}", statement.place);
    }
    if let Some(id) = &mut found.config_id
        && let Some((_, new)) = renamed.iter().find(|(old, _)| old == id)
    {
        id.clone_from(new);
    }
    found
}

/// Adds an experiment to another one. Returns the configurations that got another name, by the old one.
fn add(all: &mut Experiment, more: Experiment, name: &str) -> Vec<(String, String)> {
    if all.metadata.variable_tested != more.metadata.variable_tested {
        "configuration".clone_into(&mut all.metadata.variable_tested);
    }
    let mut renamed = Vec::new();
    for mut configuration in more.configurations {
        forget_digests(&mut configuration);
        let id = configuration.config_id.clone();
        let known = all.configurations.iter_mut().find(|known| known.config_id == id);
        match known {
            Some(known) => {
                forget_digests(known);
                if alike(known, &configuration) {
                    continue;
                }
                configuration.config_id = format!("{id} ({name})");
                renamed.push((id, configuration.config_id.clone()));
                all.configurations.push(configuration);
            }
            None => all.configurations.push(configuration),
        }
    }
    for mut run in more.runs {
        if let Some((_, new)) = renamed.iter().find(|(old, _)| *old == run.config_id) {
            run.config_id.clone_from(new);
        }
        let same = all.runs.iter().find(|other| prompt(other) == prompt(&run));
        let next = all.runs.iter().map(|other| other.reference_id + 1).max().unwrap_or(0);
        run.reference_id = same.map_or(next, |other| other.reference_id);
        let of_setup = all
            .runs
            .iter()
            .filter(|other| (&other.config_id, other.reference_id) == (&run.config_id, run.reference_id));
        let taken: Vec<u32> = of_setup.map(|other| other.rep_id).collect();
        if taken.contains(&run.rep_id) {
            run.rep_id = taken.iter().max().map_or(0, |last| last + 1);
        }
        all.runs.push(run);
    }
    renamed
}

/// What tells a prompt from others.
fn prompt(run: &Run) -> (&[u32], &str, Option<&str>) {
    (&run.prompt_token_ids, &run.prompt_text, run.prompt_label.as_deref())
}

/// Digests of repetitions are stated by their numbers, which change here.
fn forget_digests(configuration: &mut Configuration) {
    if let Some(extras) = &mut configuration.mantissa {
        extras.reproducibility.digests.clear();
        extras.reproducibility.outcome = Outcome::NotChecked;
        extras.runtime = None;
    }
}

/// Whether two configurations of one name state the same setup.
fn alike(a: &Configuration, b: &Configuration) -> bool {
    let stated = |one: &Configuration| {
        let mut one = one.clone();
        if let Some(extras) = &mut one.mantissa {
            extras.not_finite.clear();
            extras.recipes.clear();
            extras.reproducibility.repetitions = 0;
        }
        one
    };
    stated(a) == stated(b)
}
