"""Captures evidence from stock Hugging Face inference on an NVIDIA GPU, as a container that `mantissa verify` reads.

    python capture.py MANTISSA SCRATCH OUT [HARDWARE]

MANTISSA is the program (it makes the synthetic model and names its weights by digest, and does nothing else here), SCRATCH a folder
to work in, OUT the container to write (default committed: goldens/gpu/evidence_h200). transformers runs eager attention in bf16 from
`from_pretrained`, nothing patched but to look: a prompt in one pass of a whole batch, then greedy decode steps of the whole
batch. Kept is row 0. Every case is run twice; the script stops if the two differ in a bit. HARDWARE is what the evidence
claims, `h200` unless told.

What is kept: keys of the last layer and the final norm, at the newest position, which every kernel before them
reaches; ids; versions. Needs torch and transformers, no safetensors and no blake3: both formats
are written here in plain Python.
"""

import hashlib
import json
import os
import struct
import subprocess
import sys

# (tokens of the prompt, batch size). Over an odd number of keys most batch sizes go by kernels of their own, which leave other bits; 4
# and 5 part over 312. Batches of 8 and 9, and of 16 and 17, are one class each over these.
CASES = [(312, 4), (312, 5), (513, 1), (513, 2), (513, 4), (513, 8), (513, 16)]
STEPS = 16
PRESET = "smollm2-135m"


# ---- blake3, by its specification; for kilobytes ---------------------------------------------------------------------

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def compress(chain, block, counter, length, flags):
    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    state = chain[:8] + IV[:4] + [counter & 0xFFFFFFFF, counter >> 32, length, flags]

    def mix(a, b, c, d, x, y):
        for word, right_d, right_b in ((x, 16, 12), (y, 8, 7)):
            state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
            t = state[d] ^ state[a]
            state[d] = (t >> right_d | t << (32 - right_d)) & 0xFFFFFFFF
            state[c] = (state[c] + state[d]) & 0xFFFFFFFF
            t = state[b] ^ state[c]
            state[b] = (t >> right_b | t << (32 - right_b)) & 0xFFFFFFFF

    for _ in range(7):
        for i in range(4):
            mix(i, 4 + i, 8 + i, 12 + i, words[2 * i], words[2 * i + 1])
        for i in range(4):
            mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, words[8 + 2 * i], words[9 + 2 * i])
        words = [words[i] for i in ORDER]
    return [state[i] ^ state[i + 8] for i in range(8)] + [state[i + 8] ^ chain[i] for i in range(8)]


