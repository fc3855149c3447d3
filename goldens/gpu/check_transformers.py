"""Counts the bits in which Mantissa's prediction of an NVIDIA GPU and stock Hugging Face inference on it differ.

    python check_transformers.py MANTISSA SCRATCH REPORT.json [CASE ...]

MANTISSA is the program, SCRATCH a folder to work in; a CASE is `model:document_tokens:decode_steps:batch_size[:attention]`, where model
is one of MODELS or a GGUF file, and attention eager (the default), sdpa_flash or sdpa_math. For each case a synthetic model is
made (`mantissa synth`, seed 0), `mantissa record --hardware h200` (or what the environment variable HARDWARE says, with the catalog
that CATALOG names) predicts every site of every layer on this machine's CPU, and transformers (bf16, from_pretrained, nothing patched
but to look; the backend of sdpa forced by torch.nn.attention) runs the same tokens on the GPU: the prompt in one pass of batch_size
equal rows, then each decode step with the recorded token forced. Compared are the recorded positions (the last POSITIONS of the
prompt, 3 unless told), as raw bits; with DETAIL set the first differences are printed. The report, written after every case, says by
phase and point how many values were compared, how many differ, and the first layer in which any does.
"""

import contextlib
import json
import os
import subprocess
import sys
import time

import torch
import transformers
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

MODELS = {
    "smollm2-135m": "--preset smollm2-135m",
    "qwen2.5-7b": "--preset qwen2.5-7b --num-hidden-layers 2",
    "qwen3-0.6b": "--arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-hidden-layers 4 --num-attention-heads 16 --num-key-value-heads 8 --head-dim 128 --vocab-size 151936",
    "qwen3-30b-a3b": "--preset qwen3-30b-a3b --num-hidden-layers 2",
}
BACKENDS = {"sdpa_flash": SDPBackend.FLASH_ATTENTION, "sdpa_math": SDPBackend.MATH}
# Last positions of the prompt that are compared.
POSITIONS = int(os.environ.get("POSITIONS", "3"))
SITES = ["x_in", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "mlp_out", "x_out"]


def predicted(program, scratch, preset, document, steps, batch, attention):
    model = preset if preset.endswith(".gguf") else os.path.join(scratch, preset)
    if not os.path.exists(model):
        subprocess.run([program, "synth", "--quiet", "--out", model, *MODELS[preset].split()], check=True, stdout=subprocess.DEVNULL)
    text = os.path.join(scratch, "document.txt")
    if not os.path.exists(text):
        words = [f"{(i * 7919) % 10007} measured roundings of word {i} differ from {(i * 31) % 997}." for i in range(20000)]
        open(text, "w").write("\n".join(words))
    out = os.path.join(scratch, f"{os.path.basename(preset)}-{document}-{steps}-{batch}-{attention}")
    layers = 30 if preset.endswith(".gguf") else json.load(open(os.path.join(model, "config.json")))["num_hidden_layers"]
    command = [
        program, "record", "--quiet", "--hardware", os.environ.get("HARDWARE", "h200"), "--model", model, "--document", text, "--document-tokens", str(document), "--decode", str(steps),
        "--batch-size", str(batch), "--attention", attention, "--reps", "1", "--layers", ",".join(str(i + 1) for i in range(layers)), "--positions", ",".join(str(-i) for i in range(POSITIONS, 0, -1)),
        "--sites", ",".join(["embed_out", "final_norm", "logits"] + SITES), "--out", out,
    ]
    if preset.endswith(".gguf"):
        command += ["--quantization", "none"]
    if os.environ.get("CATALOG"):
        command += ["--catalog", os.environ["CATALOG"]]
    start = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    manifest = json.load(open(os.path.join(out, "manifest.json")))
    run = manifest["runs"][0]
    tensors = load_file(os.path.join(out, run["file"]["name"]))
    return model, run["mantissa"]["signals_digest"], run["mantissa"]["prompt_token_ids"], run["mantissa"]["output_token_ids"], tensors, time.time() - start


