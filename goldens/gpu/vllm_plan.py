"""vLLM on an NVIDIA GPU: captures beside transformers, a plan by `mantissa run`, and what a capture costs. One call.

    PYTHONPATH=SITE python3 goldens/gpu/vllm_plan.py MANTISSA SCRATCH OUT [--parts capture,plan,cost] [--tiny]

MANTISSA is the program, SCRATCH a folder for models (12 GB), OUT where results go (containers, experiment files, logs;
`vllm_plan.json` says what each step took and how it ended). A step that fails stops no other. Parts:

- `capture`: SmolLM2-135M's shape and two layers of Qwen3-30B-A3B's, in bf16: vLLM eager, prompts of 312 tokens alone
  and in a batch of 4, 16 decode steps, then transformers eager fed the same tokens, and `mantissa compare` of both.
- `plan`: experiments after plans/founding.toml on the two layers of Qwen3-30B-A3B (AWQ if the program can make it, else
  bf16): batch sizes, compilation, attention, concurrent streams, quantization; 6,000 tokens, 30 steps, 3 repetitions.
- `cost`: eager decoding with and without a capture, in turns, of 7B widths (28 layers, dummy weights) at batch 1 and 8.
- `dense` (not by default): the plan's quantizations on two layers of Qwen2.5-7B.

Needs vLLM 0.24 and transformers 5. `--tiny` tries it on a CPU with vLLM's CPU build and small sizes.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DOCUMENTS = ["ARCHITECTURE.md", "docs/verify.md", "docs/performance.md", "docs/testing.md", "README.md"]
SMALL = ["--hidden-size", "128", "--num-attention-heads", "4", "--num-key-value-heads", "2", "--head-dim", "32"]
SMALL += ["--num-hidden-layers", "4"]
MODELS = {
    "smollm2-135m": ["--arch", "llama", "--preset", "smollm2-135m"],
    "qwen3-30b-a3b-2": ["--arch", "qwen3_moe", "--preset", "qwen3-30b-a3b", "--num-hidden-layers", "2"],
    "qwen2.5-7b-2": ["--arch", "qwen2", "--preset", "qwen2.5-7b", "--num-hidden-layers", "2"],
}
TINY = {
    "smollm2-135m": ["--arch", "llama", *SMALL],
    "qwen3-30b-a3b-2": ["--arch", "qwen3_moe", *SMALL, "--moe-intermediate-size", "64"],
    "qwen2.5-7b-2": ["--arch", "qwen2", *SMALL],
}
QUANTIZATIONS = ("awq", "gptq", "bnb-nf4")
SEVEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 152064,
}


def ids(tokens, seed, vocabulary):
    """Ids that any machine makes again."""
    word = lambda i: int.from_bytes(hashlib.sha256(f"{seed} {i}".encode()).digest()[:4], "little")
    return [word(i) % (vocabulary - 200) + 100 for i in range(tokens)]


# ---- steps that run in processes of their own ------------------------------------------------------------------------


def sizes(tiny):
    return {"prompt": 24, "decode": 4} if tiny else {"prompt": 312, "decode": 16}


def prompts_of(model, tiny):
    with open(os.path.join(model, "config.json")) as file:
        vocabulary = json.load(file)["vocab_size"]
    return [ids(sizes(tiny)["prompt"], seed, vocabulary) for seed in range(4)]


def engine(model, **more):
    from vllm import LLM

    from mantissa_forensics.vllm.capture import WORKER

    more = {"dtype": "bfloat16", "enforce_eager": True, "enable_prefix_caching": False, "seed": 0, **more}
    return LLM(model, worker_extension_cls=WORKER, **more)


def capture_vllm(model, out, tiny):
    """`OUT.vllm1` and `OUT.vllm4`: sequence 0 alone and beside three others."""
    from mantissa_forensics import record_vllm

    prompts, size = prompts_of(model, tiny), sizes(tiny)
    llm = engine(model, max_model_len=sum(size.values()) + 1, max_num_batched_tokens=2048, max_num_seqs=4)
    for batch in (1, 4):
        keep = {"sites": "all", "sequences": [0], "repetitions": 2, "decode": size["decode"]}
        expect = {"batch_size": batch, "dtype": "bf16", "compile": False}
        try:
            done = record_vllm(llm, prompts[:batch], f"{out}.vllm{batch}", expect=expect, **keep)
            print(done, flush=True)
        except Exception as error:
            # The other batch may still work. Logits are large and may be what fails, so once more by default.
            print(f"batch {batch}: {type(error).__name__}: {error}", flush=True)
            keep.pop("sites")
            record_vllm(llm, prompts[:batch], f"{out}.vllm{batch}-default", **keep)


def capture_transformers(model, out, tiny):
    """The same sequences in transformers, eager; fed the tokens that vLLM chose."""
    import torch
    import transformers

    from mantissa_forensics import container, record

    prompts = prompts_of(model, tiny)
    load = transformers.AutoModelForCausalLM.from_pretrained
    causal = load(model, dtype=torch.bfloat16, attn_implementation="eager").eval()
    causal = causal.cuda() if torch.cuda.is_available() else causal
    for batch in (1, 4):
        if not container.is_complete(f"{out}.vllm{batch}"):
            continue
        _, _, [run] = container.read(f"{out}.vllm{batch}")
        rows = [run.output, *(list(beside.output) for beside in run.neighbours)]
        rows = [list(map(int, row))[: sizes(tiny)["decode"]] for row in rows]
        record(
            causal,
            prompts[:1],
            f"{out}.transformers{batch}",
            neighbours=prompts[1:],
            batch_size=batch,
            forced=rows[0] if batch == 1 else rows,
            sites="all",
            positions=[-1],
            repetitions=2,
        )


def cost(folder, out, tiny):
    """Seconds of a decode step with and without a capture at its default sites, in turns."""
    from vllm import SamplingParams

    from mantissa_forensics import VllmCapture

    prompt, steps, rounds = (16, 6, 2) if tiny else (512, 64, 4)
    llm = engine(
        folder,
        load_format="dummy",
        skip_tokenizer_init=True,
        max_model_len=prompt + steps + 1,
        max_num_batched_tokens=8 * (prompt + steps + 1),
        max_num_seqs=8,
    )
    with open(os.path.join(folder, "config.json")) as file:
        vocabulary = json.load(file)["vocab_size"]
    found = {}

    def seconds(batch, tokens, captured, asked):
        """Of a call of `generate`, without what a capture does before and after it."""
        given = [{"prompt_token_ids": ids(prompt, row, vocabulary)} for row in range(batch)]
        sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False, logprobs=asked)
        if captured:
            with VllmCapture(llm) as capture:
                llm.generate(given, sampling, use_tqdm=False)
            return capture.batches[0].seconds
        began = time.monotonic()
        llm.generate(given, sampling, use_tqdm=False)
        return time.monotonic() - began

    step = lambda batch, captured, asked=None: (
        (seconds(batch, steps + 1, captured, asked) - seconds(batch, 1, captured, asked)) / steps
    )
    for batch in (1, 8):
        step(batch, False), step(batch, True)
        times = {False: [], True: []}
        for number in range(rounds):
            for captured in (False, True) if number % 2 == 0 else (True, False):
                times[captured].append(step(batch, captured))
        # vLLM's own ten log-probabilities, for comparison.
        own = min(step(batch, False, 10) for _ in range(2))
        ratios = sorted(b / a for a, b in zip(times[False], times[True]))
        plain, seen = min(times[False]), min(times[True])
        found[batch] = {"plain_ms": plain * 1e3, "captured_ms": seen * 1e3, "ratio": seen / plain, "ratios": ratios}
        found[batch]["plain_with_logprobs_ms"] = own * 1e3
        print(f"batch {batch}: {plain * 1e3:.3f} ms a step, {seen * 1e3:.3f} captured, {seen / plain:.4f}", flush=True)
    with open(out, "w") as file:
        json.dump(found, file, indent=1)


STEPS = {"capture_vllm": capture_vllm, "capture_transformers": capture_transformers, "cost": cost}


# ---- the session -----------------------------------------------------------------------------------------------------


class Session:
    def __init__(self, arguments):
        self.mantissa = os.path.abspath(arguments.mantissa)
        self.scratch, self.out = os.path.abspath(arguments.scratch), os.path.abspath(arguments.out)
        self.tiny = arguments.tiny
        self.began, self.steps, self.lock = time.time(), [], threading.Lock()
        for folder in ("bin", "models", "cache"):
            os.makedirs(os.path.join(self.scratch, folder), exist_ok=True)
        os.makedirs(os.path.join(self.out, "logs"), exist_ok=True)
        link = os.path.join(self.scratch, "bin", "mantissa")
        if not os.path.lexists(link):
            os.symlink(self.mantissa, link)
        path = [os.path.join(ROOT, "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            # Digests of weights are the program's.
            "PATH": os.path.dirname(link) + os.pathsep + os.environ.get("PATH", ""),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
            "VLLM_CACHE_ROOT": os.path.join(self.scratch, "cache"),
            "TORCHINDUCTOR_CACHE_DIR": os.path.join(self.scratch, "cache", "inductor"),
            "TRITON_CACHE_DIR": os.path.join(self.scratch, "cache", "triton"),
        }
        if self.tiny:
            self.environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"}
        self.made = {}

    def step(self, name, command, limit=240, output=None, fine=(0,)):
        """Runs it, logs it, and goes on however it ends. Returns whether it ended well."""
        began, log = time.time(), os.path.join(self.out, "logs", f"{name}.log")
        with open(log, "w") as errors, open(output, "w") if output else contextlib.nullcontext(errors) as words:
            try:
                code = subprocess.run(
                    command, stdout=words, stderr=errors, env=self.environment, timeout=limit, check=False
                ).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                code = f"{type(error).__name__}: {error}"[:200]
        entry = {"step": name, "ended": code, "seconds": round(time.time() - began, 1)}
        entry["at"] = round(time.time() - self.began, 1)
        if code not in fine:
            with open(log, errors="replace") as file:
                entry["tail"] = [line[:300] for line in file.read().splitlines() if line.strip()][-6:]
        with self.lock:
            self.steps.append(entry)
            print(json.dumps(entry), flush=True)
            with open(os.path.join(self.out, "vllm_plan.json"), "w") as file:
                json.dump({"seconds": round(time.time() - self.began, 1), "steps": self.steps}, file, indent=1)
        return code in fine

    def python(self, name, *arguments, **more):
        tiny = ["--tiny"] if self.tiny else []
        return self.step(name, [sys.executable, os.path.abspath(__file__), "--step", *arguments, *tiny], **more)

    def model(self, name):
        return os.path.join(self.scratch, "models", name)

    def make(self, names):
        """Begins to synthesize models, beside everything else; `ready` waits for one."""
        shapes = TINY if self.tiny else MODELS

        def synthesize(name, quantization):
            command = [self.mantissa, "--quiet", "synth", *shapes[name], "--seed", "1"]
            command += ["--quantization", quantization] if quantization else []
            full = f"{name}-{quantization}" if quantization else name
            self.made[full][1] = self.step(f"synth-{full}", [*command, "--out", self.model(full)])

        for name, quantization in names:
            full = f"{name}-{quantization}" if quantization else name
            thread = threading.Thread(target=synthesize, args=(name, quantization))
            self.made[full] = [thread, False]
            thread.start()

    def ready(self, name):
        if name not in self.made:
            return False
        self.made[name][0].join()
        return self.made[name][1]

    def quantizes(self):
        shown = subprocess.run([self.mantissa, "synth", "--help"], capture_output=True, text=True, check=False).stdout
        return [word for word in QUANTIZATIONS if "--quantization" in shown and word in shown]

    # ---- parts -------------------------------------------------------------------------------------------------------

    def capture(self):
        for name in ("smollm2-135m", "qwen3-30b-a3b-2"):
            if not self.ready(name):
                continue
            out = os.path.join(self.out, name)
            self.python(f"capture-vllm-{name}", "capture_vllm", self.model(name), out, limit=180)
            self.python(f"capture-transformers-{name}", "capture_transformers", self.model(name), out, limit=120)
            for batch in (1, 4):
                pair = [f"{out}.vllm{batch}", f"{out}.transformers{batch}"]
                for form, ending in (("text", "txt"), ("json", "json")):
                    command = [self.mantissa, "--format", form, "compare", *pair]
                    # 1: they differ, as they will.
                    where = f"{out}.compare{batch}.{ending}"
                    self.step(f"compare-{name}-{batch}-{ending}", command, output=where, fine=(0, 1))
            self.step(f"inspect-{name}", [self.mantissa, "inspect", f"{out}.vllm4"], output=f"{out}.inspect.txt")

    def plan(self, name="qwen3-30b-a3b-2", quantizations_alone=False):
        made = [word for word in QUANTIZATIONS if self.ready(f"{name}-{word}")]
        plain = self.ready(name)
        awq = "awq" in made and not quantizations_alone
        if not (awq or plain):
            return
        quote = lambda words: json.dumps(words)
        documents = [os.path.join(ROOT, document) for document in DOCUMENTS]
        tokens, decode, repetitions = (60, 4, 2) if self.tiny else (6000, 30, 3)
        attention = "default" if self.tiny else "FLASH_ATTN"
        lines = [f'name = "{"quantizations" if quantizations_alone else "vllm"}"', f"repetitions = {repetitions}"]
        lines += ["[base]", 'backend = "vllm"', f"model = {quote(self.model(f'{name}-awq' if awq else name))}"]
        lines += [f'quantization = "{"awq" if awq else "none"}"', f'attention = "{attention}"', "batch_size = 1"]
        lines += ["[prompt]", f"documents = {quote(documents)}", f"tokens = {tokens}", f"decode = {decode}"]
        lines += ["chat_template = false"]
        lines += ["[signals]", 'layers = [1, 2, "last"]', "positions = [-1]", "top_k = 10"]
        lines += ["[stack.default]", f"python = {quote(sys.executable)}"]
        if made:
            lines += ["[models]", *(f"{word} = {quote(self.model(f'{name}-{word}'))}" for word in made)]
        experiment = lambda axis, values: ["[[experiment]]", f'name = "{axis}"', f"vary.{axis} = {quote(values)}"]
        if not quantizations_alone:
            lines += experiment("batch_size", [2, 4])
            lines += experiment("attention", ["TRITON_ATTN"])
            lines += experiment("concurrent_streams", [True])
            if not self.tiny:
                lines += experiment("compile", [True])
        if rest := [word for word in made if not (awq and word == "awq")]:
            lines += experiment("quantization", rest)
        label = "dense" if quantizations_alone else "plan"
        path, out = os.path.join(self.scratch, f"{label}.toml"), os.path.join(self.out, label)
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        with open(path) as source, open(os.path.join(self.out, f"{label}.toml"), "w") as copy:
            copy.write(source.read())
        # 1: some configuration does not repeat itself. Others that fail are named in the log.
        command = [self.mantissa, "run", path, "--out", out, "--keep-going"]
        self.step(f"run-{label}", command, limit=420, fine=(0, 1))
        self.step(f"analyze-{label}", [self.mantissa, "analyze", "--all", out], output=f"{out}.txt", fine=(0, 1))

    def cost(self):
        folder = os.path.join(self.scratch, "seven")
        os.makedirs(folder, exist_ok=True)
        small = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "vocab_size": 512}
        small |= {"num_attention_heads": 4, "num_key_value_heads": 2}
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump({**SEVEN, **(small if self.tiny else {})}, file)
        self.python("cost", "cost", folder, os.path.join(self.out, "cost.json"), limit=180)


def main():
    if sys.argv[1:2] == ["--step"]:
        name, *rest = [word for word in sys.argv[2:] if word != "--tiny"]
        STEPS[name](*rest, "--tiny" in sys.argv)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mantissa", "scratch", "out"):
        parser.add_argument(name)
    parser.add_argument("--parts", default="capture,plan,cost")
    parser.add_argument("--tiny", action="store_true", help="small sizes, on a CPU")
    arguments = parser.parse_args()
    session, parts = Session(arguments), arguments.parts.split(",")
    wanted = [("smollm2-135m", None)] if "capture" in parts else []
    quantizations = session.quantizes()
    if {"capture", "plan"} & {*parts}:
        wanted += [("qwen3-30b-a3b-2", None)]
    if "plan" in parts:
        wanted += [("qwen3-30b-a3b-2", word) for word in quantizations]
    if "dense" in parts:
        wanted += [("qwen2.5-7b-2", word) for word in (None, *quantizations)]
    session.make(wanted)
    # Reads and compiles vLLM's modules once, while models are made.
    session.step("import-vllm", [sys.executable, "-c", "from vllm import LLM; import vllm; print(vllm.__version__)"])
    for part in parts:
        try:
            session.plan("qwen2.5-7b-2", True) if part == "dense" else getattr(session, part)()
        except Exception as error:
            print(f"{part}: {type(error).__name__}: {error}", flush=True)
    for thread, _ in session.made.values():
        thread.join()
    total = sum(os.path.getsize(os.path.join(f, n)) for f, _, names in os.walk(arguments.out) for n in names)
    print(f"{time.time() - session.began:.0f} s, {total / 1e6:.1f} MB in {arguments.out}", flush=True)


if __name__ == "__main__":
    main()
