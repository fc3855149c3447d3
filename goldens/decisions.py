#!/usr/bin/env python3
"""Make decisions.json: what transformers computes of folders that state something twice, or hold more than a model.

    decisions.py --mantissa MANTISSA --scratch FOLDER --out goldens/decisions.json

Each variant is a tiny model of `mantissa synth --seed 1` with changed keys of `config.json` ("(absent)" takes a key
away) and, where it says so, other files of weights. transformers opens it in float32 with eager attention; kept are the
largest logits of the last of 48 ids. A variant whose two loads differ holds random numbers and is marked `random`. A
variant with `unlike` is set beside that other reading too, and must differ from it: what is decided shows in the
numbers.

Needs torch and transformers 5.17; no network.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import pathlib
import shutil
import struct
import subprocess

import numpy
import torch
import transformers

TOP = 8
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
NORM = "model.norm.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
REVERSED_HEAD = {HEAD: {"of": EMBEDDING, "reversed": True}}
REVERSED_DOWN = {DOWN: {"of": DOWN, "reversed": True}}
LINEAR = {"rope_type": "linear", "factor": 4.0}
THETA = {"rope_type": "default", "rope_theta": 1000000.0}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def one(**change):
    return [{"name": "model.safetensors", **change}]


def two(first, second):
    return [{"name": "a.safetensors", **first}, {"name": "b.safetensors", **second}]


def variants():
    rope = {"rope_theta": "(absent)", "rope_scaling": "(absent)"}
    yield "plain", "llama", {}, None, None
    yield "both objects", "llama", {**rope, "rope_parameters": THETA, "rope_scaling": LINEAR}, None, {
        "rope_theta": 1000000.0, "rope_scaling": LINEAR}
    yield "an empty rope_scaling", "llama", {**rope, "rope_parameters": THETA, "rope_scaling": {}}, None, {}
    yield "both objects, theta on top", "llama", {
        "rope_theta": 500.0, "rope_parameters": THETA, "rope_scaling": LINEAR}, None, {"rope_scaling": LINEAR}
    yield "theta inside and on top", "llama", {
        "rope_theta": 500.0, "rope_scaling": {}, "rope_parameters": THETA}, None, {
        "rope_theta": 500.0}
    yield "theta in rope_scaling", "llama", {
        "rope_theta": 500.0, "rope_scaling": {**LINEAR, "rope_theta": 70000.0}}, None, {
        "rope_theta": 500.0, "rope_scaling": LINEAR}
    yield "type linear, rope_type default", "llama", {
        "rope_scaling": {"type": "linear", "rope_type": "default", "factor": 4.0}}, None, {"rope_scaling": LINEAR}
    yield "type default, rope_type linear", "llama", {"rope_scaling": {**LINEAR, "type": "default"}}, None, {}
    yield "llama3, the original context on top", "llama", {
        "original_max_position_embeddings": 16,
        "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 1024}}, None, {
        "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 1024}}
    yield "llama3 without an original context", "llama", {
        "max_position_embeddings": 512, "rope_scaling": LLAMA3}, None, {
        "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}}
    yield "mixtral without a base", "mixtral", rope, None, {"rope_theta": 10000.0}
    yield "gpt_oss, an empty rope_scaling", "gpt_oss", {**rope, "rope_parameters": None, "rope_scaling": {}}, None, {
        "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0}}
    yield "gpt_oss, empty rope_parameters", "gpt_oss", {**rope, "rope_parameters": {}}, None, {
        "rope_parameters": None}
    yield "gemma3, rope_scaling of the old spelling", "gemma3_text", {
        "rope_parameters": "(absent)", "rope_scaling": {"type": "linear", "factor": 8.0}}, None, {
        "rope_parameters": "(absent)", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    nested = {"full_attention": {"rope_type": "default", "rope_theta": 20000.0},
              "sliding_attention": {"rope_type": "default", "rope_theta": 3000.0}}
    yield "gemma3, rope_scaling beside kinds of blocks", "gemma3_text", {
        "rope_parameters": nested, "rope_scaling": LINEAR}, None, {"rope_parameters": nested}
    yield "gemma3, bases on top beside kinds of blocks", "gemma3_text", {
        "rope_parameters": nested, "rope_theta": 77.0, "rope_local_base_freq": 78.0}, None, {
        "rope_theta": 77.0, "rope_local_base_freq": 78.0}
    for arch in ("qwen2", "qwen3"):
        window = {"use_sliding_window": True, "sliding_window": 16}
        yield f"{arch}, a window that no block uses", arch, {**window, "max_window_layers": 4}, None, None
        yield f"{arch}, a window that layer_types gives to no block", arch, {
            **window, "max_window_layers": 0, "layer_types": ["full_attention"] * 4}, None, None
        yield f"{arch}, a window that is switched off", arch, {"sliding_window": 16, "max_window_layers": 0}, None, None
        half = {**window, "max_window_layers": 2}
        yield f"{arch}, a window from the third block on", arch, half, None, {}
        kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
        yield f"{arch}, a window that layer_types gives to some blocks", arch, {
            **half, "layer_types": kinds}, None, half
    yield "qwen3_moe, a window of all blocks", "qwen3_moe", {
        "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}, None, {}
    yield "mistral by model_type", "mistral", {
        "architectures": ["LlamaForCausalLM"], "model_type": "mistral", "sliding_window": 16}, None, {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "sliding_window": None}
    yield "dtype beside torch_dtype", "llama", {"dtype": "float32", "torch_dtype": "float16"}, None, None
    tied, untied = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
    yield "tied, embedding alone", "llama", tied, one(without=[HEAD]), None
    yield "tied, output alone", "llama", tied, one(without=[EMBEDDING]), {}
    yield "tied, both with the same values", "llama", tied, one(add={HEAD: {"of": EMBEDDING}}), None
    yield "tied, both with other values", "llama", tied, one(add=REVERSED_HEAD), tied
    yield "not tied, embedding alone", "llama", untied, one(without=[HEAD]), None
    yield "tie_word_embeddings absent, embedding alone", "llama", {"tie_word_embeddings": "(absent)"}, one(
        without=[HEAD]), None
    yield "gemma2, tie_word_embeddings absent", "gemma2", {"tie_word_embeddings": "(absent)"}, None, None
    yield "an overlay that the index names", "llama", {}, two({}, {"only": [DOWN], "add": REVERSED_DOWN}), {}
    yield "an overlay with the same values", "llama", {}, two({}, {"only": [DOWN]}), None
    yield "a tensor of a shard that the index does not name", "llama", {}, [
        *two({"without": [DOWN]}, {"only": [DOWN, NORM], "add": REVERSED_DOWN}), {"unnamed": [DOWN]}], {}
    yield "a single file beside an index", "llama", {}, [
        {"name": "model.safetensors", "add": REVERSED_DOWN}, *two({}, {"only": []})], {}
    yield "a file that transformers_weights names", "llama", {"transformers_weights": "b.safetensors"}, [
        *one(), {"name": "b.safetensors", "add": REVERSED_DOWN}, {"unnamed": None}], {}
    yield "tensors without a place", "llama", {}, one(
        add={"model.layers.9.mlp.up_proj.weight": {"of": DOWN}, "lm_head.bias": {"of": NORM}}), None


def read(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*(start + at for at in entry["data_offsets"]))])
        for name, entry in header.items()
    }


def write(path, tensors):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def made(base, files):
    """Tensors of each file, and the index: the last file that holds a tensor, unless it is unnamed (null: all are)."""
    shards, index, unnamed = {}, {}, set()
    for file in files:
        if "name" not in file:
            unnamed |= set(file["unnamed"] or base)
            continue
        names = [name for name in file.get("only", base) if name not in file.get("without", [])]
        tensors = {name: base[name] for name in names}
        for name, source in file.get("add", {}).items():
            dtype, shape, data = base[source["of"]]
            if source.get("reversed"):
                data = numpy.frombuffer(data, dtype=numpy.uint16)[::-1].tobytes()
            tensors[name] = (dtype, shape, data)
        shards[file["name"]] = tensors
        if file["name"] != "model.safetensors":
            index |= {name: file["name"] for name in tensors}
    return shards, {name: file for name, file in index.items() if name not in unnamed}


def folder(source, out, config, files):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    keys = json.loads((source / "config.json").read_text())
    for key, value in config.items():
        if value == "(absent)":
            keys.pop(key, None)
        else:
            keys[key] = value
    (out / "config.json").write_text(json.dumps(keys))
    base = read(source / "model.safetensors")
    shards, index = made(base, files or one())
    for name, tensors in shards.items():
        write(out / name, tensors)
    if index:
        text = json.dumps({"metadata": {}, "weight_map": index})
        (out / "model.safetensors.index.json").write_text(text)
    return out


def logits(path):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(path), dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    ids = torch.tensor([[(7 * i * i + 3 * i + 1) % 500 for i in range(48)]])
    with torch.no_grad():
        return model(ids).logits[0, -1]


def main():
    parser = argparse.ArgumentParser()
    for name in ("mantissa", "scratch", "out"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found = []
    for name, arch, config, files, unlike in variants():
        source = args.scratch / arch
        if not source.is_dir():
            command = [args.mantissa, "synth", "--arch", arch, "--seed", "1", "--out", source]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        path = folder(source, args.scratch / "variant", config, files)
        entry = {"name": name, "arch": arch, "config": config, "files": files or one()}
        first, again = logits(path), logits(path)
        entry["random"] = not torch.equal(first, again)
        if not entry["random"]:
            values, ids = first.topk(TOP)
            entry["ids"] = ids.tolist()
            entry["bits"] = [f"{bits:08x}" for bits in values.numpy().view(numpy.uint32).tolist()]
        if unlike is not None:
            other = logits(folder(source, args.scratch / "variant", unlike, None))
            entry["apart"] = float((first - other).abs().max())
            assert entry["apart"] > 0.01, (name, entry["apart"])
        print(name, entry.get("ids", "random")[:3], entry.get("apart"))
        found.append(entry)
    made_by = {"transformers": transformers.__version__, "torch": torch.__version__}
    lines = ",\n".join(json.dumps(entry) for entry in found)
    args.out.write_text(f'{{"versions": {json.dumps(made_by)}, "variants": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
