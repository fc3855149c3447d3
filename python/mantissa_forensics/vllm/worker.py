"""What runs inside a worker of vLLM: `LLM(worker_extension_cls="mantissa_forensics.vllm.worker.WorkerExtension")`.

vLLM adds the class to its own worker's bases and calls its methods on every rank (`collective_rpc`). Names begin with
`mantissa_`, since vLLM refuses an extension that has a name of its own. Between `mantissa_begin` and `mantissa_collect`
each step is looked at: which requests it has and how many tokens of each, then the rows of the wanted positions at the
wanted sites, cloned at once (vLLM's fused addition works in place).

Which row belongs to which request is not assumed: positions and ids that the model was given are kept and compared with
what the scheduler said. With CUDA graphs modules are not called in a replayed step; `compute_logits` is, whose input is
the last norm's output at the newest position of each request and whose result is the logits.
"""

import io
import json
import os

import numpy as np
import torch

from .. import observe
from ..drain import Drain
from ..errors import CaptureError
from ..sites import split

# Outside modules, seen with CUDA graphs too.
OUTSIDE = ("final_norm", "logits")
# Of one rank's heads alone; all else is the same on every rank.
SHARDED = ("q", "k", "v")


class WorkerExtension:
    """Methods that vLLM's workers get."""

    def mantissa_begin(self, spec):
        """Starts to look. `spec`: sites, reach, top_k; JSON from a server. Returns what can be told before a pass."""
        spec = json.loads(spec) if isinstance(spec, str) else spec
        if getattr(self, "_mantissa", None) is not None:
            self._mantissa.close()
        self._mantissa = Look(self, spec)
        return facts(self)

    def mantissa_collect(self):
        """Ends it. Returns what this rank kept, as bytes for `load_dump`: they pass between processes as they are."""
        look, self._mantissa = self._mantissa, None
        file = io.BytesIO()
        _write(file, look.collect())
        return file.getvalue()

    def mantissa_dump(self, folder):
        """As `mantissa_collect`, into a file in `folder`: what a server answers has to be small. Returns where."""
        look, self._mantissa = self._mantissa, None
        found = look.collect()
        path = os.path.join(folder, f"rank{found['rank']}.npz")
        with open(path, "wb") as file:
            _write(file, found)
        return {"rank": found["rank"], "path": path}


def _write(file, found):
    arrays, index = {}, {"rank": found["rank"], "steps": found["steps"], "requests": {}}
    for number, (name, kept) in enumerate(found["requests"].items()):
        sites = {}
        for site, (first, form, bits) in kept["rows"].items():
            arrays[f"{number}/{site}"] = bits
            sites[site] = [first, form]
        fed = sorted(kept["fed"].items())
        index["requests"][name] = {"prompt": kept["prompt"], "fed": fed, "cached": kept["cached"], "rows": sites}
    np.savez(file, index=np.frombuffer(json.dumps(index).encode(), np.uint8), **arrays)


