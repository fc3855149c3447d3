"""vLLM beside transformers on one GPU, the same weights and tokens, both eager: where they part first, and why.

    PYTHONPATH=SITE python3 vllm_transformers.py MANTISSA MODEL OUT [--without-vllm] [--seconds 90]

MODEL is the folder that weights.py writes. Prompts of 9, 38 and 120 tokens, one at a time: vLLM's prefill and 16 greedy
decode steps, then transformers (eager attention) fed the tokens that vLLM chose. Every site of every layer is kept at
every position, twice. In OUT, for each prompt N:

- `vllmN`, `transformersN`: containers. `driftN.*`: the answers of `mantissa drift transformersN vllmN --model MODEL`.
- `drift_as_transformersN.*`: the same under transformers' setup (`claimedN`), so that its recipes for this GPU are
  tried on vLLM's rows: what they give to the bit is computed in the same way.
- `sites.md`: first difference, and the answer for each site of the first layer and over all layers.
- `nodes.json`, `nodes.md`: each node inside a block, from vLLM's own inputs, in several ways, on this GPU.

Needs vLLM 0.24 and transformers 5. `--without-vllm` takes transformers for both, on a CPU, to try the script.
"""

import argparse
import copy
import io
import json
import os
import shutil
import sys
import time

from session import HERE, SITES, Session, load, prompts, table

STEPS = 16


def vllm_side(model, out, lists):
    import torch
    from vllm import LLM, SamplingParams

    from mantissa_forensics import VllmCapture

    more = {"dtype": "bfloat16", "enforce_eager": True, "enable_prefix_caching": False, "seed": 0}
    more |= {"skip_tokenizer_init": True, "max_model_len": 256, "max_num_batched_tokens": 2048, "max_num_seqs": 4}
    llm = LLM(model, worker_extension_cls="nodes.NodesExtension", gpu_memory_utilization=0.3, **more)
    sampling = SamplingParams(temperature=0, max_tokens=STEPS + 1, ignore_eos=True, detokenize=False)
    expect = {"batch_size": 1, "dtype": "bf16", "compile": False}
    for number, (prompt, _) in enumerate(lists):
        given = [{"prompt_token_ids": prompt}]
        if number == 1:
            llm.collective_rpc("mantissa_nodes_begin")
            llm.generate(given, sampling, use_tqdm=False)
            [found] = llm.collective_rpc("mantissa_nodes_end")
            torch.save(torch.load(io.BytesIO(found)), os.path.join(out, "nodes.pt"))
        keep = {"layers": "all", "sites": "all", "positions": "all", "top_k": 0, "expect": expect}
        with VllmCapture(llm, **keep) as capture:
            for _ in range(2):
                llm.generate(given, sampling, use_tqdm=False)
        capture.save(os.path.join(out, f"vllm{number}"))
        print(f"prompt {number}: captured", flush=True)


def without_vllm(model, out, lists):
    """transformers in vLLM's place."""
    import torch

    from nodes import of_transformers

    causal = load(model, "sdpa")
    for number, (prompt, forced) in enumerate(lists):
        captured(causal, prompt, forced, os.path.join(out, f"vllm{number}"))
    torch.save(of_transformers(causal, *lists[1]), os.path.join(out, "nodes.pt"))


def captured(causal, prompt, forced, out):
    import torch
    from mantissa_forensics import Capture

    device = next(causal.parameters()).device
    with torch.no_grad(), Capture(causal, layers="all", sites="all", positions="all", top_k=0) as capture:
        for _ in range(2):
            found = causal(input_ids=torch.tensor([prompt], device=device), use_cache=True)
            for token in forced:
                given = {"input_ids": torch.tensor([[token]], device=device), "use_cache": True}
                found = causal(past_key_values=found.past_key_values, **given)
    capture.save(out)


def transformers_side(model, out, lists):
    """Fed what vLLM chose; then the nodes, and vLLM's rows under transformers' setup."""
    import torch
    from mantissa_forensics import container, repetitions

    from nodes import UNTRIED, tried

    causal = load(model)
    captured(causal, *lists[0], os.path.join(out, "warm"))
    for number, (prompt, _) in enumerate(lists):
        theirs = os.path.join(out, f"vllm{number}")
        if not container.is_complete(theirs):
            continue
        _, _, [run] = container.read(theirs)
        ours = os.path.join(out, f"transformers{number}")
        captured(causal, prompt, [int(t) for t in run.output][: run.phases["decode"].steps], ours)
        metadata, [configuration], _ = container.read(ours)
        configuration = copy.deepcopy(configuration)
        configuration["config_id"] += "_claimed_of_vllm"
        configuration["mantissa"]["recipes"] = []
        run.config_id = configuration["config_id"]
        configuration["mantissa"]["reproducibility"] = repetitions.reproducibility([run])
        container.write(os.path.join(out, f"claimed{number}"), metadata, [configuration], [run])
        print(f"prompt {number}: captured", flush=True)
    with torch.no_grad():
        found = tried(causal, torch.load(os.path.join(out, "nodes.pt")))
    with open(os.path.join(out, "nodes.json"), "w") as file:
        json.dump(found, file, indent=0)
    rows = []
    for phase, nodes in found.items():
        for node, ways in nodes.items():
            for way, entry in ways.items():
                counts = {int(layer): count for layer, count in entry["differing"].items()}
                per = entry["values"] // len(counts)
                whole = sum(count == 0 for count in counts.values())
                first = f"{counts[0]} of {per}"
                rows.append([phase, node, way, first, f"{sum(counts.values())} of {entry['values']}", whole])
    head = ["pass", "node", "computed from vLLM's own inputs by", "layer 0 differs", "all layers", "layers equal"]
    with open(os.path.join(out, "nodes.md"), "w") as file:
        file.write(table(head, rows))
        file.writelines(f"\nFlashAttention {version} was not tried: {why}\n" for version, why in UNTRIED.items())


