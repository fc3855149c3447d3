"""Writes docs/coverage.md from what was measured: catalogs and reports of check_transformers.py.

    python3 goldens/gpu/coverage.py [--check]

With --check it fails if the page is not what it would write.
"""

import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "docs", "coverage.md")
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


ATTENTION = {"eager": "eager", "sdpa_flash": "sdpa, flash backend", "sdpa_math": "sdpa, math backend"}


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
        best = max(((step, next(n for n in range(1, 9999) if rest[0] + n * step not in held)) for step in (1, 8)), key=lambda found: found[1])
        step, count = best if best[1] > 2 else (1, 1)
        last = rest[0] + (count - 1) * step
        parts.append((f"{rest[0]}" if count == 1 else f"{rest[0]}–{last}") + (" by 8" if count > 1 and step == 8 else ""))
        rest = sorted(held - set(range(rest[0], last + 1, step)))
        if len(parts) == 5 and rest:
            return ", ".join(parts) + f", and {len(rest)} more"
    return ", ".join(parts)


def recipe(r):
    if r["order"] == "fma_chain":
        return "a chain"
    if r["order"] == "threads":
        return f"{r['threads']} threads of {r['vector']}" + (", added in order" if r.get("in_order") else "")
    text = f"steps of {r['block']['width']}"
    if r["parts"] > 1:
        text += f", K in {r['parts']} parts"
    if r.get("tile"):
        text += f", tiles of {r['tile']} with the remainder first"
    return text


TERMS = """\
*Asked* means that the library's own heuristic names the split of a sum for that number of rows; products of other sizes
were compared. A shape that neither covers is an error, never a guess, and the error names the command that would
measure it. `mantissa coverage --model M` says what share of setups is covered, and what would add most."""


DRAWN = """\
## Of setups drawn at random

1,000 runs drawn from 41 published models (`goldens/gpu/models.py`), batches of 1 to 64, prompts of 1 to 16,384 tokens
(evenly on a logarithmic scale) with 512 decode steps, and the attentions eager, sdpa_flash and sdpa_math, in bf16:

    python3 goldens/gpu/models.py models
    mantissa coverage $(for m in models/*/config.json; do echo --model $m; done) --batch-sizes 1-64 \\
        --prompts 1-16384 --decode 512 --runs 1000 --seed 1

| 2026-11-28 | H200 | H100 |
|---|---:|---:|
| verified | 31 | 17 |
| asked | 0 | 4 |
| refused | 969 | 979 |
| … products with weights nobody asked for | 932 | 945 |
| … eager attention's products | 261 | 274 |
| … sdpa_math's products | 259 | 264 |
| … norms of another kind than Llama's | 289 | 289 |
| … GELU and clamped units | 206 | 206 |
| … more than 1,934 or 2,000 keys of sdpa | 142 | 142 |
| … experts of other sizes, other routers | 71 | 71 |
| … windows that keys fall out of | 57 | 57 |
| … heads of other widths than 64 and 128 with sdpa_flash | 49 | 49 |

A run may lack several things. So nearly everything waits for one kind of measurement, which needs a GPU and minutes."""


def step_list(parts):
    """`1: 4, 73: 2`; of more than six the first five."""
    listed = [f"{first}: {count}" for first, count in parts]
    return ", ".join(listed if len(listed) <= 6 else [*listed[:5], f"and {len(listed) - 5} more"])


