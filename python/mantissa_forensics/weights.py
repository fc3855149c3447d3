"""The digest of a model's weights as they are in memory.

Mantissa identifies weights by the files of a checkpoint (`mantissa inspect FOLDER --digest`). A model in memory has no
files, so what it was loaded from is looked up, and every tensor in memory is compared with the file's, bit for bit,
under the file's names (transformers 5 renames tensors and fuses those of experts; its own table turns them back). Where
all agree, the digest of the files is the digest of the weights. Where one does not, or there are no files, the digest
is of the tensors themselves (`tensors_digest`), which no checkpoint on disk has: such evidence cannot be mistaken for
the checkpoint's. An adapter adds a digest of its own; the weights' digest is then that of both.
"""

import dataclasses
import json
import os
import shutil
import subprocess

import torch

from . import blake3
from .errors import CaptureError
from .observe import quantization_of


@dataclasses.dataclass
class Weights:
    """`digest` is what evidence states as `weights_digest`."""

    digest: str
    # Where the digest comes from: `checkpoint`, `memory` or `adapter`.
    of: str
    # Why it is not the checkpoint's, where it is not; what was compared.
    note: str
    base: str | None = None
    adapter: str | None = None


def identify(causal, checkpoint=None):
    """The digest of `causal`, a model that is loaded. `checkpoint` is where from, if the model does not say."""
    base, adapter = _parts(causal)
    source = checkpoint or getattr(causal.config, "_name_or_path", None) or None
    found = _of_base(causal, base, source)
    if not adapter:
        return found
    own = tensors_digest(adapter)
    both = blake3.digest(f"base {found.digest} adapter {own}".encode())
    return Weights(both, "adapter", found.note, base=found.digest, adapter=own)


def _parts(causal):
    """Tensors of the model, and of its adapters, by name."""
    base, adapter = {}, {}
    for name, tensor in causal.state_dict().items():
        parts = name.split(".")
        mine = any(p.startswith("lora_") or p in ("modules_to_save", "ia3_l", "prompt_encoder") for p in parts)
        if hasattr(tensor, "full_tensor"):
            tensor = _whole(tensor).cpu()
        (adapter if mine else base)[name.replace(".base_layer", "").replace(".original_module", "")] = tensor
    return base, adapter


def _whole(tensor):
    """The whole of what tensor-parallel ranks share; all of them come here."""
    [placement] = tensor.placements
    parts = getattr(placement, "split_factor", 1)
    if parts == 1:
        return tensor.full_tensor()
    # Several weights in one, each divided by itself, which DTensor of PyTorch 2.11 cannot put together.
    import torch
    import torch.distributed as dist

    group = tensor.device_mesh.get_group()
    own = tensor.to_local().contiguous()
    all_ranks = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(all_ranks, own, group=group)
    of_rank = [one.chunk(parts, placement.dim) for one in all_ranks]
    return torch.cat([chunks[part] for part in range(parts) for chunks in of_rank], placement.dim)


def _of_base(causal, tensors, source):
    quantized = next((m for m in causal.modules() if quantization_of(m) not in (None, "none")), None)
    if quantized is not None:
        # What is in memory was made while loading; the files say from what.
        if source and os.path.exists(source):
            note = "quantized while loading or before: the files are named, memory was not compared with them"
            return Weights(checkpoint_digest(source), "checkpoint", note)
        return Weights(tensors_digest(tensors), "memory", "quantized, and no files of the checkpoint are here")
    if not source or not os.path.exists(source):
        return Weights(tensors_digest(tensors), "memory", "no files of the checkpoint are here")
    if any(tensor.is_meta for tensor in tensors.values()):
        note = "some weights are offloaded: the files are named, memory was not compared with them"
        return Weights(checkpoint_digest(source), "checkpoint", note)
    other = differs(causal, tensors, source)
    if other:
        return Weights(tensors_digest(tensors), "memory", other)
    return Weights(checkpoint_digest(source), "checkpoint", "every tensor in memory is that of the files")


def tensors_digest(tensors):
    """BLAKE3 over tensors sorted by name: name and format, both after their length, number of dimensions, dimensions,
    data.

    Lengths and dimensions are 64-bit words, data as it lies in memory; all little-endian.
    """
    found = blake3.hasher()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        for text in (name, str(tensor.dtype).removeprefix("torch.")):
            found.update(len(text).to_bytes(8, "little") + text.encode())
        found.update(tensor.dim().to_bytes(8, "little") + b"".join(n.to_bytes(8, "little") for n in tensor.shape))
        flat = tensor.contiguous().reshape(-1).view(torch.uint8)
        for window in flat.split(64 << 20):
            found.update(window.cpu().numpy().tobytes())
    return found.hexdigest()


# ---- files -----------------------------------------------------------------------------------------------------------


