//! Files that are cut, bent or made to lie: one line each, no panic, no memory for what is not there.

use mantissa_model::checkpoint::{open_gguf_in_memory, open_in_memory};
use mantissa_model::safetensors_header::read_header;
use mantissa_model::{Arch, Checkpoint, Gguf, ModelConfig};
use mantissa_numerics::Dtype;
use mantissa_testkit::gguf::{Builder, Encoding};
use mantissa_testkit::safetensors::{build, raw};

use crate::one_line;
use crate::tiny;

const F32: Encoding = Encoding::Plain(Dtype::F32);

fn refused(file: &Builder, want: &str) {
    let e = one_line(Gguf::parse("m.gguf", &file.build()));
    assert!(e.starts_with("m.gguf: ") && e.contains(want), "{e} / {want}");
}

#[test]
fn a_cut_gguf_is_refused_wherever_it_is_cut() {
    let whole = tiny::gguf(&tiny::config(Arch::LLAMA), Encoding::Plain(Dtype::Bf16)).build();
    open_gguf_in_memory(&whole).unwrap();
    let header = whole.len() - whole.iter().rev().count().min(20_000);
    let ends = (0..4000).chain((4000..whole.len()).step_by(4099)).chain([header, whole.len() - 1]);
    for end in ends {
        one_line(open_gguf_in_memory(&whole[..end]));
    }
}

