"""What is captured: models (made from a seed), cells (prompts of a length, a batch, decode steps) and jobs.

    python3 plan.py            prints models as `mantissa synth` makes them, cells, and jobs in order of priority
    python3 plan.py MODEL OUT MANTISSA [--tiny]    makes one model

A job is a model in an engine over some GPUs; it runs some cells and writes a container for each. True widths and
vocabularies, few layers. Rows of long prompts are kept at a few positions: the first, around multiples of 64 and 128,
the last.
"""

import argparse
import dataclasses
import json
import os
import random
import subprocess
import sys

SEED = 17
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))

_LLAMA_1B = "--arch llama --preset llama3.1-8b --hidden-size 2048 --intermediate-size 8192 --num-attention-heads 32"
_QWEN_06B = "--arch qwen3 --hidden-size 1024 --intermediate-size 3072 --num-attention-heads 16 --num-key-value-heads 8"
MODELS = {
    "llama1b": f"{_LLAMA_1B} --num-key-value-heads 8 --head-dim 64 --num-hidden-layers 3 --tie-word-embeddings true",
    "qwen7b": "--preset qwen2.5-7b --num-hidden-layers 2",
    "qwen06b": f"{_QWEN_06B} --head-dim 128 --num-hidden-layers 2 --vocab-size 151936 --max-position-embeddings 40960"
    " --tie-word-embeddings true",
    "smollm2": "--preset smollm2-135m --num-hidden-layers 4",
    "moe": "--preset qwen3-30b-a3b --num-hidden-layers 2",
    "mixtral": "--arch mixtral --hidden-size 4096 --moe-intermediate-size 14336 --num-attention-heads 32"
    " --num-key-value-heads 8 --head-dim 128 --num-hidden-layers 2 --vocab-size 32000 --max-position-embeddings 32768"
    " --num-experts 8 --num-experts-per-tok 2",
    "mistral": "--preset mistral-7b --num-hidden-layers 2",
}
DENSE = ("qwen06b", "llama1b", "qwen7b")
# Weights as bitsandbytes has them, scales plain or quantized too.
QUANTIZED = {"nf4": "bnb-nf4", "nf4double": "bnb-nf4-double"}
# Integers of 4 bits in groups of 128, with zeros and without; scales are bf16 as the rest.
PACKED = {"awq": "awq --dtype bf16", "gptq": "gptq --dtype bf16"}
MODELS |= {
    name + kind: f"{MODELS[name]} --quantization {layout}"
    for names, kinds in ((DENSE[:2], QUANTIZED), ((*DENSE, "moe", "mixtral"), PACKED))
    for name in names
    for kind, layout in kinds.items()
}
# Of binary16, which most checkpoints with weights of 4 bits name.
HALF = ("qwen06b", "llama1b", "moe", "mixtral")
MODELS |= {f"{name}f16": f"{MODELS[name]} --dtype f16" for name in HALF}
MODELS |= {
    f"{name}{kind}f16": MODELS[name + kind].replace("--dtype bf16", "--dtype f16") for name in HALF for kind in PACKED
}
# The same families, for a CPU.
TINY = {
    "llama1b": "--arch llama --tie-word-embeddings true --max-position-embeddings 4096",
    "qwen7b": "--arch qwen2 --max-position-embeddings 4096",
    "qwen06b": "--arch qwen3 --tie-word-embeddings true --max-position-embeddings 4096",
    "smollm2": "--arch llama --max-position-embeddings 4096",
    "moe": "--arch qwen3_moe --max-position-embeddings 4096",
    "mixtral": "--arch mixtral --max-position-embeddings 4096",
    "mistral": "--arch mistral --max-position-embeddings 4096",
}
# Widths of experts that are whole groups.
WHOLE_GROUPS = {
    "moe": "--hidden-size 128 --moe-intermediate-size 128",
    "mixtral": "--hidden-size 128 --moe-intermediate-size 128",
}
TINY |= {
    name: f"{TINY[base]} {WHOLE_GROUPS.get(base, '')} --quantization {layout}"
    for base in list(TINY)
    for kind, layout in (QUANTIZED | PACKED).items()
    if (name := base + kind) in MODELS
}
TINY |= {
    name: TINY[name.removesuffix("f16")].replace(" --dtype bf16", "") + " --dtype f16"
    for name in MODELS
    if name.endswith("f16")
}

# `x_in` of a block is `embed_out`, or `x_out` of the one before.
POINTS = ["embed_out", "q", "k", "v", "attn_out", "x_after_attn", "ffn_norm", "mlp_out", "x_out", "final_norm"]
ROUTER = ["router_logits", "router_topk"]


