"""Writes docs/coverage.md, and docs/coverage/models.md, shapes-h200.md and shapes-h100.md, from what was measured.

    python3 goldens/gpu/coverage.py [--check]

Numbers come from the built-in catalogs, the reports of check_transformers.py and proof.py, and docs/coverage/draw.json,
which draw.py wrote. Words are written by hand; so are kernels.md and catalogs.md in docs/coverage.
With --check it fails if a page is not what it would write.
"""

import collections
import json
import os
import string
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WRITTEN = "<!-- written by goldens/gpu/coverage.py; do not edit -->"
CATALOGS = {"H200": "catalogs/h200-cublas13.1.json", "H100": "catalogs/h100-cublas13.1.json"}
LAUNCHED = "catalogs/hopper-attention-cublas13.1.json"
REPORTS = {"H200": "goldens/gpu/h200_transformers.json", "H100": "goldens/gpu/h100_transformers.json"}
PROOF = "goldens/gpu/h200_proof.json"
# Runs of the proof before what they found was mended or refused: A, B, C and G.
MENDED = (0, 1, 2, 6)
MODELS = {
    "smollm2-135m": "SmolLM2-135M shape, 30 layers",
    "SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct, real weights (Q4_1 decoded to bf16)",
    "llama3.2-1b": "Llama-3.2-1B shape, llama3 RoPE, 4 layers",
    "llama3.1-8b": "Llama-3.1-8B shape, llama3 RoPE, 2 layers",
    "mistral-7b": "Mistral-7B-v0.3 shape, 2 layers",
    "qwen3-0.6b": "Qwen3-0.6B shape, 4 layers",
    "qwen3-30b-a3b": "Qwen3-30B-A3B (MoE) shape, 2 layers",
    "qwen2.5-7b": "Qwen2.5-7B shape, 2 layers",
}


ATTENTION = {"eager": "eager", "sdpa": "sdpa, left alone"}
ATTENTION |= {"sdpa_flash": "sdpa, flash backend", "sdpa_math": "sdpa, math backend"}


def load(path):
    with open(os.path.join(ROOT, path)) as file:
        return json.load(file)


def sizes(text):
    for part in text.split(","):
        spread, _, step = part.partition("/")
        first, _, last = spread.partition("-")
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def spans(numbers):
    """`1–64, 72–256 by 8, 512`: runs, then progressions by 8, then the rest."""
    rest, parts = sorted(set(numbers)), []
    while rest:
        held = set(rest)
        runs = [(step, next(n for n in range(1, 9999) if rest[0] + n * step not in held)) for step in (1, 8)]
        best = max(runs, key=lambda found: found[1])
        step, count = best if best[1] > 2 else (1, 1)
        last = rest[0] + (count - 1) * step
        by = " by 8" if count > 1 and step == 8 else ""
        parts.append(f"{rest[0]}" if count == 1 else f"{rest[0]}–{last}{by}")
        rest = sorted(held - set(range(rest[0], last + 1, step)))
        if len(parts) == 5 and rest:
            return ", ".join(parts) + f", and {len(rest)} more"
    return ", ".join(parts)


def step_list(parts):
    """`1: 4, 73: 2`; of more than six the first five."""
    listed = [f"{first}: {count}" for first, count in parts]
    return ", ".join(listed if len(listed) <= 6 else [*listed[:5], f"and {len(listed) - 5} more"])


# Models of which the H100's catalog has every weight.
FULL_H100 = "SmolLM2-135M, Llama-3.2-1B and 3.1-8B, Qwen3-0.6B and 30B-A3B, Qwen2.5-7B"
FORMATS = {"bf16": "bf16", "f16": "f16", "f32": "binary32"}


