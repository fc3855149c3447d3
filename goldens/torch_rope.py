#!/usr/bin/env python3
"""Make torch_rope.json: PyTorch's `pow` on a CPU and transformers' inverse frequencies, as digests.

    torch_rope.py --out torch_rope.json

Needs an x86-64 machine with AVX-512 (both instruction sets are run: `ATEN_CPU_CAPABILITY`), torch and transformers 5.17.
A digest is FNV-1a (64 bits) over the little-endian bytes of the binary32 values.

- `powers`: for each base (as bits of a binary64 number) `base ** (arange(0, d, 2) / d)` for every even d of 2..512, joined.
- `pairs`: 2^17 pseudo-random pairs, in vectors and element by element (a strided tensor goes to the C library).
- `rope`: the functions of `ROPE_INIT_FUNCTIONS` and Llama's default for published configurations.

Left out: the values themselves, and PyTorch's result without vector instructions.
"""

import argparse
import json
import os
import platform
import struct
import subprocess
import sys

MASK = (1 << 64) - 1
BASES = [1e4, 1e5, 1.5e5, 1e6, 5e5, 1e7, 8e6, 25e4, 2.5e5, 3.3e3, 500.0]


def digest(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 & MASK
    return f"{state:016x}"


def numbers(count):
    """A linear congruential generator's upper 32 bits."""
    state = 1
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        yield state >> 32


def bases():
    """The named ones, and 40 between 2 and 2^30: eight to sixteen bits of mantissa beside the exponent."""
    found = list(BASES)
    draw = list(numbers(80))
    for a, b in zip(draw[::2], draw[1::2]):
        found.append((1.0 + a / 2**32) * 2.0 ** (1 + b % 29))
    return found


def yarn(factor, original, **more):
    given = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True, **more}
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original, **given}


def llama3(factor):
    return {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}


def longrope(pairs, factor, original):
    """Factors of the shape of Phi's: 1 and a little for short ones, growing to `factor` for long ones."""
    short = [1.0 + i * 0.03125 for i in range(pairs)]
    long = [round(1.0 + (factor * 2 - 1.0) * (i / (pairs - 1)) ** 2, 4) for i in range(pairs)]
    return {"rope_type": "longrope", "factor": factor, "original_max_position_embeddings": original,
            "short_factor": short, "long_factor": long}


# name, base, rotated elements, max_position_embeddings, scaling, lengths
CASES = [
    ("SmolLM2-135M", 1e5, 64, 8192, None, [None]),
    ("Qwen3", 1e6, 128, 40960, None, [None]),
    ("Phi-2, 32 of 80", 1e4, 32, 2048, None, [None]),
    ("heads of 80", 1e4, 80, 4096, None, [None]),
    ("heads of 96", 1e4, 96, 4096, None, [None]),
    ("Gemma 256", 1e4, 256, 8192, None, [None]),
    ("Llama-3.1", 5e5, 128, 131072, llama3(8.0), [None]),
    ("Llama-3.2-1B", 5e5, 64, 131072, llama3(32.0), [None]),
    ("Phi-3.5-mini", 1e4, 96, 131072, longrope(48, 32.0, 4096), [None, 4096, 4097]),
    ("Phi-4-mini", 1e4, 96, 131072, longrope(48, 32.0, 4096), [None, 5000]),
    ("LongRoPE 128", 1e4, 128, 65536, longrope(64, 16.0, 4096), [None, 4097]),
    ("Qwen2.5 YaRN", 1e6, 128, 131072, yarn(4.0, 32768), [None]),
    ("gpt-oss", 1.5e5, 64, 131072, yarn(32.0, 4096, truncate=False), [None]),
    ("DeepSeek-V2-Lite", 1e4, 64, 163840, yarn(40.0, 4096, mscale=0.707, mscale_all_dim=0.707), [None]),
    ("DeepSeek-V3", 1e4, 64, 163840, yarn(40.0, 4096, mscale=1.0, mscale_all_dim=0.5), [None]),
    ("YaRN, factor given", 1e6, 128, 131072, yarn(4.0, 32768, attention_factor=1.25, beta_fast=16.0), [None]),
    ("gemma3 global", 1e6, 256, 131072, {"rope_type": "linear", "factor": 8.0}, [None]),
    ("linear 3", 1e4, 128, 4096, {"rope_type": "linear", "factor": 3.0}, [None]),
    ("dynamic 2", 1e4, 128, 2048, {"rope_type": "dynamic", "factor": 2.0}, [None, 2048, 2049, 3000, 5001, 70001]),
    ("dynamic 4.7", 5e5, 64, 8192, {"rope_type": "dynamic", "factor": 4.7}, [None, 8193, 9999, 30000]),
]
PROPORTIONAL = [(1e6, 256, 0.25, 1.0), (1e6, 512, 0.25, 8.0), (1e4, 128, 0.5, 1.0)]


