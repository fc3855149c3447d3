//! Names of the files in a container.

use crate::run::Run;

/// Name of the manifest in a container.
pub const MANIFEST: &str = "manifest.json";
/// Name of the file that holds a container's clocks.
pub const TIMING: &str = "timing.json";

/// Name of a run's file: `run-<config_id>-ref<r>-rep<k>.safetensors`.
///
/// Bytes of the configuration's name other than ASCII letters, digits, `.`, `_` and `-` are written as `%xx`.
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
