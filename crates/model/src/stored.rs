//! Where a weight lies in the mapped files and how to bring it into Hugging Face order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::ModelError;
use crate::graph::WeightName;
use crate::quantized::{Decoder, OtherScales};
use crate::tensor_list::weight_name;
use crate::weight::{Weight, WeightDtype};

/// Most experts of a fused tensor: bounds the names made from one.
const MOST_EXPERTS: usize = 1 << 14;

/// One weight by place.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Which mapped file.
    pub(crate) file: usize,
    pub(crate) dtype: WeightDtype,
    /// `[len]`, `[rows, cols]`, or `[experts, rows, cols]`.
    pub(crate) shape: Vec<usize>,
    /// Bytes of the file; as many as shape and dtype say, but for a quantized matrix, which has none here.
    pub(crate) range: Range<usize>,
    /// Rows of one head, when rotary pairs lie side by side instead of half a head apart.
    pub(crate) interleaved: Option<usize>,
    /// How a quantized matrix is decoded; then `dtype` is what that gives.
    pub(crate) quantized: Option<Box<Decoder>>,
}

impl Stored {
    /// The weight, from the files by number; the fault where a quantized one contradicts itself.
    pub(crate) fn weight<'a>(&self, files: &dyn Fn(usize) -> &'a [u8]) -> Result<Weight<'a>, String> {
        let (rows, cols) = self.rows_and_cols();
        let data = &files(self.file)[self.range.clone()];
        let data = match (&self.quantized, self.interleaved) {
            (Some(decoder), _) => Cow::Owned(decoder.decode(files)?),
            (None, None) => Cow::Borrowed(data),
            (None, Some(head)) => Cow::Owned(halves_from_pairs(data, data.len() / self.shape[0], head)),
        };
        Ok(Weight { dtype: self.dtype, rows, cols, data })
    }

    /// [`Stored::weight`] of a quantized matrix with the scales of other groups; `None` where it is not quantized.
    pub(crate) fn weight_with<'a>(
        &self,
        files: &dyn Fn(usize) -> &'a [u8],
        other: OtherScales,
    ) -> Option<Result<Weight<'a>, String>> {
        let (rows, cols) = self.rows_and_cols();
        let data = self.quantized.as_ref()?.decode_with(files, other);
        Some(data.map(|data| Weight { dtype: self.dtype, rows, cols, data: Cow::Owned(data) }))
    }

    /// The shape as a matrix: stacked experts one below the other, a vector as one row.
    pub(crate) fn rows_and_cols(&self) -> (usize, usize) {
        match self.shape.as_slice() {
            [rows, cols] => (*rows, *cols),
            [experts, rows, cols] => (experts * rows, *cols),
            other => (1, other.iter().product()),
        }
    }

    /// Bytes as stored.
    pub(crate) fn bytes(&self) -> usize {
        self.quantized.as_ref().map_or(self.range.len(), |decoder| decoder.stored_bytes())
    }
}

/// Undoes the row order that llama.cpp's converter gives q and k of Llama models: there, row `2i + j` of a
/// head is what Hugging Face keeps in row `j·head/2 + i` (`LlamaModel.permute` of convert_hf_to_gguf.py).
fn halves_from_pairs(data: &[u8], row_bytes: usize, head: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for rows in data.chunks_exact(head * row_bytes) {
        for j in 0..2 {
            for i in 0..head / 2 {
                out.extend_from_slice(&rows[(2 * i + j) * row_bytes..][..row_bytes]);
            }
        }
    }
    out
}

/// Cuts a tensor `[experts, parts · rows, cols]` of block `layer` into one matrix `[rows, cols]` per expert and part.
pub(crate) fn split_experts(
    file: &str,
    tensor: &str,
    stored: &Stored,
    layer: usize,
    parts: &[WeightName],
    into: &mut BTreeMap<String, Stored>,
) -> Result<(), ModelError> {
    let &[experts, rows, cols] = stored.shape.as_slice() else {
        return Err(ModelError::tensor(file, tensor, format!("shape {:?} has not three axes", stored.shape)));
    };
    if experts == 0 || experts > MOST_EXPERTS || rows == 0 || !rows.is_multiple_of(parts.len()) {
        let fault = format!("shape {:?} cannot be cut into experts", stored.shape);
        return Err(ModelError::tensor(file, tensor, fault));
    }
    let pieces = experts * parts.len();
    let size = stored.range.len() / pieces;
    for piece in 0..pieces {
        let (expert, part) = (piece / parts.len(), parts[piece % parts.len()]);
        let from = stored.range.start + piece * size;
        let cut =
            Stored { shape: vec![rows / parts.len(), cols], range: from..from + size, ..stored.clone() };
        let name = weight_name(part, layer, expert);
        if into.insert(name, cut).is_some() {
            return Err(ModelError::tensor(
                file,
                tensor,
                format!("expert {expert} is also stored by itself"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_return_to_halves() {
        // Two heads of four rows of two bytes; converter order is row 0, 2, 1, 3 of each head.
        let stored: Vec<u8> = [0, 2, 1, 3, 4, 6, 5, 7].into_iter().flat_map(|row| [row, row + 100]).collect();
        let back = halves_from_pairs(&stored, 2, 4);
        let want: Vec<u8> = (0..8).flat_map(|row| [row, row + 100]).collect();
        assert_eq!(back, want);
    }
}
