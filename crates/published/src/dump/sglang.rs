//! SGLang's dumps: a file for each pass of `--debug-tensor-dump-output-folder`, and a file for each tensor of `dumper`.
//!
//! *Source:* SGLang, srt/debug_utils/tensor_dump_forward_hook.py (`Pass00000.pt`, names of modules; what runs after the
//! model, the logits, is written with the next pass) and srt/debug_utils/dumper.py (`step=0___rank=0___dump_index=1___
//! name=….pt`, or `forward_pass_id` in place of `step`).
//!
//! Norms there add the residual first and return both: the second result is the residual stream. Queries and keys are
//! not read: all blocks share one rotary module, so hooks name its results by the wrong block.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mantissa_evidence::EvidenceError;
use mantissa_evidence::trace::TracedPrompt;
use mantissa_numerics::{Point, Site};

use super::found::{Found, Held, Stored, refused};
use super::torch::{self, TorchTensor};

/// A tensor of a pass: its module, which of the module's results, and where it is.
struct Part {
    module: String,
    index: Option<usize>,
    file: PathBuf,
    tensor: TorchTensor,
}

type Passes = BTreeMap<u64, Vec<Part>>;

/// The sequence at work.
struct Sequence {
    prompt_id: String,
    ids: Vec<u32>,
    prompt: usize,
}

fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pt")
}

fn within(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort_unstable();
    all
}

/// Folders inside a folder that hold files of torch.save.
fn inner(folder: &Path) -> Vec<PathBuf> {
    within(folder)
        .into_iter()
        .filter(|path| path.is_dir() && within(path).iter().any(|path| is_pickle(path)))
        .collect()
}

pub(super) fn is_dump(path: &Path) -> bool {
    if !path.is_dir() {
        return is_pickle(path);
    }
    within(path).iter().any(|path| is_pickle(path)) || !inner(path).is_empty()
}

/// The files of a dump: those of the folder, or of the one folder inside it.
fn files(path: &Path) -> Result<Vec<PathBuf>, EvidenceError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let own: Vec<PathBuf> = within(path).into_iter().filter(|path| is_pickle(path)).collect();
    if !own.is_empty() {
        return Ok(own);
    }
    match &inner(path)[..] {
        [only] => files(only),
        several => {
            let what = format!("a folder of {} dumps", several.len());
            let first = several.first().map_or(path, PathBuf::as_path).display().to_string();
            Err(refused(path, &what, &format!("give one of them, like {first}: of one rank, of one run")))
        }
    }
}

/// The number of `Pass00012.pt`.
fn pass_number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix("Pass")?.parse().ok()
}

/// `key=value` parts of a name of the dumper.
fn tags(path: &Path) -> BTreeMap<String, String> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let parts = stem.split("___").filter_map(|part| part.split_once('='));
    parts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The modules of a dump, pass by pass.
