"""Which order of sums decode attention's products run in, for every number of keys: signatures.

    python decode_classes.py DIRECTORY

As in decode_attention.py a sum of ones with 2^30 at element i and -2^30 at j counts the ones added outside the smallest subtree that
holds both; here for a few pairs only, for every number of keys and several numbers of heads, and with random data for
every hundredth. `scores_<heads>_<dim>[n - 2]`, `values_<heads>_<dim>[n - 2]`: counts for the pairs (0, j) of `PAIRS`, -1 where there is no such j.
"""

import os
import sys

import numpy
import torch

PAIRS = [1, 2, 3, 4, 5, 8, 16, 21, 32, 64, 96, 128, 256, 512, 1024]
LONGEST = 2080
out = sys.argv[1]
arrays = {}


def pattern(length, rows):
    x = torch.zeros(rows, length)
    x[:, : min(length, 128)] = 1.0
    for r, j in enumerate(PAIRS):
        if j < length:
            x[r, 0], x[r, j] = 2.0**30, -(2.0**30)
    return x


for heads, dim in [(9 * b, 64) for b in (1, 2, 4, 5, 8, 9, 16, 17)]:
    scores, values = numpy.full((LONGEST - 1, len(PAIRS)), -1, numpy.int16), numpy.full((LONGEST - 1, len(PAIRS)), -1, numpy.int16)
    q, key_pattern = torch.ones(heads, 1, dim, device="cuda", dtype=torch.bfloat16), pattern(dim, len(PAIRS)).to("cuda", torch.bfloat16)
    k_all = torch.ones(heads, LONGEST, dim, device="cuda", dtype=torch.bfloat16)
    for n in range(2, LONGEST + 1):
        k = k_all[:, :n].contiguous()
        count = min(heads * n, len(PAIRS))
        k.view(heads * n, dim)[:count] = key_pattern[:count]
        found = torch.matmul(q, k.transpose(1, 2)).float().view(-1)[:count]
        p = torch.ones(heads, 1, n, device="cuda", dtype=torch.bfloat16)
        v = torch.zeros(heads, n, dim, device="cuda", dtype=torch.bfloat16)
        v[0, :, : len(PAIRS)] = pattern(n, len(PAIRS)).t().to("cuda", torch.bfloat16)
        other = torch.matmul(p, v).float()[0, 0, : len(PAIRS)]
        both = torch.cat([found, other]).cpu().numpy()
        for r, j in enumerate(PAIRS):
            if j < dim and r < count:
                scores[n - 2, r] = both[r]
            if j < n:
                values[n - 2, r] = both[count + r]
    arrays[f"scores_{heads}_{dim}"], arrays[f"values_{heads}_{dim}"] = scores, values
numpy.savez_compressed(os.path.join(out, "decode_classes.npz"), **arrays)
