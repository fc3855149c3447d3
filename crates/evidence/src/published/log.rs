//! Line by line through a printed log: every figure with its digits and its line, every surprise with its place.
//!
//! White space between words and blank lines mean nothing here; everything else has to be as it was printed.
//! Left out: what the lines of a particular log mean (the sibling modules).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{EvidenceError, Result, one_line, without_control};

/// Largest log that is read: the founding ones have 40 KB.
const LONGEST_LOG: u64 = 16 << 20;
/// Longest line that is read, in bytes.
const LONGEST_LINE: usize = 64 << 10;
/// Characters of a rule line, at least.
const RULE: usize = 10;

/// What every refusal asks for.
pub(super) const RESTORE: &str = "give the log as the experiment wrote it, whole and unedited";

/// A figure as printed.
#[derive(Debug, Clone, PartialEq)]
pub struct Printed {
    /// Its digits: `2.54e-01`, `0.91`, `inf`.
    pub text: String,
    /// The number they name.
    pub value: f64,
    /// Half a unit of the last printed digit; 0 for an exact figure (`0.00e+00` prints only for zero, `inf`).
    pub half_unit: f64,
    /// Where, counted from 1.
    pub line: usize,
}

/// A value and the line that states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// What is stated.
    pub value: T,
    /// Where, counted from 1.
    pub line: usize,
}

/// A printed matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedMatrix {
    /// Row labels.
    pub rows: Vec<String>,
    /// Column labels.
    pub columns: Vec<String>,
    /// Cells, row by row; as many in each row as there are columns.
    pub cells: Vec<Vec<Printed>>,
    /// Line of the column labels.
    pub line: usize,
}

impl Printed {
    /// A figure of decimal digits, with or without a fraction and an exponent, or `inf`; `None` for anything else.
    ///
    /// Rounding: `value` is the nearest double; `half_unit` is 5 units of the digit after the last one printed.
    #[must_use]
    pub fn parse(text: &str, line: usize) -> Option<Self> {
        let exact = |value| Self { text: text.to_owned(), value, half_unit: 0.0, line };
        if text == "inf" {
            return Some(exact(f64::INFINITY));
        }
        let (mantissa, exponent) = match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let digits = exponent.strip_prefix(['+', '-'])?;
                if digits.len() < 2 || digits.len() > 3 || !all_digits(digits) {
                    return None;
                }
                (mantissa, exponent.parse::<i32>().ok()?)
            }
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let sound = all_digits(whole)
            && (fraction.is_empty() != mantissa.contains('.'))
            && (fraction.is_empty() || all_digits(fraction))
            && whole.len() <= 15
            && fraction.len() <= 17;
        if !sound {
            return None;
        }
        let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
        if text.contains('e') && mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
            return Some(exact(0.0));
        }
        let unit = exponent - i32::try_from(fraction.len()).ok()?;
        let half_unit: f64 = format!("5e{}", unit - 1).parse().ok()?;
        (half_unit.is_finite()).then(|| Self { text: text.to_owned(), value, half_unit, line })
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether one of the first lines of `bytes` is `title`.
pub(super) fn opens_with(bytes: &[u8], title: &str) -> bool {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).lines().take(4).any(|line| line.trim() == title)
}

/// Documents and prompts, as two of the logs state them.
pub(super) struct SourceText {
    pub(super) documents: Vec<String>,
    pub(super) tokens: Placed<u64>,
    pub(super) prompt: Placed<[u64; 4]>,
}

/// The bytes of a log, which has to be small.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let refuse = |action, source, remedy| EvidenceError::Io { path: path.to_owned(), action, source, remedy };
    let file = File::open(path).map_err(|source| refuse("open", source, "check the path"))?;
    let mut bytes = Vec::new();
    file.take(LONGEST_LOG + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| refuse("read", source, "check the file and the disk"))?;
    Ok(bytes)
}

