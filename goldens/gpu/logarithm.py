"""Results of `lg2.approx` on an NVIDIA GPU, and whether CUDA's logarithms follow from them.

    python logarithm.py measure DIRECTORY     (on the GPU) writes octave0.npy: the results for [1, 2)
    python logarithm.py table OCTAVE0 TABLE   writes crates/numerics/tables/lg2.deflate from it

`measure` also prints, for the octaves from 2 to 2^14, how many results are not `octave + fraction of 23 bits` cut to binary32, and how
often `__logf` and `logf` differ from what numerics::nvidia::functions computes: 0 each on an H100 (the H200's chip).
The table: for 64 segments a quadratic in binary64, then what is missing to the result, in units of its last place but at least 2^-36,
as two bytes for the first 2^16 mantissas and one for the others.
"""

import sys
import zlib

import numpy

SOURCE = r"""
extern "C" __global__ void lg2(unsigned first, float* out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float x = __uint_as_float(first + i), y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    out[i] = y;
}
extern "C" __global__ void logs(unsigned first, float* fast, float* full, float* ours) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float x = __uint_as_float(first + i);
    fast[i] = __logf(x);
    full[i] = logf(x);
    int e = (__float_as_int(x) - 0x3f2aaaab) & 0xff800000;
    float f = __int_as_float(__float_as_int(x) - e) - 1.0f, n = (float)e * 1.1920929e-7f;
    float r = fmaf(f, __int_as_float(0xBE055027), __int_as_float(0x3E1039F6));
    r = fmaf(r, f, __int_as_float(0xBDF8CDCC));
    r = fmaf(r, f, __int_as_float(0x3E0F2955));
    r = fmaf(r, f, __int_as_float(0xBE2AD8B9));
    r = fmaf(r, f, __int_as_float(0x3E4CED0B));
    r = fmaf(r, f, __int_as_float(0xBE7FFF22));
    r = fmaf(r, f, __int_as_float(0x3EAAAA78));
    r = fmaf(r, f, -0.5f);
    ours[i] = fmaf(n, __int_as_float(0x3F317218), fmaf(__fmul_rn(f, r), f, f));
}
"""
COUNT, SEGMENTS, WIDE = 1 << 23, 64, 1 << 16


def measure(directory: str) -> None:
    import cupy

    module = cupy.RawModule(code=SOURCE)
    fraction = None
    for octave in range(14):
        first = numpy.uint32((127 + octave) << 23)
        y, fast, full, ours = (cupy.zeros(COUNT, cupy.float32) for _ in range(4))
        module.get_function("lg2")((COUNT // 256,), (256,), (first, y))
        module.get_function("logs")((COUNT // 256,), (256,), (first, fast, full, ours))
        wide = y.astype(cupy.float64)
        if fraction is None:
            fraction = cupy.floor(wide * 2.0**23) / 2.0**23
            numpy.save(f"{directory}/octave0.npy", y.get())
        unit = 2.0 ** (int(numpy.log2(max(octave, 1))) - 23)
        cut = cupy.floor((octave + fraction) / unit) * unit
        other = int((cut != wide).sum()) if octave else 0
        print(octave, "lg2", other, "__logf", int((y * numpy.float32(0.69314718) != fast).sum()), "logf", int((ours != full).sum()))


def table(octave0: str, to: str) -> None:
    y = numpy.load(octave0).astype(numpy.float64)
    units = numpy.exp2(numpy.maximum(numpy.floor(numpy.log2(numpy.maximum(y, 2.0**-36))) - 23, -36))
    length = COUNT // SEGMENTS
    x = numpy.arange(length) / length
    coefficients, missing = [], []
    for segment in range(SEGMENTS):
        values, unit = y[segment * length :][:length], units[segment * length :][:length]
        a, b, c = numpy.polyfit(x, values + unit / 2, 2)
        coefficients += [a, b, c]
        near = (a * x + b) * x + c
        # The unit is that of the quadratic, as the reader cannot know the result's.
        unit = numpy.exp2(numpy.maximum(numpy.floor(numpy.log2(numpy.maximum(near, 2.0**-36))) - 23, -36))
        off = (values - numpy.floor(near / unit) * unit) / unit
        # Across a power of two the result may lie between the quadratic's units: then it is rounded, and must round back.
        assert (off == numpy.rint(off)).all(), segment
        missing.append(off)
    missing = numpy.concatenate(missing).astype(numpy.int64)
    narrow = missing[WIDE:]
    assert abs(narrow).max() < 128 and abs(missing).max() < 1 << 15, (abs(narrow).max(), abs(missing).max())
    data = numpy.array(coefficients, "<f8").tobytes() + missing[:WIDE].astype("<i2").tobytes() + narrow.astype("i1").tobytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(data) + deflate.flush()
    print(len(data), "bytes,", int((missing != 0).sum()), "mantissas are not the quadratic's")
    open(to, "wb").write(data)


measure(sys.argv[2]) if sys.argv[1] == "measure" else table(*sys.argv[2:])
