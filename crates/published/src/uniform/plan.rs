//! Which runs the script compares: chosen from the shell of a record, before any row is read.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use mantissa_evidence::{Configuration, Record};
use serde_json::Value;

/// Two of something (repetitions, configurations) and their pair.
type Compared = (usize, usize, usize);

/// A configuration and its pair.
type Other = (usize, usize);

/// The comparisons of the four analyses, as indices into [`Plan::pairs`].
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Pairs of runs, each once.
    pub(crate) pairs: Vec<(usize, usize)>,
    /// Per configuration with two stored runs or more: repetitions `i`, `j` and their pair.
    pub(crate) repetitions: Vec<(usize, Vec<Compared>)>,
    /// Configurations with fewer than two stored runs, which the script skips.
    pub(crate) single: Vec<usize>,
    /// The two types of hardware that the script takes: the first in alphabetical order.
    pub(crate) hardware: Option<(String, String)>,
    /// Types of hardware that it never looks at across hardware.
    pub(crate) other_hardware: Vec<String>,
    /// Configurations of equal value on both, and their pair.
    pub(crate) baseline: Vec<Compared>,
    /// By hardware: the reference, and the others with their pair.
    pub(crate) within: Vec<(String, usize, Vec<Other>)>,
    /// Hardware whose values cannot be sorted together, where the script stops.
    pub(crate) unsortable: Vec<String>,
    /// Configurations of different value across hardware, and their pair.
    pub(crate) cross: Vec<Compared>,
    /// Configurations without a stored repetition 0, which drop out of all but the first analysis.
    pub(crate) without_first: Vec<usize>,
    /// Configurations with several references, of which the first is taken.
    pub(crate) several_references: Vec<usize>,
}

impl Plan {
    pub(crate) fn of(record: &Record) -> Self {
        let (configurations, runs) = (&record.shell().configurations, &record.shell().runs);
        let mut plan = Self::default();
        let mut known = BTreeMap::new();
        let mut pair = |plan: &mut Self, a: usize, b: usize| {
            *known.entry((a, b)).or_insert_with(|| {
                plan.pairs.push((a, b));
                plan.pairs.len() - 1
            })
        };
        let of = |config: usize| {
            let id = &configurations[config].config_id;
            (0..runs.len()).filter(move |&run| runs[run].config_id == *id)
        };
        let first: Vec<Option<usize>> =
            (0..configurations.len()).map(|config| of(config).find(|&run| runs[run].rep_id == 0)).collect();
        for (config, &first_run) in first.iter().enumerate() {
            let stored: Vec<usize> = of(config).collect();
            if stored.iter().any(|&run| runs[run].reference_id != runs[stored[0]].reference_id) {
                plan.several_references.push(config);
            }
            if first_run.is_none() {
                plan.without_first.push(config);
            }
            if stored.len() < 2 {
                plan.single.push(config);
                continue;
            }
            let mut repetitions = Vec::new();
            for i in 0..stored.len() {
                for j in i + 1..stored.len() {
                    repetitions.push((i, j, pair(&mut plan, stored[i], stored[j])));
                }
            }
            plan.repetitions.push((config, repetitions));
        }
        let mut hardware: Vec<&String> = configurations.iter().map(|one| &one.hardware).collect();
        hardware.sort_unstable();
        hardware.dedup();
        let on = |name: &String| -> Vec<usize> {
            (0..configurations.len()).filter(|&config| configurations[config].hardware == *name).collect()
        };
        if let [one, two, others @ ..] = hardware.as_slice() {
            plan.hardware = Some(((*one).clone(), (*two).clone()));
            plan.other_hardware = others.iter().map(|&name| name.clone()).collect();
            for a in on(one) {
                let same = |&b: &usize| equal(&configurations[a], &configurations[b]);
                if let Some(b) = on(two).into_iter().find(same)
                    && let (Some(x), Some(y)) = (first[a], first[b])
                {
                    let index = pair(&mut plan, x, y);
                    plan.baseline.push((a, b, index));
                }
                for b in on(two).into_iter().filter(|b| !same(b)) {
                    if let (Some(x), Some(y)) = (first[a], first[b]) {
                        let index = pair(&mut plan, x, y);
                        plan.cross.push((a, b, index));
                    }
                }
            }
        }
        for name in hardware {
            let mut configs = on(name);
            let sortable = configs.iter().all(|&config| {
                order(&configurations[config].variable_value, &configurations[configs[0]].variable_value)
                    .is_some()
            });
            if !sortable {
                plan.unsortable.push(name.clone());
                continue;
            }
            configs.sort_by(|&a, &b| {
                let (a, b) = (&configurations[a].variable_value, &configurations[b].variable_value);
                order(a, b).unwrap_or(Ordering::Equal)
            });
            let (Some(&reference), true) = (configs.first(), configs.len() > 1) else { continue };
            let Some(x) = first[reference] else { continue };
            let mut others = Vec::new();
            for &config in &configs[1..] {
                if let Some(y) = first[config] {
                    others.push((config, pair(&mut plan, x, y)));
                }
            }
            plan.within.push((name.clone(), reference, others));
        }
        plan
    }
}

/// Whether two configurations have the same value, as Python compares.
fn equal(a: &Configuration, b: &Configuration) -> bool {
    let (a, b) = (&a.variable_value, &b.variable_value);
    a == b || order(a, b) == Some(Ordering::Equal)
}

/// The order of two values, as Python sorts: numbers with numbers and truth values, text with text.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    let number =
        |value: &Value| value.as_f64().or_else(|| value.as_bool().map(|truth| f64::from(u8::from(truth))));
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}
