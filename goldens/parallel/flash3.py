"""vLLM's FlashAttention 3 on a GPU, called as vLLM 0.24.0 calls it: outputs, and into how many parts keys were cut.

    python flash3.py _vllm_fa3_C.abi3.so DIRECTORY

Writes flash3.json: for every case its requests (queries, keys), the parts of each by the kernel's own scheduler, and
digests of rows `[token, head, digest]`; and lg2.npy, `lg2.approx.ftz` of 1 − k / 2^24 for k from 1 to 65,536, as bits.
Inputs are hashed from their place (../gpu/inputs.py): queries `[tokens, heads, width]` with spread 4, a paged cache
`[pages, 16, kv_heads, width]` with spread 2, requests one after the other, each from a page of its own on. A digest is
as in ../gpu/long_rows.py. The library is that of vLLM's wheel and needs PyTorch 2.11.
"""

import json
import os
import sys

import torch
import triton
import triton.language as tl

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "gpu"))
from inputs import TYPES, hashed, mixed

PAGE, DEVICE = 16, "cuda"
SMALL, LLAMA, QWEN = (9, 3, 64), (32, 8, 128), (28, 4, 128)
ALONE = [[(1, keys)] for keys in (1, 54, 193, 769, 1153, 2000, 8000, 20000)]
PROMPTS = [[(n, n)] for n in (8, 20, 38, 130, 512, 600, 641, 1500, 4000)]
MIXED = [[(1, 2000)] * 20, [(1, 50), (1, 5000), (1, 777)], [(1, 1000), (300, 300)], [(1, 3000), (600, 600), (1, 9)]]
CASES = [("bf16", shape, step) for shape in (SMALL, LLAMA, QWEN) for step in ALONE + PROMPTS + MIXED]
CASES += [("f16", SMALL, step) for step in ([(1, 2000)], [(600, 600)])]


def digests(x):
    place = torch.arange(x.shape[-1], device=DEVICE)
    weights = (mixed(place, 1) * (0x9E3779B97F4A7C15 - (1 << 64))) | 1
    bits = x.contiguous().view(torch.int16).long() & 0xFFFF
    return [f"{d & (1 << 64) - 1:016x}" for d in (bits * weights).sum(-1).flatten().tolist()]


def attended(kind, heads, kv_heads, width, requests):
    """Outputs `[tokens, heads, width]` and the parts of each request."""
    ends = [0]
    for queries, _ in requests:
        ends.append(ends[-1] + queries)
    pages = [-(-keys // PAGE) for _, keys in requests]
    table = torch.zeros(len(requests), max(pages), dtype=torch.int32)
    for row, count in enumerate(pages):
        table[row, :count] = sum(pages[:row]) + torch.arange(count)
    q = hashed((ends[-1], heads, width), 3, 4.0, kind, DEVICE)
    k, v = (hashed((sum(pages), PAGE, kv_heads, width), seed, 2.0, kind, DEVICE) for seed in (5, 11))
    words = lambda x: torch.tensor(x, dtype=torch.int32, device=DEVICE)
    most = [max(request[i] for request in requests) for i in (0, 1)]
    used, starts = words([keys for _, keys in requests]), words(ends)
    ops = torch.ops._vllm_fa3_C
    metadata = ops.get_scheduler_metadata(
        len(requests), *most, heads, kv_heads, width, width, TYPES[kind], used, starts, None, None, None, None, PAGE,
        0, True, -1, -1, False, 0, None, 0,
    )  # fmt: skip
    scales = [torch.ones(len(requests), kv_heads, device=DEVICE) for _ in range(3)]
    before = metadata.tolist()
    out = ops.fwd(
        q, k, v, None, None, None, torch.empty_like(q), starts, None, None, None, used, *most, table.to(DEVICE), None,
        None, None, None, None, *scales, width**-0.5, True, -1, -1, 0.0, True, metadata, 0, None, 0, None, 1, 0, None,
    )[0]  # fmt: skip
    # One number for each request (rounded up to four) is its queries; a second, where any may be cut, its parts; causal
    # kernels have another; the last is the count of tiles.
    rounded = -(-len(requests) // 4) * 4
    causal = width != 64 or most[0] > 1
    cut = len(before) - 1 == rounded * (3 if causal else 2)
    return out, before[rounded : rounded + len(requests)] if cut else [1] * len(requests)


@triton.jit
def logarithms(to, count: tl.constexpr):
    place = tl.program_id(0) * 1024 + tl.arange(0, 1024)
    x = 1.0 - (place + 1).to(tl.float32) / 16777216.0
    y = tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    tl.store(to + place, y, mask=place < count)


torch.ops.load_library(sys.argv[1])
found = []
for kind, (heads, kv_heads, width), requests in CASES:
    out, parts = attended(kind, heads, kv_heads, width, requests)
    again, _ = attended(kind, heads, kv_heads, width, requests)
    assert torch.equal(out.view(torch.int16), again.view(torch.int16)), "does not repeat itself"
    tokens, first = [], 0
    for queries, _ in requests:
        places = {0, 1, 20, 63, 64, 127, 128, 129, 300, 512, 599, queries - 1}
        tokens += sorted(first + at for at in places if at < queries)
        first += queries
    rows = [[token, head] for token in tokens for head in range(0, heads, heads // kv_heads - 1)]
    at = torch.tensor(rows, device=DEVICE).T
    of = digests(out[at[0], at[1]])
    found.append({"type": kind, "heads": heads, "kv_heads": kv_heads, "width": width, "requests": requests})
    found[-1] |= {"parts": parts, "rows": [[*row, digest] for row, digest in zip(rows, of)]}
    print(kind, heads, kv_heads, width, requests[:3], parts[:3], flush=True)
y = torch.empty(65536, device=DEVICE)
logarithms[(64,)](y, 65536)
import numpy

numpy.save(f"{sys.argv[2]}/lg2.npy", y.view(torch.int32).cpu().numpy())
made = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "vllm": "0.24.0", "cases": found}
with open(f"{sys.argv[2]}/flash3.json", "w") as file:
    json.dump(made, file, separators=(",", ":"))
