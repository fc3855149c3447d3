"""Whether a site means the same in Mantissa and in transformers: every site of every family, on a CPU in binary32.

    python3 goldens/sites.py MANTISSA SCRATCH

Makes the tiny model of each family in binary32, records it (`--hardware cpu`), runs the same tokens through stock
transformers with the hooks of gpu/look.py, which comparisons on GPUs use, and prints the largest difference of each
point relative to its largest value. Orders of sums differ, so values agree to about 1e-6; a site that is somewhere
else differs by far more. Ends with 1 if any is further off than BOUND, if a site that one side has is missing on
the other, or if the experts of a token differ. About a minute; needs torch and transformers."""

import json
import os
import subprocess
import sys

import torch
import transformers
from safetensors.torch import load_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpu"))
from look import POINTS, Look, points_of

FAMILIES = [
    "llama",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "mistral",
    "mixtral",
    "gemma2",
    "gemma3_text",
    "phi3",
    "olmo2",
    "gpt_oss",
]
# Of the largest value of a site.
BOUND = 1e-5
POSITIONS, STEPS, TOKENS = 3, 3, 40


def recorded(program, scratch, family):
    model, out = os.path.join(scratch, family), os.path.join(scratch, family + "-record")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(
        [program, "synth", "--quiet", "--arch", family, "--dtype", "f32", "--seed", "1", "--out", model], **quiet
    )
    layers = json.load(open(os.path.join(model, "config.json")))["num_hidden_layers"]
    document = os.path.join(scratch, "document.txt")
    with open(document, "w") as file:
        file.write("\n".join(f"{(i * 7919) % 10007} roundings differ from {(i * 31) % 997}." for i in range(200)))
    command = [
        program,
        "record",
        "--quiet",
        "--hardware",
        "cpu",
        "--model",
        model,
        "--document",
        document,
        "--out",
        out,
    ]
    command += ["--document-tokens", str(TOKENS), "--no-chat-template", "--instruction", "", "--decode", str(STEPS)]
    command += [
        "--dtype",
        "f32",
        "--attention",
        "eager",
        "--reps",
        "1",
        "--positions",
        ",".join(str(-i) for i in range(POSITIONS, 0, -1)),
    ]
    command += ["--layers", ",".join(str(i + 1) for i in range(layers)), "--sites", ",".join(points_of(family))]
    subprocess.run(command, **quiet)
    run = json.load(open(os.path.join(out, "manifest.json")))["runs"][0]
    tokens = run["mantissa"]
    return (
        model,
        tokens["prompt_token_ids"],
        tokens["output_token_ids"],
        load_file(os.path.join(out, run["file"]["name"])),
    )


def compare(found, site, ours, theirs):
    """Notes the largest difference of a point; the first half of router_topk names experts."""
    point = site.split(".")[-1]
    if ours.shape != theirs.shape:
        raise SystemExit(f"{site}: {tuple(ours.shape)} and {tuple(theirs.shape)}")
    if point == "router_topk":
        half = ours.shape[-1] // 2
        if not torch.equal(ours[..., :half], theirs[..., :half]):
            found[point] = float("inf")
    off = ((ours.double() - theirs.double()).abs().max() / ours.double().abs().max()).item()
    found[point] = max(found.get(point, 0.0), off)


def main():
    program, scratch = sys.argv[1:3]
    os.makedirs(scratch, exist_ok=True)
    worst = 0.0
    for family in FAMILIES:
        folder, prompt, output, ours = recorded(program, scratch, family)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        sites = [
            name.removeprefix("prefill/") for name in ours if name.startswith("prefill/") and "logprobs" not in name
        ]
        found = {}
        with torch.no_grad(), Look(model, POSITIONS) as look:
            result = model(torch.tensor([prompt]), use_cache=True)
            look.logits(result)
            if missing := set(sites) ^ set(look.seen):
                raise SystemExit(f"{family}: one side alone has {sorted(missing)}")
            for site in sites:
                compare(found, site, ours["prefill/" + site][0], look.seen[site])
            for step in range(STEPS):
                result = model(torch.tensor([[output[step]]]), past_key_values=result.past_key_values, use_cache=True)
                look.logits(result)
                for site in sites:
                    compare(found, site, ours["decode/" + site][step][-1:], look.seen[site][-1:])
        print(family + ":", ", ".join(f"{point} {found[point]:.1e}" for point in POINTS if point in found), flush=True)
        worst = max(worst, *found.values())
    if worst > BOUND:
        sys.exit(f"a value is {worst:.1e} off, more than {BOUND:.0e}")


if __name__ == "__main__":
    main()
