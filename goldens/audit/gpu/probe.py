"""Log-probabilities by the kernels that vLLM 0.24's two model runners call, of drawn logits (drawn.py).

    PYTHONPATH=SITE python3 probe.py OUT

OUT/probe.npz: by dtype and vocabulary, bits of what the Triton kernel (runner V2) and PyTorch's log_softmax (V1) give,
tl.exp and tl.log of single values; OUT/probe-*.ptx: what was compiled. OUT/probe.json: versions.
"""

import importlib.util
import json
import os
import sys
import traceback

import numpy as np
import torch
import triton
import triton.language as tl

import drawn


@triton.jit
def exp_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(out_ptr + at, tl.exp(x), mask=at < n)


@triton.jit
def log_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=1.0)
    tl.store(out_ptr + at, tl.log(x), mask=at < n)


def single(kernel, x):
    given = torch.from_numpy(x).cuda()
    out = torch.empty_like(given)
    kernel[(triton.cdiv(len(x), 1024),)](given, out, len(x), BLOCK=1024)
    return out.cpu().numpy().view(np.uint32)


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    results, notes = {}, {"torch": torch.__version__, "triton": triton.__version__, "errors": []}
    from vllm.v1.worker.gpu.sample import logprob

    def attempt(name, function):
        try:
            results[name] = function()
        except Exception as error:
            notes["errors"].append(f"{name}: {type(error).__name__}: {error}"[:400])
            traceback.print_exc()

    attempt("exp", lambda: single(exp_kernel, drawn.exponents()))
    attempt("log", lambda: single(log_kernel, drawn.sums()))
    for half in (1, 0):
        for vocabulary in drawn.VOCABULARIES:
            x = torch.from_numpy(drawn.logits(vocabulary, half)).cuda()
            x = x.to(torch.bfloat16) if half else x
            ids = torch.from_numpy(drawn.tokens(vocabulary, half)).cuda()
            name = f"{'bf16' if half else 'f32'}-{vocabulary}"
            bits = lambda y: y.contiguous().cpu().numpy().view(np.uint32)
            attempt(f"{name}-triton", lambda: bits(logprob.compute_token_logprobs(x, ids)))
            attempt(f"{name}-torch", lambda: bits(x.log_softmax(dim=-1, dtype=torch.float32).gather(-1, ids)))
            if vocabulary % 64:
                # As vLLM has them where the vocabulary is padded to 64: a part of wider rows.
                wide = x.new_zeros(len(x), -(-vocabulary // 64) * 64)
                wide[:, :vocabulary] = x
                cut = wide[:, :vocabulary]
                attempt(f"{name}-cut-triton", lambda: bits(logprob.compute_token_logprobs(cut, ids)))
                attempt(f"{name}-cut-torch", lambda: bits(cut.log_softmax(dim=-1, dtype=torch.float32).gather(-1, ids)))
        one = torch.from_numpy(drawn.logits(49152, half, 3)).cuda()
        one = one.to(torch.bfloat16) if half else one
        for row in range(3):
            ids = torch.from_numpy(drawn.tokens(49152, half)[row : row + 1]).cuda()
            name = f"{'bf16' if half else 'f32'}-one{row}"
            alone = one[row : row + 1]
            attempt(f"{name}-triton", lambda: bits(logprob.compute_token_logprobs(alone, ids)))
    count = 0
    try:
        caches = [getattr(logprob._topk_log_softmax_kernel, "device_caches", {})]
        for cache in caches:
            for entry in cache.values():
                for kernel in (entry[0] if isinstance(entry, tuple) else entry).values():
                    with open(os.path.join(out, f"probe-{count}.ptx"), "w") as file:
                        file.write(kernel.asm["ptx"])
                    count += 1
    except Exception as error:
        notes["errors"].append(f"ptx: {error}")
    notes["kernels"] = count
    np.savez_compressed(os.path.join(out, "probe.npz"), **results)
    with open(os.path.join(out, "probe.json"), "w") as file:
        json.dump(notes, file, indent=1)
    print(f"{len(results)} arrays, {count} kernels, {len(notes['errors'])} errors", flush=True)


if __name__ == "__main__":
    main()
