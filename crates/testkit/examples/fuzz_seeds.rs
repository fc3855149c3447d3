//! Writes the tiny valid files that fuzzing the model readers starts from.
//!
//! `cargo run -p mantissa-testkit --example fuzz_seeds -- fuzz/seeds`
#![expect(clippy::print_stderr, reason = "a developer's tool that runs in a terminal")]

use std::path::Path;

use mantissa_numerics::{BlockFormat, Dtype};
use mantissa_testkit::gguf::{Builder, Encoding};
use mantissa_testkit::safetensors::{Tensor, build};

const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":8,"intermediate_size":8,
"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"vocab_size":4,
"max_position_embeddings":16,"rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":true,
"torch_dtype":"bfloat16","eos_token_id":[1,2],"rope_scaling":{"rope_type":"linear","factor":2.0}}"#;

/// Hugging Face name, GGUF name and shape of every tensor of that model.
const TENSORS: [(&str, &str, &[usize]); 11] = [
    ("model.embed_tokens.weight", "token_embd.weight", &[4, 8]),
    ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight", &[8]),
    ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", &[8, 8]),
    ("model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", &[4, 8]),
    ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", &[4, 8]),
    ("model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight", &[8, 8]),
    ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight", &[8]),
    ("model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight", &[8, 8]),
    ("model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", &[8, 8]),
    ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", &[8, 8]),
    ("model.norm.weight", "output_norm.weight", &[8]),
];

fn main() -> std::io::Result<()> {
    let Some(out) = std::env::args_os().nth(1) else {
        eprintln!("give the folder to write to");
        std::process::exit(2);
    };
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&out).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    write("config_json", "llama.json", CONFIG.as_bytes())?;
    let moe = CONFIG.replace("LlamaForCausalLM", "Qwen3MoeForCausalLM").replace(
        "\"num_hidden_layers\"",
        r#""num_experts":2,"num_experts_per_tok":1,"moe_intermediate_size":8,"norm_topk_prob":true,"num_hidden_layers""#,
    );
    write("config_json", "qwen3_moe.json", moe.as_bytes())?;

    let tensors: Vec<Tensor> = TENSORS
        .iter()
        .map(|(name, _, shape)| Tensor::new(name, Dtype::Bf16, shape, &vec![0.5; shape.iter().product()]))
        .collect();
    // Length of the configuration, configuration, weights: as the fuzz target takes them apart.
    let length = u16::try_from(CONFIG.len()).unwrap_or(u16::MAX).to_le_bytes();
    write("safetensors_folder", "llama", &[&length, CONFIG.as_bytes(), &build(&tensors)].concat())?;

    let mut model = Builder::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 16)
        .u32("llama.embedding_length", 8)
        .u32("llama.feed_forward_length", 8)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    for (_, name, shape) in TENSORS {
        model = model.tensor(name, shape, Encoding::Plain(Dtype::F16), &vec![0.5; shape.iter().product()]);
    }
    write("gguf", "llama_f16.gguf", &model.build())?;
    let mut blocks = Builder::default().text("general.architecture", "llama");
    blocks.alignment = 8;
    for format in BlockFormat::ALL {
        blocks = blocks.tensor(format.name(), &[1, 256], Encoding::Block(format), &[0.5; 256]);
    }
    write("gguf", "blocks.gguf", &blocks.build())?;

    let template = "{% for m in messages %}{{ m.role }}: {{ m.content | tojson }}{% endfor %}{{ eos_token }}";
    let bytes = Builder::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .texts("tokenizer.ggml.tokens", &["h", "e", "l", "o", "he", "ll", "Ġ", "1", "<|im_end|>"])
        .i32s("tokenizer.ggml.token_type", &[1, 1, 1, 1, 1, 1, 1, 1, 3])
        .texts("tokenizer.ggml.merges", &["h e", "l l"])
        .u32("tokenizer.ggml.eos_token_id", 8)
        .bool("tokenizer.ggml.add_eos_token", true)
        .text("tokenizer.chat_template", template);
    write("tokenizer_gguf", "gpt2.gguf", &bytes.build())?;
    let pieces = Builder::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &["<unk>", "<s>", "▁", "a", "b", "ab", "<0xC3>", "<0xA9>"])
        .i32s("tokenizer.ggml.token_type", &[2, 3, 1, 1, 1, 1, 6, 6])
        .f32s("tokenizer.ggml.scores", &[0.0, 0.0, -1.0, -2.0, -3.0, -4.0, 0.0, 0.0])
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.unknown_token_id", 0);
    write("tokenizer_gguf", "llama.gguf", &pieces.build())
}
