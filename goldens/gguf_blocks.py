"""Golden for numerics::block: raw GGUF blocks and the f32 bits that gguf-py gives for them.

Run: pip install gguf==0.19.0 numpy && python3 goldens/gguf_blocks.py > goldens/gguf_blocks.txt
Each line: format, the block in hex, its elements as little-endian f32 in hex. Integers are random; scales are
random finite f16 bit patterns, in each format also subnormal, negative, zero, and the largest finite ones.
"""

import importlib.metadata
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize

# format: type, bytes of a block, byte offsets of its f16 scales
FORMATS = {
    "q8_0": (T.Q8_0, 34, [0]),
    "q4_0": (T.Q4_0, 18, [0]),
    "q4_1": (T.Q4_1, 20, [0, 2]),
    "q4_k": (T.Q4_K, 144, [0, 2]),
    "q6_k": (T.Q6_K, 210, [208]),
}
# random normal; smallest and largest subnormal; negative subnormal; -0; 0; largest; most negative
SCALES = [None, None, None, 0x0001, 0x03FF, 0x8123, 0x8000, 0x0000, 0x7BFF, 0xFBFF]

rng = np.random.Generator(np.random.PCG64(20240607))


def scale(kind):
    while kind is None:
        bits = int(rng.integers(0, 1 << 16))
        if bits & 0x7C00 != 0x7C00:
            return bits
    return kind


print(f"# gguf {importlib.metadata.version('gguf')}, numpy {np.__version__}, Python {sys.version.split()[0]}")
for name, (kind, size, scales) in FORMATS.items():
    for first in SCALES:
        block = rng.integers(0, 256, size, dtype=np.uint8)
        for i, at in enumerate(scales):
            bits = scale(first if i == 0 else None)
            block[at : at + 2] = np.frombuffer(bits.to_bytes(2, "little"), dtype=np.uint8)
        values = dequantize(block.reshape(1, -1), kind).astype("<f4")
        print(name, block.tobytes().hex(), values.tobytes().hex())
