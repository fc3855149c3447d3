"""Writes the config.json of every model whose shapes the built-in catalogs are to have, with its published widths.

    python3 models.py FOLDER

`mantissa catalog build` and `mantissa coverage` need no more than these. Distillations of DeepSeek-R1 have the shapes
of Qwen2.5 and Llama 3.
"""

import json
import os
import sys

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}


def base(kind, hidden, inner, layers, heads, kv_heads, dim, vocabulary, base, context, tied, **more):
    architecture, model_type = kind
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "vocab_size": vocabulary,
        "rope_theta": base,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def llama(*widths, **more):
    return base(("LlamaForCausalLM", "llama"), *widths, **more)


def qwen2(*widths):
    return base(("Qwen2ForCausalLM", "qwen2"), *widths, use_sliding_window=False)


def qwen3(*widths):
    return base(("Qwen3ForCausalLM", "qwen3"), *widths)


def qwen3_moe(expert, experts, top, *widths):
    more = {"moe_intermediate_size": expert, "num_experts": experts, "num_experts_per_tok": top, "norm_topk_prob": True}
    return base(("Qwen3MoeForCausalLM", "qwen3_moe"), *widths, decoder_sparse_step=1, mlp_only_layers=[], **more)


def mistral(*widths):
    return base(("MistralForCausalLM", "mistral"), *widths, sliding_window=None)


def mixtral(*widths):
    more = {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None}
    return base(("MixtralForCausalLM", "mixtral"), *widths, **more)


