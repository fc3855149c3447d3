"""From captured runs to evidence: what is declared, what was observed, repetitions, and the file.

A setup is declared as it was observed. What the uniform schema has no field for stands by name in `setup.axes` where it
is not the default, so that a verifier without recipes for it says so and does not compare something else.
"""

import os

import torch

from . import container, observe, repetitions, settings, weights
from .errors import CaptureError

VERSION = "0.1.0"
TOOL = f"mantissa-forensics {VERSION}"
# Active clusters of the Hoppers that Mantissa's catalogs were measured on (sizes 1 to 16).
DIE = [132, 66, 39, 30, 22, 17, 15, 15, 9, 7, 7, 7, 7, 7, 7, 7]


def save(capture, path, *, name=None, checkpoint=None, tokenizer=None, keep_text=True, hardware=None):
    """Writes what `capture` kept as a container at `path`, a folder that is made.

    - `name`: what the model is called; default its folder's name. `checkpoint`: where its files are, if the model does
      not say.
    - `tokenizer`: for the text of prompts and outputs; `keep_text=False` leaves all text out and keeps the ids.
    - `hardware`: what the hardware is called; default what was found.

    *Errors:* `KnobError` where a setting that was expected did not take effect; nothing is written then.
    """
    experiment = Experiment(capture, name, checkpoint, hardware)
    runs, configurations = experiment.assemble(capture.batches())
    if keep_text and tokenizer is not None:
        for run in runs:
            run.prompt_text = tokenizer.decode(run.prompt)
            run.output_texts = [tokenizer.decode([token]) for token in run.output]
    container.write(path, experiment.metadata(runs, configurations), configurations, runs)
    return os.path.abspath(path)


