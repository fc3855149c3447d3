//! Glyphs of a PDF page → lines of text.
//!
//! hayro interprets the page (fonts, encodings, forms) and says for each glyph which character it is and where it
//! stands; what is decided here is where a space, a new line or a blank line lies between two glyphs. The rules:
//!
//! - Glyphs keep the order in which the page draws them, which for typeset papers is reading order, columns included.
//! - A gap of more than `SPACE` em along the line is a space. A jump across the line of more than `LINE` em, back by
//!   more than `BACK` em, or a change of direction (a rotated stamp in the margin) is a new line; a jump of more than
//!   `PARAGRAPH` times the line distance before it is a blank line.
//! - Presentation ligatures (U+FB00–FB06) are spelled out; every kind of space is one U+0020, runs of them collapse,
//!   none ends a line; a drawn soft hyphen is `-`; zero-width marks are dropped. A word hyphenated at a line's end
//!   stays so.
//! - A glyph that its font gives no character is U+FFFD and counted; so is one that is given U+FFFD or a character of
//!   private use, which only that font's maker could read.
//! - Running heads and page numbers are text like any other. Annotations are left out; invisible text (the recognized
//!   layer of a scan) is kept.
//!
//! This runs in the process it is called from: see [`super::reader`] for the bounds that hostile files need.
//!
//! Left out: tables, reading order by geometry, marked-content structure.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro_interpret::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, BezPath, Point, Rect, Vec2};
use hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache,
    InterpreterSettings, RenderContent, SoftMask, interpret_page,
};
use serde::{Deserialize, Serialize};

/// Gap along the line, in em, that is a space. Kerning stays below 0.1, a justified line's tightest spaces above 0.16.
const SPACE: f64 = 0.15;
/// Jump across the line, in em of the larger glyph, that is a new line. Superscripts stay below.
const LINE: f64 = 0.5;
/// Jump back along the line, in em, that is a new line: the next cell or column. Accents and kerning stay below.
const BACK: f64 = 1.0;
/// A line distance this much larger than the one before it is a blank line.
const PARAGRAPH: f64 = 1.35;
/// The end mark must stand within so many bytes of the end, padding apart; some mailers append a little.
const END_MARK_WITHIN: usize = 4096;
/// What pads a file to the size of a block: white space of the PDF format, NUL among it.
const PADDING: [u8; 6] = [0, 9, 10, 12, 13, 32];
/// Line distance, in em, that is assumed before the page has shown one.
const LEADING: f64 = 1.5;

/// The text of one page.
///
/// Example: [`read`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageText {
    /// Lines, without white space at either end.
    pub text: String,
    /// Glyphs shown, spaces apart.
    pub glyphs: u64,
    /// Glyphs among them that no character is known for: none, U+FFFD, or one of private use.
    pub unmapped: u64,
}

/// Why a PDF gives no pages.
///
/// Example: [`read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PdfFault {
    /// Its structure cannot be followed.
    Malformed,
    /// It lacks the mark at its end.
    Truncated,
    /// It has no pages.
    NoPages,
    /// It asks for a password.
    Password,
    /// Its cipher is not read here, or is not set up as the format says.
    Cipher,
    /// The interpreter panicked on it.
    Interpreter,
    /// It has more pages than the limit.
    Pages,
    /// It shows more text than the limit.
    Text,
}

/// Reads a PDF, giving `sink` its number of pages and then each page in turn.
///
/// At most `max_text` bytes of text and `max_pages` pages are read. A panic of the interpreter is a fault like any
/// other, though the panic hook sees it first; what a panic cannot bound is left to [`super::reader`].
///
/// ```
/// use mantissa_lab::document::pdf::{Event, PdfFault, read};
///
/// let mut events = Vec::new();
/// read(std::fs::read("../../fixtures/documents/demo.pdf")?, 100, 1 << 20, |event| events.push(event))
///     .expect("a sound file");
/// assert_eq!(events[0], Event::Pages(events.len() - 1));
/// let Event::Page(first) = &events[1] else { panic!("pages follow their number") };
/// assert!(first.glyphs > 0 && first.unmapped == 0);
/// assert_eq!(read(b"%PDF-1.7".to_vec(), 100, 1 << 20, drop), Err(PdfFault::Truncated));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read(
    bytes: Vec<u8>,
    max_pages: usize,
    max_text: usize,
    sink: impl FnMut(Event),
) -> Result<(), PdfFault> {
    // Nothing of the interpreter is used after it has panicked.
    catch_unwind(AssertUnwindSafe(|| interpret(bytes, max_pages, max_text, sink)))
        .unwrap_or(Err(PdfFault::Interpreter))
}

