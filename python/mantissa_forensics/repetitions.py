"""Whether repetitions agree to the bit, and where they first do not: `crates/evidence/src/reproducibility.rs` says it.

The order is that of computation: prompts, prefill, then for each step the token it consumes, the neighbours' tokens,
and signals, sites in the flow of data, log-probabilities last.
"""

import numpy as np

from . import sites


def reproducibility(runs):
    """`reproducibility` of the experiment JSON: within each reference, each run compared with the first."""
    references = {}
    for run in runs:
        references.setdefault(run.reference, []).append(run)
    references = dict(sorted(references.items()))
    outcome = {"state": "identical"}
    if not references or any(len(repetitions) < 2 for repetitions in references.values()):
        outcome = {"state": "not_checked"}
    for reference, repetitions in references.items():
        found = next(((run, f) for run in repetitions[1:] if (f := first_difference(repetitions[0], run))), None)
        if found:
            pair = [repetitions[0].rep, found[0].rep]
            outcome = {"state": "divergent", "reference_id": reference, "repetitions": pair, "first": found[1]}
            break
    return {
        "repetitions": max(map(len, references.values()), default=0),
        "outcome": outcome,
        "digests": [run.digests() for repetitions in references.values() for run in repetitions],
    }


def first_difference(a, b):
    """The first place where two runs have other bits, as the experiment JSON writes it; `None` where there is none."""
    prompts = lambda run: [run.prompt] + [neighbour.prompt for neighbour in run.neighbours]
    if prompts(a) != prompts(b):
        return {"what": "prompt"}
    if found := _step("prefill", a.phases.get("prefill"), b.phases.get("prefill"), 0):
        return found
    steps = [range(p.first_step, p.first_step + p.steps) for p in (a.phases.get("decode"), b.phases.get("decode")) if p]
    last = max([len(a.output), len(b.output)] + [r.stop for r in steps])
    for step in range(last):
        if a.output[step : step + 1] != b.output[step : step + 1]:
            return {"what": "token", "index": step}
        for row, (mine, theirs) in enumerate(zip(a.neighbours, b.neighbours), 1):
            if mine.output[step : step + 1] != theirs.output[step : step + 1]:
                return {"what": "neighbour_token", "sequence": row, "index": step}
        if any(step in recorded for recorded in steps):
            if found := _step("decode", a.phases.get("decode"), b.phases.get("decode"), step):
                return found
    if _layout(a.phases.get("decode")) != _layout(b.phases.get("decode")):
        return {"what": "layout", "phase": "decode"}
    return None


def _layout(phase):
    return phase and (phase.first_step, phase.layout())


def _step(name, a, b, step):
    if _layout(a) != _layout(b):
        return {"what": "layout", "phase": name}
    if not a or not a.first_step <= step < a.first_step + a.steps:
        return None
    row = step - a.first_step
    for site in sorted(a.tensors, key=sites.order):
        differ = np.argwhere(a.tensors[site].bits[row] != b.tensors[site].bits[row])
        if len(differ):
            place, element = map(int, differ[0])
            where = {"phase": name, "step": step, "position": a.positions[place]}
            return {"what": "signal", **where, "site": site, "element": element}
    if a.logprobs:
        differ = (a.logprobs.token_ids[row] != b.logprobs.token_ids[row]) | (
            a.logprobs.log_probs[row] != b.logprobs.log_probs[row]
        )
        if len(found := np.argwhere(differ)):
            place, candidate = map(int, found[0])
            where = {"phase": name, "step": step, "position": a.positions[place]}
            return {"what": "logprobs", **where, "candidate": candidate}
    return None
