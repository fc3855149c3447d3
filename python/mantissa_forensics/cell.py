"""A configuration of a plan, as `mantissa run` starts it:

    python -m mantissa_forensics.cell SPEC.json OUT

SPEC.json says all of it (docs/run.md): backend, model, prompts by ids, setup, signals, repetitions. OUT becomes a
container. With several processes (torchrun) the first one writes it. What cannot be set, or was set and did not take
effect, ends with one line on standard error and code 2; repetitions that differ are recorded and end with 1.
"""

import contextlib
import json
import os
import sys

from .errors import CaptureError
from .prompts import Prompt, Prompts
from .sites import DEFAULT_POINTS, POINTS

FORMAT = "mantissa-cell/1"
SDPA = {
    "sdpa_flash": "FLASH_ATTENTION",
    "sdpa_math": "MATH",
    "sdpa_cudnn": "CUDNN_ATTENTION",
    "sdpa_efficient": "EFFICIENT_ATTENTION",
}


def read(path):
    """A spec. *Errors:* a file that is none, or of another version."""
    try:
        with open(path, encoding="utf-8") as file:
            spec = json.load(file)
    except (OSError, ValueError) as error:
        raise CaptureError(f"{path}: cannot be read ({error})", "let `mantissa run` write it") from None
    if not isinstance(spec, dict) or spec.get("format") != FORMAT:
        raise CaptureError(f"{path}: is not of format {FORMAT}", "use a mantissa and a package of the same version")
    return spec


def prompts_of(spec):
    of = lambda written: Prompt(list(written["ids"]), written.get("source"))
    return Prompts([of(p) for p in spec["references"]], [[of(p) for p in beside] for beside in spec["neighbours"]])


def signals_of(spec):
    """`layers`, `sites`, `positions` and `top_k` as captures take them: block outputs, keys, and what is asked for."""
    signals = spec["signals"]
    sites = [point for point in POINTS if point in {*DEFAULT_POINTS, *signals["sites"]}]
    kept = {name: signals[name] for name in ("positions", "top_k")}
    return {"layers": signals.get("layers"), "sites": sites, **kept}


def run(spec, out, progress=lambda text: None):
    """Records the configuration; `{"directory", "reproducible"}`."""
    backends = {"transformers": _transformers, "vllm": _vllm}
    if spec["backend"] not in backends:
        raise CaptureError(f"there is no backend '{spec['backend']}' here", f"use one of {', '.join(backends)}")
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    return backends[spec["backend"]](spec, out, progress)


# ---- transformers ----------------------------------------------------------------------------------------------------


def _transformers(spec, out, progress):
    import torch
    import transformers

    from .recording import record

    setup = spec["setup"]
    attention, ranks = setup["attention"], setup["tp_size"]
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[setup["dtype"]]
    place = {"pretrained_model_name_or_path": spec["model"]}
    if spec["model"].endswith(".gguf"):
        folder, name = os.path.split(spec["model"])
        place = {"pretrained_model_name_or_path": folder or ".", "gguf_file": name}
    place["attn_implementation"] = "sdpa" if attention in SDPA else attention
    if ranks > 1:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world != ranks:
            raise CaptureError(f"{ranks} ranks were asked for and {world} run", "start it by torch.distributed.run")
        place["tp_plan"] = "auto"
    model = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=dtype).eval()
    if ranks == 1 and torch.cuda.is_available() and model.device.type == "cpu":
        model = model.cuda()
    if setup["compile"]:
        model = torch.compile(model)
    forced = contextlib.nullcontext()
    if attention in SDPA:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        forced = sdpa_kernel([getattr(SDPBackend, SDPA[attention])])
    beside = None
    if setup["concurrent_streams"]:
        from .streams import Beside

        beside = Beside()
    expect = {axis: setup[axis] for axis in ("dtype", "compile", "concurrent_streams", "tp_size")}
    expect["attention"] = attention
    if setup["quantization"] != "none":
        expect["quantization"] = setup["quantization"]
    signals = signals_of(spec)
    if setup["compile"]:
        # Inside compiled code nothing can be seen.
        signals |= {"sites": ["logits"], "layers": None}
    first = int(os.environ.get("RANK", "0")) == 0
    with forced:
        return record(
            model,
            prompts_of(spec),
            out if first else f"{out}.rank{os.environ['RANK']}",
            batch_size=setup["batch_size"],
            decode=spec["decode"],
            repetitions=spec["repetitions"],
            expect=expect,
            beside=beside,
            checkpoint=spec["model"] if os.path.exists(spec["model"]) else None,
            tokenizer=_tokenizer(spec["model"]),
            progress=progress,
            **signals,
        )


def _tokenizer(model):
    """The model's tokenizer; none where transformers finds none."""
    import transformers

    with contextlib.suppress(Exception):
        return transformers.AutoTokenizer.from_pretrained(model)
    return None


# ---- vLLM ------------------------------------------------------------------------------------------------------------


def _vllm(spec, out, progress):
    # In this process the prompts of a batch are there before the first step, and other streams run at the same time.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM

    from .vllm.capture import WORKER, record_vllm

    setup = spec["setup"]
    [reference], [beside] = spec["references"][:1], spec["neighbours"][:1]
    if len(spec["references"]) > 1:
        raise CaptureError("vLLM records one reference at a time", "say references = 1 in the plan")
    # Sequences of a step are sequences handed over together.
    batch = [reference["ids"], *(prompt["ids"] for prompt in beside[: setup["batch_size"] - 1])]
    longest = max(map(len, batch)) + spec["decode"] + 1
    more = {"dtype": {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[setup["dtype"]]}
    if setup["attention"] != "default":
        more["attention_backend"] = setup["attention"]
    if setup["ep_size"] > 1:
        more |= {"enable_expert_parallel": True, "tensor_parallel_size": setup["ep_size"]}
    else:
        more["tensor_parallel_size"] = setup["tp_size"]
    llm = LLM(
        spec["model"],
        worker_extension_cls=WORKER,
        enforce_eager=not setup["compile"],
        max_model_len=longest,
        max_num_batched_tokens=max(len(batch) * longest, 2048),
        max_num_seqs=max(len(batch), 2),
        enable_prefix_caching=False,
        seed=0,
        **more,
    )
    progress(f"loaded; {len(batch)} sequences")
    signals = signals_of(spec)
    # vLLM has logits of the newest position alone; in decode earlier positions are earlier steps' newest.
    signals["positions"] = [-1]
    if setup["compile"]:
        signals["sites"], signals["layers"] = None, None
    expect = {"compile": setup["compile"], "tp_size": more["tensor_parallel_size"], "batch_size": len(batch)}
    expect |= {"dtype": setup["dtype"], "ep_size": setup["ep_size"]}
    if setup["attention"] != "default":
        expect["attention"] = setup["attention"]
    if setup["quantization"] != "none":
        expect["quantization"] = setup["quantization"]
    beside = None
    if setup["concurrent_streams"]:
        from .streams import Beside

        beside = Beside()
    return record_vllm(
        llm,
        batch,
        out,
        decode=spec["decode"],
        repetitions=spec["repetitions"],
        sequences=[0],
        expect=expect,
        beside=beside,
        checkpoint=spec["model"] if os.path.exists(spec["model"]) else None,
        **signals,
    )


def main(arguments=None):
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 2:
        print("usage: python -m mantissa_forensics.cell SPEC.json OUT", file=sys.stderr)
        return 2
    try:
        done = run(read(words[0]), words[1], lambda text: print(text, flush=True))
    except CaptureError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if done["reproducible"] else 1


if __name__ == "__main__":
    sys.exit(main())
