//! The weights of a checkpoint, in the form the setup multiplies by.

use std::borrow::Cow;

use mantissa_model::{Checkpoint, ModelConfig, Weight, WeightDtype};
use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{CastRecipe, EmbeddingRecipe};

use crate::error::EngineError;
use crate::kernel::matrix::{Format, Matrix};
use crate::kernel::rows;
use crate::kernel::share::Shared;
use crate::pool::Pool;
use crate::setup::{EngineSetup, Hardware, QuantizedWeights};

/// A matrix, borrowed from the checkpoint's memory map when its storage can be multiplied as it is.
#[derive(Debug)]
pub(crate) struct Stored<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: Cow<'a, [u8]>,
}

impl Stored<'_> {
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix {
            format: self.format,
            rows: self.rows,
            cols: self.cols,
            row_bytes: self.row_bytes,
            data: &self.data,
        }
    }

    /// Decodes one row into `out` and rounds it.
    pub(crate) fn row(&self, row: usize, recipe: EmbeddingRecipe, out: &mut [f32]) {
        decode(self.format, &self.data[row * self.row_bytes..(row + 1) * self.row_bytes], out);
        for x in out {
            *x = recipe.output.round(*x);
        }
    }
}

fn decode(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::Plain(dtype) => WeightDtype::Plain(dtype).decode(bytes, out),
        Format::Block(block) => block.dequantize(bytes, out),
    }
}

/// A projection.
#[derive(Debug)]
pub(crate) struct Linear<'a> {
    pub weight: Stored<'a>,
    pub bias: Option<Vec<f32>>,
}

/// Gate, up and down projections.
#[derive(Debug)]
pub(crate) struct Mlp<'a> {
    pub gate: Stored<'a>,
    pub up: Stored<'a>,
    pub down: Stored<'a>,
}

/// What follows attention in a block.
#[derive(Debug)]
pub(crate) enum FeedForward<'a> {
    Dense(Mlp<'a>),
    Sparse { router: Stored<'a>, experts: Vec<Mlp<'a>> },
}

/// One decoder block.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub input_norm: Vec<f32>,
    pub post_attention_norm: Vec<f32>,
    pub q: Linear<'a>,
    pub k: Linear<'a>,
    pub v: Linear<'a>,
    pub o: Linear<'a>,
    pub q_norm: Option<Vec<f32>>,
    pub k_norm: Option<Vec<f32>>,
    pub feed_forward: FeedForward<'a>,
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    pub embedding: Stored<'a>,
    pub blocks: Vec<Block<'a>>,
    pub final_norm: Vec<f32>,
    /// `None` when the embedding serves.
    pub lm_head: Option<Stored<'a>>,
}

/// Reads weights of one checkpoint for one setup.
struct Loader<'a, 'p> {
    checkpoint: &'a Checkpoint,
    setup: EngineSetup,
    pool: &'p Pool,
}

impl<'a> Weights<'a> {
    pub(crate) fn load(
        checkpoint: &'a Checkpoint,
        setup: EngineSetup,
        pool: &Pool,
    ) -> Result<Self, EngineError> {
        let loader = Loader { checkpoint, setup, pool };
        let config = checkpoint.config();
        let blocks =
            (0..config.num_hidden_layers).map(|i| loader.block(config, i)).collect::<Result<_, _>>()?;
        Ok(Self {
            embedding: loader.matrix("model.embed_tokens.weight")?,
            blocks,
            final_norm: loader.vector("model.norm.weight")?,
            lm_head: (!config.tie_word_embeddings).then(|| loader.matrix("lm_head.weight")).transpose()?,
        })
    }
}

