//! Matrix products of an H200 against the recipes that dispatch names for it.
//!
//! The file holds, for three weights `a`, `b`, `c`, the first 24 rows `<tag>_w`, one row of the other operand
//! `<tag>_x`, and what cuBLAS left of that row in a product of `M` rows: `<tag>_y<M>` in bf16, `<tag>_f<M>` in
//! binary32. Every output is recomputed step by step by the readable reference ([`BlockRecipe::chain`]), never searched
//! for. Left out: the fast kernels, which `numerics` compares with the reference.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use mantissa_engine::{Attention, Dispatch, Hardware};
use mantissa_numerics::Dtype;
use mantissa_numerics::nvidia::products::split_k;
use mantissa_numerics::recipe::{LinearSum, TensorCoreSum};
use mantissa_numerics::tensor_core::BlockRecipe;

use crate::npz::Archive;

/// A measured weight: its tag, `N`, `K` and the numbers of rows.
///
/// *Source:* `../shared/measured/probe_gemm_dump.py`.
const WEIGHTS: [(&str, usize, usize, &[usize]); 3] = [
    ("a", 3584, 3584, &[1, 9, 17, 32]),
    ("b", 3584, 18944, &[1, 9, 32, 64, 256]),
    ("c", 512, 3584, &[1, 9, 16, 17, 32, 64, 128]),
];

/// Outputs of a row that the file holds.
const COLUMNS: usize = 24;

/// One shape with one number of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    n: usize,
    k: usize,
    m: usize,
    sum: TensorCoreSum,
    /// Outputs whose binary32 differs.
    binary32: usize,
    /// Outputs whose bf16 differs.
    bf16: usize,
}

impl Cell {
    pub(crate) fn is_equal(&self) -> bool {
        (self.binary32, self.bf16) == (0, 0)
    }
}

/// Compares every cell. *Errors:* an array that is missing or of another type or shape, a recipe of no tensor core.
pub(crate) fn check(file: &Archive) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for (tag, n, k, rows) in WEIGHTS {
        let wide = |name: String, shape: &[usize]| {
            let array = file.get(&name)?;
            ensure!(
                array.shape == shape,
                "{}: `{name}` is {:?}, expected {shape:?}; another probe wrote it",
                file.name,
                array.shape
            );
            let patterns = array.patterns16().with_context(|| format!("{}: `{name}`", file.name))?;
            Ok::<_, anyhow::Error>(patterns.into_iter().map(u32::from).collect::<Vec<_>>())
        };
        let w = wide(format!("{tag}_w"), &[COLUMNS, k])?;
        let x = wide(format!("{tag}_x"), &[1, k])?;
        for &m in rows {
            let y = wide(format!("{tag}_y{m}"), &[COLUMNS])?;
            let name = format!("{tag}_f{m}");
            let f = file.get(&name)?.patterns32().with_context(|| format!("{}: `{name}`", file.name))?;
            ensure!(f.len() == COLUMNS, "{}: `{name}` has {} outputs, not {COLUMNS}", file.name, f.len());
            let sum = named(m, n, k)?;
            let mut cell = Cell { n, k, m, sum, binary32: 0, bf16: 0 };
            for (column, w) in w.chunks_exact(k).enumerate() {
                let found = summed(sum, &x, w);
                cell.binary32 += usize::from(found.to_bits() != f[column]);
                cell.bf16 += usize::from(Dtype::Bf16.round(found).to_bits() >> 16 != y[column]);
            }
            cells.push(cell);
        }
    }
    Ok(cells)
}

/// The recipe of dispatch.
fn named(m: usize, n: usize, k: usize) -> Result<TensorCoreSum> {
    let dispatch = Dispatch::new(Hardware::H200, Dtype::Bf16, Attention::Eager);
    match dispatch.matmul(m, n, k, false).summation {
        LinearSum::TensorCore(sum) => Ok(sum),
        other => bail!("dispatch names {other:?} for {m} rows of {n} × {k}, which no tensor core computes"),
    }
}

/// See [`TensorCoreSum`].
fn summed(TensorCoreSum { block, parts }: TensorCoreSum, x: &[u32], w: &[u32]) -> f32 {
    let cuts = split_k(x.len(), parts).into_iter();
    let sums = cuts.map(|cut| block.chain(&x[cut.clone()], &w[cut], 0.0));
    sums.reduce(|total, sum| total + sum).unwrap_or(0.0)
}

