#!/usr/bin/env python3
"""Make quantized.json: what other programs decode of quantized synthetic folders, as digests.

    quantized.py --mantissa MANTISSA --scratch FOLDER --out quantized.json

FOLDER gets what `mantissa synth --arch ARCH --seed 1 --quantization FORMAT` writes for every family of FAMILIES and
every format, families with experts with 128 for --hidden-size, --intermediate-size and --moe-intermediate-size.

Needs torch, transformers 5.17, accelerate and bitsandbytes 0.50 (their CPU kernels are enough), safetensors and numpy.
A digest is SHA-256 over the decoded weights of all quantized matrices, sorted by name, as little-endian bytes.

- bnb-nf4, bnb-nf4-double: transformers loads the folder, bitsandbytes decodes each matrix.
- fp8: transformers loads the folder decoded (it does so where there is no GPU).
- awq, gptq: numpy alone, from the packages' documented order. No package that decodes them runs without a GPU here.

bnb is also decoded by bitsandbytes straight from the file, and both must agree. Where transformers cannot load a folder
of bnb, `by` says why and the digest is of bitsandbytes alone. Another folder that fails is listed under `failed`, with
the reason.
"""

import argparse
import hashlib
import itertools
import json
import os
import subprocess

import numpy
import torch
from safetensors import safe_open

FAMILIES = ["llama", "qwen2", "qwen3", "qwen3_moe", "mixtral", "olmo2", "phi3"]
WITH_EXPERTS = {"qwen3_moe", "mixtral"}
FORMATS = ["awq", "gptq", "bnb-nf4", "bnb-nf4-double", "fp8"]


def synthetic(mantissa, scratch, family, layout):
    """A folder of `mantissa synth`; made again, it is checked."""
    folder = os.path.join(scratch, f"{family}-{layout}")
    sizes = ["hidden-size", "intermediate-size", "moe-intermediate-size"] if family in WITH_EXPERTS else []
    words = [word for size in sizes for word in (f"--{size}", "128")]
    command = [mantissa, "synth", "--arch", family, "--seed", "1", "--quantization", layout, *words, "--out", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def tensors(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(folder, name), "pt") as file:
                found.update({key: file.get_tensor(key) for key in file.keys()})
    return found


def modules(stored, part):
    return sorted(key[: -len(part)] for key in stored if key.endswith(part))


def nibbles(words, axis):
    """Eight values of each word, the low end first, along `axis`."""
    words = words.view(numpy.uint32)
    values = numpy.stack([(words >> numpy.uint32(4 * i)) & numpy.uint32(15) for i in range(8)], axis + 1)
    shape = list(words.shape)
    shape[axis] *= 8
    return values.reshape(shape).astype(numpy.int32)


def of_integers(q, zeros, scales, groups):
    """(q - z) * s in the scales' dtype; inputs x outputs, turned to outputs x inputs."""
    steps = torch.from_numpy((q - zeros[groups]).astype(numpy.float32))
    product = steps * scales.float()[torch.from_numpy(groups)]
    return product.to(scales.dtype).T.contiguous()


def awq(stored, module):
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    def integers(name):
        values = nibbles(stored[f"{module}.{name}"].numpy(), 1)
        return values.reshape(len(values), -1, 8)[:, :, order].reshape(len(values), -1)
    q, zeros, scales = integers("qweight"), integers("qzeros"), stored[f"{module}.scales"]
    groups = numpy.arange(len(q)) // (len(q) // len(zeros))
    return of_integers(q, zeros, scales, groups)


def gptq(stored, module):
    q = nibbles(stored[f"{module}.qweight"].numpy(), 0)
    zeros = nibbles(stored[f"{module}.qzeros"].numpy(), 1) + 1
    return of_integers(q, zeros, stored[f"{module}.scales"], stored[f"{module}.g_idx"].numpy().astype(numpy.int64))


def nf4_of_file(stored, module):
    from bitsandbytes.functional import QuantState, dequantize_4bit

    prefix = f"{module}.weight."
    state = {key[len(prefix):]: value for key, value in stored.items() if key.startswith(prefix)}
    return dequantize_4bit(stored[f"{module}.weight"], QuantState.from_dict(state, torch.device("cpu")))


def model_of(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, device_map="cpu")


def loaded(folder, names, decode):
    """Decoded weights of a model as transformers loads it, which then computes logits for a few ids."""
    model = model_of(folder)
    found = dict(model.named_modules())
    weights = {name: decode(found[name].weight).clone() for name in names if name in found}
    weights.update({name: expert_of(found, name) for name in names if name not in found})
    # Last: bitsandbytes packs weights again for the CPU in the first pass.
    with torch.no_grad():
        logits = model(torch.arange(1, 33).unsqueeze(0)).logits
    assert torch.isfinite(logits).all()
    return weights


def expert_of(found, name):
    """One expert's matrix of those that transformers 5 holds in one tensor, under one name in every family."""
    block, rest = name.replace(".block_sparse_moe.", ".mlp.").split(".experts.")
    number, matrix = rest.split(".")
    experts = found[f"{block}.experts"]
    if matrix in ("down_proj", "w2"):
        return experts.down_proj.data[int(number)].clone()
    both = experts.gate_up_proj.data[int(number)]
    half = len(both) // 2
    return (both[:half] if matrix in ("gate_proj", "w1") else both[half:]).clone()


def nf4_of_model(weight):
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, weight.quant_state)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def told(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def decoded(folder, method):
    stored = tensors(folder)
    if method == "awq":
        return {m: awq(stored, m) for m in modules(stored, ".qweight")}, "numpy"
    if method == "gptq":
        return {m: gptq(stored, m) for m in modules(stored, ".qweight")}, "numpy"
    if method == "bitsandbytes":
        names = modules(stored, ".weight.absmax")
        of_file = {m: nf4_of_file(stored, m) for m in names}
        try:
            of_model = loaded(folder, names, nf4_of_model)
        except Exception as error:
            return of_file, f"bitsandbytes; transformers: {told(error)}"
        assert all(same(weight, of_file[m]) for m, weight in of_model.items()), "file and model differ"
        return of_file, f"bitsandbytes; {len(of_model)} of {len(names)} matrices by transformers"
    names = modules(stored, ".weight_scale_inv")
    found = loaded(folder, names, lambda weight: weight.data)
    assert len(found) == len(names), "joined experts"
    return found, "transformers"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantissa", required=True, metavar="PROGRAM")
    parser.add_argument("--scratch", required=True, metavar="FOLDER", help="where the folders are written")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    import bitsandbytes
    import transformers

    found, failed = {}, {}
    for family, layout in itertools.product(FAMILIES, FORMATS):
        name = f"{family} {layout}"
        folder = synthetic(args.mantissa, args.scratch, family, layout)
        with open(os.path.join(folder, "config.json")) as file:
            method = json.load(file)["quantization_config"]["quant_method"]
        try:
            weights, by = decoded(folder, method)
        except Exception as error:  # what a family cannot do is part of the result
            failed[name] = told(error)
            print(name, failed[name], flush=True)
            continue
        digest = hashlib.sha256()
        for module in sorted(weights):
            digest.update(weights[module].contiguous().view(torch.uint8).numpy().tobytes())
        found[name] = {"by": by, "matrices": len(weights), "sha256": digest.hexdigest()}
        print(name, found[name], flush=True)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__,
                "bitsandbytes": bitsandbytes.__version__}
    with open(args.out, "w") as file:
        json.dump({"versions": versions, "seed": 1, "folders": found, "failed": failed}, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