def gemma2(scale, *widths):
    more = {"query_pre_attn_scalar": scale, "sliding_window": 4096}
    more |= {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    return base(("Gemma2ForCausalLM", "gemma2"), *widths, hidden_activation="gelu_pytorch_tanh", **more)


def gemma3(scale, window, *widths):
    more = {"query_pre_attn_scalar": scale, "sliding_window": window, "sliding_window_pattern": 6}
    more |= {"rope_local_base_freq": 10000.0}
    return base(("Gemma3ForCausalLM", "gemma3_text"), *widths, hidden_activation="gelu_pytorch_tanh", **more)


def phi3(*widths):
    return base(("Phi3ForCausalLM", "phi3"), *widths, sliding_window=None, original_max_position_embeddings=4096)


def olmo2(*widths):
    return base(("Olmo2ForCausalLM", "olmo2"), *widths)


def gpt_oss(layers, experts):
    more = {"num_local_experts": experts, "num_experts_per_tok": 4, "sliding_window": 128}
    more |= {"attention_bias": True, "swiglu_limit": 7.0}
    yarn = {"rope_type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "truncate": False}
    yarn |= {"original_max_position_embeddings": 4096}
    layer_types = ["sliding_attention", "full_attention"] * (layers // 2)
    widths = (2880, 2880, layers, 64, 8, 64, 201088, 150000.0, 131072, False)
    return base(("GptOssForCausalLM", "gpt_oss"), *widths, rope_scaling=yarn, layer_types=layer_types, **more)


# hidden, inner, layers, heads, KV heads, width of a head, vocabulary, base of RoPE, context, lm_head is the embedding.
MODELS = {
    "smollm2-135m": llama(576, 1536, 30, 9, 3, 64, 49152, 100000.0, 8192, True),
    "smollm2-360m": llama(960, 2560, 32, 15, 5, 64, 49152, 100000.0, 8192, True),
    "smollm2-1.7b": llama(2048, 8192, 24, 32, 32, 64, 49152, 130000.0, 8192, True),
    "llama3.2-1b": llama(2048, 8192, 16, 32, 8, 64, 128256, 500000.0, 131072, True, rope_scaling=LLAMA3),
    "llama3.2-3b": llama(3072, 8192, 28, 24, 8, 128, 128256, 500000.0, 131072, True, rope_scaling=LLAMA3),
    "llama3.1-8b": llama(4096, 14336, 32, 32, 8, 128, 128256, 500000.0, 131072, False, rope_scaling=LLAMA3),
    "llama3.3-70b": llama(8192, 28672, 80, 64, 8, 128, 128256, 500000.0, 131072, False, rope_scaling=LLAMA3),
    "qwen2.5-0.5b": qwen2(896, 4864, 24, 14, 2, 64, 151936, 1000000.0, 32768, True),
    "qwen2.5-1.5b": qwen2(1536, 8960, 28, 12, 2, 128, 151936, 1000000.0, 32768, True),
    "qwen2.5-3b": qwen2(2048, 11008, 36, 16, 2, 128, 151936, 1000000.0, 32768, True),
    "qwen2.5-7b": qwen2(3584, 18944, 28, 28, 4, 128, 152064, 1000000.0, 32768, False),
    "qwen2.5-14b": qwen2(5120, 13824, 48, 40, 8, 128, 152064, 1000000.0, 32768, False),
    "qwen2.5-32b": qwen2(5120, 27648, 64, 40, 8, 128, 152064, 1000000.0, 32768, False),
    "qwen2.5-72b": qwen2(8192, 29568, 80, 64, 8, 128, 152064, 1000000.0, 32768, False),
    "qwen3-0.6b": qwen3(1024, 3072, 28, 16, 8, 128, 151936, 1000000.0, 40960, True),
    "qwen3-1.7b": qwen3(2048, 6144, 28, 16, 8, 128, 151936, 1000000.0, 40960, True),
    "qwen3-4b": qwen3(2560, 9728, 36, 32, 8, 128, 151936, 1000000.0, 40960, True),
    "qwen3-8b": qwen3(4096, 12288, 36, 32, 8, 128, 151936, 1000000.0, 40960, False),
    "qwen3-14b": qwen3(5120, 17408, 40, 40, 8, 128, 151936, 1000000.0, 40960, False),
    "qwen3-32b": qwen3(5120, 25600, 64, 64, 8, 128, 151936, 1000000.0, 40960, False),
    "qwen3-30b-a3b": qwen3_moe(768, 128, 8, 2048, 6144, 48, 32, 4, 128, 151936, 1000000.0, 40960, False),
    "qwen3-235b-a22b": qwen3_moe(1536, 128, 8, 4096, 12288, 94, 64, 4, 128, 151936, 1000000.0, 40960, False),
    "mistral-7b": mistral(4096, 14336, 32, 32, 8, 128, 32768, 1000000.0, 32768, False),
    "mistral-nemo": mistral(5120, 14336, 40, 32, 8, 128, 131072, 1000000.0, 131072, False),
    "mistral-small": mistral(5120, 32768, 40, 32, 8, 128, 131072, 100000000.0, 32768, False),
    "mixtral-8x7b": mixtral(4096, 14336, 32, 32, 8, 128, 32000, 1000000.0, 32768, False),
    "gemma2-2b": gemma2(256, 2304, 9216, 26, 8, 4, 256, 256000, 10000.0, 8192, True),
    "gemma2-9b": gemma2(256, 3584, 14336, 42, 16, 8, 256, 256000, 10000.0, 8192, True),
    "gemma2-27b": gemma2(144, 4608, 36864, 46, 32, 16, 128, 256000, 10000.0, 8192, True),
    "gemma3-1b": gemma3(256, 512, 1152, 6912, 26, 4, 1, 256, 262144, 1000000.0, 32768, True),
    "gemma3-4b": gemma3(256, 1024, 2560, 10240, 34, 8, 4, 256, 262208, 1000000.0, 131072, True),
    "gemma3-12b": gemma3(256, 1024, 3840, 15360, 48, 16, 8, 256, 262208, 1000000.0, 131072, True),
    "gemma3-27b": gemma3(168, 1024, 5376, 21504, 62, 32, 16, 128, 262208, 1000000.0, 131072, True),
    "phi3.5-mini": phi3(3072, 8192, 32, 32, 32, 96, 32064, 10000.0, 4096, False),
    "phi4": phi3(5120, 17920, 40, 40, 10, 128, 100352, 250000.0, 16384, False),
    "olmo2-1b": olmo2(2048, 8192, 16, 16, 16, 128, 100352, 500000.0, 4096, False),
    "olmo2-7b": olmo2(4096, 11008, 32, 32, 32, 128, 100352, 500000.0, 4096, False),
    "olmo2-13b": olmo2(5120, 13824, 40, 40, 40, 128, 100352, 500000.0, 4096, False),
    "olmo2-32b": olmo2(5120, 27648, 64, 40, 8, 128, 100352, 500000.0, 4096, False),
    "gpt-oss-20b": gpt_oss(24, 32),
    "gpt-oss-120b": gpt_oss(36, 128),
}


def main():
    folder = sys.argv[1]
    for name, config in MODELS.items():
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "config.json"), "w") as file:
            json.dump(config, file, indent=1)


if __name__ == "__main__":
    main()
