//! Any bytes as a PDF, read in this process: no endless loop, no unbounded memory, no panic of our own. A panic of the
//! interpreter is a fault that `read` gives back; in the program a bounded child stands between.

#![no_main]

use std::panic::{set_hook, take_hook};
use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use mantissa_lab::document::pdf::{Event, read};

static HOOK: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    // The fuzzer ends the process at any panic; let those of the interpreter's crates pass.
    HOOK.call_once(|| {
        let abort = take_hook();
        set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|place| place.file().contains("/hayro-")) {
                abort(panic);
            }
        }));
    });
    // The end mark is the first check; without it nothing else would be reached.
    let mut pages = Vec::new();
    let _ = read([bytes, b"\n%%EOF"].concat(), 50, 1 << 20, |event| pages.push(event));
    for event in pages {
        if let Event::Page(page) = event {
            assert!(page.unmapped <= page.glyphs);
            assert_eq!(page.text.trim(), page.text);
        }
    }
});
