//! Single values of one row, recomputed from the recorded inputs of the kernel that made them.
//!
//! Each kernel takes the recipe that dispatch names for the whole pass, so a value has the bits it has in the pass. Attention is
//! left out: it needs every earlier key and value, which evidence does not hold.

use mantissa_numerics::site::{Phase, Point, Site};

use super::{Engine, Pass};
use crate::error::EngineError;
use crate::kernel::matmul::matmul_one;
use crate::kernel::matrix::Matrix;
use crate::kernel::rows;
use crate::tap::RowId;
use crate::weights::{FeedForward, Linear, Stored};

/// Which row of which pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpotRow {
    /// Kind of pass.
    pub phase: Phase,
    /// Sequences of the pass.
    pub batch_size: usize,
    /// Positions of each that the pass fed: 1 in decode.
    pub positions: usize,
    /// Position in the sequence.
    pub position: usize,
    /// The token fed there.
    pub token: u32,
}

/// The sites of the same row that a site is recomputed from; `None` where it cannot be.
#[must_use]
pub fn inputs(site: Site, layers: u32) -> Option<Vec<Site>> {
    let Some(layer) = site.layer.map(|layer| layer.0) else {
        return match site.point {
            Point::EmbedOut => Some(Vec::new()),
            Point::FinalNorm => Some(vec![Site::at(layers, Point::XOut)]),
            Point::Logits => Some(vec![Site::outside(Point::FinalNorm)]),
            _ => None,
        };
    };
    let at = |point| Site::at(layer, point);
    match site.point {
        Point::XIn if layer == 1 => Some(vec![Site::outside(Point::EmbedOut)]),
        Point::XIn => Some(vec![Site::at(layer - 1, Point::XOut)]),
        Point::Q | Point::K | Point::V => Some(vec![at(Point::XIn)]),
        Point::XAfterAttn => Some(vec![at(Point::XIn), at(Point::AttnOut)]),
        Point::FfnNorm => Some(vec![at(Point::XAfterAttn)]),
        Point::MlpOut => Some(vec![at(Point::FfnNorm)]),
        Point::XOut => Some(vec![at(Point::XAfterAttn), at(Point::MlpOut)]),
        _ => None,
    }
}

