//! Models the tests run: synthetic ones, made once per process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mantissa_engine::{Attention, Catalogs, EngineSetup, Hardware, Isa, QuantizedWeights, Serving};
use mantissa_model::synth::{self, SynthSpec, Values};
use mantissa_model::{Arch, Checkpoint};
use mantissa_numerics::{BlockFormat, Dtype};
use mantissa_testkit::gguf::{Builder, Encoding};

pub(crate) const ARCHS: [(Arch, &str); 12] = [
    (Arch::LLAMA, "llama"),
    (Arch::QWEN2, "qwen2"),
    (Arch::QWEN3, "qwen3"),
    (Arch::QWEN3_MOE, "qwen3_moe"),
    (Arch::MISTRAL, "mistral"),
    (Arch::MIXTRAL, "mixtral"),
    (Arch::OLMO2, "olmo2"),
    (Arch::PHI3, "phi3"),
    (Arch::GEMMA2, "gemma2"),
    (Arch::GEMMA3_TEXT, "gemma3_text"),
    (Arch::GPT_OSS, "gpt_oss"),
    (Arch::DEEPSEEK_V2, "deepseek_v2"),
];

/// The engine's own kernels in f32, eager, on two threads.
pub(crate) fn on_cpu(context: usize) -> EngineSetup {
    EngineSetup {
        serving: Serving::default(),
        hardware: Hardware::Cpu,
        dtype: Dtype::F32,
        attention: Attention::Eager,
        quantized: QuantizedWeights::Keep,
        catalogs: Catalogs::default(),
        context,
        threads: 2,
        isa: Isa::detect(),
    }
}

/// The tiny model of a family, as `mantissa synth --arch ARCH --seed 1` makes it.
pub(crate) fn tiny(arch: Arch) -> Checkpoint {
    Checkpoint::open(&folder().join(arch.name())).expect("synthetic model")
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (arch, name) in ARCHS {
            synth::write(&SynthSpec::tiny(arch, 1), &folder.path().join(name), &|_| {})
                .expect("synthetic model");
        }
        let path = folder.path().to_owned();
        (folder, path)
    });
    path
}

/// The tokens of `goldens/transformers_f32.py`.
pub(crate) fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| (7 * i * i + 3 * i + 1) % 500).collect()
}

/// A Llama of two blocks, 256 wide, as a GGUF file with every matrix in `format`.
pub(crate) fn tiny_gguf(format: BlockFormat) -> Vec<u8> {
    const HIDDEN: usize = 256;
    const INNER: usize = 512;
    const KV: usize = 128;
    const VOCABULARY: usize = 512;
    let mut model = Builder::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .u32("llama.context_length", 128)
        .u32("llama.embedding_length", 256)
        .u32("llama.feed_forward_length", 512)
        .u32("llama.attention.head_count", 4)
        .u32("llama.attention.head_count_kv", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    let values = |name: &str, count: usize, centre: f32, deviation: f64| -> Vec<f32> {
        let values = Values::new(5, name, centre, deviation);
        (0..count as u64).map(|i| values.at(i)).collect()
    };
    let matrix = |model: Builder, name: &str, rows: usize, cols: usize| {
        model.tensor(name, &[rows, cols], Encoding::Block(format), &values(name, rows * cols, 0.0, 0.06))
    };
    model = matrix(model, "token_embd.weight", VOCABULARY, HIDDEN);
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        for (part, rows, cols) in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", KV, HIDDEN),
            ("attn_v", KV, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN),
            ("ffn_down", HIDDEN, INNER),
        ] {
            model = matrix(model, &name(part), rows, cols);
        }
        for part in ["attn_norm", "ffn_norm"] {
            let values = values(&name(part), HIDDEN, 1.0, 0.1);
            model = model.tensor(&name(part), &[HIDDEN], Encoding::Plain(Dtype::F32), &values);
        }
    }
    let values = values("output_norm.weight", HIDDEN, 1.0, 0.1);
    model.tensor("output_norm.weight", &[HIDDEN], Encoding::Plain(Dtype::F32), &values).build()
}