PAGE = """\
# Coverage

{written}

`--hardware h200|h100` says which bits stock Hugging Face transformers leaves on that GPU: transformers 5.17.0, PyTorch
2.11.0, CUDA 13.0, cuBLAS 13.1.0, nothing patched. A setup that is not covered is refused, never guessed, and the
refusal names what is missing. `mantissa coverage --model M` says beforehand which setups of a model are covered.

A prediction rests on one of two things. *Verified*: every product has a recipe that was compared with the GPU at that
size, bit for bit. *Asked*: the library itself names the kernel or the split of a sum for that size; products of other
sizes were compared with what it names.

{said}

Of the 13 setups that were not equal in the first three runs of the [random proof](coverage/models.md), 12 had experts
of equal weights in another order, which is emulated since. One is eager attention over one KV head, of which the wrong
product had been asked; asked rightly, it is in run E. In run G, the first of `sdpa` left alone, 22 of 100 were not
equal: 18 in decode by a kernel that does not repeat itself and is refused since, 4 of Gemma 3 27B by one rounding of
its scale; run H, after that, is 120 of 120. Single kernels were compared alone as well:
[kernels](coverage/kernels.md). [Models](coverage/models.md) has all setups of whole models;
[catalogs](coverage/catalogs.md) says how to add shapes of your own.

**Ranks, vLLM, nf4, AWQ, GPTQ.** Tensor- and expert-parallel ranks, vLLM 0.24 in eager mode and 4-bit layers have a page
of their own: [parallel](parallel.md). This one is about transformers on one GPU.

**Padding.** `--padding left:N|right:N` predicts a sequence that was padded by N positions to the length of its batch:
with `eager` in bf16 and with `sdpa_math`. Of the random proof's setups {padded} were padded, by 1 to 64 positions.

**Dies.** cuBLAS reads how many clusters of each size a GPU can run at once. Built-in catalogs are of dies that count
132 66 39 30 22 17 15 15 9 7 7 7 7 7 7 7; `mantissa catalog gpu` and `mantissa doctor` say what yours counts. A catalog
of another die is refused.

## What is refused

- `sdpa` left alone, which takes cuDNN: in decode over more than 256 keys, and over more than 128 with more than 132
  query heads of all sequences, because the kernel there does not repeat itself ([kernels](coverage/kernels.md)); over
  more than 16,384 keys; with a mask (padding, a sliding window that is full); on the H100.
- `sdpa_flash` once a sliding window is full.
- DeepSeek. Experts of f16, whose sums depend on how many rows of the whole batch an expert gets.
- `sdpa` and `sdpa_flash` with heads other than 64, 96, 128 and 256; RoPE over a part of each head.
- `sdpa_math` in decode with 8, 16 or 24 heads of 256 over fewer than 386 keys, where cuBLAS takes a kernel whose order
  of sums is not known.
- Padding with `sdpa_flash`, which takes no mask, and in eager attention of f16. Chunked prefill, and a second prefill
  over cached positions; LongRoPE and dynamic RoPE past their context.
- Weights that nobody asked for: on the H100 most of them, since no H100 was available.
- `flash_attention_2` (the package), binary32, quantized weights as stored but nf4, and AWQ and GPTQ under vLLM; softmax
  over more than 40,000 keys.
- Other versions of PyTorch, CUDA and cuBLAS: each needs its own catalog. `mantissa catalog build` makes one.

## Of setups drawn at random

41 models × 3 attentions × bf16 and f16 × batches of 1 to 64 × prompts of 1 to 16,384 tokens (evenly on a logarithmic
scale), with 512 decode steps. Only setups count that fit 78 GB with one layer, by an estimate, and that stock
transformers runs: it has no `sdpa` for gpt-oss, and the flash backend takes no mask, which a full window needs. A setup
may lack several things. Phi-3.5 mini goes without its LongRoPE. `sdpa` left alone was not drawn: the last of
512 decode steps is never covered.

    python3 goldens/gpu/draw.py target/debug/mantissa docs/coverage/draw.json --count 1000 --seed 1

{draw}

Drawn without the bound of memory, 882 of 1,000 are exact in bf16 on the H200 and 801 in f16; on the H100 55 and none.
Most of the H200's refused have scores of more than 40 GB:

    python3 goldens/gpu/models.py models
    mantissa coverage $(for m in models/*/config.json; do echo --model $m; done) --batch-sizes 1-64 \\
        --prompts 1-16384 --decode 512 --runs 1000 --seed 1 --dtype bf16
"""


