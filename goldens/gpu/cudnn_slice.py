"""Digests of what cudnn.py measured, small enough to keep: goldens/gpu/cudnn.json.

    python3 cudnn_slice.py OUT.json DIRECTORY ...

Of each case of each DIRECTORY that was repeated with one result, the heads of the first KV head of the first sequence
and those of the last of the last, over all rows of a decode and up to six of a prefill (the first, the last, and four
by lot). A digest is the sum of each output's bits times a weight of its place, modulo 2^64, as in long_rows.py; places
are counted through heads, rows and elements. Of the cases kept, `repeated` counts the calls that did not wait for one
another and gave the first one's result, and all of them. Cases of the kernel of long decodes (`16x128`) are not kept:
they are named under `varying`, each with the same two numbers."""

import json
import os
import random
import sys

import numpy

MASK = (1 << 64) - 1


def mixed(i, seed):
    h = (i + (seed * 0x9E3779B1 & 0xFFFFFFFF)) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return h ^ (h >> 16)


def digest(bits):
    total = 0
    for place, value in enumerate(bits.astype(numpy.uint16).ravel().tolist()):
        total += value * ((mixed(place, 1) * 0x9E3779B97F4A7C15 & MASK) | 1)
    return f"{total & MASK:016x}"


def main():
    kept, varying, repeated, abouts, values = [], [], [0, 0], [], 0
    for directory in sys.argv[2:]:
        found = json.load(open(os.path.join(directory, "cudnn.json")))
        arrays = numpy.load(os.path.join(directory, "cudnn.npz"))
        abouts.append(found["about"])
        lot = random.Random(1)
        for name, case in found["cases"].items():
            if "seed" not in case or "error" in case or name.startswith("centred"):
                continue
            if any("16x128" in kernel for kernel in case["kernels"]):
                parts = any("reduction" in kernel for kernel in case["kernels"])
                if isinstance(case.get("rushed"), list):
                    varying.append({key: case[key] for key in ("shape", "dtype", "rushed")} | {"parts": parts})
                continue
            if isinstance(case.get("rushed"), list):
                repeated = [sum(both) for both in zip(repeated, case["rushed"])]
            if len(case["counts"]) != 1:
                raise SystemExit(f"{name} gave {len(case['counts'])} results")
            rows, queries = case.get("rows", [0]), case["shape"][4]
            places = sorted({0, len(rows) - 1, *(lot.randrange(len(rows)) for _ in range(4))})
            entry = {key: case[key] for key in ("seed", "shape", "dtype", "scale", "paired") if key in case}
            if queries > 1:
                entry["rows"] = [rows[at] for at in places]
            for which, array in (("first", f"{name}_0"), ("last", f"{name}_last")):
                if array in arrays:
                    bits = arrays[array][:, places]
                    entry[which] = digest(bits)
                    values += bits.size
            kept.append(entry)
    with open(sys.argv[1], "w") as file:
        lines = ",\n".join(json.dumps(entry) for entry in kept)
        others = ",\n".join(json.dumps(entry) for entry in varying)
        file.write(f'{{"about": {json.dumps(abouts)},\n"values": {values},\n"repeated": {repeated},\n')
        file.write(f'"cases": [\n{lines}\n],\n"varying": [\n{others}\n]}}\n')
    print(len(kept), "cases,", values, "values,", repeated, "repeated,", len(varying), "of the varying kernel")


main()
