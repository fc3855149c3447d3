#!/usr/bin/env python3
"""Make llama_cpp_smollm2.json: what llama.cpp computes for SmolLM2-135M-Instruct Q4_1, as a reference for our engine.

    llama_cpp_smollm2.py LLAMA_BUILD_DIR MODEL.gguf [--out FILE] [--threads N]

LLAMA_BUILD_DIR is a CMake build of llama.cpp with shared libraries, configured with -DLLAMA_BUILD_COMMIT=<commit>,
that has the targets `llama` and `llama-quantize`. Nothing is fetched and llama.cpp is not built here; only the small
driver llama_cpp_smollm2.cpp beside this file is compiled, against that build.

Two references, five prompts, 64 greedy tokens each (the end-of-text token does not stop it), with the five largest
logits of every step (%.9g, which gives back the exact f32):

- `as_shipped`: the file as it is. llama.cpp quantizes activations to 8-bit blocks before each product with a quantized
  weight and keeps the KV cache in f16, so its logits carry that error.
- `f32`: the same weights dequantized to f32, f32 KV cache, no flash attention. Every product and sum is f32 (RMSNorm
  sums in f64); exp and SiLU are the library's vector approximations.

Measured against an independent float64 forward pass in numpy along the same tokens: every logit of `f32` is within
6e-5 and every top-5 list is in the same order; `as_shipped` is off by up to 1.7 and picks another token at 8 of 320
steps. Both references are the same bytes with 1 and with 2 threads.

Each reference follows its own greedy path: compare steps only while the tokens before them are equal.
Left out: any comparison, and sampling other than greedy.
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import platform
import re
import subprocess
import tempfile

STEPS = 64

PROMPTS = {
    "prose": "The lighthouse keeper counted the ships every evening, and on the night of the great storm",
    "code": "def fibonacci(n: int) -> list[int]:\n"
    '    """Return the first n Fibonacci numbers."""\n    if n <= 0:\n\t\treturn []\n',
    "chat": "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhy is the sky blue? Answer in two sentences.<|im_end|>\n<|im_start|>assistant\n",
    "digits": "3.14159 * 27 = 84.82293; 1,024 / 16 = 64; 84.82293 - 64 = 20.82293\n12345 + 67890 =",
    "unicode": "Zürich liegt an der Limmat. 東京は日本の首都です。 Привет, мир! 🦀👩‍🔬 cafe\u0301 ≠ café — l’été à Montréal,",
}


def cmake_cache(build: pathlib.Path) -> dict[str, str]:
    lines = (build / "CMakeCache.txt").read_text().splitlines()
    pairs = (re.match(r"([^#/][^:]*):[A-Z]+=(.*)", line) for line in lines)
    return {m[1]: m[2] for m in pairs if m}


def first_line(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def cpu() -> str:
    info = pathlib.Path("/proc/cpuinfo").read_text()
    field = dict(re.findall(r"^(.*?)\s*: (.*)$", info, re.M))
    name = field.get("model name", platform.machine())
    return ", ".join([name, *(f"{key} {field[key]}" for key in ("cpu family", "model", "stepping") if key in field)])


def sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def drive(driver: pathlib.Path, model: pathlib.Path, cache: str, threads: int, prompts: list[pathlib.Path]) -> dict:
    command = [driver, model, cache, str(threads), str(STEPS), *prompts]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compact(value: object) -> str:
    """JSON with one step to a line, so that a change of one number is a change of one line."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    text = re.sub(r"\[\s+((?:-?[\d.e+-]+,?\s+)+)\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    return re.sub(r"\{\s+(\"top_ids\".*)\s+(.*)\s+(.*)\s+\}", r"{\1 \2 \3}", text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("model", type=pathlib.Path)
    here = pathlib.Path(__file__).resolve()
    parser.add_argument("--out", type=pathlib.Path, default=here.with_suffix(".json"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    cache, bin_dir = cmake_cache(args.build), args.build / "bin"
    source = pathlib.Path(cache["CMAKE_HOME_DIRECTORY"])

    with tempfile.TemporaryDirectory() as temp_name:
        temp = pathlib.Path(temp_name)
        driver = temp / "driver"
        subprocess.run(
            [cache["CMAKE_CXX_COMPILER"], "-std=c++17", "-O2", here.with_suffix(".cpp"), "-o", driver]
            + [f"-I{source}/include", f"-I{source}/ggml/include", f"-L{bin_dir}", f"-Wl,-rpath,{bin_dir}"]
            + ["-lllama", "-lggml", "-lggml-base"],
            check=True,
        )
        files = []
        for name, text in PROMPTS.items():
            files.append(temp / f"{name}.txt")
            files[-1].write_bytes(text.encode())
        wide = temp / "f32.gguf"
        subprocess.run(
            [bin_dir / "llama-quantize", "--allow-requantize", args.model, wide, "F32"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        shipped = drive(driver, args.model, "f16", args.threads, files)
        exact = drive(driver, wide, "f32", args.threads, files)

    prompts = []
    for (name, text), a, b in zip(PROMPTS.items(), shipped["runs"], exact["runs"], strict=True):
        assert a["prompt_ids"] == b["prompt_ids"], name
        entry = {"name": name, "text": text, "ids": a["prompt_ids"]}
        for key, run in (("as_shipped", a), ("f32", b)):
            said = bytes.fromhex(run["continuation_hex"]).decode(errors="replace")
            entry[key] = {"continuation_ids": run["continuation_ids"], "continuation": said, "steps": run["steps"]}
        prompts.append(entry)
    kept = re.compile("BUILD_SHARED_LIBS|CMAKE_BUILD_TYPE|GGML_(NATIVE|OPENMP|LLAMAFILE|CPU_REPACK|BLAS)")
    result = {
        "made_by": {
            "script": here.name,
            "date": datetime.date.today().isoformat(),
            "llama_cpp_commit": cache.get("LLAMA_BUILD_COMMIT", "unknown"),
            "build_flags": {k: v for k, v in sorted(cache.items()) if kept.fullmatch(k)},
            "compiler": first_line(cache["CMAKE_CXX_COMPILER"], "--version"),
            "cpu": cpu(),
            "cpu_features_used": shipped["system"],
            "threads": args.threads,
        },
        "model": {"file": args.model.name, "sha256": sha256(args.model), "add_bos": shipped["add_bos"]},
        "references": {
            "as_shipped": "weights as stored (Q4_1, Q8_0 embedding and head), activations in 8-bit blocks, "
            "KV cache f16, flash attention",
            "f32": "weights dequantized to f32, activations f32, KV cache f32, flash attention off",
        },
        "prompts": prompts,
    }
    scratch = args.out.with_suffix(".tmp")
    scratch.write_text(compact(result))
    assert json.loads(scratch.read_text()) == result
    scratch.replace(args.out)


if __name__ == "__main__":
    main()
