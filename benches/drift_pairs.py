#!/usr/bin/env python3
"""How long `mantissa drift A B` takes to pair and count two captures of about a gigabyte, and the memory that it needs.

    python3 benches/drift_pairs.py MANTISSA [FOLDER] [--positions 4000]

Needs numpy and safetensors. The captures hold random bf16 values of every site of a model of SmolLM2-135M's shape; a
hundredth of the second one's rows differ in one element.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
from mantissa_forensics import container, observe, repetitions  # noqa: E402
from mantissa_forensics.container import Phase, Run, Tensor  # noqa: E402

LAYERS, WIDTH, KV = 30, 576, 192
SITES = {"x_in": WIDTH, "q": WIDTH, "k": KV, "v": KV, "attn_out": WIDTH, "x_after_attn": WIDTH, "ffn_norm": WIDTH}
SITES |= {"mlp_out": WIDTH, "x_out": WIDTH}


def capture(path, positions, changed):
    """Writes a container of one run. `changed`: whether a hundredth of the rows differ."""
    rng, other = np.random.default_rng(1), np.random.default_rng(2)
    tensors = {}
    for layer in range(1, LAYERS + 1):
        for point, width in SITES.items():
            # Exponents near 1: numbers, and no NaN.
            bits = rng.integers(0x3E00, 0x4000, (1, positions, width), np.uint16)
            if changed:
                rows = other.random(positions) < 0.01
                bits[0, rows, 0] ^= 1
            tensors[f"layer_{layer}.{point}"] = Tensor("bf16", bits)
    ids = [int(token) for token in rng.integers(1, 500, positions)]
    phase = Phase(1, list(range(-positions, 0)), tensors, None)
    run = Run("bench", 0, 0, ids, [], {"prefill": phase}, [], timestamp="2026-01-01 00:00:00", seconds=1.0)
    setup = {
        "model": {"id": "bench", "weights_digest": None},
        "hardware": "cpu",
        "engine": "transformers",
        "engine_version": "5.17.0",
        "dtype": "bf16",
        "batch_size": 1,
        "attention": "eager",
        "compile": False,
        "quantization": "none",
        "concurrent_streams": False,
        "cuda_version": None,
        "tp_size": 1,
        "ep_size": 1,
        "axes": {},
        "decoding": "teacher_forced",
    }
    metadata, configuration = described(setup, positions, run)
    container.write(path, metadata, [configuration], [run])


def described(setup, positions, run):
    """Metadata and the configuration of a container."""
    fixed = {axis: setup[axis] for axis in ("compile", "quantization", "tp_size", "ep_size", "concurrent_streams")}
    configuration = {
        "config_id": "bench",
        "hardware": "cpu",
        "provider": None,
        "variable_value": None,
        "cuda_version": None,
        "torch_version": "0",
        "transformers_version": None,
        "flash_attn_version": None,
        "python_version": "3",
        "fixed_params": {"attention_impl": "eager", **fixed},
        "mantissa": {
            "setup": setup,
            "environment": observe.machine(),
            "recipes": [],
            "observed": None,
            "reproducibility": repetitions.reproducibility([run]),
        },
    }
    metadata = {
        "experiment_type": "reference",
        "variable_tested": "none",
        "model": "bench",
        "model_size": "135M",
        "architecture": "dense",
        "sequence_length": positions,
        "decode_steps": 0,
        "extraction_config": {
            "layers": list(range(1, LAYERS + 1)),
            "positions": list(range(-positions, 0)),
            "hidden_dim": WIDTH,
            "key_dim": KV,
            "top_k_logprobs": 0,
        },
        "date_created": "2026-01-01 00:00:00",
        "mantissa": {
            "format_version": container.FORMAT_VERSION,
            "tool": "bench",
            "num_layers": LAYERS,
            "vocab_size": 512,
            "weights_digest": None,
            "config_digest": None,
        },
    }
    return metadata, configuration


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mantissa")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--positions", type=int, default=4000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        sides = [os.path.join(folder, name) for name in "ab"]
        for side, changed in zip(sides, (False, True)):
            capture(side, given.positions, changed)
        size = sum(os.path.getsize(os.path.join(sides[0], name)) for name in os.listdir(sides[0]))
        began = time.monotonic()
        command = [given.mantissa, "--quiet", "drift", *sides, "--output", os.path.join(folder, "d.json")]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(running.pid, 0)
        seconds, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
        peak = used.ru_maxrss / 1024
        print(f"{size / 1e6:.0f} MB a capture: {seconds:.1f} s, exit code {code}, at most {peak:.0f} MiB")


if __name__ == "__main__":
    main()
