"""Evidence of stock transformers by the package alone, on an NVIDIA GPU; what to verify on a CPU is printed at the end.

    PYTHONPATH=python python3 goldens/gpu/capture_package.py MANTISSA SCRATCH OUT [--gguf SMOLLM2.gguf] [--quick]

MANTISSA makes synthetic models of true widths and states their digests; nothing else of it is used here. OUT gets a
container for each case (a few MB), and `cases.json` with what the captures say about the machine. SCRATCH takes the
models (0.3 to 4 GB). 1. is the three lines around anybody's `generate`, 2. `record` at several batch sizes, 3. a case
that must be contradicted when another setup is claimed. With --gguf also SmolLM2 as its GGUF is decoded by
transformers. Needs torch, transformers, numpy and safetensors. A few minutes.

On the CPU, for each case: `mantissa verify OUT/CASE --model MODEL --vary batch_size=1,2,4,8`, which must end with 0 and
name the class of the batch size that ran; MODEL is made there by the same `synth` command, byte for byte.
"""

import argparse
import gc
import hashlib
import json
import os
import subprocess
import time

import torch
import transformers

from mantissa_forensics import Capture, container, record

# Name, arguments of `synth`.
MODELS = {
    "smollm2-135m": ["--arch", "llama", "--preset", "smollm2-135m"],
    "qwen2.5-7b-2": ["--arch", "qwen2", "--preset", "qwen2.5-7b", "--num-hidden-layers", "2"],
    "qwen3-30b-a3b-2": ["--arch", "qwen3_moe", "--preset", "qwen3-30b-a3b", "--num-hidden-layers", "2"],
}


def ids(tokens, seed, vocabulary):
    """Ids that any machine makes again."""
    word = lambda i: int.from_bytes(hashlib.sha256(f"{seed} {i}".encode()).digest()[:4], "little")
    return [word(i) % (vocabulary - 200) + 100 for i in range(tokens)]


def load(place, attention, **more):
    dtype = torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=dtype, attn_implementation=attention, **more)
    return model.cuda().eval()


def three_lines(model, prompts, out):
    """As a user has it: a batch through `generate`, twice."""
    inputs = {"input_ids": torch.tensor(prompts, device="cuda")}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    more = {"do_sample": False, "max_new_tokens": 17, "eos_token_id": None, "pad_token_id": 0}
    with Capture(model) as c:
        for _ in range(2):
            model.generate(**inputs, **more)
    c.save(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mantissa", "scratch", "out"):
        parser.add_argument(name)
    parser.add_argument("--gguf")
    parser.add_argument("--quick", action="store_true", help="the first model alone")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    cases = []

    def case(name, model_name, synth, make):
        path, began = os.path.join(arguments.out, name), time.time()
        if not container.is_complete(path):
            make(path)
        _, configurations, runs = container.read(path)
        for configuration in configurations:
            extras = configuration["mantissa"]
            observed = extras["observed"]
            cases.append(
                {
                    "case": name,
                    "model": model_name,
                    "synth": synth,
                    "config_id": configuration["config_id"],
                    "outcome": extras["reproducibility"]["outcome"],
                    "weights": observed["axes"]["weights"],
                    "versions": observed["versions"],
                    "devices": observed["devices"],
                    "kernels": len(observed["kernels"]),
                }
            )
            state = extras["reproducibility"]["outcome"]["state"]
            print(f"{name}: {configuration['config_id']}, repetitions {state}, {time.time() - began:.1f} s", flush=True)
        with open(os.path.join(arguments.out, "cases.json"), "w") as file:
            json.dump(cases, file, indent=1)

    for name, synth in list(MODELS.items())[: 1 if arguments.quick else None]:
        folder = os.path.join(arguments.scratch, name)
        if not os.path.exists(folder):
            command = [arguments.mantissa, "--quiet", "synth", *synth, "--out", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        model = load(folder, "eager")
        vocabulary = model.config.vocab_size
        prompts = [ids(312, row, vocabulary) for row in range(8)]
        case(f"{name}-generate", name, synth, lambda path: three_lines(model, prompts[:4], path))
        sizes = {"batch_size": [1, 2, 4, 8], "decode": 16, "repetitions": 3, "profile": True}
        everything = {"sites": ["x_out", "k", "v", "attn_out", "mlp_out", "final_norm"], "expect": {"device": "cuda"}}
        case(
            f"{name}-record",
            name,
            synth,
            lambda path: record(model, prompts[:1], path, neighbours=prompts[1:], **sizes, **everything),
        )
        model = None
        gc.collect()
        torch.cuda.empty_cache()
        from torch.nn.attention import SDPBackend, sdpa_kernel

        model = load(folder, "sdpa")
        flash = {"batch_size": 4, "decode": 16, "repetitions": 3, "expect": {"attention": "sdpa_flash"}}
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            case(
                f"{name}-flash",
                name,
                synth,
                lambda path: record(model, prompts[:1], path, neighbours=prompts[1:], **flash),
            )
        model = None
        gc.collect()
        torch.cuda.empty_cache()
    if arguments.gguf:
        folder, file = os.path.split(os.path.abspath(arguments.gguf))
        model = load(folder, "eager", gguf_file=file)
        prompts = [ids(312, row, model.config.vocab_size) for row in range(4)]
        more = {"checkpoint": os.path.abspath(arguments.gguf), "batch_size": 4, "decode": 16, "repetitions": 3}
        case(
            "smollm2-gguf",
            arguments.gguf,
            None,
            lambda path: record(model, prompts[:1], path, neighbours=prompts[1:], **more),
        )
    print("\nOn a CPU, each must end with 0 and name the batch size that ran:")
    for name, model_name, synth in dict.fromkeys((c["case"], c["model"], tuple(c["synth"] or ())) for c in cases):
        if synth:
            print(f"  mantissa synth {' '.join(synth)} --out {model_name}")
        print(f"  mantissa verify {os.path.join(arguments.out, name)} --model {model_name} --vary batch_size=1,2,4,8")
    print("And with 1, since another setup is claimed:")
    print(
        f"  mantissa verify {os.path.join(arguments.out, cases[0]['case'])} --model {cases[0]['model']} "
        "--claim attention=sdpa_math"
    )


if __name__ == "__main__":
    main()
