#!/usr/bin/env python3
"""Reads a Mantissa container with the ordinary safetensors package; given an experiment JSON too, compares both.

    pip install safetensors numpy ml_dtypes
    python read_container.py DIR [EXPERIMENT.json]

The JSON is read as the ablation plan reads it, by plain indexing. Every number must widen to the same float32 as
the container's bits, and every null must be a value that JSON cannot hold. Exit code 1 at the first difference.
"""

import json
import sys
from pathlib import Path

import ml_dtypes  # noqa: F401  (gives numpy its bfloat16)
import numpy as np
from safetensors.numpy import load_file

DTYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


def load(directory):
    """The manifest, and per run a dict from tensor name to array."""
    directory = Path(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["format"] == "mantissa-container" and manifest["format_version"] == 1
    runs = []
    for run in manifest["runs"]:
        path = directory / run["file"]["name"]
        assert path.stat().st_size == run["file"]["bytes"], path
        tensors = load_file(path)
        for phase, layout in run["mantissa"]["signals"].items():
            for site, tensor in (layout["tensors"] if layout else {}).items():
                array = tensors[f"{phase}/{site}"]
                assert array.dtype == DTYPES[tensor["dtype"]], (site, array.dtype)
                assert array.shape == (layout["steps"], len(layout["positions"]), tensor["dim"]), site
        runs.append(tensors)
    return manifest, runs


def rows(step):
    """(tensor name, position key, values) of one decode step or prefill of the JSON."""
    for layer, positions in step["hidden_states"].items():
        site = "final_norm" if layer.endswith("_final_norm") else f"{layer}.x_out"
        yield from ((site, position, values) for position, values in positions.items())
    for layer, positions in step["key_vectors"].items():
        yield from ((f"{layer}.k", position, values) for position, values in positions.items())
    for point, layers in step.get("sites", {}).items():
        for layer, positions in layers.items():
            site = point if layer == "model" else f"{layer}.{point}"
            yield from ((site, position, values) for position, values in positions.items())
    for position, top in step["logprobs"].items():
        yield "logprobs.token_ids", position, top["token_ids"]
        yield "logprobs.log_probs", position, top["log_probs"]


def same(array, values):
    """Whether a row of the JSON is the row of the container."""
    if array.dtype == np.uint32:
        return array.tolist() == values
    wide = array.astype(np.float32)
    finite = np.isfinite(wide)
    read = np.array([np.float32(0 if v is None else v) for v in values], np.float32)
    nulls = [v is None for v in values]
    return (~finite).tolist() == nulls and (
        wide.view(np.uint32)[finite].tolist() == read.view(np.uint32)[finite].tolist()
    )


def compare(manifest, runs, document):
    """Number of rows compared; exits at the first that differs."""
    compared = 0
    assert len(runs) == len(document["runs"])
    for entry, tensors, run in zip(manifest["runs"], runs, document["runs"]):
        passes = [("prefill", 0, run["prefill"])] if "prefill" in run else []
        passes += [("decode", step["step"], step) for step in run["decode_steps"]]
        seen = set()
        for phase, index, step in passes:
            positions = entry["mantissa"]["signals"][phase]["positions"]
            for site, position, values in rows(step):
                row = tensors[f"{phase}/{site}"][index, positions.index(int(position.removeprefix("pos_")))]
                if not same(row, values):
                    sys.exit(f"{entry['file']['name']}: {phase} {index} {site} {position} differs from the JSON")
                seen.add(f"{phase}/{site}")
                compared += 1
        missing = {name for name, tensor in tensors.items() if tensor.size} - seen
        if missing:
            sys.exit(f"{entry['file']['name']}: not in the JSON: {sorted(missing)}")
    return compared


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    manifest, runs = load(sys.argv[1])
    for entry, tensors in zip(manifest["runs"], runs):
        print(entry["file"]["name"])
        for name, tensor in sorted(tensors.items()):
            print(f"  {name:32} {str(tensor.dtype):9} {list(tensor.shape)}")
    if len(sys.argv) == 3:
        document = json.loads(Path(sys.argv[2]).read_text())
        print(f"{compare(manifest, runs, document)} rows have the same bits in {sys.argv[2]}")


if __name__ == "__main__":
    main()
