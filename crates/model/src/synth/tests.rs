//! Whole checkpoints: the same bytes everywhere, readable by others, resumable, and honest refusals.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mantissa_numerics::Dtype;
use safetensors::SafeTensors;

use super::*;
use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;

const ARCHS: [Arch; 4] = [Arch::LLAMA, Arch::QWEN2, Arch::QWEN3, Arch::QWEN3_MOE];

fn made(spec: &SynthSpec, folder: &Path) -> Written {
    write(spec, folder, &|_| ()).expect("written")
}

/// Digest of every file's name, length and bytes, in order of name.
fn digest(folder: &Path) -> String {
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = fs::read(&file).expect("a file");
        hasher.update(file.file_name().expect("a name").as_encoded_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

fn tensors(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = fs::read(&path).expect("a shard");
            let shard = SafeTensors::deserialize(&bytes).expect("safetensors");
            for (name, view) in shard.tensors() {
                all.insert(name, (view.shape().to_vec(), view.data().to_vec()));
            }
        }
    }
    all
}

fn refused(request: &SynthRequest) -> String {
    let message = SynthSpec::new(request).expect_err("refused").to_string();
    assert!(!message.contains('\n') && message.contains("; "), "{message}");
    message
}

/// Goldens: made on x86-64 with AVX2 by this code; `goldens/README.md` says how the values were checked independently.
#[test]
fn tiny_models_are_the_same_bytes_everywhere() {
    let expected = [
        (Arch::LLAMA, "e509ed6d61efe887d95d6654a34ec896"),
        (Arch::QWEN2, "4ea8077e9bc216558c5249720750ca05"),
        (Arch::QWEN3, "a6bc5828f8bd34d6dcbd1ce4998f150b"),
        (Arch::QWEN3_MOE, "2ac54cadd4b59140b40d0ac3db00fad3"),
    ];
    let found = ARCHS.map(|arch| {
        let dir = tempfile::tempdir().expect("a folder");
        let spec = SynthSpec::tiny(arch, 1);
        made(&spec, dir.path());
        let checkpoint = Checkpoint::open(dir.path()).expect("opens");
        assert_eq!((checkpoint.config().arch, checkpoint.stored_bytes()), (arch, spec.total_bytes()));
        (arch, digest(dir.path()))
    });
    assert_eq!(found.each_ref().map(|(arch, hex)| (*arch, hex.as_str())), expected);
}

#[test]
fn threads_shards_and_dtypes_change_only_what_they_should() {
    let whole = tempfile::tempdir().expect("a folder");
    made(&SynthSpec::tiny(Arch::QWEN2, 5), whole.path());
    for threads in [1, 3] {
        let dir = tempfile::tempdir().expect("a folder");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| made(&SynthSpec::tiny(Arch::QWEN2, 5), dir.path()));
        assert_eq!(digest(dir.path()), digest(whole.path()));
    }
    let request = SynthRequest {
        arch: Some(Arch::QWEN2),
        seed: 5,
        max_shard_bytes: Some(200_000),
        ..SynthRequest::default()
    };
    let sharded = tempfile::tempdir().expect("a folder");
    let written = made(&SynthSpec::new(&request).expect("valid"), sharded.path());
    let shards = written.files.iter().filter(|f| f.extension().is_some_and(|e| e == "safetensors")).count();
    assert!(shards > 4, "{shards}");
    let one = tensors(whole.path());
    assert_eq!(tensors(sharded.path()), one);
    let index: serde_json::Value = serde_json::from_slice(
        &fs::read(sharded.path().join("model.safetensors.index.json")).expect("an index"),
    )
    .expect("JSON");
    assert_eq!(index["weight_map"].as_object().expect("a map").len(), one.len());

    // Another dtype rounds the same values.
    let wide = tempfile::tempdir().expect("a folder");
    let request = SynthRequest { dtype: Some(Dtype::F32), max_shard_bytes: None, ..request };
    made(&SynthSpec::new(&request).expect("valid"), wide.path());
    for (name, (shape, data)) in tensors(wide.path()) {
        let (narrow_shape, narrow) = &one[&name];
        assert_eq!(&shape, narrow_shape);
        for i in 0..data.len() / 4 {
            let rounded = Dtype::Bf16.round(Dtype::F32.decode(&data, i));
            assert_eq!(rounded.to_bits(), Dtype::Bf16.decode(narrow, i).to_bits(), "{name} {i}");
        }
    }
    assert_ne!(
        tensors(whole.path())["model.norm.weight"].1,
        {
            let other = tempfile::tempdir().expect("a folder");
            made(&SynthSpec::tiny(Arch::QWEN2, 6), other.path());
            tensors(other.path())["model.norm.weight"].1.clone()
        },
        "the seed matters"
    );
}

