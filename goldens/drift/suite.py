"""Judges `mantissa drift` by cases whose truth is known, and tabulates what it says of them.

    python3 goldens/drift/suite.py --mantissa PROGRAM --seed N --out TABLE.md [--only KIND] [--jobs N] [--keep DIR]
    python3 goldens/drift/suite.py --mantissa PROGRAM --cases DIR --out TABLE.md [--only KIND]

Each case of `planted.py` is made, judged by `mantissa drift --model MODEL CASE --format json` and deleted. With
`--cases` the folder's own cases are judged, and stay. Ends with 1 if an honest case is called unexplained or an answer
is wrong.

What counts, of a planted bug:

- **right**: pairs are unexplained, the first of them in the flow of data is in the planted layer, and the first
  hypothesis that fits has the bug's name and layer. **other**: it has another name or layer. **none**: no hypothesis
  fits, which is right of kinds on no list. **elsewhere** counts cases with unexplained pairs in other layers too.
- **rounding**: nothing is unexplained, and at the place of the bug every pair that it changed states a smallest effect
  larger than the bug's own.
- **explained**: nothing is unexplained, and a recipe explains each changed pair whose smallest effect is not larger. Of
  `cast_order` that is an answer; of other kinds read the case.
- **wrong**: all else; also a program that fails.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import datetime
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile

import planted
from mantissa_forensics import sites

COLUMNS = ("right", "other", "none", "rounding", "explained", "wrong")
# Hypotheses that were tried and do not fit are listed with this answer.
UNEXPLAINED = "unexplained"
EXIT_CODES = (0, 1, 3)
# Outcomes that fail the suite.
FAILURES = ("alarm", "failed", "wrong")


@dataclasses.dataclass
class Judgement:
    truth: dict
    # One of `COLUMNS`; of honest cases `quiet`, `alarm` or `failed`.
    outcome: str
    note: str = ""
    counts: dict = dataclasses.field(default_factory=dict)
    # Unexplained pairs in other layers than the bug's.
    elsewhere: int = 0


def judge(mantissa, truth, case):
    """Asks the program about a case and compares its answer with the truth."""
    command = [mantissa, "--quiet", "drift", "--model", truth["model"], case, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    failed = "failed" if truth["honest"] else "wrong"
    said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
    if done.returncode not in EXIT_CODES:
        return Judgement(truth, failed, f"exit code {done.returncode}: {said}")
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        return Judgement(truth, failed, f"no JSON ({error}): {said}")
    counts = found["counts"]
    first = min((pair for pair in found["pairs"] if pair["answer"] == UNEXPLAINED), key=flow, default=None)
    if (counts[UNEXPLAINED] > 0) != (first is not None) or (first is not None) != (done.returncode == 1):
        return Judgement(truth, failed, f"exit code {done.returncode} with {counts[UNEXPLAINED]} unexplained", counts)
    if truth["honest"]:
        note = f"{place_of(first)}, position {first['position']}" if first else ""
        return Judgement(truth, "alarm" if first else "quiet", note, counts)
    outcome, note = of_alarm(truth, found, first) if first else of_silence(truth, found)
    other = [p for p in found["pairs"] if p["answer"] == UNEXPLAINED and p["layer"] != truth["layer"]]
    return Judgement(truth, outcome, note, counts, len(other))


def of_alarm(truth, found, first):
    if first["layer"] != truth["layer"]:
        return "wrong", f"first unexplained at {place_of(first)}, planted at {place_of(truth)}"
    fits = [hypothesis for hypothesis in found["hypotheses"] if hypothesis["answer"] != UNEXPLAINED]
    if not fits:
        return "none", ""
    best = fits[0]
    if best["name"] == truth["kind"] and (truth["layer"] is None or best["layer"] == truth["layer"]):
        return "right", ""
    return "other", f"{best['name']} in layer {best['layer']}"


def of_silence(truth, found):
    """A bug that raised no alarm must be smaller than the smallest effect that is stated: for its pair, or its site."""
    at = lambda entry: (entry["layer"], entry["point"]) == (truth["layer"], truth["point"])
    of_site = next((site["smallest"] for site in found["sites"] if at(site)), None)
    effects = {entry["position"]: entry["distance"] for entry in truth["effect"]["positions"]}
    place = {pair["position"]: pair for pair in found["pairs"] if at(pair)}
    explained = False
    for position, effect in effects.items():
        pair = place.get(position)
        if pair is None:
            return "wrong", f"no pair at {place_of(truth)}, position {position}"
        smallest = of_site if pair["smallest"] is None else pair["smallest"]
        if smallest is not None and smallest > effect:
            continue
        if pair["answer"] != "explained":
            words = f"{pair['answer']} at position {position}, smallest effect {smallest}, true {effect:.1e}"
            return "wrong", words
        explained = True
    return ("explained" if explained else "rounding"), ""


def flow(pair):
    """Sorts pairs by the flow of data, then by position."""
    layer, point = pair["layer"], pair["point"]
    return sites.order(point if layer is None else f"layer_{layer}.{point}"), pair["position"]


def place_of(entry):
    return entry["point"] if entry["layer"] is None else f"layer {entry['layer']} {entry['point']}"


# ---- cases -----------------------------------------------------------------------------------------------------------


def stored(folder, only):
    """Cases that `planted.py` left in a folder."""
    with open(os.path.join(folder, "truth.json")) as file:
        truths = json.load(file)["cases"]
    for truth in truths:
        if only in (None, truth["kind"], truth["case"]):
            yield truth, os.path.join(folder, truth["case"])


def made(mantissa, seed, cases, without_effect):
    """Cases made one by one; each is gone when the next one is asked for. Bugs that change no bit are listed."""
    planted.quiet()
    with tempfile.TemporaryDirectory(prefix="drift-suite-") as folder, planted.on_path(mantissa):
        workshop = planted.Workshop(mantissa, folder, seed)
        for case in cases:
            try:
                truth = workshop.make(case)
            except planted.NoEffectError as error:
                without_effect.append(str(error))
                continue
            yield truth, os.path.join(folder, case.name)
            shutil.rmtree(os.path.join(folder, case.name))


def judged(mantissa, cases, keep):
    """Judges cases one after the other and says what it found. Those that are not as they should be stay in `keep`."""
    judgements = []
    for truth, path in cases:
        judgement = judge(mantissa, truth, path)
        judgements.append(judgement)
        print(truth["case"], judgement.outcome, judgement.note, flush=True)
        if keep and judgement.outcome in FAILURES:
            kept = os.path.join(keep, truth["case"])
            shutil.copytree(path, os.path.join(kept, "evidence"))
            shutil.copytree(truth["model"], os.path.join(kept, "model"))
            with open(os.path.join(kept, "truth.json"), "w") as file:
                json.dump(truth, file, indent=1)
    return judgements


def share(mantissa, seed, only, first, jobs, keep):
    """Every `jobs`-th case from `first` on: judgements, and bugs that change no bit. A case's draws are its name's."""
    without_effect = []
    cases = planted.every(only)[first::jobs]
    return judged(mantissa, made(mantissa, seed, cases, without_effect), keep), without_effect


def shared(mantissa, seed, only, jobs, keep):
    """All cases by `jobs` processes, in their order."""
    jobs = min(jobs, len(planted.every(only)))
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = [pool.submit(share, mantissa, seed, only, first, jobs, keep) for first in range(jobs)]
        found = [one.result() for one in shares]
    by_name = {judgement.truth["case"]: judgement for judgements, _ in found for judgement in judgements}
    judgements = [by_name[case.name] for case in planted.every(only) if case.name in by_name]
    return judgements, [name for _, names in found for name in names]


# ---- the table -------------------------------------------------------------------------------------------------------


def table(judgements, title, without_effect=()):
    """Markdown."""
    honest = [j for j in judgements if j.truth["honest"]]
    planted_ones = [j for j in judgements if not j.truth["honest"]]
    lines = [f"# {title}", ""]
    if honest:
        lines += ["| honest cases | unexplained | failed | pairs | of them |", "|---:|---:|---:|---:|---|"]
        counts = collections.Counter()
        for judgement in honest:
            counts.update(judgement.counts)
        pairs = counts.pop("pairs", 0)
        outcomes = collections.Counter(j.outcome for j in honest)
        words = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        lines += [f"| {len(honest)} | {outcomes['alarm']} | {outcomes['failed']} | {pairs} | {words} |", ""]
    if planted_ones:
        lines += [f"| bug | cases | {' | '.join(COLUMNS)} | elsewhere |", "|---|" + "---:|" * (len(COLUMNS) + 2)]
        for kind in dict.fromkeys(j.truth["kind"] for j in planted_ones):
            mine = [j for j in planted_ones if j.truth["kind"] == kind]
            lines.append(row(kind if mine[0].truth["listed"] else f"{kind} (on no list)", mine))
        lines += [row("all", planted_ones), ""]
    if without_effect:
        lines += [f"Left out, as the bug changed no bit in {planted.DRAWS} draws: {', '.join(without_effect)}.", ""]
    if notes := [f"- {j.truth['case']} ({told(j)}): {j.outcome}, {j.note}" for j in judgements if j.note]:
        lines += ["What was not right:", "", *notes, ""]
    return "\n".join(lines)


def row(name, judgements):
    outcomes = collections.Counter(j.outcome for j in judgements)
    cells = [outcomes[column] for column in COLUMNS] + [sum(j.elsewhere > 0 for j in judgements)]
    return f"| {name} | {len(judgements)} | {' | '.join(map(str, cells))} |"


def told(judgement):
    truth = judgement.truth
    return truth["family"] if truth["honest"] else f"{truth['patched']}; effect {truth['effect']['largest']:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantissa", required=True, metavar="PROGRAM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True, metavar="TABLE")
    parser.add_argument("--only", metavar="KIND", help="a kind of bug, `honest`, or the name of a case")
    parser.add_argument("--jobs", type=int, default=1, help="processes that make and judge cases")
    parser.add_argument("--keep", metavar="DIR", help="where cases stay that fail the suite, with their models")
    parser.add_argument("--cases", metavar="DIR", help="judge the cases of this folder")
    args = parser.parse_args()
    args.mantissa = planted.program(args.mantissa)
    if args.cases:
        judgements, without_effect = judged(args.mantissa, stored(args.cases, args.only), args.keep), []
    else:
        judgements, without_effect = shared(
            args.mantissa, args.seed, args.only, max(args.jobs, 1), args.keep
        )
    if not judgements:
        raise SystemExit(f"{args.cases} has no such case; leave --only out")
    version = subprocess.run([args.mantissa, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    day = datetime.date.today().isoformat()
    where = f"cases of {os.path.basename(os.path.normpath(args.cases))}" if args.cases else f"seed {args.seed}"
    with open(args.out, "w") as file:
        file.write(table(judgements, f"{version}, {where}, {day}", without_effect))
    sys.exit(any(j.outcome in FAILURES for j in judgements))


if __name__ == "__main__":
    main()
