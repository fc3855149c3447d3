"""SmolLM2-135M as a folder of bf16 safetensors, decoded from its GGUF file by transformers.

    python3 weights.py SMOLLM2.gguf[,PART,…] OUT [MANTISSA]

Parts of the file are put together first. transformers and Mantissa then load the same numbers from OUT; with MANTISSA
they are compared: the digest of the folder that the program states is printed. Needs torch, transformers and gguf.
"""

import json
import os
import subprocess
import sys

import torch
import transformers


def whole(parts, folder):
    """The file that `parts` are cut from."""
    if len(parts) == 1:
        return parts[0]
    path = os.path.join(folder, "model.gguf")
    with open(path, "wb") as out:
        for part in parts:
            with open(part, "rb") as file:
                out.write(file.read())
    return path


def decode(path, out):
    """Writes every weight in bf16. Prompts are ids, so there is no tokenizer."""
    folder, name = os.path.split(os.path.abspath(path))
    load = transformers.AutoModelForCausalLM.from_pretrained
    decoded = load(folder, gguf_file=name, dtype=torch.bfloat16)
    # A model that says of itself that it was quantized is not saved.
    config = transformers.AutoConfig.from_pretrained(folder, gguf_file=name)
    config.dtype = torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(decoded.state_dict())
    model.save_pretrained(out)
    return sum(p.numel() for p in model.parameters())


def main():
    parts, out = sys.argv[1].split(","), sys.argv[2]
    os.makedirs(out, exist_ok=True)
    scratch = os.path.dirname(os.path.abspath(out))
    print(f"{decode(whole(parts, scratch), out)} parameters in {out}", flush=True)
    if len(sys.argv) > 3:
        command = [sys.argv[3], "--format", "json", "inspect", out, "--digest"]
        shown = subprocess.run(command, check=True, capture_output=True).stdout
        print(json.loads(shown)["digest"]["digest"])


if __name__ == "__main__":
    main()
