"""What a trace costs beside a record of the same sites and positions, on this machine.

    python3 benches/trace_cost.py [--mantissa BIN] [--rounds 5] [--prompt 256] [--steps 16] [--threads 1]

A model of SmolLM2's shape (30 layers) with random weights in bf16, every point of every layer. A round runs `record`
and `trace` in an order that turns from round to round. Two cases: the last position of a prompt and decode steps, and
all positions of a prompt. Printed are the medians of processor time (user and system), which other work on the machine
disturbs least, and their ratio. A record also writes its values to disk, which is part of its time. The goal is a ratio
below 1.05.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import tempfile

POINTS = "embed_out,x_in,q,k,v,attn_out,x_after_attn,ffn_norm,mlp_out,x_out,final_norm,logits"


def processor_time(command):
    def spent():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return spent() - before


def case(arguments, folder, name, positions, steps):
    base = ["--model", str(folder / "model"), "--prompt", str(folder / "prompt.json"), "--decode", str(steps),
            "--threads", str(arguments.threads)]
    layers = ",".join(str(layer) for layer in range(1, 31))
    every = positions == "all"
    window = ",".join(str(-back) for back in range(arguments.prompt, 0, -1)) if every else positions
    times = {"record": [], "trace": []}
    for turn in range(arguments.rounds):
        place = folder / f"{name}-{turn}"
        verbs = {
            "record": ["record", *base, "--sites", POINTS, "--layers", layers, f"--positions={window}", "--reps", "1",
                       "--out", str(place)],
            "trace": ["trace", *base, f"--positions={positions}", "--out", f"{place}.jsonl"],
        }
        for verb in sorted(verbs, reverse=turn % 2 == 1):
            times[verb].append(processor_time([arguments.mantissa, *verbs[verb]]))
    record, trace = (statistics.median(times[verb]) for verb in ("record", "trace"))
    print(f"{name}: record {record:.2f} s, trace {trace:.2f} s, ratio {trace / record:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mantissa", default="target/release/mantissa")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.mantissa = str(pathlib.Path(arguments.mantissa).resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "prompt.json").write_text(json.dumps([1 + n * 37 % 4000 for n in range(arguments.prompt)]))
        synth = ["synth", "--arch", "llama", "--preset", "smollm2-135m", "--out", str(folder / "model")]
        subprocess.run([arguments.mantissa, *synth], check=True, stdout=subprocess.DEVNULL)
        case(arguments, folder, "last position and decode steps", "-1", arguments.steps)
        case(arguments, folder, "all positions of a prompt", "all", 0)


if __name__ == "__main__":
    main()