class Experiment:
    """What is the same for all runs of a capture."""

    def __init__(self, capture, name=None, checkpoint=None, hardware=None, identity=None):
        self.capture, self.anatomy, self.watch = capture, capture.anatomy, capture.watch
        causal, config = self.anatomy.causal, self.anatomy.config
        self.facts = observe.model_facts(causal)
        self.devices = self.facts["devices"]
        self.cuda = all(device.type == "cuda" for device in self.devices)
        self.found = observe.devices(self.devices)
        self.environment = observe.machine()
        self.hardware = hardware or hardware_word(self.found)
        self.weights = identity or weights.identify(causal, checkpoint)
        self.name = name or os.path.basename(os.path.normpath(getattr(config, "_name_or_path", "") or "unnamed"))
        self.flags = flags()
        self.versions = observe.versions(*self._libraries())

    def _libraries(self):
        """Libraries beside PyTorch and transformers that took part."""
        quantization, attention = self.facts["quantization"], self.watch.attention_word(self.cuda)
        parts = {
            "bitsandbytes": "bnb" in quantization,
            "gptqmodel": "gptq" in quantization or "awq" in quantization,
            "torchao": "torchao" in quantization,
            "peft": self.weights.adapter is not None,
            "flash_attn": "flash_attention" in attention,
            "triton": bool(self.capture.compiled),
        }
        return [name for name, took_part in parts.items() if took_part]

    def assemble(self, batches):
        """Numbered runs to store, and configurations."""
        groups = {}
        for conversation, runs in batches:
            for index, run in enumerate(runs):
                axes = self.axes(conversation, index)
                observe.check(self.capture.expect, axes)
                further = self.further(axes, conversation)
                key = repr((sorted(axes.items()), sorted(further.items()), conversation.settings))
                groups.setdefault(key, (axes, further, []))[2].append((conversation, index, run))
        stored, configurations, names = [], [], {}
        for axes, further, members in groups.values():
            runs, greedy = self._number(members)
            configuration = self.configuration(axes, further, greedy, members[0][0])
            # Settings of generation are no part of a name.
            name = configuration["config_id"]
            names[name] = names.get(name, 0) + 1
            configuration["config_id"] += f"_settings{names[name]}" if names[name] > 1 else ""
            extras = configuration["mantissa"]
            extras["reproducibility"] = repetitions.reproducibility(runs)
            for run in runs:
                run.config_id = configuration["config_id"]
            configurations.append(configuration)
            stored += to_store(runs, extras["reproducibility"])
        return stored, self.varied(configurations)

    def axes(self, conversation, index=0):
        """What was found of each axis, for the `index`-th sequence kept of a conversation."""
        watch, capture = self.watch, self.capture
        formats = {name for site, pieces in conversation.columns_of.items() for _, name, _ in pieces if "x_out" in site}
        formats = formats or {observe.DTYPES[dtype] for dtype in watch.work_dtypes}
        if len(formats) > 1:
            raise CaptureError(f"block outputs are {', '.join(sorted(formats))}", "capture layers of one format")
        return {
            "dtype": formats.pop(),
            "attention": watch.attention_word(self.cuda),
            "compile": bool(capture.compiled) and capture.graphs > 0,
            "quantization": self.facts["quantization"],
            "batch_size": conversation.batch,
            "concurrent_streams": bool(getattr(capture, "beside", False)),
            "tp_size": self.facts["tp_size"],
            "ep_size": self.facts["ep_size"],
            "device": "+".join(str(device) for device in self.devices),
            "cache": watch.cache_word(),
            "padding": conversation.padding(conversation.rows[index]),
        }

    def further(self, axes, conversation):
        """Axes without a field of their own, where they are not what stock inference has."""
        out = dict(self.flags)
        if axes["cache"] not in ("dynamic", "none"):
            out["cache"] = axes["cache"]
        if axes["padding"] != "none":
            out["padding"] = axes["padding"]
        elif any(map(conversation.padding_of, range(conversation.batch))) and axes["attention"] != "eager":
            # Beside padded sequences an unpadded one has a mask too, and `sdpa` takes other kernels with one.
            out["mask"] = "of a padded batch"
        if len(conversation.chunks) > 1:
            out["prefill_chunks"] = ",".join(map(str, conversation.chunks))
        if self.watch.autocast:
            out["autocast"] = "+".join(sorted(self.watch.autocast))
        if self.watch.experts - {"grouped_mm"}:
            out["experts"] = "+".join(sorted(self.watch.experts))
        if self.weights.adapter:
            out["adapter"] = f"{self.weights.adapter} over {self.weights.base}"
        return out

    def configuration(self, axes, further, greedy, conversation):
        name = "_".join([self.hardware, f"bs{axes['batch_size']}", axes["attention"], axes["dtype"]])
        name += "" if axes["quantization"] == "none" else f"_{axes['quantization']}"
        name += "_compiled" if axes["compile"] else ""
        name += "_streams" if axes["concurrent_streams"] else ""
        name += f"_tp{axes['tp_size']}" if axes["tp_size"] > 1 else ""
        name += f"_ep{axes['ep_size']}" if axes["ep_size"] > 1 else ""
        name += "".join(f"_{axis}-{value.split()[0][:16]}" for axis, value in further.items())
        fixed = {axis: axes[axis] for axis in ("compile", "quantization", "tp_size", "ep_size", "concurrent_streams")}
        setup = {
            "model": {"id": self.name, "weights_digest": self.weights.digest},
            "hardware": self.hardware,
            "engine": "transformers",
            "engine_version": self.versions.get("transformers", ""),
            "dtype": axes["dtype"],
            "batch_size": axes["batch_size"],
            "attention": axes["attention"],
            **fixed,
            "cuda_version": self.versions.get("cuda"),
            "axes": further,
            **settings.choice(greedy, conversation.settings),
        }
        if not further:
            del setup["axes"]
        return {
            "config_id": name,
            "hardware": self.hardware,
            "provider": None,
            "variable_value": axes["batch_size"],
            "cuda_version": self.versions.get("cuda"),
            "torch_version": self.versions["torch"],
            "transformers_version": self.versions.get("transformers"),
            "flash_attn_version": self.versions.get("flash_attn"),
            "python_version": self.versions["python"],
            "fixed_params": {"attention_impl": axes["attention"], **fixed},
            "mantissa": {
                "setup": setup,
                "environment": self.environment,
                "recipes": self._recipes(conversation),
                "observed": self.observed(axes),
                "reproducibility": None,
            },
        }

    def observed(self, axes):
        """`configurations[i].mantissa.observed`."""
        capture, notes = self.capture, list(self.capture.notes)
        notes.append(f"weights: {self.weights.note}")
        if any(conversation.prefill_logits for conversation in capture.conversations):
            notes.append("logits of prompts were computed at the last position alone, and are not kept")
        words = {axis: str(value).lower() if isinstance(value, bool) else str(value) for axis, value in axes.items()}
        words |= {"weights": self.weights.of, "world_size": str(world_size())}
        if self.watch.experts:
            words["experts"] = "+".join(sorted(self.watch.experts))
        return {
            "axes": dict(sorted(words.items())),
            "versions": dict(sorted(self.versions.items())),
            "devices": self.found,
            "layers": self.facts["layers"],
            "kernels": capture.kernels,
            "notes": notes,
        }

    def metadata(self, runs, configurations):
        config, capture = self.anatomy.config, self.capture
        _, kv_heads, width = self.anatomy.heads
        layers = sorted({int(site[6:].split(".")[0]) for site in capture.sites if site.startswith("layer_")})
        phases = [phase for run in runs for phase in run.phases.values() if phase]
        variable = next((c["variable"] for c in configurations if "variable" in c), "none")
        for configuration in configurations:
            configuration.pop("variable", None)
        return {
            "experiment_type": "reference" if variable == "none" else variable,
            "variable_tested": variable,
            "model": self.name,
            "model_size": size_in_words(sum(p.numel() for p in self.anatomy.causal.parameters())),
            "architecture": "MoE" if self.anatomy.family.router else "dense",
            "sequence_length": max((len(run.prompt) for run in runs), default=0),
            "decode_steps": max((len(run.output) for run in runs), default=0),
            "extraction_config": {
                "layers": layers,
                "positions": list(phases[0].positions) if phases else [],
                "hidden_dim": config.hidden_size,
                "key_dim": kv_heads * width,
                "top_k_logprobs": capture.top_k,
            },
            "date_created": min((run.timestamp for run in runs if run.timestamp), default=None),
            "mantissa": {
                "format_version": container.FORMAT_VERSION,
                "tool": TOOL,
                "num_layers": len(self.anatomy.blocks),
                "vocab_size": config.vocab_size,
                "weights_digest": self.weights.digest,
                "config_digest": None,
            },
        }

    def _number(self, members):
        """References by what was fed (prompt, neighbours, row of the batch), repetitions in the order made."""
        references, counts, out, greedy = {}, {}, [], True
        for conversation, index, run in members:
            row = conversation.rows[index]
            key = (row, tuple(run.prompt), tuple(tuple(n.prompt) for n in run.neighbours))
            run.reference = references.setdefault(key, len(references))
            run.rep = counts.get(run.reference, 0)
            counts[run.reference] = run.rep + 1
            greedy &= self._cut(conversation, index, run) is not False
            out.append(run)
        return out, greedy

    def _cut(self, conversation, index, run):
        """Whether `run` is greedy. Behind the end of its text, `generate` feeds padding: those steps are left out."""
        ends = getattr(self.anatomy.causal, "generation_config", None)
        stops = getattr(ends, "eos_token_id", None)
        seen = conversation.settings
        if seen is not None:
            stops = seen.get("eos_token_id")
        stops = {stops} if isinstance(stops, int) else set(stops or ())
        for step, token in enumerate(run.output[:-1]):
            rest = run.output[step + 1 :]
            ended = seen is not None and conversation.batch > 1
            if token in stops and len(set(rest)) == 1 and (ended or conversation.is_greedy(index, step + 1)):
                if ended or not conversation.is_greedy(index, step + 2):
                    run.output = run.output[: step + 1]
                    run.phases["decode"] = _first_steps(run.phases["decode"], step + 1)
                break
        return conversation.is_greedy(index, len(run.output))

    def _recipes(self, conversation):
        """The log-softmax of log-probabilities, where Mantissa knows it: PyTorch's on a GPU, in binary32."""
        size = conversation.vocabulary
        if not self.cuda or not self.capture.top_k:
            return []
        recipe = log_softmax_recipe(size)
        phases = ["prefill"] * (conversation.prefill_logits is None) + ["decode"] * (conversation.steps > 0)
        kernel = {"op": "log_softmax", "m": 1, "n": size, "k": size, "recipe": recipe}
        return [{"phase": phase, **kernel} for phase in phases] if recipe else []

    @staticmethod
    def varied(configurations):
        """Fills `variable_value`, and names what differs."""
        setups = [c["mantissa"]["setup"] for c in configurations]
        flat = [{**s, **s.get("axes", {})} for s in setups]
        keys = sorted({key for setup in flat for key in setup} - {"model", "axes", "decoding", "generation"})
        varied = [key for key in keys if len({str(setup.get(key)) for setup in flat}) > 1]
        for configuration, setup in zip(configurations, flat):
            if varied:
                configuration["variable"] = ",".join(varied)
                values = {key: setup.get(key, "none") for key in varied}
                configuration["variable_value"] = values[varied[0]] if len(varied) == 1 else values
        return configurations


