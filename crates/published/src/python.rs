//! Numbers as Python prints them.

/// `%.2e` of Python.
pub(crate) fn printed(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let text = format!("{value:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |exponent| ("-", exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_printed_as_python_prints_them() {
        for (value, text) in [
            (0.0, "0.00e+00"),
            (0.03987244721521269, "3.99e-02"),
            (12.927758904771041, "1.29e+01"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(printed(value), text);
        }
    }
}
