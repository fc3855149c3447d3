"""Which of equal values PyTorch's topk takes on a GPU, and in which order: for crates/numerics/src/nvidia/topk.rs.

    python3 goldens/gpu/topk.py > goldens/gpu/topk.json            (on a GPU; seconds, 100 KB)

Rows of few distinct values, so that most have equals. A case is [values as bf16 patterns, places that topk returned].
Softmax keeps equals equal, so binary32 and bf16 are asked alike; the script fails if they answer differently.
"""

import json

import torch


def main():
    torch.manual_seed(0)
    cases = []
    for experts, top in [(8, 2), (32, 4), (64, 6), (128, 4), (128, 8), (60, 4)]:
        for levels in (2, 4, experts // 2):
            rows = torch.randint(levels, (40, experts), device="cuda").to(torch.bfloat16) / 4
            places = rows.topk(top, dim=-1).indices
            wide = rows.float().topk(top, dim=-1).indices
            alone = torch.cat([row.topk(top, dim=-1).indices for row in rows.split(1)])
            assert torch.equal(places, wide) and torch.equal(places, alone)
            patterns = rows.cpu().view(torch.int16).int() & 0xFFFF
            cases += [[row, found] for row, found in zip(patterns.tolist(), places.cpu().tolist())]
    print(
        json.dumps(
            {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "cases": cases}, separators=(",", ":")
        )
    )


if __name__ == "__main__":
    main()