def to_store(runs, reproducibility):
    """Of identical repetitions the last, else all."""
    if reproducibility["outcome"]["state"] != "identical":
        return runs
    last = {}
    for run in runs:
        last[run.reference] = run
    return list(last.values())


def _first_steps(phase, steps):
    for tensor in phase.tensors.values():
        tensor.bits = tensor.bits[:steps]
    if phase.logprobs:
        phase.logprobs.token_ids = phase.logprobs.token_ids[:steps]
        phase.logprobs.log_probs = phase.logprobs.log_probs[:steps]
    phase.steps = steps
    return phase


def log_softmax_recipe(vocabulary):
    """What PyTorch launches for rows of binary32 that begin at aligned addresses (`nvidia/softmax.rs`); else `None`."""
    if vocabulary <= 2048:
        reduction = {"warp": 32}
    elif vocabulary <= 9216:
        reduction = {"block": 1024}
    elif vocabulary % 4:
        # Rows begin at addresses of all kinds, and each sums in an order of its own.
        return None
    else:
        # What is in shared memory reads as many at a time as what is not, from an aligned address.
        reduction = {"vector": 4, "threads": 1024} | ({} if vocabulary < SHARED_WORDS else {"shifted": True})
    return {"kernel": "torch_log_softmax", "reduction": reduction}


