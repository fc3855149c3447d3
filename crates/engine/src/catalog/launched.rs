//! Which kernels a library launches for attention's products, asked for every size and kept as runs.
//!
//! cuBLAS decides by the number of products, their sizes and what divides them. It was asked with each call captured
//! into a graph, which names the kernel and does not run it. What a kernel's name says of its order of sums was
//! compared with products of many sizes, but not of each.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{BatchedSum, PlainSum, ThreadSum};
use mantissa_numerics::tensor_core::{Architecture, BlockRecipe};
use serde::{Deserialize, Serialize};

use super::error::CatalogError;
use super::steps::block_on;

/// Sizes have runs of their own by what is left of a division by this.
pub const RESTS: usize = 8;

/// The most neighbours that a thread of [`KernelSum::Runs`] takes at a time.
const LONGEST_RUN: usize = 64;

/// The largest size that is asked for.
pub const LONGEST_LAUNCHED: usize = 1 << 20;

/// The order of sums of a kernel, for sums of any length.
///
/// ```
/// use mantissa_engine::catalog::KernelSum;
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{PlainSum, ThreadSum};
///
/// // Runs of 63 for 500 elements, of 64 for more.
/// let runs = KernelSum::Runs { threads: 8 };
/// let of = |vector| PlainSum::Threads(ThreadSum::new(8, vector, false).expect("a sum"));
/// assert_eq!([500, 5000].map(|length| runs.plain(length)), [63, 64].map(|vector| Some(of(vector))));
/// // Tensor cores do not multiply binary32.
/// assert_eq!(KernelSum::Steps { width: 16, tile: 0 }.plain(500), None);
/// assert!(KernelSum::Steps { width: 16, tile: 0 }.batched(Dtype::F16, 500).is_some());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum KernelSum {
    /// Steps of a tensor core.
    Steps {
        /// Elements of a step: 16, or 8.
        width: u16,
        /// Tiles that follow the remainder, as [`BatchedSum::TensorCore`] has them; 0 where the remainder is last.
        #[serde(default, skip_serializing_if = "is_zero")]
        tile: u16,
    },
    /// One chain of `fma`.
    Chain,
    /// Threads that take neighbours in turn.
    Threads {
        /// Threads.
        threads: u16,
        /// Neighbours that each takes at a time.
        vector: u16,
        /// Whether they are added in ascending order.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_order: bool,
    },
    /// Threads that take `min(64, ceil(length / threads))` neighbours in turn.
    Runs {
        /// Threads.
        threads: u16,
    },
    /// Parts of `ceil(length / slices)` neighbours, added in ascending order.
    Slices {
        /// Parts.
        slices: u16,
    },
    /// A kernel whose sums are not known.
    Unknown,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(x: &u16) -> bool {
    *x == 0
}

impl KernelSum {
    /// The recipe of a product of 16 bits with sums of `length`; `None` where none has these numbers.
    ///
    /// Example: [`KernelSum`].
    #[must_use]
    pub fn batched(self, dtype: Dtype, length: usize) -> Option<BatchedSum> {
        let Self::Steps { width, tile } = self else { return self.threads(length).map(BatchedSum::Threads) };
        let step = block_on(Architecture::Hopper, dtype)?;
        let block = BlockRecipe { width, ..step };
        // A remainder of whole steps comes first all the same.
        let whole = tile == 0 || (length % usize::from(tile)).is_multiple_of(usize::from(width.max(1)));
        Some(BatchedSum::TensorCore { block, tile: NonZeroU16::new(tile).filter(|_| !whole) })
    }

    /// The recipe of a product of binary32; `None` where none has these numbers.
    ///
    /// Example: [`KernelSum`].
    #[must_use]
    pub fn plain(self, length: usize) -> Option<PlainSum> {
        match self {
            Self::Steps { .. } => None,
            Self::Chain => Some(PlainSum::FmaChain),
            _ => self.threads(length).map(PlainSum::Threads),
        }
    }

