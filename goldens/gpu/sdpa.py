"""What PyTorch's scaled_dot_product_attention computes with each backend forced, and which kernels it launches.

    python sdpa.py DIRECTORY

Writes sdpa.npz: for every case queries, keys, values and the output of each backend, of the first key/value head of the first sequence,
as raw bits (bf16; binary32 for the logarithms of flash attention's sums), and sdpa.txt: kernels by name, and whether repeating a call gave the same bits.
"""

import os
import sys

import numpy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

out = sys.argv[1]
arrays, notes = {}, []


def raw(t):
    return t.contiguous().view(torch.int16 if t.dtype == torch.bfloat16 else torch.int32).cpu().numpy()


def kernels(call):
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return [e.name[:260] for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]


cases = [(1, 9, 3, 64, n, n) for n in (40, 130, 300, 515)] + [(2, 28, 4, 128, n, n) for n in (41, 200)] + [(1, 28, 4, 128, 330, 330)]
cases += [(1, 9, 3, 64, 1, n) for n in (41, 130, 300, 515, 1100, 2000)] + [(2, 28, 4, 128, 1, n) for n in (41, 200, 515)] + [(8, 9, 3, 64, 1, n) for n in (65, 515)]
for batch, heads, kv, dim, queries, keys in cases:
    g = torch.Generator(device="cuda").manual_seed(heads * 1000003 + keys * 131 + dim + queries)
    make = lambda h, n: (torch.randn(batch, n, h, dim, device="cuda", generator=g) * 1.5).to(torch.bfloat16).transpose(1, 2)
    q, k, v = make(heads, queries), make(kv, keys).contiguous(), make(kv, keys).contiguous()
    name = f"{batch}_{heads}_{kv}_{dim}_{queries}_{keys}"
    for label, t in (("q", q), ("k", k), ("v", v)):
        arrays[f"{name}_{label}"] = raw(t[:1, : heads // kv] if label == "q" else t[:1, :1])
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH, SDPBackend.CUDNN_ATTENTION):
        call = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=queries > 1, enable_gqa=True)
        try:
            with sdpa_kernel([backend]):
                found = [call() for _ in range(8)]
                same = sum(bool((x == found[0]).all()) for x in found)
                arrays[f"{name}_{backend.name}"] = raw(found[0][:1, : heads // kv])
                notes.append(f"{name} {backend.name}: {same} of 8 equal; {kernels(call)}")
        except RuntimeError as error:
            notes.append(f"{name} {backend.name}: {str(error)[:200]}")
    expanded = [t.repeat_interleave(heads // kv, 1) for t in (k, v)]
    flash = torch.ops.aten._scaled_dot_product_flash_attention(q, *expanded, 0.0, queries > 1, False)
    arrays[f"{name}_lse"] = raw(flash[1][:1, : heads // kv])
numpy.savez_compressed(os.path.join(out, "sdpa.npz"), **arrays)
open(os.path.join(out, "sdpa.txt"), "w").write("\n".join(notes))
print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())
