//! Any bytes as a `config.json`, and the head of the tensor list that it implies.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match mantissa_model::ModelConfig::from_json("config.json", bytes) {
        Ok(config) => assert!(config.tensors().take(200).all(|spec| !spec.shape.contains(&0))),
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