MODELS_TEXT = """\
Compared are the logits and the sites of every layer at the last three positions of the prompt and at every decode step
(tokens forced), of row 0; the other rows of the batch hold other tokens. Back to [coverage](../coverage.md)."""


PROOF_TEXT = """\
`goldens/gpu/proof.py` on an NVIDIA H200; every setup is in `goldens/gpu/h200_proof.json`. The seed is the
time of the run. A setup has true widths and one block (one or both of the two kinds where a model has two), batches of
1 to 64, prompts of 4 to 16,384 tokens and 2 to 30 decode steps (or none). Only setups that count as covered were
drawn.

- Run A (Llama, Mistral, Qwen2, Qwen3, Qwen3-MoE): the 12 that differ are all of Qwen3-MoE, in `router_topk` alone:
  experts with equal weights stood in another order. That order is emulated since (720 of 720 measured orders,
  `goldens/gpu/topk.py`); the digests of these 12 are from before.
- Run B (Gemma 2 and 3, Mixtral, OLMo 2, Phi-3, Qwen3-MoE).
- Run C (all of these, and 14 setups with prompts of 8,192 and 10,067 tokens, 30 decode steps, batches of 1 and 4, of
  Qwen2.5-7B and Qwen3-30B-A3B): the one that differs is Gemma 3 1B with eager attention in decode. With one KV head
  transformers' copy of the keys lies transposed, so cuBLAS is asked another product. That is refused since. Eager
  attention of 10,067 tokens in a batch of 4 does not fit the GPU.
- Run D, after that, on a machine with four H200: 158 setups of all these families, and the 14.
- Run E, 2026-11-29, on one H200: Gemma 3 and gpt-oss, after cuBLAS was asked for the products of one KV head and of
  probabilities beside sinks (1,024 pairs of heads, width, format and phase; 7,093 products compared, all with the sums
  of the kernel launched). gpt-oss has eager attention alone.
- Run F, the same day: all families, nine of ten padded where a mask is known.
- Run G, the same day: `sdpa` left alone, prompts to 4,096 tokens, all families that have it. Of the 22 that differ 18
  do so in decode alone, over more than 256 keys or with more than 132 query heads of all sequences: cuDNN's kernel adds
  a row's sum in an order that is not fixed ([kernels](kernels.md)). Such decodes are refused since. The 4 of Gemma 3
  27B, whose scale is 168^-½, differ from the prompt on: the scale's product with log₂ e had been rounded from binary64.
  That is mended.
- Run H, after both, on one H200: the same, three of ten without a decode step.

OLMo 2 has no setups over 4,096 tokens, which is its context."""


ASKED_H200 = """\
Which parts a sum is cut into is cuBLASLt's choice, a step function of the number of rows. Its heuristic was asked for
596 weights in bf16 and in f16 (41 models, whole, cut for 2, 4 and 8 ranks, and joined as vLLM joins them), and every
step was found by halves ([how](catalogs.md)). At both sides of steps and at random sizes 10,767 products of bf16 and
11,889 of f16 were compared: all have the parts that the heuristic names, and no random size was off the steps."""


ATTENTION_TEXT = """\
`catalogs/hopper-attention-cublas13.1.json` names the kernel of each product of attention, for both GPUs; cuBLAS of an
H200 was asked ([how](../../goldens/gpu/attention_choice.md)). A product that was compared at its own size goes before
it."""


