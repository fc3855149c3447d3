//! Kernels that treat each row of activations by itself: norms, rotary embedding, SwiGLU, residuals.

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::{
    BiasRecipe, CastRecipe, ClampedSwiGluRecipe, Elementary, Lanes, NormMean, NormRecipe, NormWeight,
    ResidualRecipe, RotaryPairs, RotaryRecipe, Silu, SwiGluRecipe,
};

use super::share::{Shared, share};
use super::torch_rows;
use crate::pool::Pool;
use crate::simd::{Isa, LANES, Simd, kernel};

/// RMSNorm of each row: see [`NormRecipe`].
///
/// *Shape:* `x` and `out` are `rows × weight.len()`; for a norm per head, rows are heads.
pub(crate) fn rms_norm(
    isa: Isa,
    pool: &Pool,
    recipe: NormRecipe,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    assert!(x.len() == out.len() && x.len().is_multiple_of(width), "rms_norm: shapes differ");
    let NormRecipe { mean, weight: weighting, output } = recipe;
    let lanes = match mean {
        NormMean::Torch { sum, rows } => {
            return torch_rows::rms_norm(pool, (weighting, output), sum, rows.get(), x, weight, eps, out);
        }
        NormMean::Vllm(mean) => {
            return torch_rows::vllm_rms_norm(pool, (weighting, output), mean, x, weight, eps, out);
        }
        NormMean::Lanes { lanes } => lanes,
    };
    let to = Shared(out.as_mut_ptr());
    share(pool, x.len() / width, width, |from, until| {
        for row in from..until {
            let x = &x[row * width..(row + 1) * width];
            // SAFETY: `isa` is available; row `row` of `out` is this task's.
            unsafe { norm_row(isa, lanes, (weighting, output), x, weight, eps, to.get().add(row * width)) }
        }
    });
}

kernel! {
    fn norm_row<'a>(
        lanes: Lanes, how: (NormWeight, Dtype), x: &'a [f32], weight: &'a [f32], eps: f32, out: *mut f32
    ) = generic::norm_row
}

/// Adds `bias` to each row: `round(x + bias)`.
pub(crate) fn add_bias(isa: Isa, pool: &Pool, recipe: BiasRecipe, x: &mut [f32], bias: &[f32]) {
    let width = bias.len();
    assert!(x.len().is_multiple_of(width), "add_bias: shapes differ");
    let (rows, to) = (x.len() / width, Shared(x.as_mut_ptr()));
    share(pool, rows, width, |from, until| {
        for row in from..until {
            // SAFETY: `isa` is available; row `row` is this task's.
            unsafe { add_row(isa, recipe.output, to.get().add(row * width), bias) }
        }
    });
}

/// The residual: `x = round(x + y)`.
pub(crate) fn add(isa: Isa, pool: &Pool, recipe: ResidualRecipe, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "add: shapes differ");
    let (length, to) = (x.len(), Shared(x.as_mut_ptr()));
    share(pool, length.div_ceil(LANES), LANES, |from, until| {
        let (from, until) = (from * LANES, (until * LANES).min(length));
        // SAFETY: `isa` is available; this run of `x` is this task's.
        unsafe { add_row(isa, recipe.output, to.get().add(from), &y[from..until]) }
    });
}

kernel! {
    fn add_row<'a>(output: Dtype, x: *mut f32, y: &'a [f32]) = generic::add_row
}

/// `gate = round(round(silu(gate)) · up)`.
pub(crate) fn swiglu(isa: Isa, pool: &Pool, recipe: SwiGluRecipe, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "swiglu: shapes differ");
    let output = recipe.output;
    match recipe.silu {
        Silu::Cuda => torch_rows::swiglu(pool, output, gate, up),
        Silu::Own => own_swiglu(isa, pool, output, gate, up),
    }
}

fn own_swiglu(isa: Isa, pool: &Pool, output: Dtype, gate: &mut [f32], up: &[f32]) {
    let (length, to) = (gate.len(), Shared(gate.as_mut_ptr()));
    share(pool, length.div_ceil(LANES), LANES * 4, |from, until| {
        let (from, until) = (from * LANES, (until * LANES).min(length));
        // SAFETY: `isa` is available; this run of `gate` is this task's.
        unsafe { swiglu_row(isa, output, to.get().add(from), &up[from..until]) }
    });
}

kernel! {
    fn swiglu_row<'a>(output: Dtype, gate: *mut f32, up: &'a [f32]) = generic::swiglu_row
}

