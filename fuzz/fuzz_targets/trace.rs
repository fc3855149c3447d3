//! Bytes as a trace: an error of one line, or events that are written and read back unchanged.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mantissa_evidence::trace::{Trace, TraceWriter};

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.jsonl");
    match Trace::from_reader(bytes, path) {
        Ok(trace) => {
            let Some(header) = &trace.header else { return };
            let mut lines = Vec::new();
            let mut writer = TraceWriter::new(&mut lines, header).expect("memory");
            trace.events.iter().for_each(|event| writer.event(event).expect("memory"));
            if trace.has_end {
                writer.finish().expect("memory");
            }
            assert_eq!(Trace::from_reader(&lines[..], path).expect("what was written"), trace);
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
});
