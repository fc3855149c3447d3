//! Documents: the text that prompts are cut from, out of PDF, plain text or Markdown.
//!
//! A file is recognized by its bytes, never by its name. The text is made by fixed rules, so that the same file gives
//! the same text on every machine:
//!
//! - **Text and Markdown**: UTF-8. Byte-order marks at the start are dropped; CR LF and lone CR become LF. Nothing else
//!   changes: Markdown is not rendered, Unicode is not normalized.
//! - **PDF**: see [`pdf`] for how glyphs become lines. Pages are joined by a blank line.
//!
//! PDFs are read by a second process with bounds on memory and time ([`reader`]), because a decompressor or a form that
//! draws itself a billion times cannot be bounded reliably in any other way.
//!
//! Left out: tokens (see [`crate::prompt`]), HTML, office formats, optical recognition.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use mantissa_model::error::is_lfs_pointer;
use serde::{Deserialize, Serialize};

use crate::error::LabError;

mod limits;
pub mod pdf;
pub mod reader;

pub use limits::{MAX_FILE_BYTES, PdfLimits};
pub use pdf::is_unreadable;
pub use reader::PdfReader;

/// A PDF is refused if more than one in so many of its glyphs, spaces apart, has no character that can be read.
///
/// *Source:* a word of English text has 4.8 letters on average (P. Norvig, "English Letter Frequency Counts: Mayzner
/// Revisited", 2012). Of words of five letters half have lost one when one letter in 7.7 is lost: 1 − 2^(−1/5). A text
/// of which most words cannot be read is not that text.
pub const UNREADABLE_ONE_IN: u64 = 8;

/// What of a document has no character that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lost {
    unreadable: u64,
    of: u64,
    /// First page of a PDF with such a glyph, counted from 1.
    page: Option<usize>,
}

/// What a document was before it was text.
///
/// Example: [`Document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// A PDF of so many pages.
    Pdf {
        /// Number of pages.
        pages: usize,
    },
    /// Plain text or Markdown.
    Text,
}

/// A named text with the digest of the file it came from.
///
/// ```
/// use mantissa_lab::document::{Document, DocumentKind, PdfReader};
///
/// let document = Document::open("../../fixtures/documents/demo.txt".as_ref(), &PdfReader::this_program()?)?;
/// assert_eq!(document.kind(), DocumentKind::Text);
/// assert_eq!(document.text(), Document::built_in()[0].text());
/// assert!(Document::from_text("blank.txt", b" \n").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    name: String,
    kind: DocumentKind,
    file_blake3: blake3::Hash,
    text_blake3: blake3::Hash,
    text: String,
    lost: Option<Lost>,
}

/// Refuses the placeholder that a clone without Git LFS has in place of a file.
pub(crate) fn refuse_pointer(name: &str, bytes: &[u8]) -> Result<(), LabError> {
    if is_lfs_pointer(bytes) {
        return Err(LabError::DocumentPointer { document: one_line(name) });
    }
    Ok(())
}

impl Document {
    /// Reads the file at `path`; `pdf` is used if it turns out to be a PDF.
    pub fn open(path: &Path, pdf: &PdfReader) -> Result<Self, LabError> {
        let name = one_line(&path.display().to_string());
        let read = |source| LabError::DocumentRead { document: name.clone(), source };
        let mut bytes = Vec::new();
        // The reported length may lie (devices, growing files): the limit holds on what is read.
        File::open(path).map_err(read)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
        Self::from_bytes(&name, bytes, pdf)
    }

    /// Makes a document of a file's bytes.
    pub fn from_bytes(name: &str, bytes: Vec<u8>, pdf: &PdfReader) -> Result<Self, LabError> {
        refuse_pointer(name, &bytes)?;
        if !is_pdf(&bytes) {
            return Self::from_text(name, &bytes);
        }
        let name = one_line(name);
        bound(&name, &bytes)?;
        let file_blake3 = blake3::hash(&bytes);
        let pages = pdf.pages(&name, bytes)?;
        let lost = check_pages(&name, &pages)?;
        let text = pages
            .iter()
            .map(|page| page.text.as_str())
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n\n");
        Ok(Self { lost, ..Self::new(name, DocumentKind::Pdf { pages: pages.len() }, file_blake3, text) })
    }

    /// Makes a document of UTF-8 bytes, whatever they spell.
    pub fn from_text(name: &str, bytes: &[u8]) -> Result<Self, LabError> {
        let name = one_line(name);
        bound(&name, bytes)?;
        let text = decode_text(&name, bytes)?;
        if text.chars().all(|c| c.is_whitespace() || c == '\u{FEFF}') {
            return Err(LabError::DocumentEmpty { document: name, bytes: bytes.len() as u64 });
        }
        let (mut unreadable, mut of) = (0, 0);
        for c in text.chars().filter(|c| !c.is_whitespace()) {
            of += 1;
            unreadable += u64::from(pdf::is_unreadable(c));
        }
        let lost = (unreadable > 0).then_some(Lost { unreadable, of, page: None });
        Ok(Self { lost, ..Self::new(name, DocumentKind::Text, blake3::hash(bytes), text) })
    }