def measure():
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    torch.set_num_threads(1)

    def raw(tensor):
        return tensor.contiguous().numpy().tobytes()

    powers = {}
    for base in bases():
        joined = b"".join(raw(base ** (torch.arange(0, d, 2).float() / d)) for d in range(2, 513, 2))
        powers[struct.pack(">d", base).hex()] = digest(joined)
    draw = list(numbers(1 << 18))
    x = torch.tensor([struct.unpack("<f", struct.pack("<I", (107 << 23) + a % (50 << 23)))[0] for a in draw[::2]])
    y = torch.tensor([b / 2**30 - 2.0 for b in draw[1::2]], dtype=torch.float64).float()
    strided = torch.stack([x, x], 1)[:, 0], torch.stack([y, y], 1)[:, 0]
    pairs = {"vectors": digest(raw(torch.pow(x, y))), "elements": digest(raw(torch.pow(*strided)))}

    def config(base, dim, longest, scaling, **more):
        parameters = {"rope_type": "default", **(scaling or {}), "rope_theta": base, **more}
        return LlamaConfig(hidden_size=dim * 2, num_attention_heads=2, head_dim=dim,
                           max_position_embeddings=longest, rope_parameters=parameters)

    rope = []
    for _, base, dim, longest, scaling, lengths in CASES:
        made = config(base, dim, longest, scaling)
        for length in lengths:
            if scaling is None:
                found = LlamaRotaryEmbedding.compute_default_rope_parameters(made)
            else:
                given = torch.tensor(length) if length and scaling["rope_type"] == "dynamic" else length
                found = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](made, torch.device("cpu"), seq_len=given)
            rope.append([digest(raw(found[0])), struct.pack(">f", found[1]).hex()])
    proportional = []
    for base, dim, partial, factor in PROPORTIONAL:
        made = config(base, dim, 4096, {"rope_type": "proportional", "factor": factor}, partial_rotary_factor=partial)
        proportional.append(digest(raw(ROPE_INIT_FUNCTIONS["proportional"](made, torch.device("cpu"))[0])))
    print(json.dumps([torch.backends.cpu.get_cpu_capability(), powers, pairs, rope, proportional]))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out")
    out = arguments.parse_args().out
    if out is None:
        return measure()
    found = {}
    for name in ["avx2", "avx512"]:
        run = subprocess.run([sys.executable, __file__], stdout=subprocess.PIPE, check=True,
                             env={**os.environ, "ATEN_CPU_CAPABILITY": name})
        capability, *found[name] = json.loads(run.stdout.splitlines()[-1])
        assert capability == name.upper(), f"this machine has {capability}, not {name}"
    import torch
    import transformers

    made = {"torch": torch.__version__, "transformers": transformers.__version__,
            "libc": " ".join(platform.libc_ver()), "script": "goldens/torch_rope.py"}
    both = [found["avx2"], found["avx512"]]
    golden = {"made": made, "powers": [], "pairs": both[0][1], "rope": [], "proportional": []}
    assert both[0][1] == both[1][1], "SLEEF's two builds differ"
    for base in both[0][0]:
        golden["powers"].append([base, both[0][0][base], both[1][0][base]])
    each = iter(zip(both[0][2], both[1][2]))
    for name, base, dim, longest, scaling, lengths in CASES:
        answers = []
        for length in lengths:
            (narrow, factor), (wide, factor_again) = next(each)
            assert factor == factor_again
            answers.append({"length": length, "avx2": narrow, "avx512": wide, "attention_factor": factor})
        golden["rope"].append({"name": name, "base": base, "dim": dim, "max_position_embeddings": longest,
                               "scaling": scaling, "answers": answers})
    for case, narrow, wide in zip(PROPORTIONAL, both[0][3], both[1][3]):
        golden["proportional"].append([*case, narrow, wide])
    with open(out, "w", encoding="utf-8") as file:
        lines = [f'"{key}": ' + (json.dumps(value) if isinstance(value, dict)
                 else "[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]") for key, value in golden.items()]
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
