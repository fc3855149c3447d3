//! The weights of a checkpoint, in the form that the setup multiplies with.

use std::borrow::Cow;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, OnceLock};

use mantissa_model::graph::{ExpertLinear, ExpertWeight, Graph, Node, Operation, Section, WeightName};
use mantissa_model::quantized::{Int4 as Layout, Int4Matrix, Nf4Matrix};
use mantissa_model::tensor_list::weight_name;
use mantissa_model::{Checkpoint, Weight, WeightDtype};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::bnb::Nf4Way;
use mantissa_numerics::recipe::{CastRecipe, EmbeddingRecipe, LinearSum, MatmulRecipe, PackedKernel};
use mantissa_numerics::setup::{Hardware, QuantizedWeights};

use crate::error::EngineError;
use crate::kernel::matrix::{Format, Matrix};
use crate::kernel::rows;
use crate::kernel::share::Shared;
use crate::pool::Pool;
use crate::setup::EngineSetup;
use crate::simd::Isa;

/// A matrix, borrowed from the checkpoint's memory map when its storage can be multiplied as it is.
#[derive(Debug)]
pub(crate) struct Stored<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: Cow<'a, [u8]>,
    /// What is decoded otherwise by each recipe; then `data` is empty.
    packed: Option<Box<Kept<'a>>>,
}

/// A matrix that stays as it is stored.
#[derive(Debug)]
enum Kept<'a> {
    Nf4(Nf4<'a>),
    Int4(Int4<'a>),
}

/// A matrix of integers of 4 bits, and its weights as far as recipes asked for them, of each kernel.
#[derive(Debug)]
struct Int4<'a> {
    stored: Int4Matrix<'a>,
    dtype: Dtype,
    decoded: [OnceLock<Vec<u8>>; 2],
}

impl Int4<'_> {
    /// The weights of the kernel of `summation`; of every other sum those that are rounded once.
    fn weights(&self, pool: &Pool, summation: LinearSum) -> &[u8] {
        let kernel = match summation {
            LinearSum::Packed(sum) => sum.kernel(),
            _ => PackedKernel::Marlin { group: NonZeroU32::MIN },
        };
        self.decoded[usize::from(kernel != PackedKernel::Machete)].get_or_init(|| {
            let decode = |row: usize, values: &mut [f32]| self.stored.row(kernel, self.dtype, row, values);
            encoded(pool, [self.stored.rows(), self.stored.cols()], self.dtype, &decode)
        })
    }
}

/// A matrix of nf4, and its weights in bf16 as far as recipes asked for them: two copies at most, three where scales
/// are nested.
#[derive(Debug)]
struct Nf4<'a> {
    stored: Nf4Matrix<'a>,
    decoded: [OnceLock<Vec<u8>>; 3],
}

impl Nf4<'_> {
    /// The weights of the way that `summation` goes; of every other sum those that a library gets.
    fn weights(&self, pool: &Pool, summation: LinearSum) -> &[u8] {
        let way = match summation {
            LinearSum::Nf4(sum) => sum.way(),
            _ => Nf4Way::Decoded,
        };
        let place = match way {
            Nf4Way::Simt => 0,
            Nf4Way::Mma => 1,
            // Without nested scales they are the same.
            Nf4Way::Decoded => 1 + usize::from(self.stored.is_nested()),
        };
        self.decoded[place].get_or_init(|| {
            let decode = |row: usize, values: &mut [f32]| self.stored.row(way, row, values);
            encoded(pool, [self.stored.rows(), self.stored.cols()], Dtype::Bf16, &decode)
        })
    }
}