ASKED_H100 = """\
Which parts a sum is cut into is cuBLASLt's choice, a step function of the number of rows. Its heuristic was asked for
these weights (bf16, no bias, 32 MiB of workspace) by every number of rows to 512, every eighth to 4,096 and every
sixty-fourth to 16,384. A prediction at such a size rests on *asked*: sums by so many parts were compared, a product of
this size was not. Sizes between two that were asked and agree count as asked; between two that differ nothing is known.
Rows that 8 divides have steps of their own: for 13 of the 40 weights some row `8i` has other parts than both its
neighbours. Above 512 only rows that 8 divides were asked.
Of 21,011 products that were compared on this GPU, 9,967 have a size that was asked, or one between: all had the parts
the heuristic names. A single step function would have named other parts for one compared product (3584 × 18944, 531
rows).
`cargo test -p mantissa-engine --lib the_heuristic_names` holds this."""


def table(say, columns, rows, right=()):
    """A Markdown table; `right` are the columns of numbers."""
    say()
    say("| " + " | ".join(columns) + " |")
    say("|" + "|".join("---:" if i in right else "---" for i in range(len(columns))) + "|")
    for row in rows:
        say("| " + " | ".join(str(cell) for cell in row) + " |")


def compared(catalog, kind):
    """How many products of a catalog were compared."""
    return sum(len(list(sizes(c["sizes"]))) for e in catalog[kind] for c in e["classes"])


def pairs(launched):
    """Heads × width of the attention that cuBLAS was asked about."""
    every = (entry for entry in launched["launched"])
    return {(heads, entry["dim"]) for entry in every for choice in entry["choices"] for heads, _ in choice["heads"]}


def totals(cases):
    """Cases, those that are equal to the bit, and values."""
    return len(cases), sum(case["differ"] == 0 for case in cases), sum(case["values"] for case in cases)


def percent(part, whole):
    return f"{100 * part / whole:.1f}%"


def coverage():
    said = []
    table(lambda text="": said.append(text), ["", "H200", "H100 SXM"], said_of_gpus())
    padded = sum("padding" in case for run in load(PROOF)["runs"] for case in run["cases"])
    return PAGE.format(written=WRITTEN, said="\n".join(said[1:]), draw=draw_table(), padded=padded)


def said_of_gpus():
    """Rows of what is covered."""
    catalogs = [load(path) for path in CATALOGS.values()]
    weight = lambda e: (e["n"], e["k"], e["bias"])
    h200, h100 = ({weight(e) for e in catalog["asked"]} for catalog in catalogs)
    single = len({weight(e) for e in catalogs[1]["linear"]} - h100)
    fixed = [totals(load(path)["cases"]) for path in REPORTS.values()]
    runs = [totals(run["cases"]) for run in load(PROOF)["runs"]]
    after = [run for number, run in enumerate(runs) if number not in MENDED]
    count, same, values = (sum(each) for each in zip(*after))
    drawn, equal, _ = (sum(each) for each in zip(*(runs[number] for number in MENDED)))
    proof = f"{same} of {count} setups equal in every bit ({values:,} values); in four runs before, {equal} of {drawn}"
    families = "Llama, Qwen2, Qwen3, Qwen3-MoE"
    every = f"{families}, Mistral, Mixtral, Gemma 2 and 3, OLMo 2, Phi-3 (also Phi-4), gpt-oss (eager, bf16)"
    cut = "of 41 models, whole, cut for 2, 4 and 8 ranks, joined as vLLM joins them, by any number of rows to 1,048,576"
    few = f"to 16,384 rows, {single} at single sizes: all weights of {FULL_H100}, some of others"
    heads = f"1 to 64 for the heads of 41 models ({len(pairs(load(LAUNCHED)))} pairs of heads and width)"
    backends = "`sdpa_flash`, `sdpa_math`"
    alone = "`sdpa` left alone (prompts; decode to 256 keys)"
    link = lambda text, gpu: f"[{text}](coverage/shapes-{gpu}.md)"
    return [
        ["families", every, f"the same by the same kernels; compared: {families}"],
        ["formats", "bf16; f16 but experts", "bf16"],
        ["weights", f"{link(len(h200), 'h200')} {cut}", f"{link(len(h100), 'h100')} {few}"],
        ["attention", f"`eager`, {backends}, {alone}", f"`eager`, {backends}; kernels were asked for on the H200"],
        ["lengths", "prompts to 32,768 tokens, as far as 40 GB hold the scores", "the same"],
        ["batches", heads, "the same"],
        ["random proof", proof, "none"],
        ["fixed cases", *(f"{same} of {count} equal ({of:,} values)" for count, same, of in fixed)],
    ]


