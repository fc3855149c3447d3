"""Which products of nf4 bitsandbytes computes without decoding the weight first, by its own function for an H200.

    PYTHONPATH=FOLDER_OF_BITSANDBYTES python bnb_choice.py >bnb_choice.json

For weights `[n, k]` runs `[first M, whether]` of M from 1 to 1,600 in bf16. Needs no GPU: the function is taken from
the source of backends/cuda/ops.py and gets the multiprocessors and the compute capability of an H200.
"""

import ast
import functools
import json
import os

import bitsandbytes
import torch

PATH = os.path.join(os.path.dirname(bitsandbytes.__file__), "backends", "cuda", "ops.py")
SIZES = [192, 576, 1000, 1024, 2048, 3072, 3584, 4096, 4224, 4608, 5120, 6400, 8192, 8448, 12800, 18944, 28672]


def main():
    with open(PATH) as file:
        tree = ast.parse(file.read())
    wanted = {"_gemm_4bit_use_custom_cuda", "_GEMM_4BIT_CUSTOM_FLOOR_M"}
    named = lambda node: {getattr(node, "name", ""), *(getattr(t, "id", "") for t in getattr(node, "targets", []))}
    kept = [node for node in tree.body if wanted & named(node)]
    space = {"functools": functools, "torch": torch, "_gpu_dispatch_props": lambda _: (132, 9, 0)}
    exec(compile(ast.Module(kept, []), PATH, "exec"), space)
    made = []
    for n in [*SIZES, 16896, 25344]:
        for k in SIZES:
            runs = []
            for m in range(1, 1601):
                fused = m <= 1536 and k % 64 == 0 and space["_gemm_4bit_use_custom_cuda"](0, torch.bfloat16, m, n, k)
                if not runs or runs[-1][1] != fused:
                    runs.append([m, fused])
            made.append({"n": n, "k": k, "runs": runs})
    print(json.dumps(made, separators=(",", ":")))


main()
