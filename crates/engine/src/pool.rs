//! A pool of threads for parallel loops of a few microseconds, and of the buffers such loops work in.
//!
//! Decoding runs hundreds of such loops per token, so workers spin for a while before they sleep. A worker that the
//! system has not scheduled is not waited for; the other threads do its tasks. Which thread runs which task is left to
//! chance, but tasks own their outputs, so chance does not change a bit.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an idle worker watches for the next loop before it sleeps.
const SPIN: Duration = Duration::from_micros(200);

/// [`Shared::state`]: the number of the loop in the high half, whether it is closed to further workers, and how many
/// are at work on it.
const LOOP: u64 = 1 << 32;
const CLOSED: u64 = 1 << 31;
const WORKING: u64 = CLOSED - 1;

/// A loop under way: a borrowed closure whose lifetime [`Pool::run`] guards by waiting for every worker that joined.
#[derive(Clone, Copy)]
struct Job {
    body: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: the closure is `Sync`, and `Pool::run` does not return before the last worker is done with it.
unsafe impl Send for Job {}

struct Shared {
    state: AtomicU64,
    job: Mutex<Option<Job>>,
    next: AtomicUsize,
    sleepers: AtomicUsize,
    wake: Condvar,
    stop: AtomicBool,
    panicked: AtomicBool,
}

/// A fixed set of threads, the caller's included, and buffers that outlive the loops.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One loop at a time.
    turn: Mutex<()>,
    buffers: Mutex<Vec<Vec<Line>>>,
}

/// A cache line of values: a vector that straddles two lines is read at half the speed.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads (at least one), the calling one among them.
    ///
    /// *Errors:* the system refused a thread.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(CLOSED),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let mut pool =
            Self { shared, workers: Vec::new(), turn: Mutex::new(()), buffers: Mutex::new(Vec::new()) };
        for _ in 1..threads {
            let shared = Arc::clone(&pool.shared);
            pool.workers.push(std::thread::Builder::new().spawn(move || shared.serve())?);
        }
        Ok(pool)
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// A buffer of `len` values, aligned to cache lines, that are whatever an earlier use left: the system hands out
    /// fresh pages at a price.
    pub(crate) fn buffer(&self, len: usize) -> Buffer<'_> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = len.div_ceil(16);
        let fitting =
            (0..buffers.len()).filter(|i| buffers[*i].len() >= lines).min_by_key(|i| buffers[*i].len());
        let index = fitting.or_else(|| (0..buffers.len()).max_by_key(|i| buffers[*i].len()));
        let mut values = index.map(|i| buffers.swap_remove(i)).unwrap_or_default();
        drop(buffers);
        if values.len() < lines {
            // Growing would copy what nobody wants.
            values = vec![Line([0.0; 16]); lines];
        }
        Buffer { values, len, home: self }
    }

    /// Runs `body(0)` … `body(tasks − 1)`, each once, and returns when all are done.
    ///
    /// # Panics
    /// When a task panicked.
    pub(crate) fn run(&self, tasks: usize, body: impl Fn(usize) + Sync) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(body);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let erased: *const (dyn Fn(usize) + Sync + '_) = &raw const body;
        #[expect(
            clippy::transmute_ptr_to_ptr,
            reason = "a cast may not extend the lifetime of a trait object"
        )]
        // SAFETY: only the lifetime changes; the wait below ends the last use.
        let body: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(erased) };
        let job = Job { body, tasks };
        shared.next.store(0, Ordering::Relaxed);
        *shared.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
        let number = (shared.state.load(Ordering::Relaxed) & !(LOOP - 1)).wrapping_add(LOOP);
        shared.state.store(number, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| shared.work(job)));
        let mut state = shared.state.fetch_or(CLOSED, Ordering::AcqRel);
        let mut spins = 0_u32;
        while state & WORKING > 0 {
            spins += 1;
            if spins.is_multiple_of(4096) {
                // The machine is shared: a worker may be waiting for this very core.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
            state = shared.state.load(Ordering::Acquire);
        }
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        drop(turn);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!panicked, "a task of the pool panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.state.fetch_add(LOOP, Ordering::SeqCst);
        {
            let _guard = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Takes tasks until none is left.
    fn work(&self, job: Job) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= job.tasks {
                return;
            }
            // SAFETY: `Pool::run` keeps the closure alive while a worker that joined has not left.
            unsafe { (*job.body)(task) }
        }
    }

    /// A worker's life.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            let state = self.wait(seen);
            seen = state & !(LOOP - 1);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if !self.join(seen) {
                continue;
            }
            let job = *self.job.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(job) = job
                && catch_unwind(AssertUnwindSafe(|| self.work(job))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Counts this worker in, if loop `number` is still open.
    fn join(&self, number: u64) -> bool {
        let open = |state: u64| (state & !WORKING == number).then_some(state + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, open).is_ok()
    }

    /// Waits for a loop other than `seen`: spinning first, then asleep. Returns the state it saw.
    fn wait(&self, seen: u64) -> u64 {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let state = self.state.load(Ordering::Acquire);
                if state & !(LOOP - 1) != seen {
                    return state;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        let mut guard = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let state = loop {
            let state = self.state.load(Ordering::SeqCst);
            if state & !(LOOP - 1) != seen {
                break state;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        state
    }
}

/// A borrowed buffer; it goes back to its pool when dropped.
#[derive(Debug)]
pub(crate) struct Buffer<'p> {
    values: Vec<Line>,
    len: usize,
    home: &'p Pool,
}

impl Deref for Buffer<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.values)[..self.len]
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.values)[..self.len]
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.home.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_through_sleep_and_spin() {
        let pool = Pool::new(3).expect("threads");
        for round in 0..2000_usize {
            let hits: Vec<AtomicUsize> = (0..7).map(|_| AtomicUsize::new(0)).collect();
            pool.run(hits.len(), |task| {
                hits[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
            if round % 500 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn a_panicking_task_reaches_the_caller_and_the_pool_lives() {
        let pool = Pool::new(2).expect("threads");
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(8, |task| assert!(task != 5, "task five"))));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(8, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 8);
    }
}
