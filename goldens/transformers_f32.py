#!/usr/bin/env python3
"""Make transformers_f32.json: what Hugging Face transformers computes for synthetic models, our reference.

    transformers_f32.py --out transformers_f32.json MODEL_DIR... [--ids IDS.json]
                        [--variants cpu:float64,cpu:float32,cuda:float32] [--steps 16]

`--append` adds models to an existing file; each states the environment that it was made in. `--against FILE` compares
every variant that was made with that file's: 0 where each is the same bits.

MODEL_DIRs come from `mantissa synth --arch ARCH --seed 1 --out DIR` (one of each family). Needs torch, transformers 5
(4.5x works too) and numpy; no network. IDS.json is a list of token ids; by default 48 ids from a formula
(`default_ids`).

Per model and variant: one prefill of the ids into a KV cache, then `--steps` decode steps of one token. The first
variant that works is greedy; the others are forced along its tokens and only report their own argmax, so all variants
see the same prefixes. Attention is eager, experts are a plain loop, TF32 is off, KV cache in the compute dtype.

`float64` is meant as the truth. transformers itself drops to float32 in some places; for that variant they are
replaced: RMSNorm, softmax, the rotary angles (from the float32 inverse frequencies that the model stores), and of
DeepSeek the router and the rotation by complex numbers. The count of replaced modules is recorded; without them the
variant would be no better than float32.

Floats are stored as bit patterns: big-endian hex, 8 digits a value (16 for float64), concatenated. The layer numbers
are Hugging Face's: `x_out.k` is the output of the k-th block counted from 1, before the final norm even for the last
one; `attn_out.k` is its attention after the output projection; `keys.k` are its cached keys (after RoPE), KV heads
concatenated.

Left out: any comparison beyond the summary it prints, and sampling other than greedy.
"""

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
os.environ.setdefault("USE_HUB_KERNELS", "0")

import argparse
import datetime
import gc
import hashlib
import json
import pathlib
import platform
import subprocess
import sys
import traceback
import types

import numpy
import torch
import transformers

TOP = 64  # logits kept by id for the last three prompt positions
STEP_TOP = 8  # logits kept by id for every decode step
FULL_VOCAB = 4096  # vocabularies up to this size have all logits of the last position kept
LAYERS = (1, 2, 4, 12)  # and the last


def default_ids() -> list[int]:
    return [(7 * i * i + 3 * i + 1) % 500 for i in range(48)]


def bits(tensor) -> str:
    """Bit patterns of a tensor's values in order, big-endian hex."""
    array = tensor.detach().to("cpu").contiguous().numpy()
    if array.dtype not in (numpy.float32, numpy.float64):
        raise TypeError(f"float32 or float64 expected, not {array.dtype}")
    return array.astype(array.dtype.newbyteorder(">")).tobytes().hex()


def top(logits, count: int) -> dict:
    """The largest logits and their ids; ties by the smaller id."""
    values = logits.detach().to("cpu")
    order = numpy.argsort(-values.numpy(), kind="stable")[:count].copy()
    return {"ids": order.tolist(), "bits": bits(values[torch.from_numpy(order)])}


def digests(folder: pathlib.Path) -> dict[str, str]:
    names = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
    found = {}
    for path in names:
        sha = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
        found[path.name] = sha.hexdigest()
    return found


def load(folder: pathlib.Path, dtype, device: str):
    """The model, and what transformers said about missing or unexpected weights."""
    attempts = (
        {"dtype": dtype, "experts_implementation": "eager"},
        {"dtype": dtype},
        {"torch_dtype": dtype},
    )
    problem = None
    for extra in attempts:
        try:
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                str(folder), attn_implementation="eager", local_files_only=True, output_loading_info=True, **extra
            )
            break
        except (TypeError, ValueError) as error:  # an argument that this version does not know
            problem = error
    else:
        raise problem
    model = model.to(device)
    model.eval()
    kinds = {p.dtype for p in model.parameters()}
    if kinds != {dtype}:
        raise RuntimeError(f"asked for {dtype}, parameters are {kinds}")
    kept = {}
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        value = info.get(key) if isinstance(info, dict) else getattr(info, key, None)
        kept[key] = sorted(str(v) for v in value) if value else []
    return model, kept


# --- float64 as truth ---------------------------------------------------------------------------------------------


def complex_rotation(xq, xk, table):
    """transformers' apply_rotary_emb without its casts to float32."""
    table = table.unsqueeze(1)

    def turned(x):
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * table).flatten(3)

    return turned(xq), turned(xk)


