//! Orders of the sums of matrix products: of a product with a weight, and of attention's two products on a GPU.

use std::num::NonZeroU16;

use super::collective::AllReduceSum;
use super::packed::{PackedRanks, PackedSum};
use super::packed_experts::PackedExperts;
use crate::Dtype;
use crate::nvidia::bnb::Nf4Way;
use crate::tensor_core::BlockRecipe;

/// Virtual lanes of a sum: lane `k mod lanes` takes element `k`; then the halving tree `a[i] += a[i + half]` for
/// `half = lanes/2 … 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lanes {
    /// 16 lanes.
    L16,
    /// 32 lanes.
    L32,
    /// 64 lanes.
    L64,
}

impl Lanes {
    /// Every number of lanes.
    pub const ALL: [Self; 3] = [Self::L16, Self::L32, Self::L64];

    /// How many lanes.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::products::by_threads;
    /// use mantissa_numerics::recipe::{Lanes, ThreadSum};
    /// let mut x = [0.0; 128];
    /// x[0] = 16_777_216.0; // 2^24, beside which a single 1 is lost
    /// for k in [16, 32, 48, 96] {
    ///     x[k] = 1.0;
    /// }
    /// // One lane of 16 has all of them. The more lanes, the more ones meet before they meet 2^24.
    /// let sum = |lanes: Lanes| by_threads(ThreadSum::new(lanes.count(), 1, false).unwrap(), 128, |k| (x[k], 1.0));
    /// assert_eq!(Lanes::ALL.map(sum), [16_777_216.0, 16_777_218.0, 16_777_220.0]);
    /// ```
    #[must_use]
    pub const fn count(self) -> u16 {
        match self {
            Self::L16 => 16,
            Self::L32 => 32,
            Self::L64 => 64,
        }
    }
}

/// A sum by steps of a tensor core along `K`, in parts that are added in ascending order in binary32.
///
/// *Rounding:* as [`BlockRecipe`] in each step; binary32 where parts are added. *Source:* cuBLAS 13.1, compared with an
/// H200; [`split_k`](crate::nvidia::products::split_k) says where `K` is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorCoreSum {
    /// One step.
    pub block: BlockRecipe,
    /// Split-K: parts of `ceil(ceil(K / 64) / parts) · 64`, each summed from `+0`. 1 is no cut.
    pub parts: NonZeroU16,
}

impl TensorCoreSum {
    /// A walk along `K` that is not cut.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::products::split_k;
    /// use mantissa_numerics::recipe::TensorCoreSum;
    /// use mantissa_numerics::tensor_core::{Architecture, Operand};
    /// let uncut = TensorCoreSum::uncut(Architecture::Hopper.block(Operand::Bf16).unwrap());
    /// // One chain of steps, however long K is. Two parts are whole tiles of 64 each, not halves.
    /// let cut = TensorCoreSum { parts: 2.try_into().unwrap(), ..uncut };
    /// assert_eq!(split_k(4100, uncut.parts), [0..4100]);
    /// assert_eq!(split_k(4100, cut.parts), [0..2112, 2112..4100]);
    /// ```
    #[must_use]
    pub const fn uncut(block: BlockRecipe) -> Self {
        Self { block, parts: NonZeroU16::MIN }
    }
}

/// A sum by the threads of a matrix-vector kernel: thread `(k / vector) mod threads` takes `k` by `fma`, ascending from
/// `+0`; then the halving tree, or the threads in ascending order.
///
/// *Rounding:* binary32 after every `fma` and addition. *Source:* cuBLAS 13.1, compared with an H200;
/// [`by_threads`](crate::nvidia::products::by_threads) computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadSum {
    threads: u16,
    vector: NonZeroU16,
    in_order: bool,
}

impl ThreadSum {
    /// The most threads that share a sum.
    pub const MOST_THREADS: u16 = 64;

