"""Cuts long_rows.json (long_rows.py) down to what tests compare: goldens/gpu/long_rows.json.

    python long_rows_slice.py JSON TO

Of softmax at every border of a kernel and of vocabularies all rows; of sums over rows a few shapes of every order;
of flash attention the first and the last row; kernels with their grids and blocks of all softmaxes and of those
sums."""

import json
import sys

LENGTHS = {
    1,
    31,
    33,
    1000,
    1024,
    1025,
    1032,
    2048,
    2049,
    9216,
    9217,
    9218,
    9219,
    9220,
    10067,
    12252,
    12255,
    12256,
    24504,
    24512,
    32767,
    32768,
}
VOCABULARIES = {10, 1025, 2049, 12256, 32000, 50257, 128256, 151936, 262208}
WIDTHS = {64, 96, 127, 129, 576, 2048, 4096, 8192, 18432}
ROWS = {1, 3, 17, 100}
STEPS = {2, 17, 31, 65}
KEYS = {2001, 5000, 10067, 32767}


def wanted(name: str) -> bool:
    kind, *words = name.replace("log_softmax", "logsoftmax").split("_")
    numbers = [int(word.removeprefix("at")) for word in words if word.removeprefix("at").isdigit()]
    match kind:
        case "softmax":
            return numbers[0] in LENGTHS or "at" in name
        case "logsoftmax" | "logsumexp":
            return numbers[0] in VOCABULARIES and numbers[-1] in (1, 5) or "at" in name
        case "sum" | "mean":
            return numbers[0] in WIDTHS and numbers[1] in ROWS
        case "across":
            return numbers[0] in (64, 50257) and numbers[1] in STEPS
        case "log":
            return numbers[0] in (0, 126, 127, 144)
        case "flash":
            return words[0] == "bf16" and (numbers[4] in KEYS and numbers[-1] in (1, 8) or numbers[3] > 1)
    return False


found = json.load(open(sys.argv[1]))
digests = {name: rows for name, rows in found["digests"].items() if wanted(name)}
digests = {name: [rows[0], rows[-1]] if name.startswith("flash") else rows for name, rows in digests.items()}
kernels = {}
for kind in ("softmax", "logsoftmax", "sum"):
    cases, launched = found["kernels"][kind].values()
    pairs = [(case, [name.split("(")[0][:60], *sizes]) for case, (name, *sizes) in zip(cases, launched)]
    pairs = [(case, kernel) for case, kernel in pairs if kind != "sum" or wanted(case)]
    kernels[kind] = {"cases": [case for case, _ in pairs], "kernels": [kernel for _, kernel in pairs]}
with open(sys.argv[2], "w") as file:
    json.dump({"versions": found["versions"], "digests": digests, "kernels": kernels}, file, separators=(",", ":"))
    file.write("\n")
