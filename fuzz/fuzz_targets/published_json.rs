//! Bytes as a published JSON: an error of one line, or a file whose experiment, distances and figures can be asked
//! for, and whose experiment keeps the laws of a record.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mantissa_evidence::json;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.json");
    match mantissa_published::parse(bytes, path) {
        Ok(None) => {}
        Ok(Some(file)) => {
            if let Some(experiment) = file.experiment() {
                json::to_vec(experiment, path).expect("what was read keeps the laws of a record");
            }
            for verification in file.verifications() {
                let values = verification.values.len();
                assert!(verification.cells.keys().all(|key| key.claimed < values && key.verified < values));
            }
            let _ = file.sheet(&[]);
            assert!(file.warnings().iter().all(|warning| !warning.contains(char::is_control)));
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
});