/// A line per cell and one for all.
pub(crate) fn table(cells: &[Cell]) -> String {
    let mut text =
        format!("{:>13} {:>4}  {:<41} {:>11} {:>11}\n", "N × K", "M", "recipe", "FP32 differ", "bf16 differ");
    for cell in cells {
        let BlockRecipe { width, fraction_bits, .. } = cell.sum.block;
        let parts = cell.sum.parts.get();
        let parts = if parts == 1 { "uncut".to_owned() } else { format!("split-K {parts}") };
        let recipe = format!("steps of {width}, {fraction_bits} fraction bits, {parts}");
        let shape = format!("{} × {}", cell.n, cell.k);
        let _ = writeln!(
            text,
            "{shape:>13} {:>4}  {recipe:<41} {:>11} {:>11}",
            cell.m,
            format!("{} of {COLUMNS}", cell.binary32),
            format!("{} of {COLUMNS}", cell.bf16)
        );
    }
    let equal = cells.iter().filter(|cell| cell.is_equal()).count();
    let _ = writeln!(text, "{equal} of {} cells equal", cells.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npz::Array;
    use mantissa_numerics::tensor_core::{Architecture, Operand};

    /// Parts of each cell as the kernel names of the H200 said them, stated here once more.
    const PARTS: [&[u16]; 3] = [&[2, 2, 2, 2], &[7, 5, 4, 3, 2], &[2, 2, 2, 2, 2, 2, 2]];

    /// A file like the measured one, of other operands.
    fn sample() -> Archive {
        let mut state = 1_u64;
        let mut operands = |count: usize| -> Vec<u32> {
            let next = |_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let bits = u32::try_from(state >> 32).unwrap();
                (bits & 0x807F) | (118 + bits.leading_ones().min(8)) << 7
            };
            (0..count).map(next).collect()
        };
        let halves = |patterns: &[u32], shape: &[usize]| Array {
            dtype: "<i2".into(),
            shape: shape.to_vec(),
            data: patterns.iter().flat_map(|bits| u16::try_from(*bits).unwrap().to_le_bytes()).collect(),
        };
        let block = Architecture::Hopper.block(Operand::Bf16).unwrap();
        let mut file = Archive { name: "sample.npz".into(), arrays: std::collections::BTreeMap::new() };
        for ((tag, _, k, rows), parts) in WEIGHTS.into_iter().zip(PARTS) {
            let (w, x) = (operands(COLUMNS * k), operands(k));
            for (m, parts) in rows.iter().zip(parts) {
                // Written apart from `summed`: bounds of each part by its number.
                let unit = k.div_ceil(64).div_ceil(usize::from(*parts)) * 64;
                let sums: Vec<f32> = (w.chunks_exact(k))
                    .map(|w| {
                        let mut total = None;
                        for part in 0..usize::from(*parts) {
                            let range = (part * unit).min(k)..((part + 1) * unit).min(k);
                            let sum = block.chain(&x[range.clone()], &w[range], 0.0);
                            total = Some(total.map_or(sum, |total: f32| total + sum));
                        }
                        total.unwrap()
                    })
                    .collect();
                let rounded: Vec<u32> =
                    sums.iter().map(|sum| Dtype::Bf16.round(*sum).to_bits() >> 16).collect();
                file.arrays.insert(format!("{tag}_y{m}"), halves(&rounded, &[COLUMNS]));
                let data = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
                file.arrays
                    .insert(format!("{tag}_f{m}"), Array { dtype: "<f4".into(), shape: vec![COLUMNS], data });
            }
            file.arrays.insert(format!("{tag}_w"), halves(&w, &[COLUMNS, k]));
            file.arrays.insert(format!("{tag}_x"), halves(&x, &[1, k]));
        }
        file
    }

    #[test]
    fn a_planted_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.npz");
        let through_a_file = |archive: &Archive| {
            std::fs::write(&path, crate::npz::tests::written(archive, true)).unwrap();
            check(&Archive::open(&path).unwrap()).unwrap()
        };
        let good = sample();
        let cells = through_a_file(&good);
        assert!(table(&cells).ends_with("16 of 16 cells equal\n"), "{}", table(&cells));
        for (name, found) in [("b_f64", (1, 0)), ("c_y17", (0, 1))] {
            let mut bad = good.clone();
            bad.arrays.get_mut(name).unwrap().data[20] ^= 1;
            let cells = through_a_file(&bad);
            let differing: Vec<_> = cells.iter().filter(|cell| !cell.is_equal()).collect();
            assert_eq!(differing.len(), 1, "{name}");
            assert_eq!((differing[0].binary32, differing[0].bf16), found, "{name}");
            assert!(table(&cells).ends_with("15 of 16 cells equal\n"));
        }
        let mut bad = good;
        bad.arrays.get_mut("a_w").unwrap().data[1] ^= 1 << 6;
        assert!(through_a_file(&bad)[..4].iter().all(|cell| cell.binary32 == 1), "one weight, one column");
    }

    #[test]
    fn a_file_of_another_probe_is_refused() {
        let mut file = sample();
        file.arrays.get_mut("b_x").unwrap().shape = vec![18944, 1];
        let said = format!("{:#}", check(&file).unwrap_err());
        assert_eq!(said, "sample.npz: `b_x` is [18944, 1], expected [1, 18944]; another probe wrote it");
        file.arrays.remove("a_y9");
        assert!(format!("{:#}", check(&file).unwrap_err()).contains("no array `a_y9`"));
    }
}
