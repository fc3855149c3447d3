//! Bytes as an experiment JSON: an error of one line, or a record that is written and read back unchanged.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mantissa_evidence::json;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.json");
    match json::parse(bytes, path) {
        Ok(experiment) => {
            let text = json::to_vec(&experiment, path).expect("what was read can be written");
            let again = json::parse(&text, path).expect("what was written can be read");
            assert_eq!(json::to_vec(&again, path).expect("and written"), text);
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
});
