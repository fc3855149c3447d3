"""Capture of vLLM's offline `LLM`: the engine's side. `worker` is the side of the ranks.

    llm = LLM(model, worker_extension_cls=WORKER, enforce_eager=True)
    with VllmCapture(llm) as c:
        llm.generate(prompts, sampling)
    c.save("evidence")

vLLM makes up its steps itself, and with worker processes time decides how. So the make-up of every step is part of the
setup: repetitions whose steps differ are configurations of their own, and only those of equal steps are compared as
repetitions. A record says which it was: other steps, or kernels that do not repeat.
"""

import contextlib
import json
import math
import os
import statistics
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from types import SimpleNamespace

import numpy as np

from .. import blake3, container, observe, repetitions, settings, weights
from ..container import Logprobs, Neighbour, Phase, Run, Tensor
from ..errors import CaptureError
from ..evidence import TOOL, hardware_word, size_in_words, to_store
from ..sites import chosen
from .worker import SHARDED, load_dump

WORKER = "mantissa_forensics.vllm.worker.WorkerExtension"
ALL = "all"
GRAPHED = ("final_norm", "logits")


class VllmCapture:
    """Keeps what each `generate` inside the `with` leaves; several calls with the same prompts are repetitions.

    `layers`, `sites`, `positions`, `top_k`, `sequences`, `expect` as those of `Capture`; with `positions="all"` logits
    and log-probabilities of decode steps alone are kept, since vLLM computes no others. `ranks`: `"gathered"` (heads
    of all tensor-parallel ranks side by side) or `"each"` (a container for each rank). `beside`: a load on another
    stream of the engine's own process (`streams.Beside`). Without `enforce_eager` modules cannot be seen: the newest
    position's `final_norm`, `logits` and log-probabilities are kept.
    """

    def __init__(
        self,
        llm,
        *,
        layers=None,
        sites=None,
        positions=None,
        top_k=10,
        sequences=None,
        expect=None,
        ranks="gathered",
        beside=None,
    ):
        if ranks not in ("gathered", "each"):
            raise CaptureError(f"there is no '{ranks}' of ranks", "use gathered or each")
        self.llm, self.top_k, self.sequences, self.ranks = llm, top_k, sequences, ranks
        self.expect = dict(expect or {})
        self.beside = beside
        if beside is not None:
            self.expect["concurrent_streams"] = True
        self._asked = (layers, sites)
        self.positions = sorted(positions) if positions not in (None, ALL) else positions
        self.batches, self.notes = [], []
        self._generate, self.facts = None, None

    def __enter__(self):
        self._generate = self.llm.generate
        self.llm.generate = self._looked
        return self

    def __exit__(self, *_):
        del self.llm.generate

    def _begin(self, prompt_logprobs=0):
        """Asks the ranks to look. `prompt_logprobs`: candidates that vLLM gives for each position of a prompt."""
        layers, points = self._asked
        probe = {"sites": [], "reach": 1, "top_k": 0, "eager": False}
        if self.facts is None:
            self.facts = self._rpc("mantissa_begin", probe)
            first = self.facts[0]
            if self.beside is not None and first["separate_workers"]:
                fault = "the engine runs in processes of its own, whose GPU a load of this process shares by turns"
                raise CaptureError(fault, "set VLLM_ENABLE_V1_MULTIPROCESSING=0, and use one GPU")
            self.eager = first["eager"]
            has = lambda layer, point: point != "router_topk" and (point != "router_logits" or first["moe"])
            if not self.eager:
                points = GRAPHED[:1] if points is None else points
                inside = [p for p in (points if points != "all" else ["x_out"]) if p not in GRAPHED]
                if inside:
                    fault = f"with CUDA graphs {inside[0]} cannot be seen"
                    raise CaptureError(fault, "give enforce_eager=True, or sites of final_norm and logits alone")
                if self.positions not in (None, [-1]):
                    fault = "with CUDA graphs the newest position alone is seen"
                    raise CaptureError(fault, "give positions=[-1], or enforce_eager=True")
            self.sites = chosen(layers, points, first["layers"], has)
            # Logits are there for the newest position of a prompt alone, log-probabilities for others if asked for.
            newest = "logits" in self.sites or prompt_logprobs < self.top_k
            if self.positions is None:
                self.positions = [-1] if newest or not self.eager else [-3, -2, -1]
            if self.positions not in ([-1], ALL) and newest:
                fault = "vLLM computes logits of a prompt's newest position alone"
                remedy = "give positions=[-1], or no logits and SamplingParams(prompt_logprobs=top_k) or top_k=0"
                raise CaptureError(fault, remedy)
        reach = sys.maxsize if self.positions == ALL else -self.positions[0]
        self._rpc("mantissa_begin", {"sites": self.sites, "reach": reach, "top_k": self.top_k, "eager": self.eager})

    def _rpc(self, method, *arguments):
        try:
            return self.llm.collective_rpc(method, args=arguments)
        except AttributeError as error:
            fault = f"the workers have no {method} ({error})"
            raise CaptureError(fault, f"make the LLM with worker_extension_cls='{WORKER}'") from None

    def _looked(self, *arguments, **more):
        sampling = more.get("sampling_params", arguments[1] if len(arguments) > 1 else None)
        self._begin(getattr(sampling, "prompt_logprobs", None) or 0)
        stamp, began = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"), time.monotonic()
        with self.beside or contextlib.nullcontext(), self._taken_over() as taken:
            outputs = self._generate(*arguments, **more)
        seconds = time.monotonic() - began
        ranks = [load_dump(found) for found in self._rpc("mantissa_collect")]
        batch = _Batch(ranks, outputs, stamp, seconds, settings=self._settings(taken, sampling))
        batch.overlapped = self.beside is not None and self.beside.overlapped
        self.batches.append(batch)
        return outputs

    @contextlib.contextmanager
    def _taken_over(self):
        """Sampling parameters of requests as the engine takes them over, with the model's own ends."""
        taken = []
        processor = getattr(getattr(self.llm, "llm_engine", None), "input_processor", None)
        if processor is None:
            yield taken
            return
        process = processor.process_inputs

        def looked(*arguments, **more):
            request = process(*arguments, **more)
            taken.append(request.sampling_params)
            return request

        processor.process_inputs = looked
        try:
            yield taken
        finally:
            del processor.process_inputs

    @staticmethod
    def _settings(taken, given):
        """Settings of generation that all requests of a call share; `None` where they are not known."""
        given = given if isinstance(given, (list, tuple)) else [given]
        found = [settings.of_vllm(params) for params in taken or given if params is not None]
        if any(one != found[0] for one in found):
            raise CaptureError("prompts of one call have settings of their own", "call generate for each of them")
        return found[0] if found else None

    # ---- evidence ----------------------------------------------------------------------------------------------------

    def save(self, path, *, name=None, checkpoint=None, tokenizer=None, keep_text=True, hardware=None):
        """Writes a container at `path`, or with `ranks="each"` one at `path/rankN` for each rank."""
        if not self.batches:
            raise CaptureError("nothing was generated", "call llm.generate inside the `with`")
        facts = self.facts[0]
        identity = self._identity(checkpoint or facts["model"])
        if self.ranks == "each":
            for rank in range(len(self.facts)):
                self._write(os.path.join(path, f"rank{rank}"), rank, name, identity, tokenizer, keep_text, hardware)
        else:
            self._write(path, None, name, identity, tokenizer, keep_text, hardware)
        return os.path.abspath(path)

    def _identity(self, source):
        if os.path.exists(source):
            note = "vLLM fuses weights while loading: the files are named, memory was not compared with them"
            return weights.Weights(weights.checkpoint_digest(source), "checkpoint", note)
        return weights.Weights(None, "unknown", "the files of the checkpoint are not here")

    def _write(self, path, rank, name, identity, tokenizer, keep_text, hardware):
        runs, configurations = self.assemble(rank, name, identity, hardware)
        if keep_text and tokenizer is not None:
            for run in runs:
                run.prompt_text = tokenizer.decode(run.prompt)
                run.output_texts = [tokenizer.decode([token]) for token in run.output]
        container.write(path, self._metadata(runs, configurations, name, identity), configurations, runs)

    def assemble(self, rank, name, identity, hardware):
        """Runs to store and configurations: one for each make-up of steps."""
        groups = {}
        for number, batch in enumerate(self.batches):
            batch.same_on_all_ranks(self.notes)
            groups.setdefault((batch.makeup(), repr(batch.settings)), []).append((number, batch))
        by_prompts = {}
        for (makeup, _), members in groups.items():
            by_prompts.setdefault(members[0][1].prompts(), set()).add(makeup)
        stored, configurations, names = [], [], {}
        for (makeup, _), members in groups.items():
            others = len(by_prompts[members[0][1].prompts()])
            axes = self._axes([batch for _, batch in members])
            observe.check(self.expect, axes)
            configuration = self._configuration(axes, makeup, members, others, name, identity, hardware)
            # Settings of generation are no part of a name.
            name_of = configuration["config_id"]
            names[name_of] = names.get(name_of, 0) + 1
            configuration["config_id"] += f"_settings{names[name_of]}" if names[name_of] > 1 else ""
            runs = self._runs(configuration["config_id"], members, rank)
            extras = configuration["mantissa"]
            extras["reproducibility"] = repetitions.reproducibility(runs)
            if extras["reproducibility"]["outcome"]["state"] == "divergent":
                extras["observed"]["notes"].append("repetitions of equal steps differ: a kernel does not repeat")
            seconds = [batch.seconds for _, batch in members]
            extras["runtime"] = {
                "mean_seconds": statistics.fmean(seconds),
                "variance": statistics.variance(seconds) if len(seconds) > 1 else None,
                "per_repetition_seconds": seconds,
                "threads": None,
            }
            configurations.append(configuration)
            stored += to_store(runs, extras["reproducibility"])
        return stored, configurations

    def _runs(self, config_id, members, rank):
        runs, references, counts = [], {}, {}
        for _, batch in members:
            names = batch.names()
            rows = range(len(names)) if self.sequences is None else self.sequences
            for row in rows:
                run = batch.run(row, self.positions, rank, self.facts[0])
                key = (row, tuple(run.prompt), tuple(tuple(n.prompt) for n in run.neighbours))
                run.config_id, run.reference = config_id, references.setdefault(key, len(references))
                run.rep = counts.get(run.reference, 0)
                counts[run.reference] = run.rep + 1
                runs.append(run)
        return runs

    def _axes(self, batches):
        facts = self.facts[0]
        return {
            "dtype": observe.WORDS.get(facts["dtype"], facts["dtype"]),
            "attention": "+".join(facts["attention"]) or "unknown",
            "compile": facts["compile"],
            "quantization": facts["quantization"],
            "batch_size": len(batches[0].names()),
            "concurrent_streams": all(batch.overlapped for batch in batches),
            "tp_size": facts["tp_size"],
            "ep_size": facts["ep_size"],
            "device": facts["device"],
            "cache": "paged" if facts["cache_dtype"] == "auto" else f"paged-{facts['cache_dtype']}",
            "padding": "none",
        }

    def _configuration(self, axes, makeup, members, others, name, identity, hardware):
        facts = self.facts[0]
        devices = [device for rank in self.facts for device in rank["devices"]]
        word = hardware or hardware_word(devices)
        steps = blake3.digest(repr(makeup).encode())[:16]
        # All prompts whole in one step is what a batch means; anything else is an axis of the setup.
        own = others > 1 or not members[0][1].together()
        further = {
            "steps": steps if own else "none",
            "cudagraph": facts["cudagraph"],
            "batch_invariant": str(facts["batch_invariant"]).lower(),
        }
        further = {axis: value for axis, value in further.items() if value not in ("none", "false")}
        if axes["cache"] != "paged":
            further["cache"] = axes["cache"]
        if facts["tp_size"] > 1:
            further["all_reduce"] = facts["all_reduce"]
        config_id = "_".join(["vllm", word, f"bs{axes['batch_size']}", axes["attention"], axes["dtype"]])
        config_id += "" if axes["quantization"] == "none" else f"_{axes['quantization']}"
        config_id += "_compiled" if axes["compile"] else ""
        config_id += "_streams" if axes["concurrent_streams"] else ""
        config_id += f"_tp{axes['tp_size']}" if axes["tp_size"] > 1 else ""
        config_id += f"_ep{axes['ep_size']}" if axes["ep_size"] > 1 else ""
        config_id += f"_steps-{steps}" if len({b.makeup() for b in self.batches}) > 1 else ""
        notes = [f"weights: {identity.note}", *self.notes]
        if others > 1:
            fault = f"the same prompts ran in steps of {others} make-ups, which may leave other bits"
            notes.append(f"{fault}: a configuration each")
        fixed = {axis: axes[axis] for axis in ("compile", "quantization", "tp_size", "ep_size", "concurrent_streams")}
        versions = facts["versions"]
        observed = {"axes": {axis: str(v).lower() if isinstance(v, bool) else str(v) for axis, v in axes.items()}}
        observed["axes"] |= {
            "all_reduce": facts["all_reduce"],
            "batch_invariant": str(facts["batch_invariant"]).lower(),
            "cudagraph": facts["cudagraph"],
            "enforce_eager": str(facts["eager"]).lower(),
            "async_scheduling": str(facts["async_scheduling"]).lower(),
            "flash_attention": facts["flash_attention"],
            "model_runner": facts["model_runner"],
            "pp_size": str(facts["pp_size"]),
            "prefix_caching": str(facts["prefix_caching"]).lower(),
            "steps": steps,
            "worker_processes": str(facts["separate_workers"]).lower(),
            "weights": identity.of,
        }
        step_list = [step for number, b in enumerate(batch for _, batch in members) for step in b.steps(number)]
        observed |= {
            "versions": versions,
            "devices": devices,
            "layers": facts["linear"],
            "kernels": [],
            "steps": step_list,
            "notes": notes,
        }
        return {
            "config_id": config_id,
            "hardware": word,
            "provider": None,
            "variable_value": steps if others > 1 else axes["batch_size"],
            "cuda_version": versions.get("cuda"),
            "torch_version": versions["torch"],
            "transformers_version": versions.get("transformers"),
            "flash_attn_version": versions.get("flash_attn"),
            "python_version": versions["python"],
            "fixed_params": {"attention_impl": axes["attention"], **fixed},
            "mantissa": {
                "setup": {
                    "model": {"id": name or os.path.basename(facts["model"]), "weights_digest": identity.digest},
                    "hardware": word,
                    "engine": "vllm",
                    "engine_version": versions.get("vllm", ""),
                    "dtype": axes["dtype"],
                    "batch_size": axes["batch_size"],
                    "attention": axes["attention"],
                    **fixed,
                    "cuda_version": versions.get("cuda"),
                    "axes": further,
                    **settings.choice(all(b.greedy() for _, b in members), members[0][1].settings),
                },
                "environment": observe.machine(),
                "recipes": [],
                "observed": observed,
                "reproducibility": None,
            },
        }

    def _metadata(self, runs, configurations, name, identity):
        facts = self.facts[0]
        varied = len({c["mantissa"]["setup"]["axes"].get("steps") for c in configurations}) > 1
        variable = "steps" if varied else "none"
        return {
            "experiment_type": "reference" if variable == "none" else variable,
            "variable_tested": variable,
            "model": name or os.path.basename(facts["model"]),
            "model_size": _size(facts),
            "architecture": "MoE" if facts["moe"] else "dense",
            "sequence_length": max(len(run.prompt) for run in runs),
            "decode_steps": max((run.phases["decode"].steps for run in runs if run.phases.get("decode")), default=0),
            "extraction_config": {
                "layers": sorted({int(s[6:].split(".")[0]) for s in self.sites if s.startswith("layer_")}),
                "positions": list(runs[0].phases["prefill"].positions),
                "hidden_dim": facts["hidden_size"],
                "key_dim": facts["heads"][1] * facts["heads"][2],
                "top_k_logprobs": self.top_k,
            },
            "date_created": min(batch.stamp for batch in self.batches),
            "mantissa": {
                "format_version": container.FORMAT_VERSION,
                "tool": TOOL,
                "num_layers": facts["layers"],
                "vocab_size": facts["vocab_size"],
                "weights_digest": identity.digest,
                "config_digest": None,
            },
        }


