"""`record`: prompts through a transformers model into evidence, as `mantissa record` does it with its own engine.

Each repetition is a prompt of a whole batch in one pass, then decode steps of the whole batch; row 0 is kept. A
finished repetition is put on disk whole, under `.unfinished`. A record that was killed goes on after the last of them
and ends with the same bytes, clocks apart.
"""

import fcntl
import json
import os
import shutil
import statistics
import time

import torch

from . import container, observe, repetitions, weights
from .capture import ALL, POSITIONS, Capture
from .errors import CaptureError
from .evidence import TOOL, Experiment, to_store
from .prompts import Prompts, of_lists

UNFINISHED, PLAN = ".unfinished", "plan.json"


def record(
    model,
    prompts,
    out,
    *,
    batch_size=1,
    decode=30,
    forced=None,
    repetitions=3,
    neighbours=None,
    layers=None,
    sites=None,
    positions=POSITIONS,
    top_k=10,
    attention=None,
    cache="dynamic",
    expect=None,
    profile=False,
    beside=None,
    tokenizer=None,
    keep_text=True,
    name=None,
    checkpoint=None,
    hardware=None,
    progress=lambda text: None,
):
    """Records into the folder `out`, taking up what an earlier call with the same arguments left there.

    - `prompts`: lists of token ids, or `prompts.cut(…)`; each is a reference, run beside others in the batch.
    - `batch_size`: a number, or several: a configuration each. `forced`: ids to decode instead of greedy
      ones, of row 0, or a list for each row.
    - `attention`: set on the model first (`eager`, `sdpa`, `flash_attention_2`); `cache`: `dynamic` or `static`.
    - `expect`: what must have taken effect, beside batch size, attention and cache, which always must.
    - `profile`: kernels by name, from one extra pass. `beside`: a load on another stream (`streams.Beside`).

    Returns what was recorded: `{"directory", "reproducible", "resumed", "existed"}`.
    """
    if not isinstance(prompts, Prompts):
        prompts = of_lists(prompts, neighbours)
    sizes = [batch_size] if isinstance(batch_size, int) else list(batch_size)
    if forced is not None:
        # Of row 0 alone, or of each row.
        forced = [list(row) for row in forced] if forced and not isinstance(forced[0], int) else [list(forced)]
        decode = min(decode, *(len(row) for row in forced)) if len(forced) > 1 else min(decode, len(forced[0]))
    session = _Session(model, prompts, decode, forced, cache, beside)
    if attention is not None:
        model.set_attn_implementation(attention)
    asked = {"cache": cache, **(expect or {})} | ({"attention": attention} if attention else {})
    if beside is not None:
        asked["concurrent_streams"] = True
    looks = {"layers": layers, "sites": sites, "positions": positions, "top_k": top_k, "sequences": [0]}
    identity = weights.identify(Capture(model, **looks).anatomy.causal, checkpoint)
    plan = {
        "tool": TOOL,
        "weights_digest": identity.digest,
        "versions": observe.versions(),
        "environment": observe.machine(),
        "prompts": [[p.ids for p in prompts.batch(i, max(sizes))] for i in range(len(prompts.references))],
        "batch_size": sizes,
        "decode": decode,
        "forced": forced and [[int(token) for token in row] for row in forced],
        "repetitions": repetitions,
        "sites": Capture(model, **looks).sites,
        "positions": positions if positions == ALL else list(positions),
        "top_k": top_k,
        "attention": attention or getattr(model.config, "_attn_implementation", None),
        "asked": {axis: str(value) for axis, value in asked.items()},
        "profile": profile,
        "name": name,
        "text": bool(keep_text and tokenizer),
    }
    with _Folder(out, plan) as folder:
        if folder.finished:
            _, configurations, _ = container.read(out)
            return _result(out, configurations, 0, True)
        done, resumed = [], 0
        total = len(sizes) * len(prompts.references) * repetitions
        for size in sizes:
            for reference in range(len(prompts.references)):
                for rep in range(repetitions):
                    place = folder.place(f"bs{size}-ref{reference}-rep{rep}")
                    found = _agreed(container.is_complete(place))
                    resumed += found
                    progress(f"{len(done) + 1} of {total}: batch {size}, reference {reference}, repetition {rep}")
                    if not found:
                        expected = {**asked, "batch_size": size}
                        with Capture(model, expect=expected, **looks) as capture:
                            seconds = session.run(reference, size)
                        if profile and (rep, reference) == (0, 0):
                            capture.profile(lambda: session.run(reference, size, steps=1))
                        capture.beside = beside is not None and beside.overlapped
                        _save(place, capture, prompts, reference, rep, seconds, identity, name, hardware)
                    done.append(container.read(place))
        configurations, runs, metadata = _merge(done)
        if keep_text and tokenizer:
            for run in runs:
                run.prompt_text = tokenizer.decode(run.prompt)
                run.output_texts = [tokenizer.decode([token]) for token in run.output]
        container.write(out, metadata, configurations, runs)
        shutil.rmtree(os.path.join(out, UNFINISHED))
    return _result(out, configurations, resumed, False)


