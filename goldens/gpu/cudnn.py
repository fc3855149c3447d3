"""What PyTorch's scaled_dot_product_attention computes when it is left alone, as transformers calls it (cuDNN on a
Hopper GPU): outputs, every result that repetitions gave, and which kernels ran.

    python cudnn.py DIRECTORY [--repetitions 64] [--some 1] [--random 0 --seed 1 --rush 0] [--centred] [--map 60]

Writes cudnn.npz and cudnn.json. Inputs are `hashed` (inputs.py), so a CPU makes them again: queries with the seed
`case`, keys `case + 1`, values `case + 2`, laid out as transformers does (queries `[sequence, token, head]`, keys and
values as the cache has them). cudnn.json has for each case its seed, shape, kernels and how many results it gave;
cudnn.npz the raw bits of each result of the heads of the first KV head of the first sequence (`NAME_0`, `NAME_1`, …:
in order of first appearance), of prefill only the rows in `rows`. `NAME_last` are the heads of the last KV head of the
last sequence. `lse` is the same call that also returns logarithms of sums; where its output is another it says so
(`same with lse`), and `kernels with lse` are those that it launches.

Repetitions wait for one another. `rushed` says how many of so many calls that do not wait gave the result of the first
of them; `rushed differ` lists those that did not (call, sequence, head), and `NAME_rushed` has that head's outputs of
the first call and of this one.

- `--some N` takes every Nth of the fixed decode cases; 5 or 7 go through all lengths.
- `--random N` adds N cases drawn by `--seed`, prefill and decode in turn, of both types. Half of them have a `scale`
  other than the usual and are `paired`: the second half of the keys are those of the first, and its values their
  negatives (a last odd value is 0), so that over all keys only what was rounded away is left, which shows every step's
  place. Of a decode with at most 2^17 outputs `NAME_all` are all. `--rush M` calls each M times more without waiting.
- `--centred` adds the cases `centred_…`, whose values were shifted so that a row of weights sums them to almost
  nothing (column by column, for one head of the group after the other): what is left shows the roundings of large
  sums. Their values are kept as `NAME_v`.
- `--map SECONDS` lists under `map` which kernels ran with which grids for many shapes of decode: first those where the
  choice changes, then others in an order by lot, until the time is over. All of them take more than 200 s.

Probes (`probe_…`, with `--centred`): all scores 0, so that every weight is 1, and values in which one column after
the other has 2^B at one key and −2^B at another, ones elsewhere. How many ones are lost tells in which order keys are
added."""

import argparse
import collections
import json
import os
import random
import tempfile
import time
from itertools import product

import numpy
import torch
from torch.profiler import ProfilerActivity, profile

from inputs import TYPES, hashed

DEVICE = os.environ.get("CUDNN_DEVICE", "cuda")
# sequences, heads, KV heads, width, queries, type
PREFILLS = [(1, 9, 3, 64, n, "bf16") for n in (2, 17, 64, 65, 128, 129, 130, 256, 300, 515, 1100)]
PREFILLS += [(2, 28, 4, 128, n, "bf16") for n in (41, 200)] + [(1, 28, 4, 128, n, "bf16") for n in (330, 1000, 4097)]
PREFILLS += [(1, 32, 8, 128, 513, "bf16"), (1, 32, 32, 96, 300, "bf16"), (1, 14, 2, 64, 2000, "bf16")]
PREFILLS += [(1, 8, 4, 256, 300, "bf16"), (1, 9, 3, 64, 300, "f16"), (1, 28, 4, 128, 330, "f16")]
PREFILLS += [(3, 16, 8, 128, 150, "bf16"), (1, 9, 3, 64, 10067, "bf16"), (4, 32, 4, 128, 700, "bf16")]
PREFILLS += [(1, 8, 2, 64, 16384, "bf16"), (1, 4, 1, 128, 16384, "f16")]
HEADS = [(9, 3, 64), (28, 4, 128), (32, 8, 128), (14, 2, 64), (32, 4, 128), (32, 32, 96), (8, 4, 256)]
KEYS = [2, 17, 41, 64, 65, 128, 129, 130, 200, 256, 257, 300, 400, 500, 512, 513, 514, 515, 516, 600, 768, 1024, 1100]
KEYS += [2000, 4096, 6030, 10067, 16384]
# Decode where sequences times KV heads are too many for keys to be cut.
WHOLE = [(24, 9, 3, 64), (17, 28, 4, 128), (9, 32, 8, 128), (3, 32, 32, 96), (18, 8, 4, 256), (34, 14, 2, 64)]
OTHERS = [(4, 1, 256), (64, 8, 64), (64, 8, 128), (16, 16, 64), (12, 2, 128), (16, 8, 256), (32, 4, 64), (40, 10, 128)]
MOST_KEPT = 24


