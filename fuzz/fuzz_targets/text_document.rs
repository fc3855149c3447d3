//! Any bytes as a text document: what is accepted is UTF-8 with LF line ends, what is refused is refused in one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mantissa_lab::document::Document;

fuzz_target!(|bytes: &[u8]| match Document::from_text("text", bytes) {
    Ok(document) => {
        let text = document.text();
        assert!(!text.trim().is_empty() && !text.contains(['\r', '\0']));
        let again =
            Document::from_text("text", text.as_bytes()).expect("what was accepted is accepted again");
        assert_eq!(again.text(), text);
    }
    Err(error) => assert!(!error.to_string().contains('\n')),
});
