"""Inputs that a CPU makes again: integers hashed from their place, in exact floating point."""

import numpy
import torch

MASK = 0xFFFFFFFF
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def mixed(i: torch.Tensor, seed: int) -> torch.Tensor:
    """32 bits of a place (int64) and a seed: place and seed · 0x9E3779B1 added modulo 2^32, and mixed."""
    h = (i + (seed * 0x9E3779B1 & MASK)) & MASK
    h = h ^ (h >> 16)
    h = (h * 0x7FEB352D) & MASK
    h = h ^ (h >> 15)
    h = (h * 0x846CA68B) & MASK
    return h ^ (h >> 16)


def hashed(shape, seed: int, spread: float, kind: str, device) -> torch.Tensor:
    """`(low half + high half − 65535) / 65536 · spread` of each place's 32 bits, exact in binary32, then rounded to the
    type."""
    count, chunk = int(numpy.prod(shape)), 1 << 25
    made = torch.empty(count, dtype=TYPES[kind], device=device)
    for first in range(0, count, chunk):
        h = mixed(torch.arange(first, min(count, first + chunk), device=device), seed)
        made[first : first + chunk] = (((h & 0xFFFF) + (h >> 16) - 65535).float() * (spread / 65536)).to(TYPES[kind])
    return made.view(shape)
