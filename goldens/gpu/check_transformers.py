"""Counts the bits in which Mantissa's prediction of an NVIDIA GPU and stock Hugging Face inference on it differ.

    python check_transformers.py MANTISSA SCRATCH REPORT.json [CASE ...]

MANTISSA is the program, SCRATCH a folder to work in, a CASE is as cases.py says. For each, `mantissa record --hardware h200` (or what the
environment variable HARDWARE says, with the catalog that CATALOG names) predicts every site of every layer on this machine's CPU,
three cases at a time, and transformers (of the case's dtype, from_pretrained, nothing patched but to look; the backend of sdpa forced by
torch.nn.attention) runs the same tokens on the GPU: the prompt in one pass of batch_size rows, then each decode step with the recorded token forced. Row 0 is the recorded prompt; the rows
beside it are the same prompt turned by 1, 2, … tokens, and decode other tokens. If anything differs the case is run again with equal
rows, so that what neighbours change can be told from what they do not. Compared are the recorded positions (the last POSITIONS of the
prompt, 3 unless told), as raw bits; with DETAIL set the first differences are printed. The report, written after every case, says by
phase and point how many values were compared, how many differ, and the first layer in which any does. Ends with 1 if any differs or a
case was refused.
"""

import concurrent.futures
import contextlib
import gc
import json
import os
import subprocess
import sys
import time

import torch
import transformers
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from cases import folder_of, parts_of, predict, prepare
from look import Look

BACKENDS = {"sdpa_flash": SDPBackend.FLASH_ATTENTION, "sdpa_math": SDPBackend.MATH}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
# Last positions of the prompt that are compared.
POSITIONS = int(os.environ.get("POSITIONS", "3"))


def predicted(program, scratch, case):
    seconds, run, file = predict(program, scratch, case, POSITIONS)
    return run["mantissa"]["signals_digest"], run["mantissa"]["prompt_token_ids"], run["mantissa"]["output_token_ids"], load_file(file), seconds


def count(table, phase, name, ours, theirs):
    point = name.split(".")[-1]
    layer = int(name.split(".")[0][6:]) if "." in name else 0
    row = table.setdefault(f"{phase} {point}", {"values": 0, "differ": 0, "first_layer": None})
    a, b = ours.contiguous().view(torch.int16), theirs.cpu().contiguous().view(torch.int16)
    assert a.shape == b.shape, (phase, name, a.shape, b.shape)
    differ = int((a != b).sum())
    row["values"] += a.numel()
    row["differ"] += differ
    if differ and os.environ.get("DETAIL"):
        where = (a != b).nonzero()[:4].tolist()
        print(f"      {phase} {name}: {differ} differ, at {where}: {[(hex(int(a[tuple(w)]) & 65535), hex(int(b[tuple(w)]) & 65535)) for w in where]}", flush=True)
    if differ and (row["first_layer"] is None or layer < row["first_layer"]):
        row["first_layer"] = layer


def stock(model, prompt, output, ours, steps, batch, attention, turned):
    """Runs the GPU; counts by phase and point."""
    table = {}
    forced = sdpa_kernel([BACKENDS[attention]]) if attention in BACKENDS else contextlib.nullcontext()
    by = lambda row: row % len(prompt) if turned else 0
    vocabulary = model.config.vocab_size
    with torch.no_grad(), forced, Look(model, POSITIONS) as look:
        ids = torch.tensor([prompt[by(row):] + prompt[: by(row)] for row in range(batch)], device="cuda")
        out = model(ids, use_cache=True)
        look.logits(out)
        phase_sites = [name.split("/")[1] for name in ours if name.startswith("prefill/") and "logprobs" not in name]
        for name in phase_sites:
            count(table, "prefill", name, ours["prefill/" + name][0], look.seen[name])
        for step in range(steps):
            token = torch.tensor([[(output[step] + 97 * by(row)) % vocabulary] for row in range(batch)], device="cuda")
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            look.logits(out)
            for name in phase_sites:
                if "decode/" + name in ours:
                    count(table, "decode", name, ours["decode/" + name][step][-1:], look.seen[name][-1:])
    return table


def write(report, found):
    with open(report, "w") as file:
        json.dump(found, file, indent=0, separators=(",", ":"))


def main():
    program, scratch, report = sys.argv[1:4]
    cases = [(case, *parts_of(case)) for case in sys.argv[4:]]
    os.makedirs(scratch, exist_ok=True)
    prepare(program, scratch, {preset for _, preset, *_ in cases})
    found = {"versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__, "gpu": torch.cuda.get_device_name()}, "cases": []}
    pool = concurrent.futures.ThreadPoolExecutor(3)
    waiting = [pool.submit(predicted, program, scratch, case) for case, *_ in cases]
    loaded, model = None, None
    for (case, preset, _, steps, batch, attention, dtype), prediction in zip(cases, waiting):
        try:
            digest, prompt, output, ours, seconds = prediction.result()
        except RuntimeError as error:
            print(case, "not predicted:", error, flush=True)
            found["cases"].append({"case": case, "refused": str(error)})
            write(report, found)
            continue
        wanted = (preset, "sdpa" if attention in BACKENDS else "eager", DTYPES[dtype])
        if loaded != wanted:
            model = None
            gc.collect()
            torch.cuda.empty_cache()
            folder = folder_of(scratch, preset)
            place = {"pretrained_model_name_or_path": folder}
            if folder.endswith(".gguf"):
                place = {"pretrained_model_name_or_path": os.path.dirname(folder), "gguf_file": os.path.basename(folder)}
            model = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=wanted[2], attn_implementation=wanted[1]).cuda().eval()
            loaded = wanted
        start = time.time()
        entry = {"case": case, "prompt_tokens": len(prompt), "signals_digest": digest, "neighbours": "turned" if batch > 1 else "none"}
        for turned in (True, False):
            table = stock(model, prompt, output, ours, steps, batch, attention, turned)
            total, values = (sum(row[key] for row in table.values()) for key in ("differ", "values"))
            rows = "" if batch == 1 else ", neighbours " + ("turned" if turned else "equal")
            print(f"{case} ({len(prompt)} tokens{rows}): {total} of {values} values differ; predicted in {seconds:.1f} s, run in {time.time() - start:.1f} s", flush=True)
            for name, row in table.items():
                if row["differ"]:
                    print(f"    {name}: {row['differ']} of {row['values']}, first in layer {row['first_layer']}", flush=True)
            if turned:
                entry |= {"differ": total, "values": values, "table": table}
            else:
                entry["equal_rows"] = {"differ": total, "values": values, "table": table}
            if not total or batch == 1:
                break
        found["cases"].append(entry)
        write(report, found)
    if any(case.get("differ", 1) for case in found["cases"]):
        sys.exit("some values differ, or some cases were refused")


main()
