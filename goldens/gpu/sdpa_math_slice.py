"""Cuts goldens/gpu/sdpa_math/*.bin from sdpa_math.npz.

    python sdpa_math_slice.py sdpa_math.npz DIRECTORY

A file is of decode: number of sums and their length (u32), the numbers of each sum (binary32, sum by sum), what the kernel made of each.
"""

import os
import struct
import sys

import numpy

from sdpa_math import hard

# Product, query heads, their width, keys.
CASES = [("scores", 9, 64, 41), ("scores", 72, 64, 69), ("scores", 28, 128, 520), ("values", 9, 64, 41), ("values", 9, 64, 130), ("values", 9, 64, 515), ("values", 72, 64, 64), ("values", 28, 128, 40)]
MOST = 16

source, directory = sys.argv[1:]
arrays = numpy.load(source)
for product, heads, dim, keys in CASES:
    name = f"{product}_{heads}_{dim}_{keys}"
    rows = hard(dim, 251, dim)[numpy.arange(keys) % 251] if product == "scores" else hard(100_000 + keys, dim, keys)
    found = arrays[f"{name}_decode"].reshape(-1)
    rows, found = rows[:MOST], found[:MOST]
    with open(os.path.join(directory, f"{name}.bin"), "wb") as file:
        file.write(struct.pack("<II", *rows.shape) + rows.astype("<f4").tobytes() + found.astype("<i4").tobytes())
