"""Whether the sum of two ranks in bf16 is a + b rounded once: NCCL's all-reduce, and vLLM's own.

    torchrun --nproc-per-node 2 collectives.py [--vllm]

Prints for each size how many values have other bits than round_bf16(a + b), with the two ranks' own bits compared too;
random values of several magnitudes, then zeros of both signs, NaN, infinities and subnormals against each other.
On a CPU by gloo, to try the script.
"""

import os
import sys

import torch
import torch.distributed as dist

SIZES = [576, 1024, 1536, 2048, 3584, 8192, 32 * 576, 32 * 2048, 32 * 3584, 333 * 1024, 333 * 3584, 1 << 20, 1 << 22]
RANK = int(os.environ["RANK"])


def bits(x):
    return x.contiguous().view(torch.int16).cpu()


def random_pair(size):
    """What the two ranks have: normal values whose scales differ by up to 2^8."""
    drawn = torch.Generator().manual_seed(size)
    make = lambda: torch.randn(size, generator=drawn) * torch.exp2(torch.randint(-8, 8, (size,), generator=drawn))
    return make().bfloat16(), make().bfloat16()


def special_pair():
    """Each special value against each; the count is a multiple of 8."""
    words = [0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x807F, 0x0080, 0x8080, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80]
    words += [0x7FC0, 0xFFC0, 0x7F81, 0x3F80, 0xBF80, 0x3F81, 0x0040, 0x8040, 0x00FF, 0x80FF, 0x4000, 0x3880]
    found = torch.tensor([w - 0x10000 if w >= 0x8000 else w for w in words], dtype=torch.int16).view(torch.bfloat16)
    return found.repeat_interleave(len(words)), found.repeat(len(words))


def check(name, reduce, device, pair, label):
    mine = pair[RANK].to(device)
    want = (pair[0].float() + pair[1].float()).bfloat16()
    got = reduce(mine)
    if got is None:
        return say(f"{name} {label}: not done (too large, or it is off)")
    found, wanted = bits(got), bits(want)
    nan = torch.isnan(want)
    differ = (found != wanted) & ~nan
    lost = nan & ~torch.isnan(got.cpu())
    others = [None, None]
    dist.all_gather_object(others, found.numpy().tobytes())
    tell = f"{name} {label}: {int(differ.sum())} of {len(want)} differ, {int(lost.sum())} NaN lost"
    tell += f", {int((nan & (found != wanted)).sum())} of {int(nan.sum())} NaN of other bits"
    say(f"{tell}, ranks {'agree' if others[0] == others[1] else 'DIFFER'}")
    for i in differ.nonzero()[:6, 0].tolist():
        words = [int(w[i]) & 0xFFFF for w in (bits(pair[0]), bits(pair[1]), found, wanted)]
        say("    {:04x} + {:04x}: {:04x}, rounded once {:04x}".format(*words))


def say(text):
    if RANK == 0:
        print(text, flush=True)


def every(name, reduce, device):
    for size in SIZES:
        check(name, reduce, device, random_pair(size), f"{size}")
    check(name, reduce, device, special_pair(), "special")
    big = [torch.cat([part] * 4000)[: 1 << 21] for part in special_pair()]
    check(name, reduce, device, big, "special, large")


def nccl():
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", RANK) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")

    def reduce(x):
        dist.all_reduce(x)
        return x

    every("nccl" if cuda else "gloo", reduce, device)


def vllm():
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.distributed.parallel_state import get_tp_group

    device = torch.device("cuda", RANK)
    torch.cuda.set_device(device)
    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(
            world_size=2, rank=RANK, local_rank=RANK, distributed_init_method="env://", backend="nccl"
        )
        initialize_model_parallel(tensor_model_parallel_size=2)
        group = get_tp_group()
        communicator = group.device_communicator
        custom, plain = getattr(communicator, "ca_comm", None), getattr(communicator, "pynccl_comm", None)
        say(f"custom all-reduce: {'none' if custom is None else 'off' if custom.disabled else 'on'}")
        if custom is not None and not custom.disabled:
            every("vllm custom", custom.custom_all_reduce, device)
        if plain is not None and not plain.disabled:
            every("vllm pynccl", plain.all_reduce, device)
        every("vllm group", group.all_reduce, device)


def main():
    (vllm if "--vllm" in sys.argv else nccl)()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
