//! A model: dimensions, weights by storage format, tokenizer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mantissa_model::quantized::Quantization;
use mantissa_model::{Checkpoint, Decision, ModelConfig, StoredAs, Tokenizer, WeightsDigest};
use mantissa_numerics::{BlockFormat, Generation};
use serde::Serialize;

use crate::progress::{Bar, Unit};
use crate::settings::Settings;
use crate::terminal::{Column, Page, Report, Terminal, bytes};

/// What to show beyond what every model shows.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Model: list every weight
    #[arg(long)]
    tensors: bool,
    /// Model: compute the digest that evidence states as `weights_digest`
    #[arg(long)]
    digest: bool,
}

#[derive(Serialize)]
struct Inspected {
    kind: &'static str,
    path: PathBuf,
    config: ModelConfig,
    parameters: u64,
    stored_bytes: u64,
    quantization: Option<String>,
    storage: BTreeMap<&'static str, Storage>,
    files: Vec<PathBuf>,
    tokenizer: TokenizerState,
    digest: Option<WeightsDigest>,
    /// What was decided where the files contradict each other, leave something open, or hold what is not used.
    decisions: Vec<Decision>,
    /// What acts on the choice of tokens, or why that is not known.
    generation: OwnSettings,
    tensors: Vec<Tensor>,
    #[serde(skip)]
    list_tensors: bool,
}

/// Weights of one storage format.
#[derive(Default, Serialize)]
struct Storage {
    tensors: u64,
    elements: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OwnSettings {
    Known(Box<Generation>),
    Unknown { fault: String },
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum TokenizerState {
    Present { vocabulary: usize, chat_template: bool },
    Unusable { reason: String },
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    dtype: &'static str,
    rows: usize,
    cols: usize,
}

pub(super) fn run(
    path: &Path,
    flags: &Flags,
    settings: &Settings,
    terminal: &mut Terminal,
) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    let mut storage: BTreeMap<&'static str, Storage> = BTreeMap::new();
    let mut tensors = Vec::new();
    for name in checkpoint.weight_names() {
        let Some(StoredAs { format, rows, cols, bytes }) = checkpoint.stored_as(name) else { continue };
        let kind = storage.entry(format).or_default();
        kind.tensors += 1;
        kind.elements += rows as u64 * cols as u64;
        kind.bytes += bytes;
        tensors.push(Tensor { name: name.to_owned(), dtype: format, rows, cols });
    }
    let mut decisions = checkpoint.decisions().to_vec();
    let tokenizer = match Tokenizer::open(path) {
        Ok(tokenizer) => {
            decisions.extend_from_slice(tokenizer.decisions());
            TokenizerState::Present {
                vocabulary: tokenizer.vocab_size(),
                chat_template: tokenizer.has_chat_template(),
            }
        }
        Err(error) => TokenizerState::Unusable { reason: error.to_string() },
    };
    let digest = if flags.digest {
        let total = checkpoint.files().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        let bar = Bar::new(settings, "digest", Some(total), Unit::Bytes);
        Some(checkpoint.digest(&|amount| bar.add(amount))?)
    } else {
        None
    };
    terminal.print(&Inspected {
        kind: "model",
        path: path.to_owned(),
        config: checkpoint.config().clone(),
        parameters: storage.values().map(|kind| kind.elements).sum(),
        stored_bytes: checkpoint.stored_bytes(),
        quantization: (checkpoint.packed().map(Quantization::name))
            .or_else(|| checkpoint.quantization().map(BlockFormat::name))
            .map(str::to_owned),
        storage,
        files: checkpoint.files().map(Path::to_owned).collect(),
        tokenizer,
        digest,
        decisions,
        generation: match checkpoint.generation() {
            Ok(own) => OwnSettings::Known(Box::new(own.clone())),
            Err(fault) => OwnSettings::Unknown { fault: fault.to_string() },
        },
        tensors,
        list_tensors: flags.tensors,
    })
}

impl Report for Inspected {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.heading(&self.path.display().to_string())?;
        let c = &self.config;
        page.field("family", c.arch.name())?;
        page.field("parameters", self.parameters)?;
        page.field("blocks", c.num_hidden_layers)?;
        page.field("width", format!("{}, MLP {}", c.hidden_size, c.intermediate_size))?;
        let heads = (c.num_attention_heads, c.num_key_value_heads, c.head_dim);
        page.field("heads", format!("{} over {} key/value heads of {}", heads.0, heads.1, heads.2))?;
        if let Some(moe) = &c.moe {
            let (experts, chosen, width) =
                (moe.num_experts, moe.num_experts_per_tok, moe.moe_intermediate_size);
            page.field("experts", format!("{experts} of width {width}, {chosen} per token"))?;
        }
        let tied = if c.tie_word_embeddings { ", output tied to the embedding" } else { "" };
        page.field("vocabulary", format!("{}{tied}", c.vocab_size))?;
        page.field("context", c.max_position_embeddings)?;
        let dtype = c.torch_dtype.map_or_else(|| "not declared".to_owned(), |dtype| dtype.to_string());
        page.field("dtype", dtype)?;
        page.field("quantization", self.quantization.as_deref().unwrap_or("none"))?;
        page.field("size", format!("{} in {} file(s)", bytes(self.stored_bytes), self.files.len()))?;
        match &self.tokenizer {
            TokenizerState::Present { vocabulary, chat_template } => {
                page.field("tokenizer", format!("{vocabulary} tokens"))?;
                if *vocabulary > self.config.vocab_size {
                    page.field(
                        "",
                        format!(
                            "more than the embedding's {} rows: a prompt that needs the others is refused",
                            self.config.vocab_size
                        ),
                    )?;
                }
                page.field("chat template", if *chat_template { "present" } else { "absent" })?;
            }
            TokenizerState::Unusable { reason } => page.field("tokenizer", format!("unusable: {reason}"))?,
        }
        if let Some(digest) = &self.digest {
            page.field("digest", &digest.digest)?;
        }
        match &self.generation {
            OwnSettings::Known(own) => {
                let settings = Generation { eos_token_id: Vec::new(), ..(**own).clone() };
                if !settings.is_plain() {
                    page.field("generation", &settings)?;
                }
            }
            OwnSettings::Unknown { fault } => page.field("generation", format!("not known: {fault}"))?,
        }
        for decision in &self.decisions {
            page.field("decided", decision)?;
        }
        let columns = [
            Column::Left("storage"),
            Column::Right("tensors"),
            Column::Right("elements"),
            Column::Right("bytes"),
        ];
        let row = |(name, kind): (&&str, &Storage)| {
            let counts = [kind.tensors, kind.elements, kind.bytes].map(|count| count.to_string());
            [vec![(*name).to_owned()], counts.to_vec()].concat()
        };
        page.table(&columns, &self.storage.iter().map(row).collect::<Vec<_>>())?;
        if !self.list_tensors {
            return Ok(());
        }
        let columns =
            [Column::Left("weight"), Column::Left("storage"), Column::Right("rows"), Column::Right("cols")];
        let row = |tensor: &Tensor| {
            let (rows, cols) = (tensor.rows.to_string(), tensor.cols.to_string());
            vec![tensor.name.clone(), tensor.dtype.to_owned(), rows, cols]
        };
        page.line("")?;
        page.table(&columns, &self.tensors.iter().map(row).collect::<Vec<_>>())
    }
}
