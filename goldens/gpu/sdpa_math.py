"""Raw binary32 sums of the two products of PyTorch's math backend, whose outputs in bf16 hide their order.

    python sdpa_math.py DIRECTORY

The backend widens queries, keys and values to binary32, repeats the heads and calls matmul twice. Here matmul is given one operand
of ones and one that is hard to sum (pairs that cancel, and small numbers), so that an output is the sum of numbers in the
kernel's order. Writes sdpa_math.npz: for every (heads, dim, keys, phase) the sums of the first head, `scores_…` (first and last query,
all keys) and `values_…` (first and last query, all columns); and sdpa_math.txt: kernels by name. `hard` makes the operands again.
"""

import os
import sys

import numpy


def hard(seed, rows, length):
    """`rows × length` binary32: two of three elements in pairs of 2^17 to 2^24 that cancel, at random places, the others about 1."""
    random = numpy.random.Generator(numpy.random.PCG64(seed))
    bits = random.integers(0, 1 << 32, (rows, length), dtype=numpy.uint32)
    exponents = random.integers(0, 8, (rows, length), dtype=numpy.uint32)
    order = numpy.argsort(random.integers(0, 1 << 62, (rows, length)), axis=1, kind="stable")
    pairs = length // 3
    out = (bits & numpy.uint32(0x807FFFFF)) | (numpy.uint32(125) + exponents % numpy.uint32(3)) << numpy.uint32(23)
    large = (bits & numpy.uint32(0x807FFFFF)) | (numpy.uint32(144) + exponents) << numpy.uint32(23)
    for row in range(rows):
        first, second = order[row, :pairs], order[row, pairs : 2 * pairs]
        out[row, first] = large[row, first]
        out[row, second] = large[row, first] ^ numpy.uint32(0x80000000)
    return out.view(numpy.float32)


def main():
    import torch
    from torch.profiler import ProfilerActivity, profile

    directory = sys.argv[1]
    raw = lambda t: t.contiguous().view(torch.int32).cpu().numpy()
    cases = [(9, 64, n, "decode") for n in [*range(2, 600), 1023, 1024, 1025, 1100, 2000, 2047]]
    cases += [(heads, 64, n, "decode") for heads in (18, 36, 45, 72, 81, 144, 153) for n in [*range(2, 70), *range(505, 545), 1100, 2000]]
    cases += [(heads, 128, n, "decode") for heads in (16, 28, 32, 56) for n in [*range(2, 70), *range(505, 545), 1100, 2000]]
    cases += [(heads, 64, n, "prefill") for heads in (9, 18, 72, 153) for n in [*range(2, 66), 130, 200, 300, *range(505, 520), 1000, 2047, 2048]]
    cases += [(28, 128, n, "prefill") for n in [*range(2, 66), 130, 200, 300, *range(505, 520), 1000]]
    keys_of = {dim: torch.tensor(hard(dim, 251, dim)).cuda() for dim in (64, 128)}
    arrays, notes = {}, []
    for heads, dim, n, phase in cases:
        queries = n if phase == "prefill" else 1
        k = keys_of[dim][torch.arange(n, device="cuda") % 251].expand(1, heads, n, dim).contiguous()
        v = torch.tensor(hard(100_000 + n, dim, n)).cuda().T.expand(1, heads, n, dim).contiguous()
        q, p = torch.ones(1, heads, queries, dim, device="cuda"), torch.ones(1, heads, queries, n, device="cuda")
        name = f"{heads}_{dim}_{n}_{phase}"
        run = lambda: (torch.matmul(q, k.transpose(-2, -1)), torch.matmul(p, v))
        scores, values = run()
        arrays[f"scores_{name}"] = raw(scores[0, 0, [0, -1]] if queries > 1 else scores[0, 0])
        arrays[f"values_{name}"] = raw(values[0, 0, [0, -1]] if queries > 1 else values[0, 0])
        if n in (2, 40, 64, 512, 1100, 2000, 2048):
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                run()
                torch.cuda.synchronize()
            notes.append(f"{name}: {[e.name[:200] for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]}")
        del q, p, k, v, scores, values
    numpy.savez_compressed(os.path.join(directory, "sdpa_math.npz"), **arrays)
    open(os.path.join(directory, "sdpa_math.txt"), "w").write("\n".join(notes))
    print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
