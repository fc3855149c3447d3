"""Gives cases of a report the digests of this program, where nothing but log-probabilities is other than before.

    python3 redigest.py BEFORE MANTISSA SCRATCH REPORT.json CASE ...

REPORT is h200_transformers.json or h100_transformers.json. Each CASE is predicted with BEFORE, a program whose
digest is the one in the report (of a commit before log-probabilities became torch.log_softmax's), and with
MANTISSA. If BEFORE gives that digest and no tensor but log-probabilities differs, the case gets the new digest and
keeps the old one as `signals_digest_before`. Ends with 1 otherwise."""

import json
import os
import shutil
import struct
import sys

from cases import parts_of, predict, prepare


def tensors(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    bytes_of = lambda entry: data[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]]
    return {name: (entry["dtype"], entry["shape"], bytes_of(entry)) for name, entry in header.items()}


def predicted(program, scratch, case):
    _, run, file = predict(program, scratch, case)
    found = tensors(file)
    shutil.rmtree(os.path.dirname(file))
    return run["mantissa"]["signals_digest"], found


def main():
    before, program, scratch, path, *names = sys.argv[1:]
    report, wrong = json.load(open(path)), 0
    os.environ["HARDWARE"] = "h100" if "H100" in report["versions"]["gpu"] else "h200"
    os.makedirs(scratch, exist_ok=True)
    prepare(program, scratch, {parts_of(name)[0] for name in names})
    for name in names:
        case = next(case for case in report["cases"] if case["case"] == name)
        (old, a), (new, b) = (predicted(each, scratch, name) for each in (before, program))
        differ = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
        same = old == case["signals_digest"] and all(key.endswith("logprobs.log_probs") for key in differ)
        print(name, "digest is new" if same else f"NOT THE SAME: {differ}", flush=True)
        wrong += not same
        if same:
            case["signals_digest_before"], case["signals_digest"] = old, new
            with open(path, "w") as file:
                json.dump(report, file, indent=0)
                file.write("\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