    /// Three texts that come with the program, so that it can show itself with no file at hand.
    ///
    /// One reference of 512 tokens and the 16 neighbours of a batch of 17 can be cut from them; the later two share
    /// nothing with the first.
    #[must_use]
    pub fn built_in() -> [Self; 3] {
        [
            ("built-in: rounding", include_str!("../../../fixtures/documents/demo.txt")),
            ("built-in: tides", include_str!("../../../fixtures/documents/neighbour.txt")),
            ("built-in: letters", include_str!("../../../fixtures/documents/letters.txt")),
        ]
        .map(|(name, text)| {
            Self::new(name.to_owned(), DocumentKind::Text, blake3::hash(text.as_bytes()), text.to_owned())
        })
    }

    fn new(name: String, kind: DocumentKind, file_blake3: blake3::Hash, text: String) -> Self {
        Self { text_blake3: blake3::hash(text.as_bytes()), name, kind, file_blake3, text, lost: None }
    }

    /// What of it cannot be read, in a sentence; `None` if nothing.
    ///
    /// ```
    /// let document = mantissa_lab::document::Document::from_text("a.txt", "of\u{FFFD}ce".as_bytes())?;
    /// assert!(document.note().is_some_and(|note| note.starts_with("a.txt: 1 of 5 characters")));
    /// # Ok::<(), mantissa_lab::LabError>(())
    /// ```
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let Lost { unreadable, of, page } = self.lost?;
        let name = &self.name;
        Some(match page {
            Some(page) => format!(
                "{name}: {unreadable} of {of} glyphs have no character that can be read (first on page {page}); they \
                 stand in the text as U+FFFD or as characters of private use"
            ),
            None => format!("{name}: {unreadable} of {of} characters are U+FFFD or of private use"),
        })
    }

    /// The name it was given, usually its path, with control characters escaped.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was before it was text.
    #[must_use]
    pub const fn kind(&self) -> DocumentKind {
        self.kind
    }

    /// Digest of the file's bytes.
    #[must_use]
    pub const fn file_blake3(&self) -> blake3::Hash {
        self.file_blake3
    }

    /// Digest of the text's UTF-8 bytes: equal texts from different files have it in common.
    #[must_use]
    pub const fn text_blake3(&self) -> blake3::Hash {
        self.text_blake3
    }

    /// The text, never blank.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A PDF opens with `%PDF-`; readers accept up to a kilobyte of foreign bytes before it (mail headers, printer
/// commands). A text that only speaks of `%PDF-` is not one: there the tag must come first.
fn is_pdf(bytes: &[u8]) -> bool {
    let opening = &bytes[..bytes.len().min(1024)];
    let body = opening.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(opening).trim_ascii_start();
    body.starts_with(b"%PDF-")
        || (opening.windows(5).any(|tag| tag == b"%PDF-") && std::str::from_utf8(bytes).is_err())
}

/// Openings of files that people give by mistake, with what to do about each.
const FOREIGN: [(&[u8], &str, &str); 7] = [
    (b"\xFF\xFE", "UTF-16 text", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xFE\xFF", "UTF-16 text", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"PK\x03\x04", "a ZIP archive (DOCX, ODT and EPUB are such)", "export it as PDF or plain text"),
    (b"\x1F\x8B", "gzip data", "unpack it with `gunzip`"),
    (b"\x89PNG", "a PNG image", "recognize its text first"),
    (b"\xFF\xD8\xFF", "a JPEG image", "recognize its text first"),
    (b"%!PS", "a PostScript program", "convert it with `ps2pdf`"),
];

fn decode_text(name: &str, bytes: &[u8]) -> Result<String, LabError> {
    let wrong = |found, offset: usize, remedy| {
        let (document, offset) = (name.to_owned(), offset as u64);
        LabError::DocumentEncoding { document, found, offset, remedy }
    };
    let mut body = bytes;
    while let Some(rest) = body.strip_prefix(b"\xEF\xBB\xBF") {
        body = rest;
    }
    if let Some((_, found, remedy)) = FOREIGN.iter().find(|(magic, ..)| body.starts_with(magic)) {
        return Err(wrong(found, bytes.len() - body.len(), remedy));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        wrong("an invalid sequence", error.valid_up_to(), "convert it with `iconv -f … -t UTF-8`")
    })?;
    if let Some(offset) = text.find('\0') {
        return Err(wrong("a NUL", offset, "it is not a text file: give one"));
    }
    let text = text.trim_start_matches('\u{FEFF}');
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// Refuses pages that cannot be read; says what of them is lost.
fn check_pages(name: &str, pages: &[pdf::PageText]) -> Result<Option<Lost>, LabError> {
    let glyphs: u64 = pages.iter().map(|page| page.glyphs).sum();
    let unmapped: u64 = pages.iter().map(|page| page.unmapped).sum();
    let page = pages.iter().position(|page| page.unmapped > 0).map(|page| page + 1);
    if let Some(page) = page.filter(|_| unmapped > glyphs / UNREADABLE_ONE_IN) {
        let (document, one_in) = (name.to_owned(), UNREADABLE_ONE_IN);
        return Err(LabError::PdfUnmapped { document, unmapped, glyphs, page, one_in });
    }
    if pages.iter().all(|page| page.text.is_empty()) {
        return Err(LabError::PdfNoText { document: name.to_owned(), pages: pages.len() });
    }
    Ok(page.map(|page| Lost { unreadable: unmapped, of: glyphs, page: Some(page) }))
}

fn bound(name: &str, bytes: &[u8]) -> Result<(), LabError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(LabError::DocumentTooLarge { document: name.to_owned(), limit: MAX_FILE_BYTES });
    }
    Ok(())
}

