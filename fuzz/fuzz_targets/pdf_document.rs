//! Any bytes as a PDF, read in this process: no panic, no endless loop, no unbounded memory. In the program a bounded child
//! reads them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mantissa_lab::document::pdf::{Event, read};

fuzz_target!(|bytes: &[u8]| {
    // The end mark is the first check; without it nothing else would be reached.
    let _ = read([bytes, b"\n%%EOF"].concat(), 50, 1 << 20, |event| {
        if let Event::Page(page) = event {
            assert!(page.unmapped <= page.glyphs);
            assert_eq!(page.text.trim(), page.text);
        }
    });
});
