//! `mantissa catalog`: which recipes a GPU's libraries pick, measured.

mod die;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use clap::Subcommand;
use mantissa_cuda::Device;
use mantissa_cuda::catalog::{Built, Shapes, build, compare, draw};
use mantissa_engine::Catalogs;
use mantissa_engine::catalog::{Catalog, Stack, parse_sizes};
use mantissa_model::{Checkpoint, ModelConfig};
use mantissa_numerics::Dtype;
use serde::Serialize;

use die::Die;

use crate::failure::Exit;
use crate::interrupt::Resumable;
use crate::output::written;
use crate::progress::{Bar, Unit};
use crate::settings::{Settings, model_path};
use crate::terminal::{Page, Report, Terminal};

const EXAMPLES: &str = "\
Examples:
  mantissa catalog build --model SmolLM2-135M --out catalogs/h200-cublas13.1.json
  mantissa catalog build --model Qwen2.5-7B --batch-sizes 1-4 --prompts 512 --keys 513-600 --out h200.json
  mantissa catalog build --model Qwen2.5-7B --dtype bf16,f16 --attention none --out h200.json
  mantissa catalog show h200.json
  mantissa catalog gpu
  mantissa catalog gpu --compare 3000 --seed 1";

/// How long what was measured is kept in memory alone.
const PATIENCE: Duration = Duration::from_secs(3);

/// Measure which recipes a GPU's libraries pick, and keep them in a file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Build(BuildArgs),
    Show(ShowArgs),
    Gpu(GpuArgs),
}

/// On a machine with an NVIDIA GPU: what it is to cuBLAS, and whether a built-in catalog is of such a one
///
/// With `--compare` also whether its libraries do what the catalog states, at shapes drawn by lot: products with the
/// weights that were compared bit for bit, the parts that cuBLASLt's heuristic names for any number of rows, and the
/// kernels that cuBLAS launches for attention over any number of keys.
#[derive(Debug, clap::Args)]
struct GpuArgs {
    /// Shapes to compare with the built-in catalog
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    compare: u32,
    /// By which shapes are drawn
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

/// On a machine with an NVIDIA GPU: find the recipes of a model's products, and compare them bit for bit
///
/// Of each weight, cuBLASLt's heuristic is asked for any number of rows, and products are compared at both sides of
/// every step of its answer, at random numbers, and at those that batch sizes and prompts give. Of attention's
/// products, cuBLAS is asked what it launches for every number of keys, and products are compared at the first size of
/// every kernel, at random sizes, and at those given. A file that is there already is completed. A shape that no recipe
/// explains is left out and reported.
#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// A model's folder, its config.json, a GGUF file or a pulled model's name; several may be given
    #[arg(long, value_name = "SPEC", required = true)]
    model: Vec<String>,
    /// Sequences per batch
    #[arg(long, value_name = "SIZES", default_value = "1,2,4,5,8,9,16,17")]
    batch_sizes: String,
    /// Lengths of prompts whose products are compared too: `first-last/step`, separated by commas
    #[arg(long, value_name = "SIZES", default_value = "none")]
    prompts: String,
    /// Cached positions of decode steps whose products are compared too
    #[arg(long, value_name = "SIZES", default_value = "none")]
    keys: String,
    /// Formats of weights and of eager attention: bf16, f16
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "bf16")]
    dtype: Vec<Half>,
    /// Attention implementations whose products are measured: eager, sdpa_math (binary32), or none
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "eager,sdpa_math")]
    attention: Vec<Kind>,
    /// Leave weights out: attention's products alone
    #[arg(long, conflicts_with = "fused")]
    no_weights: bool,
    /// Ranks of tensor parallelism by which weights and heads are also cut
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(2..=64))]
    tensor_parallel: Vec<u16>,
    /// Also weights as vLLM joins them: queries, keys and values; gate and up
    #[arg(long)]
    fused: bool,
    /// Catalog to write or complete
    #[arg(long, value_name = "FILE", value_parser = written())]
    out: PathBuf,
}

/// Attention whose batched products have recipes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    Eager,
    SdpaMath,
    None,
}

/// A format that tensor cores multiply and transformers runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Half {
    Bf16,
    F16,
}

impl Half {
    const fn dtype(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::Bf16,
            Self::F16 => Dtype::F16,
        }
    }
}

/// Say what a catalog covers
#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The catalog
    file: PathBuf,
}

pub(crate) fn run(args: &Args, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    match &args.action {
        Action::Gpu(args) => run_gpu(args, settings, terminal),
        Action::Build(args) => run_build(args, settings, terminal),
        Action::Show(args) => {
            let catalog = read(&args.file)?;
            terminal.print(&Summary::new(&catalog, &[], None))?;
            Ok(Exit::Consistent)
        }
    }
}

