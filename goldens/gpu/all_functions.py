"""Digests of what PyTorch's elementwise kernels leave of every bf16 and f16, for crates/numerics/tests/functions.rs.

    python3 goldens/gpu/all_functions.py > goldens/gpu/all_functions.json            (on a GPU; seconds)
    python3 goldens/gpu/all_functions.py bf16.npz f16.npz > goldens/gpu/all_functions.json

The second form takes outputs that were kept: an array of 65,536 uint16 for each function, in the order of the inputs'
patterns. A digest is FNV-1a (64 bits) over the outputs as little-endian words, every NaN as 0x7FFF.
"""

import json
import sys

import numpy as np

FORMATS = ("bf16", "f16")
FUNCTIONS = {
    "tanh": lambda t, x: t.tanh(x),
    "sigmoid": lambda t, x: t.sigmoid(x),
    "silu": lambda t, x: t.nn.functional.silu(x),
    "gelu_tanh": lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
    "cap_30": lambda t, x: t.tanh(x / 30.0) * 30.0,
    "cap_50": lambda t, x: t.tanh(x / 50.0) * 50.0,
    "gated_1.702": lambda t, x: x * t.sigmoid(x * 1.702),
}


def measured():
    import torch

    found = {}
    for name, dtype in zip(FORMATS, (torch.bfloat16, torch.float16)):
        x = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(dtype).cuda()
        outputs = {
            key: function(torch, x).cpu().view(torch.int16).numpy().view(np.uint16)
            for key, function in FUNCTIONS.items()
        }
        found[name] = outputs
    versions = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name()}
    return found, versions


def digest(words, name):
    exponent, fraction = (0x7F80, 0x007F) if name == "bf16" else (0x7C00, 0x03FF)
    nan = ((words & exponent) == exponent) & ((words & fraction) != 0)
    value = 0xCBF29CE484222325
    for byte in np.where(nan, 0x7FFF, words).astype("<u2").tobytes():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def main():
    if sys.argv[1:]:
        found = {name: np.load(path) for name, path in zip(FORMATS, sys.argv[1:])}
        versions = {"torch": "2.11.0+cu130", "gpu": "NVIDIA H200"}
    else:
        found, versions = measured()
    digests = {name: {key: digest(found[name][key], name) for key in FUNCTIONS} for name in FORMATS}
    print(json.dumps({"versions": versions, "digests": digests}, indent=1))


if __name__ == "__main__":
    main()