impl Stored<'_> {
    /// What `recipe` multiplies by.
    pub(crate) fn matrix(&self, pool: &Pool, recipe: MatmulRecipe) -> Matrix<'_> {
        let data = match self.packed.as_deref() {
            Some(Kept::Nf4(nf4)) => nf4.weights(pool, recipe.summation),
            Some(Kept::Int4(int4)) => int4.weights(pool, recipe.summation),
            None => &self.data,
        };
        Matrix { format: self.format, rows: self.rows, cols: self.cols, row_bytes: self.row_bytes, data }
    }

    /// Outputs.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn plain(dtype: Dtype, [rows, cols]: [usize; 2], data: Cow<'_, [u8]>) -> Stored<'_> {
        Stored {
            format: Format::Plain(dtype),
            rows,
            cols,
            row_bytes: cols * dtype.size(),
            data,
            packed: None,
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

/// A matrix whose rows `decode` gives, in `dtype`.
fn encoded(
    pool: &Pool,
    [rows, cols]: [usize; 2],
    dtype: Dtype,
    decode: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Vec<u8> {
    let size = dtype.size();
    let mut out = vec![0_u8; rows * cols * size];
    let to = Shared(out.as_mut_ptr());
    pool.run(rows.div_ceil(64), |task| {
        let mut values = vec![0.0_f32; cols];
        for row in task * 64..rows.min(task * 64 + 64) {
            decode(row, &mut values);
            // SAFETY: row `row` of `out` is this task's.
            let bytes =
                unsafe { std::slice::from_raw_parts_mut(to.get().add(row * cols * size), cols * size) };
            dtype.encode_each(&values, bytes);
        }
    });
    out
}

fn decode(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::Plain(dtype) => WeightDtype::Plain(dtype).decode(bytes, out),
        Format::Block(block) => block.dequantize(bytes, out),
    }
}

/// What a node multiplies or adds.
#[derive(Debug)]
pub(crate) enum NodeWeights<'a> {
    /// Nothing.
    None,
    /// A matrix; shared where the output projection is the embedding.
    Matrix(Arc<Stored<'a>>),
    /// A vector; experts' biases one behind the other.
    Vector(Vec<f32>),
    /// A matrix for each expert.
    Experts(Vec<Stored<'a>>),
}

impl<'a> NodeWeights<'a> {
    /// The matrix of a node that has one.
    pub(crate) fn stored(&self) -> &Stored<'a> {
        match self {
            Self::Matrix(stored) => stored,
            other => unreachable!("a product's weight is no {other:?}"),
        }
    }

    /// The vector of a node that has one.
    pub(crate) fn vector(&self) -> &[f32] {
        match self {
            Self::Vector(vector) => vector,
            other => unreachable!("a vector is no {other:?}"),
        }
    }

    /// The experts' matrices of a node that has them.
    pub(crate) fn experts(&self) -> &[Stored<'a>] {
        match self {
            Self::Experts(experts) => experts,
            other => unreachable!("experts' weights are no {other:?}"),
        }
    }
}

/// All weights of a model, node by node as its graph lists them.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    pub stem: Vec<NodeWeights<'a>>,
    pub blocks: Vec<Vec<NodeWeights<'a>>>,
    pub head: Vec<NodeWeights<'a>>,
}