ASKED = """\
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


def page():
    out = ["# Coverage", "", "<!-- written by goldens/gpu/coverage.py; do not edit -->", ""]
    say = lambda text="": out.append(text)
    say("What `--hardware` predicts, what that rests on, and what it refuses. Everything below is stock Hugging Face")
    say("transformers in bf16, and in f16 where it says so (transformers 5.17.0, PyTorch 2.11.0, CUDA 13.0, cuBLAS 13.1.0), nothing patched.")
    say("*Verified* means compared with the GPU, bit for bit.")
    say("The tables of models and shapes are made from the measurements; the words about kernels are written by hand.")
    say(TERMS)
    say()
    say(DRAWN)
    say()
    say("## Kernels")
    say()
    say("| kernel | H200 | H100 SXM | A100, L40S | evidence |")
    say("|---|---|---|---|---|")
    for row in KERNELS:
        say("| " + " | ".join(row) + " |")
    say()
    say("A100 and L40S: tensor-core parameters from arXiv 2511.10909 and 2512.07004, sums not split along K, everything")
    say("else as on Hopper. Which kernels the libraries pick there is unknown, so these predictions are *from literature*")
    say("and say so; they are no evidence.")
    for title, path in (("H200", "goldens/gpu/h200_transformers.json"), ("H100", "goldens/gpu/h100_transformers.json")):
        if not os.path.exists(os.path.join(ROOT, path)):
            continue
        report = load(path)
        say()
        say(f"## Whole models against the {title}")
        say()
        say(f"`{path}`, {report['versions']['gpu']}, by `goldens/gpu/check_transformers.py`.")
        say("Compared are the logits and every site of every layer except the router's own, whose choice shows in `mlp_out`,")
        say("at the last three positions of the prompt and at every decode step (tokens forced).")
        say("The other rows of the batch hold other tokens.")
        say("A line is one model, attention and length of prompt, at each batch size named.")
        say()
        say("| model | attention | prompt | decode steps | batch sizes | values | differ |")
        say("|---|---|---:|---:|---|---:|---:|")
        lines, total = {}, [0, 0]
        for case in report["cases"]:
            if "refused" in case:
                continue
            model, _, steps, batch, attention = (case["case"].split(":") + ["eager"])[:5]
            line = lines.setdefault((list(ATTENTION).index(attention), list(MODELS).index(model), case["prompt_tokens"], int(steps)), [set(), 0, 0])
            line[0].add(int(batch))
            line[1] += case["values"]
            line[2] += case["differ"]
            total = [total[0] + case["values"], total[1] + case["differ"]]
        for (attention, model, prompt, steps), (batches, values, differ) in sorted(lines.items()):
            sizes_of = ", ".join(str(batch) for batch in sorted(batches))
            say(f"| {list(MODELS.values())[model]} | {list(ATTENTION.values())[attention]} | {prompt:,} | {steps} | {sizes_of} | {values:,} | {differ:,} |")
        say()
        say(f"In all {len(report['cases'])} cases, {total[0]:,} values, {total[1]:,} differ.")
        for case in report["cases"]:
            if "refused" in case:
                say()
                say(f"**Refused:** `{case['case']}`: {case['refused']}")
            elif case["differ"]:
                where = "; ".join(f"{name} {row['differ']:,} of {row['values']:,} from layer {row['first_layer']}" for name, row in case["table"].items() if row["differ"])
                say()
                say(f"**Not 0:** `{case['case']}`: {where}. {case.get('explanation', 'No explanation yet.')}")
    for title, path in (("H200", "catalogs/h200-cublas13.1.json"), ("H100", "catalogs/h100-cublas13.1.json")):
        catalog = load(path)
        shapes = sum(len(list(sizes(c["sizes"]))) for kind in ("linear", "batched") for e in catalog[kind] for c in e["classes"])
        say()
        say(f"## Shapes measured on the {title}")
        say()
        origin = catalog["origin"]
        say(f"`{path}`: {shapes:,} shapes, each with a recipe that gave every output compared")
        say(f"({origin['gpu']}, cuBLAS {origin['cublas']}, {origin['date']}).")
        say("All were measured anew on that day, except where the text below says otherwise. 32 sums of each product with a")
        say("weight were compared, and 64 of each product of attention that has as many. More were compared until one of the")
        say("usual recipes was left, or one of the rare recipes where no usual one gave all the sums.")
        if title == "H200":
            say("PyTorch's own matmul left the sums of these recipes in 3,982 shapes of binary32, 694,944 values")
            say("(`goldens/gpu/sdpa_math.py`).")
            say("Seven rows of 512 × 3584 without a bias come from cuBLAS outputs kept apart; `just check-gemm` compares them.")
        say("Others are added by `mantissa catalog build` on such a machine and used with `record --catalog FILE`")
        say("([below](#catalogs-of-your-own)).")
        say()
        say("| product with a weight, outputs × sum | rows | classes |")
        say("|---|---|---|")
        for e in catalog["linear"]:
            rows = [s for c in e["classes"] for s in sizes(c["sizes"])]
            kinds = "; ".join(sorted({recipe(c["recipe"]) for c in e["classes"]}))
            say(f"| {e['n']} × {e['k']}{' with bias' if e['bias'] else ''} | {spans(rows)} | {kinds} |")
        if catalog.get("asked"):
            say()
            say(f"### Asked on the {title}")
            say()
            say(ASKED)
            say()
            say("| weight, outputs × sum | rows that 8 does not divide: parts from row on | rows that 8 divides |")
            say("|---|---|---|")
            for e in catalog["asked"]:
                steps = " | ".join(step_list(e[kind]["parts"]) for kind in ("unaligned", "aligned"))
                say(f"| {e['n']} × {e['k']}{' with bias' if e['bias'] else ''} | {steps} |")
        say()
        say("| attention, product | heads (of all sequences) × width | keys | recipes |")
        say("|---|---|---|---:|")
        for e in catalog["batched"]:
            keys = [s for c in e["classes"] for s in sizes(c["sizes"])]
            plain = ", binary32" if e.get("dtype") == "f32" else ""
            say(f"| {e['phase']} {e['product']}{plain} | {e['heads']} × {e['dim']} | {spans(keys)} | {len(e['classes'])} |")
    say()
    say("## Not covered")
    say()
    for line in NOT_COVERED:
        say("- " + line)
    say()
    say(OWN_CATALOGS)
    return "\n".join(out) + "\n"


SOURCE = "from the source, not compared yet"

KERNELS = [
    ("tensor-core step, bf16 (`mma.sync` k8 and k16, wgmma)", "verified", "verified in whole models", "literature", "16,384 seeded cases per instruction with special values: `crates/numerics/tests/tensor_core.rs`; all 2^32 products: `just exhaustive-products`"),
    ("tensor-core step, f16, tf32, fp8 by wgmma", "verified", "taken from the H200, not compared", "literature", "the same; fp8 by `mma.sync` is not modelled"),
    ("products of f16 with weights, with and without bias, split-K among them", "verified by themselves: 184,320 outputs of 14 weights, subnormal and infinite ones among them; no catalog is built in", "by the same recipes, not compared", "literature: uncut", "`goldens/gpu/f16.py`, `f16_check.py`: parts of a sum stay in binary32, whether PyTorch allows reduced precision or not; where K is cut is another choice than for bf16"),
    ("`sdpa_flash` and `sdpa_math` of f16", "verified by themselves (4 shapes); whole models were not compared", "by the same kernels, not compared", "refused", "`goldens/gpu/sdpa_f16`"),
    ("eager attention of f16", "by the recipes of bf16; needs a catalog of f16, and was not compared", "likewise", "literature", "in 23 of 77 shapes cuBLAS took another kernel than for bf16; refused where norms of queries and keys do not rule out scores beyond 65,000, which a mask of f16 may not hide"),
    ("experts of f16", "refused", "refused", "refused", "`torch._grouped_mm` is a product for each expert then (`goldens/gpu/f16.py`), whose sums depend on how many rows it gets"),
    ("SiLU of f16, casts from binary32 to f16", "verified, all 65,536 inputs but NaNs", "not compared", "literature", "`goldens/gpu/f16.py`"),
    ("cuBLAS product without bias (nvjet, split-K)", "verified", "verified", "literature: uncut", "catalogs; `just check-gemm`"),
    ("cuBLASLt product with bias (1 MiB workspace)", "verified", "verified", "literature: uncut", "catalogs; Qwen2.5 below"),
    ("attention's batched products, prefill (nvjet, CUTLASS with the remainder first, s1688)", "verified", "verified", "literature", "catalogs"),
    ("attention's batched products, decode (gemvx, gemv2T, gemvNSP, wmma)", "verified", "verified", "literature", "catalogs"),
    ("grouped product of experts (`torch._grouped_mm`), 8 of 128 of 768 over 2,048", "verified", "verified", "literature", "Qwen3-MoE below; which other rows an expert gets changes nothing"),
    ("… of other sizes and numbers; biases of experts (gpt-oss)", SOURCE, SOURCE, "literature", "the same kernel; weights and biases as `integrations/moe.py` of transformers has them"),
    ("router: softmax in binary32, top-k, renormalization; sum over experts", "verified", "verified", "literature", "Qwen3-MoE below"),
    ("… of Mixtral (weights in binary32) and gpt-oss (softmax over the chosen); the order of equal logits", SOURCE, SOURCE, "literature", "`goldens/gpu/topk.py` would show the order of equals"),
    ("mean of squares (`reduce_kernel`), RMSNorm", "verified in whole models; alone 0 of 408,064 sums and means over 64 to 18,432 values differ, 1 to 4,096 rows", "in whole models", "literature", "`goldens/gpu/long_rows.py`"),
    ("… with 1 + w (Gemma) or weighed before the cast (OLMo 2, gpt-oss)", SOURCE, SOURCE, "literature", "the same mean"),
    ("softmax within a warp (to 2,048 keys)", "verified", "verified", "literature", "whole models"),
    ("softmax by a block (from 2,049 keys)", "verified to 40,000 keys: 0 of 1,443 rows differ, of bf16, f16 and binary32, at every border of a kernel and alignment of a row; the kernels launched are those named", "over 2,049 to 2,078 keys; the rest by the same kernels", "literature", "`goldens/gpu/long_rows.py`; decode after 2,048 tokens, below"),
    ("`torch.log_softmax`, over the last dimension and across steps; `torch.logsumexp`", "verified: 0 of 5,777 rows of 10 to 262,208 logits and of 1,891 sums differ; `logf` of every positive binary32", "the same kernels, not compared", "literature", "`goldens/gpu/long_rows.py`"),
    ("eager: bounds of scores (Gemma 2), windows that keys fall out of, other scales", SOURCE, SOURCE, "literature", "tanh below; in decode a layer with a window has as many keys as the window"),
    ("`sdpa_flash`: FlashAttention-2 inside PyTorch, heads of 64, 96, 128 and 256, to 32,768 keys", "verified to 32,768 keys: of 285 cases of decode and prefill no bit of the first and last row differs; whole models to 1,934", "verified in whole models, to 542 keys and one case to 1,934; the rest by the same kernel", "refused", "whole models below; on the H200 0 of 705,116 outputs differ in 7 prefills and 11 decodes (1 to 8 splits) by themselves, a slice of which is in `goldens/gpu/sdpa`"),
    ("`sdpa_flash`: heads of other widths to 256 but 129–160 and 193–224, other scales", SOURCE, SOURCE, "refused", "tiles of FlashAttention's own sources"),
    ("`sdpa_math`: products of binary32 (`fma` chains; gemvx, gemvNSP, gemv2T)", "verified, whole models to 1,934 keys", "verified, whole models to 542 keys", "refused", "whole models below; catalogs; raw sums of decode in `goldens/gpu/sdpa_math`"),
    ("`sdpa_math`: windows that keys fall out of, other scales", SOURCE, SOURCE, "refused", ""),
    ("`expf`, `rsqrtf`, `cosf`, `sinf`", "verified, all 2^32 inputs", "inside whole models only", "literature", "`goldens/gpu/all_inputs.cu`: 0 of 4 × 4,096 blocks differed except the one of sin(−0), which was fixed afterwards"),
    ("`tanhf`, sigmoid, SiLU, GELU (tanh form), `cap · tanh(x / cap)` and gpt-oss's gate, rounded to bf16 or f16", "verified, all 65,536 inputs of each", "taken from the H200", "literature", "`goldens/gpu/all_functions.json`"),
    ("SiLU, residuals, casts, RoPE", "verified", "verified", "literature", "whole models"),
    ("RoPE over a part of each head (Phi-4), in binary32 (OLMo 2); scaled embeddings (Gemma)", SOURCE, SOURCE, "literature", ""),
    ("inverse frequencies (PyTorch's `pow` on the CPU)", "verified for bases 1e4, 1e5, 5e5, 1e6 and heads of 64, 128, and for Llama 3's scaling", "same", "same", "`goldens/gpu/decode_attention.py`, `goldens/torch_rope.py`, whole models"),
]

NOT_COVERED = [
    "`--attention sdpa` without a forced backend: on an H200 PyTorch takes cuDNN.\n"
    "  Its prefill (`sm90_flash_fprop_wgmma`) repeats itself (8 of 8 calls equal in 7 cases) and is almost understood:\n"
    "  128-key tiles ascending, 1 of 700,736 outputs differs, which a reciprocal one unit lower (`rcp.approx`) would\n"
    "  explain. Its decode of 515 keys and more ends in `cudnn::fusion::lean_reduction_kernel`, which does not repeat\n"
    "  itself (7 of 8 calls equal in one of five cases), so no recipe can promise its bits.",
    "`flash_attention_2` (the package) on GPUs, binary32, experts of f16, quantized weights as stored.",
    "LongRoPE and dynamic RoPE beyond the context a model was trained for, where frequencies depend on the length.",
    "A second prefill over cached positions; batches of sequences of different lengths (padding).",
    "Softmax over more than 40,000 keys; `sdpa_flash` over more than 32,768.",
    "gpt-oss: probabilities beside sinks stand `keys + 1` apart, and which kernel cuBLAS picks for that was not measured.",
    "DeepSeek: compressed caches, values of another width than keys, router logits in binary32.",
    "`sdpa_flash` once a sliding window is full: transformers passes a mask then, and PyTorch's flash backend takes none.\n"
    "  `sdpa` of a model with sinks, which transformers does not have.",
    "Experts in `generate`: since transformers 5 it switches to batched products for decode; predicted is what `model(…)`\n"
    "  runs (`torch._grouped_mm`).",
    "Attention's products over other numbers of heads and keys than those listed. What is known of the rule behind\n"
    "  the choice is in `goldens/gpu/attention_choice.md`: leads, and which measurements would decide.",
    "Other versions of PyTorch, CUDA and cuBLAS: dispatch changes with them, so each needs its own catalog\n"
    "  ([below](#catalogs-of-your-own)).",
]

OWN_CATALOGS = """\
## Catalogs of your own