impl Engine<'_> {
    /// Element `column` of `site`, from rows of [`inputs`] in their order.
    ///
    /// *Shape:* each input is as wide as its site. *Rounding:* as the pass that `row` belongs to.
    /// Returns `None` where the site cannot be recomputed, or an input or the column has another width.
    /// *Errors:* a token outside the vocabulary, a position outside the context, a shape that no verified recipe covers.
    pub fn spot(
        &self,
        row: SpotRow,
        site: Site,
        column: usize,
        inputs: &[&[f32]],
    ) -> Result<Option<f32>, EngineError> {
        self.check_tokens(&[row.token], row.position)?;
        if row.position >= self.setup.context {
            return Err(EngineError::Context { position: row.position, context: self.setup.context });
        }
        let keys = match row.phase {
            Phase::Prefill => row.positions,
            Phase::Decode => row.position + 1,
        };
        self.dispatch.check(self.config, row.phase, row.batch_size, row.positions, keys)?;
        let rows = [RowId { sequence: 0, position: row.position }];
        let layer = site.layer.map_or(0, |layer| layer.0.saturating_sub(1)) as usize;
        let pass = Pass { phase: row.phase, m: row.batch_size * row.positions, rows: &rows, keys, layer };
        let hidden = self.config.hidden_size;
        if inputs.iter().any(|input| input.len() != hidden) {
            return Ok(None);
        }
        let Some(block) = self.weights.blocks.get(layer) else { return Ok(None) };
        Ok(match (site.point, inputs) {
            (Point::EmbedOut, []) => {
                let mut x = vec![0.0; hidden];
                self.weights.embedding.row(row.token as usize, self.dispatch.embedding(), &mut x);
                x.get(column).copied()
            }
            (Point::XIn, [x]) => x.get(column).copied(),
            (Point::XAfterAttn | Point::XOut, [x, y]) => {
                let mut x = x.to_vec();
                self.residual(&pass, &mut x, y);
                x.get(column).copied()
            }
            (Point::FfnNorm, [x]) => {
                self.norm(&pass, "post_attention_norm", x, &block.post_attention_norm).get(column).copied()
            }
            (Point::FinalNorm, [x]) => {
                self.norm(&pass, "final_norm", x, &self.weights.final_norm).get(column).copied()
            }
            (Point::Logits, [x]) => {
                let head = self.weights.lm_head.as_ref().unwrap_or(&self.weights.embedding);
                self.outputs(&pass, x, head, column..column + 1, false).and_then(|x| x.first().copied())
            }
            (Point::V, [x]) => {
                let normed = self.norm(&pass, "input_norm", x, &block.input_norm);
                self.projected(&pass, &normed, &block.v, column..column + 1).and_then(|x| x.first().copied())
            }
            (Point::Q, [x]) => {
                let normed = self.norm(&pass, "input_norm", x, &block.input_norm);
                let norm = block.q_norm.as_deref().map(|norm| ("q_norm", norm));
                self.head_value(&pass, &normed, &block.q, norm, self.config.num_attention_heads, column)
            }
            (Point::K, [x]) => {
                let normed = self.norm(&pass, "input_norm", x, &block.input_norm);
                let norm = block.k_norm.as_deref().map(|norm| ("k_norm", norm));
                self.head_value(&pass, &normed, &block.k, norm, self.config.num_key_value_heads, column)
            }
            (Point::MlpOut, [x]) => match &block.feed_forward {
                FeedForward::Sparse { .. } => None,
                FeedForward::Dense(mlp) => {
                    let inner = mlp.gate.matrix().rows;
                    let mut gate = self.product(&pass, "gate_proj", x, &mlp.gate);
                    let up = self.product(&pass, "up_proj", x, &mlp.up);
                    debug_assert!(gate.len() == inner && up.len() == inner);
                    rows::swiglu(self.setup.isa, &self.pool, self.dispatch.swiglu(), &mut gate, &up);
                    self.outputs(&pass, &gate, &mlp.down, column..column + 1, false)
                        .and_then(|x| x.first().copied())
                }
            },
            _ => None,
        })
    }

    /// Outputs `columns` of a product, by the recipe of the whole.
    fn outputs(
        &self,
        pass: &Pass<'_>,
        x: &[f32],
        weight: &Stored<'_>,
        columns: std::ops::Range<usize>,
        biased: bool,
    ) -> Option<Vec<f32>> {
        let whole = weight.matrix();
        let recipe = self.dispatch.matmul(pass.m, whole.rows, whole.cols, biased);
        let data = whole.data.get(columns.start * whole.row_bytes..columns.end * whole.row_bytes)?;
        let part = Matrix { rows: columns.len(), data, ..whole };
        let mut out = vec![0.0; columns.len()];
        matmul_one(self.setup.isa, &self.pool, recipe, x, part, &mut out);
        Some(out)
    }

    /// The same with its bias.
    fn projected(
        &self,
        pass: &Pass<'_>,
        x: &[f32],
        linear: &Linear<'_>,
        columns: std::ops::Range<usize>,
    ) -> Option<Vec<f32>> {
        let mut out = self.outputs(pass, x, &linear.weight, columns.clone(), linear.bias.is_some())?;
        if let Some(bias) = &linear.bias {
            self.bias(pass, &mut out, bias.get(columns)?);
        }
        Some(out)
    }

    /// A value of a query or key after norm and rotation: its whole head is computed.
    fn head_value(
        &self,
        pass: &Pass<'_>,
        normed: &[f32],
        linear: &Linear<'_>,
        norm: Option<(&'static str, &[f32])>,
        heads: usize,
        column: usize,
    ) -> Option<f32> {
        let dim = self.config.head_dim;
        let first = column / dim * dim;
        let mut head = self.projected(pass, normed, linear, first..first + dim)?;
        if let Some((_, weight)) = norm {
            // The kernel's rows are all heads of all rows.
            let recipe = self.dispatch.norm(pass.m * heads, dim);
            #[expect(clippy::cast_possible_truncation, reason = "PyTorch adds epsilon to a binary32 tensor")]
            let eps = self.config.rms_norm_eps as f32;
            let x = head.clone();
            rows::rms_norm(self.setup.isa, &self.pool, recipe, &x, weight, eps, &mut head);
        }
        let table = self.rope.position(pass.rows.first()?.position);
        rows::rotary(self.setup.isa, &self.pool, self.dispatch.rotary(), &mut head, dim, &[table]);
        head.get(column - first).copied()
    }
}
