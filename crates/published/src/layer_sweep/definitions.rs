//! Layer sweeps: norms of mean vectors and spreads of repetitions, in the storage format.

use mantissa_numerics::Dtype;

use super::reader::File;
use crate::definitions::arithmetic::{count, l2};
use crate::json::vectors;
use crate::sheet::{Sheet, Signal};

/// Norms of the mean vectors, spreads, and whether repetitions agree.
pub(crate) fn sheet(file: &File) -> Sheet {
    let mut sheet = Sheet::of("cuda_version");
    sheet.signal(Signal::HiddenStates);
    let dtype = vectors::dtype(file.config.dtype.as_deref(), file.raw_activations.values());
    let dtype = dtype.unwrap_or(Dtype::F32);
    for (layer, stored) in file.layer_statistics.iter() {
        let Some(rows) = file.raw_activations.get(layer) else { continue };
        let mean = mean(rows);
        let norm = l2(&mean, &vec![0.0; mean.len()]);
        let name = format!("norm of the mean vector, {layer}");
        let at = format!("layer_statistics.{layer}.mean_norm");
        let note = format!("rounded to {dtype}, as stored");
        sheet.noted(&name, stored.mean_norm, rounded(dtype, norm), &at, Some(&note));
        if equal(rows) {
            let at = format!("layer_statistics.{layer}.std_within_reps");
            sheet.figure(&format!("spread of repetitions, {layer}"), stored.std_within_reps, 0.0, &at);
        }
    }
    if let Some(stated) = file.reproducibility.as_ref().and_then(|one| one.all_repetitions_identical) {
        let identical = file.raw_activations.values().all(|rows| equal(rows));
        let at = "reproducibility.all_repetitions_identical";
        sheet.text("all repetitions identical", stated.to_string(), identical.to_string(), at, None);
    }
    sheet.finding(
        "the file holds one version of CUDA: what the version does shows only beside a file of another one, over the \
         same prompt",
        &["software", "raw_activations"],
    );
    sheet
}

fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|k| rows.iter().fold(0.0, |sum, row| sum + row[k]) / count(rows.len())).collect()
}

fn equal(rows: &[Vec<f64>]) -> bool {
    rows.windows(2).all(|two| two[0].iter().map(|x| x.to_bits()).eq(two[1].iter().map(|x| x.to_bits())))
}

fn rounded(dtype: Dtype, value: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "on the way to fewer significand bits")]
    f64::from(dtype.round(value as f32))
}
