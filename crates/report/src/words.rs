//! How values are called and numbers are set for people. `analysis_results.json` has them whole.

use mantissa_numerics::Phase;
use mantissa_verdict::analysis::{
    Agreement, Answer, Axis, Cell, Comparison, FindingKind, Interval, MatrixKind, Mode, Outcome, RowCounts,
    Signal, State, Tier, TokenBasis,
};

/// What stands where a value is absent.
pub(crate) const ABSENT: &str = "";

/// A number with so many significant digits; plain between 0.0001 and 1,000,000, else with an exponent.
pub(crate) fn number(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    let places = digits.saturating_sub(1);
    let scientific = format!("{value:.places$e}");
    let exponent =
        scientific.rsplit_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok()).unwrap_or(0);
    if value == 0.0 {
        "0".to_owned()
    } else if (-4..6).contains(&exponent) {
        let wanted = i32::try_from(places).unwrap_or(i32::MAX) - exponent;
        format!("{value:.*}", usize::try_from(wanted).unwrap_or(0))
    } else {
        scientific
    }
}

/// Four significant digits, or nothing.
pub(crate) fn some(value: Option<f64>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| number(value, 4))
}

/// A count, with thousands set apart.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut set = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            set.push(',');
        }
        set.push(digit);
    }
    set
}

/// A share as a percentage: `95%`, `99.9%`.
pub(crate) fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

pub(crate) fn interval(interval: Option<&Interval>) -> String {
    interval.map_or_else(
        || ABSENT.to_owned(),
        |i| format!("{} to {} ({})", number(i.low, 4), number(i.high, 4), percent(i.confidence)),
    )
}

/// What a cell shows: a distance, or the symbol of a state without one.
pub(crate) fn cell(cell: &Cell, digits: usize) -> String {
    match (cell.state, cell.value) {
        (State::Different, Some(value)) => number(value, digits),
        (state, _) => state_symbol(state).to_owned(),
    }
}

/// What the symbols mean, wherever cells are shown.
pub(crate) const LEGEND: &str = "a number: other bits, at that distance · =: same bits · ≠: other bits, distance unknown · ∅: missing on one side · ×: incomparable";

pub(crate) const fn state_symbol(state: State) -> &'static str {
    match state {
        State::Equal => "=",
        State::Different => "≠",
        State::Missing => "∅",
        State::Incomparable => "×",
    }
}

/// Rows by state, with the symbols of [`LEGEND`]; states without rows are left out.
pub(crate) fn rows(rows: Option<RowCounts>) -> String {
    let Some(rows) = rows else { return String::new() };
    let by_state = [
        (rows.equal, State::Equal),
        (rows.different, State::Different),
        (rows.missing, State::Missing),
        (rows.incomparable, State::Incomparable),
    ];
    let said = by_state.into_iter().filter(|&(n, _)| n > 0);
    said.map(|(n, state)| format!("{}\u{a0}{}", count(n), state_symbol(state))).collect::<Vec<_>>().join(" ")
}

/// With its first letter large.
pub(crate) fn capital(text: &str) -> String {
    first_letter(text, |first| first.to_uppercase().collect())
}

/// With its first letter small.
pub(crate) fn uncapital(text: &str) -> String {
    first_letter(text, |first| first.to_lowercase().collect())
}

fn first_letter(text: &str, case: fn(char) -> String) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| case(first) + rest.as_str())
}

/// `1 setup`, `1,234 setups`.
pub(crate) fn of(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number as u64))
}

/// `3 told apart; 1 left open`: what there is none of is left out.
pub(crate) fn counted(counts: impl IntoIterator<Item = (usize, &'static str)>) -> String {
    let counts = counts.into_iter().filter(|(number, _)| *number > 0);
    counts.map(|(number, word)| format!("{} {word}", count(number as u64))).collect::<Vec<_>>().join("; ")
}

/// `a, b and c`; where there are more than so many, the first of them and how many more.
pub(crate) fn listed<S: AsRef<str>>(names: &[S], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    match (shown.as_slice(), names.len().saturating_sub(most)) {
        ([], _) => String::new(),
        (shown, 1..) => format!("{} and {} more", shown.join(", "), names.len() - shown.len()),
        ([one], 0) => (*one).to_owned(),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
    }
}

/// Signals in a sentence.
pub(crate) fn signals_said(signals: &[Signal]) -> String {
    if signals.is_empty() {
        return "no signals".to_owned();
    }
    listed(&signals.iter().map(|&one| signal(one)).collect::<Vec<_>>(), signals.len())
}

/// Two setups or runs.
pub(crate) fn pair_name(a: &str, b: &str) -> String {
    if a == b { a.to_owned() } else { format!("{a} · {b}") }
}

/// A phase and a signal, at the beginning of a line.
pub(crate) fn lane_name(phase: Phase, of: Signal) -> String {
    capital(&format!("{} {}", phase.name(), signal(of)))
}

/// What a file states, or that it does not.
pub(crate) fn stated(value: Option<String>) -> String {
    value.unwrap_or_else(|| "not stated".to_owned())
}

pub(crate) const fn state(state: State) -> &'static str {
    match state {
        State::Equal => "equal",
        State::Different => "different",
        State::Missing => "missing",
        State::Incomparable => "incomparable",
    }
}

