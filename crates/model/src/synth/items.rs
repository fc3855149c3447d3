//! What a tensor of the model becomes in files: itself, or the parts of a quantized matrix; and the bytes of each.
//!
//! Left out: the order of the parts in a file (`shards`) and their layouts (`quantized`).

use std::collections::BTreeSet;

use mantissa_numerics::Dtype;

use super::spec::{BLOCKS, SynthSpec};
use super::tensors::SynthTensor;
use crate::quantized::{Matrix, Part, Quantization, safetensors_name};

/// Values made at a time by one thread where nothing is quantized: at most 512 KiB, so that memory stays under 64 MiB
/// up to 128 threads.
const PIECE: u64 = 128 << 10;

/// A tensor of the model and how it is stored.
pub(super) struct Item {
    pub(super) tensor: SynthTensor,
    dtype: Dtype,
    quantization: Option<Quantization>,
}

/// One stored tensor of an item.
pub(super) struct StoredPart {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    pub(super) element_bytes: usize,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: u64,
}

/// Bytes of one of an item's parts and where in it they belong.
pub(super) struct MadeBytes {
    pub(super) part: usize,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

impl SynthSpec {
    /// Bytes of tensor data in all shards together: the total that progress counts towards.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.items().map(|item| item.bytes()).sum()
    }

    /// Every tensor with how it is stored, in the order of the checkpoint.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> + '_ {
        let kept: BTreeSet<String> =
            self.routers().into_iter().map(|module| format!("{module}.weight")).collect();
        self.tensors().map(move |tensor| {
            let matrix = tensor.name.starts_with(BLOCKS) && tensor.shape.len() == 2;
            let quantization = self.quantization().filter(|_| matrix && !kept.contains(&tensor.name));
            Item { tensor, dtype: self.dtype(), quantization }
        })
    }
}

impl Item {
    /// Rows and columns of a matrix.
    fn sizes(&self) -> (usize, usize) {
        match *self.tensor.shape {
            [rows, cols] => (rows, cols),
            _ => (1, 0),
        }
    }

    /// The tensors it is stored as.
    pub(super) fn parts(&self) -> Vec<StoredPart> {
        let Some(quantization) = self.quantization else {
            return vec![StoredPart {
                name: self.tensor.name.clone(),
                dtype: safetensors_name(self.dtype),
                element_bytes: self.dtype.size(),
                shape: self.tensor.shape.clone(),
                bytes: self.tensor.bytes(self.dtype),
            }];
        };
        let (rows, cols) = self.sizes();
        let module = self.tensor.name.strip_suffix(".weight").unwrap_or(&self.tensor.name);
        let stored = |part: Part| StoredPart {
            name: format!("{module}.{}", part.name),
            dtype: part.dtype,
            element_bytes: part.element_bytes(),
            bytes: part.bytes(),
            shape: part.shape,
        };
        quantization.parts(rows, cols, self.dtype).into_iter().map(stored).collect()
    }

    /// Bytes of all its parts.
    pub(super) fn bytes(&self) -> u64 {
        self.parts().iter().map(|part| part.bytes).sum()
    }

    /// How many pieces of work it is.
    pub(super) fn units(&self) -> usize {
        let (rows, cols) = self.sizes();
        match self.quantization {
            Some(quantization) => quantization.units(rows, cols),
            None => usize::try_from(self.tensor.elements().div_ceil(PIECE)).unwrap_or(usize::MAX),
        }
    }

    /// The bytes of piece of work `unit`.
    ///
    /// *Rounding:* a quantized matrix is made from values that were rounded to the storage dtype.
    pub(super) fn unit(&self, unit: usize) -> Vec<MadeBytes> {
        let (dtype, values) = (self.dtype, &self.tensor.values);
        let Some(quantization) = self.quantization else {
            let first = unit as u64 * PIECE;
            let elements = PIECE.min(self.tensor.elements() - first);
            let mut bytes = vec![0; usize::try_from(elements).unwrap_or(usize::MAX) * dtype.size()];
            values.encode(dtype, first, &mut bytes);
            return vec![MadeBytes { part: 0, at: first * dtype.size() as u64, bytes }];
        };
        let (rows, cols) = self.sizes();
        let at = |index: usize| dtype.round(values.at(index as u64));
        let made = quantization.unit(&Matrix { rows, cols, dtype, at: &at }, unit);
        made.into_iter()
            .map(|made| MadeBytes { part: made.part, at: made.at as u64, bytes: made.bytes })
            .collect()
    }
}
