//! Products by [`LinearSum::FmaChain`]: one chain over `K` for each output, blocked.
//!
//! 32 weight rows are decoded and transposed into a panel, twelve rows of `x` are swept over it, and each output keeps
//! one accumulator that goes through K in ascending order. (Between blocks of K it is stored in the output and loaded
//! again, which rounds nothing.)
//!
//! [`LinearSum::FmaChain`]: mantissa_numerics::recipe::LinearSum::FmaChain

use mantissa_numerics::{BlockFormat, Dtype};

use super::matrix::{Matrix, PANEL};
use super::share::Shared;
use crate::pool::{Buffer, Pool};
use crate::simd::{Isa, LANES, Simd, kernel};

/// Rows of `x` swept together.
pub(crate) const TILE: usize = 12;
/// Steps of K between putting accumulators down: panel and tile stay in the first-level cache.
pub(crate) const K_BLOCK: usize = 192;

/// Rows of `x` regrouped as tiles of twelve: `[tile][k][16]`, the last four of each sixteen unused.
pub(crate) struct PackedRows<'p> {
    data: Buffer<'p>,
    m: usize,
    k: usize,
}

impl<'p> PackedRows<'p> {
    /// Packs the `m × k` window at the start of `x`, whose rows lie `stride` apart; shared out if `parallel`.
    pub(crate) fn pack(
        isa: Isa,
        pool: &'p Pool,
        parallel: bool,
        x: &[f32],
        stride: usize,
        m: usize,
        k: usize,
    ) -> Self {
        assert!(m == 0 || x.len() >= (m - 1) * stride + k, "pack: x is short");
        let tiles = m.div_ceil(TILE);
        let padded = k.next_multiple_of(LANES);
        let mut data = pool.buffer(tiles * padded * LANES);
        let to = Shared(data.as_mut_ptr());
        let pack = |tile: usize| {
            let rows = TILE.min(m - tile * TILE);
            // SAFETY: `isa` is available; the rows were checked above; tile `tile` of the buffer is this task's.
            unsafe {
                let x = x.as_ptr().add(tile * TILE * stride);
                pack_tile(isa, Rows { x, stride, count: rows, k }, to.get().add(tile * padded * LANES));
            }
        };
        if parallel {
            pool.run(tiles, pack);
        } else {
            (0..tiles).for_each(pack);
        }
        Self { data, m, k: padded }
    }

    fn tile(&self, tile: usize, k: usize) -> *const f32 {
        self.data[(tile * self.k + k) * LANES..].as_ptr()
    }
}

kernel! {
    fn pack_tile(x: Rows, to: *mut f32) = generic::pack_tile
}
kernel! {
    fn panel_block<'a>(block: PanelBlock<'a>) = generic::panel_block
}
kernel! {
    fn sweep<'a>(tile: Sweep<'a>) = generic::sweep
}

/// Up to twelve rows to pack.
#[derive(Clone, Copy)]
struct Rows {
    x: *const f32,
    stride: usize,
    count: usize,
    k: usize,
}

/// Weight rows to decode into a panel.
#[derive(Clone, Copy)]
struct PanelBlock<'a> {
    w: Matrix<'a>,
    row: usize,
    k: usize,
    count: usize,
    panel: *mut f32,
}

