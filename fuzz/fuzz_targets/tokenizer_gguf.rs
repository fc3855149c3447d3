//! Any bytes as the tokenizer of a GGUF file, used once if it is accepted.
#![no_main]

use mantissa_model::{Message, ModelError};

fn one_line<T>(result: Result<T, ModelError>) -> Option<T> {
    result.inspect_err(|error| assert!(!error.to_string().contains('\n'))).ok()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(tokenizer) = one_line(mantissa_model::tokenizer::from_gguf_bytes("model.gguf", bytes)) else {
        return;
    };
    if let Some(ids) = one_line(tokenizer.encode("hello 12 ab\u{e9}<|im_end|> \n", true)) {
        one_line(tokenizer.decode(&ids, false));
    }
    one_line(tokenizer.decode(&[0, 1, 2, u32::MAX], true));
    one_line(tokenizer.apply_chat_template(&[Message::new("user", "hi")], true));
});