/// The lines of a log, taken one after the other.
pub(super) struct Lines<'a> {
    path: &'a Path,
    /// Number and text of the lines that are not blank.
    numbered: Vec<(usize, &'a str)>,
    next: usize,
    total: usize,
    section: String,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8], path: &'a Path) -> Result<Self> {
        let mut lines =
            Self { path, numbered: Vec::new(), next: 0, total: 1, section: "the heading".to_owned() };
        if bytes.len() as u64 > LONGEST_LOG {
            return Err(lines.refuse(
                1,
                &format!("the log is longer than {LONGEST_LOG} bytes"),
                "cut it to the experiment that is asked about",
            ));
        }
        for (index, raw) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let number = index + 1;
            if raw.len() > LONGEST_LINE {
                return Err(lines.wrong(number, format!("a line of {} bytes", raw.len())));
            }
            let Ok(text) = std::str::from_utf8(raw) else {
                return Err(lines.wrong(number, "the line is not UTF-8 text"));
            };
            let text = text.trim_start_matches('\u{feff}').trim();
            if !text.is_empty() {
                lines.numbered.push((number, text));
                lines.total = number;
            }
        }
        Ok(lines)
    }

    /// Names the part of the log that follows, for messages.
    pub(super) fn section(&mut self, name: impl Into<String>) {
        self.section = name.into();
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.numbered.get(self.next).map(|&(_, text)| text)
    }

    /// Whether the next line has the shape of `pattern`.
    pub(super) fn at<const N: usize>(&self, pattern: &str) -> bool {
        self.peek().is_some_and(|text| fields::<N>(text, pattern).is_some())
    }

    /// The next line, whatever it says.
    pub(super) fn take(&mut self, expected: &str) -> Result<(usize, &'a str)> {
        let Some(&(number, text)) = self.numbered.get(self.next) else {
            let problem = format!(
                "the log ends before '{}' of section '{}'",
                expected.replace("{}", "…"),
                one_line(&self.section)
            );
            return Err(self.refuse(self.total, &problem, RESTORE));
        };
        self.next += 1;
        Ok((number, text))
    }

    /// The next line, which has the shape of `pattern`: words, and `{}` for each field. Its number and fields.
    pub(super) fn read<const N: usize>(&mut self, pattern: &str) -> Result<(usize, [&'a str; N])> {
        let (number, text) = self.take(pattern)?;
        match fields(text, pattern) {
            Some(fields) => Ok((number, fields)),
            None => Err(self.wrong(
                number,
                format!("'{}' stands where '{}' is expected", one_line(text), pattern.replace("{}", "…")),
            )),
        }
    }

    /// The next line, which says just this.
    pub(super) fn expect(&mut self, text: &str) -> Result<usize> {
        self.read::<0>(text).map(|(number, _)| number)
    }

    /// A line of nothing but `mark`.
    pub(super) fn rule(&mut self, mark: char) -> Result<()> {
        let pattern = String::from(mark).repeat(RULE);
        let (number, text) = self.take(&pattern)?;
        if text.chars().all(|c| c == mark) && text.len() >= RULE {
            return Ok(());
        }
        Err(self.wrong(number, format!("'{}' stands where a line of '{mark}' is expected", one_line(text))))
    }

    /// A title between two rules; opens the section of that name.
    pub(super) fn title(&mut self, title: &str, mark: char) -> Result<usize> {
        self.section(title);
        self.rule(mark)?;
        let line = self.expect(title)?;
        self.rule(mark)?;
        Ok(line)
    }

    /// Nothing follows.
    pub(super) fn end(&self) -> Result<()> {
        match self.numbered.get(self.next) {
            None => Ok(()),
            Some(&(number, text)) => {
                Err(self.wrong(number, format!("'{}' stands after the end of the log", one_line(text))))
            }
        }
    }

    pub(super) fn wrong(&self, line: usize, problem: impl Into<String>) -> EvidenceError {
        let problem = format!("{} (section '{}')", problem.into(), one_line(&self.section));
        self.refuse(line, &problem, RESTORE)
    }

    fn refuse(&self, line: usize, problem: &str, remedy: &str) -> EvidenceError {
        EvidenceError::Invalid {
            path: self.path.to_owned(),
            place: format!("line {line}"),
            // What is expected may be made of what stands in an earlier line.
            problem: without_control(problem),
            remedy: remedy.to_owned(),
        }
    }

    pub(super) fn figure(&self, line: usize, text: &str) -> Result<Printed> {
        Printed::parse(text, line)
            .ok_or_else(|| self.wrong(line, format!("'{}' is not a figure", one_line(text))))
    }

    pub(super) fn count(&self, line: usize, text: &str) -> Result<u64> {
        if !all_digits(text) {
            return Err(self.wrong(line, format!("'{}' is not a count", one_line(text))));
        }
        text.parse().map_err(|_| self.wrong(line, format!("'{}' is too large a count", one_line(text))))
    }

    /// `1, 2, 3` without its brackets.
    pub(super) fn counts(&self, line: usize, text: &str) -> Result<Vec<u64>> {
        text.split(',').map(|part| self.count(line, part.trim())).collect()
    }

    /// Both sides have to be equal, or the log contradicts itself.
    pub(super) fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        line: usize,
        what: &str,
        found: &T,
        stated: &T,
    ) -> Result<()> {
        if found == stated {
            return Ok(());
        }
        let quote = |value: &T| one_line(&format!("{value:?}"));
        Err(self.wrong(
            line,
            format!("{what} is {} here and {} elsewhere in the log", quote(found), quote(stated)),
        ))
    }

    /// The block that states the documents and the shape of a prompt.
    pub(super) fn source(&mut self) -> Result<SourceText> {
        let (line, [announced]) = self.read("Found {} PDF(s)")?;
        let announced = self.count(line, announced)?;
        let mut documents = Vec::new();
        while self.at::<1>("Loading: {}") {
            let (_, [document]) = self.read("Loading: {}")?;
            documents.push(document.to_owned());
        }
        self.same(line, "the number of documents", &announced, &(documents.len() as u64))?;
        let (line, [tokens]) = self.read("Total source tokens: {}")?;
        let tokens = Placed { value: self.count(line, tokens)?, line };
        let (line, parts) =
            self.read::<4>("Prompt structure: {} prefix + {} snippet + {} suffix = {} tokens")?;
        let mut prompt = Placed { value: [0; 4], line };
        for (value, part) in prompt.value.iter_mut().zip(parts) {
            *value = self.count(line, part)?;
        }
        Ok(SourceText { documents, tokens, prompt })
    }

    /// A matrix whose column labels are printed as `column` gives them and whose rows open with `row`'s.
    pub(super) fn matrix(
        &mut self,
        labels: &[String],
        column: impl Fn(&str) -> String,
        row: impl Fn(&str) -> String,
    ) -> Result<PrintedMatrix> {
        let heading: Vec<String> = labels.iter().map(|label| column(label)).collect();
        let line = self.expect(&heading.join(" "))?;
        let mut cells = Vec::new();
        for label in labels {
            let pattern = format!("{} {{}}", row(label));
            let (number, [rest]) = self.read(&pattern)?;
            let figures: Vec<Printed> =
                rest.split_whitespace().map(|text| self.figure(number, text)).collect::<Result<_>>()?;
            self.same(number, "the number of cells", &figures.len(), &labels.len())?;
            cells.push(figures);
        }
        Ok(PrintedMatrix { rows: labels.to_vec(), columns: labels.to_vec(), cells, line })
    }
}

