"""Looks for the sums that give what f16.py measured.

    python f16_check.py DIRECTORY [PART/PARTS]

DIRECTORY has f16.npz. For every product with a weight and number of rows: into how many parts K is cut so that all
outputs compared have the bits found, with parts kept in binary32 and added in ascending order; and, where that
explains nothing, with parts rounded to binary16. A step is emulated here in numpy, from its definition, and not by
the engine. PART/PARTS takes a share of the shapes."""

import os
import sys

import numpy

from f16 import BIASED, KINDS, ROWS, SPLIT, WHOLE, columns, operand

MOST_PARTS = 32
arrays = numpy.load(os.path.join(sys.argv[1], "f16.npz"))


def exponents(x):
    """Of the leading bit; of a subnormal binary16, that of the least normal one; far below all others for a zero."""
    found = numpy.frexp(x)[1] - 1
    return numpy.where(x == 0, -4000, numpy.maximum(found, -14))


def cut_to_f32(x):
    with numpy.errstate(over="ignore"):
        near = x.astype(numpy.float32)
    away = numpy.abs(near.astype(numpy.float64)) > numpy.abs(x)
    return numpy.where(away, numpy.nextafter(near, numpy.float32(0)), near)


def chain(x, w):
    """Steps of sixteen from zero. Rows of x by rows of w, both binary64."""
    total = numpy.zeros((len(x), len(w)), numpy.float32)
    ex, ew = exponents(x), exponents(w)
    for k in range(0, x.shape[1], 16):
        products = x[:, None, k : k + 16] * w[None, :, k : k + 16]
        exponent = ex[:, None, k : k + 16] + ew[None, :, k : k + 16]
        wide = total.astype(numpy.float64)
        of_total = numpy.where(total == 0, -4000, numpy.maximum(numpy.frexp(wide)[1] - 1, -126))
        largest = numpy.maximum(exponent.max(2), of_total)
        largest = numpy.where(largest < -2000, 0, largest)
        scaled = numpy.trunc(numpy.ldexp(products, (25 - largest)[:, :, None])).sum(2) + numpy.trunc(
            numpy.ldexp(wide, 25 - largest)
        )
        total = cut_to_f32(numpy.ldexp(scaled, largest - 25))
    return total


def cuts(length, parts):
    step = -(-(-(-length // 64)) // parts) * 64
    return [(first, min(length, first + step)) for first in range(0, length, step)]


def rounded(x):
    with numpy.errstate(over="ignore"):
        return x.astype(numpy.float16)


def sums(x, w, parts, of_part=lambda part: part):
    total = None
    for first, last in cuts(x.shape[1], parts):
        part = of_part(chain(x[:, first:last], w[:, first:last]))
        with numpy.errstate(invalid="ignore"):
            total = part if total is None else total + part
    return total


def same(found, expected):
    bits = lambda a: a.view(numpy.uint16 if a.dtype.itemsize == 2 else numpy.uint32)
    return (bits(found) == bits(expected)) | (numpy.isnan(found) & numpy.isnan(expected))


share, shares = (int(n) for n in (sys.argv[2:] or ["0/1"])[0].split("/"))
tried = [(n, k, False) for n, k in SPLIT + WHOLE] + [(n, k, True) for n, k in BIASED]
compared, left = 0, 0
for n, k, bias in tried[share::shares]:
    seed, few = n * 31 + k, columns(n)
    kinds = ("hard", "plain", "large") if bias else tuple(KINDS)
    modes = ("linear", "exact") if bias else ("linear", "exact", "f32")
    float_of = lambda bits: bits.view(numpy.float16).astype(numpy.float64)
    operands = {
        kind: (
            float_of(numpy.stack([operand(kind, 0, seed, m - 1, k) for m in ROWS])),
            float_of(numpy.stack([operand(kind, 1, seed, c, k) for c in few])),
        )
        for kind in kinds
    }
    added = float_of(operand("plain", 1, seed, n, n)).astype(numpy.float32)[few] if bias else numpy.float32(0)
    known = {}

    def predicted(kind, parts, halves):
        if (kind, parts, halves) not in known:
            of_part = (lambda part: rounded(part).astype(numpy.float32)) if halves else (lambda part: part)
            total = sums(*operands[kind], parts, of_part)
            known[kind, parts, halves] = total + added if bias else total
        return known[kind, parts, halves]

    def fits(mode, at, parts, halves):
        count = 0
        for kind in kinds:
            name = f"w.{n}_{k}_{kind}" + ("_bias" if bias else "") + f".{mode}"
            found = arrays[name][at]
            found = found.view(numpy.float32 if mode == "f32" else numpy.float16)
            expected = predicted(kind, parts, halves)[[0, at]]
            expected = expected if mode == "f32" else rounded(expected)
            if not same(found, expected).all():
                return None
            count += found.size
        return count

    for mode in modes:
        told = []
        for at, m in enumerate(ROWS):
            explained = None
            for halves in (False, True):
                distinct = {}
                for parts in range(1, MOST_PARTS + 1):
                    distinct.setdefault(tuple(cuts(k, parts)), parts)
                for parts in distinct.values():
                    count = fits(mode, at, parts, halves)
                    if count:
                        explained = f"{m}:{len(cuts(k, parts))}" + (" of f16" if halves else "")
                        compared += count
                        break
                if explained:
                    break
            left += explained is None
            told.append(explained or f"{m}:?")
        print(f"{n} × {k}{' and a bias' if bias else ''}, {mode}: {', '.join(told)}", flush=True)
print(f"{compared} values as predicted; {left} products that no sum explains")
