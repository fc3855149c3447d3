"""Candidates recomputed by forced decode on this machine: `python -m mantissa_forensics.replay PLAN.json OUT`.

The plan is JSON: `{"format": "mantissa-replay-plan", "version": 1, "model": PATH, "runs": […], "candidates": […],
"sites": […], "positions": […], "top_k": K, "repetitions": N}`. A run is `{"reference", "prompt", "output",
"neighbours": [{"prompt", "output"}]}`, as evidence states it; a candidate is some of `batch_size`, `attention`,
`dtype`, `cache`. Prompts go through in one pass of the whole batch, and every row is fed the tokens that it consumed.

OUT is a container with a configuration for each candidate. `plan_of` makes a plan from evidence. Left out: whether what
was replayed is what the evidence holds (`mantissa compare`, `mantissa verify`).
"""

import json
import os
import shutil
import sys

from . import container
from .errors import CaptureError
from .prompts import Prompt, Prompts

FORMAT, VERSION = "mantissa-replay-plan", 1
AXES = {"batch_size", "attention", "dtype", "cache"}


def plan_of(evidence, model, candidates, repetitions=2):
    """The plan that replays the runs of a container as each of `candidates`, with the signals that it holds."""
    _, configurations, runs = container.read(evidence)
    made = {c["config_id"]: c["mantissa"]["setup"] for c in configurations}
    seen, chosen = set(), []
    for run in sorted(runs, key=lambda run: -len(run.neighbours)):
        key = (tuple(run.prompt), tuple(run.output))
        if key not in seen:
            seen.add(key)
            chosen.append(run)
    phases = [phase for run in chosen for phase in run.phases.values()]
    sites = sorted(set.intersection(*(set(phase.tensors) for phase in phases)))
    top_k = min((p.logprobs.token_ids.shape[2] if p.logprobs else 0 for p in phases), default=0)
    first = made[chosen[0].config_id]
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "runs": [
            {
                "reference": number,
                "prompt": run.prompt,
                "output": run.output[: run.phases["decode"].steps if run.phases.get("decode") else 0],
                "neighbours": [{"prompt": n.prompt, "output": n.output} for n in run.neighbours],
            }
            for number, run in enumerate(chosen)
        ],
        "candidates": [{"attention": first["attention"], "dtype": first["dtype"], **c} for c in candidates],
        "sites": sites,
        "positions": _positions(chosen),
        "top_k": top_k,
        "repetitions": repetitions,
    }


def _positions(runs):
    """Positions as captures take them: one list for every phase, or all."""
    lists = {(name, tuple(phase.positions)) for run in runs for name, phase in run.phases.items() if phase}
    if len({positions for _, positions in lists}) == 1:
        return list(next(iter(lists))[1])
    whole = all(run.phases["prefill"].positions == list(range(-len(run.prompt), 0)) for run in runs)
    if whole and all(positions == (-1,) for name, positions in lists if name == "decode"):
        return "all"
    fault = "prompts and decode steps have different positions"
    raise CaptureError(fault, "record with one list of positions, or positions='all'")


def replay(plan, out, progress=lambda text: None):
    """Runs a plan into the container `out`, candidate by candidate; taken up again where it was killed."""
    if plan.get("format") != FORMAT or plan.get("version") != VERSION:
        raise CaptureError(f"not a replay plan of version {VERSION}", "make it with this version of mantissa")
    import torch
    import transformers

    from .recording import UNFINISHED

    if container.is_complete(out):
        return out
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    done, loaded, model = [], None, None
    for number, candidate in enumerate(plan["candidates"]):
        if unknown := set(candidate) - AXES:
            fault = f"candidate {number} sets {', '.join(sorted(unknown))}"
            raise CaptureError(fault, f"a replay can set {', '.join(sorted(AXES))}")
        wanted = candidate["dtype"], candidate["attention"]
        if loaded != wanted:
            model = None
            place = {"pretrained_model_name_or_path": plan["model"]}
            if plan["model"].endswith(".gguf"):
                folder, name = os.path.split(plan["model"])
                place = {"pretrained_model_name_or_path": folder or ".", "gguf_file": name}
            load = transformers.AutoModelForCausalLM.from_pretrained
            model = load(**place, dtype=dtypes[wanted[0]], attn_implementation=wanted[1]).to(device).eval()
            loaded = wanted
        for run in plan["runs"]:
            place = os.path.join(out, UNFINISHED, f"candidate{number}-ref{run['reference']}")
            progress(f"candidate {number + 1} of {len(plan['candidates'])}, reference {run['reference']}")
            if not container.is_complete(place):
                _one(model, plan, candidate, run, place)
            done.append((run["reference"], container.read(place)))
    configurations, runs, metadata = _join(done)
    container.write(out, metadata, configurations, runs)
    shutil.rmtree(os.path.join(out, UNFINISHED))
    return out


def _one(model, plan, candidate, run, place):
    from .recording import record

    size = candidate.get("batch_size", 1 + len(run["neighbours"]))
    beside = run["neighbours"][: size - 1]
    if len(beside) < size - 1:
        # Rows do not mix: any others serve, and the prompt itself, turned, is at hand.
        turned = lambda ids, by: ids[by % len(ids) :] + ids[: by % len(ids)]
        beside = beside + [
            {"prompt": turned(run["prompt"], row), "output": run["output"]} for row in range(len(beside) + 1, size)
        ]
    prompts = Prompts([Prompt(run["prompt"])], [[Prompt(other["prompt"]) for other in beside]])
    steps = len(run["output"])
    forced = [run["output"], *(other["output"][:steps] for other in beside)]
    record(
        model,
        prompts,
        place,
        batch_size=size,
        decode=steps,
        forced=forced,
        repetitions=plan["repetitions"],
        sites=plan["sites"],
        positions=plan["positions"],
        top_k=plan["top_k"],
        cache=candidate.get("cache", "dynamic"),
        expect={"attention": candidate["attention"], "dtype": candidate["dtype"]},
        checkpoint=plan["model"],
    )


def _join(done):
    """One experiment of all records, each of one configuration and one reference."""
    from .evidence import Experiment

    configurations, runs = {}, []
    for reference, (_, [configuration], kept) in done:
        name, extras = configuration["config_id"], configuration["mantissa"]
        for digest in extras["reproducibility"]["digests"]:
            digest["reference_id"] = reference
        if extras["reproducibility"]["outcome"]["state"] == "divergent":
            extras["reproducibility"]["outcome"]["reference_id"] = reference
        for run in kept:
            run.reference = reference
        runs += kept
        if name not in configurations:
            configurations[name] = configuration
            continue
        both = configurations[name]["mantissa"]["reproducibility"]
        both["digests"] += extras["reproducibility"]["digests"]
        if extras["reproducibility"]["outcome"]["state"] == "divergent" and both["outcome"]["state"] != "divergent":
            both["outcome"] = extras["reproducibility"]["outcome"]
    metadata = done[0][1][0]
    found = Experiment.varied(list(configurations.values()))
    metadata["variable_tested"] = next((c["variable"] for c in found if "variable" in c), "none")
    metadata["experiment_type"] = "replay"
    for configuration in found:
        configuration.pop("variable", None)
    return found, runs, metadata


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 2:
        sys.exit(__doc__)
    with open(arguments[0]) as file:
        plan = json.load(file)
    try:
        print(replay(plan, arguments[1], lambda text: print(text, file=sys.stderr)))
    except CaptureError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