def draw_table():
    report, out = load("docs/coverage/draw.json"), []
    by = [report["hardware"][name] for name in ("h200", "h100")]
    count = report["setups"]
    exact = [sum(one["bases"].get(basis, 0) for basis in ("verified", "asked")) for one in by]
    rows = [["**exact**", *(f"**{n}** ({percent(n, count)})" for n in exact)]]
    rows += [["… " + basis, *(one["bases"].get(basis, 0) for one in by)] for basis in ("verified", "asked")]
    rows += [["**refused**", *(f"**{one['bases'].get('refused', 0)}**" for one in by)]]
    lack = lambda why: [one["causes"].get(why, {"setups": 0})["setups"] for one in by]
    counts = {why: lack(why) for one in by for why in one["causes"]}
    causes = sorted(counts, key=lambda why: [-count for count in counts[why]])
    rows += [["… " + why, *counts[why]] for why in causes]
    table(lambda text="": out.append(text), [f"{count:,} setups", "H200", "H100"], rows, right=(1, 2))
    return "\n".join(out[1:])


def models():
    out = ["# Whole models against the GPU", "", WRITTEN, "", MODELS_TEXT]
    say = lambda text="": out.append(text)
    random_proof(say)
    for gpu, path in REPORTS.items():
        fixed_cases(say, gpu, path)
    return "\n".join(out) + "\n"


def random_proof(say):
    runs = load(PROOF)["runs"]
    say()
    say("## The random proof")
    say()
    say(PROOF_TEXT)
    rows = []
    for name, run in zip(string.ascii_uppercase, runs):
        count, equal, values = totals(run["cases"])
        differ = sum(case["differ"] for case in run["cases"])
        rows.append([name, run["seed"], f"{equal} of {count}", f"{values:,}", f"{differ:,}"])
    table(say, ["run", "seed", "setups equal", "values", "differ"], rows, right=(1, 2, 3, 4))
    cells = collections.defaultdict(list)
    for case in (case for run in runs for case in run["cases"]):
        cells[case["model"], case["attention"]].append(case)
    names = sorted({model for model, _ in cells})
    row = lambda model: [equal_of(cells[model, attention]) for attention in ATTENTION]
    say()
    say("Setups equal to the bit, of those drawn:")
    table(say, ["model", *ATTENTION], [[model, *row(model)] for model in names], right=(1, 2, 3))


def equal_of(cases):
    count, equal, _ = totals(cases)
    return f"{equal} of {count}" if cases else ""


def fixed_cases(say, gpu, path):
    report = load(path)
    say()
    say(f"## Fixed cases, {gpu}")
    say()
    say(f"`{path}`, {report['versions']['gpu']}, by `goldens/gpu/check_transformers.py`.")
    say("The sites of routers are left out; what they choose shows in `mlp_out`. A line is one model, attention and length")
    say("of prompt, at each batch size named.")
    lines = {}
    for case in report["cases"]:
        model, _, steps, batch, attention = (case["case"].split(":") + ["eager"])[:5]
        key = (list(ATTENTION).index(attention), list(MODELS).index(model), case["prompt_tokens"], int(steps))
        line = lines.setdefault(key, [set(), 0, 0])
        line[0].add(int(batch))
        line[1] += case["values"]
        line[2] += case["differ"]
    rows = []
    for (attention, model, prompt, steps), (batches, values, differ) in sorted(lines.items()):
        names = [list(MODELS.values())[model], list(ATTENTION.values())[attention]]
        counts = [", ".join(str(batch) for batch in sorted(batches)), f"{values:,}", f"{differ:,}"]
        rows.append([*names, f"{prompt:,}", steps, *counts])
    columns = ["model", "attention", "prompt", "decode steps", "batch sizes", "values", "differ"]
    table(say, columns, rows, right=(2, 3, 5, 6))
    count, _, values = totals(report["cases"])
    say()
    say(f"In all {count} cases, {values:,} values, {sum(case['differ'] for case in report['cases']):,} differ.")