class Look:
    """Keeps what passes each point of row 0."""

    def __init__(self, model):
        self.seen, self.layer = {}, 0
        inner = model.model
        keep = lambda name: lambda module, inputs, output: self.put(name, output[0] if isinstance(output, tuple) else output)
        inner.embed_tokens.register_forward_hook(keep("embed_out"))
        inner.norm.register_forward_hook(keep("final_norm"))
        model.lm_head.register_forward_hook(keep("logits"))
        for i, layer in enumerate(inner.layers):
            at = f"layer_{i + 1}."
            layer.register_forward_pre_hook(self.enter(i + 1), with_kwargs=True)
            layer.self_attn.v_proj.register_forward_hook(keep(at + "v"))
            layer.self_attn.o_proj.register_forward_hook(keep(at + "attn_out"))
            layer.post_attention_layernorm.register_forward_pre_hook(lambda m, inputs, at=at: self.put(at + "x_after_attn", inputs[0]))
            layer.post_attention_layernorm.register_forward_hook(keep(at + "ffn_norm"))
            layer.mlp.register_forward_hook(keep(at + "mlp_out"))
            layer.register_forward_hook(keep(at + "x_out"))
        module = sys.modules[type(model).__module__]
        rotate = module.apply_rotary_pos_emb

        def looked(*arguments, **more):
            q, k = rotate(*arguments, **more)
            for name, x in (("q", q), ("k", k)):
                self.put(f"layer_{self.layer}.{name}", x.transpose(1, 2).flatten(2))
            return q, k

        module.apply_rotary_pos_emb = looked
        self.undo = lambda: setattr(module, "apply_rotary_pos_emb", rotate)

    def enter(self, number):
        def hook(module, inputs, more):
            self.layer = number
            self.put(f"layer_{number}.x_in", inputs[0] if inputs else more["hidden_states"])
        return hook

    def put(self, name, x):
        self.seen[name] = x[0, -POSITIONS:].detach().clone()


def count(table, phase, name, ours, theirs):
    point = name.split(".")[-1]
    layer = int(name.split(".")[0][6:]) if "." in name else 0
    row = table.setdefault(f"{phase} {point}", {"values": 0, "differ": 0, "first_layer": None})
    a, b = ours.contiguous().view(torch.int16), theirs.cpu().contiguous().view(torch.int16)
    assert a.shape == b.shape, (phase, name, a.shape, b.shape)
    differ = int((a != b).sum())
    row["values"] += a.numel()
    row["differ"] += differ
    if differ and os.environ.get("DETAIL"):
        where = (a != b).nonzero()[:4].tolist()
        print(f"      {phase} {name}: {differ} differ, at {where}: {[(hex(int(a[tuple(w)]) & 65535), hex(int(b[tuple(w)]) & 65535)) for w in where]}", flush=True)
    if differ and (row["first_layer"] is None or layer < row["first_layer"]):
        row["first_layer"] = layer


def main():
    program, scratch, report = sys.argv[1:4]
    os.makedirs(scratch, exist_ok=True)
    found = {"versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__, "gpu": torch.cuda.get_device_name()}, "cases": []}
    for case in sys.argv[4:]:
        preset, document, steps, batch, attention = (case.split(":") + ["eager"])[:5]
        document, steps, batch = int(document), int(steps), int(batch)
        try:
            folder, digest, prompt, output, ours, seconds = predicted(program, scratch, preset, document, steps, batch, attention)
        except subprocess.CalledProcessError as error:
            print(case, "not predicted:", error, flush=True)
            found["cases"].append({"case": case, "refused": True})
            continue
        place = {"pretrained_model_name_or_path": folder}
        if folder.endswith(".gguf"):
            place = {"pretrained_model_name_or_path": os.path.dirname(folder), "gguf_file": os.path.basename(folder)}
        model = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.bfloat16, attn_implementation="sdpa" if attention in BACKENDS else "eager").cuda().eval()
        look, table = Look(model), {}
        forced = sdpa_kernel([BACKENDS[attention]]) if attention in BACKENDS else contextlib.nullcontext()
        with torch.no_grad(), forced:
            ids = torch.tensor([prompt] * batch, device="cuda")
            out = model(ids, use_cache=True)
            phase_sites = [name.split("/")[1] for name in ours if name.startswith("prefill/") and "logprobs" not in name]
            for name in phase_sites:
                if look.seen[name].shape[0] == ours["prefill/" + name].shape[1]:
                    count(table, "prefill", name, ours["prefill/" + name][0], look.seen[name])
            for step in range(steps):
                token = torch.tensor([[output[step]]] * batch, device="cuda")
                out = model(token, past_key_values=out.past_key_values, use_cache=True)
                for name in phase_sites:
                    if "decode/" + name in ours:
                        count(table, "decode", name, ours["decode/" + name][step][-1:], look.seen[name][-1:])
        look.undo()
        total, values = (sum(row[key] for row in table.values()) for key in ("differ", "values"))
        print(f"{case} ({len(prompt)} tokens): {total} of {values} values differ; predicted in {seconds:.1f} s", flush=True)
        for name, row in table.items():
            if row["differ"]:
                print(f"    {name}: {row['differ']} of {row['values']}, first in layer {row['first_layer']}", flush=True)
        found["cases"].append({"case": case, "prompt_tokens": len(prompt), "signals_digest": digest, "differ": total, "values": values, "table": table})
        del model
        json.dump(found, open(report, "w"), indent=0, separators=(",", ":"))


main()
