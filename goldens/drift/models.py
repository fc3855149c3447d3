"""The models of the drift suite: small folders of `mantissa synth`, and how transformers loads them.

Weights of `synth` give activations of ordinary size (docs/format/synth.md): block outputs deviate by 1 to 4, and of 40
keys a head looks at 2 to 22. So a bug in attention is no bug of an average over all keys.

transformers has no GPTQ without a GPU. `GptqLinear` is a linear layer that decodes its own integers, from the format's
documented order and without Mantissa.
"""

import json
import os
import subprocess
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from quantized import nibbles

FAMILIES = ["llama", "qwen2", "qwen3_moe"]
GPTQ = "qwen2-gptq"
VOCABULARY = 1024
# Layers, hidden size, query heads, KV heads and inner width by seed. Query heads span the hidden size, so that the
# matrices of queries and of attention's output are square.
SHAPES = {1: (6, 256, 8, 4, 512), 2: (5, 384, 6, 2, 768), 3: (8, 256, 4, 2, 512)}


def folder(mantissa, models, family, seed):
    """The folder of a model, made where it is not there. `family` is one of `FAMILIES`, or `GPTQ`."""
    path = os.path.join(models, f"{family}-{seed}")
    layers, hidden, heads, kv_heads, inner = SHAPES[seed]
    arch = family.removesuffix("-gptq")
    words = ["--arch", arch, "--seed", seed, "--hidden-size", hidden, "--num-hidden-layers", layers, "--out", path]
    words += ["--num-attention-heads", heads, "--num-key-value-heads", kv_heads, "--head-dim", hidden // heads]
    words += ["--vocab-size", VOCABULARY, "--max-position-embeddings", 512, "--intermediate-size", inner]
    words += ["--dtype", "bf16", "--quantization", "gptq"] if family == GPTQ else []
    if arch == "qwen3_moe":
        words += ["--moe-intermediate-size", 128, "--num-experts", 16, "--num-experts-per-tok", 4]
    if not os.path.exists(os.path.join(path, "config.json")):
        os.makedirs(models, exist_ok=True)
        subprocess.run([mantissa, "--quiet", "synth", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return path


def load(path):
    """The model of a folder in transformers, in bf16, with eager attention."""
    with open(os.path.join(path, "config.json")) as file:
        quantized = json.load(file).get("quantization_config")
    source = decoded(path) if quantized else path
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.bfloat16, attn_implementation="eager"
    ).eval()
    if quantized:
        # What decodes itself was loaded from the quantized folder.
        model.config._name_or_path = path
        stored = load_file(os.path.join(path, "model.safetensors"))
        for name in [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]:
            parent, _, own = name.rpartition(".")
            above = model.get_submodule(parent)
            setattr(above, own, GptqLinear(stored, name, getattr(above, own).bias))
    return model


class GptqLinear(torch.nn.Module):
    """A linear layer over the integers of a GPTQ matrix. `groups` says whose scale each group of inputs has."""

    def __init__(self, stored, name, bias):
        super().__init__()
        integers = nibbles(stored[f"{name}.qweight"].numpy(), 0)
        zeros = nibbles(stored[f"{name}.qzeros"].numpy(), 1) + 1
        self.group = stored[f"{name}.g_idx"].long()
        self.steps = torch.from_numpy(integers).float() - torch.from_numpy(zeros).float()[self.group]
        self.scales, self.bias = stored[f"{name}.scales"], bias

    def weight_of(self, groups):
        """*Shape:* outputs x inputs, with the scale of group `groups[g]` for inputs of group `g`."""
        return (self.steps * self.scales.float()[groups[self.group]]).to(self.scales.dtype).T.contiguous()

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight_of(torch.arange(len(self.scales))), self.bias)


def decoded(path):
    """A folder of the same model with its GPTQ matrices decoded, beside the quantized one."""
    out = f"{path}-decoded"
    if os.path.exists(os.path.join(out, "config.json")):
        return out
    os.makedirs(out, exist_ok=True)
    stored = load_file(os.path.join(path, "model.safetensors"))
    tensors = {}
    for name, tensor in stored.items():
        module, _, part = name.rpartition(".")
        if part == "qweight":
            layer = GptqLinear(stored, module, None)
            tensors[f"{module}.weight"] = layer.weight_of(torch.arange(len(layer.scales)))
        elif part not in ("qzeros", "scales", "g_idx"):
            tensors[name] = tensor
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(path, "config.json")) as file:
        config = json.load(file)
    del config["quantization_config"]
    with open(os.path.join(out, "config.json"), "w") as file:
        json.dump(config, file, indent=2)
    return out