impl<'a> Loader<'a, '_> {
    fn block(&self, config: &ModelConfig, layer: usize) -> Result<Block<'a>, EngineError> {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        let linear = |part: &str, bias: bool| {
            Ok::<_, EngineError>(Linear {
                weight: self.matrix(&name(&format!("self_attn.{part}_proj.weight")))?,
                bias: bias.then(|| self.vector(&name(&format!("self_attn.{part}_proj.bias")))).transpose()?,
            })
        };
        let head_norm = |part: &str| {
            config.qk_norm.then(|| self.vector(&name(&format!("self_attn.{part}_norm.weight")))).transpose()
        };
        Ok(Block {
            input_norm: self.vector(&name("input_layernorm.weight"))?,
            post_attention_norm: self.vector(&name("post_attention_layernorm.weight"))?,
            q: linear("q", config.qkv_bias)?,
            k: linear("k", config.qkv_bias)?,
            v: linear("v", config.qkv_bias)?,
            o: linear("o", config.o_bias)?,
            q_norm: head_norm("q")?,
            k_norm: head_norm("k")?,
            feed_forward: match &config.moe {
                Some(moe) if config.is_sparse(layer) => FeedForward::Sparse {
                    router: self.matrix(&name("mlp.gate.weight"))?,
                    experts: (0..moe.num_experts)
                        .map(|e| self.mlp(&name(&format!("mlp.experts.{e}"))))
                        .collect::<Result<_, _>>()?,
                },
                _ => FeedForward::Dense(self.mlp(&name("mlp"))?),
            },
        })
    }

    fn mlp(&self, prefix: &str) -> Result<Mlp<'a>, EngineError> {
        Ok(Mlp {
            gate: self.matrix(&format!("{prefix}.gate_proj.weight"))?,
            up: self.matrix(&format!("{prefix}.up_proj.weight"))?,
            down: self.matrix(&format!("{prefix}.down_proj.weight"))?,
        })
    }

    /// A vector, rounded to the storage dtype.
    fn vector(&self, name: &str) -> Result<Vec<f32>, EngineError> {
        let weight = self.checkpoint.weight(name)?;
        let mut out = vec![0.0; weight.rows * weight.cols];
        weight.dtype.decode(&weight.data, &mut out);
        for x in &mut out {
            *x = self.setup.dtype.round(*x);
        }
        Ok(out)
    }

    /// A matrix: as stored where that multiplies exactly as the setup says, else decoded and rounded.
    fn matrix(&self, name: &str) -> Result<Stored<'a>, EngineError> {
        let weight = self.checkpoint.weight(name)?;
        let dtype = self.setup.dtype;
        let (format, keep) = match weight.dtype {
            // A narrower format widens exactly, so it need not be rewritten.
            WeightDtype::Plain(stored) => (Format::Plain(stored), stored == dtype || dtype == Dtype::F32),
            WeightDtype::Block(block) => {
                (Format::Block(block), self.setup.quantized == QuantizedWeights::Keep)
            }
        };
        if matches!(format, Format::Block(_)) && keep && self.setup.hardware != Hardware::Cpu {
            return Err(EngineError::Uncovered {
                hardware: self.setup.hardware.name(),
                what: "a product with quantized weights as stored".to_owned(),
                why: "Hugging Face decodes them first: use --quantization none",
            });
        }
        let row_bytes = weight.row_bytes();
        let Weight { rows, cols, data, .. } = weight;
        if keep {
            return Ok(Stored { format, rows, cols, row_bytes, data });
        }
        let size = dtype.size();
        let mut out = vec![0_u8; rows * cols * size];
        let to = Shared(out.as_mut_ptr());
        let (isa, tasks) = (self.setup.isa, rows.div_ceil(64));
        self.pool.run(tasks, |task| {
            let mut values = vec![0.0_f32; cols];
            for row in task * 64..rows.min(task * 64 + 64) {
                decode(format, &data[row * row_bytes..(row + 1) * row_bytes], &mut values);
                rows::round(isa, CastRecipe { output: dtype }, &mut values);
                let mut bytes = Vec::with_capacity(cols * size);
                for x in &values {
                    dtype.encode(*x, &mut bytes);
                }
                // SAFETY: row `row` of `out` is this task's.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        bytes.as_ptr(),
                        to.get().add(row * cols * size),
                        cols * size,
                    );
                }
            }
        });
        Ok(Stored { format: Format::Plain(dtype), rows, cols, row_bytes: cols * size, data: Cow::Owned(out) })
    }
}