/// Of neighbours `(gate, up)`, the clamped gated unit: see [`ClampedSwiGluRecipe`]; `bounds` are alpha and limit.
///
/// *Shape:* `pairs` is twice as long as `out`.
pub(crate) fn clamped_swiglu(
    isa: Isa,
    pool: &Pool,
    recipe: ClampedSwiGluRecipe,
    bounds: [f32; 2],
    pairs: &[f32],
    out: &mut [f32],
) {
    assert_eq!(pairs.len(), 2 * out.len(), "clamped_swiglu: shapes differ");
    if recipe.functions == Elementary::Cuda {
        return torch_rows::clamped_swiglu(pool, recipe.output, bounds, pairs, out);
    }
    let (length, to) = (out.len(), Shared(out.as_mut_ptr()));
    share(pool, length.div_ceil(LANES), LANES * 4, |from, until| {
        let (from, until) = (from * LANES, (until * LANES).min(length));
        let pairs = &pairs[2 * from..2 * until];
        // SAFETY: `isa` is available; this run of `out` is this task's.
        unsafe { clamped_swiglu_row(isa, recipe.output, bounds, pairs, to.get().add(from)) }
    });
}

kernel! {
    fn clamped_swiglu_row<'a>(
        output: Dtype, bounds: [f32; 2], pairs: &'a [f32], out: *mut f32
    ) = generic::clamped_swiglu_row
}

/// Rotary embedding of each head of each row: see [`RotaryRecipe`].
///
/// Whose cosines and sines they are shows in the tables alone, which are made by the same recipe.
///
/// *Shape:* `x` is rows of `width`, each heads of `head`, of which the `2·half` elements from `start` on are rotated;
/// `tables[row]` holds `half` cosines, then `half` sines.
pub(crate) fn rotary(
    isa: Isa,
    pool: &Pool,
    recipe: RotaryRecipe,
    x: &mut [f32],
    [width, head, start]: [usize; 3],
    tables: &[&[f32]],
) {
    let fits = |table: &&[f32]| start + table.len() <= head;
    assert!(
        x.len() == tables.len() * width && width.is_multiple_of(head) && tables.iter().all(fits),
        "rotary: shapes differ"
    );
    let to = Shared(x.as_mut_ptr());
    share(pool, tables.len(), width * 2, |from, until| {
        for (row, table) in (from..until).zip(&tables[from..until]) {
            // SAFETY: row `row` is this task's; `isa` is available and the table fits into a head.
            unsafe {
                let x = to.get().add(row * width);
                let rounded = |inner| (inner, recipe.output);
                match recipe.pairs {
                    RotaryPairs::Halves => {
                        rotary_row(isa, rounded(recipe.output), x, [width, head, start], table);
                    }
                    RotaryPairs::WideHalves => {
                        rotary_row(isa, rounded(Dtype::F32), x, [width, head, start], table);
                    }
                    RotaryPairs::RoundedTables => {
                        let x = std::slice::from_raw_parts_mut(x, width);
                        turn_halves(recipe.output, x, [head, start], table);
                    }
                    RotaryPairs::Neighbours => {
                        let x = std::slice::from_raw_parts_mut(x, width);
                        turn_neighbours(recipe.output, x, [head, start], table);
                    }
                }
            }
        }
    });
}

kernel! {
    fn rotary_row<'a>(
        rounding: (Dtype, Dtype), x: *mut f32, shape: [usize; 3], table: &'a [f32]
    ) = generic::rotary_row
}

/// Neighbours of each head of `x` as complex numbers, turned. Nothing is fused, so that any code for it has the same
/// bits.
fn turn_neighbours(output: Dtype, x: &mut [f32], [head, start]: [usize; 2], table: &[f32]) {
    let half = table.len() / 2;
    let (cos, sin) = table.split_at(half);
    for head in x.chunks_exact_mut(head) {
        let pairs = head[start..start + 2 * half].as_chunks_mut::<2>().0;
        for (pair, (c, s)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
            let [a, b] = *pair;
            *pair = [output.round(a * c - b * s), output.round(a * s + b * c)];
        }
    }
}

