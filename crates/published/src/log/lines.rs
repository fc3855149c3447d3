//! Line by line through a printed log: every figure with its line, every surprise with its place.
//!
//! White space between words and blank lines mean nothing here; everything else has to be as it was printed.
//! Left out: what the lines of a particular log mean (the layouts).

use std::path::Path;

use mantissa_evidence::error::{EvidenceError, Result, one_line, without_control};

use super::printed::{Placed, Printed, PrintedMatrix, all_digits};

/// Largest log that is read: the founding ones have 40 KB.
const LONGEST_LOG: u64 = 16 << 20;
/// Longest line that is read, in bytes.
const LONGEST_LINE: usize = 64 << 10;
/// Characters of a rule line, at least.
const RULE: usize = 10;

/// What every refusal asks for.
const RESTORE: &str = "give the log as the experiment wrote it, whole and unedited";

/// Documents and prompts, as two of the logs state them.
pub(crate) struct SourceText {
    pub(crate) documents: Vec<String>,
    pub(crate) tokens: Placed<u64>,
    pub(crate) prompt: Placed<[u64; 4]>,
}

/// The lines of a log, taken one after the other.
pub(crate) struct Lines<'a> {
    path: &'a Path,
    /// Number and text of the lines that are not blank.
    numbered: Vec<(usize, &'a str)>,
    next: usize,
    total: usize,
    section: String,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(bytes: &'a [u8], path: &'a Path) -> Result<Self> {
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
    pub(crate) fn section(&mut self, name: impl Into<String>) {
        self.section = name.into();
    }

    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.numbered.get(self.next).map(|&(_, text)| text)
    }

    /// Lines after the next `skip`, at most `count` of them.
    pub(crate) fn ahead(&self, skip: usize, count: usize) -> Vec<&'a str> {
        self.numbered.iter().skip(self.next + skip).take(count).map(|&(_, text)| text).collect()
    }

    /// Whether the next line has the shape of `pattern`.
    pub(crate) fn at<const N: usize>(&self, pattern: &str) -> bool {
        self.peek().is_some_and(|text| fields::<N>(text, pattern).is_some())
    }

    /// The next line, whatever it says.
    pub(crate) fn take(&mut self, expected: &str) -> Result<(usize, &'a str)> {
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
    pub(crate) fn read<const N: usize>(&mut self, pattern: &str) -> Result<(usize, [&'a str; N])> {
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
    pub(crate) fn expect(&mut self, text: &str) -> Result<usize> {
        self.read::<0>(text).map(|(number, _)| number)
    }

    /// A line of nothing but `mark`.
    pub(crate) fn rule(&mut self, mark: char) -> Result<()> {
        let pattern = String::from(mark).repeat(RULE);
        let (number, text) = self.take(&pattern)?;
        if text.chars().all(|c| c == mark) && text.len() >= RULE {
            return Ok(());
        }
        Err(self.wrong(number, format!("'{}' stands where a line of '{mark}' is expected", one_line(text))))
    }

    /// Whether a title between two rules follows, or a rule after which the log was cut.
    pub(crate) fn titled(&self, title: &str, mark: char) -> bool {
        let rule = |text: &str| text.chars().all(|c| c == mark) && text.len() >= RULE;
        let mut next = self.numbered[self.next..].iter().map(|&(_, text)| text);
        next.next().is_some_and(rule) && next.next().is_none_or(|text| fields::<0>(text, title).is_some())
    }

    /// A title between two rules; opens the section of that name.
    pub(crate) fn title(&mut self, title: &str, mark: char) -> Result<usize> {
        self.section(title);
        self.rule(mark)?;
        let line = self.expect(title)?;
        self.rule(mark)?;
        Ok(line)
    }

    /// Nothing follows.
    pub(crate) fn end(&self) -> Result<()> {
        match self.numbered.get(self.next) {
            None => Ok(()),
            Some(&(number, text)) => {
                Err(self.wrong(number, format!("'{}' stands after the end of the log", one_line(text))))
            }
        }
    }

    pub(crate) fn wrong(&self, line: usize, problem: impl Into<String>) -> EvidenceError {
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

    pub(crate) fn figure(&self, line: usize, text: &str) -> Result<Printed> {
        Printed::parse(text, line)
            .ok_or_else(|| self.wrong(line, format!("'{}' is not a figure", one_line(text))))
    }

    pub(crate) fn count(&self, line: usize, text: &str) -> Result<u64> {
        if !all_digits(text) {
            return Err(self.wrong(line, format!("'{}' is not a count", one_line(text))));
        }
        text.parse().map_err(|_| self.wrong(line, format!("'{}' is too large a count", one_line(text))))
    }

    /// `1, 2, 3` without its brackets.
    pub(crate) fn counts(&self, line: usize, text: &str) -> Result<Vec<u64>> {
        text.split(',').map(|part| self.count(line, part.trim())).collect()
    }

    /// Both sides have to be equal, or the log contradicts itself.
    pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
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
    pub(crate) fn source(&mut self) -> Result<SourceText> {
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
    pub(crate) fn matrix(
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
pub(crate) fn fields<'a, const N: usize>(text: &'a str, pattern: &str) -> Option<[&'a str; N]> {
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