`--catalog FILE` may be given to `record` and `verify`, more than once. A catalog belongs to a GPU and a version of
cuBLAS.

- A file adds shapes. It replaces nothing: where it has another recipe than a catalog of the same GPU and cuBLAS, it is
  refused, and the message names the shape and the digest of the other catalog. A built-in recipe stays verified, also
  where a file has the same one.
- Catalogs of several cuBLAS versions stand side by side. The files say which version is meant: a file of cuBLAS 12.8.4
  for the H200 means predictions of an H200 with 12.8.4, and then no recipe of the built-in catalog (13.1.0) is used.
  Where files of several versions are given for one GPU, `--cublas VERSION` names the one that is meant.
- What PyTorch itself computes (norms, softmaxes, flash attention) was compared with cuBLAS 13.1.0 beside it. With
  another version these kernels are taken to be the same, which nobody compared.
- A prediction rests on the weakest of what it used: `verified` (built in), `asked` (likewise, the split of a sum as the
  heuristic names it), `measured` (a file of its user) or `literature`.
- What a product was compared with goes before what a heuristic names, whichever file has it. A weight of which a
  product contradicts the heuristic loses what the heuristic named, and the build reports it.
- `mantissa catalog build` asks the heuristic for every weight of the models given: every number of rows to 1,024, two
  of eight to 8,192, three of 256 to 1,048,576, then by halves between two that differ, and 64 of each kind at random.
  Then it compares products at both sides of every step and at four random sizes of each kind, on a logarithmic scale.
  `--tensor-parallel 2,4,8` adds weights cut for so many ranks, `--fused` those that vLLM joins. This has not run on a
  GPU yet; the search is tested against functions with known steps.
- The catalogs that were used stand with their blake3 in the manifest, in `plan.json` and in `verification.json`. A
  record that is resumed with another catalog is another record, and refused. A verdict that rests on a user's file says
  so. Evidence by recipes of one cuBLAS version is not replayed by those of another; `--claim hardware=h200` asks for
  that."""


def main():
    text = page()
    if "--check" in sys.argv[1:]:
        if open(PAGE).read() != text:
            sys.exit("docs/coverage.md is not current: run python3 goldens/gpu/coverage.py")
    else:
        open(PAGE, "w").write(text)


main()