/// Halves of each head of `x`, turned: the second product is rounded to binary32, the first fused into the sum.
fn turn_halves(output: Dtype, x: &mut [f32], [head, start]: [usize; 2], table: &[f32]) {
    let half = table.len() / 2;
    let (cos, sin) = table.split_at(half);
    for head in x.chunks_exact_mut(head) {
        let (first, second) = head[start..start + 2 * half].split_at_mut(half);
        for ((x, y), (c, s)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
            let (a, b) = (*x, *y);
            (*x, *y) = (output.round(a.mul_add(*c, -(b * s))), output.round(a.mul_add(*s, b * c)));
        }
    }
}

/// Softmax of one row in place: `exp(x − max) / sum`. Returns nothing; every output is binary32.
pub(crate) fn softmax(isa: Isa, lanes: Lanes, x: &mut [f32]) {
    // SAFETY: `isa` is available.
    unsafe { softmax_row(isa, lanes, x) }
}

kernel! {
    fn softmax_row<'a>(lanes: Lanes, x: &'a mut [f32]) = generic::softmax_row
}

/// `acc[i] += round(y[i] · weight)` in binary32: one expert's part of a token.
pub(crate) fn add_scaled(isa: Isa, output: Dtype, acc: &mut [f32], y: &[f32], weight: f32) {
    assert_eq!(acc.len(), y.len(), "add_scaled: shapes differ");
    // SAFETY: `isa` is available.
    unsafe { add_scaled_row(isa, output, acc, y, weight) }
}

kernel! {
    fn add_scaled_row<'a>(output: Dtype, acc: &'a mut [f32], y: &'a [f32], weight: f32) = generic::add_scaled_row
}

/// Rounds every element in place.
pub(crate) fn round(isa: Isa, recipe: CastRecipe, x: &mut [f32]) {
    // SAFETY: `isa` is available.
    unsafe { round_row(isa, recipe.output, x) }
}

kernel! {
    fn round_row<'a>(output: Dtype, x: &'a mut [f32]) = generic::round_row
}

/// Sum of `exp(x − max)`, in blocks of 1,024 by sixteen lanes in binary32, blocks in binary64.
pub(crate) fn sum_exp(isa: Isa, x: &[f32], max: f32) -> f64 {
    let mut total = 0.0;
    for block in x.chunks(1024) {
        let mut sum = 0.0;
        // SAFETY: `isa` is available; `sum` outlives the call.
        unsafe { sum_exp_block(isa, block, max, &raw mut sum) }
        total += f64::from(sum);
    }
    total
}

kernel! {
    fn sum_exp_block<'a>(x: &'a [f32], max: f32, sum: *mut f32) = generic::sum_exp_block
}

/// Writes rounded values in their storage format.
pub(crate) fn store_half(isa: Isa, dtype: Dtype, from: &[f32], to: &mut [u16]) {
    assert_eq!(from.len(), to.len(), "store_half: shapes differ");
    // SAFETY: `isa` is available.
    unsafe { store_half_row(isa, dtype, from, to) }
}

kernel! {
    fn store_half_row<'a>(dtype: Dtype, from: &'a [f32], to: &'a mut [u16]) = generic::store_half_row
}

/// The kernels themselves, over any instruction set.
mod generic {
    use super::super::math::{exp, load_part, round, store_part};
    use super::{Dtype, LANES, Lanes, NormWeight, Simd};

    /// Runs `$body` for `$A` = lanes / 16.
    macro_rules! with_lanes {
        ($recipe:expr, $A:ident => $body:expr) => {
            match $recipe {
                Lanes::L16 => {
                    const $A: usize = 1;
                    $body
                }
                Lanes::L32 => {
                    const $A: usize = 2;
                    $body
                }
                Lanes::L64 => {
                    const $A: usize = 4;
                    $body
                }
            }
        };
    }

