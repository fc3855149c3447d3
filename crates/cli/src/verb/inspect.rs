//! `mantissa inspect`: what is in a record or in a model.

mod evidence;
mod model;

pub(super) use evidence::outcome_text;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use mantissa_evidence::container::is_complete;

use crate::evidence::Damage;
use crate::failure::Exit;
use crate::settings::{Settings, model_path};
use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  mantissa inspect record                       # a container: setup, tokens, tensors, digests
  mantissa inspect experiment.json --format json
  mantissa inspect smollm2-135m-instruct --tensors
  mantissa inspect model.gguf --digest

Every digest a record states is checked; one that does not match is an error (exit code 4), unless --despite-damage.";

/// Show what a record or a model holds, and check its digests
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Container directory, experiment JSON, Hugging Face folder, GGUF file or a pulled model's name
    path: PathBuf,
    /// Evidence: decode its token ids with this model [default: the pulled model it names]
    #[arg(long, value_name = "SPEC")]
    model: Option<String>,
    #[command(flatten)]
    of_model: model::Flags,
    #[command(flatten)]
    damage: Damage,
}

/// What a path holds.
enum Kind {
    Evidence(PathBuf),
    Model(PathBuf),
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    match kind(&args.path)? {
        Kind::Evidence(path) => evidence::run(&path, args.model.as_deref(), args.damage, terminal),
        Kind::Model(path) => {
            model::run(&path, &args.of_model, settings, terminal)?;
            Ok(Exit::Consistent)
        }
    }
}

fn kind(path: &Path) -> anyhow::Result<Kind> {
    let shown = path.display();
    let Ok(meta) = std::fs::metadata(path) else {
        // The name of a pulled model, or an error that lists what there is.
        let Some(spec) = path.to_str() else {
            bail!("{shown}: no such file or directory; check the path");
        };
        return Ok(Kind::Model(model_path(spec)?));
    };
    if meta.is_dir() {
        return folder(path);
    }
    if !meta.is_file() {
        bail!("{shown}: is not a regular file; give a record or a model");
    }
    let mut magic = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic));
    if let Err(e) = opened {
        bail!("{shown}: cannot read: {e}; check its permissions");
    }
    let has_extension = |name: &str| path.extension().is_some_and(|extension| extension == name);
    // One file of tensors is no model: what it is, its reader says.
    let is_model = magic == b"GGUF" || has_extension("gguf");
    Ok(if is_model { Kind::Model(path.to_owned()) } else { Kind::Evidence(path.to_owned()) })
}

fn folder(path: &Path) -> anyhow::Result<Kind> {
    if is_complete(path) {
        return Ok(Kind::Evidence(path.to_owned()));
    }
    let shown = path.display();
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten(),
        Err(e) => bail!("{shown}: cannot list: {e}; check its permissions"),
    };
    let names: Vec<PathBuf> = entries.map(|entry| entry.file_name().into()).collect();
    let ends = |name: &Path, extension| name.extension().is_some_and(|found| found == extension);
    let is = |name: &Path, of: &str| name == Path::new(of);
    if names
        .iter()
        .any(|name| is(name, "config.json") || is(name, "adapter_config.json") || ends(name, "gguf"))
    {
        return Ok(Kind::Model(path.to_owned()));
    }
    // A repository in a cache of huggingface_hub.
    if let Some(spec) = path.to_str().filter(|_| names.iter().any(|name| is(name, "snapshots"))) {
        return Ok(Kind::Model(model_path(spec)?));
    }
    let is_run = |name: &Path| name.to_string_lossy().starts_with("run-") && ends(name, "safetensors");
    if names.iter().any(|name| is_run(name)) {
        bail!("{shown}: an unfinished record (no manifest.json); run the recording again to finish it");
    }
    bail!(
        "{shown}: neither a record (no manifest.json) nor a model (no config.json, no .gguf); \
         give the folder of one"
    )
}
