"""Softmax, log_softmax, logsumexp, sums and flash attention of PyTorch over long rows: what they compute, and which
kernels they launch.

    python long_rows.py DIRECTORY

Writes long_rows.npz (results as raw bits) and long_rows.json (kernels with their grids, digests, versions). Inputs
are made by an integer hash (`hashed`), so a CPU makes them again. A digest of a row is the sum of its bit patterns,
each times a 64-bit odd number made of its place, modulo 2^64 (`digests`).

- `softmax_<type>_<length>`: the first 64 of each of 8 rows that lie one after the other; bf16 and f16 as eager
  attention calls it (`softmax(x, -1, dtype=torch.float32)`), f32 as the math backend does.
- `across_<length>_<steps>`: log_softmax over the middle of three dimensions, as transformers'
  compute_transition_scores calls it; rows are the steps of the first of two sequences.
- `log_softmax_<type>_<length>_<rows>`, `logsumexp_<length>_<rows>`, `expsum_<length>_<rows>` (the sum inside
  logsumexp).
- `<name>_at<n>`: the same where the only row begins `n` elements behind an aligned address.
- `sum_<length>_<rows>`, `mean_<length>_<rows>`: of squares of bf16 values, as a norm takes them.
- `flash_<type>_<heads>_<kvheads>_<width>_<queries>_<keys>_<batch>`: outputs of some heads and queries, named in
  long_rows.json."""

import json
import os
import re
import sys
import tempfile
import time

import numpy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from inputs import MASK, TYPES, mixed
from inputs import hashed as hashed_on

DEVICE = os.environ.get("LONG_ROWS_DEVICE", "cuda")
# Small on a CPU, to try the script.
SMALL = DEVICE == "cpu"
VOCABULARIES = [
    10,
    1000,
    1025,
    2048,
    2049,
    9217,
    12252,
    12256,
    12260,
    32000,
    32064,
    32768,
    49152,
    50257,
    100352,
    128256,
    131072,
    151936,
]
VOCABULARIES += [152064, 201088, 256000, 262144, 262208]
LENGTHS = [
    1,
    2,
    31,
    33,
    100,
    1000,
    1023,
    1024,
    1025,
    1032,
    2047,
    2048,
    2049,
    2050,
    2056,
    4095,
    4096,
    4097,
    4098,
    8191,
    8192,
    8193,
]
LENGTHS += [
    9215,
    9216,
    9217,
    9218,
    9219,
    9220,
    9224,
    10067,
    10068,
    10072,
    10097,
    12248,
    12251,
    12252,
    12255,
    12256,
    12257,
    12258,
    12260,
]
LENGTHS += [
    12287,
    12288,
    12289,
    16383,
    16384,
    16385,
    16386,
    16896,
    20000,
    24495,
    24496,
    24504,
    24512,
    24520,
    32767,
    32768,
    32769,
    40000,
]
WIDTHS = [
    64,
    96,
    120,
    127,
    128,
    129,
    130,
    192,
    256,
    512,
    576,
    896,
    1024,
    1152,
    1536,
    2048,
    2304,
    2560,
    2880,
    3072,
    3584,
    3840,
    4096,
    5120,
]
WIDTHS += [5376, 6144, 7168, 8192, 9216, 12288, 16384, 18432]
SUM_ROWS = [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 128, 300, 512, 1000, 4096]
HEADS = [(9, 3, 64), (28, 4, 128), (32, 8, 128), (64, 8, 64), (64, 8, 128), (32, 32, 96), (8, 4, 256)]
KEYS = [2001, 2048, 3000, 4096, 5000, 8192, 10067, 10097, 12000, 16384, 20000, 32767, 32768]
PREFILLS = [2500, 8192, 10067]
PREFILL_HEADS = [(9, 3, 64), (28, 4, 128), (32, 32, 96), (8, 4, 256)]
if SMALL:
    VOCABULARIES, LENGTHS, WIDTHS, SUM_ROWS = [10, 1025, 9217], [31, 1025, 9217], [64, 129, 2048], [1, 17]
    HEADS, KEYS, PREFILLS, PREFILL_HEADS = [(9, 3, 64)], [2001], [130], [(9, 3, 64)]

out = sys.argv[1]
arrays, digests_of, kernels, notes = {}, {}, {}, {}
began = time.time()


def hashed(shape, seed: int, spread: float, kind: str) -> torch.Tensor:
    return hashed_on(shape, seed, spread, kind, DEVICE)


weights = {}


def digests(x: torch.Tensor) -> numpy.ndarray:
    """One for each row of the last dimension."""
    count = x.shape[-1]
    if count not in weights:
        place = torch.arange(count, device=DEVICE)
        weights[count] = (mixed(place, 1) * (0x9E3779B97F4A7C15 - (1 << 64))) | 1
        if len(weights) > 8:
            weights.pop(next(iter(weights)))
    wide = x.element_size() == 4
    bits = x.contiguous().view(torch.int32 if wide else torch.int16).long() & (MASK if wide else 0xFFFF)
    return (bits * weights[count]).sum(-1).cpu().numpy().astype(numpy.uint64)