def _agreed(found):
    """Whether a repetition is on disk for every rank: one that is not has to be run by all."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return found
    everyone = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, found)
    return all(everyone)


def _result(out, configurations, resumed, existed):
    states = [c["mantissa"]["reproducibility"]["outcome"]["state"] for c in configurations]
    reproducible = "divergent" not in states
    return {"directory": out, "reproducible": reproducible, "resumed": resumed, "existed": existed}


class _Session:
    """The loop of prefill and decode."""

    def __init__(self, model, prompts, decode, forced, cache, beside):
        self.model, self.prompts, self.decode, self.forced = model, prompts, decode, forced
        self.cache, self.beside = cache, beside
        if cache not in ("dynamic", "static"):
            raise CaptureError(f"there is no cache '{cache}'", "use dynamic or static")

    def run(self, reference, size, steps=None):
        """One repetition; seconds."""
        began = time.monotonic()
        batch = [prompt.ids for prompt in self.prompts.batch(reference, size)]
        if self.beside is not None:
            with self.beside:
                self._run(batch, self.decode if steps is None else steps)
        else:
            self._run(batch, self.decode if steps is None else steps)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic() - began

    @torch.no_grad()
    def _run(self, batch, steps):
        device = next(self.model.parameters()).device
        length = max(map(len, batch))
        ids = torch.tensor([[0] * (length - len(row)) + row for row in batch], device=device)
        given = {"past_key_values": self._new_cache(length + steps), "use_cache": True}
        mask = None
        if any(len(row) < length for row in batch):
            mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in batch], device=device)
            given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        out = self.model(input_ids=ids, attention_mask=mask, **given)
        for step in range(steps):
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            for row, tokens in enumerate(self.forced or ()):
                token[row, 0] = int(tokens[step])
            token = token.to(device)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(batch), 1)], dim=1)
                given["position_ids"] = mask.sum(1, keepdim=True) - 1
            given["past_key_values"] = out.past_key_values
            out = self.model(input_ids=token, attention_mask=mask, **given)

    def _new_cache(self, capacity):
        if self.cache == "dynamic":
            return None
        from transformers import StaticCache

        return StaticCache(config=self.model.config, max_cache_len=capacity)


def _save(place, capture, prompts, reference, rep, seconds, identity, name, hardware):
    """One repetition as a container of its own, whole."""
    experiment = Experiment(capture, name, hardware=hardware, identity=identity)
    [conversation] = capture.conversations
    axes = experiment.axes(conversation)
    observe.check(capture.expect, axes)
    [run] = [run for _, runs in capture.batches() for run in runs]
    run.reference, run.rep, run.seconds = reference, rep, seconds
    run.source = prompts.references[reference].source
    for neighbour, prompt in zip(run.neighbours, prompts.neighbours[reference]):
        neighbour.source = prompt.source
    greedy = conversation.is_greedy(0, conversation.steps) is not False
    configuration = experiment.configuration(axes, experiment.further(axes, conversation), greedy, conversation)
    run.config_id = configuration["config_id"]
    configuration["mantissa"]["reproducibility"] = repetitions.reproducibility([run])
    metadata = experiment.metadata([run], [configuration])
    if os.path.exists(place):
        shutil.rmtree(place)
    container.write(place, metadata, [configuration], [run])


def _merge(done):
    """Configurations, runs to store and metadata of all repetitions."""
    groups = {}
    for _, [configuration], [run] in done:
        groups.setdefault(configuration["config_id"], []).append((configuration, run))
    configurations, stored = [], []
    for members in groups.values():
        configuration, runs = members[0][0], [run for _, run in members]
        extras = configuration["mantissa"]
        kernels = next((k for c, _ in members if (k := c["mantissa"]["observed"]["kernels"])), [])
        extras["observed"]["kernels"] = kernels
        # One repetition that was not greedy is enough.
        if any(c["mantissa"]["setup"]["decoding"] != "greedy" for c, _ in members):
            extras["setup"]["decoding"] = "teacher_forced"
        extras["reproducibility"] = repetitions.reproducibility(runs)
        seconds = [run.seconds for run in runs]
        extras["runtime"] = {
            "mean_seconds": statistics.fmean(seconds),
            "variance": statistics.variance(seconds) if len(seconds) > 1 else None,
            "per_repetition_seconds": seconds,
            "threads": torch.get_num_threads(),
        }
        configurations.append(configuration)
        stored += to_store(runs, extras["reproducibility"])
    metadata = done[0][0]
    configurations = Experiment.varied(configurations)
    variable = next((c.pop("variable") for c in configurations if "variable" in c), "none")
    for configuration in configurations:
        configuration.pop("variable", None)
    metadata["variable_tested"] = variable
    metadata["experiment_type"] = "reference" if variable == "none" else variable
    return configurations, stored, metadata


class _Folder:
    """The folder of a record while it is made: what was asked for, and who holds it."""

    def __init__(self, out, plan):
        self.out, self.plan = out, json.loads(json.dumps(plan))

    def __enter__(self):
        path = os.path.join(self.out, PLAN)
        if os.path.exists(path):
            with open(path) as file:
                found = json.load(file)
            if found != self.plan:
                other = sorted(key for key in {*found, *self.plan} if found.get(key) != self.plan.get(key))
                fault = f"{self.out} holds another record (other {', '.join(other)})"
                raise CaptureError(fault, "give another folder, or the arguments it was begun with")
        else:
            if os.path.isdir(self.out) and any(not n.startswith(".mantissa-") for n in os.listdir(self.out)):
                raise CaptureError(f"{self.out} holds something else", "give an empty folder, or a new one")
            os.makedirs(self.out, exist_ok=True)
            container.whole(path, [(json.dumps(self.plan, indent=1) + "\n").encode()])
        self.lock = open(path)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            raise CaptureError(
                f"another process records into {self.out}", "wait for it, or give another folder"
            ) from None
        for leftover in os.listdir(self.out):
            if leftover.startswith(".mantissa-"):
                os.remove(os.path.join(self.out, leftover))
        self.finished = container.is_complete(self.out)
        if self.finished:
            shutil.rmtree(os.path.join(self.out, UNFINISHED), ignore_errors=True)
        return self

    def __exit__(self, *_):
        self.lock.close()

    def place(self, name):
        return os.path.join(self.out, UNFINISHED, name)
