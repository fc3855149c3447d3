"""vLLM's products with packed weights of 4 bits on a GPU: Machete, Marlin, and Marlin for experts.

    PYTHONPATH=FOLDER_OF_VLLM python packed.py DIRECTORY [cpu] [f16]

Writes packed.json, of bf16, or packed_f16.json. `cases`: for every kernel, weight and kind of zero points, of each M
some rows as `[row, digest over COLUMNS]`; `differs` counts values in which a second run differed. `experts`: products
of tokens with experts as `fused_marlin_moe` asks for them, routed so that no expert has more tokens than a block; of
each M `[pair, digest]`, the rows of a block, how many rows all blocks have, and blocks, threads and registers of the
kernel. Those with `weighted` multiply by the router's weights.

Inputs are hashed from their place (../gpu/inputs.py). The second halves of K are the first ones again: of a weight word
for word, with the same scales; of activations with the other sign, and one unit in the last place more where a bit of
the hash says so. So sums cancel but for eight bits, and other orders of them leave other bits. Rows `[M, K / 2]` have
seed 3 and spread 4 in the format, units seed 5; a bias has seed 7 and spread 2; words `[K / 16, N]`, lowest nibble
first, seed 11, zero points `[groups / 2, N]` 4 low bits of seed 13, scales `(1 + 7 low bits / 128) / 2^(8 + bit 7)` of
seed 17 (a `group` of -1 is all of K: one row of them); of expert E places begin at E times a whole tensor; weights of
pairs are `(1 + 8 low bits of seed 19 / 256) / 16`. A digest is as in ../gpu/long_rows.py, over columns `i · (N − 1) /
63`, `i` below 64. `cpu` makes inputs alone.
"""

import json
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "gpu"))
from inputs import hashed, mixed

DRY = "cpu" in sys.argv[2:]
FORMAT = "f16" if "f16" in sys.argv[2:] else "bf16"
DTYPE = {"bf16": torch.bfloat16, "f16": torch.float16}[FORMAT]
DEVICE = "cpu" if DRY else "cuda"
if not DRY:
    from vllm import _custom_ops as ops
    from vllm.model_executor.layers.quantization.utils import marlin_utils as marlin
    from vllm.scalar_type import scalar_types

# All remainders of 64 in steps of 16, behind whole launches too.
FEW = [1, 9, 16, 17, 32, 33, 49, 64, 65, 113, 128, 129, 256, 257, 333, 1024, 1332]
# `[K, N]`, of models' own layers and others: every tile, and sums that are not cut, cut equally, and dealt.
WEIGHTS = {
    (1024, 4096): FEW, (3072, 1024): FEW, (2048, 3072): FEW, (2048, 16384): FEW, (8192, 2048): FEW,
    (3584, 4608): FEW, (18944, 3584): FEW, (4096, 28672): [1, 17, 40, 100, 200, 300], (4096, 5120): FEW,
    (512, 1024): FEW, (6144, 2560): FEW, (16384, 12288): [1, 24, 50, 90, 150, 400],
}  # fmt: skip
CHANNELS = [(1024, 4096), (3584, 4608), (8192, 2048)]
# Outputs that 128 does not divide, and few of them.
ODD = {
    (2048, 2112): FEW, (4096, 576): FEW, (1024, 1088): FEW, (8192, 320): FEW, (2048, 64): FEW, (1024, 40): FEW,
}  # fmt: skip
# Hidden, inner width, experts, chosen.
EXPERTS = {(2048, 768, 128, 8): [1, 4, 16, 32, 64, 128, 256, 1024], (1024, 512, 8, 2): [1, 4, 16, 64, 256]}
EXPERTS |= {(4096, 1536, 16, 2): [1, 8, 64, 256], (512, 256, 32, 4): [1, 8, 32, 256]}


def digest(x):
    place = torch.arange(x.shape[-1], device=DEVICE)
    weights = (mixed(place, 1) * (0x9E3779B97F4A7C15 - (1 << 64))) | 1
    bits = x.contiguous().view(torch.int16).long() & 0xFFFF
    return [f"{d & (1 << 64) - 1:016x}" for d in (bits * weights).sum(-1).flatten().tolist()]