fn passes(path: &Path) -> Result<Passes, EvidenceError> {
    let mut passes = Passes::new();
    let mut ranks = BTreeSet::new();
    for file in files(path)? {
        if let Some(number) = pass_number(&file) {
            for (name, tensors) in torch::saved(&file)? {
                // What runs after the model is written with the next pass.
                let late = name == "logits_processor" || name == "model" || name == "lm_head";
                let Some(number) = number.checked_sub(u64::from(late)) else { continue };
                let module = name.strip_prefix("model.forward_batch_info.").unwrap_or(&name);
                let several = tensors.len() > 1;
                for (index, tensor) in tensors.into_iter().enumerate() {
                    let (module, index, file) = (module.to_owned(), several.then_some(index), file.clone());
                    passes.entry(number).or_default().push(Part { module, index, file, tensor });
                }
            }
            continue;
        }
        let tags = tags(&file);
        let number = ["step", "forward_pass_id"].iter().find_map(|key| tags.get(*key)?.parse::<u64>().ok());
        let (Some(number), Some(name)) = (number, tags.get("name")) else {
            let what = format!("no dump of SGLang: {} names no pass", file.display());
            return Err(refused(
                path,
                &what,
                "give a folder of Pass00000.pt, or of files that the dumper named",
            ));
        };
        ranks.insert(tags.get("rank").cloned().unwrap_or_default());
        let name = name.strip_prefix("non_intrusive__").unwrap_or(name);
        let (name, index) = match name.rsplit_once('.') {
            Some((name, index)) if index.parse::<usize>().is_ok() && name.ends_with(".output") => {
                (name, index.parse().ok())
            }
            _ => (name, None),
        };
        let name = name.strip_suffix(".next_token_logits").unwrap_or(name);
        let module = name.strip_suffix(".output").unwrap_or(name);
        for (_, tensors) in torch::saved(&file)? {
            for tensor in tensors {
                let (module, file) = (module.to_owned(), file.clone());
                passes.entry(number).or_default().push(Part { module, index, file, tensor });
            }
        }
    }
    if ranks.len() > 1 {
        let what = format!("a dump of {} ranks in one folder", ranks.len());
        return Err(refused(path, &what, "give the files of one rank"));
    }
    Ok(passes)
}

pub(super) fn read(path: &Path, dump: &mut Found) -> Result<(), EvidenceError> {
    let passes = passes(path)?;
    let modules = || passes.values().flatten().map(|part| part.module.as_str());
    let layers = modules().filter_map(|module| layer(module).map(|(layer, _)| layer + 1)).max().unwrap_or(0);
    let shared = modules().any(|module| module.contains("shared_expert"));
    let mut sequence: Option<Sequence> = None;
    for (number, parts) in &passes {
        let ids = of_batch::<u32>(path, *number, parts, "input_ids")?;
        let positions = of_batch::<i64>(path, *number, parts, "positions")?;
        let (Some(ids), Some(positions)) = (ids, positions) else {
            // What was written behind the last pass has no pass.
            if parts
                .iter()
                .all(|part| site(part, layers, shared).is_none_or(|site| site.point == Point::Logits))
            {
                for part in parts {
                    dump.leave_out(&part.module);
                }
                continue;
            }
            let what = format!("a dump of which pass {number} has no input_ids and positions");
            let remedy = "dump with --debug-tensor-dump-output-folder, or with the dumper's core fields";
            return Err(refused(path, &what, remedy));
        };
        let several =
            of_batch::<i64>(path, *number, parts, "seq_lens")?.is_some_and(|lengths| lengths.len() != 1);
        let start = positions.first().copied().unwrap_or(0);
        let consecutive = positions.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if several || !consecutive || ids.len() != positions.len() || ids.is_empty() {
            let what = format!("a dump of which pass {number} is of several sequences");
            return Err(refused(path, &what, "send one request at a time: --max-running-requests 1"));
        }
        let held = usize::try_from(start).ok();
        match &mut sequence {
            _ if held == Some(0) => {
                begin(dump, sequence.as_ref());
                let prompt_id = format!("p{}", dump.prompts.len());
                sequence = Some(Sequence { prompt_id, prompt: ids.len(), ids });
            }
            Some(known) if held == Some(known.ids.len()) && ids.len() == 1 => known.ids.extend(ids),
            _ => {
                let what = format!(
                    "a dump of which pass {number} begins at position {start}, behind what is not there"
                );
                let remedy = "run without --chunked-prefill-size and with --disable-radix-cache, and dump from the \
                              first pass on";
                return Err(refused(path, &what, remedy));
            }
        }
        if let Some(sequence) = &sequence {
            placed(dump, sequence, parts, (layers, shared));
        }
    }
    begin(dump, sequence.as_ref());
    Ok(())
}

/// Notes the prompt of a sequence that ended.
fn begin(dump: &mut Found, sequence: Option<&Sequence>) {
    if let Some(Sequence { prompt_id, ids, prompt }) = sequence {
        dump.prompts.push(TracedPrompt::of_ids(prompt_id, ids[..*prompt].to_vec()));
    }
}