def load_dump(source):
    """`{"rank", "steps", "requests"}`, arrays as numpy, of bytes of `mantissa_collect` or a file of `mantissa_dump`."""
    with np.load(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        index = json.loads(file["index"].tobytes())
        for number, kept in enumerate(index["requests"].values()):
            kept["fed"] = {int(position): token for position, token in kept["fed"]}
            kept["rows"] = {s: (first, form, file[f"{number}/{s}"]) for s, (first, form) in kept["rows"].items()}
    index["steps"] = [[tuple(part) for part in step] for step in index["steps"]]
    return index


class Look:
    """Hooks on one rank's model and runner."""

    def __init__(self, worker, spec):
        self.runner = worker.model_runner
        self.model = worker.get_model()
        self.rank = getattr(worker, "rank", 0)
        self.sites, self.reach, self.top_k = spec["sites"], spec["reach"], spec["top_k"]
        if int(worker.vllm_config.parallel_config.pipeline_parallel_size) > 1:
            raise CaptureError("pipeline stages hold some of the layers alone", "use pipeline_parallel_size=1")
        self.drain, self.pieces = Drain(limit=spec.get("memory_limit", 8 << 30)), []
        # Make-up of each step, and per request its prompt, what was fed, and rows by site.
        self.steps, self.requests = [], {}
        self.now, self._undo = None, []
        self.eager = spec["eager"]
        self._install()

    # ---- steps -------------------------------------------------------------------------------------------------------

    def _step(self, output):
        """Begins a step: what the scheduler said of it."""
        for new in output.scheduled_new_reqs:
            ids = list(new.prompt_token_ids)
            # A prefix that was cached by another request is not computed, and its rows are not there.
            fresh = {"prompt": ids, "fed": {}, "rows": {}, "cached": int(new.num_computed_tokens)}
            self.requests.setdefault(new.req_id, fresh)
        cached = output.scheduled_cached_reqs
        computed = {new.req_id: int(new.num_computed_tokens) for new in output.scheduled_new_reqs}
        computed |= {name: int(n) for name, n in zip(cached.req_ids, cached.num_computed_tokens)}
        if output.scheduled_spec_decode_tokens:
            fault = "speculative decoding feeds tokens that may be thrown away"
            raise CaptureError(fault, "capture without a speculative_config")
        if not output.num_scheduled_tokens:
            self.now = None
            return
        self.now = _Step(computed, {name: int(n) for name, n in output.num_scheduled_tokens.items()})

    def _end(self):
        """Ends a step, if one is open."""
        if self.now is not None and self.now.order is not None:
            makeup = [(name, self.now.computed[name], self.now.tokens[name]) for name in self.now.order]
            self.steps.append(makeup)
        self.drain.take(self.pieces)
        self.pieces, self.now = [], None

    def _order(self):
        """Requests in the order of their rows: known when inputs are prepared, which is before the model is called."""
        now = self.now
        if now.order is None:
            batch = getattr(self.runner, "input_batch", None) or self._prepared
            if batch is None:
                fault = f"a model runner of the kind {type(self.runner).__name__} is not known"
                raise CaptureError(fault, "use vLLM 0.24")
            now.lay_out([name for name in batch.req_ids if name in now.tokens], self.requests, self.reach)
        return now

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def _install(self):
        runner = self.runner
        execute = runner.execute_model

        def executed(output, *arguments, **more):
            self._end()
            if more.get("dummy_run"):
                return execute(output, *arguments, **more)
            self._step(output)
            done = False
            try:
                result = execute(output, *arguments, **more)
                done = True
            finally:
                # Model runner V2 computes logits when tokens are sampled: the step is open until then.
                if not (done and result is None and self.now is not None and not self.now.chosen):
                    self._end()
            return result

        self._replace(runner, "execute_model", executed)
        if hasattr(runner, "sample_tokens"):
            sample = runner.sample_tokens

            def sampled(*arguments, **more):
                try:
                    return sample(*arguments, **more)
                finally:
                    self._end()

            self._replace(runner, "sample_tokens", sampled)
        self._prepared = None
        if not hasattr(runner, "input_batch") and hasattr(runner, "prepare_inputs"):
            prepare = runner.prepare_inputs

            def prepared(*arguments, **more):
                self._prepared = prepare(*arguments, **more)
                return self._prepared

            self._replace(runner, "prepare_inputs", prepared)
        self._replace(self.model, "compute_logits", self._logits(self.model.compute_logits))
        if not self.eager:
            return
        self._hook(self.model.register_forward_pre_hook(self._given, with_kwargs=True))
        inner = self.model.model
        by_layer = {}
        for site in self.sites:
            layer, point = split(site)
            by_layer.setdefault(layer, set()).add(point)
        if "embed_out" in by_layer.get(None, ()):
            self._after(inner.embed_tokens, "embed_out")
        if "final_norm" in by_layer.get(None, ()):
            self._after(inner.norm, "final_norm")
        for layer, points in by_layer.items():
            if layer is not None:
                self._block(inner.layers[layer - 1], f"layer_{layer}.", points)

    def _block(self, block, at, points):
        lacking = [n for n in ("self_attn", "post_attention_layernorm") if not hasattr(block, n)]
        # Mixtral's experts have a name of their own.
        mlp = next((getattr(block, n) for n in ("mlp", "block_sparse_moe") if hasattr(block, n)), None)
        lacking += ["mlp"] if mlp is None else []
        lacking += [] if hasattr(getattr(block, "self_attn", None), "attn") else ["self_attn.attn"]
        if lacking:
            fault = f"blocks of the kind {type(block).__name__} lack {', '.join(lacking)}"
            raise CaptureError(fault, "only models with the modules of vLLM's Llama are known")
        if "x_in" in points:
            self._before(block, at + "x_in", lambda x: _sum(*_hidden(*x)))
        if {"q", "k", "v"} & points:

            def attended(_, arguments, more):
                named = dict(zip(("query", "key", "value"), arguments), **more)
                for point, name in (("q", "query"), ("k", "key"), ("v", "value")):
                    if point in points:
                        self._put(at + point, named[name].reshape(named[name].shape[0], -1))

            self._hook(block.self_attn.attn.register_forward_pre_hook(attended, with_kwargs=True))
        if "attn_out" in points:
            self._after(block.self_attn.o_proj, at + "attn_out")
        if {"x_after_attn", "ffn_norm"} & points:

            def normed(_, inputs, output):
                for point, x in zip(("ffn_norm", "x_after_attn"), output):
                    if point in points:
                        self._put(at + point, x)

            self._hook(block.post_attention_layernorm.register_forward_hook(normed))
        if "router_logits" in points:
            gate = getattr(mlp, "gate", None)
            if gate is None:
                raise CaptureError(f"{at}mlp has no router", "leave router_logits out, or choose other layers")
            self._after(gate, at + "router_logits")
        if "mlp_out" in points:
            self._after(mlp, at + "mlp_out")
        if "x_out" in points:
            self._hook(block.register_forward_hook(lambda _, inputs, output: self._put(at + "x_out", _sum(*output))))

    def _given(self, _, arguments, more):
        """Ids and positions that the model is given."""
        if self.now is None:
            return
        named = dict(zip(("input_ids", "positions"), arguments), **more)
        ids, places = named.get("input_ids"), named.get("positions")
        if ids is None:
            raise CaptureError("the model was given embeddings, whose token ids nobody knows", "feed token ids")
        now = self._order()
        for name, rows in now.rows.items():
            kept = self.requests[name]
            fed = lambda _, bits, kept=kept, at=now.computed[name]: kept["fed"].update(
                {at + i: int(token) for i, token in enumerate(bits)}
            )
            where = lambda _, bits, kept=kept, at=now.computed[name]: _check_places(bits, at)
            self.pieces.append((ids[rows].to(torch.int32), fed))
            self.pieces.append((places.reshape(-1)[rows].to(torch.int32), where))

    def _after(self, module, site):
        take = lambda _, inputs, output: self._put(site, output[0] if isinstance(output, tuple) else output)
        self._hook(module.register_forward_hook(take))

    def _before(self, module, site, part):
        def hook(_, arguments, more):
            self._put(site, part((arguments, more)))

        self._hook(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _put(self, site, x):
        """Keeps the wanted rows of a step's `[rows, width]`."""
        if self.now is None:
            return
        now = self._order()
        for name, rows in now.kept.items():
            self._keep(name, site, now.first[name], x[rows])

    def _keep(self, name, site, first, rows):
        kept = self.requests[name]["rows"]
        done = lambda form, bits: kept.setdefault(site, []).append((first, form, bits))
        self.pieces.append((rows.detach().clone(memory_format=torch.contiguous_format), done))

    def _logits(self, compute):
        def computed(hidden, *arguments, **more):
            logits = compute(hidden, *arguments, **more)
            now = self.now
            # The first call of a step is that of the tokens to choose; later ones are of prompts' log-probabilities.
            if now is None or now.chosen:
                return logits
            now.chosen = True
            now = self._order()
            if hidden.shape[0] != len(now.order):
                fault = f"logits of {hidden.shape[0]} rows in a step of {len(now.order)} requests"
                raise CaptureError(fault, "capture without speculative decoding")
            for i, name in enumerate(now.order):
                newest = now.computed[name] + now.tokens[name] - 1
                if newest < len(self.requests[name]["prompt"]) - 1:
                    continue
                if not self.eager and "final_norm" in self.sites:
                    self._keep(name, "final_norm", newest, hidden[i : i + 1])
                # Ranks other than the first may have none.
                if logits is not None:
                    if "logits" in self.sites:
                        self._keep(name, "logits", newest, logits[i : i + 1])
                    if self.top_k:
                        found = torch.log_softmax(logits[i : i + 1].float(), dim=-1).topk(self.top_k, dim=-1)
                        self._keep(name, "logprobs.token_ids", newest, found.indices.to(torch.int32))
                        self._keep(name, "logprobs.log_probs", newest, found.values)
            return logits

        return computed

    def _hook(self, handle):
        self._undo.append(handle.remove)

    def _replace(self, owner, name, value):
        before = owner.__dict__.get(name)
        # A module's own attribute table would refuse a function under a method's name.
        object.__setattr__(owner, name, value)
        self._undo.append(
            lambda: object.__setattr__(owner, name, before) if before is not None else object.__delattr__(owner, name)
        )

    def close(self):
        while self._undo:
            self._undo.pop()()

    def collect(self):
        self._end()
        self.close()
        self.drain.finish()
        requests = {}
        for name, kept in self.requests.items():
            sites = {}
            for site, pieces in kept["rows"].items():
                pieces.sort(key=lambda piece: piece[0])
                ends = [first + len(bits) for first, _, bits in pieces]
                if any(first != end for (first, _, _), end in zip(pieces[1:], ends)):
                    fault = f"rows of {site} were computed twice or not at all: a request was preempted"
                    raise CaptureError(fault, "give vLLM more memory for its cache, or fewer or shorter prompts")
                sites[site] = (pieces[0][0], pieces[0][1], np.concatenate([bits for _, _, bits in pieces]))
            requests[name] = {**kept, "rows": sites}
        return {"rank": self.rank, "steps": self.steps, "requests": requests}


class _Step:
    """One step: requests, their tokens before it and in it, and where their rows are."""

    def __init__(self, computed, tokens):
        self.computed, self.tokens = computed, tokens
        self.order, self.chosen = None, False
        # By request: all its rows; the kept ones, and the position of the first of these.
        self.rows, self.kept, self.first = {}, {}, {}

    def lay_out(self, order, requests, reach):
        self.order, at = order, 0
        if sorted(order) != sorted(self.tokens):
            fault = "the runner's batch does not have the requests that the scheduler named"
            raise CaptureError(fault, "use vLLM 0.24")
        for name in order:
            count, before = self.tokens[name], self.computed[name]
            self.rows[name] = slice(at, at + count)
            skip = min(count, max(0, len(requests[name]["prompt"]) - reach - before))
            if skip < count:
                self.kept[name], self.first[name] = slice(at + skip, at + count), before + skip
            at += count


def _check_places(bits, at):
    if not np.array_equal(bits, np.arange(at, at + len(bits), dtype=bits.dtype)):
        raise CaptureError("a row is not of the position that the scheduler named", "use vLLM 0.24")


def _hidden(arguments, more):
    """`hidden_states` and `residual` of a block's call: `forward(positions, hidden_states, residual)`."""
    named = dict(zip(("positions", "hidden_states", "residual"), arguments), **more)
    return named["hidden_states"], named.get("residual")


def _sum(hidden, residual=None):
    """The residual stream: vLLM's blocks hand on what is to be added and what it is to be added to."""
    return hidden if residual is None else hidden + residual


# ---- facts -----------------------------------------------------------------------------------------------------------


def facts(worker):
    """What a worker says about itself. What it does not say is left out."""
    config, model = worker.vllm_config, worker.get_model()
    attention, flash, linear = set(), set(), {}
    for name, module in model.named_modules():
        backend = getattr(module, "attn_backend", None)
        if backend is not None and hasattr(backend, "get_name"):
            attention.add(backend.get_name())
            if version := getattr(getattr(module, "impl", None), "vllm_flash_attn_version", None):
                flash.add(str(version))
            continue
        if (method := getattr(module, "quant_method", None)) is not None:
            linear.setdefault(_block_star(name), set()).add(_method_word(method))
    parallel, compilation = config.parallel_config, config.compilation_config
    model_config = config.model_config
    return {
        "rank": getattr(worker, "rank", 0),
        "attention": sorted(attention),
        "flash_attention": "+".join(sorted(flash)) or "none",
        "linear": {name: "+".join(sorted(words)) for name, words in sorted(linear.items())},
        "all_reduce": all_reduce(parallel),
        "batch_invariant": batch_invariant(),
        "eager": bool(model_config.enforce_eager),
        "cudagraph": _word(getattr(compilation, "cudagraph_mode", None)),
        "compile": not model_config.enforce_eager and _word(getattr(compilation, "mode", None)) not in ("none", "0"),
        "dtype": str(model_config.dtype).removeprefix("torch."),
        "cache_dtype": str(config.cache_config.cache_dtype),
        "prefix_caching": bool(config.cache_config.enable_prefix_caching),
        "quantization": quantization(str(model_config.quantization or "none"), config, linear),
        "model_runner": "v2" if ".gpu.model_runner" in type(worker.model_runner).__module__ else "v1",
        "async_scheduling": bool(getattr(getattr(config, "scheduler_config", None), "async_scheduling", False)),
        "tp_size": int(parallel.tensor_parallel_size),
        "pp_size": int(parallel.pipeline_parallel_size),
        "ep_size": int(parallel.tensor_parallel_size) if parallel.enable_expert_parallel else 1,
        "model": str(model_config.model),
        "layers": int(model_config.hf_config.num_hidden_layers),
        "vocab_size": int(model_config.hf_config.vocab_size),
        "hidden_size": int(model_config.hf_config.hidden_size),
        "heads": [
            int(model_config.hf_config.num_attention_heads),
            int(model_config.hf_config.num_key_value_heads),
            int(
                getattr(model_config.hf_config, "head_dim", None)
                or model_config.hf_config.hidden_size // model_config.hf_config.num_attention_heads
            ),
        ],
        "moe": bool(
            getattr(model_config.hf_config, "num_experts", 0) or getattr(model_config.hf_config, "num_local_experts", 0)
        ),
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(getattr(worker, "device", "cpu")),
        "separate_workers": _separate_workers(),
        "versions": {n: str(v) for n, v in observe.versions("vllm", "triton", "flash_attn", "flashinfer").items()},
        "devices": observe.devices([torch.device(getattr(worker, "device", None) or "cpu")]),
    }


def _method_word(method):
    """How a layer's products are computed: the method's class, and the kernel or backend that it chose."""
    word = type(method).__name__
    if (kernel := getattr(method, "kernel", None)) is not None:
        word += f"/{type(kernel).__name__}"
    for name in ("unquantized_backend", "wna16_moe_backend"):
        if (backend := getattr(method, name, None)) is not None:
            word += f"/{getattr(backend, 'name', backend)}"
    return word


def quantization(asked, config, linear):
    """How linear layers are stored, by the methods that they have; `asked` is what vLLM's configuration says."""
    if not any(not word.startswith("Unquantized") for words in linear.values() for word in words):
        return "none"
    if asked == "bitsandbytes":
        known = config.quant_config
        if getattr(known, "load_in_8bit", False):
            return "bnb-int8"
        return f"bnb-{getattr(known, 'bnb_4bit_quant_type', '4bit')}"
    for word in ("awq", "gptq"):
        if word in asked:
            return word
    return asked


def _word(value):
    """The last word of an enumeration's value: `CUDAGraphMode.FULL` as `full`."""
    return str(value).rpartition(".")[2].lower()


def _block_star(name):
    parts = name.split(".")
    return ".".join("*" if part.isdigit() else part for part in parts)


def all_reduce(parallel):
    """Who adds up the ranks' sums: names of the communicators that are on, in the order in which they are tried."""
    if parallel.tensor_parallel_size == 1:
        return "none"
    try:
        from vllm.distributed.parallel_state import get_tp_group

        communicator = get_tp_group().device_communicator
    except (ImportError, AssertionError):
        return "unknown"
    names = ("qr_comm", "fi_ar_comm", "ca_comm", "symm_mem_comm", "pynccl_comm")
    there = [name for name in names if getattr(communicator, name, None) is not None]
    on = [name for name in there if not getattr(getattr(communicator, name), "disabled", False)]
    return "+".join(name.removesuffix("_comm") for name in on) or "torch"


def batch_invariant():
    """Whether vLLM's batch-invariant mode is on: as vLLM reads its variable, else the variable."""
    try:
        from vllm import envs

        return bool(envs.VLLM_BATCH_INVARIANT)
    except (ImportError, AttributeError):
        return os.environ.get("VLLM_BATCH_INVARIANT", "0") not in ("", "0")


def _separate_workers():
    import multiprocessing

    return multiprocessing.parent_process() is not None
