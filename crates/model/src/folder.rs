//! Which weights of a Hugging Face folder are the model's: which files are read, which of several tensors of one name,
//! and what the output is. Follows transformers 5.17 and tells, or refuses where nothing decides.
//!
//! Left out: what a file holds (`safetensors_header`), and which weights a model must have (`checkpoint`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::config::ModelConfig;
use crate::decision::{Decisions, some};
use crate::error::{LARGEST_JSON, ModelError, is_plain_name, present, read_small, shown, shown_path};
use crate::mapped::Mapped;
use crate::safetensors_header::{TensorEntry, read_header, read_index};
use crate::shelf::Found;
use crate::stored::Stored;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Tensor name to file name.
pub(crate) type Index = BTreeMap<String, String>;

/// Refuses an adapter's folder, which transformers would lay over another model.
pub(crate) fn refuse_adapter(folder: &Path) -> Result<(), ModelError> {
    let Some(path) = present(folder, "adapter_config.json") else { return Ok(()) };
    let json: Value = serde_json::from_slice(&read_small(&path, LARGEST_JSON)?).unwrap_or_default();
    let word = |key: &str| json.get(key).and_then(Value::as_str).map(shown);
    let kind = word("peft_type").unwrap_or_else(|| "PEFT".to_owned());
    let base = word("base_model_name_or_path").map(|base| format!(" of '{base}'")).unwrap_or_default();
    let mut remedy =
        "merge it with PEFT (merge_and_unload, then save_pretrained) and give the merged folder".to_owned();
    if present(folder, "config.json").is_some() {
        remedy += ", or move adapter_config.json away if the model beside it is meant alone";
    }
    let fault = format!("a {kind} adapter{base}, which is neither merged nor computed beside its model");
    Err(ModelError::unsupported(&shown_path(&path), "peft_type", fault, remedy))
}

/// The weight files of a folder, mapped, and the index if it is followed. `config` is the `config.json`.
pub(crate) fn weight_files(
    folder: &Path,
    config: &[u8],
    decisions: &Decisions,
) -> Result<(Vec<Mapped>, Option<Index>), ModelError> {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let (names, index) = match config.get("transformers_weights").filter(|name| !name.is_null()) {
        Some(name) => {
            let name = name.as_str().filter(|name| is_plain_name(name) && present(folder, name).is_some());
            let Some(name) = name else {
                let fault = "names no file of this folder";
                return Err(ModelError::damaged(
                    &shown_path(folder),
                    "config.json: transformers_weights",
                    fault,
                ));
            };
            let rule = "transformers 5.17 reads the file that it names";
            decisions.add(
                "config.json",
                "transformers_weights is there",
                format!("{} is read", shown(name)),
                rule,
            );
            if name.ends_with(".index.json") { indexed(folder, name)? } else { (vec![name.to_owned()], None) }
        }
        None if present(folder, SINGLE).is_some() => {
            if present(folder, INDEX).is_some() {
                let stated = format!("beside {SINGLE}");
                let decided = format!("{SINGLE} is read; the index and what it names are not");
                decisions.add(INDEX, stated, decided, "transformers 5.17 looks for the single file first");
            }
            (vec![SINGLE.to_owned()], None)
        }
        None if present(folder, INDEX).is_some() => indexed(folder, INDEX)?,
        None => {
            let remedy =
                "download the weights, or convert them with save_pretrained(…, safe_serialization=True)";
            return Err(ModelError::NotFound {
                spec: shown_path(folder),
                fault: format!("neither {SINGLE} nor {INDEX} beside config.json"),
                remedy: remedy.into(),
            });
        }
    };
    let unused = strays(folder, &names)?;
    if !unused.is_empty() {
        let rule = format!("transformers 5.17 reads {}", some(&names));
        decisions.add(&some(&unused), "weights that are no part of the model", "not read", rule);
    }
    let files = names.iter().map(|name| Mapped::open(&folder.join(name))).collect::<Result<_, _>>()?;
    Ok((files, index))
}