/// Adds the tensors of a pass, site by site.
fn placed(dump: &mut Found, sequence: &Sequence, parts: &[Part], (layers, shared): (u32, bool)) {
    let length = sequence.ids.len();
    let step = (length - sequence.prompt) as u64;
    let fed = if step == 0 { length } else { 1 };
    let mut found: BTreeMap<Site, Stored> = BTreeMap::new();
    for part in parts {
        if ["input_ids", "positions", "seq_lens", "req_pool_indices", "rids"].contains(&part.module.as_str())
        {
            continue;
        }
        let width = part.tensor.shape.last().copied().unwrap_or(0);
        let rows = torch::elements(&part.tensor).and_then(|all| all.checked_div(width));
        let rows = rows.and_then(|rows| usize::try_from(rows).ok());
        let first = match rows {
            Some(rows) if rows == fed => Some(length - fed),
            // Logits are of the last token.
            Some(1) => Some(length - 1),
            _ => None,
        };
        let usable = site(part, layers, shared).zip(torch::dtype(&part.tensor)).zip(first);
        let Some(((site, dtype), first)) = usable.filter(|((site, _), _)| !found.contains_key(site)) else {
            dump.leave_out(&part.module);
            continue;
        };
        let rows = (first..length).map(|at| (at as u64, sequence.ids.get(at).copied())).collect();
        let (prompt_id, seq_len) = (sequence.prompt_id.clone(), fed as u64);
        let (file, tensor) = (part.file.clone(), part.tensor.clone());
        found.insert(site, Stored { prompt_id, step, seq_len, site, rows, dtype, file, tensor });
    }
    dump.events.extend(found.into_values().map(|stored| Held::Stored(Box::new(stored))));
}

/// Numbers of the batch: ids, positions, lengths.
fn of_batch<T: TryFrom<i64>>(
    path: &Path,
    number: u64,
    parts: &[Part],
    name: &str,
) -> Result<Option<Vec<T>>, EvidenceError> {
    let Some(part) = parts.iter().find(|part| part.module == name) else { return Ok(None) };
    let numbers = torch::numbers(&part.file, &part.tensor)?.into_iter();
    let numbers: Result<Vec<T>, _> = numbers.map(T::try_from).collect();
    numbers.map(Some).map_err(|_| {
        let what = format!("a dump of which {name} of pass {number} are out of range");
        refused(path, &what, "dump it again")
    })
}

/// The number of a block, counted from 0, and what is named inside it.
fn layer(module: &str) -> Option<(u32, &str)> {
    let (number, inside) = module.strip_prefix("model.layers.")?.split_once('.')?;
    Some((number.parse().ok()?, inside))
}

/// The site of a module's result, where there is one.
fn site(part: &Part, layers: u32, shared: bool) -> Option<Site> {
    let outside = match (part.module.as_str(), part.index) {
        ("model.embed_tokens", None) => Some(Point::EmbedOut),
        ("model.norm", None | Some(0)) => Some(Point::FinalNorm),
        ("logits_processor", None) => Some(Point::Logits),
        _ => None,
    };
    if let Some(point) = outside {
        return Some(Site::outside(point));
    }
    if (part.module.as_str(), part.index) == ("model.norm", Some(1)) && layers > 0 {
        return Some(Site::at(layers, Point::XOut));
    }
    let (number, inside) = layer(&part.module)?;
    let point = match (inside, part.index) {
        ("input_layernorm", Some(1)) => Point::XIn,
        ("self_attn.o_proj", None) => Point::AttnOut,
        ("post_attention_layernorm", Some(0)) => Point::FfnNorm,
        ("post_attention_layernorm", Some(1)) => Point::XAfterAttn,
        ("mlp.gate", None) => Point::RouterLogits,
        ("mlp.experts", None) if !shared => Point::MlpOut,
        ("mlp.down_proj", None) => Point::MlpOut,
        _ => return None,
    };
    Some(Site::at(number.checked_add(1)?, point))
}
