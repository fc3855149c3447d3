"""What the comparison script of the ablation plan does, in our own words: the whole file by json, distances by numpy.

    plan_compare.py FILE [--signal key_vectors|hidden_states|logprobs] [--layer layer_39] [--parse-only]

Four analyses over the L2 distance of one layer per step and position, of which the largest counts: repetitions of each
setup, one setup on two machines, other values of the variable on one machine, other values on the other machine.
Prints one JSON object with the largest distances; the timing harness compares them with ours. Needs numpy.
"""

import argparse
import itertools
import json

import numpy as np


def largest(one, other, arguments):
    """The largest L2 distance between the rows that both runs have."""
    found = 0.0
    for a, b in zip(one["decode_steps"], other["decode_steps"]):
        a, b = a[arguments.signal], b[arguments.signal]
        if arguments.signal != "logprobs":
            a, b = a[arguments.layer], b[arguments.layer]
        for position in ("pos_-3", "pos_-2", "pos_-1"):
            x, y = a[position], b[position]
            if arguments.signal == "logprobs":
                x, y = x["log_probs"], y["log_probs"]
            found = max(found, float(np.linalg.norm(np.array(x) - np.array(y))))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--signal", default="key_vectors")
    parser.add_argument("--layer", default="layer_39")
    parser.add_argument("--parse-only", action="store_true")
    arguments = parser.parse_args()
    with open(arguments.file, encoding="utf-8") as file:
        experiment = json.load(file)
    if arguments.parse_only:
        return
    runs = {}
    for run in experiment["runs"]:
        runs.setdefault(run["config_id"], []).append(run)
    machines = {}
    for configuration in experiment["configurations"]:
        machines.setdefault(configuration["hardware"], []).append(configuration)
    first = lambda configuration: runs[configuration["config_id"]][0]
    distance = lambda a, b: largest(first(a), first(b), arguments)
    one, other = (machines[hardware] for hardware in sorted(machines)[:2])
    same = lambda a, b: a["variable_value"] == b["variable_value"]
    repeated = [largest(a, b, arguments) for reps in runs.values() for a, b in itertools.combinations(reps, 2)]
    baseline = [distance(a, b) for a in one for b in other if same(a, b)]
    within = [distance(setups[0], b) for setups in machines.values() for b in setups[1:]]
    across = [distance(a, b) for a in one for b in other if not same(a, b)]
    print(json.dumps({"reproducibility": repeated, "baseline": baseline, "within": within, "cross": across}))


main()