@dataclasses.dataclass(frozen=True)
class Cell:
    length: int
    batch: int
    decode: int
    # Positions of the prompt, from its start.
    keep: tuple
    logits: bool = False

    @property
    def prompts(self):
        """The same row is the same prompt in every batch."""
        return [(self.length, row) for row in range(self.batch)]


def _around(length, *middle, ends=4):
    return tuple(sorted({*range(ends), *middle, *range(length - ends, length)}))


CELLS = {
    # Whole: with every key and value, each site can be recomputed from what was recorded before it.
    "l32": Cell(32, 1, 8, tuple(range(32))),
    "l333": Cell(333, 1, 30, _around(333, 63, 64, 127, 128)),
    "b4-l32": Cell(32, 4, 4, (0, 31)),
    "b9-l32": Cell(32, 9, 4, (0, 31)),
    # Logits of the newest position: with all of the vocabulary they are the largest rows.
    "logits": Cell(32, 1, 2, (31,), logits=True),
    "l2048": Cell(2048, 1, 8, _around(2048, 63, 64, 127, 128, 1023, 1024)),
    "b4-l333": Cell(333, 4, 4, (0, 332)),
    "b9-l333": Cell(333, 9, 4, (0, 332)),
}
# Of controls.
FEW = {
    "l32": dataclasses.replace(CELLS["l32"], keep=_around(32, 15, 16)),
    "l333": dataclasses.replace(CELLS["l333"], decode=8),
    "b9-l32": CELLS["b9-l32"],
}
# Of experts with packed weights: no expert of a step has more tokens than a block of 8, or, of 16 and 24, hardly any.
# More tokens are put into blocks in the order of atomic additions.
SHORT = {
    **{f"l{length}": Cell(length, 1, decode, tuple(range(length))) for length, decode in ((2, 8), (8, 30), (16, 30))},
    **{f"l{length}": Cell(length, 1, 8, tuple(range(length))) for length in (4, 24)},
    "logits": Cell(8, 1, 2, (7,), logits=True),
    "b2-l4": Cell(4, 2, 8, tuple(range(4))),
}
REPETITIONS = 2


@dataclasses.dataclass(frozen=True)
class Job:
    engine: str  # transformers, vllm, or a script
    model: str
    ranks: int = 1
    expert_parallel: bool = False
    # vLLM: NCCL instead of its own all-reduce.
    nccl: bool = False
    # vLLM: Marlin for packed weights that Machete would take.
    marlin: bool = False
    few: bool = False
    short: bool = False
    seconds: int = 150

    @property
    def name(self):
        word = {"transformers": "tf", "vllm": "vllm"}.get(self.engine, self.engine)
        ways = ("ep" if self.expert_parallel else "tp") + str(self.ranks)
        ways += ("-nccl" if self.nccl else "") + ("-marlin" if self.marlin else "")
        return f"{word}-{ways}-{self.model}" if self.model else word

    @property
    def dtype(self):
        return "f16" if self.model.endswith("f16") else "bf16"

    @property
    def cells(self):
        return SHORT if self.short else FEW if self.few else CELLS

    @property
    def needs_vllm(self):
        return self.engine.startswith("vllm")