    fn threads(self, length: usize) -> Option<ThreadSum> {
        let (threads, vector, in_order) = match self {
            Self::Steps { .. } | Self::Unknown => return None,
            Self::Chain => (1, 1, false),
            Self::Threads { threads, vector, in_order } => (threads, vector, in_order),
            Self::Runs { threads } => {
                let run = length.div_ceil(usize::from(threads.max(1))).clamp(1, LONGEST_RUN);
                (threads, u16::try_from(run).ok()?, false)
            }
            Self::Slices { slices } => {
                (slices, u16::try_from(length.div_ceil(usize::from(slices.max(1))).max(1)).ok()?, true)
            }
        };
        ThreadSum::new(threads, vector, in_order)
    }

    /// Whether it is a kernel's of products of `dtype`. *Errors:* why not.
    fn checked(self, dtype: Dtype) -> Result<(), &'static str> {
        if let Self::Steps { width, tile } = self
            && (!matches!(width, 8 | 16) || tile % 16 != 0)
        {
            return Err("steps are of 8 or 16 elements, tiles of a multiple of 16");
        }
        if self == Self::Unknown {
            return Ok(());
        }
        let known =
            if dtype == Dtype::F32 { self.plain(1).is_some() } else { self.batched(dtype, 1).is_some() };
        if known { Ok(()) } else { Err("no kernel sums such products so") }
    }
}

/// What a library launches for one of attention's products, by size: every size to the largest was asked.
///
/// ```
/// use mantissa_engine::catalog::{KernelSum, Launched};
///
/// let (chain, runs) = (KernelSum::Chain, KernelSum::Runs { threads: 4 });
/// let launched = Launched::of((1..=40).map(|size| if size % 8 == 0 || size < 20 { chain } else { runs }));
/// assert_eq!([19, 20, 24, 40].map(|size| launched.kernel(size)), [chain, runs, chain, chain].map(Some));
/// // Nothing is said beyond what was asked.
/// assert_eq!((launched.largest(), launched.kernel(41)), (40, None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// By the rest of 8: the first size of each run, with its kernel; ascending.
    runs: Arc<[Run; RESTS]>,
    largest: usize,
}

/// Runs of one rest.
type Run = Vec<(u32, KernelSum)>;

impl Launched {
    /// Of the kernels for the sizes 1, 2, …
    #[must_use]
    pub fn of(kernels: impl IntoIterator<Item = KernelSum>) -> Self {
        let (mut runs, mut largest): ([Run; RESTS], _) = (Default::default(), 0);
        for (size, kernel) in (1_u32..).zip(kernels) {
            let run = &mut runs[size as usize % RESTS];
            if run.last().is_none_or(|(_, last)| *last != kernel) {
                run.push((size, kernel));
            }
            largest = size as usize;
        }
        Self { runs: Arc::new(runs), largest }
    }

    /// The kernel for a size; `None` beyond the largest that was asked, and for 0.
    ///
    /// Example: [`Launched`].
    #[must_use]
    pub fn kernel(&self, size: usize) -> Option<KernelSum> {
        if size > self.largest {
            return None;
        }
        let run = &self.runs[size % RESTS];
        let after = run.partition_point(|(first, _)| *first as usize <= size);
        Some(run.get(after.checked_sub(1)?)?.1)
    }

    /// The first size of each kernel.
    ///
    /// ```
    /// use mantissa_engine::catalog::{KernelSum, Launched};
    ///
    /// let slices = |slices| KernelSum::Slices { slices };
    /// let launched = Launched::of((1..=100).map(|size| slices(if size < 11 { 1 } else { 2 })));
    /// assert!(launched.firsts().eq([1, 11]));
    /// ```
    pub fn firsts(&self) -> impl Iterator<Item = usize> {
        let mut firsts: BTreeMap<KernelSum, u32> = BTreeMap::new();
        for (first, kernel) in self.runs.iter().flatten() {
            let least = firsts.entry(*kernel).or_insert(*first);
            *least = (*first).min(*least);
        }
        firsts.into_values().map(|first| first as usize)
    }

    /// The largest size that was asked.
    ///
    /// Example: [`Launched`].
    #[must_use]
    pub const fn largest(&self) -> usize {
        self.largest
    }

