//! Bytes as a printed log: an error of one line, or a log whose distances come from its own lines and whose figures can
//! be computed again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mantissa_published::{LAYOUTS, Published, FileSignature};

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.log");
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let logs = LAYOUTS.iter().filter(|layout| matches!(layout.signature, FileSignature::Titles(_)));
    let read: Vec<_> = logs.map(|layout| Published::read_as(layout, bytes, path)).collect();
    assert!(read.iter().filter(|log| log.is_ok()).count() <= 1, "one file is one log");
    for log in read {
        match log {
            Ok(log) => {
                let _ = log.sheet(&[]);
                for cell in log.verifications().iter().flat_map(|verification| verification.cells.values()) {
                    let line: usize = cell.place.trim_start_matches("line ").parse().expect("a line");
                    assert!((1..=lines).contains(&line) && cell.mean >= 0.0 && cell.rounding >= 0.0);
                }
            }
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
        }
    }
});
