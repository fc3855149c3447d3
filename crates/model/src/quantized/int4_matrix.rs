//! A matrix of integers of 4 bits as it is stored, decoded as a kernel of vLLM does it.

use std::num::NonZeroUsize;

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::PackedKernel;

use super::parts::Packed;
use super::{awq, gptq};

/// How integers of 4 bits are stored.
///
/// Example: [`crate::Checkpoint::int4`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int4 {
    /// Inputs that share a scale; `None` where all of an output do.
    pub group: Option<NonZeroUsize>,
    /// Whether groups have zero points of their own; otherwise it is 8.
    pub zeros: bool,
}

/// A matrix of them.
///
/// Example: [`crate::Checkpoint::int4`].
#[derive(Debug, Clone)]
pub struct Int4Matrix<'a> {
    packed: Packed<'a>,
    layout: Int4,
    /// Format of the scales in the file.
    scales: Dtype,
    /// What the configuration says that makes vLLM multiply otherwise.
    otherwise: Option<&'static str>,
}

pub(super) const BY_ACTIVATION: &str = "inputs in the order of activations (desc_act) were not compared";
pub(super) const NOT_SYMMETRIC: &str =
    "vLLM multiplies by GPTQ's weights that are not symmetric (sym) through exllama";

impl<'a> Int4Matrix<'a> {
    pub(super) fn new(
        packed: Packed<'a>,
        layout: Int4,
        scales: Dtype,
        otherwise: Option<&'static str>,
    ) -> Self {
        Self { packed, layout, scales, otherwise }
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.packed.rows
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.packed.cols
    }

    /// How they are stored.
    #[must_use]
    pub fn layout(&self) -> Int4 {
        self.layout
    }

    /// Why vLLM multiplies by something else than [`Self::row`] says; `None` where it does not.
    #[must_use]
    pub fn refused(&self) -> Option<&'static str> {
        if self.layout.zeros {
            return None;
        }
        let group = self.layout.group.map_or(self.cols(), NonZeroUsize::get);
        if self.otherwise.is_some() {
            return self.otherwise;
        }
        if (0..self.cols()).any(|col| gptq::group_of(&self.packed, col) != col / group) {
            return Some(BY_ACTIVATION);
        }
        let centred = self.packed.parts[1].iter().all(|byte| *byte == gptq::ZEROS_OF_EIGHT);
        (!centred).then_some("vLLM takes 8 for every zero point of GPTQ, and these are others")
    }

    /// The weights of a row that `kernel` multiplies by where activations, and scales once they are loaded, are of
    /// `dtype`.
    ///
    /// *Rounding:* [`PackedKernel::weight`], of scales rounded to `dtype`.
    ///
    /// # Panics
    /// When there is no such row or `out` has not [`Self::cols`] elements.
    pub fn row(&self, kernel: PackedKernel, dtype: Dtype, row: usize, out: &mut [f32]) {
        let Packed { rows, cols, parts } = &self.packed;
        assert_eq!(out.len(), *cols, "elements of a row");
        let group = self.layout.group.map_or(*cols, NonZeroUsize::get);
        for (number, out) in out.chunks_mut(group).enumerate() {
            let first = number * group;
            let scale = dtype.round(self.scales.decode(parts[2], number * rows + row));
            let zero = self.layout.zeros.then(|| awq::zero(&self.packed, group, row, first));
            let table: [f32; 16] =
                std::array::from_fn(|q| kernel.weight(dtype, u8::try_from(q).unwrap_or(0), zero, scale));
            if self.layout.zeros {
                awq::looked_up(&self.packed, row, first, &table, out);
            } else {
                gptq::looked_up(&self.packed, row, first, &table, out);
            }
        }
    }
}
