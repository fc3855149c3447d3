//! How figures, signals and lists are said in a sentence.

use mantissa_numerics::Phase;

use crate::analysis::Signal;

/// A figure with three significant digits; zero and infinity as such.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    if size.to_bits() == 0 {
        "0".to_owned()
    } else if !value.is_finite() {
        if value.is_nan() { "NaN".to_owned() } else { "infinity".to_owned() }
    } else if !(1e-3..1e4).contains(&size) {
        format!("{value:.2e}")
    } else if size < 0.9995e-2 {
        format!("{value:.5}")
    } else if size < 0.9995e-1 {
        format!("{value:.4}")
    } else if size < 0.9995 {
        format!("{value:.3}")
    } else if size < 9.995 {
        format!("{value:.2}")
    } else if size < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A p-value: never zero, since none of these tests can give one.
pub(super) fn p_value(p: f64) -> String {
    format!("p = {}", figure(p))
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// `{a, b}, {c}`.
pub(super) fn classes(classes: &[Vec<String>]) -> String {
    let braced: Vec<String> = classes.iter().map(|class| format!("{{{}}}", class.join(", "))).collect();
    braced.join(", ")
}

/// `1 reference`, `2 references`.
pub(super) fn count(n: u64, singular: &str) -> String {
    if n == 1 { format!("1 {singular}") } else { format!("{n} {singular}s") }
}

/// `prefill key vectors`.
pub(super) fn lane(phase: Phase, signal: Signal) -> String {
    format!("{} {}", phase.name(), signal_name(signal))
}

/// The name in prose.
pub(super) const fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::HiddenStates => "hidden states",
        Signal::KeyVectors => "key vectors",
        Signal::Logprobs => "log-probabilities",
    }
}

/// The name in files.
pub(super) const fn signal_key(signal: Signal) -> &'static str {
    match signal {
        Signal::HiddenStates => "hidden_states",
        Signal::KeyVectors => "key_vectors",
        Signal::Logprobs => "logprobs",
    }
}

/// The signal of a name in files.
pub(super) fn signal_of(name: &str) -> Option<Signal> {
    [Signal::HiddenStates, Signal::KeyVectors, Signal::Logprobs]
        .into_iter()
        .find(|&signal| signal_key(signal) == name)
}

/// The mean of finite values, summed in order; absent when there is none.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    let n = f64::from(u32::try_from(values.len()).ok()?);
    if values.is_empty() {
        return None;
    }
    let sum: f64 = values.iter().sum();
    // Where the sum of finite values is too large, that of their shares is not.
    let mean = if sum.is_finite() { sum / n } else { values.iter().map(|value| value / n).sum() };
    Some(mean).filter(|mean| mean.is_finite())
}

#[cfg(test)]
mod tests {
    use super::{classes, figure, list, mean};

    #[test]
    fn a_mean_is_finite_or_absent() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 2.0]), Some(1.5));
        assert_eq!(mean(&[1e308; 4]), Some(1e308));
        assert_eq!(mean(&[f64::INFINITY, 1.0]), None);
    }

    #[test]
    fn figures_have_three_digits() {
        let said: Vec<String> =
            [0.0, 0.0123456, 0.00123456, 0.64044, 0.99996, 12.74, 5238.0, 1.5e-7, 123456.0, f64::INFINITY]
                .into_iter()
                .map(figure)
                .collect();
        assert_eq!(
            said,
            ["0", "0.0123", "0.00123", "0.640", "1.00", "12.7", "5238", "1.50e-7", "1.23e5", "infinity"]
        );
    }

    #[test]
    fn lists_read_as_prose() {
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(classes(&[vec!["1".to_owned()], vec!["2".to_owned(), "3".to_owned()]]), "{1}, {2, 3}");
    }
}
