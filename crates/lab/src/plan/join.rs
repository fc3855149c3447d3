//! One experiment out of the containers of its configurations.

use mantissa_evidence::{Configuration, Experiment as Evidence, Run};

use super::cells::{Cell, Experiment};
use super::values::CellAxis;

/// Puts what the cells left together, the reference first. Each configuration is named by its hardware and its cell.
pub(super) fn join(experiment: &Experiment, cells: Vec<(&Cell, Evidence)>) -> Option<Evidence> {
    let mut metadata = cells.first()?.1.metadata.clone();
    metadata.experiment_type.clone_from(&experiment.name);
    metadata.variable_tested = match experiment.variables.as_slice() {
        [] => "none".to_owned(),
        variables => variables.iter().map(|axis| axis.name()).collect::<Vec<_>>().join(","),
    };
    if let Some(provenance) = &mut metadata.mantissa {
        // Quantized weights are others.
        let digest = |evidence: &Evidence| Some(evidence.metadata.mantissa.as_ref()?.weights_digest);
        if cells.iter().any(|(_, evidence)| digest(evidence) != Some(provenance.weights_digest)) {
            provenance.weights_digest = None;
        }
    }
    let (mut configurations, mut runs) = (Vec::new(), Vec::new());
    for (cell, evidence) in cells {
        for (number, configuration) in evidence.configurations.into_iter().enumerate() {
            let again = if number == 0 { String::new() } else { format!("_{number}") };
            let config_id = format!("{}_{}{again}", slug(&configuration.hardware), cell.id);
            let of_it = evidence.runs.iter().filter(|run| run.config_id == configuration.config_id);
            runs.extend(of_it.map(|run| Run { config_id: config_id.clone(), ..run.clone() }));
            let variable_value = value(&experiment.variables, cell);
            configurations.push(Configuration { config_id, variable_value, ..configuration });
        }
    }
    Some(Evidence { metadata, configurations, runs })
}

/// The value of what is varied: as it is if it is one, else all of them in words.
fn value(variables: &[CellAxis], cell: &Cell) -> serde_json::Value {
    let of = |axis: &CellAxis| cell.setup.get(*axis);
    match variables {
        [] => serde_json::Value::from("none"),
        [axis] => of(axis).and_then(|value| serde_json::to_value(value).ok()).unwrap_or_default(),
        several => {
            let words = several.iter().filter_map(of).map(ToString::to_string);
            serde_json::Value::from(words.collect::<Vec<_>>().join(","))
        }
    }
}

/// A name without blanks: `NVIDIA-H100-80GB-HBM3`.
fn slug(hardware: &str) -> String {
    hardware.split_whitespace().collect::<Vec<_>>().join("-")
}
