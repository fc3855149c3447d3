"""Cuts sdpa.npz (sdpa.py) or f16.npz (f16.py) down to what a test compares: goldens/gpu/sdpa/<case>.bin,
sdpa_f16/<case>.bin.

    python sdpa_slice.py NPZ DIRECTORY

A case is `sequences_heads_kvheads_width_queries_keys`. A file has the number of rows and how many keys each sees
(32 bits, ascending), then patterns of 16 bits: the rows' queries, all keys and values, the rows' outputs of flash
attention and of the math backend. Little-endian."""

import sys

import numpy

OF_F16 = {"1_9_3_64_200_200": 13, "1_9_3_64_300_300": 17, "1_9_3_64_1_41": 1, "2_28_4_128_1_200": 1}
CASES = {"1_9_3_64_130_130": 8, "1_9_3_64_300_300": 17, "1_9_3_64_1_41": 1, "2_28_4_128_1_200": 1, "8_9_3_64_1_65": 1}

arrays = numpy.load(sys.argv[1])
prefix = "s." if "f.silu" in arrays else ""
for case, step in (OF_F16 if prefix else CASES).items():
    part = {name: arrays[f"{prefix}{case}_{name}"][0] for name in ("q", "k", "v", "FLASH_ATTENTION", "MATH")}
    heads, queries, _ = part["q"].shape
    keys = part["k"].shape[1]
    # Of every head of the group: all rows in decode, one in `step` and the last in prefill.
    rows = [(head, at) for at in range(queries) for head in range(heads) if (at + head) % step == 0 or at == queries - 1]
    at = tuple(numpy.array(rows).T)
    seen = at[1] + 1 + keys - queries
    with open(f"{sys.argv[2]}/{case}.bin", "wb") as out:
        out.write(numpy.array([len(rows), *seen], "<u4").tobytes())
        for array in (part["q"][at], part["k"], part["v"], part["FLASH_ATTENTION"][at], part["MATH"][at]):
            out.write(array.astype("<i2").tobytes())
