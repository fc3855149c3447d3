//! All-reduces: how the sums that ranks have of one value become one.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::Dtype;
use crate::setup::AllReduce;

/// How ranks' values of one element are added. Values are in the tensor's format.
///
/// Of two ranks every kernel leaves the same bits (`a + b`, rounded once: binary32 holds a sum of two bf16 or f16 well
/// enough that rounding twice changes nothing), so there it is always [`RankOrder::Once`].
///
/// ```
/// use mantissa_numerics::Dtype;
/// use mantissa_numerics::recipe::{AllReduceSum, RankOrder};
/// // 256, 1 and 1: each 1 alone is lost beside 256 in bf16, both together are not.
/// let sum = |order| AllReduceSum::new(3, order).unwrap().sum(Dtype::Bf16, &[256.0, 1.0, 1.0], 0, 3);
/// assert_eq!((sum(RankOrder::Once), sum(RankOrder::EachInOrder)), (258.0, 256.0));
/// assert_eq!(sum(RankOrder::EachFromLast), 258.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RankOrder {
    /// Rank 0, 1, … in binary32, rounded once: vLLM's one-shot kernel.
    Once,
    /// The same from the rank that owns the element on: vLLM's two-shot kernel. Ranks own equal parts of the tensor in
    /// units of 16 bytes, the last one what is left.
    OnceFromOwner,
    /// Rank 0, 1, …, rounded after every addition: PyTorch's symmetric memory.
    EachInOrder,
    /// From the last rank to rank 0, rounded after every addition: NCCL's tree within one machine.
    EachFromLast,
    /// Along a ring: of `ranks` equal parts of the tensor, part `c` goes from rank `c + 1` on to rank `c`, rounded
    /// after every addition: NCCL's, of tensors that it does not cut any finer.
    EachAlongRing,
}

/// An all-reduce of the values that `ranks` ranks have of each element of a tensor.
///
/// *Source:* NCCL 2.28.9, vLLM 0.24 and PyTorch 2.11, read; NCCL's ring compared with four H100 for 576 and 2,048
/// values, NCCL's and vLLM's of two ranks with two H200.
///
/// Example: [`RankOrder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AllReduceSum {
    ranks: NonZeroU16,
    order: RankOrder,
}

impl AllReduceSum {
    /// Most ranks.
    pub const MOST_RANKS: u16 = 8;

    /// Most elements of a tensor of which it is known where a ring of more than two ranks cuts it.
    pub const MOST_ALONG_RING: usize = 2048;

    /// Of `ranks` ranks, 2 to [`Self::MOST_RANKS`]; `None` for other numbers.
    #[must_use]
    pub const fn new(ranks: u16, order: RankOrder) -> Option<Self> {
        match NonZeroU16::new(ranks) {
            Some(ranks) if ranks.get() == 2 => Some(Self { ranks, order: RankOrder::Once }),
            Some(ranks) if ranks.get() > 2 && ranks.get() <= Self::MOST_RANKS => Some(Self { ranks, order }),
            _ => None,
        }
    }

    /// The kernel that `how` names; the engine's own choice where it names none is the caller's.
    ///
    /// ```
    /// use mantissa_numerics::recipe::AllReduceSum;
    /// use mantissa_numerics::setup::AllReduce;
    /// // Nothing tells two ranks' kernels apart.
    /// assert_eq!(AllReduceSum::of(2, AllReduce::Ring), AllReduceSum::of(2, AllReduce::OneShot));
    /// assert_ne!(AllReduceSum::of(4, AllReduce::Ring), AllReduceSum::of(4, AllReduce::OneShot));
    /// ```
    #[must_use]
    pub const fn of(ranks: u16, how: AllReduce) -> Option<Self> {
        let order = match how {
            AllReduce::None => return None,
            AllReduce::Ring => RankOrder::EachAlongRing,
            AllReduce::Tree => RankOrder::EachFromLast,
            AllReduce::OneShot => RankOrder::Once,
            AllReduce::TwoShot => RankOrder::OnceFromOwner,
            AllReduce::SymmetricMemory => RankOrder::EachInOrder,
        };
        Self::new(ranks, order)
    }

    /// Ranks.
    #[must_use]
    pub const fn ranks(self) -> u16 {
        self.ranks.get()
    }

    /// The order.
    #[must_use]
    pub const fn order(self) -> RankOrder {
        self.order
    }

    /// Whether the sum depends on where in the tensor the element is.
    ///
    /// ```
    /// use mantissa_numerics::recipe::{AllReduceSum, RankOrder};
    /// let ring = |ranks| AllReduceSum::new(ranks, RankOrder::EachAlongRing).unwrap();
    /// assert!(ring(4).depends_on_place() && !ring(2).depends_on_place());
    /// ```
    #[must_use]
    pub const fn depends_on_place(self) -> bool {
        matches!(self.order, RankOrder::EachAlongRing | RankOrder::OnceFromOwner)
    }

