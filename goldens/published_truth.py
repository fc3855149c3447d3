#!/usr/bin/env python3
"""What each published file and log says, found without Mantissa: aggregates, classes, whether repetitions agree.

    python3 goldens/published_truth.py ../shared/published ../shared/sources > goldens/published_truth.json

Plain arithmetic over the files' own numbers (numpy's order of sums is not imitated: values agree to 1e-9).
"""

import json, math, re, struct, sys
from pathlib import Path


def l2(a, b):
    return math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(a, b)))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else None


def finite(values):
    return [v for v in values if math.isfinite(v)]


def first_five(a, b):
    other = dict(zip(b["token_ids"], b["log_probs"]))
    found = [(v - other[i]) for i, v in list(zip(a["token_ids"], a["log_probs"]))[:5] if i in other]
    return math.sqrt(math.fsum(d * d for d in found)) if found else math.inf


def off(m):
    return [v for i, row in enumerate(m) for j, v in enumerate(row) if i != j]


def diag(m):
    return [row[i] for i, row in enumerate(m)]


def average(matrices):
    n = len(matrices[0])
    return [[mean(m[i][j] for m in matrices) for j in range(n)] for i in range(n)]


def cells(a, b, distance):
    """Mean over positions of what is finite."""
    values = finite(distance(a[p], b[p]) for p in a if p in b)
    return mean(values) if values else math.inf


def groups(items, alike):
    out = []
    for item in items:
        for group in out:
            if all(alike(member, item) for member in group):
                group.append(item)
                break
        else:
            out.append([item])
    return out


def num(x):
    return None if x is None else ("inf" if math.isinf(x) else x)


def summary(prefix, m, out):
    o = finite(off(m))
    out[prefix + " diagonal"] = num(mean(diag(m)))
    out[prefix + " off-diagonal"] = num(mean(o)) if o else "inf"


def setups(phase_of, names, refs, distance, prefix, out):
    """Matrix of distances per reference, averaged; classes of distance 0 in every reference."""
    ms = [[[cells(phase_of(a, r), phase_of(b, r), distance) for b in names] for a in names] for r in refs]
    m = average(ms)
    summary(prefix, m, out["aggregates"])
    zero = lambda a, b: m[names.index(a)][names.index(b)] == 0 == m[names.index(b)][names.index(a)]
    out["classes"][prefix] = [[str(x) for x in g] for g in groups(names, zero)]