fn interpret(
    mut bytes: Vec<u8>,
    max_pages: usize,
    max_text: usize,
    mut sink: impl FnMut(Event),
) -> Result<(), PdfFault> {
    let end = bytes.iter().rposition(|byte| !PADDING.contains(byte)).map_or(0, |last| last + 1);
    bytes.truncate(end);
    // The interpreter would go on with the pages that are there; half a paper is not the paper.
    if !bytes[bytes.len().saturating_sub(END_MARK_WITHIN)..].windows(5).any(|mark| mark == b"%%EOF") {
        return Err(PdfFault::Truncated);
    }
    let pdf = Pdf::new(bytes).map_err(|error| match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => PdfFault::Password,
        LoadPdfError::Decryption(_) => PdfFault::Cipher,
        LoadPdfError::Invalid => PdfFault::Malformed,
    })?;
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(PdfFault::NoPages);
    }
    if pages.len() > max_pages {
        return Err(PdfFault::Pages);
    }
    sink(Event::Pages(pages.len()));
    let settings =
        InterpreterSettings { render_content: RenderContent::PAGE, ..InterpreterSettings::default() };
    let cache = InterpreterCache::new();
    let mut left = max_text;
    for page in pages.iter() {
        // The box only decides which clips are worth passing on; text is wanted wherever it stands.
        let everywhere = Rect::new(-1e6, -1e6, 1e6, 1e6);
        let mut context = Context::new(Affine::IDENTITY, everywhere, &cache, pdf.xref(), settings.clone());
        let mut writer = LineWriter { left, ..LineWriter::default() };
        interpret_page(page, &mut context, &mut writer);
        if writer.full {
            return Err(PdfFault::Text);
        }
        let page = writer.finish();
        left = left.saturating_sub(page.text.len());
        sink(Event::Page(page));
    }
    Ok(())
}

/// Whether a character says nothing to a reader: the replacement character, and those of private use.
///
/// ```
/// use mantissa_lab::document::is_unreadable;
///
/// assert!(is_unreadable('\u{FFFD}') && is_unreadable('\u{E000}') && !is_unreadable('x'));
/// ```
#[must_use]
pub const fn is_unreadable(c: char) -> bool {
    matches!(c, char::REPLACEMENT_CHARACTER | '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}')
}

/// One step of [`read`].
///
/// Example: [`read`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// So many pages follow.
    Pages(usize),
    /// The next page.
    Page(PageText),
}

/// Where the last glyph left the pen.
#[derive(Clone, Copy)]
struct TextCursor {
    at: Point,
    along: Vec2,
    size: f64,
}

#[derive(Default)]
struct LineWriter {
    page: PageText,
    pen: Option<TextCursor>,
    /// Distance between the last two lines, in page units.
    leading: Option<f64>,
    /// Origin and length of the last run, to know it when it is drawn a second time for its outline.
    run: Option<(Point, usize)>,
    left: usize,
    full: bool,
}

/// A glyph's place on the page.
struct Place {
    origin: Point,
    along: Vec2,
    size: f64,
    advance: f64,
}

impl Place {
    /// `None` if the transform collapses or is not finite: such a glyph has no place to measure from.
    fn new(to_page: Affine, glyph: &Glyph<'_>, mode: WritingMode) -> Option<Self> {
        let [xx, xy, yx, yy, x, y] = to_page.as_coeffs();
        let (right, up) = (Vec2::new(xx, xy) * 1000.0, Vec2::new(yx, yy) * 1000.0);
        let advance = match glyph {
            Glyph::Outline(outline) => outline.advance_width(),
            Glyph::Type3(drawn) => drawn.advance_width(),
        };
        let (line, advance) = match mode {
            WritingMode::Horizontal => (right, right.hypot() * f64::from(advance.unwrap_or(500.0)) / 1000.0),
            WritingMode::Vertical => (-up, up.hypot()),
        };
        let place = Self { origin: Point::new(x, y), along: line.normalize(), size: up.hypot(), advance };
        let sound =
            place.origin.is_finite() && place.along.is_finite() && place.size.is_finite() && place.size > 0.0;
        (sound && place.advance.is_finite()).then_some(place)
    }
}

