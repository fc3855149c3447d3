"""One job of transformers: stock, eager attention, bf16; tensor or expert parallel under torchrun.

    python3 transformers_ranks.py JOB MODEL OUT
    torchrun --nproc-per-node 2 transformers_ranks.py JOB MODEL OUT

OUT/CELL: a container for each cell, written by the first rank. OUT/job.json: digests of ranks compared, kernels of one
pass. Tokens are greedy; every rank chooses the same, since logits are gathered. Runs on a CPU too (gloo).
"""

import json
import os
import sys
import time

import torch
import torch.distributed as dist
import transformers

import plan

sys.path.insert(0, os.path.join(plan.ROOT, "python"))

from mantissa_forensics import Capture, container, observe, weights
from mantissa_forensics.evidence import Experiment

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class Trimmed(Capture):
    """Leaves of a prompt's rows those at `keep`, before heads of ranks are put side by side."""

    keep = ()

    def _gather_heads(self, run):
        super()._gather_heads(plan.trim(run, self.keep))


def load(job, model):
    from transformers.distributed import DistributedConfig

    more = {"dtype": torch.bfloat16, "attn_implementation": "eager"}
    if job.ranks > 1:
        more["distributed_config"] = DistributedConfig(
            tp_size=job.ranks, tp_plan="auto", enable_expert_parallel=job.expert_parallel
        )
    quantized = job.model.endswith(tuple(plan.QUANTIZED))
    if quantized and torch.cuda.is_available():
        # They are not moved afterwards.
        more["device_map"] = 0
    causal = transformers.AutoModelForCausalLM.from_pretrained(model, **more).eval()
    return causal.cuda() if job.ranks == 1 and torch.cuda.is_available() and not quantized else causal


@torch.no_grad()
def generate(causal, batch, steps):
    """A prompt of a whole batch in one pass, then greedy steps, as `record` does it."""
    device = next(causal.parameters()).device
    out = causal(input_ids=torch.tensor(batch, device=device), use_cache=True)
    for _ in range(steps):
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        out = causal(input_ids=token, past_key_values=out.past_key_values, use_cache=True)


def everyone(value):
    if WORLD == 1:
        return [value]
    found = [None] * WORLD
    dist.all_gather_object(found, value)
    return found


def captured(job, causal, model, name, cell, out, identity):
    batch = plan.prompts(cell, model)
    expect = {"dtype": "bf16", "attention": "eager", "compile": False, "batch_size": cell.batch}
    expect |= {"ep_size": job.ranks} if job.expert_parallel else {"tp_size": job.ranks}
    looks = {"layers": "all", "sites": plan.sites(job, cell), "positions": [-1] if cell.logits else "all"}
    with Trimmed(causal, **looks, top_k=10, sequences=[0], expect=expect) as capture:
        capture.keep = cell.keep
        for _ in range(plan.REPETITIONS):
            generate(causal, batch, cell.decode)
    experiment = Experiment(capture, name=job.model, identity=identity)
    # Heads are gathered here: every rank takes part.
    runs, configurations = experiment.assemble(capture.batches())
    digests = everyone([run.signals_digest() for run in runs])
    if RANK == 0:
        container.write(os.path.join(out, name), experiment.metadata(runs, configurations), configurations, runs)
    states = [one["mantissa"]["reproducibility"]["outcome"]["state"] for one in configurations]
    return {"repetitions": states, "ranks_agree": all(one == digests[0] for one in digests)}


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    job, model, out = plan.BY_NAME[sys.argv[1]], *map(os.path.abspath, sys.argv[2:])
    if WORLD != job.ranks:
        sys.exit(f"{job.name} has {job.ranks} ranks and {WORLD} run")
    began, report = time.time(), {"job": job.name, "cells": {}}
    os.makedirs(out, exist_ok=True)

    def note(text):
        if RANK == 0:
            print(f"{time.time() - began:.1f} s: {text}", flush=True)
            with open(os.path.join(out, "job.json"), "w") as file:
                json.dump(report, file, indent=1)

    if job.ranks > 1 and not torch.cuda.is_available():
        dist.init_process_group("gloo")
    causal = load(job, model)
    note("loaded")
    generate(causal, [plan.tokens(8, 0, 300)], 1)
    identity = weights.identify(causal, model)
    report["weights"] = {"of": identity.of, "digest": identity.digest, "note": identity.note}
    report["plan"] = {"tp": getattr(causal, "tp_plan", None) if job.ranks > 1 else None}
    report["versions"] = observe.versions()
    note(f"weights: {identity.of}, {identity.note}")
    for name, cell in job.cells.items():
        report["cells"][name] = captured(job, causal, model, name, cell, out, identity)
        note(f"{name}: {report['cells'][name]}")
    few, _ = observe.kernels(lambda: generate(causal, plan.prompts(plan.CELLS["l32"], model), 1))
    report["kernels"] = {"rank": RANK, "prefill and a step": few}
    note("ended")
    if job.ranks > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