def published(d):
    out = {"aggregates": {}, "classes": {}}
    agg = out["aggregates"]
    keys = set(d)
    if "layer_deviations" in keys:
        last = list(d["layer_deviations"].items())[-1]
        agg["last layer"] = last[1]["l2_distance"]
        agg["growth"] = last[1]["l2_distance"] / list(d["layer_deviations"].values())[0]["l2_distance"]
    elif "systematic_deviation" in keys:
        steps = d["systematic_deviation"]["l2_per_step"]
        agg["mean"], agg["max"], agg["min"] = mean(steps), max(steps), min(steps)
        out["same tokens"] = d["token_divergence"]["eager_tokens"] == d["token_divergence"]["compiled_tokens"]
    elif "raw_activations" in keys:
        raw = d["raw_activations"]
        out["repetitions agree"] = all(r == rows[0] for rows in raw.values() for r in rows)
        if next(iter(raw)).startswith("batch"):
            names = d["config"]["batch_sizes"]
            row = {n: raw["batch_size_%d" % n][0] for n in names}
            for a in names:
                for b in names:
                    if a < b:
                        agg["%d and %d" % (a, b)] = l2(row[a], row[b])
            out["classes"]["prefill"] = [[str(x) for x in g] for g in groups(names, lambda a, b: row[a] == row[b])]
        else:
            for k, rows in raw.items():
                agg["norm of " + k] = l2(rows[0], [0.0] * len(rows[0]))
    elif "token_sequences" in keys:
        runs = d["logprobs_vectors"]
        out["repetitions agree"] = all(r == runs[0] for r in runs) and all(
            t == d["token_sequences"][0] for t in d["token_sequences"])
        out["same tokens"] = all(t == d["token_sequences"][0] for t in d["token_sequences"])
        agg["mean to run 0"] = mean(l2(r, runs[0]) for r in runs[1:])
    elif "baseline" in keys:
        for mode in ("baseline", "deterministic"):
            runs = d[mode]["logprobs"]
            agg[mode + " mean to run 0"] = mean(l2(r, runs[0]) for r in runs[1:])
        out["repetitions agree"] = all(r == d[m]["logprobs"][0] for m in ("baseline", "deterministic")
                                       for r in d[m]["logprobs"])
    elif "generations" in keys:
        names = list(d["metadata"]["model_configs"])
        refs = range(len(d["generations"][names[0]]))
        for phase in ("prefill", "decode"):
            at = lambda name, r: {p: s["logprobs"] for p, s in d["generations"][name][r][phase + "_signals"].items()}
            setups(at, names, refs, first_five, "logprobs " + phase, out)
        ids = lambda n, r: d["generations"][n][r]["generated_ids"]
        out["token groups"] = [groups(names, lambda a, b: ids(a, r) == ids(b, r)) for r in refs]
    elif "measurements" in keys and isinstance(d["measurements"], list):
        names = d["metadata"]["batch_sizes"]
        refs = sorted({m["ref_name"] for m in d["measurements"]})
        by = {(m["ref_name"], m["batch_size"]): m for m in d["measurements"]}
        inner = lambda s: s.get("signals", s)
        for phase in ("prefill", "decode"):
            at = lambda n, r: {p: inner(s)["logprobs"] for p, s in by[r, n][phase + "_signals"].items()}
            setups(at, names, refs, first_five, "logprobs " + phase, out)
            if "key_vectors" in inner(next(iter(by[refs[0], names[0]][phase + "_signals"].values()))):
                at = lambda n, r: {p: inner(s)["key_vectors"] for p, s in by[r, n][phase + "_signals"].items()}
                setups(at, names, refs, lambda a, b: mean(l2(a[k], b[k]) for k in a), "keys " + phase, out)
        out["token groups"] = [[[str(x) for x in g] for g in groups(
            names, lambda a, b: by[r, a]["generated_ids"] == by[r, b]["generated_ids"])] for r in refs]
    elif "measurements" in keys:
        names = list(d["measurements"])
        refs = range(len(d["measurements"][names[0]]))
        at = lambda n, r: {p: s["logprobs"] for p, s in d["measurements"][n][r]["prefill_signals"].items()}
        setups(at, names, refs, first_five, "logprobs prefill", out)
    elif "comparisons" in keys:
        sizes = d["metadata"].get("batch_sizes") or list(d["metadata"]["model_configs"])
        pick = lambda c, w: c[w + "_batch_size"] if w + "_batch_size" in c else c[w + "_config"]
        for phase in ("prefill", "decode"):
            for signal in ("key_vectors", "logprobs"):
                name = signal + "_mean"
                if name not in d["comparisons"][0][phase + "_distances"]:
                    continue
                m = [[mean(c[phase + "_distances"][name] for c in d["comparisons"]
                           if pick(c, "claimed") == a and pick(c, "verify") == b) for b in sizes] for a in sizes]
                short = {"key_vectors": "keys", "logprobs": "logprobs"}[signal]
                summary("%s %s" % (short, phase), m, agg)
    elif "cross_hardware" in keys:
        for phase in ("prefill", "decode"):
            for short, name in (("key", "keys"), ("logprob", "logprobs")):
                summary("%s %s" % (name, phase), d["cross_hardware"][phase][short + "_matrix"], agg)
    elif "cross_hardware_analysis" in keys:
        for name in ("within", "cross"):
            m = average(d[name + "_hardware_analysis"]["per_reference_matrices"])
            summary(name, m, agg)
    return out


def log(text):
    """Averages that a log prints, from its own last matrix of each heading."""
    out = {"aggregates": {}, "classes": {}}
    lines = [l.strip() for l in text.splitlines()]
    phase, signal, found = None, None, {}
    figure = re.compile(r"^(inf|\d\.\d\de[+-]\d\d)$")
    for i, line in enumerate(lines):
        if line.isupper() or "(PREFILL)" in line or "(DECODE)" in line:
            for word in ("PREFILL", "DECODE"):
                if "(%s)" % word in line:
                    phase, signal = word.lower(), None
        if line.startswith("Key Vectors ("):
            signal = "keys"
        if line.startswith("Logprobs ("):
            signal = "logprobs"
        words = re.sub(r"=\s+", "=", line).split()
        n = len(words)
        rows = [re.sub(r"=\s+", "=", l).split() for l in lines[i + 1:i + 1 + n]]
        if n > 1 and len(rows) == n and all(len(r) == n + 1 and all(figure.match(x) for x in r[1:]) for r in rows):
            found["%s %s" % (signal or "logprobs", phase)] = [[float(x) for x in r[1:]] for r in rows]
    for name, m in found.items():
        summary(name, m, out["aggregates"])
    out["classes printed"] = [l.split(": ", 1)[1] for l in lines if re.match(r"^Class \d+: \[", l)]
    return out


def main(folders):
    table = {}
    for folder in map(Path, folders):
        for path in sorted(folder.iterdir()):
            if path.suffix == ".json":
                table[path.name] = published(json.loads(path.read_text()))
            elif path.suffix == ".log" and "prefill_decode" not in path.name:
                table[path.name] = log(path.read_text())
    json.dump(table, sys.stdout, indent=1, sort_keys=True)
    print()


main(sys.argv[1:])
