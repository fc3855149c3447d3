"""Predicts again what was compared with a GPU, on any machine without one, and compares digests.

    python3 repeat.py MANTISSA SCRATCH REPORT.json [PATTERN] [GGUF]

REPORT is goldens/gpu/h200_transformers.json or h100_transformers.json: each case holds the digest of the record that was compared there.
PATTERN picks the cases that contain it, such as `smollm2-135m:29r` or `sdpa_math`; all of them take hours on two cores. Cases of
the real model need GGUF. Ends with 1 if any digest differs.
"""

import json
import os
import shutil
import sys

from cases import MODELS, parts_of, predict, prepare

program, scratch, report, *more = sys.argv[1:]
gguf = next((path for path in more if path.endswith(".gguf")), None)
pattern = next((text for text in more if text != gguf), "")
found = json.load(open(report))
os.environ["HARDWARE"] = "h100" if "H100" in found["versions"]["gpu"] else "h200"
cases = [case for case in found["cases"] if "refused" not in case and pattern in case["case"] and (parts_of(case["case"])[0] in MODELS or gguf)]
os.makedirs(scratch, exist_ok=True)
prepare(program, scratch, {parts_of(case["case"])[0] for case in cases if parts_of(case["case"])[0] in MODELS})
wrong = 0
for number, case in enumerate(cases, 1):
    preset = parts_of(case["case"])[0]
    name = case["case"] if preset in MODELS else case["case"].replace(preset, gguf, 1)
    seconds, run, file = predict(program, scratch, name)
    same = run["mantissa"]["signals_digest"] == case["signals_digest"]
    wrong += not same
    print(f"{number} of {len(cases)} {case['case']}: {'the same bits' if same else 'OTHER BITS'}, {seconds:.1f} s", flush=True)
    shutil.rmtree(os.path.dirname(file))
print(f"{len(cases) - wrong} of {len(cases)} predictions are those that were compared with the {found['versions']['gpu']}")
sys.exit(1 if wrong or not cases else 0)
