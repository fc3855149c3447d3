"""Prefill against decode of SmolLM2, captured on a GPU and judged by `mantissa drift` on the same machine.

    python3 prefill_decode.py MANTISSA MODEL OUT [--tiny]

MODEL is the folder that weights.py writes. Prompts of 9, 38 and 120 tokens, batch 1, eager, bf16: side `decode` has a
prompt's prefill and 16 forced decode steps, side `prefill` all of its tokens in one pass. Every site of every layer is
kept at every position, twice, and the two repetitions are compared. Then, in OUT:

- `captured.*`: the two captures, prefill the reference.
- `predicted.*`: the same by the program alone, of the captures' hardware.
- `decode_gpu_prediction.*`, `prefill_gpu_prediction.*`: each capture beside the program's prediction of it.
- `report.md`: one decode step (the first after each prompt) in the form of the founding report: layers 0, 1, 2, 4, 8
  counted from 0; embed_out, x_in, attn_out, mlp_out.
- `evidence/prefill`, `evidence/decode`: these layers' sites of the prompt of 38 tokens, without logits.

`--tiny` takes any model of few layers, on a CPU. Needs torch, transformers, numpy and safetensors.
"""

import argparse
import json
import os

from session import SITES, Session, by_site, config_of, hardware_of, load, prompts, table

FOUNDING = (1, 2, 3, 5, 9)
POINTS = ("embed_out", "x_in", "attn_out", "mlp_out")


def captures(model, out, lists, layers):
    """Writes `decode` and `prefill`, and the small containers."""
    import torch
    from mantissa_forensics import Capture

    causal = load(model)
    device = next(causal.parameters()).device
    kept = [layer for layer in FOUNDING if layer <= layers]

    @torch.no_grad()
    def run(whole, lists=lists):
        for prompt, forced in lists:
            ids = torch.tensor([prompt + forced if whole else prompt], device=device)
            found = causal(input_ids=ids, use_cache=True)
            for token in [] if whole else forced:
                given = {"input_ids": torch.tensor([[token]], device=device), "use_cache": True}
                found = causal(past_key_values=found.past_key_values, **given)

    # Libraries load and choose kernels.
    run(True)
    for name, whole in (("decode", False), ("prefill", True)):
        looks = {"all": ("all", "all", 2), "evidence": (kept, ["embed_out", "final_norm", *SITES], 1)}
        for kind, (chosen, sites, repetitions) in looks.items():
            with Capture(causal, layers=chosen, sites=sites, positions="all", top_k=0) as capture:
                for _ in range(repetitions):
                    run(whole, lists if kind == "all" else lists[1:2])
            if kind == "all":
                capture.profile(lambda: run(whole))
            capture.save(os.path.join(out, name) if kind == "all" else os.path.join(out, "evidence", name))
        print(f"{name}: captured", flush=True)


def founding(drift, lists):
    """The founding report's table: pairs of the first decode step of each prompt."""
    where = {str(number): len(prompt) for number, (prompt, _) in enumerate(lists)}
    rows, counts = [], {}
    chosen = [
        pair
        for pair in drift["pairs"]
        if pair["position"] == where.get(pair["prompt"])
        and pair["point"] in POINTS
        and (pair["layer"] is None or pair["layer"] in FOUNDING)
    ]
    for pair in chosen:
        word = pair["answer"] + (", arrived" if pair["arrived"] and pair["answer"] != "equal" else "")
        counts[word] = counts.get(word, 0) + 1
        layer = "" if pair["layer"] is None else pair["layer"] - 1
        of = f"{pair['differing']} of {pair['width']}"
        distance = f"{pair['distance']:.3g}" if pair["distance"] is not None else ""
        rows.append([pair["prompt"], pair["position"], layer, pair["point"], of, distance, word])
    lines = [f"# Prefill against decode: {len(chosen)} pairs", "", f"Answer: **{drift['answer']}**", ""]
    lines += [f"- {word}: {count}" for word, count in sorted(counts.items())]
    first = next((row for row in rows if not row[-1].startswith("equal")), None)
    lines += ["", f"First difference: {first}" if first else "No difference.", ""]
    lines += [f"- cause: {json.dumps(cause)}" for cause in drift["causes"]]
    head = ["prompt", "position", "layer (from 0)", "point", "differing", "distance", "answer"]
    return "\n".join(lines) + "\n\n" + table(head, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mantissa", "model", "out"):
        parser.add_argument(name)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    session = Session(given.mantissa, given.out, "prefill_decode")
    config = config_of(given.model)
    lists = prompts(config["vocab_size"] if given.tiny else None)
    out = session.out
    session.call("capture", captures, given.model, out, lists, config["num_hidden_layers"])
    decode, prefill = (os.path.join(out, name) for name in ("decode", "prefill"))
    ids = os.path.join(out, "sequences.jsonl")
    with open(ids, "w") as file:
        file.writelines(json.dumps(prompt + forced) + "\n" for prompt, forced in lists)
    model = ["--model", given.model]
    if os.path.exists(os.path.join(decode, "manifest.json")):
        session.step("inspect", [session.mantissa, "inspect", decode], output=os.path.join(out, "inspect.txt"))
        word = hardware_of(decode)
        model += ["--claim", f"hardware={word}"] if word else []
        found = session.drift("captured", prefill, decode, *model)
        if found is not None:
            with open(os.path.join(out, "report.md"), "w") as file:
                file.write(founding(found, lists))
            sites = [[*site, e["pairs"], e["rows"], e["values"], e["answers"]] for site, e in by_site(found).items()]
            with open(os.path.join(out, "sites.json"), "w") as file:
                json.dump(sites, file, indent=0)
    else:
        word = "h200"
    setup = ["--setup", f"hardware={word}"] if word else []
    session.drift("predicted", *model, *setup, "--phases", "prefill,decode", "--prompt", ids, "--decode-steps", "16")
    for name, path in (("decode", decode), ("prefill", prefill)):
        if os.path.exists(os.path.join(path, "manifest.json")):
            session.drift(f"{name}_gpu_prediction", path, *model, *setup)
    print(f"{session.steps and sum(step['seconds'] for step in session.steps):.0f} s", flush=True)


if __name__ == "__main__":
    main()