    /// The halving tree over `16·A` lanes.
    #[inline(always)]
    unsafe fn tree<S: Simd, const A: usize>(mut acc: [S::V; A]) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            let mut half = A / 2;
            while half > 0 {
                let mut i = 0;
                while i < half {
                    acc[i] = S::add(acc[i], acc[i + half]);
                    i += 1;
                }
                half /= 2;
            }
            S::tree_sum(acc[0])
        }
    }

    /// `Σ x²` by lanes.
    #[inline(always)]
    unsafe fn sum_of_squares<S: Simd, const A: usize>(x: &[f32]) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            let mut acc = [S::splat(0.0); A];
            let (mut at, mut c) = (0, 0);
            while at < x.len() {
                let v = load_part::<S>(x.as_ptr().add(at), LANES.min(x.len() - at), 0.0);
                acc[c % A] = S::fma(v, v, acc[c % A]);
                at += LANES;
                c += 1;
            }
            tree::<S, A>(acc)
        }
    }

    #[inline(always)]
    pub(super) unsafe fn norm_row<S: Simd>(
        lanes: Lanes,
        (weighting, output): (NormWeight, Dtype),
        x: &[f32],
        weight: &[f32],
        eps: f32,
        out: *mut f32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let sum = with_lanes!(lanes, A => sum_of_squares::<S, A>(x));
            #[expect(clippy::cast_precision_loss, reason = "a row is far shorter than 2^24")]
            let mean = sum / x.len() as f32;
            let r = S::splat(1.0 / (mean + eps).sqrt());
            let mut at = 0;
            while at < x.len() {
                let count = LANES.min(x.len() - at);
                let v = load_part::<S>(x.as_ptr().add(at), count, 0.0);
                let w = load_part::<S>(weight.as_ptr().add(at), count, 0.0);
                let v = S::mul(v, r);
                let y = match weighting {
                    NormWeight::AfterCast => S::mul(w, round::<S>(output, v)),
                    NormWeight::BeforeCast => S::mul(w, v),
                    NormWeight::OnePlus => S::mul(v, S::add(S::splat(1.0), w)),
                };
                store_part::<S>(out.add(at), count, round::<S>(output, y));
                at += LANES;
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn add_row<S: Simd>(output: Dtype, x: *mut f32, y: &[f32]) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut at = 0;
            while at < y.len() {
                let count = LANES.min(y.len() - at);
                let a = load_part::<S>(x.add(at), count, 0.0);
                let b = load_part::<S>(y.as_ptr().add(at), count, 0.0);
                store_part::<S>(x.add(at), count, round::<S>(output, S::add(a, b)));
                at += LANES;
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn swiglu_row<S: Simd>(output: Dtype, gate: *mut f32, up: &[f32]) {
        // SAFETY: the caller's contract.
        unsafe {
            let one = S::splat(1.0);
            let mut at = 0;
            while at < up.len() {
                let count = LANES.min(up.len() - at);
                let g = load_part::<S>(gate.add(at), count, 0.0);
                let u = load_part::<S>(up.as_ptr().add(at), count, 0.0);
                let silu = S::div(g, S::add(one, exp::<S>(S::sub(S::splat(0.0), g))));
                let y = S::mul(round::<S>(output, silu), u);
                store_part::<S>(gate.add(at), count, round::<S>(output, y));
                at += LANES;
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn clamped_swiglu_row<S: Simd>(
        output: Dtype,
        [alpha, limit]: [f32; 2],
        pairs: &[f32],
        out: *mut f32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let (one, limit) = (S::splat(1.0), S::splat(limit));
            let least = S::sub(S::splat(0.0), limit);
            let (mut gates, mut ups) = ([0.0; LANES], [0.0; LANES]);
            for (chunk, pairs) in pairs.chunks(2 * LANES).enumerate() {
                for (i, pair) in pairs.as_chunks::<2>().0.iter().enumerate() {
                    [gates[i], ups[i]] = *pair;
                }
                // A NaN stays one: the second operand is what these return then.
                let g = S::min(limit, S::load(gates.as_ptr()));
                let u = S::min(limit, S::max(least, S::load(ups.as_ptr())));
                let scaled = round::<S>(output, S::mul(g, S::splat(alpha)));
                let sigmoid = S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), scaled))));
                let glu = round::<S>(output, S::mul(g, round::<S>(output, sigmoid)));
                let y = S::mul(round::<S>(output, S::add(u, one)), glu);
                store_part::<S>(out.add(chunk * LANES), pairs.len() / 2, round::<S>(output, y));
            }
        }
    }

    /// Formats are of the products and of the sum.
    #[inline(always)]
    pub(super) unsafe fn rotary_row<S: Simd>(
        (inner, output): (Dtype, Dtype),
        x: *mut f32,
        [width, length, start]: [usize; 3],
        table: &[f32],
    ) {
        let half = table.len() / 2;
        let (cos, sin) = table.split_at(half);
        // SAFETY: the caller's contract.
        unsafe {
            let mut head = start;
            while head < width {
                let mut at = 0;
                while at < half {
                    let count = LANES.min(half - at);
                    let (first, second) = (x.add(head + at), x.add(head + half + at));
                    let a = load_part::<S>(first, count, 0.0);
                    let b = load_part::<S>(second, count, 0.0);
                    let c = load_part::<S>(cos.as_ptr().add(at), count, 0.0);
                    let s = load_part::<S>(sin.as_ptr().add(at), count, 0.0);
                    let rotated = round::<S>(inner, S::mul(S::sub(S::splat(-0.0), b), s));
                    let y = S::add(round::<S>(inner, S::mul(a, c)), rotated);
                    store_part::<S>(first, count, round::<S>(output, y));
                    let y = S::add(round::<S>(inner, S::mul(b, c)), round::<S>(inner, S::mul(a, s)));
                    store_part::<S>(second, count, round::<S>(output, y));
                    at += LANES;
                }
                head += length;
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn softmax_row<S: Simd>(lanes: Lanes, x: &mut [f32]) {
        let max = x.iter().fold(f32::NEG_INFINITY, |max, v| if *v > max { *v } else { max });
        // SAFETY: the caller's contract.
        unsafe {
            let sum = with_lanes!(lanes, A => exponentials::<S, A>(x, max));
            let sum = S::splat(sum);
            let mut at = 0;
            while at < x.len() {
                let count = LANES.min(x.len() - at);
                let p = x.as_mut_ptr().add(at);
                store_part::<S>(p, count, S::div(load_part::<S>(p, count, 0.0), sum));
                at += LANES;
            }
        }
    }

    /// Replaces each value by `exp(x − max)` and returns the sum by lanes.
    #[inline(always)]
    unsafe fn exponentials<S: Simd, const A: usize>(x: &mut [f32], max: f32) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            let mut acc = [S::splat(0.0); A];
            let (mut at, mut c) = (0, 0);
            while at < x.len() {
                let count = LANES.min(x.len() - at);
                let p = x.as_mut_ptr().add(at);
                let e = exp::<S>(S::sub(load_part::<S>(p, count, f32::NEG_INFINITY), S::splat(max)));
                store_part::<S>(p, count, e);
                acc[c % A] = S::add(acc[c % A], e);
                at += LANES;
                c += 1;
            }
            tree::<S, A>(acc)
        }
    }

    #[inline(always)]
    pub(super) unsafe fn sum_exp_block<S: Simd>(x: &[f32], max: f32, sum: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut acc = S::splat(0.0);
            let mut at = 0;
            while at < x.len() {
                let v = load_part::<S>(x.as_ptr().add(at), LANES.min(x.len() - at), f32::NEG_INFINITY);
                acc = S::add(acc, exp::<S>(S::sub(v, S::splat(max))));
                at += LANES;
            }
            *sum = S::tree_sum(acc);
        }
    }

    #[inline(always)]
    pub(super) unsafe fn add_scaled_row<S: Simd>(output: Dtype, acc: &mut [f32], y: &[f32], weight: f32) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut at = 0;
            while at < y.len() {
                let count = LANES.min(y.len() - at);
                let v = load_part::<S>(y.as_ptr().add(at), count, 0.0);
                let a = load_part::<S>(acc.as_ptr().add(at), count, 0.0);
                let part = round::<S>(output, S::mul(v, S::splat(weight)));
                store_part::<S>(acc.as_mut_ptr().add(at), count, S::add(a, part));
                at += LANES;
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn round_row<S: Simd>(output: Dtype, x: &mut [f32]) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut at = 0;
            while at < x.len() {
                let count = LANES.min(x.len() - at);
                let p = x.as_mut_ptr().add(at);
                store_part::<S>(p, count, round::<S>(output, load_part::<S>(p, count, 0.0)));
                at += LANES;
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn store_half_row<S: Simd>(dtype: Dtype, from: &[f32], to: &mut [u16]) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut at = 0;
            while at + LANES <= from.len() {
                let (v, p) = (S::load(from.as_ptr().add(at)), to.as_mut_ptr().add(at));
                if matches!(dtype, Dtype::F16) {
                    S::store_f16(p, v);
                } else {
                    S::store_bf16(p, v);
                }
                at += LANES;
            }
            let mut lanes = [0_u16; LANES];
            let v = load_part::<S>(from.as_ptr().add(at), from.len() - at, 0.0);
            if matches!(dtype, Dtype::F16) {
                S::store_f16(lanes.as_mut_ptr(), v);
            } else {
                S::store_bf16(lanes.as_mut_ptr(), v);
            }
            to[at..].copy_from_slice(&lanes[..from.len() - at]);
        }
    }
}

#[cfg(test)]
mod tests;
