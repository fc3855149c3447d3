"""Inverse frequencies of rotary embeddings as PyTorch computes them on a GPU, where vLLM does.

    python3 inverse_frequencies.py OUT.json

For every base and number of rotated elements: bits of `1.0 / (base ** (torch.arange(0, dim, 2) / dim))` in binary32 on
the first GPU, where they are not those of the CPU. Needs PyTorch with CUDA.
"""

import json
import sys

import torch

BASES = (1e4, 2.5e4, 5e4, 1e5, 1.3e5, 1.5e5, 2e5, 2.5e5, 5e5, 6e5, 1e6, 2e6, 5e6, 8e6, 1e7, 1e8, 1e9)
DIMS = (32, 48, 64, 80, 96, 112, 128, 160, 192, 256)


def inverse(base, dim, device):
    found = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float, device=device) / dim))
    return found.cpu().view(torch.int32).tolist()


def main():
    entries = []
    for base in BASES:
        for dim in DIMS:
            gpu, cpu = inverse(base, dim, "cuda"), inverse(base, dim, "cpu")
            others = [[at, f"{bits:08x}"] for at, (bits, own) in enumerate(zip(gpu, cpu)) if bits != own]
            entries.append({"base": base, "dim": dim, "all": [f"{bits:08x}" for bits in gpu], "others": others})
    with open(sys.argv[1], "w") as file:
        json.dump({"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "entries": entries}, file)
    for entry in entries:
        print(entry["base"], entry["dim"], len(entry["others"]))


if __name__ == "__main__":
    main()
