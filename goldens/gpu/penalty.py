#!/usr/bin/env python3
"""How a GPU divides logits by a repetition penalty: transformers' processor on CUDA against both ways of rounding.

    python3 goldens/gpu/penalty.py --out goldens/gpu/penalty.json     # on a machine with a GPU

Half of 151,936 logits of binary32 are tokens of the prompt; the positive ones of those are divided, the others
multiplied. `division` counts values that differ from the rounded quotient; `reciprocal_of_rounded` those that differ
from the product with the reciprocal of the penalty in binary32; `reciprocal`, from the product with that of the penalty
in binary64, rounded once to binary32.
"""

import argparse
import json

import numpy as np
import torch
import transformers
from transformers import RepetitionPenaltyLogitsProcessor

LOGITS = 151_936


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    generator = np.random.default_rng(17)
    penalties = [1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 0.9] + [float(p) for p in generator.uniform(0.5, 3.0, 57).round(3)]
    cases = []
    for penalty in penalties:
        scores = (generator.standard_normal(LOGITS) * 8).astype(np.float32)
        seen = generator.permutation(LOGITS)[: LOGITS // 2]
        processor = RepetitionPenaltyLogitsProcessor(penalty)
        left = processor(torch.from_numpy(seen)[None].cuda(), torch.from_numpy(scores)[None].cuda())[0].cpu().numpy()
        rounded = np.float32(penalty)
        counts = {}
        for name, larger in [
            ("division", scores / rounded),
            ("reciprocal_of_rounded", scores * (np.float32(1) / rounded)),
            ("reciprocal", scores * np.float32(1 / penalty)),
        ]:
            expected = scores.copy()
            expected[seen] = np.where(scores < 0, scores * rounded, larger)[seen]
            counts[name] = int((expected.view(np.uint32) != left.view(np.uint32)).sum())
        cases.append({"penalty": penalty, **counts})
    result = {
        "gpu": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "values": LOGITS * len(penalties),
        "different": {name: sum(case[name] for case in cases) for name in counts},
        "cases": cases,
    }
    with open(arguments.out, "w") as file:
        json.dump(result, file, indent=1)
    print(json.dumps({name: result[name] for name in ["gpu", "torch", "transformers", "values", "different"]}))


if __name__ == "__main__":
    main()
