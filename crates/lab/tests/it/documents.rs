//! Real and hostile documents, read the way the program reads them: by a bounded child.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mantissa_lab::document::pdf::{self, Event, PdfFault};
use mantissa_lab::document::{Document, DocumentKind, PdfLimits, PdfReader, is_unreadable};

const LIMITS: PdfLimits = PdfLimits { memory_bytes: 512 << 20, seconds: 1, pages: 100, text_bytes: 1 << 20 };

fn reader(limits: PdfLimits) -> PdfReader {
    PdfReader::new(env!("CARGO_BIN_EXE_mantissa-extract-pdf"), limits)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/documents").join(name)
}

/// The error for a fixture, its folder cut off.
fn refusal(name: &str, reader: &PdfReader) -> String {
    let path = fixture(name);
    let error = Document::open(&path, reader).expect_err(name).to_string();
    assert!(!error.contains('\n'), "{error}");
    error.strip_prefix(&format!("{}: ", path.display())).expect(&error).to_owned()
}

#[test]
fn a_typeset_pdf_gives_back_the_text_it_was_set_from() {
    let document = Document::open(&fixture("demo.pdf"), &reader(LIMITS)).expect("the PDF is sound");
    assert_eq!(document.kind(), DocumentKind::Pdf { pages: 10 });
    // Page numbers stand alone on a line; hyphens come and go at line ends, so neither side keeps any.
    let words = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.parse::<u32>().is_err());
        let text = lines.collect::<Vec<_>>().join("\n").replace("-\n", "").replace('-', "");
        text.split_whitespace().map(str::to_owned).collect()
    };
    let written = std::fs::read_to_string(fixture("demo.txt")).expect("the text is there");
    assert_eq!(words(document.text()), words(&written));
    assert!(!document.text().contains('\u{FB01}'), "ligatures are spelled out");
}

/// Fonts that map glyphs to U+FFFD or to private use, or to nothing: all of them, or the ligatures alone.
#[test]
fn what_cannot_be_read_is_refused_or_counted() {
    let read = |name: &str| Document::open(&fixture(&format!("unreadable/{name}.pdf")), &reader(LIMITS));
    for name in ["replaced", "private", "unnamed"] {
        let document = read(name).expect(name);
        assert_eq!(document.text().lines().count(), 10, "{name}");
        let lost = document.text().chars().filter(|c| is_unreadable(*c)).count();
        assert_eq!(lost, 40, "{name}: {}", document.text());
        let note = document.note().expect("it tells");
        assert!(
            note.contains(": 40 of 660 glyphs have no character that can be read (first on page 1);"),
            "{note}"
        );
    }
    for name in ["all_replaced", "all_private"] {
        let error = read(name).expect_err(name).to_string();
        assert!(
            error.contains(
                ": 790 of 790 glyphs have no character that can be read (first on page 1), more than one in 8;"
            ),
            "{error}"
        );
    }
    assert_eq!(Document::open(&fixture("demo.pdf"), &reader(LIMITS)).expect("sound").note(), None);
}

/// Any padding behind the end mark is read; other bytes only as far as mailers append them.
#[test]
fn padding_behind_the_end_mark_is_no_damage() {
    let sound = std::fs::read(fixture("demo.pdf")).expect("readable");
    let text = Document::open(&fixture("demo.pdf"), &reader(LIMITS)).expect("sound").text().to_owned();
    let with = |tail: Vec<u8>| Document::from_bytes("p.pdf", [sound.clone(), tail].concat(), &reader(LIMITS));
    for tail in [vec![0; 8192], vec![0; 100_000], b"\r\n ".repeat(20_000), b"x".repeat(4000)] {
        assert_eq!(with(tail).expect("read").text(), text);
    }
    let error = with(b"x".repeat(8192)).expect_err("no padding").to_string();
    assert!(error.contains("the end mark %%EOF is missing"), "{error}");
}

#[test]
fn a_pdf_reads_the_same_twice() {
    let read = || Document::open(&fixture("demo.pdf"), &reader(LIMITS)).expect("the PDF is sound");
    assert_eq!(read(), read());
}

#[test]
fn a_document_with_only_an_owner_password_is_read() {
    let document = Document::open(&fixture("hostile/owner_password.pdf"), &reader(LIMITS));
    assert_eq!(document.expect("it opens without a password").text(), "behind a door");
}

#[test]
fn loops_and_depth_are_survived() {
    for (name, text) in [("page_loop", "one"), ("form_loop", "again"), ("deep_pages", "the deepest page")] {
        let document = Document::open(&fixture(&format!("hostile/{name}.pdf")), &reader(LIMITS)).expect(name);
        assert_eq!(document.text(), text, "{name}");
    }
}

