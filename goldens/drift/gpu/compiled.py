"""A compiled model beside the eager one: which casts the fused kernels leave out, and what that does to each site.

    python3 compiled.py MANTISSA MODEL OUT [--layers 4] [--seconds 100]

MODEL is the folder that weights.py writes; its first LAYERS blocks are used (OUT/model). A prompt of 38 tokens and one
decode step, eager attention, bf16, `torch.compile` with Inductor and `dynamic=False`. In OUT:

- `kernels.json`, `kernels.md`: the fused kernels of one block, their nodes, and the roundings of eager mode that are
  not inside; `code_*.py.txt` the code that Inductor generated, without taps.
- `sites.json`, `sites.md`: values that differ from eager at each site, with and without `emulate_precision_casts`, and
  the share of values that a register held with more than 8 bits.
- `taps.json`: whether looking changes bits. Sites are further outputs of the compiled graph, in binary32, so that the
  value in the register is seen before it is rounded. Logits and all cached keys and values are compared with those of a
  graph without taps; where they differ, each point is tapped alone.
- `eager`, `compiled`, `emulated`: containers, and `drift_*` the answers of `mantissa drift EAGER COMPILED --model
  MODEL`; `*_as_eager` under the eager setup, so that the recipes of the libraries' products are known.
"""

import argparse
import copy
import json
import os
import time

from session import Session, config_of, load, prompts, table

import inductor

POINTS = ("embed_out", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "mlp_out", "x_out", "final_norm")
PHASES = ("prefill", "decode")
FLAGS = {"compiled": {}, "emulated": {"emulate_precision_casts": True}}


def cut(model, out, layers):
    """The first `layers` blocks of `model`, as a folder."""
    causal = load(model).cpu()
    causal.model.layers = causal.model.layers[:layers]
    causal.config.num_hidden_layers = min(layers, causal.config.num_hidden_layers)
    if getattr(causal.config, "layer_types", None):
        causal.config.layer_types = causal.config.layer_types[:layers]
    causal.save_pretrained(out)