    /// A sum by `threads` (a power of two of at most 64), which take `vector` neighbours of `K` at a time and are added
    /// in ascending order if `in_order`, else by the halving tree. `None` for other numbers.
    ///
    /// ```
    /// use mantissa_numerics::recipe::ThreadSum;
    /// assert!(ThreadSum::new(16, 4, false).is_some());
    /// assert!(ThreadSum::new(3, 4, false).is_none() && ThreadSum::new(16, 0, false).is_none());
    /// ```
    #[must_use]
    pub const fn new(threads: u16, vector: u16, in_order: bool) -> Option<Self> {
        match NonZeroU16::new(vector) {
            Some(vector) if threads.is_power_of_two() && threads <= Self::MOST_THREADS => {
                Some(Self { threads, vector, in_order })
            }
            _ => None,
        }
    }

    /// Threads: a power of two of at most 64.
    ///
    /// ```
    /// use mantissa_numerics::recipe::ThreadSum;
    /// let sum = ThreadSum::new(4, 2, false).unwrap();
    /// // Neighbours of K go to one thread, the next ones to the next, and after the last to the first again.
    /// let thread = |k: u16| k / sum.vector() % sum.threads();
    /// assert_eq!([0, 1, 2, 3, 7, 8].map(thread), [0, 0, 1, 1, 3, 0]);
    /// ```
    #[must_use]
    pub const fn threads(self) -> u16 {
        self.threads
    }

    /// Neighbours of `K` that a thread takes at a time.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::products::by_threads;
    /// use mantissa_numerics::recipe::ThreadSum;
    /// let x = [16_777_216.0, 1.0, 0.0, 1.0];
    /// let add = |sum: ThreadSum| (sum.vector().get(), by_threads(sum, 4, |k| (x[k], 1.0)));
    /// // One at a time, the second of two threads gets both ones. Two at a time, each 1 meets 2^24 alone and is lost.
    /// let sums = [1, 2].map(|vector| add(ThreadSum::new(2, vector, false).unwrap()));
    /// assert_eq!(sums, [(1, 16_777_218.0), (2, 16_777_216.0)]);
    /// ```
    #[must_use]
    pub const fn vector(self) -> NonZeroU16 {
        self.vector
    }

    /// Whether threads are added in ascending order instead of by the halving tree.
    ///
    /// ```
    /// use mantissa_numerics::nvidia::products::by_threads;
    /// use mantissa_numerics::recipe::ThreadSum;
    /// let x = [16_777_216.0, 1.0, 0.0, 1.0];
    /// let add = |sum: ThreadSum| (sum.in_order(), by_threads(sum, 4, |k| (x[k], 1.0)));
    /// // Four threads with one element each. The tree adds the ones to each other before they meet 2^24.
    /// let sums = [true, false].map(|in_order| add(ThreadSum::new(4, 1, in_order).unwrap()));
    /// assert_eq!(sums, [(true, 16_777_216.0), (false, 16_777_218.0)]);
    /// ```
    #[must_use]
    pub const fn in_order(self) -> bool {
        self.in_order
    }
}

/// A sum whose `K` is divided among tensor-parallel ranks: each rank sums its equal part, rounded to the product's
/// format, and an all-reduce adds what they have.
///
/// ```
/// use mantissa_numerics::recipe::{AllReduceSum, LinearSum, RankOrder, RankSum, TensorCoreSum};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let each = TensorCoreSum::uncut(Architecture::Hopper.block(Operand::Bf16).unwrap());
/// let two = |order| LinearSum::Ranks(RankSum { each, reduce: AllReduceSum::new(2, order).unwrap() });
/// // Two ranks: no kernel for the all-reduce can be told from another, and one rank can.
/// assert_eq!(two(RankOrder::EachAlongRing), two(RankOrder::Once));
/// assert_ne!(two(RankOrder::Once), LinearSum::TensorCore(each));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RankSum {
    /// The sum of a rank's part, of which split-K cuts `K / ranks`.
    pub each: TensorCoreSum,
    /// How ranks' sums are added.
    pub reduce: AllReduceSum,
}