/// Parameter counts as the published models' cards and index files state them.
#[test]
fn presets_have_the_true_sizes() {
    for (preset, parameters) in [
        (Preset::SmolLm2_135M, 134_515_008),
        (Preset::Qwen2_5_7B, 7_615_616_512),
        (Preset::Qwen3_30BA3B, 30_532_122_624),
        (Preset::Llama3_1_8B, 8_030_261_248),
    ] {
        let request = SynthRequest { preset: Some(preset), ..SynthRequest::default() };
        let spec = SynthSpec::new(&request).expect("valid");
        assert_eq!(spec.total_bytes(), 2 * parameters, "{}", preset.name());
        assert_eq!(preset.name().parse::<Preset>().expect("known"), preset);
    }
    for arch in ARCHS {
        let request = SynthRequest { arch: Some(arch), seed: 9, ..SynthRequest::default() };
        assert_eq!(SynthSpec::new(&request).expect("valid"), SynthSpec::tiny(arch, 9));
        assert_eq!(parse_arch(arch.name()).expect("known"), arch);
    }
}

#[test]
fn the_config_reads_back() {
    let mut requests: Vec<SynthRequest> =
        ARCHS.map(|arch| SynthRequest { arch: Some(arch), ..SynthRequest::default() }).into();
    requests.extend(Preset::ALL[1..].iter().map(|&preset| SynthRequest {
        preset: Some(preset),
        dtype: Some(Dtype::F16),
        ..SynthRequest::default()
    }));
    for request in requests {
        let spec = SynthSpec::new(&request).expect("valid");
        let files = files::small_files(&spec, &[]);
        let config = files.last().expect("a file");
        assert_eq!(config.name, "config.json");
        assert_eq!(&ModelConfig::from_json("config.json", &config.bytes).expect("read"), spec.config());
    }
}

#[test]
fn a_configuration_from_a_file_is_taken_whole_or_cut() {
    for arch in Arch::all() {
        let spec = SynthSpec::tiny(arch, 3);
        let file = files::small_files(&spec, &[]).pop().expect("config.json");
        let config = config_of(file.name, &file.bytes, None).expect("read");
        let request = SynthRequest { config: Some(config), seed: 3, ..SynthRequest::default() };
        assert_eq!(SynthSpec::new(&request).expect("valid"), spec);
        let cut = config_of(file.name, &file.bytes, Some(2)).expect("read");
        assert_eq!(cut.graph().blocks, spec.config().graph().blocks[..2], "{}", arch.name());
        assert!(refused(&SynthRequest { arch: Some(arch), ..request.clone() }).contains("arch"));
        assert!(refused(&SynthRequest { preset: Some(Preset::Tiny), ..request }).contains("preset"));
    }
    // What says something of each block is cut with them.
    let published = br#"{"architectures": ["GptOssForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 600, "head_dim": 16,
        "max_position_embeddings": 256, "num_local_experts": 8, "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}"#;
    let cut = config_of("config.json", published, Some(1)).expect("read");
    assert_eq!(cut.extra["layer_types"], serde_json::json!(["sliding_attention"]));
    SynthSpec::new(&SynthRequest { config: Some(cut), ..SynthRequest::default() }).expect("valid");
}

#[test]
fn the_width_of_experts_has_the_name_that_the_family_gives_it() {
    for arch in [Arch::MIXTRAL, Arch::GPT_OSS] {
        let asked = SynthRequest { arch: Some(arch), intermediate_size: Some(64), ..SynthRequest::default() };
        let spec = SynthSpec::new(&asked).expect("valid");
        assert_eq!(
            spec.config().moe.as_ref().map(|moe| moe.moe_intermediate_size),
            Some(64),
            "{}",
            arch.name()
        );
        let both = SynthRequest { moe_intermediate_size: Some(32), ..asked };
        assert!(refused(&both).contains("width of an expert"));
    }
    // Beside dense layers they have a width of their own.
    let own =
        SynthRequest { arch: Some(Arch::QWEN3_MOE), intermediate_size: Some(64), ..SynthRequest::default() };
    let spec = SynthSpec::new(&own).expect("valid");
    assert_ne!(spec.config().moe.as_ref().map(|moe| moe.moe_intermediate_size), Some(64));
}

#[test]
fn an_interrupted_run_is_completed_and_a_finished_one_is_checked() {
    let request =
        SynthRequest { arch: Some(Arch::LLAMA), max_shard_bytes: Some(500_000), ..SynthRequest::default() };
    let spec = SynthSpec::new(&request).expect("valid");
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("new/model");
    let first = made(&spec, &folder);
    assert_eq!(first.kept, 0);
    let len: u64 = first.files.iter().map(|f| fs::metadata(f).expect("a file").len()).sum();
    assert_eq!(len, first.bytes);
    let whole = digest(&folder);

    // As after a kill: a shard and all later files are missing, the shard's beginning lies under its own name.
    let shard =
        first.files.iter().find(|f| f.ends_with("model-00002-of-00004.safetensors")).expect("a shard");
    let bytes = fs::read(shard).expect("a shard");
    fs::write(folder.join(".model-00002-of-00004.safetensors.partial"), &bytes[..1000]).expect("a leftover");
    fs::remove_file(shard).expect("removed");
    fs::remove_file(folder.join("config.json")).expect("removed");
    let again = made(&spec, &folder);
    assert_eq!((again.kept, digest(&folder)), (first.files.len() - 2, whole));

    let done = std::sync::atomic::AtomicU64::new(0);
    let count = |n| {
        done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    };
    let checked = write(&spec, &folder, &count).expect("checked");
    assert_eq!(checked.kept, checked.files.len());
    assert_eq!(done.into_inner(), spec.total_bytes());

    // One flipped bit in the middle of a tensor, then a cut.
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for (bytes, fault) in
        [(&damaged[..], "tensor 'model.layers."), (&bytes[..middle], "bytes, these settings give")]
    {
        fs::write(shard, bytes).expect("damaged");
        let message = write(&spec, &folder, &|_| ()).expect_err("noticed").to_string();
        assert!(message.contains(fault) && message.contains("; delete it"), "{message}");
    }
}

