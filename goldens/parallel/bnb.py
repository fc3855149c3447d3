"""bitsandbytes' product with nf4 weights on a GPU, called as its `Linear4bit` calls it: outputs, and which kernels ran.

    PYTHONPATH=FOLDER_OF_BITSANDBYTES python bnb.py DIRECTORY [cpu]

Writes bnb.json. `cases`: for every shape, blocksize, bias and kind of scales the rows of some M, as
`[row, digest over COLUMNS]`; `weights`: the same of rows of the weight that `dequantize_4bit` decodes. `paths`: for
every weight runs `[first M, kernel]` of M from 1 to 1,600 (not every M: `TRIED`), by the profiler's names of kernels.
Inputs are hashed from their place (../gpu/inputs.py): rows `[M, K]` with seed 3 and spread 4 in bf16, a bias with seed
7 and spread 2 in bf16; bytes of a weight are the low bits of places hashed with seed 11, scales (1 + (20 low bits) /
2^20) / 64 with seed 13, and nested ones bytes of seed 17, times scales of seed 19 in the same way, plus OFFSET. A
digest is as in ../gpu/long_rows.py. `cpu` tries the script without a GPU.
"""

import json
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "gpu"))
from inputs import hashed, mixed

import bitsandbytes as bnb
from bitsandbytes import functional

DEVICE = "cpu" if sys.argv[2:] == ["cpu"] else "cuda"
OFFSET = 0.03125 + 2.0**-22
FEW = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 32, 33, 48, 64, 128, 333]
# Weights `[N, K]` and the M of which rows are kept.
WEIGHTS = {
    (1024, 1024): FEW,
    (2048, 1024): FEW,
    (3072, 1024): [*FEW, 320, 321, 512],
    (1024, 3072): FEW,
    (2048, 2048): FEW,
    (512, 2048): [*FEW, 512, 513],
    (8192, 2048): FEW,
    (2048, 8192): FEW,
    (3584, 3584): [1, 4, 5, 6, 8, 16, 32, 333],
    (18944, 3584): [1, 4, 5, 8, 16, 32, 33, 48, 64, 65, 333],
    (3584, 18944): [1, 4, 5, 6, 8, 16, 64],
    (576, 576): [1, 4, 9, 32, 33, 333],
    (576, 1536): [1, 4, 9, 32, 33, 333],
    (192, 576): [1, 9, 32, 333],
}
# Other blocks of scales, K that 128 does not divide or that 64 does not, N that 64 does not, and a bias.
ODD = [
    ((1024, 1024), 32, False), ((1024, 1024), 128, False), ((1024, 1024), 256, True), ((1000, 1024), 64, True),
    ((3072, 1024), 64, True), ((1536, 320), 64, True), ((2048, 96), 32, False), ((2048, 32), 32, True),
    ((8192, 2048), 32, False), ((8200, 1984), 64, True), ((640, 1100), 64, False),
]  # fmt: skip
ODD_ROWS = [1, 3, 4, 8, 9, 16, 17, 32, 33, 100]
TRIED = [*range(1, 70), 96, 97, 128, 129, 192, 193, 256, 257, 320, 321, 384, 385, 512, 513, 1024, 1536, 1537, 1600]


def digests(x):
    place = torch.arange(x.shape[-1], device=DEVICE)
    weights = (mixed(place, 1) * (0x9E3779B97F4A7C15 - (1 << 64))) | 1
    bits = x.contiguous().view(torch.int16).long() & 0xFFFF
    return [f"{d & (1 << 64) - 1:016x}" for d in (bits * weights).sum(-1).flatten().tolist()]


