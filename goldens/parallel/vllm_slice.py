"""Cuts a container of vLLM's sites and the model's weights down to what a test compares: goldens/parallel/vllm_*.bin.

    python vllm_slice.py SIGNALS.safetensors MODEL.safetensors DIRECTORY

Made from a capture of SmolLM2-135M-Instruct (Q4_1 decoded to bf16; weights 52e54357…) by vLLM 0.24.0 (eager,
FlashAttention 3, model runner V2) with PyTorch 2.11.0+cu130 on an NVIDIA H200, 2026-11-29: a prompt of 38 tokens, then
16 decode steps. Files hold patterns of bf16, little-endian:

norm       weight of layer 15's second norm; then input and output of rows 19 and 35 of the prompt and of step 3
attention  of layer 9, queries of row 8 (9 heads of 64), keys and values of rows 0 to 8 (3 heads of 64); rows of o_proj
           for eight outputs, then those outputs
rotary     row 37 of layer 1's input and the weight of its first norm; of q_proj the rows of three pairs of head 0
           (0 and 32, 5 and 37, 20 and 52), then those six elements of the rotated query

The rows are those where another order of sums, or PyTorch's flash attention, leaves another value.
"""

import sys

import torch
from safetensors import safe_open

signals, weights = (safe_open(path, "pt") for path in sys.argv[1:3])
weight = lambda name: weights.get_tensor(f"model.layers.{name}.weight")
site = lambda phase, name: signals.get_tensor(f"{phase}/{name}").flatten(0, 1)
COLUMNS = [1, 2, 14, 27, 28, 36, 40, 43]
PAIRS = [0, 32, 5, 37, 20, 52]

norm = [weight("14.post_attention_layernorm")]
for phase, row in (("prefill", 19), ("prefill", 35), ("decode", 3)):
    norm += [site(phase, f"layer_15.{name}")[row] for name in ("x_after_attn", "ffn_norm")]
of = lambda name: site("prefill", f"layer_9.{name}")
attention = [of("q")[8], of("k")[:9], of("v")[:9], weight("8.self_attn.o_proj")[COLUMNS], of("attn_out")[8, COLUMNS]]
rotary = [site("prefill", "layer_1.x_in")[37], weight("0.input_layernorm"), weight("0.self_attn.q_proj")[PAIRS]]
rotary += [site("prefill", "layer_1.q")[37, PAIRS]]
for name, parts in (("norm", norm), ("attention", attention), ("rotary", rotary)):
    with open(f"{sys.argv[3]}/vllm_{name}.bin", "wb") as out:
        for part in parts:
            assert part.dtype == torch.bfloat16
            out.write(part.contiguous().view(torch.int16).numpy().astype("<i2").tobytes())
