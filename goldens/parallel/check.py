"""Recomputes captures of goldens/parallel/gpu on a CPU, and tabulates how many values differ.

    python3 check.py MANTISSA CAPTURES MODELS OUT.md [--only JOB] [--cells CELL,…]

CAPTURES has a folder for each job (`vllm-tp2-qwen7b`), with a container for each cell (`l333`); MODELS has the folders
that `gpu/plan.py MODEL OUT MANTISSA` makes. Each container is judged by `mantissa verify` under the setup that it
states. Ends with 1 if a value differs.
"""

import argparse
import json
import os
import subprocess
import sys


def judged(mantissa, container, model):
    """`(values, different, what)` of a container; `values` is None where it is not covered."""
    command = [mantissa, "--quiet", "verify", container, "--model", model, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return None, None, done.stderr.strip().replace("\n", " ")
    values = different = 0
    what = []
    for claim in found["claims"]:
        replays = [replay for replay in claim["replays"] if replay["claimed"]]
        if not replays:
            return None, None, " ".join(claim["not_checked"])
        [replay] = replays
        values += replay["values"]
        different += replay["different"]
        if replay["different"]:
            first = replay["first"]
            what.append(f"first at {first['site']}, {first['phase']}" if isinstance(first, dict) else str(first))
    return values, different, "; ".join(what)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mantissa")
    parser.add_argument("captures")
    parser.add_argument("models")
    parser.add_argument("out")
    parser.add_argument("--only", metavar="JOB", help="jobs whose name has this in it")
    parser.add_argument("--cells", metavar="LIST", help="cells, comma-separated")
    args = parser.parse_args()
    cells = args.cells.split(",") if args.cells else None
    version = subprocess.run([args.mantissa, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    rows, wrong = [], False
    for job in sorted(os.listdir(args.captures)):
        if args.only and args.only not in job:
            continue
        for cell in sorted(os.listdir(os.path.join(args.captures, job))):
            whole = os.path.exists(os.path.join(args.captures, job, cell, "manifest.json"))
            if not whole or cells and cell not in cells:
                continue
            model = os.path.join(args.models, job.split("-")[-1])
            values, different, what = judged(args.mantissa, os.path.join(args.captures, job, cell), model)
            wrong |= bool(different)
            shown = "not covered" if values is None else f"{different} of {values}"
            rows.append(f"| {job} | {cell} | {shown} | {what} |")
            print(rows[-1], flush=True)
    with open(args.out, "w") as file:
        file.write(f"{version}\n\n| job | cell | differ | where, or why not |\n| --- | --- | ---: | --- |\n")
        file.write("\n".join(rows) + "\n")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
