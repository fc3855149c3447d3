"""Cases of check_transformers.py, and their predictions.

    python3 cases.py MANTISSA SCRATCH        makes all synthetic models

A case is `model:document_tokens:decode_steps:batch_size[:attention[:dtype]]`, where model is one of MODELS (made by `mantissa synth`, seed
0) or a GGUF file, attention eager (the default), sdpa_flash or sdpa_math, and dtype bf16 (the default) or f16. An `r` after document_tokens leaves out the chat template
and the instruction, which leaves 3 tokens more than the document's (1 for the GGUF).
"""

import json
import os
import subprocess
import sys
import time

MODELS = {
    "smollm2-135m": "--preset smollm2-135m",
    "qwen2.5-7b": "--preset qwen2.5-7b --num-hidden-layers 2",
    "qwen3-0.6b": "--arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-hidden-layers 4 --num-attention-heads 16 --num-key-value-heads 8 --head-dim 128 --vocab-size 151936",
    "qwen3-30b-a3b": "--preset qwen3-30b-a3b --num-hidden-layers 2",
    "llama3.1-8b": "--preset llama3.1-8b --num-hidden-layers 2",
    "llama3.2-1b": "--preset llama3.1-8b --hidden-size 2048 --intermediate-size 8192 --num-hidden-layers 4 --head-dim 64 --tie-word-embeddings true",
    "mistral-7b": "--preset mistral-7b --num-hidden-layers 2",
}
SITES = ["x_in", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "mlp_out", "x_out"]


def folder_of(scratch, preset):
    return preset if preset.endswith(".gguf") else os.path.join(scratch, preset)


def prepare(program, scratch, presets):
    """Models, and the two documents: words for synthetic models, a real text (the repository's licences) for the real one."""
    for preset in presets:
        if not os.path.exists(folder_of(scratch, preset)):
            subprocess.run([program, "synth", "--quiet", "--out", folder_of(scratch, preset), *MODELS[preset].split()], check=True, stdout=subprocess.DEVNULL)
    words = [f"{(i * 7919) % 10007} measured roundings of word {i} differ from {(i * 31) % 997}." for i in range(20000)]
    open(os.path.join(scratch, "document.txt"), "w").write("\n".join(words))
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    licences = [open(os.path.join(root, name)).read() for name in ("LICENSE-APACHE", "LICENSE-MIT")]
    open(os.path.join(scratch, "licences.txt"), "w").write("".join(licences))


def parts_of(case):
    """Model, document tokens (with the `r`), decode steps, batch size, attention, dtype."""
    given = case.split(":")
    preset, document, steps, batch, attention, dtype = given + ["eager", "bf16"][len(given) - 4 :]
    return preset, document, int(steps), int(batch), attention, dtype


def predict(program, scratch, case, positions=3, threads=None):
    """Seconds, the manifest's run, the path of its tensors. RuntimeError with the program's words if it is refused."""
    preset, document, steps, batch, attention, dtype = parts_of(case)
    model = folder_of(scratch, preset)
    raw = document.endswith("r")
    text = os.path.join(scratch, "licences.txt" if preset.endswith(".gguf") else "document.txt")
    out = os.path.join(scratch, f"{os.path.basename(preset)}-{document}-{steps}-{batch}-{attention}-{dtype}")
    layers = 30 if preset.endswith(".gguf") else json.load(open(os.path.join(model, "config.json")))["num_hidden_layers"]
    command = [
        program, "record", "--quiet", "--hardware", os.environ.get("HARDWARE", "h200"), "--model", model, "--document", text, "--document-tokens", document.rstrip("r"), "--decode", str(steps),
        "--batch-size", str(batch), "--attention", attention, "--dtype", dtype, "--reps", "1", "--layers", ",".join(str(i + 1) for i in range(layers)), "--positions", ",".join(str(-i) for i in range(positions, 0, -1)),
        "--sites", ",".join(["embed_out", "final_norm", "logits"] + SITES), "--out", out,
    ]
    if preset.endswith(".gguf"):
        command += ["--quantization", "none"]
    if raw:
        command += ["--no-chat-template", "--instruction", ""]
    if threads:
        command += ["--threads", str(threads)]
    if os.environ.get("CATALOG"):
        command += ["--catalog", os.environ["CATALOG"]]
    start = time.time()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    manifest = json.load(open(os.path.join(out, "manifest.json")))
    run = manifest["runs"][0]
    return time.time() - start, run, os.path.join(out, run["file"]["name"])


if __name__ == "__main__":
    os.makedirs(sys.argv[2], exist_ok=True)
    prepare(*sys.argv[1:3], MODELS)
