"""One step of training: MODEL's weights minus rate × gradient of the loss on drawn tokens, rounded to bf16 again.

    python3 sgd.py MODEL OUT DIFF.npz

DIFF has, by tensor, which values are other ones and their bits (left out where more than 3,000,000 are).
"""

import os
import shutil
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

RATE = 0.01


def main():
    source, out, report = sys.argv[1:4]
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, attn_implementation="eager").to(device)
    model.train()
    drawn = np.random.default_rng(5).integers(600, model.config.vocab_size, (4, 128))
    tokens = torch.from_numpy(drawn).to(device)
    loss = model(tokens, labels=tokens).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    moved = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            moved[name] = (weight.float() - RATE * weight.grad.float()).to(torch.bfloat16).cpu()
    tensors, changed, total, diff = load_file(os.path.join(source, "model.safetensors")), 0, 0, {}
    for name, old in tensors.items():
        new = moved.get(name, old).contiguous()
        a, b = old.view(torch.int16).numpy().reshape(-1), new.view(torch.int16).numpy().reshape(-1)
        places = np.flatnonzero(a != b)
        changed, total = changed + len(places), total + a.size
        diff[name] = places.astype(np.uint32)
        diff[name + ".bits"] = b[places]
        tensors[name] = new
    temporary = out + ".part"
    shutil.copytree(source, temporary)
    save_file(tensors, os.path.join(temporary, "model.safetensors"), {"format": "pt"})
    os.rename(temporary, out)
    print(f"loss {loss.item():.4f}, norm {float(norm):.4f}: {changed} of {total} values are other ones", flush=True)
    numbers = {"changed": np.array(changed), "total": np.array(total), "loss": np.array(loss.item())}
    np.savez_compressed(report, **numbers, **(diff if changed <= 3_000_000 else {}))


if __name__ == "__main__":
    main()
