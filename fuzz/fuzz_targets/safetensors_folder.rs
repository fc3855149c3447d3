//! Any bytes as a folder: length of the configuration (u16), `config.json`, `model.safetensors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let Some((config, weights)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))) else {
        return;
    };
    // By itself too: a broken configuration must not hide the header from the fuzzer.
    if let Ok(entries) = mantissa_model::safetensors_header::read_header("model.safetensors", weights) {
        assert!(entries.iter().all(|entry| weights.get(entry.range.clone()).is_some()));
    }
    if let Err(error) = mantissa_model::checkpoint::open_in_memory(config, weights) {
        assert!(!error.to_string().contains('\n'));
    }
});
