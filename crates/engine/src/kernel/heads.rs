//! How attention is shared out: tasks by KV head and block of positions in prefill, by sequence and KV head in decode.

use mantissa_model::graph::Attention;

use super::matrix::{CachedLayer, Matrix};
use super::share::Shared;
use crate::pool::Pool;

/// Which heads there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub query: usize,
    pub kv: usize,
    /// Elements of a query and of a key.
    pub dim: usize,
    /// Elements of a value; the engine's own attention alone has others than `dim`.
    pub value: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Its root, by way of binary64.
    pub root_of_scale: f32,
    /// Keys that a query sees, its own among them; `None` for all up to its own.
    pub window: Option<usize>,
    /// Bound of the scores, for attentions that bound them.
    pub cap: Option<f32>,
}

impl Heads {
    pub(crate) fn group(self) -> usize {
        self.query / self.kv
    }

    /// The first key that a query sees of those up to its own, which are `limit`.
    pub(super) fn first_seen(self, limit: usize) -> usize {
        self.window.map_or(0, |window| limit.saturating_sub(window))
    }

    /// Elements between the beginning of a kernel's scores, `[sequences, heads, positions, keys]`, and the row of a
    /// position.
    pub(super) fn before(
        self,
        sequence: usize,
        head: usize,
        [position, positions]: [usize; 2],
        keys: usize,
    ) -> usize {
        ((sequence * self.query + head) * positions + position) * keys
    }

    /// The heads of a node of the graph; its factors are rounded to binary32.
    #[expect(clippy::cast_possible_truncation, reason = "PyTorch's rounding of a number beside a tensor")]
    pub(crate) fn of(node: &Attention) -> Self {
        Self {
            query: node.heads,
            kv: node.kv_heads,
            dim: node.key_dim,
            value: node.value_dim,
            scale: node.scale as f32,
            root_of_scale: node.scale.sqrt() as f32,
            window: node.window,
            cap: node.cap.map(|cap| cap as f32),
        }
    }
}

/// `group` query heads of `dim` to one key head, scaled by `dim^-0.5`.
#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "Python's own conversion of a small integer")]
pub(crate) fn usual_heads(group: usize, dim: usize) -> Heads {
    Heads::of(&Attention {
        heads: group,
        kv_heads: 1,
        key_dim: dim,
        value_dim: dim,
        scale: (dim as f64).powf(-0.5),
        window: None,
        cap: None,
        sinks: None,
    })
}

/// A task for each KV head and each block of positions, of about `rows` query rows, of a prefill whose first row stands
/// at `first`. `attend` gets the queries of the head's group, by position, with row and head of each and how many keys
/// it sees, and keys and values up to the block's last position: a panel of keys serves them all.
///
/// *Shape:* `attend` returns `queries × head_dim`.
#[expect(clippy::too_many_arguments, reason = "how, where, and two matrices")]
pub(super) fn by_block(
    pool: &Pool,
    heads: Heads,
    rows: usize,
    cached: CachedLayer<'_>,
    first: usize,
    q: &[f32],
    out: &mut [f32],
    attend: impl Fn(&[(usize, usize)], &[&[f32]], &[usize], [Matrix<'_>; 2]) -> Vec<f32> + Sync,
) {
    let (width, group) = (heads.query * heads.dim, heads.group());
    let block = (rows / group).max(1);
    let rows = q.len() / width;
    let to = Shared(out.as_mut_ptr());
    let blocks = rows.div_ceil(block);
    pool.run(blocks * heads.kv, |task| {
        // Later blocks have more keys: take them first.
        let (number, kv) = (blocks - 1 - task / heads.kv, task % heads.kv);
        let positions = number * block..rows.min((number + 1) * block);
        let places: Vec<(usize, usize)> =
            positions.clone().flat_map(|row| (0..group).map(move |head| (row, kv * group + head))).collect();
        let at = |(row, head): (usize, usize)| row * width + head * heads.dim;
        let queries: Vec<&[f32]> = places.iter().map(|place| &q[at(*place)..][..heads.dim]).collect();
        let limits: Vec<usize> = places.iter().map(|(row, _)| first + row + 1).collect();
        let found = attend(&places, &queries, &limits, cached.head(kv, first + positions.end));
        for (place, values) in places.into_iter().zip(found.chunks_exact(heads.dim)) {
            // SAFETY: these heads of these rows are this task's.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.get().add(at(place)), heads.dim) };
        }
    });
}

/// A task for each sequence and KV head of a decode step. `attend` gets the place in `caches` and the KV head, the
/// queries of its group, and its keys and values.
///
/// *Shape:* queries are `group × head_dim`; `attend` returns a row for each, of which the first values, as many as a
/// head's value has, count.
pub(super) fn by_group<R: std::ops::Deref<Target = [f32]>>(
    pool: &Pool,
    heads: Heads,
    caches: &[(CachedLayer<'_>, usize)],
    q: &[f32],
    out: &mut [f32],
    attend: impl Fn([usize; 2], &[f32], [Matrix<'_>; 2]) -> R + Sync,
) {
    let part = heads.group() * heads.dim;
    let to = Shared(out.as_mut_ptr());
    pool.run(caches.len() * heads.kv, |task| {
        let (row, kv) = (task / heads.kv, task % heads.kv);
        let (cached, count) = caches[row];
        let found = attend([row, kv], &q[task * part..(task + 1) * part], cached.head(kv, count));
        assert!(found.len() >= heads.group() * heads.value, "a row for each query");
        for (head, values) in found.chunks_exact(found.len() / heads.group()).enumerate() {
            let to = to.get().wrapping_add((task * heads.group() + head) * heads.value);
            // SAFETY: this group of heads of this row is this task's.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to, heads.value) };
        }
    });
}
