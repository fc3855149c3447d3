"""What the tests share: the program, tiny models of each family made by it, and how it is called.

The program is `$MANTISSA`, else that of `target/`, else what is on the path. Models go to a folder that is made once
(`$MANTISSA_TEST_MODELS`, default a temporary one).
"""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "python"))

import torch
import transformers

# Tiny models gain nothing from more.
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")

FAMILIES = [
    "llama",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "mistral",
    "mixtral",
    "olmo2",
    "phi3",
    "gemma2",
    "gemma3_text",
    "gpt_oss",
]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def program():
    """The path of `mantissa`."""
    places = [os.environ.get("MANTISSA"), *(os.path.join(ROOT, "target", p, "mantissa") for p in ("release", "debug"))]
    found = next((p for p in places if p and os.path.exists(p)), None) or shutil.which("mantissa")
    if not found:
        raise SystemExit("no mantissa program: build it with `cargo build -p mantissa-cli`, or set MANTISSA")
    return found


def run(*arguments, code=0):
    """Standard output of `mantissa ARGUMENTS`; fails if it ends otherwise than with `code`, or one of them."""
    done = subprocess.run([program(), *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode not in (code if isinstance(code, tuple) else (code,)):
        raise AssertionError(f"mantissa {arguments} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def run_json(*arguments, code=0):
    return json.loads(run("--format", "json", *arguments, code=code))


@functools.cache
def scratch():
    """A folder for the whole run of the tests."""
    folder = tempfile.mkdtemp(prefix="mantissa-forensics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def folder(family, dtype="bf16"):
    """The tiny model of a family."""
    path = os.path.join(os.environ.get("MANTISSA_TEST_MODELS") or scratch(), f"{family}-{dtype}")
    if not os.path.exists(path):
        run("--quiet", "synth", "--arch", family, "--dtype", dtype, "--seed", 1, "--out", path)
    return path


def load(family, dtype="f32", stored=None, **more):
    """The model in transformers, in `dtype`, from weights stored in `stored` (the same, unless told)."""
    more = {"attn_implementation": "eager", **more}
    path = folder(family, stored or dtype)
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[dtype], **more).eval()


def new(name):
    """A path in the scratch folder that is not there yet."""
    return os.path.join(tempfile.mkdtemp(dir=scratch()), name)


def ids(count, seed=0):
    """Ids that any machine makes again."""
    return [(7 * i * i + 3 * i + 1 + 11 * seed) % 480 + 5 for i in range(count)]


@torch.no_grad()
def decode(model, prompts, steps=3):
    """Logits of a prompt's pass and of greedy steps."""
    out = model(input_ids=torch.tensor(prompts), use_cache=True)
    found = [out.logits]
    for _ in range(steps):
        token = out.logits[:, -1:].argmax(-1)
        out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
        found.append(out.logits)
    return found
