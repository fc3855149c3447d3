"""What a GPU makes of products, attention and activations of f16: the facts that f16 on GPU targets rests on.

    python f16.py DIRECTORY

Writes f16.npz (raw bits) and f16.json (kernels by name, in order of their launch). Needs PyTorch alone; under a
minute, a few MB.

Operands of products come from `bits`, a function of seed, row and place, so that f16_check.py makes them again
without a file. Of a product with a weight (`w.<N>_<K>_<kind>[_bias].<mode>`) the file has, for each M of ROWS, rows
0 and M - 1, and of those the first and last sixteen columns. Modes: `linear` as transformers calls it; `exact`, the
same with allow_fp16_reduced_precision_reduction = False; `f32`, the same product left in binary32. Whether parts of
a sum are kept in f16 is told by `linear` and by the name of the kernel that adds them. Of attention's batched
products (`b.<scores|values>.<heads>_<queries>_<dim>_<keys>`) it has the first query of the first head. Attention
(`s.<case>_<name>`) is as sdpa.py has it, of f16; activations (`f.<name>`) are over all 65,536 patterns."""

import json
import os
import sys

import numpy

KINDS = {
    # Pairs of 2^8 to 2^15 that cancel beside numbers of 2^-11 to 2^-9; the other operand is ones.
    "hard": None,
    # Exponents of x, of w: what a model has; what only subnormals have; sums beyond binary16; products below it.
    "plain": ((-3, 0), (-7, -2)),
    "subnormal": ((0, 4), (-15, -15)),
    "large": ((2, 5), (4, 8)),
    "tiny": ((-15, -13), (-15, -13)),
}
SPLIT = [
    (512, 3584),
    (1024, 3072),
    (1024, 4096),
    (2048, 4096),
    (2048, 8192),
    (3584, 3584),
    (3584, 18944),
    (4096, 4096),
    (4096, 14336),
]
WHOLE = [(576, 576), (1536, 576), (2048, 2048)]
BIASED = [(512, 3584), (3584, 3584)]
ROWS = [1, 2, 4, 5, 8, 9, 16, 17, 32, 48, 64, 100, 128, 256, 512]
HEADS = [(9, 64), (28, 128), (32, 64), (64, 128)]
KEYS = [16, 41, 64, 100, 130, 200, 333, 512, 1024, 1500]
COLUMNS = 16