#[test]
fn hostile_pdfs_are_refused_in_one_line() {
    let again = "; download it again, or repair it with `qpdf IN.pdf OUT.pdf`";
    let split = "; split it with `qpdf IN.pdf --pages . 1-20 -- OUT.pdf`, or give its text";
    let cases = [
        ("truncated", format!("damaged or truncated PDF (the end mark %%EOF is missing){again}")),
        ("truncated_tail", format!("damaged or truncated PDF (the end mark %%EOF is missing){again}")),
        ("header_only", format!("damaged or truncated PDF (the end mark %%EOF is missing){again}")),
        ("garbage", format!("damaged or truncated PDF (no page tree can be found){again}")),
        ("no_pages", format!("damaged or truncated PDF (its page tree holds no pages){again}")),
        ("lying_table", format!("damaged or truncated PDF (its page tree holds no pages){again}")),
        ("deep_arrays", format!("damaged or truncated PDF (its page tree holds no pages){again}")),
        (
            "password",
            "encrypted PDF (it needs a password); remove the protection with `qpdf --decrypt --password=… IN.pdf OUT.pdf`".into(),
        ),
        (
            "scan",
            "none of its 2 pages holds text, only images or drawings; recognize the text first, for instance with `ocrmypdf IN.pdf OUT.pdf`".into(),
        ),
        (
            "no_unicode",
            "4 of 4 glyphs have no character that can be read (first on page 1), more than one in 8; recognize the text anew with `ocrmypdf --force-ocr IN.pdf OUT.pdf`".into(),
        ),
        ("form_bomb", format!("its reading time passes the limit of 1 s on page 1{split}")),
    ];
    for (name, message) in cases {
        assert_eq!(refusal(&format!("hostile/{name}.pdf"), &reader(LIMITS)), message, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_unpacks_to_gigabytes_meets_the_memory_bound() {
    for name in ["deflate_bomb", "width_bomb"] {
        let limits = PdfLimits { memory_bytes: 256 << 20, seconds: 60, ..LIMITS };
        let error = refusal(&format!("hostile/{name}.pdf"), &reader(limits));
        assert!(error.starts_with("its reading memory passes the limit of 256 MiB on page 1;"), "{error}");
    }
}

#[test]
fn the_size_of_the_answer_is_bounded() {
    let pages = refusal("demo.pdf", &reader(PdfLimits { pages: 9, ..LIMITS }));
    assert!(pages.starts_with("its number of pages passes the limit of 9 on page 1;"), "{pages}");
    let text = refusal("demo.pdf", &reader(PdfLimits { text_bytes: 5000, ..LIMITS }));
    assert!(text.starts_with("its text passes the limit of 5000 bytes on page 3;"), "{text}");
}

/// hayro-font 0.5.0 adds one to a code without looking, which only builds that check overflow notice.
#[test]
fn a_panic_of_the_interpreter_is_one_line() {
    let path = fixture("hostile/encoding_overflow.pdf");
    match Document::open(&path, &reader(LIMITS)) {
        Ok(document) => assert_eq!(document.text(), "past the end"),
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.contains("` failed on page 1 (the interpreter panicked); report the file"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_missing_file_and_a_folder_are_refused() {
    let missing = refusal("no such file", &reader(LIMITS));
    assert!(missing.starts_with("cannot be read (No such file"), "{missing}");
    let folder = refusal("hostile", &reader(LIMITS));
    assert!(folder.starts_with("cannot be read (Is a directory"), "{folder}");
}

#[test]
fn a_reader_that_is_no_reader_is_told() {
    let absent = refusal("demo.pdf", &PdfReader::new("/nowhere/reader", LIMITS));
    assert!(
        absent.starts_with("the PDF reader `/nowhere/reader` failed on page 1 (No such file"),
        "{absent}"
    );
    let echo = refusal("demo.pdf", &PdfReader::new("/bin/echo", LIMITS));
    assert!(echo.starts_with("the PDF reader `/bin/echo` failed on page 1 ("), "{echo}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_sleeps_is_ended_by_the_clock() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("sleeper");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 60\n").expect("writable");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("writable");
    let start = Instant::now();
    let error = refusal("demo.pdf", &PdfReader::new(program, LIMITS));
    assert!(error.starts_with("its reading time passes the limit of 1 s on page 1;"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// In this process, where a panic would fail the test: a sound PDF with some bytes changed, and cut anywhere.
#[test]
fn damage_anywhere_panics_nowhere() {
    let sound = std::fs::read(fixture("hostile/form_loop.pdf")).expect("the PDF is there");
    let mut read = 0;
    for at in 0..sound.len() {
        for change in [1, 0x20, 0x80] {
            let mut damaged = sound.clone();
            damaged[at] ^= change;
            read += usize::from(pdf::read(damaged, 10, 1 << 20, |_: Event| {}).is_ok());
        }
        let cut = [&sound[..at], b"\n%%EOF"].concat();
        let _ = pdf::read(cut, 10, 1 << 20, |_| {});
    }
    assert!(read > sound.len(), "most single bits do not matter, {read}");
    assert_eq!(pdf::read(Vec::new(), 10, 10, |_| {}), Err(PdfFault::Truncated));
}
