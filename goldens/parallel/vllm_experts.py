"""Cuts captures of vLLM's mixture of experts down to what a test compares: goldens/parallel/vllm_experts.bin.

    python vllm_experts.py CAPTURES MODEL.safetensors FUNCTIONS.deflate OUT.bin

CAPTURES has the containers that goldens/parallel/gpu made of the model `moe` (Qwen3-MoE, 128 experts of which 8 are
chosen, random weights; vLLM 0.24.0, eager, PyTorch 2.11.0+cu130, NVIDIA H200, 2026-11-29). FUNCTIONS is ex2.deflate of
crates/numerics/tables.

A row is taken from the recorded input of the experts (`ffn_norm`) and their router's logits; what the experts' products
are is computed here, by steps of 16 as a Hopper tensor core takes them, and what they come to is held against the
recorded `mlp_out`, all 2,048 values. Little-endian, for each row of one rank, of two that share every expert's inner
width, of two that have half of the experts each (0, 1, 2: the first word):

    u32 ranks' kind, u32 number of columns, 128 logits (bf16), 8 experts (u16), then for each column: of each expert, as
    chosen, of each rank that has a part of its width, the product before its weight (binary32); mlp_out (bf16)
"""

import glob
import os
import sys
import zlib

import numpy as np
from safetensors import safe_open

f32, f64 = np.float32, np.float64
TOP, COLUMNS = 8, 24


def bits(word):
    return np.array([word], np.uint32).view(f32)[0]