def keep(name: str, x: torch.Tensor, first: int) -> None:
    digests_of[name] = [f"{d:016x}" for d in digests(x).reshape(-1)]
    part = x[..., :first].contiguous()
    arrays[name] = part.view(torch.int32 if part.element_size() == 4 else torch.int16).cpu().numpy()


def seed_of(*words: int) -> int:
    seed = 7
    for word in words:
        seed = (seed * 1000003 + word) & MASK
    return seed


def softmaxes() -> None:
    for length in LENGTHS:
        for kind in TYPES:
            x = hashed((8, length), seed_of(1, length), 8.0, kind)
            keep(f"softmax_{kind}_{length}", torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32), 64)
    for length, at in [
        (2050, 1),
        (9217, 1),
        (9220, 1),
        (9220, 2),
        (9220, 4),
        (12000, 3),
        (12000, 4),
        (12288, 1),
        (12288, 2),
    ]:
        for kind in TYPES:
            x = hashed((at + length,), seed_of(2, length, at), 8.0, kind)[at:].view(1, length)
            keep(f"softmax_{kind}_{length}_at{at}", torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32), 64)


def log_softmaxes() -> None:
    for length in VOCABULARIES:
        for rows in (1, 2, 5, 33):
            for kind in TYPES:
                if kind != "f32" and rows != 5:
                    continue
                x = hashed((rows, length), seed_of(3, length), 16.0, kind)
                keep(f"log_softmax_{kind}_{length}_{rows}", torch.log_softmax(x, dim=-1, dtype=torch.float32), 64)
            keep(f"logsumexp_{length}_{rows}", torch.logsumexp(x, dim=-1, keepdim=True), 1)
            keep(f"expsum_{length}_{rows}", (x - x.amax(-1, keepdim=True)).exp_().sum(-1, keepdim=True), 1)
    for length, at in [(32000, 1), (32000, 2), (128256, 3), (151936, 1), (50257, 2)]:
        x = hashed((at + length,), seed_of(4, length, at), 16.0, "f32")[at:].view(1, length)
        keep(f"log_softmax_f32_{length}_at{at}", torch.log_softmax(x, dim=-1), 64)
        keep(f"logsumexp_{length}_at{at}", torch.logsumexp(x, dim=-1, keepdim=True), 1)
    for length in [63, 64, 1000, 32000, 50257, 128256, 151936]:
        for steps in (1, 2, 3, 7, 16, 17, 30, 31, 32, 33, 64, 65, 100, 256):
            x = hashed((2, length, steps), seed_of(8, length, steps), 16.0, "f32")
            keep(f"across_{length}_{steps}", torch.log_softmax(x, dim=1)[0].T, 16)


