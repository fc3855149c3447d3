//! Matrix products `x · wᵀ` with weights of any storage format.
//!
//! [`Summation::FmaChain`] runs as a blocked product: 32 weight rows are decoded and transposed into a panel, twelve
//! rows of `x` are swept over it, and each output keeps one accumulator that walks K upwards (it is put down in the
//! output and taken up again between blocks of K, which rounds nothing).
//! [`Summation::LaneChains`] runs along the weight's rows as they lie in memory, which is what a machine does
//! that waits for its memory.

use mantissa_numerics::recipe::{MatmulRecipe, Summation};
use mantissa_numerics::{BlockFormat, Dtype};

use super::format::{self, UNIT, UNIT_BYTES, Units};
use crate::pool::{Buffer, Pool};
use crate::simd::{Isa, LANES, Simd, kernel};

/// Weight rows of a panel.
pub(crate) const PANEL: usize = 32;
/// Rows of `x` swept together.
pub(crate) const TILE: usize = 12;
/// Steps of K between putting accumulators down: panel and tile stay in the first-level cache.
pub(crate) const K_BLOCK: usize = 192;

/// Bytes ahead of the weights at work that are asked of memory.
const PREFETCH: usize = 8192;

/// Storage of a weight's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain(Dtype),
    Block(BlockFormat),
}

/// A weight matrix as kernels see it: `rows × cols`, rows of `row_bytes` bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    pub row_bytes: usize,
    pub data: &'a [u8],
}

/// Runs `$body` with `$F` naming the format's [`Units`].
macro_rules! with_format {
    ($format:expr, $F:ident => $body:expr) => {
        match $format {
            Format::Plain(Dtype::F32) => {
                type $F = format::F32;
                $body
            }
            Format::Plain(Dtype::Bf16) => {
                type $F = format::Bf16;
                $body
            }
            Format::Plain(Dtype::F16) => {
                type $F = format::F16;
                $body
            }
            Format::Block(BlockFormat::Q8_0) => {
                type $F = format::Q8_0;
                $body
            }
            Format::Block(BlockFormat::Q4_0) => {
                type $F = format::Q4_0;
                $body
            }
            Format::Block(BlockFormat::Q4_1) => {
                type $F = format::Q4_1;
                $body
            }
            Format::Block(BlockFormat::Q4K) => {
                type $F = format::Q4K;
                $body
            }
            Format::Block(BlockFormat::Q6K) => {
                type $F = format::Q6K;
                $body
            }
        }
    };
}

/// A buffer that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub *mut T);
// SAFETY: tasks write disjoint parts; each use says which.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer; a method so that closures capture the wrapper.
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// `out[i, j] = round(Σ_k x[i, k] · w[j, k])` for several weights over the same `x`.
///
/// *Shape:* `x` is `m × k` row-major; each weight is `n × k` and its output `m × n`.
/// *Rounding:* as `recipe` says. *Errors:* none; shapes are the caller's invariant and asserted.
pub(crate) fn matmul(
    isa: Isa,
    pool: &Pool,
    recipe: MatmulRecipe,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let Some((first, out)) = weights.first() else { return };
    let (k, m) = (first.cols, out.len() / first.rows.max(1));
    assert_eq!(x.len(), m * k, "matmul: x has another shape");
    for (w, out) in weights.iter() {
        assert!(w.cols == k && out.len() == m * w.rows, "matmul: weights of different shapes");
        assert!(w.data.len() >= w.rows * w.row_bytes, "matmul: weight data is short");
    }
    match recipe.summation {
        Summation::FmaChain => chains(isa, pool, recipe.output, m, x, weights),
        Summation::LaneChains { lanes } => lane_chains(isa, pool, recipe.output, lanes, m, x, weights),
        Summation::TensorCore { block, parts, .. } => {
            super::nvidia::products(isa, pool, block, parts, recipe.output, m, x, weights);
        }
        Summation::Threads { .. } => {
            unreachable!("only attention is summed by threads of a matrix-vector kernel")
        }
    }
}

// ---- chains over K, blocked -------------------------------------------------------------------------------------

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

fn chains(
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
/// `isa` is available; `panel` holds `k.1` rows (steps `k.0..` of the packed rows) `panel_stride` apart with 32 readable values each; `out` holds `m` rows
/// `out_stride` apart with `columns` writable values each.
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

// ---- lanes along K ----------------------------------------------------------------------------------------------

kernel! {
    fn dot_rows<'a>(rows: DotRows<'a>) = generic::dot_rows
}