def rounded(x):
    """To bf16, as binary32."""
    word = np.ascontiguousarray(x, f32).view(np.uint32).astype(np.uint64)
    return ((word + 0x7FFF + ((word >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(f32)


class Functions:
    """CUDA's expf."""

    def __init__(self, path):
        with open(path, "rb") as file:
            raw = zlib.decompressobj(-15).decompress(file.read())
        self.low = int(np.frombuffer(raw[:1], np.int8)[0])
        self.codes = np.frombuffer(raw[1:], np.uint8)

    def ex2(self, x):
        size = np.minimum(np.abs(x.astype(f64)) * 2.0**23, 2.0**31 - 1).astype(np.int64)
        fixed = np.where((size != 0) & (x < 0), ~size, size)
        rest = fixed & 0x7FFFFF
        off = ((self.codes[rest // 4] >> (2 * (rest % 4))) & 3).astype(np.int32) + np.int32(self.low)
        value = (np.exp2(1.0 + rest / 2.0**23).astype(f32).view(np.int32) + off).view(f32)
        whole = np.clip(fixed >> 23, -200, 200)
        return np.where(x < -126.0, f32(0), (value.astype(f64) * np.exp2(whole - 1.0)).astype(f32))

    def exp(self, x):
        fused = lambda a, b, c: (a.astype(f64) * f64(b) + np.asarray(c, f64)).astype(f32)
        x = np.asarray(x, f32)
        part = np.clip(fused(x, bits(0x3BBB989D), f32(0.5)), f32(0), f32(1))
        shifted = np.floor(part.astype(f64) * 252.0 + 12582913.0).astype(f32)
        rest = fused(x, bits(0x3FB8AA3B), -(shifted - f32(12583039.0)))
        scale = (shifted.view(np.uint32) << np.uint32(23)).view(f32)
        return scale * self.ex2(fused(x, bits(0x32A57060), rest))


def exponent(x):
    return np.where(x == 0, -900, ((x.view(np.uint32) >> 23) & 0xFF).astype(np.int32) - 127)


def product(x, weight):
    """`weight · x` in one walk along K: terms of a step are cut to 25 bits behind the largest exponent."""
    sums = np.zeros(len(weight), f32)
    of_x, of_weight = exponent(x), exponent(weight)
    for k in range(0, len(x), 16):
        step = slice(k, k + 16)
        largest = np.maximum((of_x[step] + of_weight[:, step]).max(-1), exponent(sums))
        scale = np.ldexp(1.0, 25 - largest)
        terms = np.trunc(x[step].astype(f64) * weight[:, step].astype(f64) * scale[:, None]).sum(-1)
        total = (terms + np.trunc(sums * scale)) * np.ldexp(1.0, largest - 25)
        sums = (total.view(np.uint64) & np.uint64(~0x1FFFFFFF & (2**64 - 1))).view(f64).astype(f32)
    return sums


def halved(sums):
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return sums[0]


def routed(functions, logits):
    """Experts and weights: sixteen threads with eight logits each."""
    powers = functions.exp(logits - logits.max())
    threads = np.zeros(16, f32)
    for element in range(8):
        threads = threads + powers.reshape(16, 8)[:, element]
    probabilities = powers * (f32(1) / halved(threads))
    experts = np.argsort(-probabilities, kind="stable")[:TOP]
    total = f32(0)
    for expert in experts:
        total = total + probabilities[expert]
    return experts, probabilities[experts] / total


def of_torch(functions, logits, experts):
    """Weights as PyTorch's softmax and sum would have them, in binary32."""
    powers = functions.exp(logits - logits.max())
    lanes = np.zeros(32, f32)
    for part in powers.reshape(4, 32):
        lanes = lanes + part
    chosen = (powers / halved(lanes))[experts]
    return chosen / halved(chosen)


def added(products):
    """PyTorch's sum over eight: four running sums."""
    sums = products[:4] + products[4:]
    return rounded(((sums[0] + sums[1]) + sums[2]) + sums[3])


def total(parts, weights, kind, experts):
    """`parts` of [expert, part of the width, output]."""
    products = rounded(parts * weights[:, None, None])
    if kind == 0:
        return added(products[:, 0])
    if kind == 1:
        return rounded(added(products[:, 0]) + added(products[:, 1]))
    own = lambda rank: np.where((experts // 64 == rank)[:, None], products[:, 0], f32(0))
    return rounded(added(own(0)) + added(own(1)))


def main():
    captures, model, table, path = sys.argv[1:]
    functions, model = Functions(table), safe_open(model, "pt")
    out = bytearray()
    rows = [("vllm-tp1-moe", 0, 6), ("vllm-tp1-moe", 0, 9), ("vllm-tp2-moe", 1, 9), ("vllm-ep2-moe", 2, 9)]
    for job, kind, row in rows:
        [signals] = glob.glob(os.path.join(captures, job, "l32", "run-*-rep1.safetensors"))
        signals = safe_open(signals, "pt")
        site = lambda name: signals.get_tensor(f"prefill/layer_1.{name}").float().flatten(0, 1).numpy()[row]
        x, logits, recorded = map(site, ("ffn_norm", "router_logits", "mlp_out"))
        experts, weights = routed(functions, logits)
        parts = []
        for expert in experts:
            name = f"model.layers.0.mlp.experts.{expert}"
            of = lambda part: model.get_tensor(f"{name}.{part}_proj.weight").float().numpy()
            gate, up = (rounded(product(x, of(part))) for part in ("gate", "up"))
            with np.errstate(over="ignore"):
                inner = rounded(rounded(gate / (f32(1) + functions.exp(-gate))) * up)
            down, half = of("down"), 2 if kind == 1 else 1
            cut = len(inner) // half
            parts.append([product(inner[i * cut :][:cut], down[:, i * cut :][:, :cut]) for i in range(half)])
        parts = np.array(parts)
        found = total(parts, weights, kind, experts)
        wrong = int((found != recorded).sum())
        early = total(rounded(parts), weights, kind, experts) != recorded
        torch = total(parts, of_torch(functions, logits, experts), kind, experts) != recorded
        otherwise = f"{early.sum()} if rounded early, {torch.sum()} by PyTorch's softmax"
        print(job, row, f"{wrong} of {len(recorded)} differ; {otherwise}")
        assert wrong == 0
        columns = [*np.flatnonzero(torch), *np.flatnonzero(early), *range(len(recorded))][:COLUMNS]
        out += np.array([kind, len(columns)], "<u4").tobytes()
        out += (logits.view(np.uint32) >> 16).astype("<u2").tobytes() + experts.astype("<u2").tobytes()
        for column in columns:
            out += parts[:, :, column].astype("<f4").tobytes()
            out += (recorded[column : column + 1].view(np.uint32) >> 16).astype("<u2").tobytes()
    with open(path, "wb") as file:
        file.write(out)


main()
