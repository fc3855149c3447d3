"""Writes a uniform experiment JSON of the size that the ablation plan asks for, as Python's json prints it.

    plan_workload.py FILE [--hardware 2] [--configurations 3] [--repetitions 3] [--steps 30] [--format bf16|f32]
                          [--hidden 2048] [--keys 512]

Five layers, three positions, top-10 log-probabilities. Values are normal, spread over magnitudes as a layer's are, and
rounded to the format; a configuration moves one value in eight by a unit in the last place, other hardware one in four,
and repetitions are equal. The bytes are a function of the arguments. Needs numpy.
"""

import argparse
import json

import numpy as np

LAYERS = ["layer_1", "layer_2", "layer_4", "layer_12", "layer_39"]
POSITIONS = ["pos_-3", "pos_-2", "pos_-1"]
TOP = 10


def values(seed, width, shift, bits):
    """`width` numbers of the format whose last place is bit `bits` of a float32, as Python floats."""
    generator = np.random.default_rng(seed)
    row = generator.standard_normal(width).astype(np.float32)
    row *= np.exp2(generator.integers(-6, 3, width)).astype(np.float32)
    pattern = row.view(np.uint32) >> bits
    for other in shift:
        noise = np.random.default_rng([*seed, *other])
        pattern = pattern + (noise.integers(0, 8 if other[0] == 1 else 4, width) == 0).astype(np.uint32)
    return (pattern << bits).astype(np.uint32).view(np.float32).tolist()


def decode_step(step, shift, arguments, bits):
    def sites(family, width):
        return {
            layer: {
                position: values([family, step, at, place], width, shift, bits)
                for place, position in enumerate(POSITIONS)
            }
            for at, layer in enumerate(LAYERS)
        }

    def top(place):
        log_probs = sorted(values([3, step, place], TOP, shift, bits), reverse=True)
        return {
            "token_ids": [1 + 1009 * (step * 30 + place * 10 + i) % 150000 for i in range(TOP)],
            "log_probs": [x - log_probs[0] - 0.5 for x in log_probs],
        }

    return {
        "step": step,
        "token_id": 1000 + step,
        "token_text": f" word{step}",
        "hidden_states": sites(1, arguments.hidden),
        "key_vectors": sites(2, arguments.keys),
        "logprobs": {position: top(place) for place, position in enumerate(POSITIONS)},
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    for name, default in [
        ("hardware", 2), ("configurations", 3), ("repetitions", 3), ("steps", 30), ("hidden", 2048), ("keys", 512),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--format", choices=["bf16", "f32"], default="bf16")
    arguments = parser.parse_args()
    bits = 16 if arguments.format == "bf16" else 0
    setups = [(h, c) for h in range(arguments.hardware) for c in range(arguments.configurations)]
    name = lambda h, c: f"GPU{h}_bs{2**c}"
    document = {
        "experiment_metadata": {
            "experiment_type": "batch_size",
            "variable_tested": "batch_size",
            "model": "generated",
            "model_size": "30B",
            "architecture": "MoE",
            "sequence_length": 8192,
            "decode_steps": arguments.steps,
            "extraction_config": {
                "layers": [1, 2, 4, 12, 39],
                "positions": [-3, -2, -1],
                "hidden_dim": arguments.hidden,
                "key_dim": arguments.keys,
                "top_k_logprobs": TOP,
            },
            "date_created": "2025-01-01 00:00:00",
        },
        "configurations": [
            {
                "config_id": name(h, c),
                "hardware": f"GPU{h}-80GB",
                "provider": "generated",
                "variable_value": 2**c,
                "cuda_version": "12.8",
                "torch_version": "2.9.0",
                "transformers_version": "4.57.0",
                "flash_attn_version": "2.8.0",
                "python_version": "3.12",
                "fixed_params": {
                    "compile": False,
                    "attention_impl": "flash_attention_2",
                    "quantization": "awq",
                    "tp_size": 1,
                    "ep_size": 1,
                    "concurrent_streams": False,
                },
            }
            for h, c in setups
        ],
    }
    with open(arguments.file, "w", encoding="utf-8") as out:
        out.write(json.dumps(document)[:-1] + ', "runs": [')
        for at, (h, c) in enumerate(setups):
            shift = [[1, c]] * (c > 0) + [[2, h]] * (h > 0)
            steps = [decode_step(step, shift, arguments, bits) for step in range(arguments.steps)]
            steps = json.dumps(steps)
            for rep in range(arguments.repetitions):
                run = {
                    "config_id": name(h, c),
                    "rep_id": rep,
                    "timestamp": "2025-01-01 00:00:00",
                    "runtime_seconds": 12.5,
                    "prompt_text": "A prompt. " * 600,
                }
                out.write((", " if at + rep else "") + json.dumps(run)[:-1] + ', "decode_steps": ' + steps + "}")
        out.write("]}\n")


main()