    /// The rank whose value comes first, of the element at `place` of a tensor of `total` elements of `format`.
    fn first(self, format: Dtype, place: usize, total: usize) -> usize {
        let ranks = usize::from(self.ranks.get());
        match self.order {
            RankOrder::Once | RankOrder::EachInOrder | RankOrder::EachFromLast => 0,
            RankOrder::OnceFromOwner => {
                let pack = 16 / format.size();
                let part = total / pack / ranks * pack;
                place.checked_div(part).map_or(ranks - 1, |part| part.min(ranks - 1))
            }
            RankOrder::EachAlongRing => {
                let part = total.div_ceil(ranks).max(1);
                (place / part + 1) % ranks
            }
        }
    }

    /// The sum of `values`, one of each rank, of the element at `place` of a tensor of `total` elements.
    ///
    /// *Rounding:* to `format` once, or after every addition, as [`RankOrder`] says.
    ///
    /// # Panics
    /// If there are not as many values as ranks.
    ///
    /// ```
    /// use mantissa_numerics::Dtype;
    /// use mantissa_numerics::recipe::{AllReduceSum, RankOrder};
    /// let ring = AllReduceSum::new(4, RankOrder::EachAlongRing).unwrap();
    /// // Part 0 is x[1] + x[2] + x[3] + x[0], part 3 is x[0] + x[1] + x[2] + x[3].
    /// let x = [256.0, 1.0, 1.0, 1.0];
    /// assert_eq!([0, 3].map(|part| ring.sum(Dtype::Bf16, &x, part, 4)), [260.0, 256.0]);
    /// ```
    #[must_use]
    pub fn sum(self, format: Dtype, values: &[f32], place: usize, total: usize) -> f32 {
        let ranks = usize::from(self.ranks.get());
        assert_eq!(values.len(), ranks, "a value of each rank");
        let first = self.first(format, place, total);
        let at = |i: usize| match self.order {
            RankOrder::EachFromLast => values[ranks - 1 - i],
            _ => values[(first + i) % ranks],
        };
        let each = match self.order {
            RankOrder::Once | RankOrder::OnceFromOwner => Dtype::F32,
            _ => format,
        };
        format.round((1..ranks).fold(at(0), |sum, i| each.round(sum + at(i))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bf16 of any signs and exponents: a rounding to binary32 between changes no sum.
    #[test]
    fn of_two_ranks_every_order_leaves_the_same_bits() {
        let numbers: Vec<f32> = (0..=u16::MAX)
            .step_by(97)
            .map(|bits| f32::from_bits(u32::from(bits) << 16))
            .filter(|x| x.is_finite())
            .collect();
        let orders = [
            RankOrder::Once,
            RankOrder::OnceFromOwner,
            RankOrder::EachInOrder,
            RankOrder::EachFromLast,
            RankOrder::EachAlongRing,
        ];
        let all = orders.map(|order| AllReduceSum::new(2, order).unwrap());
        assert!(all.iter().all(|one| *one == all[0]));
        for a in &numbers {
            for b in &numbers {
                let exact = f64::from(*a) + f64::from(*b);
                let found = all[0].sum(Dtype::Bf16, &[*a, *b], 0, 2);
                // Exact but where exponents are far apart, and then b (or a) is less than half a unit.
                #[expect(clippy::cast_possible_truncation, reason = "rounded to odd before")]
                let odd = {
                    let near = exact as f32;
                    if f64::from(near).to_bits() == exact.to_bits() || near.to_bits() & 1 == 1 {
                        near
                    } else if (f64::from(near) < exact) == (exact > 0.0) {
                        f32::from_bits(near.to_bits() + 1)
                    } else {
                        f32::from_bits(near.to_bits() - 1)
                    }
                };
                assert_eq!(found.to_bits(), Dtype::Bf16.round(odd).to_bits(), "{a} {b}");
                assert_eq!(found.to_bits(), all[0].sum(Dtype::Bf16, &[*b, *a], 0, 2).to_bits());
            }
        }
    }

    #[test]
    fn parts_begin_where_the_kernels_cut() {
        let first =
            |order, place, total| AllReduceSum::new(4, order).unwrap().first(Dtype::Bf16, place, total);
        let along = |place| first(RankOrder::EachAlongRing, place, 576);
        assert_eq!([0, 143, 144, 287, 288, 432, 575].map(along), [1, 1, 2, 2, 3, 0, 0]);
        // 576 values are 72 packs of 8, 18 to a rank; of 584 the last rank has one pack more.
        let owner = |place, total| first(RankOrder::OnceFromOwner, place, total);
        assert_eq!([0, 143, 144, 431, 432, 575].map(|place| owner(place, 576)), [0, 0, 1, 2, 3, 3]);
        assert_eq!([431, 432, 583].map(|place| owner(place, 584)), [2, 3, 3]);
        assert_eq!(owner(5, 8), 3);
    }
}
