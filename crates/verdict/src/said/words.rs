//! How figures, signals and lists are said in a sentence.

use mantissa_numerics::Phase;

use crate::analysis::Signal;

/// A figure with three significant digits; zero and infinity as such.
pub(crate) fn figure(value: f64) -> String {
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
pub(crate) fn p_value(p: f64) -> String {
    format!("p = {}", figure(p))
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list<S: AsRef<str>>(items: &[S]) -> String {
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
pub(crate) fn classes(classes: &[Vec<String>]) -> String {
    let braced: Vec<String> = classes.iter().map(|class| format!("{{{}}}", class.join(", "))).collect();
    braced.join(", ")
}

/// `1 reference`, `2 references`.
pub(crate) fn count(n: u64, singular: &str) -> String {
    if n == 1 { format!("1 {singular}") } else { format!("{n} {singular}s") }
}

/// `prefill key vectors`.
pub(crate) fn lane(phase: Phase, signal: Signal) -> String {
    format!("{} {}", phase.name(), signal_name(signal))
}

/// The name in prose.
pub(crate) const fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::HiddenStates => "hidden states",
        Signal::KeyVectors => "key vectors",
        Signal::Logprobs => "log-probabilities",
    }
}

#[cfg(test)]
mod tests {
    use super::{classes, figure, list};

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
