"""Declarations judged from the API's JSON alone, and tabulated.

    python3 goldens/audit/check.py MANTISSA ANSWERS MODELS OUT [--only WORD…]

ANSWERS is what gpu/serve.py left (a folder for each server), MODELS a folder with smollm2 (whose tokenizer is that of
SmolLM2), qwen06b, llama1b and qwen7b as gpu/serve.py makes them. Each case is a file of what was asked and answered
(OUT/cases), a claim, and what served: honest, or not what is claimed. OUT/table.md has the confusion matrix,
OUT/NAME.json each verdict.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import subprocess
import time

CLAIM = ["engine=vllm-0.24", "hardware=h200"]
ONE, EIGHT = "one", "eight"
# Cases by what was served: kinds of requests, each a declaration of its own.
HONEST = {
    "smollm2": ["greedy", "sampled", "streamed", "prompt", "text", "chat:0", "chat:1", "chat-text"],
    "qwen06b": ["greedy", "sampled", "streamed", "prompt"],
    "llama1b": ["greedy", "sampled", "streamed", "prompt"],
    "qwen7b": ["greedy", "sampled", "streamed", "prompt"],
}
FALSE = {
    "batch invariance": {
        "smollm2-invariant": ["greedy", "streamed"],
        "qwen06b-invariant": ["greedy", "sampled"],
        "llama1b-invariant": ["greedy"],
    },
    "quantization": {
        "qwen06b-fp8": ["greedy"],
        "qwen06b-awq": ["sampled"],
        "qwen06b-gptq": ["streamed"],
        "llama1b-awq": ["greedy"],
        "llama1b-fp8": ["prompt"],
    },
    "two ranks claimed, one served": {
        "qwen06b": ["greedy", "sampled"],
        "llama1b": ["greedy", "streamed"],
        "qwen7b": ["prompt"],
    },
    "one step of training": {"smollm2-sgd": ["greedy", "chat:0", "text"], "qwen06b-sgd": ["greedy", "sampled"]},
}
# Beyond the twenty: other things that a server may do otherwise than it says.
MORE = {
    "other attention": {"smollm2-triton": ["greedy", "streamed"]},
    "8-bit cache": {"smollm2-kv8": ["greedy", "streamed"]},
    "processed log-probabilities": {"smollm2-processed": ["greedy", "sampled"]},
}
# What is said of prompts' own tokens; the kinds are those of gpu/serve.py.
PROMPTS = ("prompt", "prompt-long", "echo")
PROMPTS_HONEST = {
    "smollm2": [*PROMPTS, "chat-prompt"],
    "smollm2-v1": [*PROMPTS, "chat-prompt"],
    "qwen06b": PROMPTS,
    "llama1b": PROMPTS,
    "qwen7b": PROMPTS,
}
PROMPTS_FALSE = {
    "batch invariance": {"smollm2-invariant": [*PROMPTS, "chat-prompt"], "qwen06b-invariant": PROMPTS},
    "quantization": {"qwen06b-fp8": PROMPTS, "qwen06b-awq": PROMPTS, "qwen06b-gptq": PROMPTS},
    "one step of training": {"smollm2-sgd": [*PROMPTS, "chat-prompt"], "qwen06b-sgd": PROMPTS},
    "V2 claimed, V1 served": {"smollm2-v1": [*PROMPTS, "chat-prompt"]},
    "V1 claimed, V2 served": {"smollm2": PROMPTS},
    "compiled": {"smollm2-default": PROMPTS, "qwen06b-default": PROMPTS},
}
DEFAULT = {
    "honest, compiled, one at a time": {"smollm2-default": ["greedy", "streamed"], "qwen06b-default": ["greedy"]},
    "honest, compiled, eight at once": {"smollm2-default": [EIGHT], "qwen06b-default": [EIGHT]},
    "honest, eager, eight at once": {"smollm2": [EIGHT], "qwen06b": [EIGHT], "llama1b": [EIGHT]},
    "one step of training, compiled, eight at once": {"smollm2-sgd-default": [EIGHT]},
    "fp8, compiled, eight at once": {"smollm2-fp8-default": [EIGHT]},
    "awq, compiled, eight at once": {"qwen06b-awq-default": [EIGHT]},
    "batch invariance, compiled, eight at once": {"smollm2-invariant-default": [EIGHT]},
    "batch invariance, eager, eight at once": {"smollm2-invariant": [EIGHT], "qwen06b-invariant": [EIGHT]},
    "one step of training, eager, eight at once": {"smollm2-sgd": [EIGHT], "qwen06b-sgd": [EIGHT]},
    "fp8, eager, eight at once": {"qwen06b-fp8": [EIGHT]},
}
# What is claimed besides, by what is false.
CLAIMED = {"two ranks": ("tp_size=2",), "V1 claimed": ("model_runner=v1",)}
MODELS = ("smollm2", "qwen06b", "llama1b", "qwen7b")

Case = collections.namedtuple("Case", "group truth server kind claim")


def cases():
    for server, kinds in HONEST.items():
        for kind in kinds:
            yield Case("eager, one at a time", "honest", server, kind, ())
    for server, kinds in PROMPTS_HONEST.items():
        for kind in kinds:
            yield Case("prompts", "honest", server, kind, ("model_runner=v1",) if server.endswith("-v1") else ())
    named = ((FALSE, "eager, one at a time"), (MORE, "beyond"), (PROMPTS_FALSE, "prompts"), (DEFAULT, "defaults"))
    for groups, name in named:
        for truth, servers in groups.items():
            for server, kinds in servers.items():
                for kind in kinds:
                    claim = next((claim for words, claim in CLAIMED.items() if truth.startswith(words)), ())
                    yield Case(name, truth, server, kind, claim)


def lines(answers, case):
    """What was asked and answered, as an auditor has it."""
    kind, _, number = case.kind.partition(":")
    with open(os.path.join(answers, case.server, "eight.jsonl" if kind == EIGHT else "one.jsonl")) as file:
        found = [json.loads(line) for line in file]
    found = [line for line in found if line["status"] == 200 and (kind == EIGHT or line["case"] == kind)]
    if number:
        found = [found[int(number)]]
    for line in found:
        kept = {"request": line["request"] | {"model": model_of(case)}}
        kept |= {key: line[key] for key in ("response", "chunks") if key in line}
        yield json.dumps(kept, separators=(",", ":"))


def model_of(case):
    return next(name for name in MODELS if case.server.startswith(name))


def name_of(case):
    words = [case.server, case.kind.replace(":", ""), *case.claim]
    return "-".join(word.replace("=", "") for word in words)


def judged(given, case):
    name, began = name_of(case), time.time()
    path = os.path.join(given.out, "cases", f"{name}.jsonl")
    with open(path, "w") as file:
        file.write("\n".join(lines(given.answers, case)) + "\n")
    command = [given.mantissa, "verify", path, "--model", os.path.join(given.models, model_of(case))]
    for claim in [*CLAIM, *case.claim]:
        command += ["--claim", claim]
    if case.kind.partition(":")[0] in ("text", "chat-text"):
        command.append("--tokenize-prompt")
    out = os.path.join(given.out, f"{name}.json")
    command += ["--threads", "1", "--output", out, "--force", *given.more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer, values, different, recorded, p = "refused", 0, 0, 0, None
    if os.path.exists(out) and done.returncode in (0, 1, 3):
        with open(out) as file:
            audit = json.load(file)
        answers = [claim["answer"] for claim in audit["claims"]]
        order = ["contradicted", "fits_none", "not_enough_evidence", "consistent"]
        answer = next((word for word in order if word in answers), ",".join(answers))
        for claim in audit["claims"]:
            rests = claim.get("rests_on", {})
            values, recorded = values + rests.get("values", 0), recorded + rests.get("recorded", 0)
            for replay in claim.get("replays", []):
                if replay.get("claimed"):
                    different += replay.get("different", 0)
    else:
        answer = f"refused ({done.returncode}): {done.stderr.strip().splitlines()[-1:]}"
    said = f"{case.truth}: {name}: {answer}, {different} of {values} values differ"
    print(f"{time.time() - began:6.1f} s  {said}", flush=True)
    return case, answer, values, different


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for word in ("mantissa", "answers", "models", "out"):
        parser.add_argument(word)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--more", nargs="*", default=[])
    given = parser.parse_args()
    os.makedirs(os.path.join(given.out, "cases"), exist_ok=True)
    wanted = [
        case
        for case in cases()
        if not given.only or any(word in f"{case.group} {case.truth} {name_of(case)}" for word in given.only)
    ]
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        found = list(pool.map(lambda case: judged(given, case), wanted))
    rows = collections.OrderedDict()
    for case, answer, values, different in found:
        row = rows.setdefault((case.group, case.truth), collections.Counter())
        row["cases"] += 1
        row[answer.split(" ")[0]] += 1
        row["values"] += values
        row["different"] += different
    columns = ["cases", "consistent", "contradicted", "fits_none", "not_enough_evidence", "refused"]
    columns += ["values", "different"]
    table = ["| declared | truth | " + " | ".join(columns) + " |", "|---|---|" + "---:|" * len(columns)]
    for (group, truth), row in rows.items():
        table.append(f"| {group} | {truth} | " + " | ".join(f"{row[word]:,}" for word in columns) + " |")
    with open(os.path.join(given.out, "table.md"), "w") as file:
        file.write("\n".join(table) + "\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