def deepseek_router(self, hidden_states):
    """transformers' DeepseekV2TopkRouter without its casts to float32."""
    hidden_states = hidden_states.view(-1, self.hidden_dim)
    logits = torch.nn.functional.linear(hidden_states, self.weight)
    scores = logits.softmax(dim=-1)
    if self.topk_method == "group_limited_greedy":
        groups = scores.view(-1, self.num_group, self.num_experts // self.num_group)
        kept = torch.topk(groups.max(dim=-1).values, k=self.topk_group, dim=-1, sorted=False)[1]
        mask = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter_(1, kept, True)
        scores = groups.masked_fill(~mask.unsqueeze(-1), 0.0).reshape(-1, self.num_experts)
    weights, experts = torch.topk(scores, k=self.top_k, dim=-1, sorted=False)
    return logits, weights * self.routed_scaling_factor, experts


def replace_float32_islands(model) -> dict[str, int]:
    """Keeps RMSNorm and the rotary angles in float64; returns how many modules of each were replaced."""
    counts = {"rms_norm": 0, "rotary": 0}
    for module in model.modules():
        name = type(module).__name__
        if name.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            def norm(self, x):
                return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

            module.forward = types.MethodType(norm, module)
            counts["rms_norm"] += 1
        elif name.startswith("Gemma") and name.endswith("RMSNorm"):
            def one_plus(self, x):
                return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (1.0 + self.weight)

            module.forward = types.MethodType(one_plus, module)
            counts["rms_norm"] += 1
        elif name == "DeepseekV2TopkRouter":
            module.forward = types.MethodType(deepseek_router, module)
            counts["router"] = counts.get("router", 0) + 1
        elif name == "DeepseekV2RotaryEmbedding":
            frequencies = module.inv_freq.detach().to(torch.float32).to(torch.float64)

            def complex_rotary(self, x, position_ids, *_args, _frequencies=frequencies, **_kwargs):
                angles = position_ids[..., None].to(torch.float64) * _frequencies.to(x.device)
                return torch.polar(torch.ones_like(angles), angles) * self.attention_scaling

            module.forward = types.MethodType(complex_rotary, module)
            sys.modules[type(module).__module__].apply_rotary_emb = complex_rotation
            counts["rotary"] += 1
        elif name.endswith("RotaryEmbedding") and hasattr(module, "inv_freq"):
            # Stored frequencies are float32 by the model's definition; the angle and its functions are not.
            frequencies = module.inv_freq.detach().to(torch.float32).to(torch.float64)

            # gpt-oss has each angle once.
            half = name.startswith("GptOss")

            def rotary(self, x, position_ids, *_args, _frequencies=frequencies, _half=half, **_kwargs):
                angles = position_ids[..., None].to(torch.float64) * _frequencies.to(x.device)
                if not _half:
                    angles = torch.cat((angles, angles), dim=-1)
                scale = getattr(self, "attention_scaling", 1.0)
                return (angles.cos() * scale).to(x.dtype), (angles.sin() * scale).to(x.dtype)

            module.forward = types.MethodType(rotary, module)
            counts["rotary"] += 1
        elif name.endswith("RotaryEmbedding") and hasattr(module, "layer_types"):
            # One table for each kind of block (Gemma 3).
            tables = {
                kind: getattr(module, f"{kind}_inv_freq").detach().to(torch.float32).to(torch.float64)
                for kind in module.layer_types
            }

            def by_kind(self, x, position_ids, layer_type, _tables=tables):
                angles = position_ids[..., None].to(torch.float64) * _tables[layer_type].to(x.device)
                angles = torch.cat((angles, angles), dim=-1)
                scale = getattr(self, f"{layer_type}_attention_scaling")
                return (angles.cos() * scale).to(x.dtype), (angles.sin() * scale).to(x.dtype)

            module.forward = types.MethodType(by_kind, module)
            counts["rotary"] += 1
    return counts


class Float64Softmax:
    """While active, softmax of a float64 tensor stays float64 whatever dtype it is asked for."""

    def __enter__(self):
        self.original = original = torch.nn.functional.softmax

        def softmax(input, dim=None, _stacklevel=3, dtype=None):
            return original(input, dim=dim, dtype=None if input.dtype == torch.float64 else dtype)

        torch.nn.functional.softmax = softmax

    def __exit__(self, *_exception):
        torch.nn.functional.softmax = self.original


# --- one run ------------------------------------------------------------------------------------------------------


class Taps:
    """Outputs of chosen blocks, of the final norm and of the routers, at the last position of the last pass."""

    def __init__(self, model, layers: list[int]):
        self.seen = {}
        self.handles = []
        body = model.model
        for layer in layers:
            block = body.layers[layer - 1]
            self.tap(block, f"x_out.{layer}")
            self.tap(block.self_attn, f"attn_out.{layer}")
            self.tap(block.mlp, f"mlp_out.{layer}")
            router = getattr(block.mlp, "router", getattr(block.mlp, "gate", None))
            if router is not None:
                self.tap_router(router, f"router_logits.{layer}")
        self.tap(body.embed_tokens, "embed_out")
        self.tap(body.norm, "final_norm")

    def tap(self, module, name: str):
        def hook(_module, _inputs, output):
            tensor = output[0] if isinstance(output, (tuple, list)) else output
            self.seen[name] = tensor.reshape(-1, tensor.shape[-1])[-1].detach().clone()

        self.handles.append(module.register_forward_hook(hook))

    def tap_router(self, module, name: str):
        # Versions differ in what a router returns; what it is given and its weight are the same everywhere.
        def hook(module, inputs, _output):
            tensor = inputs[0]
            tensor = tensor.reshape(-1, tensor.shape[-1])
            bias = getattr(module, "bias", None)
            self.seen[name] = torch.nn.functional.linear(tensor, module.weight, bias)[-1].detach().clone()

        self.handles.append(module.register_forward_hook(hook))

    def close(self):
        for handle in self.handles:
            handle.remove()


def cached_keys(cache, layer: int):
    """Keys of block `layer` (from 1): [KV heads, positions, head width]."""
    if hasattr(cache, "layers"):
        return cache.layers[layer - 1].keys[0]
    if hasattr(cache, "key_cache"):
        return cache.key_cache[layer - 1][0]
    return cache[layer - 1][0][0]


def signals(taps: Taps, cache, layers: list[int], logits) -> dict:
    """Everything kept of the last position of a pass."""
    kept = {name: bits(value) for name, value in sorted(taps.seen.items())}
    for layer in layers:
        kept[f"keys.{layer}"] = bits(cached_keys(cache, layer)[:, -1, :].reshape(-1))
    if logits.numel() <= FULL_VOCAB:
        kept["logits"] = bits(logits)
    return kept


def run(folder: pathlib.Path, variant: str, ids: list[int], steps: int, forced: list[int] | None) -> dict:
    device, _, dtype_name = variant.partition(":")
    dtype = getattr(torch, dtype_name)
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device")
    model, loading = load(folder, dtype, device)
    count = model.config.num_hidden_layers
    layers = sorted({layer for layer in LAYERS if layer <= count} | {count})
    result = {
        "loading": loading,
        "attn_implementation": getattr(model.config, "_attn_implementation", None),
        "experts_implementation": getattr(model.config, "_experts_implementation", None),
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": layers,
    }
    double = dtype == torch.float64
    if double:
        result["replaced"] = replace_float32_islands(model)
        if not all(result["replaced"].values()):
            raise RuntimeError(f"float64 needs every float32 island replaced, found {result['replaced']}")
    softmax = Float64Softmax()
    taps = Taps(model, layers)
    if double:
        softmax.__enter__()
    try:
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids], device=device), use_cache=True)
            cache = out.past_key_values
            result["prefill_top"] = {str(back): top(out.logits[0, back], TOP) for back in (-3, -2, -1)}
            result["prefill_last"] = signals(taps, cache, layers, out.logits[0, -1])
            tokens, argmax, step_top = [], [], []
            for step in range(steps):
                best = top(out.logits[0, -1], STEP_TOP)
                argmax.append(best["ids"][0])
                step_top.append(best)
                token = forced[step] if forced else argmax[-1]
                tokens.append(token)
                out = model(
                    input_ids=torch.tensor([[token]], device=device),
                    position_ids=torch.tensor([[len(ids) + step]], device=device),
                    past_key_values=cache,
                    use_cache=True,
                )
                cache = out.past_key_values
            result.update(tokens=tokens, argmax=argmax, step_top=step_top)
            # The pass that was fed tokens[-1], at position len(ids) + steps - 1.
            result["decode_last"] = signals(taps, cache, layers, out.logits[0, -1])
            result["decode_last_top"] = top(out.logits[0, -1], TOP)
    finally:
        if double:
            softmax.__exit__()
        taps.close()
    return result


