//! How the work of a kernel is shared out between threads.

use crate::pool::Pool;

/// Elements below which a loop is not worth sharing out.
const WORTH_SHARING: usize = 16 * 1024;

/// Runs `body(first, last)` over `rows` rows of `width`, in as many runs as pay.
pub(crate) fn share(pool: &Pool, rows: usize, width: usize, body: impl Fn(usize, usize) + Sync) {
    let tasks = (rows * width / WORTH_SHARING).clamp(1, pool.threads() * 4).min(rows.max(1));
    pool.run(tasks, |task| body(rows * task / tasks, rows * (task + 1) / tasks));
}

/// A buffer that tasks write disjoint parts of.
pub(crate) struct Shared<T>(pub *mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

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