def _size(facts):
    """Parameters in words: of the checkpoint's files, since vLLM packs what it loads. Packed files tell none."""
    if facts["quantization"] != "none":
        return "unknown"
    if not os.path.isdir(facts["model"]):
        return size_in_words(facts["parameters"] * facts["tp_size"])
    from safetensors import safe_open

    count = 0
    for path in weights.files(facts["model"]):
        if path.endswith(".safetensors"):
            with safe_open(path, framework="np") as file:
                count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    return size_in_words(count) if count else "unknown"


class _Batch:
    """What one call of `generate` left on every rank."""

    overlapped = False

    def __init__(self, ranks, outputs, stamp, seconds, settings=None):
        self.settings = settings
        self.ranks = sorted(ranks, key=lambda rank: rank["rank"])
        self.outputs, self.stamp, self.seconds = outputs, stamp, seconds
        if len(self.names()) != len(outputs):
            fault = f"{len(outputs)} outputs of {len(self.names())} requests"
            raise CaptureError(fault, "give each prompt one output (n=1), and let no prompt be preempted")

    def names(self):
        """Requests in the order of their prompts: an `LLM` numbers them, a server's are as they began."""
        names = list(self.ranks[0]["requests"])
        return sorted(names, key=_number) if all(name.split("-")[0].isdigit() for name in names) else names

    def prompts(self):
        return tuple(tuple(self.ranks[0]["requests"][name]["prompt"]) for name in self.names())

    def makeup(self):
        """Steps, with requests by place: what has to be equal for repetitions to repeat."""
        place = {name: i for i, name in enumerate(self.names())}
        return tuple(tuple((place[n], c, t) for n, c, t in step) for step in self.ranks[0]["steps"]), self.prompts()

    def together(self):
        """Whether the first step had every prompt, whole."""
        first = self.ranks[0]["steps"][0] if self.ranks[0]["steps"] else []
        whole = {name: len(kept["prompt"]) for name, kept in self.ranks[0]["requests"].items()}
        return {name: tokens for name, _, tokens in first} == whole

    def steps(self, repetition):
        out = []
        for number, step in enumerate(self.makeup()[0]):
            requests = [{"request": str(i), "computed": c, "tokens": t} for i, c, t in step]
            out.append({"repetition": repetition, "step": number, "requests": requests})
        return out

    def greedy(self):
        """Whether every token chosen is that with the largest log-probability, where those were kept."""
        for row, name in enumerate(self.names()):
            kept = self.ranks[0]["requests"][name]
            best = kept["rows"].get("logprobs.token_ids")
            if best is None:
                continue
            first, _, bits = best
            tokens = list(self.outputs[row].outputs[0].token_ids)
            for step, token in enumerate(tokens):
                at = len(kept["prompt"]) - 1 + step - first
                if 0 <= at < len(bits) and int(bits[at][0]) != token:
                    return False
        return True

    def same_on_all_ranks(self, notes):
        """Notes where ranks hold other bits of what all of them compute."""
        for rank in self.ranks[1:]:
            for name in self.names():
                mine, theirs = self.ranks[0]["requests"][name]["rows"], rank["requests"][name]["rows"]
                for site in theirs:
                    if site.split(".")[-1] not in SHARDED and site in mine:
                        if not np.array_equal(mine[site][2], theirs[site][2]):
                            note = f"rank {rank['rank']} holds other bits of {site} than rank 0"
                            if note not in notes:
                                notes.append(note)

    def run(self, row, positions, rank, facts):
        """The run of the `row`-th prompt: of one rank, or with the heads of all side by side."""
        names = self.names()
        kept = self.ranks[0]["requests"][names[row]]
        prompt, output = list(kept["prompt"]), [int(t) for t in self.outputs[row].outputs[0].token_ids]
        whole = positions == ALL
        # Earlier positions of a decode step are those of the prompt and of earlier steps.
        positions, later = (list(range(-len(prompt), 0)), [-1]) if whole else (positions, positions)
        if kept["cached"] and kept["cached"] > len(prompt) + positions[0]:
            fault = f"{kept['cached']} tokens of a prompt were in the prefix cache, and their rows were not computed"
            raise CaptureError(fault, "give enable_prefix_caching=False")
        sites = self._sites(names[row], rank, facts)
        if not whole and positions != [-1] and "logprobs.token_ids" in sites:
            sites |= self._prompt_logprobs(sites, self.outputs[row].prompt_logprobs, len(prompt) + positions[0])
        last = max((first + len(bits) for first, _, bits in sites.values()), default=len(prompt))
        # With asynchronous scheduling a step may run whose token nobody asked for.
        steps = min(last - len(prompt), len(output))
        fed = kept["fed"]
        for position, token in fed.items():
            stated = (prompt + output)[position] if position < len(prompt) + len(output) else token
            if stated != token:
                fault = f"the model was given token {token} at position {position}, the request has {stated}"
                raise CaptureError(fault, "use vLLM 0.24")
        of_prompt = {s: rows for s, rows in sites.items() if not (whole and s.startswith("log"))}
        phases = {"prefill": _phase(of_prompt, [len(prompt)], positions, facts["vocab_size"])}
        if steps > 0:
            ends = [len(prompt) + step + 1 for step in range(steps)]
            phases["decode"] = _phase(sites, ends, later, facts["vocab_size"])
        neighbours = []
        for other, name in enumerate(names):
            if other != row:
                tokens = [int(t) for t in self.outputs[other].outputs[0].token_ids]
                neighbours.append(Neighbour(list(self.ranks[0]["requests"][name]["prompt"]), tokens))
        return Run("", 0, 0, prompt, output, phases, neighbours, timestamp=self.stamp, seconds=self.seconds)

    @staticmethod
    def _prompt_logprobs(sites, given, begin):
        """Candidates at a prompt's positions from `begin` on: vLLM's own before the last, whose logits were seen.

        vLLM lists them with the token that they led to: entry p + 1 is the distribution that follows position p. They
        are binary32 numbers, in order of rank; the prompt's own token may stand behind them.
        """
        first, _, ids = sites["logprobs.token_ids"]
        k, rows = ids.shape[1], []
        for position in range(begin, first):
            ranked = sorted((entry.rank, token, entry.logprob) for token, entry in given[position + 1].items())[:k]
            rows.append(ranked)
        tokens = np.array([[token for _, token, _ in row] for row in rows], np.uint32).reshape(-1, k)
        values = np.array([[value for _, _, value in row] for row in rows], np.float32).reshape(-1, k)
        found = {}
        for site, before in (("logprobs.token_ids", tokens), ("logprobs.log_probs", values.view(np.uint32))):
            found[site] = begin, sites[site][1], np.concatenate([before, sites[site][2]])
        return found

    def _sites(self, name, rank, facts):
        if rank is not None:
            return dict(self.ranks[rank]["requests"][name]["rows"])
        sites = dict(self.ranks[0]["requests"][name]["rows"])
        for site in [s for s in sites if s.split(".")[-1] in SHARDED]:
            first, form, _ = sites[site]
            parts = [r["requests"][name]["rows"][site][2] for r in self.ranks]
            query_heads, kv_heads, width = facts["heads"]
            heads = query_heads if site.endswith(".q") else kv_heads
            # Where there are more ranks than KV heads, each head is on several of them.
            copies = max(1, len(parts) * parts[0].shape[1] // (heads * width))
            sites[site] = first, form, np.concatenate(parts[::copies], axis=1)
        return sites


def _phase(sites, ends, positions, vocabulary):
    def window(site):
        first, _, bits = sites[site]
        return np.stack([np.stack([bits[end + p - first] for p in positions]) for end in ends])

    tensors = {s: Tensor(sites[s][1], window(s)) for s in sites if not s.startswith("logprobs")}
    logprobs = None
    if "logprobs.token_ids" in sites:
        logprobs = Logprobs(window("logprobs.token_ids"), window("logprobs.log_probs"), vocabulary)
    return Phase(len(ends), list(positions), tensors, logprobs)


def _number(name):
    """vLLM's request ids begin with a number that counts up: `7`, `7-9f2c…`."""
    return int(name.split("-")[0])


class VllmServerCapture(VllmCapture):
    """The same of a running server, from beside it: what requests inside the `with` leave on its ranks.

        VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --worker-extension-cls mantissa_forensics.vllm.worker.WorkerExtension \\
            --enforce-eager --no-enable-prefix-caching
        c = VllmServerCapture("http://localhost:8000", "/tmp/dumps")
        with c: …send requests…
        c.save("evidence")

    `folder` has to be one that the server's ranks and this process see. Each `with` is a batch; several with the same
    prompts are repetitions. The server's own switch for development opens `/collective_rpc`: do not leave it on.
    """

    def __init__(self, url, folder, **more):
        super().__init__(None, **more)
        self.url, self.folder = url.rstrip("/"), folder

    def __enter__(self):
        self._begin()
        if not self.eager:
            raise CaptureError("with CUDA graphs a server's tokens cannot be seen", "start it with --enforce-eager")
        self._stamp, self._began = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"), time.monotonic()
        return self

    def __exit__(self, kind, *_):
        seconds = time.monotonic() - self._began
        os.makedirs(self.folder, exist_ok=True)
        ranks = [load_dump(where["path"]) for where in self._rpc("mantissa_dump", os.path.abspath(self.folder))]
        for where in os.listdir(self.folder):
            if where.startswith("rank") and where.endswith(".npz"):
                os.remove(os.path.join(self.folder, where))
        if kind is not None:
            return
        if not ranks[0]["requests"]:
            raise CaptureError("the server had no request", "send some inside the `with`")
        # Of what was chosen, what was fed is known.
        tokens = lambda kept: [kept["fed"][p] for p in sorted(kept["fed"]) if p >= len(kept["prompt"])]
        outputs = [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens(kept))]) for kept in ranks[0]["requests"].values()
        ]
        self.batches.append(_Batch(ranks, outputs, self._stamp, seconds))

    def _rpc(self, method, *arguments):
        words = [json.dumps(a) if isinstance(a, dict) else a for a in arguments]
        body = json.dumps({"method": method, "args": words}).encode()
        request = urllib.request.Request(
            self.url + "/collective_rpc", body, {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["results"]
        except (urllib.error.URLError, ValueError, KeyError) as error:
            fault = f"{self.url} does not answer {method} ({error})"
            raise CaptureError(
                fault, f"start it with VLLM_SERVER_DEV_MODE=1 and --worker-extension-cls {WORKER}"
            ) from None


def record_vllm(llm, prompts, out, *, decode=30, repetitions=3, sampling=None, **more):
    """Records `prompts` (lists of ids) handed over together, `repetitions` times, greedily, `decode` steps.

    Returns `{"directory", "reproducible", "cause"}`: where repetitions differ, the cause is `steps` (they were made up
    differently, and nothing is known of the kernels) or `kernels` (of equal steps some do not repeat).
    """
    saving = {k: more.pop(k) for k in ("name", "checkpoint", "tokenizer", "keep_text", "hardware") if k in more}
    if container.is_complete(out):
        _, configurations, _ = container.read(out)
        return {"directory": out, **verdict(configurations)}
    if sampling is None:
        from vllm import SamplingParams

        # The last token chosen is never fed: one more than steps.
        sampling = SamplingParams(temperature=0.0, max_tokens=decode + 1, ignore_eos=True)
    with VllmCapture(llm, **more) as capture:
        for _ in range(repetitions):
            llm.generate([{"prompt_token_ids": [int(t) for t in ids]} for ids in prompts], sampling)
    capture.save(out, **saving)
    first = os.path.join(out, "rank0") if capture.ranks == "each" else out
    _, configurations, _ = container.read(first)
    return {"directory": out, **verdict(configurations)}


def verdict(configurations):
    """Whether repetitions agreed, and what made them part."""
    states = [c["mantissa"]["reproducibility"]["outcome"]["state"] for c in configurations]
    if "divergent" in states:
        return {"reproducible": False, "cause": "kernels"}
    return {"reproducible": len(configurations) == 1, "cause": "steps" if len(configurations) > 1 else None}