    /// The first size for which another says otherwise.
    pub(super) fn contradiction(&self, other: &Self) -> Option<usize> {
        let ours = |launched: &Self| {
            let firsts = launched.runs.iter().flatten().map(|(first, _)| *first as usize);
            firsts.collect::<Vec<_>>()
        };
        let both = self.largest.min(other.largest);
        let sizes = ours(self).into_iter().chain(ours(other)).filter(|size| *size <= both);
        sizes.filter(|size| self.kernel(*size) != other.kernel(*size)).min()
    }

    /// The runs as a file has them: by rest, separated by `;`, a letter per kernel and the first size of the run.
    pub(super) fn written(&self, kernels: &[KernelSum]) -> String {
        let mut text = String::new();
        for (rest, run) in self.runs.iter().enumerate() {
            if rest > 0 {
                text.push(';');
            }
            for (first, kernel) in run {
                let at = kernels.iter().position(|known| known == kernel).unwrap_or(kernels.len());
                text.push(LETTERS.get(at).copied().map_or('?', char::from));
                text.push_str(&first.to_string());
            }
        }
        text
    }

    /// The kernels of all its runs.
    pub(super) fn kernels(&self) -> impl Iterator<Item = KernelSum> {
        self.runs.iter().flatten().map(|(_, kernel)| *kernel)
    }

    /// Whether the runs are one allocation, so that they are written once.
    pub(super) fn has_runs_of(&self, other: &Self) -> bool {
        self.runs == other.runs
    }

    /// Reads runs as they are written, for sizes to each of `largest`.
    ///
    /// *Errors:* a text that says something else.
    pub(super) fn read(
        text: &str,
        kernels: &[KernelSum],
        largest: &[usize],
    ) -> Result<Vec<Self>, CatalogError> {
        let wrong = |why| CatalogError::Steps { sizes: text.chars().take(40).collect(), why };
        let mut runs: [Run; RESTS] = Default::default();
        let mut texts = text.split(';');
        for (rest, run) in runs.iter_mut().enumerate() {
            let mut left = texts.next().ok_or_else(|| wrong("there are runs for eight rests"))?.as_bytes();
            while let Some((letter, after)) = left.split_first() {
                let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (number, after) = after.split_at(digits);
                left = after;
                let first = std::str::from_utf8(number).ok().and_then(|number| number.parse::<u32>().ok());
                let first = first.filter(|first| (1..=LONGEST_LAUNCHED).contains(&(*first as usize)));
                let kernel = LETTERS.iter().position(|known| known == letter).and_then(|at| kernels.get(at));
                let (Some(first), Some(kernel)) = (first, kernel) else {
                    return Err(wrong("a run is a letter of a kernel and a size"));
                };
                let begins = if rest == 0 { RESTS } else { rest };
                let fits = match run.last() {
                    None => first as usize == begins,
                    Some((last, _)) => *last < first && first as usize % RESTS == rest,
                };
                if !fits {
                    return Err(wrong("runs do not begin at the first size, or do not ascend by eights"));
                }
                run.push((first, *kernel));
            }
        }
        if texts.next().is_some() {
            return Err(wrong("there are runs for eight rests"));
        }
        let runs = Arc::new(runs);
        let each = |largest: &usize| {
            let asked = runs.iter().enumerate().all(|(rest, run)| {
                let begins = if rest == 0 { RESTS } else { rest };
                begins > *largest || !run.is_empty()
            });
            if !asked || !(1..=LONGEST_LAUNCHED).contains(largest) {
                return Err(wrong("sizes have no run"));
            }
            Ok(Self { runs: Arc::clone(&runs), largest: *largest })
        };
        largest.iter().map(each).collect()
    }
}

