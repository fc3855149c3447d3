//! Bars on standard error: only on a terminal, and only for what takes longer than two seconds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::settings::Settings;

/// How long work runs unannounced.
const PATIENCE: Duration = Duration::from_secs(2);

/// A bar that shows itself when the wait gets long. May be advanced from many threads.
#[derive(Debug)]
pub(crate) struct Bar {
    inner: ProgressBar,
    started: Instant,
    /// Whether the bar may still be shown, and is not yet.
    waiting: AtomicBool,
    label: Mutex<String>,
}

/// What a bar counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Tokens,
    Files,
    Shapes,
    Runs,
}

impl Bar {
    pub(crate) fn new(settings: &Settings, label: &str, total: Option<u64>, unit: Unit) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = match unit {
            Unit::Tokens => "{msg} {wide_bar} {pos}/{len} tokens {per_sec} {eta}",
            Unit::Files => "{msg} {wide_bar} {pos}/{len} files {eta}",
            Unit::Shapes => "{msg} {wide_bar} {pos}/{len} shapes {eta}",
            Unit::Runs => "{msg} {wide_bar} {pos}/{len} runs {eta}",
            Unit::Bytes => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        Self {
            inner: bar,
            started: Instant::now(),
            waiting: AtomicBool::new(settings.bars),
            label: Mutex::new(label.to_owned()),
        }
    }

    /// Adds to what is done.
    pub(crate) fn add(&self, amount: u64) {
        self.inner.inc(amount);
        self.show();
    }

    /// States what is done of `label`, which may be a new thing.
    pub(crate) fn at(&self, label: &str, done: u64, total: Option<u64>) {
        if let Ok(mut current) = self.label.lock()
            && *current != label
        {
            label.clone_into(&mut current);
            self.inner.set_message(label.to_owned());
            self.inner.reset_eta();
        }
        if let Some(total) = total {
            self.inner.set_length(total);
        }
        self.inner.set_position(done);
        self.show();
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&self) {
        self.waiting.store(false, Ordering::Relaxed);
        self.inner.finish_and_clear();
    }

    fn show(&self) {
        if self.waiting.load(Ordering::Relaxed) && self.started.elapsed() > PATIENCE {
            self.waiting.store(false, Ordering::Relaxed);
            self.inner.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}
