//! Names of the files in a container.

use crate::run::Run;

/// Name of the manifest in a container.
pub const MANIFEST: &str = "manifest.json";
/// Name of the file that holds a container's clocks.
pub const TIMING: &str = "timing.json";

/// Name of a run's file: `run-<config_id>-ref<r>-rep<k>.safetensors`.
///
/// Bytes of the configuration's name other than ASCII letters, digits, `.`, `_` and `-` are written as `%xx`.
///
/// ```
/// use mantissa_evidence::container::run_file_name;
///
/// let experiment = mantissa_evidence::read("../../fixtures/evidence/v1/experiment.json".as_ref())?;
/// assert_eq!(experiment.runs[0].config_id, "cpu bs/2");
/// assert_eq!(run_file_name(&experiment.runs[0]), "run-cpu%20bs%2f2-ref0-rep0.safetensors");
/// # Ok::<(), mantissa_evidence::EvidenceError>(())
/// ```
#[must_use]
pub fn run_file_name(run: &Run) -> String {
    file_name(&run.config_id, run.reference_id, run.rep_id)
}

fn file_name(config_id: &str, reference_id: u32, rep_id: u32) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let id: String = config_id
        .bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") })
        .collect();
    format!("run-{id}-ref{reference_id}-rep{rep_id}.safetensors")
}
