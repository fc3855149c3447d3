//! Layout `cuda_comparison`: two layer sweeps compared, a distance per layer.

use std::any::Any;
use std::path::Path;

use mantissa_evidence::Verification;
use mantissa_evidence::error::{Flaw, Result};
use mantissa_evidence::verification::{CellDistance, Machine};
use mantissa_numerics::Phase;
use serde::Deserialize;

use crate::definitions::arithmetic::{count, l2};
use crate::json::check::{self, RESTORE};
use crate::json::entries::{Entries, NOT_STATED, Setting};
use crate::json::numbers;
use crate::layer_sweep::reader::LayerSweep;
use crate::layout::{FileSignature, Layout, Read, Statement};
use crate::sheet::{Sheet, Signal};

/// The layout.
pub(crate) const LAYOUT: Layout = Layout {
    name: "cuda_comparison",
    holds: "distances per layer between two versions of CUDA",
    signature: FileSignature::Keys(&[&["layer_deviations", "cuda_versions"]]),
    read,
};

/// The content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct File {
    cuda_versions: Versions,
    #[serde(default)]
    setup_verification: Verified,
    #[serde(default)]
    reproducibility: Entries<String, bool>,
    layer_deviations: Entries<String, Deviation>,
    #[serde(default)]
    error_propagation: Propagation,
    #[serde(default)]
    diagnosis: Diagnosis,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Versions {
    cuda1: String,
    cuda2: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Verified {
    #[serde(default)]
    checks: Entries<String, Checked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Checked {
    value1: Setting,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Deviation {
    #[serde(deserialize_with = "mantissa_evidence::lenient::number")]
    l2_distance: f64,
    #[serde(default, deserialize_with = "numbers::maybe")]
    relative_diff: Option<f64>,
    #[serde(default, deserialize_with = "numbers::maybe")]
    max_diff: Option<f64>,
    dims_affected: Option<u64>,
    #[serde(default, deserialize_with = "numbers::maybe")]
    norm1: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
struct Propagation {
    #[serde(default, deserialize_with = "numbers::maybe")]
    first_l2: Option<f64>,
    #[serde(default, deserialize_with = "numbers::maybe")]
    last_l2: Option<f64>,
    #[serde(default, deserialize_with = "numbers::maybe")]
    growth_factor: Option<f64>,
    grows: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Diagnosis {
    conclusion: Option<String>,
}

fn read(json: &[u8], origin: &Path) -> Result<Read> {
    let file: File = check::document(json, origin)?;
    if file.layer_deviations.len() == 0 {
        return Err(Flaw::new("layer_deviations", "no layer is stored", RESTORE).in_file(origin));
    }
    let warnings = vec![
        "the file keeps a distance per layer and not the vectors: its last layer is judged, whose distance every layer \
         before leads to; the layer sweeps it was made from hold the vectors"
            .to_owned(),
        "repetitions that are said to agree are taken to be 0 apart".to_owned(),
    ];
    Ok(Read::new(file, warnings))
}

impl File {
    fn last(&self) -> Option<(&String, &Deviation)> {
        self.layer_deviations.iter().next_back()
    }

    /// The two layer sweeps among the files beside it.
    fn sweeps<'a>(&self, beside: &[&'a dyn Statement]) -> [Option<&'a LayerSweep>; 2] {
        let sweeps: Vec<&LayerSweep> =
            beside.iter().filter_map(|&file| (file as &dyn Any).downcast_ref()).collect();
        [&self.cuda_versions.cuda1, &self.cuda_versions.cuda2].map(|version| {
            let of_version =
                |sweep: &&&LayerSweep| sweep.file.software(&["cuda_build"]).as_ref() == Some(version);
            sweeps.iter().find(of_version).copied()
        })
    }
}

impl Statement for File {
    fn verifications(&self) -> Vec<Verification> {
        let Some((layer, last)) = self.last() else { return Vec::new() };
        let Versions { cuda1, cuda2 } = &self.cuda_versions;
        let place = format!("layer_deviations.{layer}.l2_distance");
        let distance = CellDistance { mean: last.l2_distance, max: None, rounding: 0.0, place };
        let places = [cuda1, cuda2].map(|version| {
            let agrees = self.reproducibility.get(version) == Some(&true);
            agrees.then(|| format!("reproducibility.{version}"))
        });
        let stated = |name: &str| self.setup_verification.checks.get(name).map(|one| one.value1.0.clone());
        let machine = Machine {
            gpu: stated("GPU").unwrap_or_else(|| NOT_STATED.to_owned()),
            environment: stated("PyTorch")
                .map(|torch| ("torch_version".to_owned(), torch))
                .into_iter()
                .collect(),
        };
        let repeats = [places[0].as_deref(), places[1].as_deref()];
        let of = (Phase::Prefill, "hidden_states");
        vec![super::two("cuda_version", [cuda1.clone(), cuda2.clone()], machine, of, distance, repeats)]
    }

    fn sheet(&self, beside: &[&dyn Statement]) -> Sheet {
        let mut sheet = Sheet::of("cuda_version");
        sheet.signal(Signal::HiddenStates);
        let sweeps = self.sweeps(beside);
        for (layer, one) in self.layer_deviations.iter() {
            let place = format!("layer_deviations.{layer}");
            if let Some(norm) = one.norm1 {
                let relative = one.l2_distance / norm;
                let name = format!("relative difference, layer {layer}");
                sheet.figure(&name, one.relative_diff, relative, &format!("{place}.relative_diff"));
            }
            if let [Some(a), Some(b)] = sweeps {
                from_vectors(&mut sheet, layer, one, [a, b], &place);
            }
        }
        let ends = self.layer_deviations.values().next().zip(self.last().map(|(_, last)| last));
        if let Some((first, last)) = ends {
            let Propagation { first_l2, last_l2, growth_factor, grows } = self.error_propagation;
            sheet.figure("first distance", first_l2, first.l2_distance, "error_propagation.first_l2");
            sheet.figure("last distance", last_l2, last.l2_distance, "error_propagation.last_l2");
            let growth = last.l2_distance / first.l2_distance;
            sheet.figure("growth", growth_factor, growth, "error_propagation.growth_factor");
            let follows = (last.l2_distance > first.l2_distance).to_string();
            sheet.text("grows", grows.map(|word| word.to_string()), follows, "error_propagation.grows", None);
        }
        if let Some(conclusion) = &self.diagnosis.conclusion {
            sheet.finding(
                format!(
                    "the conclusion '{conclusion}' rests on one prompt: that the two versions differ is shown, how often \
                     they would on other prompts is not"
                ),
                &["diagnosis"],
            );
        }
        sheet
    }
}

/// Figures that the vectors of both sweeps give. numpy leaves the order of a norm's sum to its BLAS, so twelve digits
/// are compared.
fn from_vectors(sheet: &mut Sheet, layer: &str, one: &Deviation, sweeps: [&LayerSweep; 2], place: &str) {
    let mean = |sweep: &LayerSweep| -> Option<Vec<f64>> {
        let rows =
            sweep.file.raw_activations.iter().find(|(key, _)| key.to_string() == format!("layer_{layer}"))?.1;
        let width = rows.first()?.len();
        Some((0..width).map(|k| rows.iter().fold(0.0, |sum, row| sum + row[k]) / count(rows.len())).collect())
    };
    let (Some(a), Some(b)) = (mean(sweeps[0]), mean(sweeps[1])) else { return };
    let twelve = |value: f64| format!("{value:.11e}");
    let note = Some("from the vectors of both sweeps, to twelve digits");
    let name = format!("distance, layer {layer}");
    sheet.text(&name, twelve(one.l2_distance), twelve(l2(&a, &b)), &format!("{place}.l2_distance"), note);
    let largest = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    let name = format!("largest difference, layer {layer}");
    sheet.figure(&name, one.max_diff, largest, &format!("{place}.max_diff"));
    // The script counts a value only if it is more than 0.01 apart.
    let affected = a.iter().zip(&b).filter(|(x, y)| (*x - *y).abs() > 0.01).count();
    let different = a.iter().zip(&b).filter(|(x, y)| x.to_bits() != y.to_bits()).count();
    let name = format!("values affected, layer {layer}");
    let printed = one.dims_affected.map(|count| count.to_string());
    sheet.text(
        &name,
        printed,
        affected.to_string(),
        &format!("{place}.dims_affected"),
        Some("more than 0.01 apart"),
    );
    if different > affected {
        sheet.finding(
            format!(
                "layer {layer}: dims_affected counts values more than 0.01 apart, {affected}; {different} have other bits"
            ),
            &[&format!("{place}.dims_affected")],
        );
    }
}