/// A sum of products with weights of nf4, as bitsandbytes computes it: each way has weights of its own.
///
/// *Source:* [`nvidia::bnb`](crate::nvidia::bnb).
///
/// ```
/// use mantissa_numerics::nvidia::bnb::Nf4Way;
/// use mantissa_numerics::recipe::{LinearSum, Nf4Sum, wire::Summation};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let steps = LinearSum::Nf4(Nf4Sum::Mma(block));
/// assert_eq!(Nf4Sum::Mma(block).way(), Nf4Way::Mma);
/// assert_eq!(LinearSum::try_from(Summation::Nf4Mma { block }), Ok(steps));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nf4Sum {
    /// [`by_warp`](crate::nvidia::bnb::by_warp).
    Simt,
    /// One chain of steps along `K`; a subnormal sum is flushed.
    Mma(BlockRecipe),
    /// The product of a library, with weights that were decoded before.
    Decoded(TensorCoreSum),
}

impl Nf4Sum {
    /// The way, which says what weights are worth.
    ///
    /// Example: [`Nf4Sum`].
    #[must_use]
    pub const fn way(self) -> Nf4Way {
        match self {
            Self::Simt => Nf4Way::Simt,
            Self::Mma(_) => Nf4Way::Mma,
            Self::Decoded(_) => Nf4Way::Decoded,
        }
    }
}

/// How one output of a product with a weight is summed over the reduction axis `K`.
///
/// ```
/// use mantissa_numerics::nvidia::products::by_threads;
/// use mantissa_numerics::recipe::{Lanes, ThreadSum};
/// let x = [16_777_216.0, 1.0, 0.0, 1.0];
/// let sum = |threads| by_threads(ThreadSum::new(threads, 1, false).unwrap(), 4, |k| (x[k], 1.0));
/// // `FmaChain` adds as one thread does and loses each 1 beside 2^24; lanes add both ones first.
/// assert_eq!((sum(1), sum(Lanes::L16.count())), (16_777_216.0, 16_777_218.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinearSum {
    /// `acc = fma(x[k], w[k], acc)` for `k` ascending from `acc = +0`, then `acc + 0` (a zero sum is `+0`).
    FmaChain,
    /// A chain of that kind in each lane, then the lanes' halving tree, then `a[0] + 0`. Rows are padded with zeros to
    /// a multiple of 64.
    LaneChains {
        /// Lanes.
        lanes: Lanes,
    },
    /// A GPU's.
    TensorCore(TensorCoreSum),
    /// Several GPUs'.
    Ranks(RankSum),
    /// The part of each rank, which has an equal part of `K`: outputs of rank 0, then of rank 1, … of each row. An
    /// expert's, whose ranks' parts meet after the sum over experts.
    RankParts {
        /// The sum of a rank's part.
        each: TensorCoreSum,
        /// Ranks.
        ranks: NonZeroU16,
    },
    /// bitsandbytes', with a weight of nf4.
    Nf4(Nf4Sum),
    /// vLLM's, with packed weights.
    Packed(PackedSum),
    /// vLLM's, of tokens with packed weights of their experts.
    PackedExperts(PackedExperts),
}

/// A product `x · wᵀ`: `x` is `m × k`, `w` is `n × k`, both exact in binary32.
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{LinearSum, MatmulRecipe, TensorCoreSum};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let uncut = |gpu: Architecture| MatmulRecipe {
///     summation: LinearSum::TensorCore(TensorCoreSum::uncut(gpu.block(Operand::Bf16).unwrap())),
///     output: Dtype::Bf16,
/// };
/// // Equal recipes leave equal bits. As published, an A100 and an L40S take equal steps, an H100 others.
/// assert_eq!(uncut(Architecture::Ampere), uncut(Architecture::Ada));
/// assert_ne!(uncut(Architecture::Ampere), uncut(Architecture::Hopper));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatmulRecipe {
    /// Order of the sum.
    pub summation: LinearSum,
    /// Format that the sum is rounded to, once; binary32 where a bias follows ([`BiasRecipe`](super::BiasRecipe)),
    /// and of vLLM's experts, whose kernel multiplies by their weights before it rounds
    /// ([`ExpertSumRecipe`](super::ExpertSumRecipe)).
    pub output: Dtype,
}

