"""What tensor cores of a Hopper GPU compute, in numpy: from definitions, not by the engine."""

import os
import zlib

import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def exponents(x):
    """Of the leading bit; of a subnormal binary16, that of the least normal one; far below all others for a zero."""
    found = numpy.frexp(x)[1] - 1
    return numpy.where(x == 0, -4000, numpy.maximum(found, -14))


def cut_to_f32(x):
    with numpy.errstate(over="ignore"):
        near = x.astype(numpy.float32)
    away = numpy.abs(near.astype(numpy.float64)) > numpy.abs(x)
    return numpy.where(away, numpy.nextafter(near, numpy.float32(0)), near)


def step(total, products, exponent):
    """Adds sixteen products (last dimension, binary64, with the exponents of their factors added) to a binary32."""
    wide = total.astype(numpy.float64)
    of_total = numpy.where(total == 0, -4000, numpy.maximum(numpy.frexp(wide)[1] - 1, -126))
    largest = numpy.maximum(exponent.max(-1), of_total)
    largest = numpy.where(largest < -2000, 0, largest)
    scaled = numpy.trunc(numpy.ldexp(products, (25 - largest)[..., None])).sum(-1)
    scaled += numpy.trunc(numpy.ldexp(wide, 25 - largest))
    return cut_to_f32(numpy.ldexp(scaled, largest - 25))


def chain(x, w, total=None):
    """Steps of sixteen, from zero unless told. Rows of x by rows of w, both binary64."""
    total = numpy.zeros((len(x), len(w)), numpy.float32) if total is None else total
    ex, ew = exponents(x), exponents(w)
    for k in range(0, x.shape[1], 16):
        products = x[:, None, k : k + 16] * w[None, :, k : k + 16]
        total = step(total, products, ex[:, None, k : k + 16] + ew[None, :, k : k + 16])
    return total
