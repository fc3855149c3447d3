"""Adds what cuBLASLt's heuristic named on a GPU to a catalog, as entries that were asked and not compared.

    python3 asked.py HEURISTIC.json CATALOG.json

HEURISTIC has, per weight `N×K`, the first algorithm that the heuristic names for products of bf16 without a bias, as
runs `[first M, [parts, …]]`: for every M to 512, by 8 to 4,096, by 64 to 16,384. Rows that 8 divides have steps of
their own, and no others were asked above 512; so the two kinds are kept apart.
"""

import bisect
import json
import sys

heuristic, catalog = sys.argv[1:]
asked = json.load(open(heuristic))
known = json.load(open(catalog))
if "asked" in known:
    sys.exit(f"{catalog} has such entries already; take the file from before")
gpu, version = known["origin"]["gpu"], known["origin"]["cublas"]
major, minor, patch = (int(part) for part in version.split("."))
if (asked["gpu"], asked["version"]) != (gpu, major * 10000 + minor * 100 + patch):
    sys.exit(f"{heuristic} is of {asked['gpu']} with {asked['version']}, the catalog of {gpu} with {version}")


def steps(runs, sizes):
    """First sizes of steps with their parts."""
    firsts, found = [first for first, _ in runs], []
    for size in sizes:
        parts = runs[bisect.bisect_right(firsts, size) - 1][1][0]
        if not found or found[-1][1] != parts:
            found.append([size, parts])
    return found


aligned = [*range(8, 4097, 8), *range(4160, 16385, 64)]
entries = []
for name, runs in asked["shapes"].items():
    n, k = (int(size) for size in name.split("x"))
    unaligned = steps(runs, [size for size in range(1, 512) if size % 8])
    kinds = {
        "unaligned": {"asked": "1-511", "parts": unaligned},
        "aligned": {"asked": "8-4096/8,4160-16384/64", "parts": steps(runs, aligned)},
    }
    entries.append((n, k, {"n": n, "k": k, "bias": False, **kinds}))
lines = open(catalog).read().split("\n")
entries.sort(key=lambda entry: entry[:2])
text = ",\n".join("    " + json.dumps(entry, separators=(",", ":")) for _, _, entry in entries)
at = lines.index('  "batched": [')
head = [line.replace("mantissa-catalog/1", "mantissa-catalog/2") for line in lines[:at]]
open(catalog, "w").write("\n".join([*head, '  "asked": [', text, "  ],", *lines[at:]]))