fn run_gpu(args: &GpuArgs, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let device = Device::open()?;
    let mut die = Die::of(&device)?;
    if args.compare > 0 {
        let known = die.hardware().and_then(|hardware| Catalogs::built_in().of(hardware));
        let known = known.ok_or_else(|| {
            anyhow!("no built-in catalog is of this GPU; `mantissa catalog build` measures one")
        })?;
        let drawn = draw(known, args.compare as usize, args.seed);
        let bar = Bar::new(settings, "comparing", Some(drawn.len() as u64), Unit::Shapes);
        die.compared = Some(compare(&device, &drawn, |done| bar.at("comparing", done as u64, None))?.into());
        bar.clear();
    }
    terminal.print(&die)?;
    Ok(if die.is_other() { Exit::Divergent } else { Exit::Consistent })
}

/// Reads a catalog.
pub(crate) fn read(path: &Path) -> anyhow::Result<Catalog> {
    Catalog::parse(&text(path)?).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        anyhow!("{}: cannot read it ({error}); check the path and its permissions", path.display())
    })
}

/// Catalogs beside those that are part of the program.
#[derive(Debug, clap::Args)]
pub(crate) struct CatalogArgs {
    /// Catalog of recipes to use beside the built-in ones (may be given more than once)
    #[arg(long, value_name = "FILE")]
    catalog: Vec<PathBuf>,
    /// The version of cuBLAS that is meant, where catalogs of several are given
    #[arg(long, value_name = "VERSION")]
    cublas: Option<String>,
}

impl CatalogArgs {
    /// The catalogs that are part of the program, and those that were given.
    pub(crate) fn read(&self) -> anyhow::Result<Catalogs> {
        let mut all = Catalogs::default();
        for path in &self.catalog {
            all = all.with(&text(path)?).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        }
        if let Some(cublas) = &self.cublas {
            let stack = Stack { cublas: cublas.clone() };
            all = all.meaning(&stack).map_err(|error| anyhow!("--cublas: {error}"))?;
        }
        all.settled().map_err(|error| anyhow!("--catalog: {error}"))
    }
}

/// The configuration of a model, of which no weights are needed: a folder, its config.json, a GGUF file, a name.
pub(crate) fn config_of(spec: &str) -> anyhow::Result<ModelConfig> {
    let path = Path::new(spec);
    let file = if path.is_dir() { path.join("config.json") } else { PathBuf::from(path) };
    if file.is_file() && file.extension().is_some_and(|extension| extension == "json") {
        let bytes = std::fs::read(&file).map_err(|error| {
            anyhow!("{}: cannot read it ({error}); check its permissions", file.display())
        })?;
        return Ok(ModelConfig::from_json(&file.display().to_string(), &bytes)?);
    }
    let found = model_path(spec)?;
    if found.is_dir() && found.join("config.json").is_file() {
        return config_of(&found.display().to_string());
    }
    Ok(Checkpoint::open(&found)?.config().clone())
}