/// Weight rows to take the dot product of with up to eight rows of `x`.
#[derive(Clone, Copy)]
struct DotRows<'a> {
    w: Matrix<'a>,
    rows: (usize, usize),
    /// A group of rows of `x`, as [`group_rows`] lays them.
    x: *const f32,
    /// Rows of `x` that the kernel takes together, and how many of them exist; the rest are zeros.
    m: usize,
    rows_of_x: usize,
    lanes: u16,
    out: *mut f32,
    out_stride: usize,
    round: Dtype,
}

fn lane_chains(
    isa: Isa,
    pool: &Pool,
    round: Dtype,
    lanes: u16,
    m: usize,
    x: &[f32],
    weights: &mut [(Matrix<'_>, &mut [f32])],
) {
    let k = weights[0].0.cols;
    let stride = k.next_multiple_of(UNIT);
    let padded: Buffer<'_>;
    // Registers hold eight accumulators: that many rows of x at a time.
    let group = match (lanes, m) {
        (64, _) => 1,
        (32, 1 | 2) => 2,
        (32, _) => 4,
        _ => 8,
    };
    let x = if stride == k && group == 1 && x.as_ptr().addr().is_multiple_of(64) {
        x
    } else {
        padded = group_rows(pool, x, m, k, group);
        &padded
    };
    let total: usize = weights.iter().map(|(w, _)| w.rows).sum();
    // Runs of rows long enough to stream, several per thread so that a late thread does not hold up the rest.
    let run = total.div_ceil(pool.threads() * 4).next_multiple_of(4).max(8);
    let tasks: Vec<(usize, usize, usize)> = weights
        .iter()
        .enumerate()
        .flat_map(|(i, (w, _))| (0..w.rows).step_by(run).map(move |r| (i, r, (r + run).min(w.rows))))
        .collect();
    let targets: Vec<(Matrix<'_>, Shared<f32>)> =
        weights.iter_mut().map(|(w, out)| (*w, Shared(out.as_mut_ptr()))).collect();
    pool.run(tasks.len(), |task| {
        let (weight, from, to) = tasks[task];
        let (w, out) = targets[weight];
        for i in (0..m).step_by(group) {
            // SAFETY: `isa` is available; rows i.. of `x` are a group `group · stride` long; this task alone writes columns from..to.
            unsafe {
                dot_rows(
                    isa,
                    DotRows {
                        w,
                        rows: (from, to),
                        x: x.as_ptr().add(i * stride),
                        m: group,
                        rows_of_x: group.min(m - i),
                        lanes,
                        out: out.get().add(i * w.rows),
                        out_stride: w.rows,
                        round,
                    },
                );
            }
        }
    });
}

/// Loops that LLVM unrolls: an iterator's closure would not inherit the kernel's instruction set.
macro_rules! each {
    ($i:ident < $n:expr => $body:expr) => {{
        let mut $i = 0;
        while $i < $n {
            $body;
            $i += 1;
        }
    }};
    ($i:ident < $n:expr, $j:ident < $m:expr => $body:expr) => {
        each!($i < $n => each!($j < $m => $body))
    };
}

/// Rows of `x` regrouped as `[group][chunk of 16][row of the group][16]`, padded with zeros in every direction: what
/// a step reads together lies together.
fn group_rows<'p>(pool: &'p Pool, x: &[f32], m: usize, k: usize, group: usize) -> Buffer<'p> {
    let chunks = k.next_multiple_of(UNIT) / LANES;
    let mut out = pool.buffer(m.div_ceil(group) * chunks * group * LANES);
    out.fill(0.0);
    for (i, row) in x.chunks_exact(k).enumerate() {
        for (c, chunk) in row.chunks(LANES).enumerate() {
            let at = ((i / group * chunks + c) * group + i % group) * LANES;
            out[at..at + chunk.len()].copy_from_slice(chunk);
        }
    }
    out
}

/// The kernels themselves, over any instruction set.
mod generic {
    use super::{
        BlockFormat, DotRows, Dtype, Format, LANES, Matrix, PANEL, PREFETCH, PanelBlock, Rows, Simd, Sweep,
        TILE, UNIT, UNIT_BYTES, Units, format,
    };

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

    /// Unit `u` of a row, of which `elements` exist; the rest reads as zero.
    ///
    /// # Safety
    /// `S` is available; the row exists and holds the elements.
    #[inline(always)]
    unsafe fn unit_of_row<S: Simd, F: Units>(
        w: Matrix<'_>,
        row: usize,
        u: usize,
        elements: usize,
    ) -> [S::V; 4] {
        // SAFETY: the caller's contract; the tail is copied before it is read as a whole unit.
        unsafe {
            let start = w.data.as_ptr().add(row * w.row_bytes);
            if elements == UNIT {
                return F::unit::<S>(start, u);
            }
            let mut copy = [0_u8; UNIT_BYTES];
            std::ptr::copy_nonoverlapping(
                start.add(F::bytes(u * UNIT)),
                copy.as_mut_ptr(),
                F::bytes(elements),
            );
            F::unit::<S>(copy.as_ptr(), 0)
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

    /// Adds the closing `+ 0` and rounds, when the sum is complete.
    #[inline(always)]
    unsafe fn finish<S: Simd>(v: S::V, round: Option<Dtype>) -> S::V {
        // SAFETY: the caller's contract.
        unsafe {
            match round {
                None => v,
                Some(Dtype::F32) => S::add(v, S::splat(0.0)),
                Some(Dtype::Bf16) => S::round_bf16(S::add(v, S::splat(0.0))),
                Some(Dtype::F16) => S::round_f16(S::add(v, S::splat(0.0))),
            }
        }
    }

    /// # Safety
    /// `S` is available; the caller vouches for every pointer in `d`.
    #[inline(always)]
    pub(super) unsafe fn dot_rows<S: Simd>(d: DotRows<'_>) {
        // SAFETY: the caller's contract.
        with_format!(d.w.format, F => unsafe {
            match (d.lanes, d.m) {
                (64, _) => dots::<S, F, 1, 4>(d),
                (32, 2) => dots::<S, F, 2, 2>(d),
                (32, _) => dots::<S, F, 4, 2>(d),
                (_, _) => dots::<S, F, 8, 1>(d),
            }
        });
    }

    /// `M` rows of `x` against each weight row, `16·A` lanes each. One row at a time: two streams of memory at once
    /// were measured to be slower than one.
    #[inline(always)]
    unsafe fn dots<S: Simd, F: Units, const M: usize, const A: usize>(d: DotRows<'_>) {
        let (units, tail) = (d.w.cols / UNIT, d.w.cols % UNIT);
        let mut row = d.rows.0;
        while row < d.rows.1 {
            // SAFETY: the caller's contract: `x` is padded to whole units.
            unsafe {
                let start = d.w.data.as_ptr().add(row * d.w.row_bytes);
                let mut acc = [[S::splat(0.0); A]; M];
                let mut u = 0;
                while u + 2 <= units {
                    // Two units' worth of lines, further ahead than the hardware looks while it waits for arithmetic.
                    let ahead = start.wrapping_add(F::bytes(UNIT) * u + PREFETCH);
                    let mut line = 0;
                    while line < 2 * F::bytes(UNIT) {
                        S::prefetch(ahead.wrapping_add(line));
                        line += 64;
                    }
                    step::<S, M, A>(&mut acc, F::unit::<S>(start, u), d.x.add(u * UNIT * M));
                    step::<S, M, A>(&mut acc, F::unit::<S>(start, u + 1), d.x.add((u + 1) * UNIT * M));
                    u += 2;
                }
                if u < units {
                    step::<S, M, A>(&mut acc, F::unit::<S>(start, u), d.x.add(u * UNIT * M));
                }
                if tail != 0 {
                    let w = unit_of_row::<S, F>(d.w, row, units, tail);
                    step::<S, M, A>(&mut acc, w, d.x.add(units * UNIT * M));
                }
                each!(i < d.rows_of_x => {
                    let sum = tree::<S, A>(acc[i]) + 0.0;
                    *d.out.add(i * d.out_stride + row) = round_scalar::<S>(sum, d.round);
                });
            }
            row += 1;
        }
    }

    #[inline(always)]
    unsafe fn step<S: Simd, const M: usize, const A: usize>(
        acc: &mut [[S::V; A]; M],
        w: [S::V; 4],
        x: *const f32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            each!(c < 4, i < M => {
                acc[i][c % A] = S::fma(S::load(x.add((c * M + i) * LANES)), w[c], acc[i][c % A]);
            });
        }
    }

    /// The halving tree over `16·A` lanes.
    #[inline(always)]
    unsafe fn tree<S: Simd, const A: usize>(mut acc: [S::V; A]) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            let mut half = A / 2;
            while half > 0 {
                for i in 0..half {
                    acc[i] = S::add(acc[i], acc[i + half]);
                }
                half /= 2;
            }
            S::tree_sum(acc[0])
        }
    }

    #[inline(always)]
    unsafe fn round_scalar<S: Simd>(x: f32, dtype: Dtype) -> f32 {
        // SAFETY: the caller's contract; lane 0 is all that is read back.
        unsafe {
            let v = finish::<S>(S::splat(x), Some(dtype));
            let mut lanes = [0.0; LANES];
            S::store(lanes.as_mut_ptr(), v);
            lanes[0]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    /// The recipe, word for word, over decoded weights.
    fn reference(recipe: MatmulRecipe, x: &[f32], w: &[f32], k: usize) -> Vec<u32> {
        let dot = |x: &[f32], w: &[f32]| match recipe.summation {
            Summation::TensorCore { .. } | Summation::Threads { .. } => unreachable!("tested in `nvidia`"),
            Summation::FmaChain => x.iter().zip(w).fold(0.0_f32, |acc, (x, w)| x.mul_add(*w, acc)),
            Summation::LaneChains { lanes } => {
                let lanes = usize::from(lanes);
                let mut acc = vec![0.0_f32; lanes];
                for (i, (x, w)) in x.iter().zip(w).enumerate() {
                    acc[i % lanes] = x.mul_add(*w, acc[i % lanes]);
                }
                let mut half = lanes / 2;
                while half > 0 {
                    for i in 0..half {
                        acc[i] += acc[i + half];
                    }
                    half /= 2;
                }
                acc[0]
            }
        };
        let rows = x.chunks_exact(k);
        rows.flat_map(|x| w.chunks_exact(k).map(move |w| recipe.output.round(dot(x, w) + 0.0).to_bits()))
            .collect()
    }

    /// Numbers without pattern, from a linear congruence.
    fn numbers(count: usize, mut seed: u32) -> Vec<f32> {
        (0..count)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let [_, _, low, high] = seed.to_le_bytes();
                f32::from(i16::from_le_bytes([low, high])) / 8192.0
            })
            .collect()
    }

    /// Raw bytes of a weight, with block scales kept finite.
    fn weight(format: Format, rows: usize, cols: usize, seed: u32) -> (Vec<u8>, usize) {
        let values = numbers(rows * cols, seed);
        match format {
            Format::Plain(dtype) => {
                let mut data = Vec::new();
                for v in &values {
                    dtype.encode(*v, &mut data);
                }
                (data, cols * dtype.size())
            }
            Format::Block(block) => {
                let (length, bytes) = (block.block_len(), block.block_bytes());
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the low byte of the integer that was drawn"
                )]
                let mut data: Vec<u8> = numbers(rows * cols / length * bytes, seed)
                    .iter()
                    .map(|v| (v * 8192.0) as i16 as u8)
                    .collect();
                let scales: &[usize] = match block {
                    BlockFormat::Q8_0 | BlockFormat::Q4_0 => &[0],
                    BlockFormat::Q4_1 | BlockFormat::Q4K => &[0, 2],
                    BlockFormat::Q6K => &[208],
                };
                for (i, chunk) in data.chunks_exact_mut(bytes).enumerate() {
                    for at in scales {
                        let scale = f16::from_f32(values[i] / 64.0);
                        chunk[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
                    }
                }
                (data, cols / length * bytes)
            }
        }
    }

    fn decode(w: Matrix<'_>) -> Vec<f32> {
        let mut out = vec![0.0; w.rows * w.cols];
        for (row, out) in out.chunks_exact_mut(w.cols).enumerate() {
            let bytes = &w.data[row * w.row_bytes..(row + 1) * w.row_bytes];
            match w.format {
                Format::Plain(dtype) => (0..w.cols).for_each(|i| out[i] = dtype.decode(bytes, i)),
                Format::Block(block) => block.dequantize(bytes, out),
            }
        }
        out
    }

    const FORMATS: [Format; 8] = [
        Format::Plain(Dtype::F32),
        Format::Plain(Dtype::Bf16),
        Format::Plain(Dtype::F16),
        Format::Block(BlockFormat::Q8_0),
        Format::Block(BlockFormat::Q4_0),
        Format::Block(BlockFormat::Q4_1),
        Format::Block(BlockFormat::Q4K),
        Format::Block(BlockFormat::Q6K),
    ];

    #[test]
    fn every_recipe_format_and_instruction_set_gives_the_recipes_bits() {
        let isas = [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available());
        let pools = [1, 3].map(|threads| Pool::new(threads).expect("threads"));
        for isa in isas {
            for format in FORMATS {
                for (m, n, k) in [
                    (1, 37, 512),
                    (3, 16, 256),
                    (5, 33, 768),
                    (13, 70, 256),
                    (25, 64, 512),
                    (2, 5, 160),
                    (14, 35, 224),
                    (1, 3, 70),
                    (12, 40, 203),
                ] {
                    let length = match format {
                        Format::Plain(_) => 1,
                        Format::Block(block) => block.block_len(),
                    };
                    if k % length != 0 {
                        continue;
                    }
                    let (data, row_bytes) = weight(format, n, k, 7 + u32::try_from(m).expect("small"));
                    let w = Matrix { format, rows: n, cols: k, row_bytes, data: &data };
                    let decoded = decode(w);
                    for summation in [
                        Summation::FmaChain,
                        Summation::LaneChains { lanes: 16 },
                        Summation::LaneChains { lanes: 32 },
                        Summation::LaneChains { lanes: 64 },
                    ] {
                        for output in Dtype::ALL {
                            let recipe = MatmulRecipe { summation, output };
                            let x: Vec<f32> = numbers(m * k, 99).iter().map(|x| output.round(*x)).collect();
                            let want = reference(recipe, &x, &decoded, k);
                            for pool in &pools {
                                let mut out = vec![f32::NAN; m * n];
                                matmul(isa, pool, recipe, &x, &mut [(w, &mut out)]);
                                let got: Vec<u32> = out.iter().map(|v| v.to_bits()).collect();
                                assert!(got == want, "{isa:?} {format:?} {m}×{n}×{k} {recipe:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn specials_travel_like_ieee_says() {
        let values =
            [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, 0.0, 1e-45, -1e-40, f32::MAX, -f32::MAX, 1.0];
        let k = values.len();
        let data: Vec<u8> = values.iter().rev().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        let w =
            Matrix { format: Format::Plain(Dtype::Bf16), rows: 1, cols: k, row_bytes: 2 * k, data: &data };
        for summation in [Summation::FmaChain, Summation::LaneChains { lanes: 16 }] {
            for scale in [1.0_f32, 0.0, -1e-30] {
                let x: Vec<f32> = values.iter().map(|v| v * scale).collect();
                let recipe = MatmulRecipe { summation, output: Dtype::F32 };
                let want = f32::from_bits(reference(recipe, &x, &decode(w), k)[0]);
                for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available())
                {
                    let mut out = [0.0];
                    matmul(isa, &Pool::new(1).expect("threads"), recipe, &x, &mut [(w, &mut out)]);
                    assert!(out[0].to_bits() == want.to_bits() || out[0].is_nan() && want.is_nan());
                }
            }
        }
    }

    /// `cargo test --release -p mantissa-engine -- --ignored --nocapture gmacs`
    #[test]
    #[ignore = "prints speeds"]
    #[expect(clippy::cast_precision_loss, reason = "speeds are printed with one digit after the point")]
    fn gmacs() {
        for threads in [1, 2] {
            let pool = Pool::new(threads).expect("threads");
            for (m, n, k) in [
                (512, 576, 576),
                (512, 192, 576),
                (512, 1536, 576),
                (512, 576, 1536),
                (1, 49152, 576),
                (1, 576, 1536),
                (1, 1536, 576),
                (4, 8192, 2048),
                (8, 8192, 2048),
                (16, 8192, 2048),
            ] {
                for format in FORMATS {
                    if k % 256 != 0 && matches!(format, Format::Block(BlockFormat::Q4K | BlockFormat::Q6K)) {
                        continue;
                    }
                    let (data, row_bytes) = weight(format, n, k, 3);
                    let w = Matrix { format, rows: n, cols: k, row_bytes, data: &data };
                    let x = numbers(m * k, 5);
                    let mut out = vec![0.0; m * n];
                    let summation = match m {
                        1 => Summation::LaneChains { lanes: 64 },
                        2..=4 => Summation::LaneChains { lanes: 32 },
                        5..=8 => Summation::LaneChains { lanes: 16 },
                        _ => Summation::FmaChain,
                    };
                    let recipe = MatmulRecipe { summation, output: Dtype::F32 };
                    let mut best = f64::MAX;
                    for _ in 0..20 {
                        let start = std::time::Instant::now();
                        matmul(Isa::detect(), &pool, recipe, &x, &mut [(w, &mut out)]);
                        best = best.min(start.elapsed().as_secs_f64());
                    }
                    let macs = (m * n * k) as f64;
                    println!(
                        "{threads}t {m}x{n}x{k} {format:?}: {:.1} GMAC/s {:.1} GB/s",
                        macs / best / 1e9,
                        (n * row_bytes) as f64 / best / 1e9
                    );
                }
            }
        }
    }
}