SHARED_WORDS = 12256


def hardware_word(found):
    """`h200`, `h100` where Mantissa has recipes for the devices; otherwise what a device calls itself."""
    words = set()
    for device in found:
        if device["device"] == "cpu":
            words.add("torch-cpu")
            continue
        slug = device["name"].lower().replace(" ", "-")
        known = {"nvidia-h200": "h200", "nvidia-h100-80gb-hbm3": "h100"}.get(slug)
        counts = device["clusters"]
        if known and counts and counts[0] == device["multiprocessors"] and counts != DIE:
            # Another die chooses other kernels.
            known = f"{slug}-clusters-{'-'.join(map(str, counts))}"
        words.add(known or slug)
    return "+".join(sorted(words))


def flags():
    """Switches of PyTorch that choose other kernels, where they are not at their default."""
    found = {}
    if not torch.cuda.is_available():
        if torch.get_float32_matmul_precision() != "highest":
            found["matmul_precision"] = torch.get_float32_matmul_precision()
        return found
    matmul = torch.backends.cuda.matmul
    defaults = {
        "allow_tf32": (matmul.allow_tf32, False),
        "bf16_reduced_precision": (matmul.allow_bf16_reduced_precision_reduction, True),
        "f16_reduced_precision": (matmul.allow_fp16_reduced_precision_reduction, True),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), False),
        "blas": (str(torch.backends.cuda.preferred_blas_library()).rpartition(".")[2].lower(), "default"),
    }
    for name, (value, default) in defaults.items():
        if value != default and not (name == "blas" and value in ("cublas", "default")):
            found[name] = str(value).lower()
    return found


def world_size():
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def size_in_words(parameters):
    """`135M`, `7.6B`: as Mantissa writes it."""
    unit, name = (
        (1_000, "K") if parameters < 1_000_000 else (1_000_000, "M") if parameters < 1_000_000_000 else (10**9, "B")
    )
    tenths = (parameters * 10 + unit // 2) // unit
    if tenths < 100 and tenths % 10:
        return f"{tenths // 10}.{tenths % 10}{name}"
    return f"{(tenths + 5) // 10}{name}"