def files(source):
    """The files that decide a checkpoint's numbers, as Mantissa picks them: `config.json` and weights, or a GGUF."""
    if os.path.isfile(source):
        return [source]
    names = os.listdir(source)
    if "config.json" not in names:
        found = [name for name in names if name.endswith(".gguf")]
    elif "model.safetensors" in names:
        found = ["model.safetensors", "config.json"]
    elif "model.safetensors.index.json" in names:
        with open(os.path.join(source, "model.safetensors.index.json")) as file:
            found = sorted(set(json.load(file)["weight_map"].values())) + ["config.json"]
    else:
        found = []
    if not found:
        raise CaptureError(f"{source} holds no safetensors and no GGUF", "give the folder of the checkpoint")
    return [os.path.join(source, name) for name in sorted(found)]


def checkpoint_digest(source):
    """What `mantissa inspect SOURCE --digest` states, by the program if it is on the path, else computed here.

    BLAKE3 over the files sorted by name: length of the name, name, size (both 64-bit words), digest of the content.
    """
    program = shutil.which("mantissa")
    if program:
        command = [program, "--format", "json", "inspect", source, "--digest"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)["digest"]["digest"]
    found = blake3.hasher()
    for path in files(source):
        name = os.path.basename(path).encode()
        found.update(len(name).to_bytes(8, "little") + name)
        found.update(os.path.getsize(path).to_bytes(8, "little") + bytes.fromhex(blake3.of_file(path)))
    return found.hexdigest()


def differs(causal, tensors, source):
    """Why the tensors in memory are not those of the files; `None` where all are.

    A stored tensor is rounded to the format in memory first, as loading does.
    """
    if any(path.endswith(".gguf") for path in files(source)):
        return _differs_gguf(causal, tensors, files(source)[0])
    from safetensors import safe_open

    if changed := _config_differs(causal.config, source):
        return f"{changed} of its configuration is not what config.json says"
    tied = bool(getattr(causal.config, "tie_word_embeddings", False))
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    own = tied and head is not None and head.data_ptr() != embedding.data_ptr()
    if own and not _same(head, embedding.cpu()):
        return "lm_head.weight is not the embedding, to which it is tied"
    try:
        memory = _as_stored(causal, tensors)
    except (ImportError, RuntimeError, ValueError) as error:
        return f"its tensors could not be put under the names of the files: {error}"
    left = set(memory)
    for path in files(source):
        if path.endswith(".json"):
            continue
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                if name.endswith(".rotary_emb.inv_freq") or (tied and name == "lm_head.weight"):
                    left.discard(name)
                    continue
                mine = memory.get(name)
                if mine is None:
                    return f"{name} is in the files and not in memory"
                left.discard(name)
                if not _same(mine, file.get_tensor(name)):
                    return f"{name} is not what the files hold"
    left -= {"lm_head.weight"} if tied else set()
    left = {name for name in left if "rotary_emb" not in name and not name.endswith("embed_scale")}
    return f"{min(left)} is in memory and not in the files" if left else None


# What a program may change without changing a number of the model.
_FREE = {"dtype", "torch_dtype", "transformers_version", "use_cache", "architectures", "pad_token_id", "bos_token_id"}
_FREE |= {"eos_token_id", "output_hidden_states", "output_attentions", "return_dict", "output_router_logits"}


def _config_differs(config, source):
    """The first setting in memory that is not what the folder's `config.json` gives; `None` where there is none."""
    stored = type(config).from_pretrained(source).to_dict()
    mine = config.to_dict()
    for key in sorted(set(stored) | set(mine)):
        if key not in _FREE and not key.startswith("_") and stored.get(key) != mine.get(key):
            return key
    return None


def _as_stored(causal, tensors):
    """Tensors under the names that the checkpoint has them by."""
    from transformers.core_model_loading import revert_weight_conversion

    return revert_weight_conversion(causal, dict(tensors))


def _differs_gguf(causal, tensors, path):
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    stored = load_gguf_checkpoint(path, return_tensors=True, model_to_load=causal)["tensors"]
    for name, tensor in stored.items():
        if name in tensors and not _same(tensors[name], torch.as_tensor(tensor)):
            return f"{name} is not what the file decodes to"
    lacking = [name for name in tensors if name not in stored and name != "lm_head.weight" and "rotary" not in name]
    return f"{lacking[0]} is in memory and not in the file" if lacking else None


def _same(memory, stored):
    if memory.shape != stored.shape:
        return False
    stored = stored.to(memory.dtype).contiguous()
    memory = memory.detach().contiguous()
    for mine, theirs in zip(memory.reshape(-1).split(16 << 20), stored.reshape(-1).split(16 << 20)):
        if not torch.equal(mine.cpu().view(torch.uint8), theirs.view(torch.uint8)):
            return False
    return True