DENSE_2 = ["qwen7b", "llama1b", "qwen06b"]
# The first is the most wanted: results are handed back in this order.
JOBS = [
    *(Job("vllm", model) for model in ("smollm2", *DENSE_2)),
    *(Job("transformers", model, 2) for model in DENSE_2),
    *(Job("vllm", model, 2) for model in DENSE_2),
    Job("vllm", "moe"),
    Job("transformers", "moe", 2),
    Job("transformers", "moe", 2, expert_parallel=True),
    Job("vllm", "moe", 2, expert_parallel=True),
    Job("vllm", "moe", 2, few=True),
    Job("collectives", "", 2, seconds=90),
    Job("vllm-collectives", "", 2, seconds=90),
    Job("vllm", "qwen7b", 2, nccl=True, few=True),
    *(Job("transformers", model, few=True) for model in ("qwen7b", "llama1b", "qwen06b", "moe", "smollm2")),
    *(Job("vllm", model, 2, nccl=True, few=True) for model in ("llama1b", "qwen06b")),
    *(Job("transformers", name + kind, seconds=300) for kind in QUANTIZED for name in ("qwen06b", "llama1b")),
    *(Job("vllm", name + kind, seconds=240) for name in ("qwen06b", "llama1b") for kind in PACKED),
    *(Job("vllm", "moe" + kind, short=True, seconds=300) for kind in PACKED),
    *(Job("vllm", "qwen06b" + kind, marlin=True, seconds=240) for kind in PACKED),
    *(Job("vllm", "qwen7b" + kind, seconds=240) for kind in PACKED),
    *(Job("vllm", "llama1b" + kind, marlin=True, seconds=240) for kind in PACKED),
    *(Job("vllm", "qwen7b" + kind, marlin=True, few=True, seconds=240) for kind in PACKED),
    *(Job("vllm", name, few=True) for name in ("mixtral", "mistral")),
    *(Job("vllm", "mixtral" + kind, few=True, seconds=240) for kind in PACKED),
    *(Job("vllm", "qwen06b" + kind, 2, few=True, seconds=240) for kind in PACKED),
    Job("vllm", "qwen06bgptq", 2, marlin=True, few=True, seconds=240),
    Job("vllm", "mixtral", 2, few=True, seconds=240),
    Job("vllm", "mixtral", 2, expert_parallel=True, few=True, seconds=240),
    *(Job("vllm", "llama1b" + kind, 2, few=True, seconds=240) for kind in PACKED),
    *(Job("vllm", "qwen7b" + kind, 2, few=True, seconds=240) for kind in PACKED),
    *(Job("vllm", name + "f16", few=True, seconds=240) for name in HALF),
    *(Job("vllm", name + kind + "f16", few=True, seconds=240) for name in ("qwen06b", "llama1b") for kind in PACKED),
    *(Job("vllm", f"qwen06b{kind}f16", marlin=True, few=True, seconds=240) for kind in PACKED),
    *(Job("vllm", f"moe{kind}f16", short=True, seconds=240) for kind in PACKED),
    Job("vllm", "mixtralawqf16", few=True, seconds=240),
    Job("vllm", "qwen06bf16", 2, few=True, seconds=240),
    Job("vllm", "qwen06bawqf16", 2, few=True, seconds=240),
    Job("vllm", "mixtralgptq", 2, few=True, seconds=240),
    Job("vllm", "moeawq", 2, short=True, seconds=240),
    Job("vllm", "moeawq", 2, expert_parallel=True, short=True, seconds=240),
]
BY_NAME = {job.name: job for job in JOBS}


def tokens(length, row, vocabulary):
    """Ids of a prompt, from a seed."""
    drawn = random.Random(f"{SEED} {length} {row}")
    low = min(600, vocabulary // 2)
    return [drawn.randrange(low, vocabulary) for _ in range(length)]


def prompts(cell, model):
    with open(os.path.join(model, "config.json")) as file:
        vocabulary = json.load(file)["vocab_size"]
    return [tokens(length, row, vocabulary) for length, row in cell.prompts]


def sites(job, cell):
    """Points of a job. With experts over ranks, transformers' router hands each rank its own experts alone."""
    router = ROUTER if job.model.startswith(("moe", "mixtral")) else []
    if job.engine == "vllm" or job.expert_parallel:
        router = router[:1]
    return [*POINTS, *router, *(["logits"] if cell.logits else [])]


def trim(run, keep):
    """Leaves of a prompt's rows those at `keep`, positions from its start. Every rank does so."""
    import numpy as np

    phase = run.phases.get("prefill")
    if phase is None or len(phase.positions) <= len(keep):
        return run
    rows = [i for i, position in enumerate(phase.positions) if position + len(run.prompt) in keep]
    phase.positions = [phase.positions[i] for i in rows]
    for tensor in phase.tensors.values():
        tensor.bits = np.ascontiguousarray(tensor.bits[:, rows])
    if phase.logprobs is not None:
        phase.logprobs.token_ids = np.ascontiguousarray(phase.logprobs.token_ids[:, rows])
        phase.logprobs.log_probs = np.ascontiguousarray(phase.logprobs.log_probs[:, rows])
    return run


def synth(name, tiny=False):
    """Arguments of `mantissa`."""
    return ["synth", *(TINY if tiny else MODELS)[name].split(), "--seed", str(SEED)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "out", "mantissa"):
        parser.add_argument(name, nargs="?")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if given.model:
        command = [given.mantissa or "mantissa", "--quiet", *synth(given.model, given.tiny), "--out", given.out]
        sys.exit(subprocess.run(command, check=False).returncode)
    for name in MODELS:
        print(f"{name}: mantissa {' '.join(synth(name))}")
    for name, cell in CELLS.items():
        print(f"{name}: {cell}")
    for job in JOBS:
        print(f"{job.name}: {job.ranks} GPUs, cells {', '.join(job.cells)}")


if __name__ == "__main__":
    main()
