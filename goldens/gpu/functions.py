"""Results of the approximate functions of an NVIDIA GPU, as deviations from the correctly rounded value.

    python functions.py DIRECTORY

For every mantissa (and what of the exponent matters) `rsqrt`, `rcp` and `ex2`, as the instructions compute them, less the
binary32 nearest to the true value, in units in the last place. Also counts, over all 2^32 inputs, where functions of
CUDA's library differ from what the instruction and scaling by powers of two predict.
"""

import os
import sys

import cupy
import numpy

SOURCE = r"""
__device__ float approx(int which, float x) {
    float y;
    if (which == 0) asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    if (which == 1) asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    if (which == 2) asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
extern "C" __global__ void deviations(int which, unsigned first, unsigned count, signed char* out, int* widest) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float x = __uint_as_float(first + i);
    double exact = which == 0 ? 1.0 / sqrt((double)x) : which == 1 ? 1.0 / (double)x : exp2((double)x);
    int difference = __float_as_int(approx(which, x)) - __float_as_int((float)exact);
    out[i] = difference;
    atomicMax(widest, abs(difference));
}
// How often a library function differs from the instruction with scaling, over all inputs; the first such input.
extern "C" __global__ void library(unsigned long long* counts, unsigned* firsts) {
    unsigned bits = blockIdx.x * blockDim.x + threadIdx.x;
    float x = __uint_as_float(bits);
    // rsqrtf: subnormals are scaled by 2^24.
    float y = rsqrtf(x);
    bool small = fabsf(x) < 1.1754943508e-38f;
    float z = small ? approx(0, x * 16777216.0f) * 4096.0f : approx(0, x);
    if (__float_as_uint(y) != __float_as_uint(z) && !(y != y && z != z)) {
        if (!atomicAdd(&counts[0], 1ull)) firsts[0] = bits;
    }
    // expf: x · log2 e = j + f, 2^f by the instruction.
    float t = __saturatef(fmaf(x, 0.00572498027f, 0.5f));
    asm("fma.rm.f32 %0, %1, 0f437C0000, 0f4B400001;" : "=f"(t) : "f"(t));
    float j = t + -12583039.0f;
    float f = fmaf(x, 1.44269502162933349609f, -j);
    f = fmaf(x, 1.92596303329e-8f, f);
    float scale = __uint_as_float(__float_as_uint(t) << 23);
    float e = approx(2, f) * scale;
    y = expf(x);
    if (__float_as_uint(y) != __float_as_uint(e) && !(y != y && e != e)) {
        if (!atomicAdd(&counts[1], 1ull)) firsts[1] = bits;
    }
    // Division of one is correctly rounded.
    y = 1.0f / x;
    z = (float)(1.0 / (double)x);
    if (__float_as_uint(y) != __float_as_uint(z) && !(y != y && z != z)) {
        if (!atomicAdd(&counts[2], 1ull)) firsts[2] = bits;
    }
}
"""

RANGES = {
    # name: which, first value, last value (excluded)
    "rsqrt": (0, 1.0, 4.0),
    "rcp": (1, 1.0, 2.0),
    "ex2_half": (2, 0.5, 1.0),
    "ex2_one": (2, 1.0, 2.0),
    "ex2_quarter": (2, 0.25, 0.5),
    "ex2_eighth": (2, 0.125, 0.25),
    "ex2_minus_half": (2, -0.5, -1.0),
    "ex2_minus_quarter": (2, -0.25, -0.5),
}


def bits(value: float) -> int:
    return int(numpy.float32(value).view(numpy.uint32))


def main() -> None:
    directory = sys.argv[1]
    deviations = cupy.RawKernel(SOURCE, "deviations")
    files: dict[str, dict] = {"a": {}, "b": {}}
    for number, (name, (which, first, last)) in enumerate(RANGES.items()):
        count = bits(last) - bits(first)
        out, widest = cupy.zeros(count, cupy.int8), cupy.zeros(1, cupy.int32)
        deviations((count // 256,), (256,), (numpy.int32(which), numpy.uint32(bits(first)), numpy.uint32(count), out, widest))
        values = out.get()
        found, times = numpy.unique(values, return_counts=True)
        print(name, "widest", int(widest[0]), dict(zip(found.tolist(), times.tolist())))
        low = int(found.min())
        codes = (values - low).astype(numpy.uint8)
        if codes.max() < 4:
            codes = codes.reshape(-1, 4)
            codes = codes[:, 0] | codes[:, 1] << 2 | codes[:, 2] << 4 | codes[:, 3] << 6
        part = files["a" if number < 4 else "b"]
        part[name], part[name + "_low"] = codes, numpy.int8(low)
    for part, arrays in files.items():
        numpy.savez_compressed(os.path.join(directory, f"functions_{part}.npz"), **arrays)
    counts, firsts = cupy.zeros(3, cupy.uint64), cupy.zeros(3, cupy.uint32)
    cupy.RawKernel(SOURCE, "library")((1 << 24,), (256,), (counts, firsts))
    for name, count, first in zip(("rsqrtf", "expf", "1/x"), counts.get(), firsts.get()):
        print(f"{name}: {count} of 2^32 differ from the model, first {first:08x}")


main()