def sums() -> None:
    for length in WIDTHS:
        for rows in SUM_ROWS:
            x = hashed((rows, length), seed_of(5, length), 4.0, "bf16").float().pow(2)
            for name, found in (("sum", x.sum(-1)), ("mean", x.mean(-1))):
                digests_of[f"{name}_{length}_{rows}"] = [f"{digests(found)[()]:016x}"]
                arrays[f"{name}_{length}_{rows}"] = found[:: max(1, rows // 8)][:8].view(torch.int32).cpu().numpy()


def flashes() -> None:
    largest = max(KEYS)
    for heads, kv, width in HEADS:
        for kind in ("bf16", "f16"):
            seed = seed_of(6, heads, kv, width)
            # Batch, KV heads, keys, width: fewer keys are the first of each head's.
            k, v = (hashed((8, kv, largest, width), seed + i, spread, kind) for i, spread in ((1, 2.0), (2, 2.0)))
            q = hashed((8, heads, 1, width), seed, 4.0, kind)
            for keys in KEYS:
                for batch in (1, 2, 8):
                    one = lambda t: t[:batch, :, :keys].contiguous()
                    with sdpa_kernel([SDPBackend.MATH if SMALL else SDPBackend.FLASH_ATTENTION]):
                        found = torch.nn.functional.scaled_dot_product_attention(
                            q[:batch], one(k), one(v), enable_gqa=True
                        )
                    name = f"flash_{kind}_{heads}_{kv}_{width}_1_{keys}_{batch}"
                    digests_of[name] = [f"{d:016x}" for d in digests(found).reshape(-1)]
                    some = found[[0, batch - 1]][:, [0, heads - 1], 0]
                    arrays[name] = some.contiguous().view(torch.int16).cpu().numpy()
            del k, v
    for heads, kv, width in PREFILL_HEADS:
        for kind in ("bf16", "f16"):
            for queries in PREFILLS:
                seed = seed_of(7, heads, kv, width)
                made = [
                    hashed((1, h, queries, width), seed + i, s, kind)
                    for i, (h, s) in enumerate(((heads, 4.0), (kv, 2.0), (kv, 2.0)))
                ]
                with sdpa_kernel([SDPBackend.MATH if SMALL else SDPBackend.FLASH_ATTENTION]):
                    found = torch.nn.functional.scaled_dot_product_attention(*made, is_causal=True, enable_gqa=True)
                name = f"flash_{kind}_{heads}_{kv}_{width}_{queries}_{queries}_1"
                rows = [0, queries // 2, queries - 3, queries - 2, queries - 1]
                notes[name] = rows
                digests_of[name] = [f"{d:016x}" for d in digests(found[0, [0, heads - 1]][:, rows]).reshape(-1)]
                arrays[name] = found[0, [0, heads - 1]][:, rows].contiguous().view(torch.int16).cpu().numpy()


LOGARITHMS = r"""
extern "C" __global__ void logs(unsigned first, float* fast) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    fast[i] = __logf(__uint_as_float(first + i));
}
"""


def logarithms() -> None:
    """`logf` of every positive binary32 by exponent, and `__logf` from 1 to 2^18."""
    count = 1 << 10 if SMALL else 1 << 23
    for exponent in range(0, 255, 64 if SMALL else 1):
        x = (torch.arange(count, device=DEVICE) + (exponent << 23)).int().view(torch.float32)
        digests_of[f"log_{exponent}"] = [f"{digests(torch.log(x))[()]:016x}"]
    try:
        kernel = torch.cuda._compile_kernel(LOGARITHMS, "logs")
        for exponent in range(127, 127 + 18):
            fast = torch.empty(count, dtype=torch.float32, device=DEVICE)
            kernel((count // 256, 1, 1), (256, 1, 1), (exponent << 23, fast))
            digests_of[f"fast_log_{exponent}"] = [f"{digests(fast)[()]:016x}"]
            arrays[f"fast_log_{exponent}"] = fast[:: 1 << 12].view(torch.int32).cpu().numpy()
    except Exception as error:  # An internal function of PyTorch: the rest counts without it.
        notes["fast_log"] = repr(error)[:500]


def launched(names, calls, pattern: str) -> None:
    """Kernels that match, in the order of their starts; `calls` name how many of them each launches at least."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for call in calls:
            call()
            torch.cuda.synchronize()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        seen.export_chrome_trace(file.name)
        events = json.load(open(file.name))["traceEvents"]
    events = [e for e in events if e.get("cat") == "kernel" and re.search(pattern, e["name"])]
    events.sort(key=lambda e: e["ts"])
    kernels[names[0].split("_")[0]] = {
        "cases": names,
        "kernels": [[short(e["name"]), e["args"]["grid"], e["args"]["block"]] for e in events],
    }


def short(name: str) -> str:
    name = re.sub(r"at::native::|\(anonymous namespace\)::|pytorch_flash::|cutlass::|void ", "", name)
    return name[:150]


def profiles() -> None:
    zeros = lambda shape, kind: torch.zeros(shape, dtype=TYPES[kind], device=DEVICE)
    cases = [(length, kind) for length in LENGTHS for kind in TYPES]
    call = lambda length, kind: lambda: torch.softmax(zeros((8, length), kind), -1, dtype=torch.float32)
    launched([f"softmax_{k}_{n}" for n, k in cases], [call(*c) for c in cases], "[sS]oft[mM]ax")
    cases = [(length, rows) for length in VOCABULARIES for rows in (1, 2, 5, 33)]
    call = lambda length, rows: lambda: torch.log_softmax(zeros((rows, length), "f32"), -1)
    launched([f"logsoftmax_{n}_{r}" for n, r in cases], [call(*c) for c in cases], "[sS]oft[mM]ax")
    cases += [(length, rows) for length in WIDTHS for rows in SUM_ROWS]
    call = lambda length, rows: lambda: zeros((rows, length), "f32").sum(-1)
    launched([f"sum_{n}_{r}" for n, r in cases], [call(*c) for c in cases], "reduce_kernel")
    cases = [(h, kv, w, 1, n, b) for h, kv, w in HEADS for n in KEYS for b in (1, 2, 8)]
    cases += [(h, kv, w, n, n, 1) for h, kv, w in PREFILL_HEADS for n in PREFILLS]

    def flash(heads, kv, width, queries, keys, batch):
        q, k = zeros((batch, heads, queries, width), "bf16"), zeros((batch, kv, keys, width), "bf16")
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            return torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=queries > 1, enable_gqa=True)

    launched(["flash_" + "_".join(map(str, c)) for c in cases], [lambda c=c: flash(*c) for c in cases], "flash_fwd")


for part in (softmaxes, log_softmaxes, sums, flashes, logarithms) + (() if SMALL else (profiles,)):
    part()
    print(part.__name__, round(time.time() - began, 1), "s", flush=True)
    versions = [torch.__version__, torch.version.cuda, "" if SMALL else torch.cuda.get_device_name()]
    with open(os.path.join(out, "long_rows.json"), "w") as file:
        json.dump({"versions": versions, "digests": digests_of, "rows": notes, "kernels": kernels}, file, indent=0)
    numpy.savez_compressed(os.path.join(out, "long_rows.npz"), **arrays)