/// The files that an index names, in the order in which transformers reads them.
fn indexed(folder: &Path, name: &str) -> Result<(Vec<String>, Option<Index>), ModelError> {
    let path = folder.join(name);
    let index = read_index(&shown_path(&path), &read_small(&path, LARGEST_JSON)?)?;
    let names: BTreeSet<&String> = index.values().collect();
    Ok((names.into_iter().cloned().collect(), Some(index)))
}

/// Other safetensors files of the folder.
fn strays(folder: &Path, read: &[String]) -> Result<Vec<String>, ModelError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| ModelError::io(folder, "list", e))? {
        let name = entry.map_err(|e| ModelError::io(folder, "list", e))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if Path::new(name).extension().is_some_and(|ext| ext == "safetensors")
            && !read.iter().any(|one| one == name)
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Tensors about which the same was decided.
#[derive(Default)]
struct Alike(BTreeMap<[String; 4], Vec<String>>);

impl Alike {
    fn add(&mut self, tensor: &str, file: &str, [stated, decided, rule]: [&str; 3]) {
        let key = [file, stated, decided, rule].map(str::to_owned);
        self.0.entry(key).or_default().push(tensor.to_owned());
    }

    fn tell(self, decisions: &Decisions) {
        for ([file, stated, decided, rule], tensors) in self.0 {
            decisions.add(&file, format!("{} {stated}", some(&tensors)), decided, rule);
        }
    }
}

/// Tensors, each with the number of its file.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) chosen: Vec<(usize, TensorEntry)>,
    /// Those that an index is silent about.
    pub(crate) unnamed: BTreeMap<String, usize>,
}

/// The one tensor of each name, with the number of its file.
///
/// transformers 5.17 reads every tensor of the files that an index names, in the order of their names, so that the last
/// of several wins; the index itself is what says so on paper. Where both give the same values they are followed.
pub(crate) fn entries(
    files: &[Mapped],
    index: Option<&Index>,
    decisions: &Decisions,
) -> Result<Entries, ModelError> {
    let short = |number: usize| {
        let name = files[number].path.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    };
    let mut found: BTreeMap<String, Vec<(usize, TensorEntry)>> = BTreeMap::new();
    for (number, mapped) in files.iter().enumerate() {
        for entry in read_header(&shown_path(&mapped.path), mapped.bytes())? {
            found.entry(entry.name.clone()).or_default().push((number, entry));
        }
    }
    let mut alike = Alike::default();
    if let Some(index) = index {
        for (tensor, file) in index.iter().filter(|(tensor, _)| !found.contains_key(*tensor)) {
            alike.add(
                tensor,
                file,
                ["is named by the index and in no file", "without it", "there is nothing to read"],
            );
        }
    }
    let Entries { mut chosen, mut unnamed } = Entries::default();
    for (tensor, mut copies) in found {
        let named = index.and_then(|index| index.get(&tensor));
        let Some((last, kept)) = copies.pop() else { continue };
        if copies.is_empty() {
            if let Some(named) = named.filter(|named| *named != short(last)) {
                let decided = format!("read from {}", short(last));
                let rule = "transformers 5.17 reads every tensor of the files that the index names";
                alike.add(&tensor, named, ["is here by the index, and is not", &decided, rule]);
            }
            if index.is_some() && named.is_none() {
                unnamed.insert(tensor, last);
            }
            chosen.push((last, kept));
            continue;
        }
        for (number, copy) in &copies {
            let same = copy.dtype == kept.dtype
                && copy.shape == kept.shape
                && files[*number].bytes()[copy.range.clone()] == files[last].bytes()[kept.range.clone()];
            let decided = format!("that of {} is used", short(last));
            let (stated, rule) = match named {
                _ if same => {
                    let stated = format!("is also in {}, with the same values", short(last));
                    (stated, "they are the same".to_owned())
                }
                Some(named) if named != short(last) => {
                    let fault = format!(
                        "other values here and in {}: the index says {}, and transformers 5.17 takes the last file",
                        short(last),
                        shown(named)
                    );
                    return Err(ModelError::Tensor {
                        file: shown_path(&files[*number].path),
                        tensor: shown(&tensor),
                        fault,
                        remedy: "remove it from the file that is not meant",
                    });
                }
                Some(_) => {
                    let rule = "the index says so, and transformers 5.17 takes the last file";
                    (format!("is also in {}, with other values", short(last)), rule.to_owned())
                }
                None => {
                    let stated =
                        format!("is also in {}, with other values, and not in the index", short(last));
                    (stated, "transformers 5.17 takes the last file".to_owned())
                }
            };
            alike.add(&tensor, short(*number), [&stated, &decided, &rule]);
        }
        chosen.push((last, kept));
    }
    alike.tell(decisions);
    Ok(Entries { chosen, unnamed })
}

