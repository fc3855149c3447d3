"""How fast models with weights of 4 bits are computed beside the same one in bf16, as an H200 would.

    python3 benches/quantized_cost.py [--mantissa BIN] [--rounds 5] [--threads 2]

A model of Qwen3-0.6B's widths (four layers, a vocabulary of 2,048, so that products of blocks are nearly all of the
work). A round runs every kind in an order that turns from round to round, once with a prompt of 512 tokens and one
step, once with a prompt of 4 and 64 steps. Seconds are those of the passes, as `record` notes them, without reading
and digesting files, but with decoding each weight once; the best of each counts. The goal is 80% of the rate of bf16
under the same program.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

SHAPE = (
    "--arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-attention-heads 16 --num-key-value-heads 8"
    " --head-dim 128 --num-hidden-layers 4 --vocab-size 2048 --max-position-embeddings 4096"
).split()
# Name, what the weights are, program, further words; the first of a program is bf16.
VLLM = ["--engine", "vllm-0.24", "--attention", "flash_attention_3"]
KINDS = [
    ("transformers, bf16", None, []),
    ("transformers, nf4", "bnb-nf4", []),
    ("transformers, nf4, scales quantized", "bnb-nf4-double", []),
    ("vLLM, bf16", None, VLLM),
    ("vLLM, AWQ by Machete", "awq", VLLM),
    ("vLLM, AWQ by Marlin", "awq", [*VLLM, "--linear-backend", "marlin"]),
    ("vLLM, GPTQ by Machete", "gptq", VLLM),
    ("vLLM, GPTQ by Marlin", "gptq", [*VLLM, "--linear-backend", "marlin"]),
]
CASES = {"512 rows": (512, 1), "single rows": (4, 64)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mantissa", default="target/release/mantissa")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for layout in dict.fromkeys(layout for _, layout, _ in KINDS):
            words = ["--quantization", layout, "--dtype", "bf16"] if layout else ["--dtype", "bf16"]
            command = [given.mantissa, "synth", *SHAPE, *words, "--seed", "1", "--out", folder / str(layout), "-q"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        best = {}
        for turn in range(given.rounds):
            for case, (prompt, steps) in CASES.items():
                ids = folder / "prompt.json"
                ids.write_text(json.dumps([7 + i * 37 % 2000 for i in range(prompt)]))
                for name, layout, more in KINDS[:: 1 - 2 * (turn % 2)]:
                    out = folder / f"{turn} {case} {name}".replace(",", "")
                    command = [given.mantissa, "record", "--model", folder / str(layout), "--prompt", ids, *more]
                    command += ["--hardware", "h200", "--decode", str(steps), "--reps", "1", "--positions=-1"]
                    command += ["--threads", str(given.threads), "-q", "--out", out]
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                    [run] = json.loads((out / "timing.json").read_text())["runs"].values()
                    seconds = run["runtime_seconds"]
                    best[name, case] = min(seconds, best.get((name, case), seconds))
    print("| | " + " | ".join(f"{case}, s | of bf16's rate" for case in CASES) + " |")
    print("|---|" + "---:|---:|" * len(CASES))
    beside = None
    for name, layout, _ in KINDS:
        beside = name if layout is None else beside
        cells = [f"{best[name, case]:.3f} | {best[beside, case] / best[name, case]:.0%}" for case in CASES]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