def mixed(numbers):
    """splitmix64's finalizer, on uint64."""
    with numpy.errstate(over="ignore"):
        z = numpy.asarray(numbers, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return z ^ (z >> numpy.uint64(31))


def draws(seed, row, length):
    return mixed(numpy.arange(length, dtype=numpy.uint64) + numpy.uint64((seed * 1_000_003 + row + 1) << 24))


def numbers(draws, lowest, largest):
    """Patterns with any sign and fraction and an exponent of the range; 2^-15 means subnormal."""
    exponent = (draws >> numpy.uint64(16)) % numpy.uint64(largest - lowest + 1) + numpy.uint64(lowest + 15)
    return ((draws & numpy.uint64(0x83FF)) | exponent << numpy.uint64(10)).astype(numpy.uint16)


def hard(seed, row, length):
    """A row that is hard to sum."""
    found = draws(seed, row, length)
    order = numpy.argsort(mixed(found), kind="stable")
    bits = numbers(found, -11, -9)
    pairs = length // 3 * 2 // 2
    first, second = order[: 2 * pairs : 2], order[1 : 2 * pairs : 2]
    bits[first] = numbers(found[first], 8, 15)
    bits[second] = bits[first] ^ 0x8000
    return bits


def operand(kind, of, seed, row, length):
    """A row of x (of = 0) or w (of = 1)."""
    if kind == "hard":
        return hard(seed, row, length) if of else numpy.full(length, 0x3C00, numpy.uint16)
    return numbers(draws(seed + 7 * of, row, length), *KINDS[kind][of])


def columns(width):
    return [*range(COLUMNS), *range(width - COLUMNS, width)]


def main(out):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.profiler import ProfilerActivity, profile

    f16, cuda = torch.float16, "cuda"
    arrays, kernels = {}, {}
    raw = lambda t: t.contiguous().view(torch.int16 if t.dtype == f16 else torch.int32).cpu().numpy()
    there = lambda bits: torch.from_numpy(bits.view(numpy.int16)).to(cuda).view(f16)

    def launched(call):
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            found = call()
            torch.cuda.synchronize()
        events = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        return found, [e.name[:240] for e in sorted(events, key=lambda e: e.time_range.start)]

    matmul = torch.backends.cuda.matmul
    assert matmul.allow_fp16_reduced_precision_reduction and not matmul.allow_fp16_accumulation

    def linear(n, k, kind, bias=False):
        name, seed, few = f"{n}_{k}_{kind}" + ("_bias" if bias else ""), n * 31 + k, columns(n)
        w = torch.zeros(n, k, dtype=f16, device=cuda)
        w[few] = there(numpy.stack([operand(kind, 1, seed, column, k) for column in few]))
        x = torch.zeros(max(ROWS), k, dtype=f16, device=cuda)
        for m in ROWS:
            x[m - 1] = there(operand(kind, 0, seed, m - 1, k))
        added = there(operand("plain", 1, seed, n, n)) if bias else None
        modes = {"linear": lambda m: torch.nn.functional.linear(x[:m], w, added)}
        modes["exact"] = modes["linear"]
        if not bias:
            modes["f32"] = lambda m: torch.mm(x[:m], w.t(), out_dtype=torch.float32)
        for mode, call in modes.items():
            matmul.allow_fp16_reduced_precision_reduction = mode != "exact"
            run = lambda: [call(m) for m in ROWS]
            try:
                ys, names = launched(run) if kind == "hard" else (run(), None)
            except (RuntimeError, TypeError) as error:
                kernels[f"w.{name}.{mode}"] = str(error)[:300]
                continue
            finally:
                matmul.allow_fp16_reduced_precision_reduction = True
            if names:
                kernels[f"w.{name}.{mode}"] = names
            arrays[f"w.{name}.{mode}"] = numpy.stack([raw(y[[0, m - 1]][:, few]) for m, y in zip(ROWS, ys)])

    for n, k in SPLIT + WHOLE:
        for kind in KINDS:
            linear(n, k, kind)
    for n, k in BIASED:
        for kind in ("hard", "plain", "large"):
            linear(n, k, kind, True)

    def batched(k, v, queries):
        ones = lambda width: torch.ones(1, k.shape[1], queries, width, dtype=k.dtype, device=cuda)
        q, p = ones(k.shape[3]), ones(k.shape[2])
        torch.cuda.synchronize()
        return launched(lambda: {"scores": torch.matmul(q, k.transpose(2, 3)), "values": torch.matmul(p, v)})

    for heads, dim in HEADS:
        for keys in KEYS:
            seed = heads * 31 + dim + keys
            k = there(numpy.stack([hard(seed, key, dim) for key in range(keys)]))
            v = there(numpy.stack([hard(seed + 1, column, keys) for column in range(dim)])).t()
            k, v = (t.expand(1, heads, keys, dim).contiguous() for t in (k, v))
            for queries in (1, keys) if heads * keys * keys < 64 << 20 else (1,):
                for dtype in (f16, torch.bfloat16):
                    found, kernels[f"b.{heads}_{queries}_{dim}_{keys}.{str(dtype)[6:]}"] = batched(
                        k.to(dtype), v.to(dtype), queries
                    )
                    if dtype == f16:
                        for product, y in found.items():
                            arrays[f"b.{product}.{heads}_{queries}_{dim}_{keys}"] = raw(y[0, 0, 0])

    cases = [(1, 9, 3, 64, n, n, scale) for n, scale in ((130, 1.5), (300, 1.5), (200, 4.0))]
    cases += [
        (1, 9, 3, 64, 1, 41, 1.5),
        (2, 28, 4, 128, 1, 200, 1.5),
        (8, 9, 3, 64, 1, 65, 1.5),
        (1, 9, 3, 64, 1, 1100, 1.5),
        (2, 28, 4, 128, 130, 130, 1.5),
    ]
    for batch, heads, kv, dim, queries, keys, scale in cases:
        g = torch.Generator(device=cuda).manual_seed(heads * 1000003 + keys * 131 + dim + queries)
        make = lambda h, n: (torch.randn(batch, n, h, dim, device=cuda, generator=g) * scale).to(f16).transpose(1, 2)
        q, k, v = make(heads, queries), make(kv, keys).contiguous(), make(kv, keys).contiguous()
        name = f"s.{batch}_{heads}_{kv}_{dim}_{queries}_{keys}"
        for label, t in (("q", q), ("k", k), ("v", v)):
            arrays[f"{name}_{label}"] = raw(t[:1, : heads // kv] if label == "q" else t[:1, :1])
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
            call = lambda: torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=queries > 1, enable_gqa=True
            )
            with sdpa_kernel([backend]):
                found, kernels[f"{name}.{backend.name}"] = launched(call)
            arrays[f"{name}_{backend.name}"] = raw(found[:1, : heads // kv])

    every = there(numpy.arange(1 << 16, dtype=numpy.uint32).astype(numpy.uint16))
    functions = {
        "silu": torch.nn.functional.silu,
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "tanh": torch.tanh,
        "from_f32": lambda x: (x.float() * 1.0009765625 * 0.7071067690849304).to(f16),
    }
    for name, function in functions.items():
        arrays[f"f.{name}"] = raw(function(every))

    # Experts: whether torch's grouped product of f16 is a loop over products of one expert each.
    tokens, width, inner, experts = 37, 256, 512, 6
    x = there(numpy.stack([operand("plain", 0, 5, row, width) for row in range(tokens)]))
    w = there(numpy.stack([operand("plain", 1, 5, row, width) for row in range(experts * inner)])).view(
        experts, inner, width
    )
    ends = [9, 9, 10, 26, 30, 37]
    offsets = torch.tensor(ends, dtype=torch.int32, device=cuda)
    try:
        found, kernels["experts.grouped_mm"] = launched(lambda: torch._grouped_mm(x, w.transpose(-2, -1), offs=offsets))
        loop = lambda: torch.cat([x[a:b] @ w[e].t() for e, (a, b) in enumerate(zip([0, *ends], ends))])
        one_by_one, kernels["experts.loop"] = launched(loop)
        kernels["experts.equal"] = bool((found.view(torch.int16) == one_by_one.view(torch.int16)).all())
    except RuntimeError as error:
        kernels["experts.grouped_mm"] = str(error)[:300]

    numpy.savez_compressed(os.path.join(out, "f16.npz"), **arrays)
    about = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": torch.cuda.get_device_name(), "rows": ROWS}
    with open(os.path.join(out, "f16.json"), "w") as file:
        json.dump({"about": about, "kernels": kernels}, file, indent=1)
    print(about, len(arrays), "arrays")


if __name__ == "__main__":
    main(sys.argv[1])
