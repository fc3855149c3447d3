//! Any bytes as a GGUF file: header, configuration, one row of every weight.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = mantissa_model::checkpoint::open_gguf_in_memory(bytes) {
        assert!(!error.to_string().contains('\n'));
    }
});
