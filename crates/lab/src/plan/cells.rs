//! Configurations of a plan: the reference, and what experiments vary of it.

use serde::Serialize;

use super::values::{Backend, CellAxis, CellSetup, CellValue, Format};

/// One configuration, run in a process of its own.
///
/// Example: [`super::Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Its name: `reference`, or what differs from it.
    pub id: String,
    /// What computes it.
    pub backend: Backend,
    /// The model: a folder, or a name that the backend finds.
    pub model: String,
    /// How it runs.
    pub setup: CellSetup,
}

/// Configurations that are put together into one output, the reference first.
///
/// Example: [`super::Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// File or folder of the output, within that of the plan.
    pub output: String,
    /// What it varies.
    pub variables: Vec<CellAxis>,
    /// Places in [`super::Plan::cells`].
    pub cells: Vec<usize>,
}

/// What an experiment asks for.
pub(super) struct Variation {
    pub(super) name: String,
    pub(super) output: Option<String>,
    pub(super) varied: Vec<(CellAxis, Vec<CellValue>)>,
    /// The reference with what the experiment fixes otherwise.
    pub(super) set: CellSetup,
}

/// Every configuration once, and what each experiment is made of.
pub(super) fn expand(
    backend: Backend,
    reference: &CellSetup,
    variations: &[Variation],
    format: Format,
    model_of: &dyn Fn(&CellSetup) -> String,
) -> (Vec<Cell>, Vec<Experiment>) {
    let cell =
        |id: String, setup: &CellSetup| Cell { id, backend, model: model_of(setup), setup: setup.clone() };
    let mut cells = vec![cell("reference".to_owned(), reference)];
    let named = |name: &str| match format {
        Format::Json => format!("{name}.json"),
        Format::Container => name.to_owned(),
    };
    let mut experiments = vec![Experiment {
        name: "reference".to_owned(),
        output: named("reference_baseline"),
        variables: Vec::new(),
        cells: vec![0],
    }];
    for variation in variations {
        let grid = variation.varied.iter().fold(vec![variation.set.clone()], |setups, (axis, values)| {
            let each =
                |setup: CellSetup| values.iter().map(move |value| setup.clone().with(*axis, value.clone()));
            setups.into_iter().flat_map(each).collect()
        });
        let mut members = vec![0];
        for setup in &grid {
            let place = cells.iter().position(|known| known.setup == *setup).unwrap_or_else(|| {
                cells.push(cell(id_of(reference, setup), setup));
                cells.len() - 1
            });
            if !members.contains(&place) {
                members.push(place);
            }
        }
        let mut variables: Vec<CellAxis> = variation.varied.iter().map(|(axis, _)| *axis).collect();
        let fixed = variation.set.iter().filter(|(axis, value)| reference.get(*axis) != Some(*value));
        variables
            .extend(fixed.map(|(axis, _)| axis).filter(|axis| !variables.contains(axis)).collect::<Vec<_>>());
        experiments.push(Experiment {
            name: variation.name.clone(),
            output: variation
                .output
                .clone()
                .unwrap_or_else(|| named(&format!("{}_experiment", variation.name))),
            variables,
            cells: members,
        });
    }
    (cells, experiments)
}

/// What differs from the reference, as a name: `batch_size_2`, `attention_eager-dtype_f16`.
fn id_of(reference: &CellSetup, setup: &CellSetup) -> String {
    let differs = setup.iter().filter(|(axis, value)| reference.get(*axis) != Some(*value));
    let words: Vec<String> = differs.map(|(axis, value)| format!("{axis}_{value}")).collect();
    words.join("-").replace(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c), "-")
}