def summary(drifts):
    """Sites of the first layer (1 as files count), and of all layers, of every prompt."""
    lines = []
    for name, found in drifts.items():
        first = found["first"]
        lines += [f"## {name}: {found['answer']}", "", f"First difference: {json.dumps(first)}", ""]
        rows, all_rows = [], {}
        for site in found["sites"]:
            counts = site["counts"]
            differ = counts["pairs"] - counts["equal"]
            if site["layer"] in (None, 1):
                name_of = f"layer_1.{site['point']}" if site["layer"] else site["point"]
                answers = ", ".join(f"{k} {v}" for k, v in counts.items() if v and k != "pairs")
                rows.append([name_of, counts["pairs"], differ, site["arrived"], site["answer"], answers])
            entry = all_rows.setdefault(site["point"], {"layers": 0, "answers": {}, "first": None})
            entry["layers"] += 1
            entry["answers"][site["answer"]] = entry["answers"].get(site["answer"], 0) + 1
            if differ and entry["first"] is None:
                entry["first"] = site["layer"]
        lines += [table(["site", "pairs", "differ", "arrived", "answer", "counts"], rows)]
        points = [[point, e["layers"], e["first"], e["answers"]] for point, e in all_rows.items()]
        lines += [table(["point", "layers", "first layer that differs", "answers by layer"], points)]
        for kind in ("causes", "hypotheses"):
            lines += [f"- {kind}: {json.dumps(one)[:600]}" for one in found[kind]]
        lines.append("")
    return "\n".join(lines)


PARTS = {"vllm": vllm_side, "without": without_vllm, "transformers": transformers_side}


def main():
    if sys.argv[1:2] == ["--part"]:
        name, model, out, tiny = sys.argv[2:6]
        vocabulary = None
        if tiny == "True":
            with open(os.path.join(model, "config.json")) as file:
                vocabulary = json.load(file)["vocab_size"]
        PARTS[name](model, out, prompts(vocabulary))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mantissa", "model", "out"):
        parser.add_argument(name)
    parser.add_argument("--without-vllm", action="store_true")
    parser.add_argument("--seconds", type=float, default=90, help="no further drift is begun after this time")
    given = parser.parse_args()
    session, small = Session(given.mantissa, given.out, "vllm_transformers"), str(given.without_vllm)
    # vLLM imports its worker's extension by name.
    os.environ["PYTHONPATH"] += os.pathsep + HERE
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    os.environ["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    os.environ.setdefault("VLLM_CACHE_ROOT", os.path.join(session.out, ".cache"))
    for part in ("without" if given.without_vllm else "vllm", "transformers"):
        command = [sys.executable, os.path.abspath(__file__), "--part", part, given.model, session.out, small]
        session.step(part, command, limit=180)
    drifts = {}
    began = time.time()
    # The prompt of the founding report first; recomputing by a GPU's recipes takes longest.
    as_it_is, as_ours = ("drift", "vllm"), ("drift_as_transformers", "claimed")
    order = [(1, as_it_is), (1, as_ours), (0, as_it_is), (2, as_it_is), (0, as_ours)]
    for number, (kind, second) in order:
        if time.time() - began < given.seconds:
            sides = [os.path.join(session.out, f"{name}{number}") for name in ("transformers", second)]
            if all(os.path.exists(os.path.join(side, "manifest.json")) for side in sides):
                found = session.drift(f"{kind}{number}", *sides, "--model", given.model, limit=100)
                if found is not None:
                    drifts[f"{kind}{number}"] = found
    with open(os.path.join(session.out, "sites.md"), "w") as file:
        file.write(summary(drifts))
    for name in [f"claimed{number}" for number in range(3)] + ["warm"]:
        shutil.rmtree(os.path.join(session.out, name), ignore_errors=True)
    print(f"sites: {', '.join(SITES)}; {len(drifts)} drifts", flush=True)


if __name__ == "__main__":
    main()