#[test]
fn a_bent_gguf_never_panics() {
    let whole = tiny::gguf(&tiny::config(Arch::QWEN3_MOE), Encoding::Plain(Dtype::F16)).build();
    let mut bent = whole.clone();
    let mut refused = 0;
    for at in 0..5000 {
        for bits in [0x01, 0x80, 0xff] {
            bent[at] ^= bits;
            if let Err(e) = open_gguf_in_memory(&bent) {
                assert!(!e.to_string().contains('\n'), "{e}");
                refused += 1;
            }
            bent[at] = whole[at];
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn a_lying_gguf_header_names_the_lie() {
    let one = |shape: &[usize], kind, offset, bytes| {
        Builder::default().tensor_raw("t", shape, kind, offset, vec![0; bytes])
    };
    refused(&one(&[4, 32], 13, None, 0), "tensor 't': type Q5_K is not read; use a file of F32");
    refused(&one(&[4, 32], 999, None, 0), "type number 999 is not read");
    refused(&one(&[4, 33], 8, None, 200), "rows of 33 elements are not whole q8_0 blocks");
    refused(&one(&[4, 32], 0, None, 511), "512 bytes at 96 + 0, the file has 607");
    refused(&one(&[4, 32], 0, Some(64), 512), "512 bytes at 96 + 64, the file has 608");
    refused(&one(&[4, 32], 0, Some(u64::MAX - 31), 512), "the file has 608");
    refused(&one(&[4, 32], 0, Some(7), 600), "offset 7 is not a multiple of 32");
    refused(&one(&[usize::MAX, 2], 0, None, 8), "larger than any file");
    refused(&one(&[1 << 40, 1 << 40], 0, None, 8), "larger than any file");
    refused(&one(&[1 << 40], 0, None, 8), "the file has");
    refused(&one(&[0, 32], 0, None, 8), "no elements");
    refused(&one(&[1; 5], 0, None, 8), "5 axes");
    refused(&one(&[], 0, None, 8), "0 axes");
    let two = one(&[8], 0, None, 32).tensor("t", &[8], F32, &[0.0; 8]);
    refused(&two, "tensor 't': listed twice");
    let overlapping = one(&[16], 0, None, 64).tensor_raw("u", &[8], 0, Some(32), vec![]);
    refused(&overlapping, "tensor 'u': its data overlaps that of 't'");

    refused(&Builder::default().u32("k", 1).u32("k", 2), "key 'k' for the second time");
    refused(&Builder::default().u32("split.count", 3), "llama-gguf-split --merge");
    refused(
        &Builder::default().u32("general.alignment", 24),
        "general.alignment: must be a power of two, is 24",
    );
    refused(&Builder::default().u32("general.alignment", 0), "general.alignment");
    refused(&Builder::default().raw("k", 13, &[]), "metadata type 13");
    refused(&Builder::default().raw("k", 7, &[2]), "2 as a boolean");
    refused(&Builder::default().raw("k\n\u{1b}[31m", 13, &[]), "metadata type 13");
    refused(&Builder::default().raw("k", 8, &[4, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), "not UTF-8");
    refused(&Builder::default().array("k", 4, usize::MAX, &[]), "elements");
    refused(
        &Builder::default().array("k", 0, 1 << 40, &[]),
        "an array of 1099511627776 bytes, the file ends at",
    );
    refused(&Builder::default().array("k", 8, 1 << 60, &[0; 64]), "the file ends at");
    refused(&Builder::default().array("k", 77, 1, &[0; 64]), "an array of type 77");
    let mut nested = vec![0; 8];
    for _ in 0..10_000 {
        nested = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &nested].concat();
    }
    refused(&Builder::default().raw("k", 9, &nested), "nested deeper than 4");

    for (version, want) in
        [(1, "version 1 is not read"), (4, "version 4"), (3_u32.swap_bytes(), "big-endian")]
    {
        let mut file = Builder::default();
        file.version = version;
        refused(&file, want);
    }
    let e = one_line(Gguf::parse("m.gguf", b"PK\x03\x04 and more of a zip file"));
    assert!(e.contains("not a GGUF file"), "{e}");
    // Counts that the file cannot hold cost nothing.
    let mut file = Builder::default().build();
    file[8..16].fill(0xff);
    file.truncate(24);
    one_line(Gguf::parse("m.gguf", &file));
    file[16..24].fill(0xff);
    one_line(Gguf::parse("m.gguf", &file));
}

#[test]
fn gguf_settings_that_change_the_numbers_are_refused() {
    let config = tiny::config(Arch::LLAMA);
    let base = || tiny::gguf(&config, F32);
    let values = [0.0; 64];
    for (file, want) in [
        (
            base().u32("llama.attention.sliding_window", 4096),
            "llama.attention.sliding_window: is not computed",
        ),
        (base().f32("llama.logit_scale", 0.5), "llama.logit_scale"),
        (base().u32("llama.expert_count", 8), "llama.expert_count"),
        (base().text("llama.rope.scaling.type", "yarn"), "llama.rope.scaling.type: 'yarn'"),
        (base().u32("llama.rope.dimension_count", 32), "32 differs from the 64 of a head"),
        (base().u32("llama.attention.value_length", 128), "128 differs from the 64"),
        (base().bool("llama.attention.causal", false), "llama.attention.causal"),
        (
            base().tensor("blk.0.ffn_gate.bias", &[64], F32, &values),
            "tensor 'blk.0.ffn_gate.bias': has no place",
        ),
        (
            base().tensor("blk.9.attn_q.bias", &[64], F32, &values),
            "'model.layers.9.self_attn.q_proj.bias': has no place",
        ),
        (
            base().tensor("blk.0.attn_q.bias", &[64], F32, &values),
            "q_proj.bias': shape [64], the configuration asks for [256]",
        ),
        (
            base().tensor("v.patch_embd.weight", &[64], F32, &values),
            "tensor 'v.patch_embd.weight': has no place",
        ),
        (
            Builder::default().text("general.architecture", "gemma"),
            "general.architecture: 'gemma' is not known",
        ),
        (Builder::default(), "general.architecture: must be present"),
        (Builder::default().u32("general.architecture", 1), "general.architecture: must be a string, is 1"),
    ] {
        let e = one_line(open_gguf_in_memory(&file.build()));
        assert!(e.contains(want), "{e} / {want}");
    }
    for harmless in [
        base().u32("llama.attention.sliding_window", 0),
        base().text("llama.rope.scaling.type", "none"),
        base().u32("llama.rope.dimension_count", 64),
        base().u32("llama.expert_count", 0),
    ] {
        open_gguf_in_memory(&harmless.build()).unwrap();
    }
    let linear =
        base().text("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 4.0).build();
    let scaling = open_gguf_in_memory(&linear).unwrap().rope_scaling;
    assert_eq!(scaling, Some(mantissa_model::RopeScaling::Linear { factor: 4.0 }));
}

#[test]
fn a_lying_safetensors_header_names_the_lie() {
    let entry = |from: usize, to: usize, shape: &str| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let (a, b) = (entry(0, 16, "[4]"), entry(16, 32, "[2,2]"));
    assert_eq!(read_header("m", &raw(&format!(r#"{{"a":{a},"b":{b}}}"#), &[0; 32])).unwrap().len(), 2);
    for (header, want) in [
        (format!(r#"{{"a":{a},"b":{}}}"#, entry(15, 31, "[4]")), "tensor 'b': its data overlaps that of 'a'"),
        (
            format!(r#"{{"a":{a},"b":{}}}"#, entry(16, 33, "[4]")),
            "tensor 'b': data at 16..33, the file has 32",
        ),
        (format!(r#"{{"a":{}}}"#, entry(16, 0, "[4]")), "tensor 'a': data at 16..0"),
        (format!(r#"{{"a":{}}}"#, entry(usize::MAX, usize::MAX, "[0]")), "tensor 'a': data at"),
        (format!(r#"{{"a":{}}}"#, entry(0, 16, "[5]")), "16 bytes do not hold F32 of shape [5]"),
        (format!(r#"{{"a":{}}}"#, entry(0, 0, "[4294967296,4294967296]")), "do not hold"),
        (format!(r#"{{"a":{}}}"#, entry(0, 16, "[-4]")), "header column"),
        (format!(r#"{{"a":{a},"a":{b}}}"#), "tensor 'a' twice"),
        (r#"{"a":{"dtype":"F32","shape":[4]}}"#.into(), "data_offsets"),
        ("[]".into(), "an object of tensors"),
        ("{".into(), "header column"),
        (format!("{{\"a\\n\":{}}}", entry(0, 99, "[4]")), "tensor 'a\\n': data at 0..99"),
    ] {
        let e = one_line(read_header("m.safetensors", &raw(&header, &[0; 32])));
        assert!(e.starts_with("m.safetensors: ") && e.contains(want), "{e} / {want}");
    }
    for length in [33_u64, 1 << 40, u64::MAX] {
        let file = [&length.to_le_bytes()[..], &[b' '; 32]].concat();
        let e = one_line(read_header("m", &file));
        assert!(e.contains(&format!("header of {length} bytes in a file of 40")), "{e}");
    }
    one_line(read_header("m", b"short"));
}

#[test]
fn a_cut_or_bent_safetensors_file_never_panics() {
    let config = tiny::config_json(Arch::QWEN2).to_string();
    let whole = build(&tiny::tensors(&tiny::config(Arch::QWEN2), Dtype::F16));
    open_in_memory(config.as_bytes(), &whole).unwrap();
    for end in (0..3000).step_by(7).chain([whole.len() - 1]) {
        one_line(open_in_memory(config.as_bytes(), &whole[..end]));
    }
    let mut bent = whole.clone();
    let mut refused = 0;
    for at in 0..2000 {
        bent[at] ^= 0x11;
        if let Err(e) = open_in_memory(config.as_bytes(), &bent) {
            assert!(!e.to_string().contains('\n'), "{e}");
            refused += 1;
        }
        bent[at] = whole[at];
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn absent_misshapen_and_foreign_tensors_are_named() {
    let json = tiny::config_json(Arch::QWEN3).to_string();
    let all = tiny::tensors(&tiny::config(Arch::QWEN3), Dtype::F32);
    let q = all.iter().position(|t| t.name == "model.layers.1.self_attn.q_proj.weight").unwrap();
    let open = |tensors: &[_]| one_line(open_in_memory(json.as_bytes(), &build(tensors)));

    let mut absent = all.clone();
    absent.remove(q);
    assert!(open(&absent).contains("tensor 'model.layers.1.self_attn.q_proj.weight': absent"));
    let mut turned = all.clone();
    turned[q].shape = vec![128, 512];
    assert!(
        open(&turned).contains("q_proj.weight': shape [128, 512], the configuration asks for [256, 256]")
    );
    let mut foreign = all.clone();
    foreign.push(mantissa_testkit::safetensors::Tensor::new(
        "model.layers.0.self_attn.sinks",
        Dtype::F32,
        &[4],
        &[0.0; 4],
    ));
    // Read past, as transformers does; tests/it/decisions.rs asks for the word that is said of it.
    open_in_memory(json.as_bytes(), &build(&foreign)).unwrap();
    foreign.last_mut().unwrap().dtype = "I32";
    open_in_memory(json.as_bytes(), &build(&foreign)).unwrap();
    let mut typed = all;
    typed[q].dtype = "I32";
    let e = open(&typed);
    assert!(e.contains("type I32 is not read; use a checkpoint in F32, BF16 or F16"), "{e}");
}

#[test]
fn folders_that_are_no_models_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
    let refused = |want: &str| {
        let e = one_line(Checkpoint::open(path));
        assert!(e.contains(want), "{e} / {want}");
    };
    refused("neither config.json nor a .gguf file");
    write("a.gguf", "");
    refused("a.gguf: size: the file is empty");
    write("b.gguf", "");
    refused("several .gguf files");
    write("config.json", &tiny::config_json(Arch::LLAMA).to_string());
    refused("neither model.safetensors nor model.safetensors.index.json");
    for shard in ["../a", "/etc/passwd", "a/b", "..", "", "a\\b", "C:x"] {
        write("model.safetensors.index.json", &serde_json::json!({"weight_map": {"t": shard}}).to_string());
        refused("is not a plain file name");
    }
    write("model.safetensors.index.json", "{}");
    refused("weight_map");
    write("model.safetensors.index.json", r#"{"weight_map": {"t": "one.safetensors"}}"#);
    refused("one.safetensors: cannot open");
    let e = one_line(Checkpoint::open(&path.join("nowhere")));
    assert!(e.contains("nowhere: cannot open") && e.ends_with("check the path"), "{e}");
    write("x.safetensors", "x");
    let e = one_line(Checkpoint::open(&path.join("x.safetensors")));
    assert!(e.contains("give its folder"), "{e}");
}

/// A synthetic model's `config.json` and its tensors, each of zeros.
fn synthetic(arch: Arch) -> (Vec<u8>, Vec<mantissa_testkit::safetensors::Tensor>) {
    let folder = tempfile::tempdir().unwrap();
    let spec = mantissa_model::synth::SynthSpec::tiny(arch, 1);
    mantissa_model::synth::write(&spec, folder.path(), &|_| {}).unwrap();
    let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
    let tensors = spec.config().tensors().map(|spec| {
        let values = zeros(&spec.shape);
        mantissa_testkit::safetensors::Tensor::new(&spec.name, Dtype::F32, &spec.shape, &values)
    });
    (std::fs::read(folder.path().join("config.json")).unwrap(), tensors.collect())
}

#[test]
fn stacked_experts_are_read_as_the_family_stores_them() {
    let (config, mut tensors) = synthetic(Arch::GPT_OSS);
    open_in_memory(&config, &build(&tensors)).unwrap();
    let name = "model.layers.2.mlp.experts.gate_up_proj";
    let at = tensors.iter().position(|tensor| tensor.name == name).unwrap();
    assert_eq!(tensors[at].shape, [16, 64, 192]);
    tensors[at].shape = vec![16, 192, 64];
    let e = one_line(open_in_memory(&config, &build(&tensors)));
    assert!(e.contains("shape [16, 192, 64], the configuration asks for [16, 64, 192]"), "{e}");

    // transformers 5 holds these in memory as one tensor for gate and up and one for down, under names of its own.
    for (arch, prefix) in
        [(Arch::QWEN3_MOE, "mlp"), (Arch::DEEPSEEK_V2, "mlp"), (Arch::MIXTRAL, "block_sparse_moe")]
    {
        let (config, tensors) = synthetic(arch);
        let model = ModelConfig::from_json("config.json", &config).unwrap();
        let moe = model.moe.as_ref().unwrap();
        let (experts, inner, hidden) = (moe.num_experts, moe.moe_intermediate_size, model.hidden_size);
        let own = |name: &str| name.contains(&format!(".{prefix}.experts."));
        let mut stacked: Vec<_> = tensors.into_iter().filter(|tensor| !own(&tensor.name)).collect();
        for tensor in &mut stacked {
            tensor.name = tensor.name.replace(".block_sparse_moe.", ".mlp.");
        }
        for layer in (0..model.num_hidden_layers).filter(|layer| model.is_sparse(*layer)) {
            for (part, shape) in
                [("gate_up_proj", [experts, 2 * inner, hidden]), ("down_proj", [experts, hidden, inner])]
            {
                stacked.push(mantissa_testkit::safetensors::Tensor::new(
                    &format!("model.layers.{layer}.mlp.experts.{part}"),
                    Dtype::F32,
                    &shape,
                    &vec![0.0; shape.iter().product()],
                ));
            }
        }
        open_in_memory(&config, &build(&stacked)).unwrap();
    }
}