/// Reads weights of one checkpoint for one setup.
struct Loader<'a, 'p> {
    checkpoint: &'a Checkpoint,
    setup: &'p EngineSetup,
    pool: &'p Pool,
    /// The embedding, once it is read.
    embedding: Option<(WeightName, Arc<Stored<'a>>)>,
}

impl<'a> Weights<'a> {
    pub(crate) fn load(
        checkpoint: &'a Checkpoint,
        graph: &Graph,
        setup: &EngineSetup,
        pool: &Pool,
    ) -> Result<Self, EngineError> {
        let mut loader = Loader { checkpoint, setup, pool, embedding: None };
        let stem = loader.section(&graph.stem, 0)?;
        let blocks = graph.blocks.iter().enumerate();
        let blocks = blocks
            .map(|(layer, kind)| loader.section(&graph.kinds[*kind], layer))
            .collect::<Result<_, _>>()?;
        Ok(Self { stem, blocks, head: loader.section(&graph.head, 0)? })
    }
}

impl<'a> Loader<'a, '_> {
    fn section(&mut self, section: &Section, layer: usize) -> Result<Vec<NodeWeights<'a>>, EngineError> {
        section.nodes.iter().map(|node| self.node(section, node, layer)).collect()
    }

    fn node(&mut self, section: &Section, node: &Node, layer: usize) -> Result<NodeWeights<'a>, EngineError> {
        let name = |template| weight_name(template, layer, 0);
        Ok(match &node.operation {
            Operation::Embedding { weight, .. } => {
                let matrix = Arc::new(self.matrix(&name(weight))?);
                self.embedding = Some((weight, Arc::clone(&matrix)));
                NodeWeights::Matrix(matrix)
            }
            Operation::Linear(linear) => match &self.embedding {
                Some((weight, matrix)) if *weight == linear.weight => NodeWeights::Matrix(Arc::clone(matrix)),
                _ => {
                    let dispatch = self.setup.dispatch();
                    let name = name(linear.weight);
                    let stored = match dispatch.int4(section, node) {
                        Some(layout) => self.int4(&name, layout)?,
                        None => self.linear(&name, dispatch.nf4_block(section, node))?,
                    };
                    NodeWeights::Matrix(Arc::new(stored))
                }
            },
            Operation::Expand(expand) => NodeWeights::Matrix(Arc::new(self.matrix(&name(expand.weight))?)),
            Operation::Norm(norm) => NodeWeights::Vector(self.vector(&name(norm.weight))?),
            Operation::Bias { weight } => NodeWeights::Vector(self.vector(&name(weight))?),
            Operation::Attention(attention) => match attention.sinks {
                Some(sinks) => NodeWeights::Vector(self.vector(&name(sinks))?),
                None => NodeWeights::None,
            },
            Operation::ExpertLinear(linear) => match linear.weight {
                ExpertWeight::Each(template) => {
                    let layout = self.setup.dispatch().int4(section, node);
                    let matrix = |expert| {
                        let name = weight_name(template, layer, expert);
                        layout.map_or_else(|| self.matrix(&name), |layout| self.int4(&name, layout))
                    };
                    NodeWeights::Experts((0..linear.experts).map(matrix).collect::<Result<_, _>>()?)
                }
                ExpertWeight::Stacked { name: template, transposed } => {
                    NodeWeights::Experts(self.stacked(&name(template), linear, transposed)?)
                }
            },
            Operation::ExpertBias { weight: ExpertWeight::Stacked { name: template, .. } } => {
                NodeWeights::Vector(self.vector(&name(template))?)
            }
            Operation::ExpertBias { weight: ExpertWeight::Each(_) } => {
                unreachable!("biases of experts are stacked, as no family has others")
            }
            _ => NodeWeights::None,
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

    /// The matrices of experts that one tensor holds. Transposed ones are turned into rows of outputs here, once, an
    /// expert a task: unlike a matrix of the file they are a copy in memory, as large as the experts in the setup's
    /// dtype (docs/performance.md, "Memory").
    fn stacked(
        &self,
        name: &str,
        linear: &ExpertLinear,
        transposed: bool,
    ) -> Result<Vec<Stored<'a>>, EngineError> {
        let Weight { dtype, data, rows, cols } = self.checkpoint.weight(name)?;
        let rows = rows / linear.experts;
        let size = data.len() / linear.experts;
        let of_expert = |expert: usize| {
            let range = expert * size..(expert + 1) * size;
            let data = match &data {
                Cow::Borrowed(data) => Cow::Borrowed(&data[range]),
                Cow::Owned(data) => Cow::Owned(data[range].to_vec()),
            };
            Weight { dtype, rows, cols, data }
        };
        if !transposed {
            return (0..linear.experts).map(|expert| self.prepared(of_expert(expert))).collect();
        }
        let (isa, output) = (self.setup.isa, self.setup.dtype);
        let turned: Vec<OnceLock<Stored<'a>>> = (0..linear.experts).map(|_| OnceLock::new()).collect();
        self.pool.run(linear.experts, |expert| {
            turned[expert].get_or_init(|| Self::turned(isa, output, &of_expert(expert)));
        });
        let all = turned.into_iter().map(OnceLock::into_inner).collect::<Option<_>>();
        Ok(all.unwrap_or_else(|| unreachable!("the pool runs every task")))
    }

    /// The transpose of a matrix, rounded to `dtype`.
    fn turned(isa: Isa, dtype: Dtype, weight: &Weight<'_>) -> Stored<'a> {
        let (rows, cols, size) = (weight.cols, weight.rows, dtype.size());
        let mut out = vec![0_u8; rows * cols * size];
        let mut values = vec![0.0_f32; weight.cols];
        let mut bytes = Vec::with_capacity(weight.cols * size);
        for col in 0..cols {
            weight.row_f32(col, &mut values);
            rows::round(isa, CastRecipe { output: dtype }, &mut values);
            bytes.clear();
            for x in &values {
                dtype.encode(*x, &mut bytes);
            }
            for (row, value) in bytes.chunks_exact(size).enumerate() {
                out[(row * cols + col) * size..][..size].copy_from_slice(value);
            }
        }
        Stored::plain(dtype, [rows, cols], Cow::Owned(out))
    }

    /// The matrix of a product, which is nf4 in blocks of `block` if there is one.
    fn linear(&self, name: &str, block: Option<NonZeroUsize>) -> Result<Stored<'a>, EngineError> {
        let keep = self.setup.quantized == QuantizedWeights::Keep && self.setup.dispatch().is_gpu();
        let stored = self.checkpoint.nf4(name).filter(|_| keep);
        if stored.as_ref().map(Nf4Matrix::block) != block.map(NonZeroUsize::get) {
            let why = "only models whose blocks are quantized alike, and whose head is not, are known";
            return Err(EngineError::kernel(self.setup.hardware, format!("nf4 at {name}"), why, why));
        }
        let Some(stored) = stored else { return self.matrix(name) };
        if !stored.is_multiplied() {
            let why = "bitsandbytes multiplies by blocks of a power of two from 32 on, nested scales in blocks of 256";
            return Err(EngineError::kernel(self.setup.hardware, format!("nf4 at {name}"), why, why));
        }
        let plain = Stored::plain(Dtype::Bf16, [stored.rows(), stored.cols()], Cow::Borrowed(&[]));
        let kept = Kept::Nf4(Nf4 { stored, decoded: Default::default() });
        Ok(Stored { packed: Some(Box::new(kept)), ..plain })
    }

    /// The matrix of a product, which is integers of 4 bits.
    fn int4(&self, name: &str, layout: Layout) -> Result<Stored<'a>, EngineError> {
        let refused = |why| {
            Err(EngineError::kernel(self.setup.hardware, format!("weights of 4 bits at {name}"), why, why))
        };
        let Some(stored) = self.checkpoint.int4(name) else {
            return refused("only models whose blocks are quantized alike are known");
        };
        if stored.layout() != layout {
            return refused("only models whose blocks are quantized alike are known");
        }
        if let Some(why) = stored.refused() {
            return refused(why);
        }
        let dtype = self.setup.dtype;
        let plain = Stored::plain(dtype, [stored.rows(), stored.cols()], Cow::Borrowed(&[]));
        let kept = Kept::Int4(Int4 { stored, dtype, decoded: Default::default() });
        Ok(Stored { packed: Some(Box::new(kept)), ..plain })
    }

    /// A matrix: as stored where that multiplies exactly as the setup says, else decoded and rounded.
    fn matrix(&self, name: &str) -> Result<Stored<'a>, EngineError> {
        self.prepared(self.checkpoint.weight(name)?)
    }

    fn prepared(&self, weight: Weight<'a>) -> Result<Stored<'a>, EngineError> {
        let dtype = self.setup.dtype;
        let (format, keep) = match weight.dtype {
            // A narrower format widens exactly, so it need not be rewritten.
            WeightDtype::Plain(stored) => (Format::Plain(stored), stored == dtype || dtype == Dtype::F32),
            WeightDtype::Block(block) => {
                (Format::Block(block), self.setup.quantized == QuantizedWeights::Keep)
            }
        };
        if matches!(format, Format::Block(_)) && keep && self.setup.hardware != Hardware::Cpu {
            let what = "a product with quantized weights as stored";
            let why = "Hugging Face decodes them first: use --quantization none";
            return Err(EngineError::kernel(self.setup.hardware, what.to_owned(), why, what));
        }
        let row_bytes = weight.row_bytes();
        let Weight { rows, cols, data, .. } = weight;
        if keep {
            return Ok(Stored { format, rows, cols, row_bytes, data, packed: None });
        }
        let isa = self.setup.isa;
        let out = encoded(self.pool, [rows, cols], dtype, &|row, values| {
            decode(format, &data[row * row_bytes..(row + 1) * row_bytes], values);
            rows::round(isa, CastRecipe { output: dtype }, values);
        });
        Ok(Stored::plain(dtype, [rows, cols], Cow::Owned(out)))
    }
}