def columns(n):
    """Sixteen from the first, sixteen to the last, and as many evenly between."""
    return sorted({*range(16), *range(n - 16, n), *(16 + i * (n - 32) // 16 for i in range(16))})


def places(count, seed):
    return mixed(torch.arange(count, device=DEVICE), seed)


def scales(count, seed):
    return (1.0 + (places(count, seed) & 0xFFFFF).float() / (1 << 20)) / 64


def weight(n, k, block, nested):
    """Bytes and the state that Linear4bit has."""
    packed = (places((n * k + 1) // 2, 11) & 0xFF).to(torch.uint8).view(-1, 1)
    blocks = -(-n * k // block)
    more = {"shape": torch.Size((n, k)), "blocksize": block, "quant_type": "nf4", "dtype": torch.bfloat16}
    more["code"] = functional.get_4bit_type("nf4", device=DEVICE)
    if not nested:
        return packed, functional.QuantState(absmax=scales(blocks, 13), **more)
    code = functional.create_dynamic_map().to(DEVICE)
    state2 = functional.QuantState(absmax=scales(-(-blocks // 256), 19), code=code, blocksize=256, dtype=torch.float32)
    absmax = (places(blocks, 17) & 0xFF).to(torch.uint8)
    offset = torch.tensor(OFFSET, dtype=torch.float32, device=DEVICE)
    return packed, functional.QuantState(absmax=absmax, offset=offset, state2=state2, **more)


@torch.no_grad()
def kept(n, k, block, nested, biased, counts):
    packed, state = weight(n, k, block, nested)
    bias = hashed((n,), 7, 2.0, "bf16", DEVICE) if biased else None
    at, rows = torch.tensor(columns(n), device=DEVICE), []
    for m in counts:
        x = hashed((m, k), 3, 4.0, "bf16", DEVICE)
        out = bnb.matmul_4bit(x, packed, state, bias=bias)
        again = bnb.matmul_4bit(x, packed, state, bias=bias)
        assert torch.equal(out.view(torch.int16), again.view(torch.int16)), "does not repeat itself"
        of = sorted({0, m // 2, m - 1})
        rows.append([m, list(zip(of, digests(out[of][:, at])))])
    decoded = functional.dequantize_4bit(packed, state)
    of = [0, n // 2, n - 1]
    case = {"n": n, "k": k, "block": block, "nested": nested, "bias": biased, "rows": rows}
    return case | {"weights": list(zip(of, digests(decoded[of])))}


def short(name):
    """Which of the three a kernel is."""
    found = [word for word in ("gemm_4bit_simt", "gemm_4bit_sm80", "kDequantizeBlockwise") if word in name]
    return found[0] if found else None


@torch.no_grad()
def chosen(n, k, block):
    """Runs `[first M, kernel]` over TRIED."""
    from torch.profiler import ProfilerActivity, profile

    packed, state = weight(n, k, block, False)
    inputs = [torch.zeros(m, k, dtype=torch.bfloat16, device=DEVICE) for m in TRIED]
    bnb.matmul_4bit(inputs[0], packed, state)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for x in inputs:
            bnb.matmul_4bit(x, packed, state)
        torch.cuda.synchronize()
    events = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA and short(e.name)]
    names = [short(e.name) for e in sorted(events, key=lambda e: e.time_range.start)]
    if len(names) != len(TRIED):
        return f"{len(names)} kernels of {len(TRIED)}"
    runs = []
    for m, name in zip(TRIED, names):
        if not runs or runs[-1][1] != name:
            runs.append([m, name])
    return runs


def main():
    made = {"bitsandbytes": bnb.__version__, "torch": torch.__version__, "tried": TRIED, "cases": [], "paths": []}
    if DEVICE == "cuda":
        properties = torch.cuda.get_device_properties(0)
        made |= {"gpu": torch.cuda.get_device_name(), "multiprocessors": properties.multi_processor_count}
    cases = [(*shape, 64, nested, False, counts) for nested in (False, True) for shape, counts in WEIGHTS.items()]
    cases += [(*shape, block, nested, bias, ODD_ROWS) for nested in (False, True) for shape, block, bias in ODD]
    if DEVICE == "cpu":
        cases = [case for case in cases if case[0] * case[1] < 1 << 20]
    for case in cases:
        made["cases"].append(kept(*case))
        print(*case[:5], flush=True)
    if DEVICE == "cuda":
        more = [(4096, 4096), (14336, 4096), (4096, 14336), (1024, 4096), (37888, 3584), (4608, 3584), (28672, 4096)]
        more += [(6144, 4096), (5120, 5120), (6400, 1600), (2304, 2304), (9728, 2560), (2560, 9728), (2048, 96)]
        for n, k in dict.fromkeys([*WEIGHTS, *(shape for shape, *_ in ODD), *more]):
            block = 32 if k % 64 else 64
            runs = chosen(n, k, block)
            made["paths"].append({"n": n, "k": k, "block": block, "runs": runs})
            print(n, k, runs if isinstance(runs, str) else len(runs), flush=True)
            with open(f"{sys.argv[1]}/bnb.json", "w") as file:
                json.dump(made, file, separators=(",", ":"))
    with open(f"{sys.argv[1]}/bnb.json", "w") as file:
        json.dump(made, file, separators=(",", ":"))


main()
