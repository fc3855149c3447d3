//! Bytes as a baseline of a drift: an error of one line, or a baseline that is written and read back unchanged.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mantissa_verdict::drift::DriftBaseline;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.json");
    match DriftBaseline::parse(bytes, path) {
        Ok(baseline) => {
            let text = serde_json::to_vec(&baseline).expect("plain");
            assert_eq!(DriftBaseline::parse(&text, path).expect("what was written"), baseline);
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
});