def raw(t):
    return t.contiguous().view({2: torch.int16, 4: torch.int32}[t.element_size()]).cpu().numpy()


def kernels(call):
    with profile(activities=[ProfilerActivity.CUDA if DEVICE == "cuda" else ProfilerActivity.CPU]) as seen:
        call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
    return sorted({e.name[:260] for e in seen.events() if DEVICE == "cpu" or e.device_type.name == "CUDA"})


def launches(shapes, seconds):
    """Kernels with their grids that each decode shape (sequences, heads, KV heads, width, keys) launches, as many as
    fit the time: cuDNN plans each shape anew."""
    found, until = [], time.time() + seconds
    for first in range(0, len(shapes), 100):
        if time.time() > until:
            break
        part = shapes[first : first + 100]
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for number, (batch, heads, kv, width, keys) in enumerate(part):
                q = torch.empty(batch, 1, heads, width, dtype=torch.bfloat16, device=DEVICE).transpose(1, 2)
                k = torch.empty(batch, kv, keys, width, dtype=torch.bfloat16, device=DEVICE)
                with torch.profiler.record_function(f"shape {number}"):
                    attention(q, k, k)
                del q, k
            torch.cuda.synchronize()
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            seen.export_chrome_trace(file.name)
            events = json.load(open(file.name))["traceEvents"]
        ran = [(e["ts"], e["name"], e["args"]["grid"]) for e in events if e.get("cat") == "kernel"]
        ran = [(name, grid) for _, name, grid in sorted(ran) if "cudnn" in name or "flash" in name or "fmha" in name]
        found.append({"shapes": part, "kernels": [[name[:110], grid] for name, grid in ran]})
    return found