/// Escapes control characters: a file name must not break an error out of its line.
pub(crate) fn one_line(name: &str) -> String {
    name.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<String, String> {
        Document::from_text("notes.md", bytes)
            .map(|document| document.text)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn marks_and_line_ends_are_normalized_and_nothing_else() {
        let written = "\u{FEFF}# Über  ﬁne\r\n\r\nco-\noperate\rend\t\n";
        assert_eq!(text(written.as_bytes()).as_deref(), Ok("# Über  ﬁne\n\nco-\noperate\nend\t\n"));
    }

    #[test]
    fn wrong_bytes_are_located() {
        let cases: [(&[u8], &str); 8] = [
            (
                b"abc\xFFdef",
                "notes.md: an invalid sequence at byte 3, neither PDF nor UTF-8 text; convert it with `iconv -f … -t UTF-8`",
            ),
            (
                "gr\u{fc}n".as_bytes().split_at(3).0,
                "notes.md: an invalid sequence at byte 2, neither PDF nor UTF-8 text; convert it with `iconv -f … -t UTF-8`",
            ),
            (
                b"ab\0c",
                "notes.md: a NUL at byte 2, neither PDF nor UTF-8 text; it is not a text file: give one",
            ),
            (
                b"\xFF\xFEa\0",
                "notes.md: UTF-16 text at byte 0, neither PDF nor UTF-8 text; convert it with `iconv -f UTF-16 -t UTF-8`",
            ),
            (
                b"PK\x03\x04rest",
                "notes.md: a ZIP archive (DOCX, ODT and EPUB are such) at byte 0, neither PDF nor UTF-8 text; export it as PDF or plain text",
            ),
            (b"", "notes.md: no text in 0 bytes; give a document with text"),
            (b"\xEF\xBB\xBF \r\n\t", "notes.md: no text in 7 bytes; give a document with text"),
            (b"\xEF\xBB\xBF\xEF\xBB\xBF", "notes.md: no text in 6 bytes; give a document with text"),
        ];
        for (bytes, message) in cases {
            assert_eq!(text(bytes), Err(message.to_owned()), "{bytes:?}");
        }
    }

    #[test]
    fn bytes_decide_what_is_a_pdf() {
        assert!(is_pdf(b"%PDF-1.7\n"));
        assert!(is_pdf(b"\xEF\xBB\xBF\n%PDF-1.7\n"));
        assert!(is_pdf(b"\x1B%-12345X@PJL\n%PDF-1.4\n%\xE2\xE3\xCF\xD3\n"));
        assert!(!is_pdf(b"A PDF file opens with %PDF-1.7."));
        assert!(!is_pdf(b"%PDF"));
        assert!(!is_pdf(b""));
    }

    #[test]
    fn a_name_cannot_break_the_line() {
        let error = Document::from_text("a\nb\u{7}.txt", b"").map_err(|error| error.to_string());
        assert_eq!(error, Err("a\\nb\\u{7}.txt: no text in 0 bytes; give a document with text".to_owned()));
    }

    #[test]
    fn the_built_in_documents_are_long_and_different() {
        let documents = Document::built_in();
        let words = documents.each_ref().map(|document| document.text().split_whitespace().count());
        assert!(words[0] >= 3000 && words.iter().sum::<usize>() >= 8400, "{words:?}");
        let digests: std::collections::BTreeSet<_> =
            documents.iter().map(|document| *document.text_blake3().as_bytes()).collect();
        assert_eq!(digests.len(), documents.len());
    }
}
