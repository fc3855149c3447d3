"""vLLM 0.24's Marlin product of experts with weights of 4 bits, alone: goldens/parallel/marlin_experts.bin.

    PYTHONPATH=SITE python3 marlin_experts.py probe PROBES     on a GPU, SITE has vLLM 0.24
    python3 marlin_experts.py cut PROBES OUT                   numpy alone

`probe` runs `fused_marlin_moe` on inputs from seeds and keeps values of both products, with the blocks that rows were
put into. `cut` keeps the values of CHOSEN: those whose sum is cut, and where parts added in the other order, no cut,
one block more or the other number of blocks of threads would leave another value. OUT has for each, little-endian:

u32  tokens, experts of each, experts, outputs, length, zero points (0 or 1), blocks, number of the block, output, 1 for
     the product that is weighted, bits of the result in bf16
f32  the weight; then bf16 inputs, integers of 4 bits (two a byte, the lower first), scales and zero points of groups of
     128 (zero points a byte each, 8 where there are none)

Made with PyTorch 2.11.0+cu130 and vLLM 0.24.0 on an NVIDIA H200, 2026-11-30.
"""

import hashlib
import os
import struct
import sys

import numpy as np

GROUP = 128
# Hidden and inner width, experts, experts of a token.
MODELS = [(2048, 768, 128, 8), (1024, 512, 8, 2), (2048, 1408, 60, 4), (4096, 1536, 16, 2), (512, 256, 32, 4)]
TOKENS = [1, 2, 4, 9, 16, 32, 33, 64, 100, 128, 288, 333, 512, 1024, 2048]
# Model, tokens, zero points, product, place among the pairs that were kept, place among the columns.
CHOSEN = [
    (0, 1, True, "w13", 2, 10), (0, 2, False, "w2", 4, 25), (0, 16, True, "w2", 31, 4), (0, 33, True, "w13", 63, 8),
    (0, 128, True, "w13", 16, 13), (0, 288, True, "w13", 54, 16), (0, 333, True, "w13", 20, 3),
    (1, 9, True, "w2", 6, 5), (1, 64, True, "w2", 7, 7), (1, 288, False, "w2", 10, 7), (2, 16, False, "w2", 11, 5),
    (2, 16, False, "w2", 11, 14), (2, 33, False, "w2", 6, 23), (2, 64, False, "w2", 10, 10),
    (2, 64, True, "w2", 21, 15), (2, 512, False, "w13", 20, 37), (2, 1024, False, "w2", 30, 27),
    (3, 1, True, "w2", 0, 59), (3, 4, False, "w2", 5, 0), (3, 4, True, "w13", 5, 1), (3, 9, False, "w2", 12, 51),
    (3, 9, True, "w13", 17, 11), (3, 9, True, "w2", 1, 53), (3, 16, False, "w2", 15, 33),
    (3, 16, True, "w13", 1, 17), (3, 16, True, "w13", 13, 23), (3, 32, True, "w13", 9, 18),
    (3, 64, False, "w13", 2, 19), (3, 64, False, "w13", 6, 22), (3, 64, True, "w2", 0, 14),
    (3, 64, True, "w2", 2, 43), (3, 100, False, "w13", 12, 11), (3, 128, True, "w13", 1, 23),
    (3, 128, True, "w2", 1, 43), (3, 288, False, "w13", 6, 22), (3, 288, False, "w2", 13, 52),
    (3, 512, False, "w13", 12, 46), (3, 512, True, "w13", 10, 20), (3, 512, True, "w13", 12, 38),
    (4, 16, True, "w13", 8, 2),
]


def generator(*words):
    seed = hashlib.blake2b(" ".join(map(str, words)).encode(), digest_size=8).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))


def words(rng, count):
    return np.frombuffer(rng.bytes(4 * count), np.uint32)


