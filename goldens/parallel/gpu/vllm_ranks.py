"""One job of vLLM 0.24: `enforce_eager`, bf16 or f16, no prefix cache; tensor or expert parallel by its own workers.

    PYTHONPATH=SITE python3 vllm_ranks.py JOB MODEL OUT [--fake]

OUT/CELL: a container for each cell, heads of all ranks side by side. OUT/job.json: what workers say of themselves
(attention backend, who adds up ranks), kernels of one more pass by name. All prompts of a batch are handed over
together, the engine is in this process, and a batch's prompts fit one step. `--fake` takes the fake vLLM of the
package's tests, to try the script on a CPU.
"""

import json
import os
import sys
import time
import traceback

import plan

sys.path.insert(0, os.path.join(plan.ROOT, "python"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [plan.HERE, os.path.join(plan.ROOT, "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
os.environ |= {"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
# Symmetric memory would ask for NVLink multicast, which has to stay off where this runs.
os.environ |= {"VLLM_ALLREDUCE_USE_SYMM_MEM": "0", "VLLM_ALLREDUCE_USE_FLASHINFER": "0", "NCCL_NVLS_ENABLE": "0"}
os.environ["TORCH_SYMM_MEM_DISABLE_MULTICAST"] = "1"

from mantissa_forensics import VllmCapture, weights


class Trimmed(VllmCapture):
    """Leaves of a prompt's rows those at `keep`; one digest of the weights for all cells."""

    keep, identity = (), None

    def _runs(self, config_id, members, rank):
        return [plan.trim(run, self.keep) for run in super()._runs(config_id, members, rank)]

    def _identity(self, source):
        return self.identity


def load(job, model):
    from vllm import LLM

    dtype = {"bf16": "bfloat16", "f16": "float16"}[job.dtype]
    more = {"dtype": dtype, "enforce_eager": True, "enable_prefix_caching": False, "seed": 0}
    more |= {"skip_tokenizer_init": True, "max_model_len": 2304, "max_num_batched_tokens": 4096, "max_num_seqs": 16}
    # Other jobs share the GPU: how much is free says nothing.
    more |= {"gpu_memory_utilization": 0.05, "kv_cache_memory_bytes": 2 << 30}
    if job.ranks > 1:
        more |= {"tensor_parallel_size": job.ranks, "disable_custom_all_reduce": job.nccl}
        more |= {"distributed_executor_backend": "mp", "enable_expert_parallel": job.expert_parallel}
    more["worker_extension_cls"] = "extension.ParallelExtension"
    try:
        return LLM(model, **more)
    except Exception:
        if job.ranks == 1 or job.nccl:
            raise
        # Where GPUs cannot map each other's memory. The container says who adds up.
        traceback.print_exc()
        print("Error: once more, without vLLM's own all-reduce", flush=True)
        return LLM(model, **more | {"disable_custom_all_reduce": True})


def fake(job, model):
    """The LLM of the package's tests in vLLM's place; its vocabulary has 40 tokens."""
    from tests.fake_vllm import LLM

    from extension import ParallelExtension

    os.makedirs(model, exist_ok=True)
    with open(os.path.join(model, "config.json"), "w") as file:
        json.dump({"vocab_size": 40}, file)
    # No files of a checkpoint are there.
    return LLM(ParallelExtension, ranks=job.ranks, folder=os.path.join(model, "none"))


def generate(llm, lists, steps):
    """Greedily, all prompts together. The last token chosen is never fed: one more than steps."""
    given = [{"prompt_token_ids": ids} for ids in lists]
    more = {"temperature": 0.0, "max_tokens": steps + 1, "ignore_eos": True}
    if "vllm" not in sys.modules:
        from tests.fake_vllm import SamplingParams

        return llm.generate(given, SamplingParams(**more))
    from vllm import SamplingParams

    return llm.generate(given, SamplingParams(**more, detokenize=False), use_tqdm=False)


def captured(job, llm, model, name, cell, out, identity, faked):
    expect = {"compile": False, "batch_size": cell.batch}
    if not faked:
        expect |= {"dtype": job.dtype, "tp_size": job.ranks, "ep_size": job.ranks if job.expert_parallel else 1}
    looks = {"layers": "all", "sites": plan.sites(job, cell), "positions": [-1] if cell.logits else "all"}
    with Trimmed(llm, **looks, top_k=10, sequences=[0], expect=expect) as capture:
        capture.keep, capture.identity = cell.keep, identity
        for _ in range(plan.REPETITIONS):
            generate(llm, plan.prompts(cell, model), cell.decode)
    capture.save(os.path.join(out, name), name=job.model)
    states = {
        "make-ups": len({batch.makeup() for batch in capture.batches}),
        "together": all(batch.together() for batch in capture.batches),
        "notes": capture.notes,
        "seconds": [round(batch.seconds, 2) for batch in capture.batches],
    }
    return states, capture.facts


def main():
    faked = "--fake" in sys.argv
    given = [word for word in sys.argv[1:] if word != "--fake"]
    if len(given) != 3:
        sys.exit(__doc__)
    job, model, out = plan.BY_NAME[given[0]], *map(os.path.abspath, given[1:])
    if job.marlin:
        os.environ["VLLM_DISABLED_KERNELS"] = "MacheteLinearKernel"
    began, report = time.time(), {"job": job.name, "cells": {}}
    os.makedirs(out, exist_ok=True)

    def note(text):
        print(f"{time.time() - began:.1f} s: {text}", flush=True)
        with open(os.path.join(out, "job.json"), "w") as file:
            json.dump(report, file, indent=1, default=str)

    llm = (fake if faked else load)(job, model)
    note("loaded")
    why = "vLLM fuses weights while loading: the files are named, memory was not compared with them"
    digest = "0" * 64 if faked else weights.checkpoint_digest(model)
    identity = weights.Weights(digest, "checkpoint", why)
    generate(llm, [plan.tokens(8, 0, 40)], 1)
    note("warm")
    for name, cell in job.cells.items():
        try:
            report["cells"][name], report["facts"] = captured(job, llm, model, name, cell, out, identity, faked)
        except Exception as error:
            report["cells"][name] = f"{type(error).__name__}: {error}"[:600]
            traceback.print_exc()
        note(f"{name}: {json.dumps(report['cells'][name], default=str)[:300]}")
    if not faked:
        llm.collective_rpc("mantissa_kernels_begin")
        generate(llm, plan.prompts(plan.CELLS["l32"], model), 1)
        report["kernels"] = llm.collective_rpc("mantissa_kernels_end")
    note("ended")
    # Nothing is left to write, and an engine takes its time to end its workers: jobs.py does.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
