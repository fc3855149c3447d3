"""The order of sums in decode attention's products, and the data to check it with.

    python decode_attention.py DIRECTORY

A sum of ones in which element i is 2^60 and element j is -2^60 counts the ones that are added outside the smallest subtree
holding i and j (method: Xie et al., FPRev, arXiv 2411.00442). For each shape the table `tree_<shape>[i, j]` holds that count, for
the rows i given in `rows_<shape>`. `data_<shape>_*` are random products of the same shape, raw bf16 bits, and kernels are named
in kernels.txt. Also a softmax of more than 1,024 columns, and inverse frequencies of rotary embeddings.
"""

import os
import sys

import numpy
import torch
from torch.profiler import ProfilerActivity, profile

BIG = 2.0**30
out = sys.argv[1]
arrays: dict[str, numpy.ndarray] = {}
names: list[str] = []


def raw(t):
    return t.contiguous().view(torch.int16 if t.dtype == torch.bfloat16 else torch.int32).cpu().numpy()


def kernels(call):
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return [e.name[:420] for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]


def scores_tree(heads, n, dim):
    """q · kᵀ: the sum runs over `dim`."""
    pairs = [(i, j) for i in range(dim) for j in range(dim) if i != j]
    table = torch.zeros(dim, dim)
    q = torch.ones(heads, 1, dim, device="cuda", dtype=torch.bfloat16)
    for at in range(0, len(pairs), heads * n):
        part = torch.tensor(pairs[at : at + heads * n])
        k = torch.ones(heads * n, dim)
        rows = torch.arange(len(part))
        k[rows, part[:, 0]], k[rows, part[:, 1]] = BIG, -BIG
        k = k.view(heads, n, dim).to("cuda", torch.bfloat16)
        found = torch.matmul(q, k.transpose(1, 2)).float().cpu().view(-1)
        table[part[:, 0], part[:, 1]] = found[: len(part)]
    arrays[f"tree_scores_{heads}_{n}_{dim}"] = table.numpy().astype(numpy.int16)
    names.append(f"scores {heads} {n} {dim}: {kernels(lambda: torch.matmul(q, k.transpose(1, 2)))}")


def values_tree(heads, n, dim):
    """p · v: the sum runs over `n`."""
    chosen = sorted({i for i in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, n // 2, n - 2, n - 1] if i < n})
    pairs = torch.tensor([(i, j) for i in chosen for j in range(n) if i != j])
    table = torch.zeros(len(chosen), n)
    place = {i: r for r, i in enumerate(chosen)}
    p = torch.ones(heads, 1, n, device="cuda", dtype=torch.bfloat16)
    size = heads * dim
    for first in range(0, n, 128):
        for at in range(0, len(pairs), size):
            part = pairs[at : at + size].cuda()
            v = torch.zeros(size, n, device="cuda")
            v[:, first : first + 128] = 1.0
            rows = torch.arange(len(part), device="cuda")
            v[rows, part[:, 0]], v[rows, part[:, 1]] = BIG, -BIG
            v = v.view(heads, dim, n).transpose(1, 2).contiguous().to(torch.bfloat16)
            found = torch.matmul(p, v).float().cpu().view(-1)[: len(part)]
            where = torch.tensor([place[i] for i in part[:, 0].tolist()])
            table[where, part[:, 1].cpu()] += found
    arrays[f"rows_values_{heads}_{n}_{dim}"] = numpy.array(chosen)
    arrays[f"tree_values_{heads}_{n}_{dim}"] = table.numpy().astype(numpy.int16)
    names.append(f"values {heads} {n} {dim}: {kernels(lambda: torch.matmul(p, v))}")


def data(heads, n, dim, keep=3):
    g = torch.Generator(device="cuda").manual_seed(heads * 1000003 + n * 131 + dim)
    q = torch.randn(heads, 1, dim, device="cuda", generator=g).to(torch.bfloat16)
    k = torch.randn(heads, n, dim, device="cuda", generator=g).to(torch.bfloat16)
    v = torch.randn(heads, n, dim, device="cuda", generator=g).to(torch.bfloat16)
    s = torch.matmul(q, k.transpose(1, 2))
    p = torch.softmax((s * dim**-0.5).float(), -1).to(torch.bfloat16)
    o = torch.matmul(p, v)
    for name, t in (("q", q), ("k", k), ("v", v), ("s", s), ("p", p), ("o", o)):
        arrays[f"data_{heads}_{n}_{dim}_{name}"] = raw(t[:keep])


for heads, dim in ((9, 64), (18, 64), (153, 64), (28, 128)):
    for n in (41, 130, 300, 1100):
        scores_tree(heads, n, dim)
        if heads != 153 or n < 1100:
            values_tree(heads, n, dim)
        data(heads, n, dim, keep=2 if n < 1100 else 1)
x = torch.randn(6, 1500, device="cuda", generator=torch.Generator(device="cuda").manual_seed(1)) * 4
arrays["softmax_x"], arrays["softmax_y"] = raw(x), raw(torch.softmax(x, -1))
x = torch.randn(6, 2048, device="cuda", generator=torch.Generator(device="cuda").manual_seed(2)) * 4
arrays["softmax_x2048"], arrays["softmax_y2048"] = raw(x), raw(torch.softmax(x, -1))
names.append(f"softmax 1500: {kernels(lambda: torch.softmax(x[:, :1500].contiguous(), -1))}")
names.append(f"softmax 2048: {kernels(lambda: torch.softmax(x, -1))}")
for base in (10000.0, 100000.0, 500000.0, 1000000.0):
    for dim in (64, 128):
        arrays[f"inverse_{int(base)}_{dim}"] = raw(1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.int64).float() / dim)))
numpy.savez_compressed(os.path.join(out, "decode_attention.npz"), **arrays)
open(os.path.join(out, "kernels.txt"), "w").write("\n".join(names))
print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())