def to_bits(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def spread(rng, shape, low, count):
    """Signed values, the leading bit's place among `count` from 2**low on."""
    drawn = words(rng, int(np.prod(shape)))
    fraction = 1 + ((drawn >> 8) & 0xFFFF).astype(np.float32) / 65536
    place = ((drawn & 0xFF) % count).astype(np.float32) + np.float32(low)
    sign = np.where(drawn >> 31, np.float32(-1), np.float32(1))
    return (sign * fraction * np.exp2(place)).reshape(shape)


def weights(k, n, zeros, product, experts):
    """Eight values of successive `k` in a word, lowest first; scales' bits; zero points or None."""
    rng = generator("weights", k, n, GROUP, int(zeros), "bf16", product, experts)
    packed = words(rng, experts * (k // 8) * n).reshape(experts, k // 8, n)
    scales = to_bits(np.abs(spread(rng, (experts, k // GROUP, n), -8, 3)))
    zero = (words(rng, scales.size) & 15).reshape(scales.shape).astype(np.uint8) if zeros else None
    return packed, scales, zero


def activations(m, k):
    return to_bits(spread(generator("activations", m, k, "bf16", "a"), (m, k), -3, 4))


def routing(m, experts, top):
    """Ids without repeats, skewed as routers are, and weights."""
    rng = generator("routing", m, experts, top)
    draw = words(rng, m * experts).reshape(m, experts).astype(np.float64)
    draw *= 1 + (np.arange(experts) % 7 == 3) * 0.25
    ids = np.argsort(-draw, axis=1, kind="stable")[:, :top].astype(np.int32)
    return ids, ((words(rng, m * top) >> 8).astype(np.float32) / 2**24 * 0.25 + 2**-6).reshape(m, top)


def columns(n):
    """One in each tile of 64, each time elsewhere in it; of at most 64 tiles, spread out."""
    tiles = np.arange(-(-n // 64))
    if len(tiles) > 64:
        tiles = np.unique(np.linspace(0, len(tiles) - 1, 64).astype(int))
    return np.minimum(tiles * 64 + (tiles * 37 + 11) % 64, n - 1)


def pairs(m, top):
    tokens = np.arange(m) if m <= 32 else np.unique(np.linspace(0, m - 1, 32).astype(int))
    every = tokens[:: max(1, len(tokens) // 8)]
    return np.unique(np.concatenate([every * top + j for j in range(top)]))[:64]


def products(model):
    """Name, length and outputs of both."""
    hidden, inner, _, _ = model
    return ("w13", hidden, 2 * inner), ("w2", inner, hidden)


def name(model, m, zeros):
    hidden, inner, experts, top = model
    zero = "zp" if zeros else "sym"
    return f"moe-m{m}-k{hidden}-n{inner}-g{GROUP}-{zero}-bf16-e{experts}-t{top}"


def path(folder, model, zeros):
    hidden, inner, _, _ = model
    return os.path.join(folder, f"moe-{hidden}-{inner}-{GROUP}-{int(zeros)}-bf16.npz")


def probe(folder):
    import torch
    from vllm import _custom_ops as ops
    from vllm.model_executor.layers.fused_moe.experts import marlin_moe
    from vllm.model_executor.layers.quantization.utils import marlin_utils
    from vllm.scalar_type import scalar_types

    def put(array):
        array = np.ascontiguousarray(array)
        return torch.from_numpy(array.view(np.int32) if array.dtype == np.uint32 else array).cuda()

    def bf16(array):
        return torch.from_numpy(np.ascontiguousarray(array).view(np.int16)).view(torch.bfloat16).cuda()

    def bits(tensor):
        return tensor.contiguous().view(torch.int16).cpu().numpy().view(np.uint16)

    def prepared(k, n, zeros, product, experts):
        packed, scales, zero = weights(k, n, zeros, product, experts)
        empty = torch.empty((experts, 0), dtype=torch.int32, device="cuda")
        w = ops.gptq_marlin_moe_repack(put(packed), empty, k, n, 4, is_a_8bit=False)
        s = marlin_utils.marlin_moe_permute_scales(s=bf16(scales), size_k=k, size_n=n, group_size=GROUP)
        if zero is None:
            return w, s, None, empty
        each = [put(one.astype(np.int32)) for one in zero]
        each = [marlin_utils.marlin_zero_points(one, size_k=one.shape[0], size_n=n, num_bits=4) for one in each]
        return w, s, torch.stack(each), empty

    own = ops.moe_wna16_marlin_gemm
    for model in MODELS:
        for zeros in (False, True):
            _, _, experts, top = model
            (w1, s1, z1, i1), (w2, s2, z2, i2) = (
                prepared(k, n, zeros, product, experts) for product, k, n in products(model)
            )
            kind = scalar_types.uint4 if zeros else scalar_types.uint4b8
            found = {}
            for m in TOKENS:
                seen = []

                def recorded(*given, **more):
                    out = own(*given, **more)
                    seen.append((given[0].clone(), out.clone(), [t.clone() for t in given[11:14]], more))
                    return out

                ids, values = routing(m, experts, top)
                ops.moe_wna16_marlin_gemm = recorded
                try:
                    marlin_moe.fused_marlin_moe(
                        bf16(activations(m, model[0])), w1, w2, None, None, s1, s2, put(values), put(ids), kind.id,
                        global_num_experts=experts, g_idx1=i1, g_idx2=i2, sort_indices1=i1, sort_indices2=i2,
                        w1_zeros=z1, w2_zeros=z2,
                    )
                finally:
                    ops.moe_wna16_marlin_gemm = own
                torch.cuda.synchronize()
                case, kept = name(model, m, zeros), pairs(m, top)
                rows = torch.from_numpy(kept).cuda()
                for (product, _, n), (_, out, _, _) in zip(products(model), seen):
                    chosen = torch.from_numpy(columns(n)).cuda()
                    found[f"{case}/{product}"] = bits(out.reshape(-1, n)[rows][:, chosen])
                found[f"{case}/pairs"], found[f"{case}/act"] = kept, bits(seen[1][0][rows])
                order, of_block, padded = seen[0][2]
                block = seen[0][3]["moe_block_size"]
                found[f"{case}/sorted"] = order[: padded.item()].cpu().numpy().astype(np.int32)
                found[f"{case}/experts"] = of_block[: padded.item() // block].cpu().numpy().astype(np.int16)
                found[f"{case}/block"] = np.array([block, padded.item()])
            np.savez_compressed(path(folder, model, zeros), **found)


def cut(folder, out):
    with open(out, "wb") as file:
        for number, m, zeros, product, pair, column in CHOSEN:
            model = MODELS[number]
            _, _, experts, top = model
            found, case = np.load(path(folder, model, zeros)), name(model, m, zeros)
            kept, (rows, padded) = found[f"{case}/pairs"], found[f"{case}/block"]
            where = int(np.flatnonzero(found[f"{case}/sorted"] == kept[pair])[0]) // rows
            (k, n), = ((k, n) for which, k, n in products(model) if which == product)
            ids, values = routing(m, experts, top)
            token, slot = divmod(int(kept[pair]), top)
            expert = ids[token, slot]
            assert expert == found[f"{case}/experts"][where]
            x = activations(m, k)[token] if product == "w13" else found[f"{case}/act"][pair]
            output = columns(n)[column]
            every = weights(k, n, zeros, product, experts)
            packed, scales, zero = (w if w is None else w[expert][:, output] for w in every)
            zero = np.full(k // GROUP, 8, np.uint8) if zero is None else zero
            result = found[f"{case}/{product}"][pair, column]
            numbers = m, top, experts, n, k, int(zeros), padded // rows, where, output, int(product == "w2"), result
            file.write(struct.pack("<11If", *map(int, numbers), values[token, slot]))
            file.write(x.astype("<u2").tobytes() + packed.astype("<u4").tobytes())
            file.write(scales.astype("<u2").tobytes() + zero.tobytes())


if __name__ == "__main__":
    probe(sys.argv[2]) if sys.argv[1] == "probe" else cut(*sys.argv[2:4])