def columns(n):
    return torch.tensor([i * (n - 1) // 63 for i in range(64)], device=DEVICE)


def places(shape, seed, first=0):
    """Bits of places, in pieces that fit."""
    count, made = shape[0] * shape[1], []
    for start in range(0, count, 1 << 25):
        made.append(mixed(torch.arange(first + start, first + min(count, start + (1 << 25)), device=DEVICE), seed))
    return torch.cat(made).view(shape)


def weight(k, n, group, zeros, expert=0):
    half = k // 2
    words = places((half // 8, n), 11, expert * (half // 8) * n)
    words = (words - (words >> 31 << 32)).to(torch.int32)
    groups = 1 if group < 0 else half // group
    bits = places((groups, n), 17, expert * groups * n)
    scales = ((1 + (bits & 127).float() / 128) / torch.where((bits >> 7 & 1) == 1, 512.0, 256.0)).to(DTYPE)
    zero = (places((groups, n), 13, expert * groups * n) & 15).to(torch.int32)
    words = torch.cat([words, words])
    if group > 0:
        scales, zero = (torch.cat([one, one]) for one in (scales, zero))
    return [words.contiguous(), scales.contiguous(), zero.contiguous() if zeros else None]


def activations(m, k):
    first = hashed((m, k // 2), 3, 4.0, FORMAT, DEVICE)
    units = (places((m, k // 2), 5) & 1).to(torch.int16)
    second = ((-first).view(torch.int16) + units).view(DTYPE)
    return torch.cat([first, second], 1).contiguous()


def launched(run):
    """`[blocks, threads, registers]` of Marlin's kernel; `None` where the profiler does not say."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    path = os.path.join(sys.argv[1], "trace.json")
    profiler.export_chrome_trace(path)
    with open(path) as file:
        events = json.load(file)["traceEvents"]
    os.remove(path)
    found = [event["args"] for event in events if event.get("cat") == "kernel" and "Marlin" in event["name"]]
    return [found[0]["grid"][0], found[0]["block"][0], found[0]["registers per thread"]] if found else None


class Machete:
    def __init__(self, k, n, group, zeros):
        words, self.scales, zero = weight(k, n, group, zeros)
        self.kind = scalar_types.uint4 if zeros else scalar_types.uint4b8
        self.words = ops.machete_prepack_B(words.t().contiguous().t(), DTYPE, self.kind, DTYPE)
        self.zeros = (-1.0 * self.scales * zero.to(DTYPE)).contiguous() if zeros else None
        self.group = group

    def __call__(self, x, bias):
        out = ops.machete_mm(
            a=x,
            b_q=self.words,
            b_type=self.kind,
            b_group_zeros=self.zeros,
            b_group_scales=self.scales,
            b_group_size=self.group,
        )
        return out if bias is None else out.add_(bias)


class Marlin:
    def __init__(self, k, n, group, zeros):
        words, scales, zero = weight(k, n, group, zeros)
        self.kind = scalar_types.uint4 if zeros else scalar_types.uint4b8
        self.shape, filled = (n, k), marlin.marlin_padded_nk(n, k, group)
        self.filled = {"size_n": filled[0], "size_k": filled[1]}
        self.none = marlin.marlin_make_empty_g_idx(words.device)
        self.space = marlin.marlin_make_workspace_new(words.device)
        words = marlin.marlin_pad_qweight(words, n, k, *filled)
        self.words = ops.gptq_marlin_repack(words, perm=self.none, num_bits=4, **self.filled)
        scales = marlin.marlin_pad_scales(scales, n, k, *filled, group)
        self.scales = marlin.marlin_permute_scales(scales, group_size=group, **self.filled)
        self.zeros = self.none
        if zeros:
            zero = marlin.marlin_pad_scales(zero, n, k, *filled, group)
            self.zeros = marlin.marlin_zero_points(zero, zero.shape[0], filled[0], 4)

    def __call__(self, x, bias):
        n, k = self.shape
        if bias is not None:
            bias = marlin.marlin_permute_bias(marlin.marlin_pad_dim(bias, n, self.filled["size_n"]))
        more = {"wtype": self.kind, "is_k_full": True, "bias": bias, "workspace": self.space}
        more |= {"output_size_per_partition": n, "input_size_per_partition": k, "weight_zp": self.zeros}
        more |= {"g_idx": self.none, "g_idx_sort_indices": self.none}
        return marlin.apply_gptq_marlin_linear(input=x, weight=self.words, weight_scale=self.scales, **more)


def product(kernel, k, n, group, zeros, biased, counts):
    case = {"kernel": kernel, "k": k, "n": n, "group": group, "zeros": zeros, "bias": biased, "rows": [], "differs": 0}
    made = None if DRY else {"machete": Machete, "marlin": Marlin}[kernel](k, n, group, zeros)
    bias, at = hashed((n,), 7, 2.0, FORMAT, DEVICE) if biased else None, columns(n)
    for m in counts if made else ():
        x = activations(m, k)
        one, two = made(x, bias).clone(), made(x, bias)
        case["differs"] += int((one.view(torch.int16) != two.view(torch.int16)).sum())
        of = sorted({0, m // 3, m // 2, m - 1})
        case["rows"].append([m, list(zip(of, digest(one[of][:, at])))])
    return case


def layer(k, n, experts, top, group, zeros, weighted, counts):
    """Tokens choose neighbouring experts in turn, so that all have equally many, or some one and the others none."""
    case = {"k": k, "n": n, "experts": experts, "top": top, "group": group, "zeros": zeros, "weighted": weighted}
    case["steps"] = []
    if DRY:
        weight(k, n, group, zeros, experts - 1)
        return case
    from vllm.model_executor.layers.fused_moe.moe_align_block_size import moe_align_block_size

    none = torch.empty((experts, 0), dtype=torch.int32, device=DEVICE)
    kind = scalar_types.uint4 if zeros else scalar_types.uint4b8
    each = [weight(k, n, group, zeros, expert) for expert in range(experts)]
    words, scales = (torch.stack([one[part] for one in each]) for part in (0, 1))
    words = ops.gptq_marlin_moe_repack(words, none, k, n, 4)
    scales = marlin.marlin_moe_permute_scales(scales, k, n, group)
    zero = torch.stack([marlin.marlin_zero_points(one[2], k // group, n, 4) for one in each]) if zeros else None
    space = marlin.marlin_make_workspace_new(words.device, 4)
    for m in counts:
        pairs = m * top
        ids = (torch.arange(pairs, device=DEVICE).view(m, top) % experts).to(torch.int32)
        values = ((1 + (places((m, top), 19) & 255).float() / 256) / 16).contiguous()
        block = next((block for block in (8, 16, 32, 48, 64) if m * top / experts / block < 0.9), 64)
        order, of_block, filled = moe_align_block_size(ids, block, experts, None, ignore_invalid_experts=True)
        # The first product multiplies each token for all its experts, the second each pair, by its weight.
        x = activations(pairs if weighted else m, k)
        more = {"moe_block_size": block, "mul_topk_weights": weighted, "b_q_type": kind, "size_n": n, "size_k": k}
        more |= {"top_k": 1 if weighted else top, "size_m": x.shape[0], "is_k_full": True, "use_atomic_add": False}
        more |= {"use_fp32_reduce": True, "is_zp_float": False}
        outs = []
        for _ in range(2):
            out = torch.empty((pairs, n), dtype=DTYPE, device=DEVICE)
            given = (x, out, words, None, scales, None, None, zero, none, none, space, order, of_block, filled, values)
            outs.append(ops.moe_wna16_marlin_gemm(*given, **more))
        try:
            kernel = launched(lambda given=given, more=more: ops.moe_wna16_marlin_gemm(*given, **more))
        except Exception as error:
            kernel = str(error)
        of = sorted({0, pairs // 3, pairs // 2, pairs - 1})
        rows = list(zip(of, digest(outs[0][of][:, columns(n)])))
        step = {"m": m, "block": block, "filled": int(filled), "rows": rows, "kernel": kernel}
        step["differs"] = int((outs[0].view(torch.int16) != outs[1].view(torch.int16)).sum())
        case["steps"].append(step)
    return case


@torch.no_grad()
def main():
    made = {"torch": torch.__version__, "cases": [], "experts": []}
    if not DRY:
        import vllm

        properties = torch.cuda.get_device_properties(0)
        made |= {"gpu": torch.cuda.get_device_name(), "multiprocessors": properties.multi_processor_count}
        made["vllm"] = vllm.__version__
    kernels = ("machete", "marlin")
    todo = [(kernel, *kn, 128, z, False, m) for kn, m in WEIGHTS.items() for z in (0, 1) for kernel in kernels]
    todo += [("marlin", *kn, 128, z, False, m) for kn, m in ODD.items() for z in (0, 1)]
    todo += [("machete", 3584, 4608, group, z, True, FEW) for group in (64, 128) for z in (0, 1)]
    todo += [("marlin", 2048, 2112, group, z, True, FEW) for group in (32, 64, 128) for z in (0, 1)]
    # One scale for all inputs of an output, with a bias and without.
    todo += [(kernel, *kn, -1, z, b, FEW) for kn in CHANNELS for z in (0, 1) for b in (0, 1) for kernel in kernels]
    for kernel, k, n, group, zeros, biased, counts in todo:
        made["cases"].append(product(kernel, k, n, group, bool(zeros), bool(biased), counts))
        print(kernel, k, n, group, zeros, flush=True)
        save(made)
    for (k, inner, experts, top), counts in EXPERTS.items():
        for zeros in (False, True):
            for length, n, weighted in ((k, 2 * inner, False), (inner, k, True)):
                made["experts"].append(layer(length, n, experts, top, 128, zeros, weighted, counts))
                print("experts", length, n, experts, zeros, flush=True)
                save(made)


def save(made):
    with open(os.path.join(sys.argv[1], "packed_f16.json" if FORMAT == "f16" else "packed.json"), "w") as file:
        parts = []
        for name in ("cases", "experts"):
            parts.append(f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in made[name]) + "\n]")
        for name in made.keys() - {"cases", "experts"}:
            parts.append(f'"{name}": {json.dumps(made[name])}')
        file.write("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