/// What stands in the fields `{}` of `pattern`, where `text` has its words around them; each as short as it can be
/// and not empty. A field followed by another without words between them is one word.
pub(super) fn fields<'a, const N: usize>(text: &'a str, pattern: &str) -> Option<[&'a str; N]> {
    let mut pieces = pattern.split("{}");
    let mut rest = strip_words(text, pieces.next()?)?;
    let mut found = [""; N];
    let mut count = 0;
    for piece in pieces {
        let last = count + 1 == N;
        let (field, after) = match piece.trim().is_empty() {
            true if last => (rest, ""),
            true => rest.trim_start().split_once(char::is_whitespace)?,
            false => until(rest, piece)?,
        };
        *found.get_mut(count)? = field.trim();
        if field.trim().is_empty() {
            return None;
        }
        count += 1;
        rest = after;
    }
    (count == N && rest.trim().is_empty()).then_some(found)
}

/// `text` before the first place that continues with the words of `piece`, and after them.
fn until<'a>(text: &'a str, piece: &str) -> Option<(&'a str, &'a str)> {
    let first = piece.split_whitespace().next()?;
    text.match_indices(first)
        .find_map(|(at, _)| strip_words(&text[at..], piece).map(|after| (&text[..at], after)))
}

/// What follows the words of `words` in `text`.
fn strip_words<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let mut rest = text;
    for (index, word) in words.split_whitespace().enumerate() {
        let start = rest.trim_start();
        if index > 0 && start.len() == rest.len() {
            return None;
        }
        rest = start.strip_prefix(word)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_keep_their_precision() {
        let of = |text: &str| Printed::parse(text, 7).map(|figure| (figure.value, figure.half_unit));
        assert_eq!(of("2.54e-01"), Some((0.254, 0.0005)));
        assert_eq!(of("0.91"), Some((0.91, 0.005)));
        assert_eq!(of("10.94"), Some((10.94, 0.005)));
        assert_eq!(of("0.00e+00"), Some((0.0, 0.0)));
        assert_eq!(of("0.00"), Some((0.0, 0.005)));
        assert_eq!(of("inf"), Some((f64::INFINITY, 0.0)));
        for refused in
            ["", "nan", "-1.0", "1.", ".5", "1e5", "1.0e+9999", "1.0e+400", "0x1", "1,5", "1.0e-0a"]
        {
            assert_eq!(of(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_pattern_takes_the_shortest_fields() {
        assert_eq!(fields("bs=4...   Prompt: 5 → 9", "bs={}... Prompt: {} → {}"), Some(["4", "5", "9"]));
        assert_eq!(fields("0.91× ✗ NOT  IT", "{}× {} {}"), Some(["0.91", "✗", "NOT  IT"]));
        assert_eq!(fields::<1>("bs=4", "bs={}..."), None);
        assert_eq!(fields::<1>("bs=...", "bs={}..."), None);
        assert_eq!(fields("a   b", "a b"), Some([]));
        assert_eq!(fields::<0>("ab", "a b"), None);
        assert_eq!(fields::<0>("a b c", "a b"), None);
    }

    #[test]
    fn an_end_names_what_is_missing() {
        let mut lines = Lines::new(b"one\n\n", Path::new("x.log")).unwrap();
        lines.section("TWO");
        lines.expect("one").unwrap();
        assert_eq!(
            lines.expect("two").unwrap_err().to_string(),
            format!("x.log: line 1: the log ends before 'two' of section 'TWO'; {RESTORE}")
        );
    }
}
