"""Cases for `mantissa drift`: transformers on a CPU, honest by many recipes, and with bugs planted into one layer.

    python3 goldens/drift/planted.py --out DIR --seed N [--only KIND] [--mantissa PROGRAM]

Each case is a container `DIR/CASE` that the package of this repository captured, with every site of every layer at
every position of the prompt, and of each decode step. `DIR/truth.json` says what was done to it: model folder, family,
kind, layer (from 1), what was replaced, and how large the effect is. The seed decides everything. `--only` takes a kind
of `bugs`, `honest` or a case's name, and changes nothing in the cases that are left.

**Effect.** The same program runs twice on the same tokens, without and with the bug. At the first site that differs,
the relative L2 distance of each position is the effect there. What stands before it is the same in both runs, so it is
the bug's own. A bug that changes no bit is no case: it is drawn again, up to 20 times, and then left out by name (an
epsilon is nothing beside large activations).

**Honest.** Differences of recipes alone: attention eager and sdpa, neighbours in the batch (padded ones in a quarter of
those cases), one or two threads, oneDNN on or off, a prompt in chunks, the functions of experts, prompts of 5 to 200
tokens, decode steps. On a CPU without bf16 instructions, threads, oneDNN and chunks changed no bit of a product
(2026-11-29, PyTorch 2.15). So products come in four orders of sums (`PRODUCTS`), each with one rounding to bf16 at its
end, as other machines have them.

Needs torch, transformers 5 and the program `mantissa`, which makes the models.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import zlib

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "python"))
import bugs
import models
from mantissa_forensics import Capture, sites

HONEST = 200
# Draws of a bug that changes no bit, before it is left out.
DRAWS = 20
PLACES = ("early", "middle", "late")
PRODUCTS = ("own", "f32", "f32 in two halves", "f64")


class NoEffectError(Exception):
    """A bug that changed no bit in any draw; of the case with that name."""


@dataclasses.dataclass
class Recipe:
    """What may differ between honest runs."""

    tokens: int
    steps: int = 0
    attention: str = "eager"
    neighbours: int = 0
    padded: bool = False
    threads: int = 1
    onednn: bool = True
    chunk: int = 0
    experts: str = ""
    products: str = "own"


@dataclasses.dataclass
class Case:
    name: str
    kind: str
    family: str
    variant: str = ""
    # One of `PLACES`; `None` where the bug is outside the layers, and of honest cases.
    place: str | None = None


def every(only=None):
    """All cases in order, or those of a kind, of `honest`, or of one name."""
    found = [Case(f"honest-{i:03}", "honest", _of(models.FAMILIES + [models.GPTQ], i)) for i in range(HONEST)]
    for kind, bug in {**bugs.LISTED, **bugs.UNLISTED}.items():
        for number, family in enumerate(bug.families):
            found += _planted(kind, bug, family, number)
    chosen = [case for case in found if only in (None, case.kind, case.name)]
    if not chosen:
        kinds = ", ".join(dict.fromkeys(case.kind for case in found))
        raise SystemExit(f"no case is of the kind '{only}'; kinds are {kinds}")
    return chosen


def _planted(kind, bug, family, number):
    """Cases of a kind in a family: nine of a kind at least, and each variant once in a family."""
    variants = bug.variants_of(family)
    for i in range(max(len(variants), 9 // len(bug.families))):
        place = None if bug.first is None else _of(PLACES, i)
        words = [kind.replace("_", "-"), family.replace("_", "-"), place, str(i + 1)]
        yield Case("-".join(filter(None, words)), kind, family, _of(variants, i + number), place)


def _of(values, i):
    return values[i % len(values)]


class Workshop:
    """Makes cases of one seed. Models are made and loaded once."""

    def __init__(self, mantissa, out, seed):
        self.mantissa, self.out, self.seed = mantissa, os.path.abspath(out), seed
        self.models = os.path.join(self.out, "models")
        self.loaded = {}
        os.makedirs(self.out, exist_ok=True)

    def make(self, case):
        """Writes the container of a case and returns its truth."""
        draw = np.random.default_rng([self.seed, zlib.crc32(case.name.encode())])
        shape = int(draw.integers(1, len(models.SHAPES) + 1))
        folder = models.folder(self.mantissa, self.models, case.family, shape)
        model = self._load(folder)
        truth = {"case": case.name, "model": folder, "family": case.family, "honest": case.kind == "honest"}
        truth |= {"kind": case.kind, "listed": case.kind in bugs.LISTED}
        if truth["honest"]:
            recipe = honest(case, draw)
            capture = self._run(model, recipe, draw)
        else:
            capture, recipe, more = self._planted(model, case, draw)
            truth |= more
        path = os.path.join(self.out, case.name)
        shutil.rmtree(path, ignore_errors=True)
        capture.save(path)
        return truth | {"recipe": dataclasses.asdict(recipe)}

    def _load(self, folder):
        if folder not in self.loaded:
            self.loaded[folder] = models.load(folder)
        return self.loaded[folder]

    def _planted(self, model, case, draw):
        bug = {**bugs.LISTED, **bugs.UNLISTED}[case.kind]
        count = len(model.model.layers)
        place = {"early": bug.first, "middle": count // 2, "late": count - 1}.get(case.place, 0)
        for _ in range(DRAWS):
            recipe = Recipe(int(draw.integers(12, 49)), bug.steps)
            tokens = draw.bit_generator.state
            honest = self._run(model, recipe, draw)
            draw.bit_generator.state = tokens
            with bug.plant(bugs.At(model, place, draw.spawn(1)[0]), case.variant):
                wrong = self._run(model, recipe, draw)
            if effect := effect_of(honest, wrong):
                break
        else:
            raise NoEffectError(case.name)
        layer, point = sites.split(effect["site"])
        if layer != (None if bug.first is None else place + 1):
            raise SystemExit(f"{case.name}: planted in layer {place + 1}, and {effect['site']} differs first")
        more = {"layer": layer, "point": point, "patched": case.variant, "effect": effect}
        return wrong, recipe, more

    def _run(self, model, recipe, draw):
        """A capture of a prompt and of decode steps with drawn tokens."""
        rows = 1 + recipe.neighbours
        ids = torch.from_numpy(draw.integers(0, models.VOCABULARY, (rows, recipe.tokens + recipe.steps)))
        prompt, fed = ids[:, : recipe.tokens], ids[:, recipe.tokens :]
        mask = torch.ones_like(prompt)
        if recipe.padded:
            for row in range(1, rows):
                mask[row, : int(draw.integers(1, recipe.tokens - 1))] = 0
        with _settings(model, recipe), torch.no_grad():
            with Capture(model, layers="all", sites="all", positions="all", top_k=0, sequences=[0]) as capture:
                self._passes(model, prompt, fed, mask, recipe)
        return capture

    def _passes(self, model, prompt, fed, mask, recipe):
        cache, chunk = transformers.DynamicCache(config=model.config), recipe.chunk or recipe.tokens
        steps = [fed[:, i : i + 1] for i in range(recipe.steps)]
        for ids in [*pieces(prompt, chunk), *steps]:
            past = cache.get_seq_length()
            more = {}
            if recipe.padded:
                ones = torch.ones(len(mask), max(0, past + ids.shape[1] - mask.shape[1]), dtype=mask.dtype)
                more["attention_mask"] = torch.cat([mask, ones], dim=1)[:, : past + ids.shape[1]]
                places = (more["attention_mask"].cumsum(1) - 1).clamp(min=0)
                more["position_ids"] = places[:, past:]
            model(input_ids=ids, past_key_values=cache, use_cache=True, **more)


def pieces(prompt, chunk):
    """A prompt in pieces of `chunk` tokens. A last one of one token, which would be a decode step, joins the others."""
    found = list(prompt.split(chunk, dim=1))
    if len(found) > 1 and found[-1].shape[1] == 1:
        found[-2:] = [torch.cat(found[-2:], dim=1)]
    return found


@contextlib.contextmanager
def _settings(model, recipe):
    threads, experts = torch.get_num_threads(), model.config._experts_implementation
    model.set_attn_implementation(recipe.attention)
    if recipe.experts:
        model.set_experts_implementation(recipe.experts)
    torch.set_num_threads(recipe.threads)
    try:
        with torch.backends.mkldnn.flags(enabled=recipe.onednn), _products(recipe.products):
            yield
    finally:
        torch.set_num_threads(threads)
        model.set_attn_implementation("eager")
        if recipe.experts:
            model.set_experts_implementation(experts)


@contextlib.contextmanager
def _products(kind):
    """Products of linear layers in another order of sums, rounded once."""
    wide = torch.float64 if kind == "f64" else torch.float32
    plain = torch.nn.functional.linear

    def linear(x, weight, bias=None):
        wide_x, wide_weight = x.to(wide), weight.to(wide)
        if kind == "f32 in two halves":
            half = x.shape[-1] // 2
            out = plain(wide_x[..., :half], wide_weight[:, :half]) + plain(wide_x[..., half:], wide_weight[:, half:])
        else:
            out = plain(wide_x, wide_weight)
        return (out if bias is None else out + bias.to(wide)).to(x.dtype)

    with contextlib.nullcontext() if kind == "own" else bugs.replaced(torch.nn.functional, "linear", linear):
        yield


def honest(case, draw):
    """A recipe without a bug. Half of the prompts are shorter than 32 tokens."""
    tokens = int(round(5 * 40 ** float(draw.random())))
    recipe = Recipe(tokens, steps=int(draw.integers(0, 5)))
    recipe.attention = _of(["eager", "sdpa"], int(draw.integers(2)))
    recipe.neighbours = _of([0, 1, 3], int(draw.integers(3)))
    recipe.padded = bool(recipe.neighbours and draw.integers(4) == 0)
    recipe.threads = int(draw.integers(1, 3))
    recipe.onednn = bool(draw.integers(2))
    if not recipe.padded and tokens >= 8 and draw.integers(3) == 0:
        recipe.chunk = int(draw.integers(2, tokens - 1))
    if case.family == "qwen3_moe":
        recipe.experts = _of(["grouped_mm", "eager", "batched_mm"], int(draw.integers(3)))
    recipe.products = _of(PRODUCTS, int(draw.integers(len(PRODUCTS))))
    return recipe


def effect_of(honest, wrong):
    """The first site that differs and the relative L2 distance of each of its positions; `None` where none does."""
    [a], [b] = ([run for _, runs in capture.batches() for run in runs] for capture in (honest, wrong))
    for site in wrong.sites:
        found = []
        for name in ("prefill", "decode"):
            if name not in a.phases:
                continue
            x, y = a.phases[name].tensors[site], b.phases[name].tensors[site]
            if np.array_equal(x.bits, y.bits):
                continue
            distances = distance(values(x), values(y))
            # Positions count from the end of the sequence at each step.
            end = len(a.prompt) + (name == "decode")
            for step, row in enumerate(distances):
                for place, far in zip(a.phases[name].positions, row):
                    found.append({"phase": name, "step": step, "position": end + step + place, "distance": float(far)})
        if found:
            largest = max(entry["distance"] for entry in found)
            return {"site": site, "largest": largest, "positions": [entry for entry in found if entry["distance"]]}
    return None


def values(tensor):
    """Bits of bf16 or f32 as binary64."""
    bits = tensor.bits
    return (bits.astype(np.uint32) << 16 if tensor.dtype == "bf16" else bits).view(np.float32).astype(np.float64)


def distance(a, b):
    """Relative to `a`. *Shape:* `[steps, positions, width]` to `[steps, positions]`."""
    return np.linalg.norm(a - b, axis=-1) / np.maximum(np.linalg.norm(a, axis=-1), np.finfo(np.float64).tiny)


def program(name):
    """The path of the program `mantissa`."""
    found = shutil.which(name)
    if not found:
        raise SystemExit(f"there is no program {name}; give the path of `mantissa` with --mantissa")
    return os.path.abspath(found)


def quiet():
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)


@contextlib.contextmanager
def on_path(mantissa):
    """The package asks the program of that name on the path for the digest of weights."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(mantissa, os.path.join(folder, "mantissa"))
        before = os.environ["PATH"]
        os.environ["PATH"] = os.pathsep.join([folder, before])
        try:
            yield
        finally:
            os.environ["PATH"] = before