/// Letters of kernels in a file.
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Kernels that runs may name, each checked. *Errors:* more than there are letters; what no kernel computes.
pub(super) fn checked(kernels: &[KernelSum], dtype: Dtype) -> Result<(), CatalogError> {
    let wrong = |why| CatalogError::Recipe { sizes: "of kernels".to_owned(), why };
    if kernels.len() > LETTERS.len() {
        return Err(wrong("there are more than letters for them"));
    }
    kernels.iter().try_for_each(|kernel| kernel.checked(dtype).map_err(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNELS: [KernelSum; 4] = [
        KernelSum::Steps { width: 16, tile: 64 },
        KernelSum::Chain,
        KernelSum::Runs { threads: 8 },
        KernelSum::Slices { slices: 4 },
    ];

    #[test]
    fn runs_are_read_as_they_are_written() {
        let kernel = |size: usize| KERNELS[size * size / 50 % 4];
        let launched = Launched::of((1..=700).map(kernel));
        let text = launched.written(&KERNELS);
        let read = Launched::read(&text, &KERNELS, &[700, 300]).expect("what was written");
        assert_eq!(read[0], launched);
        for size in 1..=300 {
            assert_eq!(read[1].kernel(size), Some(kernel(size)), "{size}");
        }
        assert_eq!([0, 301].map(|size| read[1].kernel(size)), [None; 2]);
        assert_eq!(launched.contradiction(&read[1]), None);
        let other = Launched::of((1..=400).map(|size| if size == 123 { KERNELS[1] } else { kernel(size) }));
        assert_eq!(launched.contradiction(&other), Some(123).filter(|size| kernel(*size) != KERNELS[1]));
        let firsts: Vec<usize> = launched.firsts().collect();
        for kernel_of in KERNELS {
            let first = (1..=700).find(|size| kernel(*size) == kernel_of).expect("all are there");
            assert!(firsts.contains(&first), "{first}");
        }
    }

    #[test]
    fn what_is_no_list_of_runs_is_refused() {
        let read = |text: &str, largest: usize| Launched::read(text, &KERNELS, &[largest]);
        let whole = "a8;a1;a2;a3;a4;a5;a6;b7";
        assert!(read(whole, 100).is_ok());
        for wrong in [
            "a8;a1;a2;a3;a4;a5;a6",
            "a8;a1;a2;a3;a4;a5;a6;b7;a8",
            "a8;a9;a2;a3;a4;a5;a6;b7",
            "a8;a1;a2;a3;a4;a5;a6;b7a15a14",
            "a8;a1a10;a2;a3;a4;a5;a6;b7",
            "a8;e1;a2;a3;a4;a5;a6;b7",
            "a8;1;a2;a3;a4;a5;a6;b7",
            "a8;a;a2;a3;a4;a5;a6;b7",
            "a8;;a2;a3;a4;a5;a6;b7",
            "a8;a1a99999999999;a2;a3;a4;a5;a6;b7",
        ] {
            assert!(read(wrong, 100).is_err(), "{wrong}");
        }
        for largest in [0, LONGEST_LAUNCHED + 1] {
            assert!(read(whole, largest).is_err(), "{largest}");
        }
    }

    #[test]
    fn a_kernel_sums_only_what_it_can() {
        let threads = |threads, vector| KernelSum::Threads { threads, vector, in_order: false };
        for (kernel, dtype, known) in [
            (KernelSum::Steps { width: 16, tile: 32 }, Dtype::F16, true),
            (KernelSum::Steps { width: 16, tile: 32 }, Dtype::F32, false),
            (KernelSum::Steps { width: 12, tile: 0 }, Dtype::Bf16, false),
            (KernelSum::Steps { width: 16, tile: 24 }, Dtype::Bf16, false),
            (threads(3, 1), Dtype::F32, false),
            (threads(4, 0), Dtype::Bf16, false),
            (threads(4, 16), Dtype::Bf16, true),
            (KernelSum::Runs { threads: 0 }, Dtype::F32, false),
            (KernelSum::Unknown, Dtype::F32, true),
        ] {
            assert_eq!(checked(&[kernel], dtype).is_ok(), known, "{kernel:?} {dtype}");
        }
        assert!(checked(&[KernelSum::Chain; 53], Dtype::F32).is_err());
        assert_eq!(KernelSum::Unknown.plain(9), None);
        // 34 elements by tiles of 32: two come first. By 17 whole steps nothing does.
        let tile = |length| match (KernelSum::Steps { width: 16, tile: 32 }).batched(Dtype::Bf16, length) {
            Some(BatchedSum::TensorCore { tile, .. }) => tile.map(NonZeroU16::get),
            other => panic!("{other:?}"),
        };
        assert_eq!([34, 272, 64].map(tile), [Some(32), None, None]);
    }
}
