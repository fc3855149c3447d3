//! Quantized folders: read back as other programs decode them, resumable, and unlike no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::Digest as _;

use super::*;
use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use crate::quantized::Quantization;

/// What bitsandbytes, transformers and numpy decode; `goldens/README.md` says how it was made.
const GOLDEN: &str = include_str!("../../../../goldens/quantized.json");

/// A small model of a family; experts wide enough for groups of 128.
fn spec(arch: Arch, quantization: Quantization) -> Result<SynthSpec, SynthError> {
    let wide = SynthSpec::tiny(arch, 1).config().moe.is_some().then_some(128);
    SynthSpec::new(&SynthRequest {
        arch: Some(arch),
        seed: 1,
        quantization: Some(quantization),
        hidden_size: wide,
        intermediate_size: wide,
        moe_intermediate_size: wide,
        ..SynthRequest::default()
    })
}

/// Number and SHA-256 of the decoded matrices, in the order of their modules' names.
fn decoded(folder: &Path, quantization: Quantization) -> (usize, String) {
    let checkpoint = Checkpoint::open(folder).expect("opens");
    assert_eq!(checkpoint.packed(), Some(quantization));
    let stored = |name: &&str| checkpoint.stored_as(name).is_some_and(|s| s.format == quantization.name());
    let mut names: Vec<&str> = checkpoint.weight_names().filter(stored).collect();
    names.sort_by_key(|name| name.trim_end_matches(".weight"));
    let mut hasher = sha2::Sha256::new();
    for name in &names {
        hasher.update(&checkpoint.weight(name).expect("decoded").data);
    }
    (names.len(), crate::hex::hex(&hasher.finalize()))
}

#[test]
fn folders_decode_as_other_programs_decode_them() {
    let golden: Value = serde_json::from_str(GOLDEN).expect("JSON");
    let folders = golden["folders"].as_object().expect("folders");
    assert_eq!((folders.len(), golden["failed"].as_object().map(serde_json::Map::len)), (35, Some(0)));
    for (name, expected) in folders {
        let (arch, quantization) = name.split_once(' ').expect("a family and a layout");
        let arch = parse_arch(arch).expect("known");
        let quantization = Quantization::named(quantization).expect("known");
        let dir = tempfile::tempdir().expect("a folder");
        write(&spec(arch, quantization).expect("fits"), dir.path(), &|_| ()).expect("written");
        let (matrices, digest) = decoded(dir.path(), quantization);
        assert_eq!(
            (Some(matrices as u64), Some(digest.as_str())),
            (expected["matrices"].as_u64(), expected["sha256"].as_str()),
            "{name}"
        );
    }
}

/// Everything that is not a matrix of a block has the bytes of the unquantized model.
#[test]
fn what_is_not_quantized_is_the_unquantized_models() {
    let quantized = spec(Arch::QWEN3_MOE, Quantization::Awq).expect("fits");
    let plain = SynthSpec::new(&SynthRequest {
        arch: Some(Arch::QWEN3_MOE),
        seed: 1,
        dtype: Some(quantized.dtype()),
        hidden_size: Some(128),
        intermediate_size: Some(128),
        moe_intermediate_size: Some(128),
        ..SynthRequest::default()
    });
    let weights = |spec: &SynthSpec| -> BTreeMap<String, (&'static str, Vec<u8>)> {
        let dir = tempfile::tempdir().expect("a folder");
        write(spec, dir.path(), &|_| ()).expect("written");
        let checkpoint = Checkpoint::open(dir.path()).expect("opens");
        let all = checkpoint.weight_names().map(|name| {
            let format = checkpoint.stored_as(name).expect("there").format;
            (name.to_owned(), (format, checkpoint.weight(name).expect("read").data.to_vec()))
        });
        all.collect()
    };
    let (quantized, plain) = (weights(&quantized), weights(&plain.expect("fits")));
    assert!(quantized.keys().eq(plain.keys()));
    for (name, (format, bytes)) in &quantized {
        let same = *bytes == plain[name].1;
        assert_eq!(same, *format != "awq", "{name} as {format}");
        let kept =
            !name.starts_with("model.layers.") || name.contains("norm") || name.ends_with("mlp.gate.weight");
        assert_eq!(*format != "awq", kept, "{name}");
    }
}

#[test]
fn a_quantized_run_is_resumed_and_checked() {
    for quantization in Quantization::ALL {
        let request = SynthRequest {
            arch: Some(Arch::LLAMA),
            quantization: Some(quantization),
            max_shard_bytes: Some(200_000),
            ..SynthRequest::default()
        };
        let spec = SynthSpec::new(&request).expect("fits");
        let dir = tempfile::tempdir().expect("a folder");
        let first = write(&spec, dir.path(), &|_| ()).expect("written");
        let second = &first.files[1];
        let mut bytes = fs::read(second).expect("a shard");
        fs::remove_file(second).expect("removed");
        let again = write(&spec, dir.path(), &|_| ()).expect("completed");
        assert_eq!((again.kept, fs::read(second).expect("a shard")), (first.files.len() - 1, bytes.clone()));
        Checkpoint::open(dir.path()).expect("opens");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(second, bytes).expect("damaged");
        let message = write(&spec, dir.path(), &|_| ()).expect_err("noticed").to_string();
        assert!(message.contains("differs from what these settings give"), "{message}");
    }
}

#[test]
fn damaged_parts_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    write(&spec(Arch::LLAMA, Quantization::Gptq).expect("fits"), dir.path(), &|_| ()).expect("written");
    let file = dir.path().join("model.safetensors");
    let whole = fs::read(&file).expect("a file");
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|bytes| bytes == from.as_bytes()).expect("there");
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&file, bytes).expect("written");
        Checkpoint::open(dir.path()).expect_err("refused").to_string()
    };
    let message = replaced("layers.0.mlp.up_proj.scales", "layers.0.mlp.up_proj.nothin");
    assert!(message.contains("layers.0.mlp.up_proj.scales': absent"), "{message}");
    let message = replaced("layers.0.mlp.up_proj.qweight", "layers.9.mlp.up_proj.qweight");
    assert!(message.contains("layers.0.mlp.up_proj.qweight': absent"), "{message}");
}

#[test]
fn what_does_not_fit_a_layout_is_refused() {
    let refused = |request: SynthRequest| SynthSpec::new(&request).expect_err("refused").to_string();
    let awq = SynthRequest {
        arch: Some(Arch::LLAMA),
        quantization: Some(Quantization::Awq),
        ..SynthRequest::default()
    };
    let message = refused(SynthRequest { dtype: Some(mantissa_numerics::Dtype::F32), ..awq.clone() });
    assert!(message.contains("use --dtype f16 or bf16"), "{message}");
    let message = refused(SynthRequest { intermediate_size: Some(320), ..awq });
    assert!(message.contains("down_proj.weight': 320 inputs are no multiple of 128"), "{message}");
    let stacked = spec(Arch::GPT_OSS, Quantization::BnbNf4).expect_err("refused").to_string();
    assert!(stacked.contains("gpt_oss's experts are stacked"), "{stacked}");
}