impl MatmulRecipe {
    /// Outputs that a row has for each row of the weight: 1, or one of each rank.
    ///
    /// ```
    /// use mantissa_numerics::Dtype;
    /// use mantissa_numerics::recipe::{LinearSum, MatmulRecipe};
    /// let one = MatmulRecipe { summation: LinearSum::FmaChain, output: Dtype::Bf16 };
    /// assert_eq!(one.parts(), 1);
    /// ```
    #[must_use]
    pub fn parts(self) -> usize {
        match self.summation {
            LinearSum::RankParts { ranks, .. } => usize::from(ranks.get()),
            LinearSum::PackedExperts(sum) => sum.ranks.shown(),
            _ => 1,
        }
    }

    /// Whether an output's bits depend on where in the tensor of all rows it is.
    ///
    /// Example: [`AllReduceSum::depends_on_place`](super::AllReduceSum::depends_on_place).
    #[must_use]
    pub const fn depends_on_place(self) -> bool {
        match self.summation {
            LinearSum::Ranks(sum) => sum.reduce.depends_on_place(),
            LinearSum::Packed(_) | LinearSum::PackedExperts(_) => true,
            _ => false,
        }
    }

    /// Whether it depends on where among all rows and outputs it is: on an all-reduce whose first rank changes.
    ///
    /// Example: [`AllReduceSum::depends_on_place`](super::AllReduceSum::depends_on_place).
    #[must_use]
    pub const fn reduces_by_place(self) -> bool {
        match self.summation {
            LinearSum::Ranks(sum) => sum.reduce.depends_on_place(),
            LinearSum::Packed(sum) => match sum.ranks() {
                PackedRanks::Added(reduce) => reduce.depends_on_place(),
                _ => false,
            },
            _ => false,
        }
    }

    /// The recipe of the outputs from `output` on.
    ///
    /// Example: [`PackedSum`].
    #[must_use]
    pub fn from_output(self, output: usize) -> Self {
        match self.summation {
            LinearSum::Packed(sum) => Self { summation: LinearSum::Packed(sum.from_output(output)), ..self },
            _ => self,
        }
    }
}

/// How a GPU sums one of attention's batched products of bf16.
///
/// ```
/// use mantissa_numerics::recipe::{BatchedSum, LinearSum, PlainSum, wire::Summation};
/// use mantissa_numerics::tensor_core::{Architecture, Operand};
/// let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
/// let cut = Summation::TensorCore { block, parts: 2, tile: None };
/// let tiled = Summation::TensorCore { block, parts: 1, tile: Some(64) };
/// // Only products with weights are cut, only attention's have tiles, and binary32 has no tensor cores.
/// assert!(LinearSum::try_from(cut).is_ok() && LinearSum::try_from(tiled).is_err());
/// assert!(BatchedSum::try_from(cut).is_err() && BatchedSum::try_from(tiled).is_ok());
/// assert!(PlainSum::try_from(tiled).is_err() && PlainSum::try_from(Summation::FmaChain).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchedSum {
    /// Steps of a tensor core.
    TensorCore {
        /// One step.
        block: BlockRecipe,
        /// Kernels that walk `K` in tiles of this length with the remainder `K mod tile` first: a step never crosses
        /// the border of a tile. `None` walks from 0 upwards with the remainder last.
        tile: Option<NonZeroU16>,
    },
    /// Threads of a matrix-vector kernel.
    Threads(ThreadSum),
}

/// How a GPU sums one of attention's batched products of binary32, which it multiplies without tensor cores.
///
/// Example: [`BatchedSum`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlainSum {
    /// `acc = fma(x[k], y[k], acc)` for `k` ascending from `acc = +0`.
    FmaChain,
    /// Threads of a matrix-vector kernel.
    Threads(ThreadSum),
}
