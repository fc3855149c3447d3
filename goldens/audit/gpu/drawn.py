"""Numbers from a seed by integer arithmetic alone: the same on any machine and with any numpy."""

import numpy as np

VOCABULARIES = (1, 2, 31, 512, 1000, 1023, 1024, 1025, 1040, 2048, 4096, 5000, 32000, 32768, 49152, 50257, 51200)
VOCABULARIES += (100352, 128256, 151643, 151936, 152064, 200019, 262144)
ROWS, COLUMNS = 24, 21


def mixed(seed, count):
    """SplitMix64."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed) * np.uint64(1 << 32)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def bell(seed, count, scale):
    """Nearly normal, deviation about `scale` (a power of two) × 1.15; binary32."""
    z = mixed(seed, count)
    total = sum(((z >> np.uint64(8 * i)) & np.uint64(255)).astype(np.int64) for i in range(4)) - 510
    fine = ((z >> np.uint64(32)) & np.uint64(0xFFFF)).astype(np.int64)
    return (total * 65536 + fine).astype(np.float32) * np.float32(scale / (128 * 65536))


def bf16(x):
    """Rounded to the nearest, ties to even; binary32 again."""
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(np.float32)


def logits(vocabulary, half, rows=ROWS):
    out = np.empty((rows, vocabulary), np.float32)
    for row in range(rows):
        seed = (vocabulary * 64 + row) * 2 + half
        x = bell(seed, vocabulary, (0.5, 1, 2, 4, 8, 32)[row % 6])
        kind = row // 6
        if kind == 2:  # ties
            x = np.round(x)
        if kind == 3:
            which = mixed(seed + (1 << 30), vocabulary)
            few = (which & np.uint64(15)) == 0
            place = int(which[0] % np.uint64(vocabulary))
            if row % 6 == 0:
                x[few] = -np.inf
            elif row % 6 == 1:
                x[:] = 3.0
            elif row % 6 == 2:
                x[:] = -np.inf
            elif row % 6 == 3:
                x[place] = np.inf
            elif row % 6 == 4:
                x[place] = 88.0
            else:
                x[place] = np.nan
        out[row] = bf16(x) if half else x
    return out


def tokens(vocabulary, half, rows=ROWS):
    """Ids of which log-probabilities are asked."""
    z = mixed(vocabulary * 2 + half + (1 << 20), rows * COLUMNS).reshape(rows, COLUMNS)
    return (z % np.uint64(vocabulary)).astype(np.int64)


def exponents():
    """Arguments of exp: whole range, near the subnormal results, small."""
    z = [mixed(900 + i, 150_000) for i in range(3)]
    unit = [(x >> np.uint64(40)).astype(np.int64).astype(np.float32) * np.float32(2.0**-24) for x in z]
    wide, low, small = unit[0] * np.float32(-112), np.float32(-84) - unit[1] * np.float32(24), unit[2] * np.float32(-2)
    return np.concatenate([wide, low, small, np.array([0.0, -0.0, -np.inf, np.nan, -1e-45, -1e38], np.float32)])


def sums():
    """Arguments of log: sums of such exponentials."""
    z = mixed(990, 400_000)
    mantissa = (z & np.uint64(0x7FFFFF)).astype(np.uint32)
    exponent = (np.uint32(127) + ((z >> np.uint64(23)) % np.uint64(19)).astype(np.uint32)) << np.uint32(23)
    x = (mantissa | exponent).view(np.float32)
    near = (np.uint32(0x3F800000) + np.arange(40_000, dtype=np.uint32)).view(np.float32)
    return np.concatenate([x, near, np.array([0.0, np.inf, np.nan, 1e-45, 1.0], np.float32)])