impl LineWriter {
    /// Puts what lies between the pen and the next glyph: nothing, a space, a new line or a blank line.
    fn gap(&mut self, place: &Place) {
        let Some(pen) = self.pen else { return };
        let em = pen.size.max(place.size);
        let moved = place.origin - pen.at;
        let (along, across) = (moved.dot(pen.along) / em, moved.cross(pen.along).abs());
        if pen.along.dot(place.along) < 0.9 {
            self.new_line(false);
        } else if across > LINE * em {
            let usual = self.leading.unwrap_or(LEADING * em).max(em);
            self.new_line(across > PARAGRAPH * usual);
            self.leading = Some(across.min(PARAGRAPH * usual));
        } else if along < -BACK {
            self.new_line(false);
        } else if along > SPACE {
            self.put(' ');
        }
    }

    fn new_line(&mut self, blank: bool) {
        let text = &mut self.page.text;
        text.truncate(text.trim_end_matches(' ').len());
        if text.is_empty() || text.ends_with("\n\n") {
            return;
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if blank {
            text.push('\n');
        }
    }

    fn put(&mut self, c: char) {
        let text = &mut self.page.text;
        match c {
            '\u{200B}' | '\u{2060}' | '\u{FEFF}' => {}
            '\u{AD}' => text.push('-'),
            '\u{FB00}' => text.push_str("ff"),
            '\u{FB01}' => text.push_str("fi"),
            '\u{FB02}' => text.push_str("fl"),
            '\u{FB03}' => text.push_str("ffi"),
            '\u{FB04}' => text.push_str("ffl"),
            '\u{FB05}' | '\u{FB06}' => text.push_str("st"),
            c if c.is_whitespace() => {
                if !text.is_empty() && !text.ends_with([' ', '\n']) {
                    text.push(' ');
                }
            }
            c => text.push(c),
        }
        self.full |= text.len() > self.left;
    }

    fn show(&mut self, glyph: &Glyph<'_>) {
        let spelled = match glyph.as_unicode() {
            Some(BfString::Char(c)) => c.to_string(),
            Some(BfString::String(string)) => string,
            None => String::new(),
        };
        let blank = !spelled.is_empty() && spelled.chars().all(char::is_whitespace);
        self.page.glyphs += u64::from(!blank);
        // A font that maps a glyph to a control character knows no more than one that maps it to nothing.
        let unknown = spelled.is_empty() || spelled.chars().any(|c| c.is_control() && !c.is_whitespace());
        self.page.unmapped += u64::from(unknown || spelled.chars().any(is_unreadable));
        if unknown {
            self.put(char::REPLACEMENT_CHARACTER);
        } else {
            spelled.chars().for_each(|c| self.put(c));
        }
    }

    fn finish(mut self) -> PageText {
        let text = &mut self.page.text;
        text.truncate(text.trim_end().len());
        self.page
    }
}

impl Device<'_> for LineWriter {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, mode: &DrawMode) {
        let Some(first) = run.glyphs().first() else { return };
        let drawn = (props.transform * first.transform() * Point::ZERO, run.glyphs().len());
        if matches!(mode, DrawMode::Stroke(_)) && self.run == Some(drawn) {
            return;
        }
        self.run = Some(drawn);
        for glyph in run.glyphs() {
            if self.full {
                return;
            }
            let place = Place::new(props.transform * glyph.transform(), glyph, run.writing_mode());
            if let Some(place) = &place {
                self.gap(place);
            }
            self.show(glyph);
            if let Some(Place { origin, along, size, advance }) = place {
                self.pen = Some(TextCursor { at: origin + along * advance, along, size });
            }
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'_>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'_, '_>, _: ImageDrawProps<'_>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
