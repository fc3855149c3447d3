//! Mixture of experts: routing, and the sum over a token's experts. Left out: the experts' products, which are
//! [`MatmulRecipe`](super::MatmulRecipe)s.

use std::num::{NonZeroU16, NonZeroU32};

use super::collective::AllReduceSum;
use super::matmul::Lanes;
use crate::Dtype;
use crate::nvidia::gating::VllmGating;

/// The choice of experts from router logits, and their weights. Of equals the lower expert is chosen, and comes first
/// but where [`RouterSoftmax`] says otherwise.
///
/// ```
/// use mantissa_numerics::recipe::{KernelRecipe, RouterChoice, RouterSoftmax};
/// let json = r#"{"kernel":"router","renormalize":true,"reduction":{"warp":32},"output":"bf16","functions":"nvidia"}"#;
/// let KernelRecipe::Router(recipe) = serde_json::from_str(json)? else { panic!("another kernel") };
/// assert_eq!(recipe.softmax, RouterSoftmax::Warp);
/// assert_eq!(recipe.choice, RouterChoice::Probabilities { renormalize: true });
/// // Half a warp is no kernel of PyTorch's.
/// assert!(serde_json::from_str::<KernelRecipe>(&json.replace("32", "16")).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouterRecipe {
    /// The softmax.
    pub softmax: RouterSoftmax,
    /// What is chosen by, and what becomes the weights.
    pub choice: RouterChoice,
    /// Format routing weights are rounded to.
    pub output: Dtype,
}

/// What experts are chosen by, and what becomes their weights.
///
/// ```
/// use mantissa_numerics::nvidia::{reduce::sum_of_few, softmax::TorchSoftmax};
/// // Two of four experts that are equally likely.
/// let (mut all, mut chosen) = ([0.0; 4], [0.0; 2]);
/// TorchSoftmax::Warp.softmax(&mut all, 4, 4, 0);
/// assert_eq!(all[..2], [0.25; 2]); // `Probabilities` as they are
/// assert_eq!(all[0] / sum_of_few(&all[..2]), 0.5); // … divided by their sum
/// TorchSoftmax::Warp.softmax(&mut chosen, 2, 2, 0);
/// assert_eq!(chosen, [0.5; 2]); // `Logits`
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouterChoice {
    /// The largest of all experts' probabilities; softmax in binary32.
    Probabilities {
        /// Whether the chosen weights are divided by their sum, as [`RouterSoftmax`] adds it up.
        renormalize: bool,
    },
    /// The largest logits; the softmax, in binary32, is over them alone.
    Logits,
}

/// Whose softmax over router logits.
///
/// Example: [`RouterRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouterSoftmax {
    /// The engine's own: its exponentials, the denominator by lanes; chosen weights are added up in binary32 in top-k
    /// order.
    Lanes {
        /// Lanes of the denominator.
        lanes: Lanes,
    },
    /// PyTorch's, by a warp of 32 lanes ([`crate::nvidia::softmax::TorchSoftmax::Warp`]); experts are chosen and put in
    /// order as its `topk` does ([`crate::nvidia::topk::largest`]); chosen weights are added up by the halving tree
    /// over as many lanes as there are ([`crate::nvidia::reduce::sum_of_few`]).
    Warp,
    /// vLLM's `topkGating`; chosen weights are added up in binary32 in top-k order.
    Vllm(VllmGating),
}

/// When the sum over a token's experts is rounded, and in which order they are added.
///
/// Example: [`ExpertSumRecipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ExpertOrder {
    /// In top-k order in binary32, rounded once.
    #[default]
    Once,
    /// In top-k order, rounded after every addition: vLLM's of two to four experts.
    EachInTopOrder,
    /// In the order of the experts' numbers, rounded after every addition: `index_add_` of transformers' loop over
    /// experts.
    EachByNumber,
}

/// Which part of the sum over a token's experts a rank has.
///
/// ```
/// use mantissa_numerics::recipe::{ExpertRanks, KernelRecipe};
/// let json = r#"{"kernel":"expert_sum","output":"bf16","sums":4,"among":{"ranks":2,"reduce":"once","experts":64}}"#;
/// let KernelRecipe::ExpertSum(recipe) = serde_json::from_str(json)? else { panic!("another kernel") };
/// let ExpertRanks::Experts { of_rank, reduce } = recipe.ranks else { panic!("not by experts") };
/// // Of a token's experts, rank 0 adds up those below 64 and rank 1 the others.
/// assert_eq!((of_rank.get(), reduce.ranks()), (64, 2));
/// assert_eq!(serde_json::to_string(&KernelRecipe::ExpertSum(recipe))?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ExpertRanks {
    /// There is one rank.
    #[default]
    One,
    /// Its own experts, `of_rank` of them; others count as +0. What it has is rounded and goes into an all-reduce.
    Experts {
        /// Experts of each rank, in the order of their numbers.
        of_rank: NonZeroU32,
        /// How ranks' sums are added.
        reduce: AllReduceSum,
    },
    /// All experts, of whose inner width it has an equal part ([`LinearSum::RankParts`](super::LinearSum::RankParts));
    /// likewise.
    Widths {
        /// How ranks' sums are added.
        reduce: AllReduceSum,
    },
}

impl ExpertRanks {
    /// The all-reduce, if there is one.
    ///
    /// ```
    /// assert!(mantissa_numerics::recipe::ExpertRanks::One.reduce().is_none());
    /// ```
    #[must_use]
    pub const fn reduce(self) -> Option<AllReduceSum> {
        match self {
            Self::One => None,
            Self::Experts { reduce, .. } | Self::Widths { reduce } => Some(reduce),
        }
    }
}

/// Expert outputs times routing weights, each rounded to `output` unless they stay `wide`, summed as [`ExpertOrder`]
/// says. vLLM's experts leave their outputs in binary32: their last product and this one are one kernel.
///
/// ```
/// use mantissa_numerics::{Dtype, recipe::ExpertSumRecipe};
/// let add = |recipe: ExpertSumRecipe, products: [f32; 4]| {
///     let mut sums = vec![0.0; recipe.sums.get().into()];
///     for (i, x) in products.into_iter().enumerate() {
///         sums[i % usize::from(recipe.sums.get())] += x;
///     }
///     recipe.output.round(sums.into_iter().sum())
/// };
/// // One running sum loses the first 1 beside 2^24; of two sums, one has nothing but ones.
/// let sums = |sums: u16| ExpertSumRecipe {
///     sums: sums.try_into().unwrap(), wide: false, rounded_weights: false, order: Default::default(),
///     ranks: Default::default(), output: Dtype::Bf16,
/// };
/// let products = [16_777_216.0, 1.0, -16_777_216.0, 1.0];
/// assert_eq!((add(sums(1), products), add(sums(2), products)), (1.0, 2.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExpertSumRecipe {
    /// Running sums: sum `i mod sums` takes product `i`, ascending; the sums are then added in order.
    pub sums: NonZeroU16,
    /// Whether products stay in binary32: PyTorch's of weights that are binary32.
    pub wide: bool,
    /// Whether weights are rounded to `output` before they multiply: vLLM's Marlin, whose products are rounded too.
    pub rounded_weights: bool,
    /// Order and rounding of the sum; of one running sum, unless it is rounded once.
    pub order: ExpertOrder,
    /// What of it a rank adds up.
    pub ranks: ExpertRanks,
    /// Format of products and sum.
    pub output: Dtype,
}