fn run_build(args: &BuildArgs, settings: &Settings, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let sizes = |flag: &str, text: &str| match text {
        "none" => Ok(Vec::new()),
        text => parse_sizes(text).map_err(|error| anyhow!("--{flag}: {error}")),
    };
    let batches = sizes("batch-sizes", &args.batch_sizes)?;
    let (prompts, keys) = (sizes("prompts", &args.prompts)?, sizes("keys", &args.keys)?);
    let mut shapes = Shapes::default();
    for model in &args.model {
        let config = config_of(model)?;
        let ranks: Vec<usize> = args.tensor_parallel.iter().copied().map(usize::from).collect();
        for dtype in args.dtype.iter().map(|half| half.dtype()) {
            if !args.no_weights {
                shapes.add_weights(&config, dtype, &ranks, args.fused);
                shapes.add_linear(&config, dtype, &batches, &prompts, &keys);
            }
            for kind in &args.attention {
                let dtype = match kind {
                    Kind::Eager => dtype,
                    Kind::SdpaMath => Dtype::F32,
                    Kind::None => continue,
                };
                shapes.add_attention(&config, dtype, &ranks, &batches, &prompts, &keys);
            }
        }
    }
    let known = if args.out.exists() { Some(read(&args.out)?) } else { None };
    let _resumable = Resumable::new(format!(
        "{} holds what is done: the same command goes on from it",
        args.out.display()
    ));
    let device = Device::open()?;
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = date.split('T').next().unwrap_or_default();
    let bar = Bar::new(
        settings,
        "asking",
        Some((shapes.weights().count() + shapes.attention()) as u64),
        Unit::Shapes,
    );
    let save = |built: &Built| -> anyhow::Result<(Catalog, Vec<String>)> {
        let mut all = built.catalog.clone();
        if let Some(known) = &known {
            anyhow::ensure!(
                known.origin.gpu == all.origin.gpu && known.origin.cublas == all.origin.cublas
                    || known.is_empty(),
                "{} is of {} with cuBLAS {}, this machine has {} with {}; write to another file",
                args.out.display(),
                known.origin.gpu,
                known.origin.cublas,
                all.origin.gpu,
                all.origin.cublas,
            );
            all.merge(known);
        }
        // A product of one run may contradict what another was told.
        for (dtype, shape) in &built.misnamed {
            all.forget_launched(*dtype, *shape);
        }
        let misnamed = all.forget_misnamed().into_iter().map(|(weight, rows)| {
            format!("products with {weight}: cuBLASLt's heuristic names another sum than {rows} rows had")
        });
        let misnamed: Vec<String> = misnamed.collect();
        let part = args.out.with_extension("part");
        std::fs::write(&part, all.write()).and_then(|()| std::fs::rename(&part, &args.out)).map_err(|error| {
            anyhow!("{}: cannot write it ({error}); check the folder, its permissions and the room on the disk", args.out.display())
        })?;
        Ok((all, misnamed))
    };
    let (mut failed, mut saved) = (None, Instant::now());
    let built = build(&device, &shapes, known.as_ref(), date, |built, at| {
        let [done, all] = if at.compared[1] == 0 { at.asked } else { at.compared };
        bar.at(if at.compared[1] == 0 { "asking" } else { "comparing" }, done as u64, Some(all as u64));
        if failed.is_none() && (saved.elapsed() > PATIENCE || done == all) {
            failed = save(built).err();
            saved = Instant::now();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let (catalog, misnamed) = save(&built)?;
    bar.clear();
    let unexplained = [built.unexplained, misnamed].concat();
    let found = Found {
        heuristic_agrees: built.heuristic,
        surprises: built.surprises,
        launched_agrees: built.launched,
    };
    terminal.print(&Summary::new(&catalog, &unexplained, Some(found)))?;
    Ok(if unexplained.is_empty() { Exit::Consistent } else { Exit::NotEnoughEvidence })
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    origin: &'a mantissa_engine::catalog::Origin,
    shapes: usize,
    /// Weights for which the heuristic was asked.
    asked: usize,
    /// Products of attention for which the library was asked what it launches.
    launched: usize,
    unexplained: &'a [String],
    #[serde(flatten)]
    found: Option<Found>,
}

/// What a measurement says of the heuristic.
#[derive(Debug, Serialize)]
struct Found {
    /// New products without a bias whose parts it named, and all.
    heuristic_agrees: [usize; 2],
    /// Random numbers of rows that its steps did not give until then.
    surprises: usize,
    /// New products of attention that had the sums of the kernel launched, and all that were compared with these.
    launched_agrees: [usize; 2],
}

impl<'a> Summary<'a> {
    fn new(catalog: &'a Catalog, unexplained: &'a [String], found: Option<Found>) -> Self {
        let asked = catalog.all_asked().count();
        let launched = catalog.all_launched().count();
        Self { origin: &catalog.origin, shapes: catalog.len(), asked, launched, unexplained, found }
    }
}

impl Report for Summary<'_> {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let o = self.origin;
        page.line(&format!("{}, cuBLAS {}, {}", o.die(), o.cublas, o.date))?;
        page.line(&format!("{} shapes with a recipe that gave every bit compared", self.shapes))?;
        if self.asked > 0 {
            page.line(&format!("{} weights for which cuBLASLt's heuristic was asked by rows", self.asked))?;
        }
        if self.launched > 0 {
            page.line(&format!(
                "{} products of attention for which cuBLAS was asked what it launches",
                self.launched
            ))?;
        }
        if let Some(Found { heuristic_agrees: [agree, all], surprises, launched_agrees }) = self.found {
            page.line(&format!(
                "cuBLASLt's heuristic named the split of {agree} of {all} new products without a bias; \
                 {surprises} random sizes were not on the steps found before"
            ))?;
            let [agree, all] = launched_agrees;
            page.line(&format!(
                "{agree} of {all} new products of attention had the sums of the kernel launched"
            ))?;
        }
        if !self.unexplained.is_empty() {
            page.line(&format!(
                "{} shapes that no recipe explains, which stay uncovered:",
                self.unexplained.len()
            ))?;
            for shape in self.unexplained.iter().take(40) {
                page.line(&format!("  {shape}"))?;
            }
        }
        Ok(())
    }
}