/// Rows of packed `x` to sweep over a panel.
#[derive(Clone, Copy)]
pub(crate) struct Sweep<'a> {
    rows: &'a PackedRows<'a>,
    tiles: (usize, usize),
    /// First step of K and number of steps.
    k: (usize, usize),
    panel: *const f32,
    /// Elements between steps of K in the panel.
    panel_stride: usize,
    /// Columns of the panel that exist.
    columns: usize,
    /// Where row 0 of the whole `x` and column 0 of the panel go.
    out: *mut f32,
    out_stride: usize,
    /// Whether accumulators start at zero rather than at `out`.
    first: bool,
    /// Rounding, at the last step of K only.
    round: Option<Dtype>,
}

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])` by one chain each; checked by [`super::matmul`].
pub(super) fn chains(
    isa: Isa,
    pool: &Pool,
    output: Dtype,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = weights[0].0.cols;
    let packed = PackedRows::pack(isa, pool, true, x, k, m, k);
    let tiles = m.div_ceil(TILE);
    let panels: Vec<(usize, usize)> = weights
        .iter()
        .enumerate()
        .flat_map(|(i, (w, _))| (0..w.rows.div_ceil(PANEL)).map(move |p| (i, p)))
        .collect();
    // Cut M too where there are few panels, at no less than four tiles a task.
    let parts = (pool.threads() * 3).div_ceil(panels.len()).clamp(1, tiles.div_ceil(4));
    let targets: Vec<(Matrix<'_>, Shared<f32>)> =
        weights.iter_mut().map(|(w, out)| (*w, Shared(out.as_mut_ptr()))).collect();
    pool.run(panels.len() * parts, |task| {
        let (weight, panel) = panels[task / parts];
        let part = task % parts;
        let (w, out) = targets[weight];
        let row = panel * PANEL;
        let range = (tiles * part / parts, tiles * (part + 1) / parts);
        let mut buffer = PanelBuffer::new();
        for k0 in (0..k).step_by(K_BLOCK) {
            let count = K_BLOCK.min(k - k0);
            // SAFETY: `isa` is available; the panel buffer holds K_BLOCK × PANEL values; this task alone writes
            // columns `row..` of the tiles in `range`.
            unsafe {
                panel_block(isa, PanelBlock { w, row, k: k0, count, panel: buffer.0.as_mut_ptr().cast() });
                sweep(
                    isa,
                    Sweep {
                        rows: &packed,
                        tiles: range,
                        k: (k0, count),
                        panel: buffer.0.as_ptr().cast(),
                        panel_stride: PANEL,
                        columns: PANEL.min(w.rows - row),
                        out: out.get().add(row),
                        out_stride: w.rows,
                        first: k0 == 0,
                        round: (k0 + count == k).then_some(output),
                    },
                );
            }
        }
    });
}

/// A panel of weights, aligned to cache lines, left uninitialized until it is packed.
#[repr(align(64))]
struct PanelBuffer([std::mem::MaybeUninit<f32>; K_BLOCK * PANEL]);

impl PanelBuffer {
    #[expect(clippy::large_stack_arrays, reason = "24 KiB on the stack of one task, never copied")]
    fn new() -> Self {
        Self([const { std::mem::MaybeUninit::uninit() }; K_BLOCK * PANEL])
    }
}

/// Decodes `count ≤ 192` columns from `k` of 32 rows from `row` into a panel `[k][32]`; rows beyond the matrix read
/// as zeros.
///
/// # Safety
/// `isa` is available; `panel` has room for `count.next_multiple_of(16) · 32` values; `k` is a multiple of 64.
pub(crate) unsafe fn fill_panel(
    isa: Isa,
    w: Matrix<'_>,
    row: usize,
    k: usize,
    count: usize,
    panel: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe { panel_block(isa, PanelBlock { w, row, k, count, panel }) }
}

/// `out += x · panel` over a panel that already lies as `[k][columns]` in memory, one chain of K; used by attention.
///
/// # Safety
/// `isa` is available; `panel` holds `k.1` rows (steps `k.0..` of the packed rows) `panel_stride` apart with 32
/// readable values each; `out` holds `m` rows `out_stride` apart with `columns` writable values each.
#[expect(clippy::too_many_arguments, reason = "a matrix product has three matrices and their strides")]
pub(crate) unsafe fn sweep_panel(
    isa: Isa,
    rows: &PackedRows<'_>,
    k: (usize, usize),
    panel: *const f32,
    panel_stride: usize,
    columns: usize,
    out: *mut f32,
    out_stride: usize,
    first: bool,
) {
    let tiles = (0, rows.m.div_ceil(TILE));
    // SAFETY: the caller's contract.
    unsafe {
        sweep(
            isa,
            Sweep { rows, tiles, k, panel, panel_stride, columns, out, out_stride, first, round: None },
        );
    }
}

/// The kernels themselves, over any instruction set.
mod generic {
    use super::super::format::{UNIT, Units};
    use super::super::math::finish;
    use super::super::matrix::{Format, unit_of_row, with_format};
    use super::{BlockFormat, Dtype, LANES, PANEL, PanelBlock, Rows, Simd, Sweep, TILE};

    /// # Safety
    /// `S` is available; `to` holds `k.next_multiple_of(16) · 16` values.
    #[inline(always)]
    pub(super) unsafe fn pack_tile<S: Simd>(from: Rows, to: *mut f32) {
        let Rows { x, stride, count: rows, k } = from;
        let mut square = [0.0_f32; LANES * LANES];
        for k0 in (0..k).step_by(LANES) {
            let count = LANES.min(k - k0);
            // SAFETY: reads stay in `x` or `square`, writes in the tile.
            unsafe {
                if rows == TILE && count == LANES {
                    each!(row < TILE => S::store(square.as_mut_ptr().add(row * LANES), S::load(x.add(row * stride + k0))));
                } else {
                    square = [0.0; LANES * LANES];
                    for row in 0..rows {
                        let to = square[row * LANES..].as_mut_ptr();
                        std::ptr::copy_nonoverlapping(x.add(row * stride + k0), to, count);
                    }
                }
                S::transpose16(square.as_ptr(), LANES, to.add(k0 * LANES), LANES);
            }
        }
    }

    /// # Safety
    /// `S` is available; `block.panel` holds `K_BLOCK × PANEL` values.
    #[inline(always)]
    pub(super) unsafe fn panel_block<S: Simd>(block: PanelBlock<'_>) {
        // SAFETY: the caller's contract.
        with_format!(block.w.format, F => unsafe { panel_block_of::<S, F>(block) });
    }

    #[inline(always)]
    unsafe fn panel_block_of<S: Simd, F: Units>(block: PanelBlock<'_>) {
        let PanelBlock { w, row, k, count, panel } = block;
        let mut square = [0.0_f32; LANES * UNIT];
        for half in 0..PANEL / LANES {
            for k0 in (0..count).step_by(UNIT) {
                let elements = UNIT.min(count - k0);
                for r in 0..LANES {
                    let to = square[r * UNIT..].as_mut_ptr();
                    let index = row + half * LANES + r;
                    // SAFETY: the row exists where it is read; `to` has a unit of room.
                    unsafe {
                        let values = if index < w.rows {
                            unit_of_row::<S, F>(w, index, (k + k0) / UNIT, elements)
                        } else {
                            [S::splat(0.0); 4]
                        };
                        S::store(to, values[0]);
                        S::store(to.add(LANES), values[1]);
                        S::store(to.add(2 * LANES), values[2]);
                        S::store(to.add(3 * LANES), values[3]);
                    }
                }
                for c in (0..elements).step_by(LANES) {
                    // SAFETY: K_BLOCK is a multiple of UNIT, so the square fits the panel.
                    unsafe {
                        let to = panel.add((k0 + c) * PANEL + half * LANES);
                        S::transpose16(square.as_ptr().add(c), UNIT, to, PANEL);
                    }
                }
            }
        }
    }

    /// # Safety
    /// `S` is available; the caller vouches for every pointer in `tile`.
    #[inline(always)]
    pub(super) unsafe fn sweep<S: Simd>(tile: Sweep<'_>) {
        // SAFETY: the caller's contract.
        unsafe {
            if S::WIDE {
                sweep_tiles::<S, 12, 2>(tile);
            } else {
                sweep_tiles::<S, 6, 1>(tile);
            }
        }
    }

    /// Sweeps in blocks of `ROWS × 16·VECTORS`, as many accumulators as the registers hold.
    #[inline(always)]
    unsafe fn sweep_tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(s: Sweep<'_>) {
        let width = VECTORS * LANES;
        for tile in s.tiles.0..s.tiles.1 {
            let rows = TILE.min(s.rows.m - tile * TILE);
            for top in (0..rows).step_by(ROWS) {
                for left in (0..s.columns).step_by(width) {
                    // SAFETY: the caller's contract, block by block.
                    unsafe {
                        let x = s.rows.tile(tile, s.k.0).add(top);
                        let panel = s.panel.add(left);
                        let out = s.out.add((tile * TILE + top) * s.out_stride + left);
                        let block = Block { x, panel, out, s };
                        let (rows, columns) = (ROWS.min(rows - top), width.min(s.columns - left));
                        if columns == width {
                            block.rows::<S, VECTORS>(rows);
                        } else {
                            // The edge goes through a whole block of scratch.
                            let mut edge = [0.0_f32; TILE * PANEL];
                            for r in 0..rows {
                                std::ptr::copy_nonoverlapping(
                                    out.add(r * s.out_stride),
                                    &raw mut edge[r * PANEL],
                                    columns,
                                );
                            }
                            let scratch = Sweep { out_stride: PANEL, ..s };
                            Block { out: edge.as_mut_ptr(), s: scratch, ..block }.rows::<S, VECTORS>(rows);
                            for r in 0..rows {
                                std::ptr::copy_nonoverlapping(
                                    &raw const edge[r * PANEL],
                                    out.add(r * s.out_stride),
                                    columns,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// One block of outputs.
    #[derive(Clone, Copy)]
    struct Block<'a> {
        x: *const f32,
        panel: *const f32,
        out: *mut f32,
        s: Sweep<'a>,
    }

    impl Block<'_> {
        #[inline(always)]
        unsafe fn rows<S: Simd, const VECTORS: usize>(self, rows: usize) {
            // SAFETY: the caller's contract.
            unsafe {
                match rows {
                    1 => self.run::<S, 1, VECTORS>(),
                    2 => self.run::<S, 2, VECTORS>(),
                    3 => self.run::<S, 3, VECTORS>(),
                    4 => self.run::<S, 4, VECTORS>(),
                    5 => self.run::<S, 5, VECTORS>(),
                    6 => self.run::<S, 6, VECTORS>(),
                    7 => self.run::<S, 7, VECTORS>(),
                    8 => self.run::<S, 8, VECTORS>(),
                    9 => self.run::<S, 9, VECTORS>(),
                    10 => self.run::<S, 10, VECTORS>(),
                    11 => self.run::<S, 11, VECTORS>(),
                    _ => self.run::<S, 12, VECTORS>(),
                }
            }
        }

        #[inline(always)]
        unsafe fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(self) {
            let Self { x, panel, out, s } = self;
            // SAFETY: the caller's contract.
            unsafe {
                let mut acc = [[S::splat(0.0); VECTORS]; ROWS];
                if !s.first {
                    each!(r < ROWS, v < VECTORS => acc[r][v] = S::load(out.add(r * s.out_stride + v * LANES)));
                }
                let (mut x, mut panel) = (x, panel);
                for _ in 0..s.k.1 {
                    let mut w = [S::splat(0.0); VECTORS];
                    each!(v < VECTORS => w[v] = S::load(panel.add(v * LANES)));
                    let mut r = 0;
                    while r < ROWS {
                        let x = S::splat(*x.add(r));
                        each!(v < VECTORS => acc[r][v] = S::fma(x, w[v], acc[r][v]));
                        r += 1;
                    }
                    x = x.add(LANES);
                    panel = panel.add(s.panel_stride);
                }
                each!(r < ROWS, v < VECTORS => {
                    S::store(out.add(r * s.out_stride + v * LANES), finish::<S>(acc[r][v], s.round));
                });
            }
        }
    }
}