#[test]
fn other_folders_are_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = SynthSpec::tiny(Arch::LLAMA, 1);
    let refused = |spec: &SynthSpec, folder: &Path| {
        let message = write(spec, folder, &|_| ()).expect_err("refused").to_string();
        assert!(!message.contains('\n') && message.contains("; "), "{message}");
        message
    };
    fs::write(dir.path().join("thesis.tex"), "precious").expect("written");
    assert!(refused(&spec, dir.path()).contains("already holds 'thesis.tex'"));
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    assert!(refused(&spec, &dir.path().join("thesis.tex")).contains("thesis.tex"));

    let folder = dir.path().join("model");
    made(&spec, &folder);
    let before = digest(&folder);
    assert!(refused(&SynthSpec::tiny(Arch::LLAMA, 2), &folder).contains("made from other settings"));
    assert_eq!(digest(&folder), before);
}

#[test]
fn a_model_that_cannot_fit_is_refused_before_the_first_byte() {
    // Far more than any disk: 4096 experts in 40 layers of wide matrices.
    let request = SynthRequest {
        arch: Some(Arch::QWEN3_MOE),
        hidden_size: Some(1 << 16),
        num_hidden_layers: Some(40),
        num_experts: Some(1 << 12),
        moe_intermediate_size: Some(1 << 16),
        max_shard_bytes: Some(u64::MAX),
        ..SynthRequest::default()
    };
    let spec = SynthSpec::new(&request).expect("valid");
    let dir = tempfile::tempdir().expect("a folder");
    let message = write(&spec, dir.path(), &|_| ()).expect_err("refused").to_string();
    if cfg!(unix) {
        assert!(
            message.contains("more bytes, the disk has") && message.contains("; free some space"),
            "{message}"
        );
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
    }
}

#[test]
fn numbers_that_do_not_fit_together_are_refused_with_the_right_ones() {
    let tiny = SynthRequest { arch: Some(Arch::LLAMA), ..SynthRequest::default() };
    let cases = [
        (SynthRequest { arch: None, ..tiny.clone() }, "use one of llama, qwen2, qwen3, qwen3_moe"),
        (SynthRequest { preset: Some(Preset::Qwen2_5_7B), ..tiny.clone() }, "preset qwen2.5-7b is qwen2"),
        (SynthRequest { num_key_value_heads: Some(3), ..tiny.clone() }, "use 1, 2 or 4"),
        (SynthRequest { head_dim: Some(33), ..tiny.clone() }, "such as 32 or 34"),
        (SynthRequest { hidden_size: Some(130), ..tiny.clone() }, "use 128 or 132"),
        (SynthRequest { hidden_size: Some(0), ..tiny.clone() }, "use 1 to"),
        (SynthRequest { num_attention_heads: Some(0), ..tiny.clone() }, "use 1 to"),
        (SynthRequest { vocab_size: Some(511), ..tiny.clone() }, "use 512 to"),
        (SynthRequest { num_experts: Some(4), ..tiny.clone() }, "llama has no experts"),
        (SynthRequest { max_shard_bytes: Some(1), ..tiny.clone() }, "use at least 65536"),
        (SynthRequest { num_hidden_layers: Some(usize::MAX), ..tiny.clone() }, "use 1 to 1024"),
        (
            SynthRequest { arch: Some(Arch::QWEN3_MOE), num_experts: Some(4), ..tiny.clone() },
            "num_experts_per_tok 8: out of range; use 1 to 4",
        ),
        (
            SynthRequest {
                arch: Some(Arch::QWEN3_MOE),
                num_experts: Some(4096),
                num_hidden_layers: Some(1024),
                ..tiny.clone()
            },
            "keep layers x experts x 3 under",
        ),
    ];
    for (request, wanted) in cases {
        let message = refused(&request);
        assert!(message.contains(wanted), "{message}");
    }
    assert!("huge".parse::<Preset>().expect_err("unknown").to_string().contains("use one of tiny, "));
    assert!(parse_arch("gpt2").expect_err("unknown").to_string().contains("llama, qwen2"));
    // A narrower head follows the width where the preset keeps to it.
    let spec = SynthSpec::new(&SynthRequest { hidden_size: Some(256), ..tiny }).expect("valid");
    assert_eq!(spec.config().head_dim, 64);
}