# --- provenance and summary ---------------------------------------------------------------------------------------


def environment() -> dict:
    cuda = torch.cuda.is_available()
    driver = None
    if cuda:
        try:
            query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            driver = subprocess.run(query, check=True, capture_output=True, text=True, timeout=60).stdout.split()[0]
        except Exception as error:
            driver = f"unknown: {type(error).__name__}"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "driver": driver,
        "cpu": torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else None,
        "threads": torch.get_num_threads(),
    }


def tokenized(folder: pathlib.Path) -> dict:
    text = "The evidence is compared bit for bit: 5 × 7 = 35.\n\t🦀 it's"
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    chat = [{"role": "user", "content": "hi"}]
    return {
        "class": type(tokenizer).__name__,
        "text": text,
        "ids": tokenizer(text, add_special_tokens=False)["input_ids"],
        "chat": tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True),
    }


def difference(one: dict, other: dict) -> str:
    """Largest absolute difference per signal of two variants, as a line."""

    def values(result, name):
        width = 8 if result["dtype"] == "float64" else 4
        return numpy.frombuffer(bytes.fromhex(result[phase][name]), dtype=f">f{width}").astype(numpy.float64)

    parts = []
    for phase in ("prefill_last", "decode_last"):
        for name in one[phase]:
            worst = numpy.abs(values(one, name) - values(other, name)).max()
            if name.startswith(("x_out", "logits", "final_norm")):
                parts.append(f"{phase}/{name} {worst:.2e}")
    same = sum(a == b for a, b in zip(one["argmax"], other["argmax"]))
    return f"argmax {same}/{len(one['argmax'])}; " + ", ".join(parts)


