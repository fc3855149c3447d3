"""What share of setups drawn at random is covered, of those that stock transformers runs in 78 GB with one block.

    python3 draw.py MANTISSA OUT.json [--count 1000] [--seed 1] [--jobs 2]

A setup is a model of models.py × attention × dtype × prompt of 1 to 16,384 tokens (evenly on a logarithmic scale) ×
batch of 1 to 64, with 512 decode steps. One that does not fit, by the estimate of setups.py, is drawn again as a whole;
so is one that stock transformers does not run: `sdpa` for a model with sinks (it says so), and the flash backend with
the mask that a full window needs ("No available kernel").
`mantissa coverage` is asked about the whole model, so a block of either kind may be the cause of a refusal.
Phi-3.5 mini goes without its LongRoPE, as models.py has it.
"""

import argparse
import collections
import concurrent.futures
import datetime
import json
import os
import random
import re
import subprocess
import tempfile

from models import MODELS
from setups import ATTENTIONS, GPU_BYTES, Cost

HARDWARE = ["h200", "h100"]
LONGEST, WIDEST, STEPS = 16384, 64, 512
# What `mantissa coverage` says, and the cause that the table has.
CAUSES = {
    "products with": "weights that nobody asked for",
    "attention with sinks": "attention with sinks (gpt-oss)",
    "PyTorch runs them as a product for each expert": "experts of f16",
    "transformers masks padding and a sliding window that is full": "`sdpa_flash` once a window is full",
}


WINDOW = CAUSES["transformers masks padding and a sliding window that is full"]


def runs(case, answer):
    """Whether stock transformers runs it."""
    if MODELS[case["model"]]["model_type"] == "gpt_oss" and case["attention"] != "eager":
        return False
    return WINDOW not in (answer["h200"] if isinstance(answer["h200"], list) else [])


def cause(text):
    if re.search(r"attention of \d+ heads of \d+", text):
        return "attention's products without a recipe"
    return next((name for start, name in CAUSES.items() if text.startswith(start)), text)


def setups(count, seed):
    """`count` setups that fit, and how many were drawn."""
    lot, drawn, found = random.Random(seed), 0, []
    while len(found) < count:
        drawn += 1
        prompt = min(LONGEST, int((LONGEST + 1) ** lot.random()))
        case = {"model": lot.choice(list(MODELS)), "attention": lot.choice(ATTENTIONS)}
        case |= {"dtype": lot.choice(["bf16", "f16"]), "prompt": prompt, "batch": lot.randint(1, WIDEST)}
        if Cost({**case, "blocks": "full"}).gpu_bytes(case) <= GPU_BYTES:
            found.append(case)
    return found, drawn


def ask(program, folder, case):
    """By hardware: the basis, or the causes of a refusal."""
    command = [program, "coverage", "--model", os.path.join(folder, case["model"] + ".json")]
    command += ["--runs", "1", "--format", "json", "--hardware", ",".join(HARDWARE)]
    command += ["--attention", case["attention"], "--dtype", case["dtype"]]
    command += ["--batch-sizes", str(case["batch"]), "--prompts", str(case["prompt"]), "--decode", str(STEPS)]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    bases = ("verified", "asked", "measured", "literature")
    said = {}
    for one in answer["hardware"]:
        if one["runs"] != 1:
            raise ValueError(f"{case}: {one}")
        basis = next((name for name in bases if one[name]), None)
        said[one["hardware"]] = basis or sorted({cause(why["what"]) for why in one["causes"]})
    return said


def table(cases, answers, hardware):
    bases, causes, alone = collections.Counter(), collections.Counter(), collections.Counter()
    shares = {}
    for case, answer in zip(cases, answers):
        said = answer[hardware]
        refused = isinstance(said, list)
        bases["refused" if refused else said] += 1
        share = shares.setdefault(f"{case['attention']} {case['dtype']}", [0, 0])
        share[0] += not refused
        share[1] += 1
        for why in said if refused else []:
            causes[why] += 1
            alone[why] += len(said) == 1
    causes = {why: {"setups": count, "alone": alone[why]} for why, count in causes.most_common()}
    return {"bases": dict(bases.most_common()), "causes": causes, "exact_of": dict(sorted(shares.items()))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    # Some are not run, and left out below.
    cases, drawn = setups(args.count + args.count // 8 + 8, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        for name, config in MODELS.items():
            with open(os.path.join(folder, name + ".json"), "w") as file:
                json.dump(config, file)
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            answers = list(pool.map(lambda case: ask(args.program, folder, case), cases))
    kept = [pair for pair in zip(cases, answers) if runs(*pair)][: args.count]
    if len(kept) < args.count:
        raise SystemExit("too few setups that transformers runs; draw more")
    not_run = cases.index(kept[-1][0]) + 1 - len(kept)
    cases, answers = [list(part) for part in zip(*kept)]
    report = {"date": str(datetime.date.today()), "seed": args.seed, "setups": args.count, "not_run": not_run}
    report["hardware"] = {name: table(cases, answers, name) for name in HARDWARE}
    with open(args.out, "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