def tapped(causal, points):
    """A module that returns logits, and the sites of `points` in binary32 by name."""
    import sys

    import torch

    class Tapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.causal, self.seen, self.turned = causal, {}, []

        def forward(self, ids, cache):
            found = self.causal(input_ids=ids, past_key_values=cache, use_cache=True)
            return found.logits, dict(self.seen)

    one, undo = Tapped(), []
    keep = lambda site, x: one.seen.__setitem__(site, x.float())
    first = lambda x: x[0] if isinstance(x, tuple) else x

    def after(module, site):
        undo.append(module.register_forward_hook(lambda m, i, o: keep(site, first(o))).remove)

    def before(module, site):
        undo.append(module.register_forward_pre_hook(lambda m, i: keep(site, i[0])).remove)

    inner = causal.model
    if "embed_out" in points:
        after(inner.embed_tokens, "embed_out")
    if "final_norm" in points:
        after(inner.norm, "final_norm")
    modules = {"v": "self_attn.v_proj", "attn_out": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm"}
    modules |= {"mlp_out": "mlp", "x_out": ""}
    for number, block in enumerate(inner.layers):
        for point, name in modules.items():
            if point in points:
                after(block.get_submodule(name), f"layer_{number + 1}.{point}")
        if "x_after_attn" in points:
            before(block.post_attention_layernorm, f"layer_{number + 1}.x_after_attn")
        if {"q", "k"} & {*points}:
            # Whose block calls the rotation next.
            begin = lambda m, i, number=number: one.seen.__setitem__("layer", number)
            undo.append(block.self_attn.register_forward_pre_hook(lambda m, i, b=begin: b(m, i)).remove)
    home = sys.modules[type(causal).__module__]
    rotate = home.apply_rotary_pos_emb
    if {"q", "k"} & {*points}:

        def looked(*arguments, **more):
            turned = rotate(*arguments, **more)
            number = one.seen.pop("layer")
            for point, x in zip(("q", "k"), turned):
                if point in points:
                    keep(f"layer_{number + 1}.{point}", x.transpose(1, 2).flatten(2))
            return turned

        home.apply_rotary_pos_emb = looked
        undo.append(lambda: setattr(home, "apply_rotary_pos_emb", rotate))

    def close():
        for step in undo:
            step()

    return one, close


def compiled(causal, points, prompt, forced, flags):
    """Compiles with taps at `points`, runs both passes. Returns outputs, cache, taps, and what Inductor made."""
    import torch
    import torch._inductor.config as config
    from transformers import DynamicCache

    device = next(causal.parameters()).device
    began = time.time()
    with torch.no_grad(), config.patch(flags), inductor.watched() as seen:
        from torch._inductor.utils import run_and_get_code

        one, close = tapped(causal, points)
        try:
            run, cache, passes, code = torch.compile(one, dynamic=False), DynamicCache(config=causal.config), [], []
            for ids in (prompt, forced[:1]):
                (logits, taps), sources = run_and_get_code(run, torch.tensor([ids], device=device), cache)
                passes.append({"logits": logits.cpu(), **{site: x.cpu() for site, x in taps.items()}})
                code.append("\n".join(sources))
                if not passes[1:]:
                    first_kernels = len(seen.kernels)
            breaks = dict(torch._dynamo.utils.counters["graph_break"])
        finally:
            close()
    kv = [x.cpu() for layer in cache.layers for x in (layer.keys, layer.values)]
    seconds = time.time() - began
    made = f"{len(seen.kernels)} kernels, graph breaks {breaks}"
    print(f"  compiled with {len(points)} points, {flags}: {seconds:.1f} s, {made}", flush=True)
    return {"passes": passes, "kv": kv, "code": code, "seen": seen, "first": first_kernels, "seconds": seconds}


def same(a, b):
    """Bits that differ between two runs: logits of each pass, keys and values by layer."""
    import torch

    count = lambda x, y: int((x.view(torch.int16) != y.view(torch.int16)).sum())
    passes = zip(PHASES, a["passes"], b["passes"])
    found = {f"logits of {phase}": count(x["logits"], y["logits"]) for phase, x, y in passes}
    for number, (x, y) in enumerate(zip(a["kv"], b["kv"])):
        found[f"layer_{number // 2 + 1}.{'kv'[number % 2]}"] = count(x, y)
    return found


def unchanged(causal, prompt, forced, flags, plain, all_taps, deadline):
    """Whether taps change bits; if so, the points that do when tapped alone."""
    counts = same(plain, all_taps)
    found = {"all points": counts, "unchanged": not any(counts.values())}
    if not found["unchanged"]:
        found["alone"] = {}
        for point in POINTS:
            if time.time() > deadline:
                found["alone"][point] = "no time left"
                continue
            alone = same(plain, compiled(causal, (point,), prompt, forced, flags))
            found["alone"][point] = {name: count for name, count in alone.items() if count}
    return found


def eager(model, prompt, forced, out):
    """The capture of the eager model."""
    import torch
    from mantissa_forensics import Capture

    causal = load(model)
    device = next(causal.parameters()).device
    with torch.no_grad(), Capture(causal, layers="all", sites="all", positions="all", top_k=0) as capture:
        found = causal(input_ids=torch.tensor([prompt], device=device), use_cache=True)
        more = {"past_key_values": found.past_key_values, "use_cache": True}
        causal(input_ids=torch.tensor([forced[:1]], device=device), **more)
    capture.save(out)
    return causal


def written(eager_path, out, passes, flags, as_eager=False):
    """The compiled run as a container: that of the eager run, with its own bits.

    `as_eager`: under the eager setup, so that the recipes of the products, which are the libraries' in both, are known
    and only what was fused is left over.
    """
    import numpy as np
    import torch
    from mantissa_forensics import container, repetitions

    metadata, [configuration], [run] = container.read(eager_path)
    configuration, run = copy.deepcopy(configuration), copy.deepcopy(run)
    configuration["config_id"] += "_compiled" + "".join(f"_{flag}" for flag in flags) + "_as_eager" * as_eager
    extras = configuration["mantissa"]
    if not as_eager:
        configuration["fixed_params"]["compile"] = extras["setup"]["compile"] = True
        if flags:
            extras["setup"]["axes"] = {flag: str(value).lower() for flag, value in flags.items()}
    extras["observed"]["axes"]["compile"] = "true"
    extras["observed"]["notes"].append("sites are further outputs of the compiled graph")
    extras["recipes"] = []
    run.config_id = configuration["config_id"]
    bits = lambda x: x.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    for phase, found in zip(PHASES, passes):
        for site, tensor in run.phases[phase].tensors.items():
            layer, _, point = site.partition(".")
            source = site
            if point == "x_in":
                number = int(layer[6:])
                source = f"layer_{number - 1}.x_out" if number > 1 else "embed_out"
            rows = bits(found[source])[0]
            tensor.bits = rows.reshape(tensor.bits.shape)
    extras["reproducibility"] = repetitions.reproducibility([run])
    container.write(out, metadata, [configuration], [run])


def differences(eager_path, runs):
    """By site and pass: values, those that differ from eager, and the share that was not rounded in a register."""
    import numpy as np
    import torch
    from mantissa_forensics import container

    _, _, [run] = container.read(eager_path)
    found = []
    for number, phase in enumerate(PHASES):
        for site, tensor in run.phases[phase].tensors.items():
            if site.endswith("x_in"):
                continue
            entry = {"phase": phase, "site": site, "values": int(tensor.bits.size)}
            for name, passes in runs.items():
                x = passes[number][site]
                rounded = x.to(torch.bfloat16)
                rows = rounded.view(torch.int16).numpy().view(np.uint16)
                entry[name] = int((rows.reshape(tensor.bits.shape) != tensor.bits).sum())
                entry[f"{name}_not_rounded"] = int((rounded.float() != x.float()).sum())
            found.append(entry)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mantissa", "model", "out"):
        parser.add_argument(name)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=100, help="no single points are tried after this time")
    given = parser.parse_args()
    session, deadline = Session(given.mantissa, given.out, "compiled"), time.time() + given.seconds
    out = session.out
    place = lambda name: os.path.join(out, name)
    session.call("cut", cut, given.model, place("model"), given.layers)
    prompt, forced = prompts(config_of(given.model)["vocab_size"])[1]
    causal = session.call("eager", eager, place("model"), prompt, forced, place("eager"))
    runs, taps = {}, {}
    layer = min(1, given.layers - 1)
    for name, flags in FLAGS.items():
        plain = session.call(f"compile-{name}", compiled, causal, (), prompt, forced, flags)
        if plain is not None:
            for number, code in enumerate(plain["code"]):
                with open(place(f"code_{name}_{PHASES[number]}.py.txt"), "w") as file:
                    file.write(code)
            session.call(f"kernels-{name}", report, plain, layer, place(f"kernels_{name}"))
        found = session.call(f"compile-{name}-tapped", compiled, causal, POINTS, prompt, forced, flags)
        if found is None:
            continue
        runs[name] = found["passes"]
        for kind, as_eager in (("", False), ("_as_eager", True)):
            path = place(name + kind)
            session.call(f"write-{name}{kind}", written, place("eager"), path, found["passes"], flags, as_eager)
        if plain is not None:
            more = (flags, plain, found, deadline)
            taps[name] = session.call(f"taps-{name}", unchanged, causal, prompt, forced, *more)
            with open(place("taps.json"), "w") as file:
                json.dump(taps, file, indent=1)
    if runs:
        sites = session.call("sites", differences, place("eager"), runs) or []
        with open(place("sites.json"), "w") as file:
            json.dump(sites, file, indent=0)
        head = ["phase", "site", "values", *(w for n in runs for w in (n, f"{n}_not_rounded"))]
        with open(place("sites.md"), "w") as file:
            file.write(table(head, [[entry[column] for column in head] for entry in sites]))
    for name in runs:
        for kind in ("", "_as_eager"):
            sides = [place("eager"), place(name + kind), "--model", place("model")]
            session.drift(f"drift_{name}{kind}", *sides)
    for name, found in taps.items():
        print(f"{name}: taps change {'nothing' if found and found['unchanged'] else found}", flush=True)


def report(found, layer, path):
    """The kernels of one block in each pass."""
    seen, all_rows = found["seen"], {}
    for number, chosen in enumerate((slice(None, found["first"]), slice(found["first"], None))):
        all_rows[PHASES[number]] = inductor.kernels(inductor.Seen(seen.kernels[chosen]), layer)
    with open(f"{path}.json", "w") as file:
        json.dump(all_rows, file, indent=1)
    with open(f"{path}.md", "w") as file:
        for phase, rows in all_rows.items():
            file.write(f"## {phase}\n\n{inductor.markdown(rows)}\n")


if __name__ == "__main__":
    main()