def save(path: pathlib.Path, document: dict):
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--ids", type=pathlib.Path)
    parser.add_argument("--variants", default="cpu:float64,cpu:float32,cuda:float32")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--append", action="store_true", help="keep what --out holds and add models to it")
    parser.add_argument("--against", type=pathlib.Path, help="a file whose variants these must be")
    arguments = parser.parse_args()

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(0)

    ids = json.loads(arguments.ids.read_text()) if arguments.ids else default_ids()
    document = {"environment": environment(), "ids": ids, "steps": arguments.steps, "models": {}}
    if arguments.append:
        document = json.loads(arguments.out.read_text())
        if (document["ids"], document["steps"]) != (ids, arguments.steps):
            raise SystemExit(f"{arguments.out} is of other ids or steps")
    failures = 0
    for folder in arguments.models:
        name = folder.resolve().name
        print(f"== {name}", flush=True)
        if name in document["models"]:
            raise SystemExit(f"{arguments.out} has {name}")
        entry = document["models"][name] = {"variants": {}, "failed": {}}
        if arguments.append:
            entry["environment"] = environment()
        try:
            entry["sha256"] = digests(folder)
            spec = folder / "synth.json"
            entry["synth"] = json.loads(spec.read_text()) if spec.exists() else None
        except Exception:
            traceback.print_exc()
        try:
            entry["tokenizer"] = tokenized(folder)
        except Exception as error:
            failures += 1
            entry["failed"]["tokenizer"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        first = None
        for variant in arguments.variants.split(","):
            try:
                result = run(folder, variant, ids, arguments.steps, first["tokens"] if first else None)
                result["dtype"] = variant.partition(":")[2]
                entry["variants"][variant] = result
                if first is None:
                    first = result
                    print(f"{variant}: greedy {result['tokens']}", flush=True)
                    entry["greedy"] = variant
                else:
                    print(f"{variant}: {difference(first, result)}", flush=True)
                for key, value in result["loading"].items():
                    if value:
                        print(f"{variant}: {key}: {value[:5]}", flush=True)
            except Exception as error:
                failures += 1
                entry["failed"][variant] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            save(arguments.out, document)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, {failures} failures", flush=True)
    if arguments.against:
        failures += differing(document, json.loads(arguments.against.read_text()))
    return 1 if failures else 0


def differing(made: dict, golden: dict) -> int:
    """Variants that are not the golden's, each said in a line."""
    others = 0
    for name, entry in made["models"].items():
        for variant, result in entry["variants"].items():
            known = golden["models"].get(name, {}).get("variants", {}).get(variant)
            same = known == result
            others += not same
            print(f"{name}, {variant}: {'the same bits' if same else 'other bits' if known else 'not in the golden'}")
    return others


if __name__ == "__main__":
    sys.exit(main())