/// The outcome of an analysis in a word or two. Nothing was claimed, so a difference is no fault.
///
/// ```
/// use mantissa_verdict::analysis::Outcome;
///
/// assert_eq!(mantissa_report::outcome(Outcome::Divergent), "differences found");
/// assert_eq!(mantissa_report::outcome(Outcome::NotEnoughEvidence), "not enough evidence");
/// ```
#[must_use]
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Consistent => "no difference",
        Outcome::Divergent => "differences found",
        Outcome::NotEnoughEvidence => "not enough evidence",
    }
}

/// The outcome of an analysis in a word or two, by whose definitions it was made.
pub(crate) const fn headline(mode: Mode, outcome: Outcome) -> &'static str {
    match mode {
        Mode::Default => self::outcome(outcome),
        Mode::AsPublished => claim_outcome(outcome),
    }
}

/// The outcome of a claim in a word or two.
pub(crate) const fn claim_outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Consistent => "consistent",
        Outcome::Divergent => "divergent",
        Outcome::NotEnoughEvidence => "not enough evidence",
    }
}

pub(crate) const fn outcome_means(mode: Mode, outcome: Outcome) -> &'static str {
    match (mode, outcome) {
        (Mode::Default, Outcome::Consistent) => "Everything that could be compared agrees.",
        (Mode::Default, Outcome::Divergent) => "Something that was compared differs.",
        (_, Outcome::NotEnoughEvidence) => "Nothing could be compared, or too little to say.",
        (Mode::AsPublished, Outcome::Consistent) => {
            "Every figure that could be computed again follows from its data; what it does not mean is said below."
        }
        (Mode::AsPublished, Outcome::Divergent) => {
            "A published figure does not follow, or the published rule sees a difference."
        }
    }
}

pub(crate) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Default => "per pair, exact tier first, tokens before numbers",
        Mode::AsPublished => "as published: reproduces old tables, is not a verdict",
    }
}

pub(crate) const fn signal(signal: Signal) -> &'static str {
    match signal {
        Signal::HiddenStates => "hidden states",
        Signal::KeyVectors => "key vectors",
        Signal::Logprobs => "logprobs",
    }
}

pub(crate) fn signals(signals: &[Signal]) -> String {
    signals.iter().map(|&s| signal(s)).collect::<Vec<_>>().join(", ")
}

pub(crate) const fn finding(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::OneClass => "one class",
        FindingKind::Separable => "separable",
        FindingKind::NotSeparable => "not separable",
        FindingKind::TokensDiverge => "tokens diverge",
        FindingKind::NonDeterministic => "non-deterministic",
        FindingKind::OtherWeights => "other weights",
        FindingKind::Published => "published figure",
        FindingKind::NotEnoughEvidence => "not enough evidence",
        FindingKind::Copy => "copy",
        FindingKind::Confounded => "other differences",
        FindingKind::Missing => "missing",
    }
}

pub(crate) const fn basis(basis: TokenBasis) -> &'static str {
    match basis {
        TokenBasis::Ids => "their ids",
        TokenBasis::Declared => "declaration only",
        TokenBasis::Unknown => "unknown",
    }
}

pub(crate) const fn comparison(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::CrossHardwareBaseline => "cross-hardware baseline: same setup, other hardware",
        Comparison::WithinHardware => "within hardware: other setup, same hardware",
        Comparison::DecodeByPrefill => "decode replayed by prefill: other setup, same hardware",
        Comparison::CrossHardware => "cross-hardware detectability: other setup, other hardware",
    }
}

pub(crate) const fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Identical => "identical",
        Answer::Separable => "separable",
        Answer::NotSeparable => "not separable",
        Answer::Inconclusive => "inconclusive",
        Answer::Incomparable => "incomparable",
    }
}

pub(crate) const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Exact => "exact",
        Tier::Statistical => "statistical",
        Tier::Aggregate => "averages only",
        Tier::None => "none",
    }
}

pub(crate) const fn matrix_kind(kind: MatrixKind) -> &'static str {
    match kind {
        MatrixKind::WithinMode => "setups against setups",
        MatrixKind::DecodePrefill => "rows decoded, columns replayed by prefill",
        MatrixKind::ClaimedVerified => "rows claimed, columns replayed by the verifier",
        MatrixKind::CrossHardware => "hardware against hardware",
    }
}

pub(crate) const fn axis(axis: Axis) -> &'static str {
    match axis {
        Axis::Layer => "layer",
        Axis::Token => "token",
    }
}

pub(crate) const fn agreement(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::EveryDigit => "every digit",
        Agreement::WithinRounding => "within rounding",
        Agreement::DoesNotFollow => "does not follow",
        Agreement::NotInFile => "not in the file",
    }
}

/// `0-2,5` for 0, 1, 2, 5.
pub(crate) fn ranges(numbers: &[u32]) -> String {
    let ranges = numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(|range| match range {
        [first, .., last] => format!("{first}-{last}"),
        range => range.iter().map(u32::to_string).collect(),
    });
    ranges.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_where_they_can_be() {
        for (value, text) in [
            (0.0, "0"),
            (0.82135, "0.8214"),
            (9.99996, "10.00"),
            (-1.5, "-1.500"),
            (123_456.0, "123456"),
            (0.000123456, "0.0001235"),
            (0.0000123456, "1.235e-5"),
            (1e300, "1.000e300"),
            (f64::INFINITY, "not finite"),
        ] {
            assert_eq!(number(value, 4), text);
        }
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!(
            (percent(0.95), percent(0.999), percent(1.0)),
            ("95%".into(), "99.9%".into(), "100%".into())
        );
    }
}