def shapes(gpu):
    path = CATALOGS[gpu]
    catalog = load(path)
    origin = catalog["origin"]
    out = [f"# Shapes of the {gpu}", "", WRITTEN, ""]
    say = lambda text="": out.append(text)
    linear, batched = (compared(catalog, kind) for kind in ("linear", "batched"))
    say(f"`{path}` ({origin['gpu']}, cuBLAS {origin['cublas']}) has {linear:,} products with weights and")
    say(f"{batched:,} of attention that were compared, each with a recipe that gave every output.")
    say("A catalog of your own adds others ([catalogs](catalogs.md)). Back to [coverage](../coverage.md).")
    say()
    say("## Weights")
    say()
    say({"H200": ASKED_H200, "H100": ASKED_H100}[gpu])
    key = lambda e: (e["n"], e["k"], e["bias"], e.get("dtype", "bf16"))
    linear, asked = ({key(e): e for e in catalog[kind]} for kind in ("linear", "asked"))
    rows = []
    for shape in sorted(linear.keys() | asked.keys()):
        n, k, bias, dtype = shape
        count = sum(len(list(sizes(c["sizes"]))) for c in linear[shape]["classes"]) if shape in linear else 0
        steps = [step_list(asked[shape][kind]["parts"]) if shape in asked else "" for kind in ("unaligned", "aligned")]
        rows.append([f"{n} × {k}" + (" with bias" if bias else ""), dtype, f"{count:,}", *steps])
    columns = ["weight, outputs × sum", "format", "compared"]
    columns += ["rows that 8 does not divide: parts from row on", "rows that 8 divides"]
    table(say, columns, rows, right=(2,))
    say()
    say("## Attention")
    say()
    say(ATTENTION_TEXT)
    rows = []
    for e in catalog["batched"]:
        keys = [size for c in e["classes"] for size in sizes(c["sizes"])]
        name = f"{e['phase']} {e['product']}" + (", binary32" if e.get("dtype") == "f32" else "")
        rows.append([name, f"{e['heads']} × {e['dim']}", spans(keys), len(e["classes"])])
    table(say, ["product compared", "heads (of all sequences) × width", "keys", "recipes"], rows, right=(3,))
    say()
    say("Which kernel is launched was asked for these:")
    rows = []
    for e in load(LAUNCHED)["launched"]:
        found = [heads for choice in e["choices"] for heads in choice["heads"]]
        heads, keys = [h for h, _ in found], max(keys for _, keys in found)
        name = f"{e['phase']} {e['product']}, {FORMATS[e.get('dtype', 'bf16')]}"
        rows.append([name, e["dim"], len(found), f"{min(heads)}–{max(heads)}", f"{keys:,}", len(e["kernels"])])
    columns = ["product asked for", "width", "numbers of heads", "from–to", "keys, at most", "orders of sums"]
    table(say, columns, rows, right=(1, 2, 3, 4, 5))
    return "\n".join(out) + "\n"


WRITES = {
    "docs/coverage.md": coverage,
    "docs/coverage/models.md": models,
    "docs/coverage/shapes-h200.md": lambda: shapes("H200"),
    "docs/coverage/shapes-h100.md": lambda: shapes("H100"),
}


def main():
    for name, write in WRITES.items():
        path, text = os.path.join(ROOT, name), write()
        if "--check" not in sys.argv[1:]:
            with open(path, "w") as file:
                file.write(text)
        elif not os.path.exists(path) or open(path).read() != text:
            sys.exit(f"{name} is not current: run python3 goldens/gpu/coverage.py")


main()