def attention(q, k, v, scale=None):
    """As transformers 5.17 calls it without a mask."""
    more = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
    more |= {"scale": scale} if scale else {}
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=0.0, is_causal=q.shape[2] > 1, **more)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--repetitions", type=int, default=64)
    parser.add_argument("--some", type=int, default=1, help="every so many cases only")
    parser.add_argument("--random", type=int, default=0, help="cases by lot")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rush", type=int, default=0, help="calls that do not wait, of each case by lot")
    parser.add_argument("--centred", action="store_true", help="cases of cancellation, and probes")
    parser.add_argument("--map", type=float, default=60, help="seconds for the map of kernels")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    arrays, cases, began = {}, {}, time.time()

    def run(name, case, repetitions, rows=None, rush=0):
        q, k, v, group = case.pop("tensors")
        scale = case.get("scale")
        try:
            seen = collections.Counter()
            for _ in range(repetitions):
                whole = attention(q, k, v, scale)
                out, last = (raw(x if rows is None else x[:, rows]) for x in (whole[0, :group], whole[-1, -group:]))
                if not seen and whole.shape[:2] != (1, group):
                    arrays[f"{name}_last"] = last
                if not seen and name.startswith("random") and rows is None and whole.numel() <= 1 << 17:
                    arrays[f"{name}_all"] = raw(whole)
                key = out.tobytes()
                if key not in seen and len(seen) < MOST_KEPT:
                    arrays[f"{name}_{len(seen)}"] = out
                seen[key] += 1
            case["counts"] = list(seen.values())
            if rush and DEVICE == "cuda":
                # The same calls without waiting for one another.
                rush = min(rush, 1 + (8 << 30) // (2 * q.numel()))
                outs = [attention(q, k, v, scale) for _ in range(rush)]
                apart = [(out != outs[0]).any(-1).any(-1).nonzero().tolist() for out in outs]
                case["rushed"] = [sum(not heads for heads in apart), rush]
                heads = [(at, *head) for at, heads in enumerate(apart) for head in heads]
                if heads:
                    case["rushed differ"] = heads[:64]
                    pairs = [torch.stack([outs[0][s, h], outs[at][s, h]]) for at, s, h in heads[:16]]
                    arrays[f"{name}_rushed"] = raw(torch.stack(pairs))
                del outs
            case["kernels"] = kernels(lambda: attention(q, k, v, scale))
        except RuntimeError as error:
            case["error"] = str(error)[:300]
        cases[name] = case

    def made(seed, batch, heads, kv, width, queries, keys, kind):
        q = hashed((batch, queries, heads, width), seed, 3.5, kind, DEVICE).transpose(1, 2)
        k = hashed((batch, kv, keys, width), seed + 1, 3.5, kind, DEVICE)
        v = hashed((batch, kv, keys, width), seed + 2, 2.0, kind, DEVICE)
        return q, k, v, heads // kv

    for at, (batch, heads, kv, width, n, kind) in enumerate(PREFILLS):
        if DEVICE == "cpu" and n > 600:
            continue
        seed = 1000 + 10 * at
        rows = list(range(n)) if n <= 330 else sorted({*range(0, n, 1 + n // 150), *range(n - 4, n)})
        case = {"seed": seed, "shape": [batch, heads, kv, width, n, n], "dtype": kind, "rows": rows}
        case["tensors"] = made(seed, batch, heads, kv, width, n, n, kind)
        q, k, v, group = case["tensors"]
        run(f"prefill_{at}", case, min(16, args.repetitions), torch.tensor(rows, device=DEVICE))
        if DEVICE == "cuda" and "error" not in case and n <= 1100:
            try:
                found = torch.ops.aten._scaled_dot_product_cudnn_attention(
                    q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), None, True, 0.0, True, False
                )
                arrays[f"prefill_{at}_lse"] = raw(found[1][0, :group].float())
                case["same with lse"] = bool((found[0] == attention(q, k, v)).all())
            except RuntimeError as error:
                case["lse error"] = str(error)[:200]
    print(f"{time.time() - began:.0f} s prefill", flush=True)
    at = 0
    for heads, kv, width in HEADS:
        for keys in KEYS:
            for batch in (1, 2, 8) if keys in (41, 200, 515, 1100) else (1,):
                at += 1
                if at % args.some or (DEVICE == "cpu" and keys > 600):
                    continue
                seed = 100000 + 10 * at
                case = {"seed": seed, "shape": [batch, heads, kv, width, 1, keys], "dtype": "bf16"}
                case["tensors"] = made(seed, batch, heads, kv, width, 1, keys, "bf16")
                run(f"decode_{at}", case, args.repetitions, rush=200 if keys > 256 else 16)
    for keys in (130, 300, 600):
        seed = 90000 + 10 * keys
        case = {"seed": seed, "shape": [1, 9, 3, 64, 1, keys], "dtype": "f16"}
        case["tensors"] = made(seed, 1, 9, 3, 64, 1, keys, "f16")
        run(f"decode_f16_{keys}", case, args.repetitions)
    for batch, heads, kv, width in WHOLE:
        for keys in (130, 257, 513, 600, 2000, 10067, 16384):
            at += 1
            if (at % args.some and keys < 16384) or DEVICE == "cpu":
                continue
            seed = 100000 + 10 * at
            case = {"seed": seed, "shape": [batch, heads, kv, width, 1, keys], "dtype": "bf16"}
            case["tensors"] = made(seed, batch, heads, kv, width, 1, keys, "bf16")
            run(f"decode_{at}", case, min(8, args.repetitions), rush=16)
    print(f"{time.time() - began:.0f} s decode", flush=True)
    lot = random.Random(args.seed)
    for at in range(args.random):
        heads, kv, width = lot.choice(HEADS + OTHERS)
        kind, batch = lot.choice(["bf16", "f16"]), 1 + int(64 ** lot.random() - 0.5)
        seed = 7000000 + 100000 * args.seed + 10 * at
        if at % 2:
            n = int(2 * 1000 ** lot.random())
            batch = max(1, min(batch, (1 << 28) // (n * heads * width)))
            rows = torch.tensor(sorted({lot.randrange(n) for _ in range(24)} | {n - 1}), device=DEVICE)
            case = {"seed": seed, "shape": [batch, heads, kv, width, n, n], "dtype": kind, "rows": rows.tolist()}
        else:
            n, rows = lot.choice([lot.randint(2, 32), lot.randint(33, 256), lot.randint(257, 512)]), None
            if lot.random() < 0.25:
                n, batch = lot.randint(513, 4096), -(-68 // kv) + lot.randint(0, 8)
            case = {"seed": seed, "shape": [batch, heads, kv, width, 1, n], "dtype": kind}
        if DEVICE == "cpu" and n > 300:
            continue
        case["tensors"] = q, k, v, group = made(seed, *case["shape"], kind)
        if at // 2 % 2:
            # Beside the usual scales others, as of Gemma.
            case["scale"] = lot.randint(40, 400) ** -0.5
            case["paired"], half = True, n // 2
            k[:, :, half : 2 * half], v[:, :, half : 2 * half] = k[:, :, :half], -v[:, :, :half]
            v[:, :, 2 * half :] = 0
        run(f"random_{args.seed}_{at}", case, min(3, args.repetitions), rows, rush=args.rush)
    print(f"{time.time() - began:.0f} s random", flush=True)
    few = (17, 30, 41, 64, 130, 200, 255, 257, 300, 500, 512)
    probes = [(64, 1, 130), (64, 1, 300), (64, 1, 600), (64, 1, 1100), (128, 1, 300), (128, 1, 600), (128, 1, 2000)]
    probes += [(64, 300, 300), (128, 300, 300)]
    centred = [(1, h, kv, w, 1, n) for h, kv, w in HEADS[:3] for n in few]
    centred += [(1, h, kv, w, 1, n) for h, kv, w in HEADS[:3] for n in (513, 600, 900, 1100, 2000, 4096, 6030)]
    centred += [(1, 8, 4, 256, 1, n) for n in (130, 300, 1100)] + [(1, 32, 32, 96, 1, n) for n in (130, 300, 1100)]
    centred += [(1, 28, 4, 128, n, n) for n in (100, 130, 300, 700)] + [(1, 9, 3, 64, n, n) for n in (130, 700, 2000)]
    for at, (batch, heads, kv, width, queries, keys) in enumerate(centred if args.centred else []):
        if DEVICE == "cpu" and (queries > 1 or keys > 300):
            continue
        seed = 500000 + 10 * at
        q, k, v, group = made(seed, batch, heads, kv, width, queries, keys, "bf16")
        weights = (q[0, :group, -1].double() @ k[0, 0].double().T * width**-0.5).softmax(-1)
        own = (weights @ v[0, 0].double())[torch.arange(width) % group, torch.arange(width)]
        v[0, 0] = (v[0, 0].double() - own).to(v.dtype)
        # What rounding left, from one key's value, of which a unit is small enough: the best of many.
        left = (weights @ v[0, 0].double())[torch.arange(width) % group, torch.arange(width)]
        for column in range(width):
            w, row = weights[column % group], v[0, 0, :, column].double()
            moved = (row - left[column] / w).to(v.dtype).double()
            after = (left[column] + w * (moved - row)).abs()
            best = int(after.argmin())
            if moved[best].abs() < 16:
                v[0, 0, best, column] = moved[best].to(v.dtype)
        name = f"centred_{at}"
        arrays[f"{name}_v"] = raw(v[0, 0])
        rows = None if queries == 1 else torch.tensor([queries - 1], device=DEVICE)
        case = {"seed": seed, "shape": [batch, heads, kv, width, queries, keys], "dtype": "bf16"}
        case["tensors"] = (q, k, v, group)
        if DEVICE == "cuda":
            try:
                wide = (k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))
                both = torch.ops.aten._scaled_dot_product_cudnn_attention(
                    q, *wide, None, True, 0.0, queries > 1, False
                )
                arrays[f"{name}_lse"] = raw(both[1][0, :group, -1].float())
                case["same with lse"] = bool((both[0] == attention(q, k, v)).all())
                case["kernels with lse"] = kernels(
                    lambda: torch.ops.aten._scaled_dot_product_cudnn_attention(  # noqa: B023
                        q, *wide, None, True, 0.0, queries > 1, False  # noqa: B023
                    )
                )
            except RuntimeError as error:
                case["lse error"] = str(error)[:200]
        run(name, case, min(8, args.repetitions), rows)
    print(f"{time.time() - began:.0f} s centred", flush=True)
    # Probes: 8 KV heads of one query head each, a column for each second key.
    for width, queries, keys in probes if args.centred else []:
        heads = -(-keys // width)
        for first in (0, keys // 2):
            for exponent in (25, 40):
                q = torch.zeros(1, queries, heads, width, dtype=TYPES["bf16"], device=DEVICE).transpose(1, 2)
                k = torch.zeros(1, heads, keys, width, dtype=TYPES["bf16"], device=DEVICE)
                v = torch.ones(1, heads, keys, width, dtype=TYPES["bf16"], device=DEVICE)
                v[:, :, first] = 2.0**exponent
                for column in range(heads * width):
                    if column < keys and column != first:
                        v[0, column // width, column, column % width] = -(2.0**exponent)
                name = f"probe_{width}_{queries}_{keys}_{first}_{exponent}"
                try:
                    seen = {}
                    for _ in range(8):
                        out = raw(attention(q, k, v)[0, :, -1])
                        seen.setdefault(out.tobytes(), out)
                    for i, out in enumerate(seen.values()):
                        arrays[f"{name}_{i}"] = out
                    cases[name] = {"results": len(seen), "kernels": kernels(lambda: attention(q, k, v))}  # noqa: B023
                except RuntimeError as error:
                    cases[name] = {"error": str(error)[:300]}
    shapes = []
    if DEVICE == "cuda":
        near = [1, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 192, 255, 256, 257, 384, 511, 512, 513, 640, 767, 768]
        near += [1023, 1024, 2047, 2048, 4096, 8192, 16384, 32768]
        for heads, kv, width in HEADS + OTHERS:
            for batch in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 17, 24, 32, 33, 48, 64):
                shapes += [(batch, heads, kv, width, n) for n in near if batch * kv * n * width < 1 << 28]
        random.Random(1).shuffle(shapes)
        # 132 to 144 query heads of all sequences, and 64 to 72 KV heads.
        edges = [(b, h, kv, w) for b, h, kv, w in product(range(1, 145), (1, 7, 9, 14, 28, 32), (1, 2, 4), (64, 128))]
        edges = [(b, h, kv, w) for b, h, kv, w in edges if h % kv == 0]
        first = [(b, h, kv, w, n) for b, h, kv, w in edges if 131 <= b * h <= 145 for n in (129, 200, 256)]
        first += [(b, h, kv, w, n) for b, h, kv, w in edges if 64 <= b * kv <= 72 and b < 40 for n in (513, 3000)]
        random.Random(2).shuffle(first)
        shapes = first[:120] + shapes
    about = {"torch": torch.__version__, "device": DEVICE}
    if DEVICE == "cuda":
        about |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        about["cudnn"] = torch.backends.cudnn.version()
    found = {"about": about, "cases": cases, "map": []}

    def write():
        about["seconds"] = round(time.time() - began)
        with open(os.path.join(args.out, "cudnn.json"), "w") as file:
            json.dump(found, file)

    numpy.savez_compressed(os.path.join(args.out, "cudnn.npz"), **arrays)
    write()
    found["map"] = launches(shapes, args.map)
    write()
    print(about)


if __name__ == "__main__":
    main()
