//! How far long work is, on standard error: a bar on a terminal, elsewhere a line every half minute.
//!
//! Rates are means over what was watched, not over what an earlier attempt had done. Left out: what is counted (the
//! verbs).

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::one_line;
use crate::settings::{Progress, Settings};
use crate::terminal::bytes;

/// How long work runs unannounced on a terminal.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a line stands in a log.
const BETWEEN_LINES: Duration = Duration::from_secs(30);
/// How often the words of a bar change.
const BETWEEN_WORDS: Duration = Duration::from_millis(250);
/// Terminals below this have no room for a bar beside the words.
const ROOM_FOR_BAR: usize = 100;

/// Progress that shows itself when the wait gets long. May be advanced from many threads.
#[derive(Debug)]
pub(crate) struct Bar {
    inner: ProgressBar,
    unit: Unit,
    progress: Progress,
    state: Mutex<State>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Tokens,
    Files,
    Shapes,
    Runs,
    Values,
    Checks,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Tokens => "tokens",
            Self::Files => "files",
            Self::Shapes => "shapes",
            Self::Runs => "runs",
            Self::Values => "values",
            Self::Checks => "checks",
        }
    }
}

#[derive(Debug)]
struct State {
    label: String,
    pace: Pace,
    total: Option<u64>,
    /// Whether it was ever told how much is done.
    told: bool,
    /// When something was last shown.
    shown: Option<Instant>,
}

/// How fast work goes.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Since when it is watched, and what was done by then.
    since: Instant,
    before: u64,
    done: u64,
}

impl Pace {
    const fn new(now: Instant, done: u64) -> Self {
        Self { since: now, before: done, done }
    }

    /// What is done now; less than before is the beginning of something else.
    fn at(&mut self, now: Instant, done: u64) {
        if done < self.done {
            *self = Self::new(now, done);
        }
        self.done = done;
    }

    /// Per second, once there is something to tell it by.
    fn rate(&self, now: Instant) -> Option<f64> {
        let seconds = now.duration_since(self.since).as_secs_f64();
        let done = self.done - self.before;
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let rate = done as f64 / seconds;
        (seconds >= 1.0 && done > 0).then_some(rate)
    }

    /// `12 of 40 tokens, 3.1 tokens/s, about 9 s left`.
    fn said(&self, now: Instant, unit: Unit, total: Option<u64>) -> String {
        let count = |count: u64| if unit == Unit::Bytes { bytes(count) } else { count.to_string() };
        let name = if unit == Unit::Bytes { String::new() } else { format!(" {}", unit.name()) };
        let mut said = match total {
            Some(total) => format!("{} of {}{name}", count(self.done), count(total)),
            None => format!("{}{name}", count(self.done)),
        };
        if let Some(rate) = self.rate(now) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of bytes")]
            let rate_said = match unit {
                Unit::Bytes => format!("{}/s", bytes(rate as u64)),
                _ if rate >= 100.0 => format!("{rate:.0}/s"),
                _ if rate >= 1.0 => format!("{rate:.1}/s"),
                _ => format!("{} each", lasting(1.0 / rate)),
            };
            said.extend([", ", &rate_said]);
            if let Some(left) = total.and_then(|total| total.checked_sub(self.done)).filter(|left| *left > 0)
            {
                #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
                let seconds = left as f64 / rate;
                said.extend([", about ", &lasting(seconds), " left"]);
            }
        }
        said
    }
}

/// A time as people say it.
fn lasting(seconds: f64) -> String {
    let minutes = seconds / 60.0;
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1000.0),
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{minutes:.0} min"),
        _ => format!("{:.1} h", minutes / 60.0),
    }
}

impl Bar {
    pub(crate) fn new(settings: &Settings, label: &str, total: Option<u64>, unit: Unit) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let broad = matches!(settings.progress, Progress::Bars { width } if width >= ROOM_FOR_BAR);
        let template = if broad { "{wide_msg} {bar:24} {prefix}" } else { "{wide_msg} {prefix}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        let pace = Pace::new(Instant::now(), 0);
        let state = State { label: label.to_owned(), pace, total, told: false, shown: None };
        Self { inner: bar, unit, progress: settings.progress, state: Mutex::new(state) }
    }

    /// Adds to what is done.
    pub(crate) fn add(&self, amount: u64) {
        self.update(|state, now| state.pace.at(now, state.pace.done + amount));
    }

    /// States what is done of `label`, which may be a new thing. What was done when this is first told may be another
    /// attempt's.
    pub(crate) fn at(&self, label: &str, done: u64, total: Option<u64>) {
        self.update(|state, now| {
            label.clone_into(&mut state.label);
            state.total = total.or(state.total);
            if !std::mem::replace(&mut state.told, true) {
                state.pace = Pace::new(now, done);
            }
            state.pace.at(now, done);
        });
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&self) {
        self.inner.finish_and_clear();
    }

    fn update(&self, change: impl FnOnce(&mut State, Instant)) {
        let now = Instant::now();
        let Ok(mut state) = self.state.lock() else { return };
        let started = state.pace.since;
        change(&mut state, now);
        let waited = now.duration_since(state.shown.unwrap_or(started));
        match self.progress {
            Progress::Bars { .. } => self.draw(&mut state, now, waited),
            Progress::Lines if waited >= BETWEEN_LINES => {
                state.shown = Some(now);
                let line = format!("{}: {}", state.label, state.pace.said(now, self.unit, state.total));
                drop(writeln!(std::io::stderr(), "{}", one_line(&line)));
            }
            Progress::Lines | Progress::Nothing => {}
        }
    }

    fn draw(&self, state: &mut State, now: Instant, waited: Duration) {
        if state.shown.is_none() {
            if waited < PATIENCE {
                return;
            }
            self.inner.set_draw_target(ProgressDrawTarget::stderr());
        } else if waited < BETWEEN_WORDS {
            return;
        }
        state.shown = Some(now);
        if let Some(total) = state.total {
            self.inner.set_length(total);
        }
        self.inner.set_message(one_line(&state.label));
        self.inner.set_prefix(state.pace.said(now, self.unit, state.total));
        self.inner.set_position(state.pace.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_was_watched_and_times_of_what_is_left() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(start, 100);
        assert_eq!(pace.said(at(0), Unit::Tokens, Some(500)), "100 of 500 tokens");
        pace.at(at(10), 300);
        assert_eq!(
            pace.said(at(10), Unit::Tokens, Some(500)),
            "300 of 500 tokens, 20.0/s, about 10 s left",
            "what was there before is no work of this run"
        );
        // Nothing moves: the rate falls, and the time left grows.
        assert_eq!(pace.said(at(100), Unit::Tokens, Some(500)), "300 of 500 tokens, 2.0/s, about 2 min left");
        pace.at(at(100), 500);
        assert_eq!(pace.said(at(100), Unit::Tokens, Some(500)), "500 of 500 tokens, 4.0/s");
        // Another thing is counted from its beginning.
        pace.at(at(110), 1);
        pace.at(at(130), 2);
        assert_eq!(pace.said(at(130), Unit::Runs, Some(400)), "2 of 400 runs, 20 s each, about 2.2 h left");
        pace.at(at(150), 2_000_000);
        assert_eq!(pace.said(at(150), Unit::Bytes, None), "2.0 MB, 49.9 kB/s");
    }
}
