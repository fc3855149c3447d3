"""What a capture costs: decoding with and without it, in one run, on this machine.

    python3 benches/capture_cost.py [--batches 1,8] [--layers 28] [--steps 64] [--rounds 5] [--prompt 512] [--json FILE]

A model of Qwen2.5-7B's widths with random weights in bf16, eager attention, stock transformers, greedy steps of a whole
batch over a dynamic cache. A round decodes the same steps without a capture and with one at its default sites, in an
order that turns from round to round; the prompt's pass is not timed. Printed are the best times of a step and their
ratio; the goal is a ratio below 1.10 at both batch sizes. Needs torch, transformers and the package (`pip install
./python`, or PYTHONPATH=python). `--width 64 --layers 4` tries the script on a CPU and measures nothing of use.
"""

import argparse
import contextlib
import json
import time

import torch
import transformers

from mantissa_forensics import Capture


def model_of(arguments, device):
    heads = max(1, arguments.width // 128)
    config = transformers.Qwen2Config(
        hidden_size=arguments.width,
        intermediate_size=arguments.width * 37 // 7,
        num_hidden_layers=arguments.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 7),
        vocab_size=arguments.vocabulary,
        max_position_embeddings=32768,
        attn_implementation="eager",
    )
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
    return model.eval()


@torch.no_grad()
def steps_of(model, batch, arguments, captured):
    """Seconds of a step; bytes kept."""
    synchronize = torch.cuda.synchronize if model.device.type == "cuda" else lambda: None
    torch.manual_seed(1)
    ids = torch.randint(1000, (batch, arguments.prompt), device=model.device)
    capture = Capture(model) if captured else contextlib.nullcontext()
    with capture:
        out = model(input_ids=ids, use_cache=True)
        token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        del out
        synchronize()
        began = time.perf_counter()
        for _ in range(arguments.steps):
            token = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
        synchronize()
        seconds = (time.perf_counter() - began) / arguments.steps
    waits = capture._drain.waits if captured else 0
    return seconds, waits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--width", type=int, default=3584)
    parser.add_argument("--vocabulary", type=int, default=152064)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model_of(arguments, device)
    found = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__}
    found |= {
        "transformers": transformers.__version__,
        "layers": arguments.layers,
        "width": arguments.width,
        "batches": {},
    }
    for batch in map(int, arguments.batches.split(",")):
        steps_of(model, batch, arguments, False)
        times, waits = {False: [], True: []}, 0
        for number in range(arguments.rounds):
            for captured in (False, True) if number % 2 == 0 else (True, False):
                seconds, waited = steps_of(model, batch, arguments, captured)
                times[captured].append(seconds)
                waits += waited
        plain, seen = min(times[False]), min(times[True])
        ratios = sorted(b / a for a, b in zip(times[False], times[True]))
        entry = {
            "plain_ms": plain * 1e3,
            "captured_ms": seen * 1e3,
            "ratio": seen / plain,
            "ratios": ratios,
            "waits": waits,
        }
        found["batches"][batch] = entry
        print(
            f"batch {batch}: {plain * 1e3:.3f} ms a step, {seen * 1e3:.3f} ms with a capture, ratio {seen / plain:.4f} "
            f"(rounds {ratios[0]:.4f} to {ratios[-1]:.4f}; the drain waited {waits} times)",
            flush=True,
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
