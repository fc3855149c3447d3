"""Predicts again what was compared with a GPU, on any machine without one, and compares digests.

    [JOBS=N] python3 repeat.py MANTISSA SCRATCH REPORT.json [PATTERN] [GGUF]

REPORT is goldens/gpu/h200_transformers.json or h100_transformers.json: each case holds the digest of the record
that was compared there. Log-probabilities are torch.log_softmax's since, so that only cases with a digest of both
(`signals_digest_before`, by redigest.py) are predicted again; how many are not is said. PATTERN picks the cases
that contain it, such as `smollm2-135m:29r` or `sdpa_math`; all of them take hours on two cores. Cases of the real
model need GGUF. N cases at a time (1) share the processors. A case that was done before in SCRATCH is not done
again, so a run that was killed goes on. Ends with 1 if any digest differs."""

import concurrent.futures
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
stale = [case for case in cases if "signals_digest_before" not in case]
cases = [case for case in cases if "signals_digest_before" in case]
print(f"{len(stale)} cases have digests from before log-probabilities changed: redigest.py gives them new ones", flush=True)
os.makedirs(scratch, exist_ok=True)
prepare(program, scratch, {parts_of(case["case"])[0] for case in cases if parts_of(case["case"])[0] in MODELS})
jobs = int(os.environ.get("JOBS", "1"))
threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
done = os.path.join(scratch, "done-" + os.path.basename(report))
known = json.load(open(done)) if os.path.exists(done) else {}


def repeated(case):
    """The digest, and seconds."""
    if case["case"] in known:
        return known[case["case"]], 0.0
    preset = parts_of(case["case"])[0]
    name = case["case"] if preset in MODELS else case["case"].replace(preset, gguf, 1)
    seconds, run, file = predict(program, scratch, name, threads=threads)
    shutil.rmtree(os.path.dirname(file))
    return run["mantissa"]["signals_digest"], seconds


wrong = 0
# The longest first, so that the last worker does not wait for one.
cases.sort(key=lambda case: -case["prompt_tokens"] * (4 if "7b" in case["case"] or "30b" in case["case"] else 1))
with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    running = {pool.submit(repeated, case): case for case in cases}
    for number, future in enumerate(concurrent.futures.as_completed(running), 1):
        digest, seconds = future.result()
        case = running[future]
        same = digest == case["signals_digest"]
        wrong += not same
        print(f"{number} of {len(cases)} {case['case']}: {'the same bits' if same else 'OTHER BITS'}, {seconds:.1f} s", flush=True)
        # Only this thread changes what is known; workers read their own case.
        known[case["case"]] = digest
        with open(done + ".part", "w") as file:
            json.dump(known, file)
        os.replace(done + ".part", done)
print(f"{len(cases) - wrong} of {len(cases)} predictions are those that were compared with the {found['versions']['gpu']}")
sys.exit(1 if wrong or not cases else 0)