def blake3(data):
    def chunk(piece, counter):
        blocks = [piece[i : i + 64] for i in range(0, len(piece), 64)] or [b""]
        chain = IV
        for i, block in enumerate(blocks):
            flags = (CHUNK_START if i == 0 else 0) | (CHUNK_END if i + 1 == len(blocks) else 0)
            node = (chain, block, counter, len(block), flags)
            if i + 1 < len(blocks):
                chain = compress(*node)[:8]
        return node

    def tree(first, count):
        """The node over chunks `first` to `first + count`, not yet compressed."""
        if count == 1:
            return chunk(data[first * 1024 : (first + 1) * 1024], first)
        left = 1 << (count - 1).bit_length() - 1
        sides = [compress(*tree(first, left))[:8], compress(*tree(first + left, count - left))[:8]]
        return (IV, struct.pack("<16I", *sides[0], *sides[1]), 0, 64, PARENT)

    chain, block, counter, length, flags = tree(0, max(1, -(-len(data) // 1024)))
    return struct.pack("<8I", *compress(chain, block, counter, length, flags | ROOT)[:8]).hex()


# ---- the container: docs/format/container.md -------------------------------------------------------------------------

POINTS = ["embed_out", "x_in", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "mlp_out", "x_out", "final_norm", "logits"]


def flow(site):
    """Sites in the order of data flow."""
    if "." not in site:
        return (0 if site == "embed_out" else 1 << 32, POINTS.index(site))
    layer, point = site.split(".")
    return (int(layer[6:]), POINTS.index(point))


def ids_digest(ids):
    return blake3(struct.pack(f"<{len(ids)}I", *ids))


def signals_digest(phases):
    """`phases`: {"prefill": {site: ([steps, positions, dim], bytes)}, "decode": …}, all bf16."""
    out = b""
    for phase in ("prefill", "decode"):
        for site in sorted(phases[phase], key=flow):
            shape, data = phases[phase][site]
            for text in (f"{phase}/{site}", "bf16"):
                out += struct.pack("<Q", len(text)) + text.encode()
            out += struct.pack("<3Q", *shape) + data
    return blake3(out)


def safetensors(phases):
    header, data = {}, b""
    for phase in ("prefill", "decode"):
        for site in sorted(phases[phase], key=flow):
            shape, values = phases[phase][site]
            header[f"{phase}/{site}"] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
            data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def container(out, model, hardware, versions, config, runs):
    """Writes `runs`: dicts of batch, reference, prompt, output, phases and their repetitions' digests."""
    os.makedirs(out)
    layers = sorted({int(site.split(".")[0][6:]) for site in runs[0]["phases"]["decode"] if "." in site})
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    configurations, stored = {}, []
    for run in runs:
        name = f"{hardware}_bs{run['batch']}_eager_bf16"
        digests = [
            {"reference_id": run["reference"], "rep_id": rep, "output_ids": ids_digest(run["output"]), "signals": signals_digest(run["phases"])}
            for rep in range(2)
        ]
        if name in configurations:
            configurations[name]["mantissa"]["reproducibility"]["digests"] += digests
        else:
            configurations[name] = {
                "config_id": name,
                "hardware": hardware,
                "variable_value": run["batch"],
                "cuda_version": versions["cuda"],
                "torch_version": versions["torch"],
                "transformers_version": versions["transformers"],
                "python_version": sys.version.split()[0],
                "fixed_params": {
                    "compile": False, "attention_impl": "eager", "quantization": "none", "tp_size": 1, "ep_size": 1, "concurrent_streams": False,
                },
                "mantissa": {
                    "setup": {
                        "model": {"id": PRESET, "weights_digest": model},
                        "hardware": hardware, "engine": "transformers", "engine_version": versions["transformers"], "dtype": "bf16",
                        "batch_size": run["batch"], "attention": "eager", "quantization": "none", "compile": False,
                        "concurrent_streams": False, "cuda_version": versions["cuda"], "tp_size": 1, "ep_size": 1, "decoding": "greedy",
                    },
                    "environment": {
                        "cpu": versions["gpu"], "cpu_features": [], "cores": os.cpu_count() or 1, "os": sys.platform, "memory_bytes": 0,
                        "rustc": "none",
                    },
                    "recipes": [],
                    "reproducibility": {"repetitions": 2, "outcome": {"state": "identical"}, "digests": digests},
                },
            }
        data = safetensors(run["phases"])
        file = f"run-{name}-ref{run['reference']}-rep1.safetensors"
        with open(os.path.join(out, file), "wb") as f:
            f.write(data)
        layout = lambda phase: {
            "steps": next(iter(run["phases"][phase].values()))[0][0],
            "positions": [-1],
            "tensors": {site: {"dtype": "bf16", "dim": run["phases"][phase][site][0][2]} for site in sorted(run["phases"][phase], key=flow)},
        }
        stored.append({
            "config_id": name, "rep_id": 1, "prompt_text": "", "file": {"name": file, "bytes": len(data), "blake3": blake3(data)},
            "mantissa": {
                "reference_id": run["reference"],
                "prompt_token_ids": run["prompt"], "prompt_ids_digest": ids_digest(run["prompt"]),
                "output_token_ids": run["output"], "output_ids_digest": ids_digest(run["output"]),
                "output_token_texts": [], "neighbours": [],
                "signals": {"prefill": layout("prefill"), "decode": layout("decode")},
                "signals_digest": signals_digest(run["phases"]),
            },
        })
    manifest = {
        "format": "mantissa-container", "format_version": 1,
        "experiment_metadata": {
            "experiment_type": "batch_size", "variable_tested": "batch_size", "model": PRESET, "model_size": "135M", "architecture": "dense",
            "sequence_length": max(len(run["prompt"]) for run in runs), "decode_steps": STEPS,
            "extraction_config": {
                "layers": layers, "positions": [-1], "hidden_dim": config["hidden_size"],
                "key_dim": config["num_key_value_heads"] * head_dim, "top_k_logprobs": 0,
            },
            "mantissa": {
                "format_version": 1, "tool": "goldens/gpu/capture.py", "num_layers": config["num_hidden_layers"],
                "vocab_size": config["vocab_size"], "weights_digest": model, "config_digest": None,
            },
        },
        "configurations": list(configurations.values()),
        "runs": stored,
    }
    with open(os.path.join(out, "manifest.json"), "w") as f:
        json.dump(manifest, f)
        f.write("\n")


# ---- the capture -----------------------------------------------------------------------------------------------------


def capture(model, torch, prompt, batch, wanted):
    """Row 0 of a greedy generation: output ids, and per phase {site: ([steps, 1, dim], bytes)}."""
    import importlib

    module = importlib.import_module(type(model).__module__)
    seen, here, undo = {}, {"layer": 0}, []
    put = lambda name, x: seen.__setitem__(name, x[0, -1].detach().clone())
    keep = lambda name: lambda module, inputs, output: put(name, output[0] if isinstance(output, tuple) else output)
    undo.append(model.model.norm.register_forward_hook(keep("final_norm")))
    for i, layer in enumerate(model.model.layers):
        enter = lambda module, inputs, more, i=i: here.__setitem__("layer", i + 1)
        undo.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
    rotate = module.apply_rotary_pos_emb

    def looked(*arguments, **more):
        q, k = rotate(*arguments, **more)
        put(f"layer_{here['layer']}.k", k.transpose(1, 2).flatten(2))
        return q, k

    module.apply_rotary_pos_emb = looked
    rows, output = {"prefill": [], "decode": []}, []
    # Neighbours with other contents: row r is the prompt turned by r.
    ids = torch.tensor([prompt[r:] + prompt[:r] for r in range(batch)], device=model.device)
    with torch.no_grad():
        out = model(ids, use_cache=True)
        rows["prefill"].append({name: seen[name] for name in wanted})
        for _ in range(STEPS):
            token = out.logits[:, -1].argmax(-1)
            output.append(int(token[0]))
            out = model(token[:, None], past_key_values=out.past_key_values, use_cache=True)
            rows["decode"].append({name: seen[name] for name in wanted})
    module.apply_rotary_pos_emb = rotate
    for hook in undo:
        hook.remove()
    raw = lambda x: bytes(x.to("cpu").contiguous().view(torch.uint8).numpy().tobytes())
    phases = {
        phase: {name: ([len(steps), 1, steps[0][name].numel()], b"".join(raw(step[name]) for step in steps)) for name in wanted}
        for phase, steps in rows.items()
    }
    return output, phases


def main():
    import torch
    import transformers

    program, scratch, out = sys.argv[1:4]
    hardware = sys.argv[4] if len(sys.argv) > 4 else "h200"
    os.makedirs(scratch, exist_ok=True)
    folder = os.path.join(scratch, PRESET)
    if not os.path.exists(folder):
        subprocess.run([program, "--quiet", "synth", "--arch", "llama", "--preset", PRESET, "--out", folder], check=True, stdout=subprocess.DEVNULL)
    shown = subprocess.run([program, "--format", "json", "inspect", folder, "--digest"], check=True, capture_output=True).stdout
    digest = json.loads(shown)["digest"]["digest"]
    config = json.load(open(os.path.join(folder, "config.json")))
    last = config["num_hidden_layers"]
    wanted = [f"layer_{last}.k", "final_norm"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    versions = {
        "torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").to(device).eval()
    runs, references = [], sorted({tokens for tokens, _ in CASES})
    for tokens, batch in CASES:
        # Ids that any machine makes again.
        prompt = [int.from_bytes(hashlib.sha256(f"{tokens} {i}".encode()).digest()[:4], "little") % 40000 + 100 for i in range(tokens)]
        first, second = (capture(model, torch, prompt, batch, wanted) for _ in range(2))
        if first != second:
            sys.exit(f"{tokens} tokens at batch {batch}: two repetitions differ; this hardware or setup is not deterministic")
        runs.append({"batch": batch, "reference": references.index(tokens), "prompt": prompt, "output": first[0], "phases": first[1]})
        print(f"{tokens} tokens at batch {batch}: output {first[0]}", flush=True)
    container(out, digest, hardware, versions, config, runs)
    size = sum(os.path.getsize(os.path.join(out, name)) for name in os.listdir(out))
    print(f"{out}: {size} bytes; check it with: mantissa inspect {out}")


if __name__ == "__main__":
    main()