/// Settles which of embedding and output a tied model has, as transformers 5.17 does: the one that is stored serves as
/// both; two with other values are both kept.
pub(crate) fn tie<'a>(
    folder: &str,
    config: &mut ModelConfig,
    found: &mut Found,
    bytes: &dyn Fn(usize) -> &'a [u8],
    decisions: &Decisions,
) -> Result<(), ModelError> {
    let weights = &mut found.weights;
    let foreign = &found.foreign;
    let stated = |what: &str| format!("tie_word_embeddings is true, {what}");
    match (config.tie_word_embeddings, weights.get(EMBEDDING), weights.get(HEAD)) {
        (true, Some(embedding), Some(head)) => {
            if same_values(embedding, head, bytes) {
                weights.remove(HEAD);
                let stated = stated(&format!("and {HEAD} is stored too, with the embedding's values"));
                decisions.add("config.json", stated, "the output is the embedding", "they are the same");
            } else {
                config.tie_word_embeddings = false;
                let stated = stated(&format!("and {HEAD} is stored with values of its own"));
                let rule = "transformers 5.17 does not tie what differs (4.57 does)";
                decisions.add("config.json", stated, format!("the output is {HEAD}"), rule);
            }
        }
        (true, None, Some(_)) => {
            if let Some(head) = weights.remove(HEAD) {
                weights.insert(EMBEDDING.to_owned(), head);
            }
            let stated = stated(&format!("and of the two only {HEAD} is stored"));
            let rule = "transformers 5.17 ties to the one that is stored";
            decisions.add("config.json", stated, format!("{HEAD} is the embedding too"), rule);
        }
        (false, Some(_), None) if !foreign.contains_key(HEAD) => {
            return Err(ModelError::Tensor {
                file: folder.to_owned(),
                tensor: HEAD.to_owned(),
                fault: "absent, and tie_word_embeddings is not true: transformers 5.17 makes one of random numbers"
                    .to_owned(),
                remedy: "download it again, or set tie_word_embeddings to true if the embedding is meant",
            });
        }
        _ => {}
    }
    Ok(())
}

fn same_values<'a>(a: &Stored, b: &Stored, bytes: &dyn Fn(usize) -> &'a [u8]) -> bool {
    let plain = a.quantized.is_none() && b.quantized.is_none() && a.dtype == b.dtype && a.shape == b.shape;
    plain && bytes(a.file)[a.range.clone()] == bytes(b.file)[b.range.clone()]
}

/// Tells of tensors that the model has no use for, and of those it has that the index is silent about.
pub(crate) fn tell_unused(
    files: &[Mapped],
    found: &Found,
    unnamed: &BTreeMap<String, usize>,
    decisions: &Decisions,
) {
    let mut alike = Alike::default();
    let short = |file: usize| {
        files[file].path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    for (name, file) in unnamed {
        if !found.weights.contains_key(name) && !found.foreign.contains_key(name) {
            let rule = "transformers 5.17 reads every tensor of the files that the index names";
            alike.add(name, &short(*file), ["is here and not in the index", "read", rule]);
        }
    }
    // Old files keep the rotary frequencies, which every program computes.
    let tensors = found.weights.iter().map(|(name, stored)| (name, stored.file));
    let tensors = tensors.chain(found.foreign.iter().map(|(name, (file, _))| (name, *file)));
    for (name, file) in tensors.filter(|(name, _)| !name.ends_with(".rotary_emb.inv_freq")) {
        let file = short(file);
        let rule = "transformers 5.17 warns of such tensors and does without them";
        alike.add(name, &file, ["has no place in a model of this configuration", "not used", rule]);
    }
    alike.tell(decisions);
}