def write_truth(out, seed, truths):
    """What earlier calls with the same seed made stays listed."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    head, path = {"seed": seed, "versions": versions}, os.path.join(out, "truth.json")
    cases = {}
    if os.path.exists(path):
        with open(path) as file:
            before = json.load(file)
        if {key: before[key] for key in head} != head:
            raise SystemExit(f"{path} is of another seed or of other versions; choose another --out")
        cases = {truth["case"]: truth for truth in before["cases"]}
    cases |= {truth["case"]: truth for truth in truths}
    with open(path + ".partial", "w") as file:
        json.dump(head | {"cases": list(cases.values())}, file, indent=1)
        file.write("\n")
    os.replace(path + ".partial", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", metavar="KIND", help="a kind of bug, `honest`, or the name of a case")
    parser.add_argument("--mantissa", default="mantissa", metavar="PROGRAM")
    parser.add_argument("--first", type=int, metavar="N", help="no more than N cases")
    args = parser.parse_args()
    args.mantissa = program(args.mantissa)
    quiet()
    with on_path(args.mantissa):
        workshop = Workshop(args.mantissa, args.out, args.seed)
        for case in every(args.only)[: args.first]:
            try:
                truth = workshop.make(case)
            except NoEffectError:
                print(f"{case.name}: the bug changes no bit in {DRAWS} draws; left out", flush=True)
                continue
            effect = truth.get("effect")
            print(case.name, f"{effect['site']} {effect['largest']:.2e}" if effect else "", flush=True)
            write_truth(args.out, args.seed, [truth])


if __name__ == "__main__":
    main()
