// rcp.approx.ftz.f32 of every mantissa, as deviations from the correctly rounded reciprocal in units in the last place.
//
//     nvcc -arch=sm_90 -o reciprocal reciprocal.cu && ./reciprocal FILE
//
// FILE gets 2^23 signed bytes, for 1 ≤ x < 2 ascending. Printed: how many of all 2^32 inputs differ from what those say
// with the exponent negated (subnormal inputs and results flushed to zero), and how often 1.0f / x does.
#include <cmath>
#include <cstdio>
#include <vector>

__device__ float rcp(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__global__ void mantissas(signed char* out) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float x = __uint_as_float(0x3F800000u + i);
    out[i] = (signed char)((int)__float_as_uint(rcp(x)) - (int)__float_as_uint((float)(1.0 / (double)x)));
}

__global__ void others(const signed char* deviation, unsigned long long* differ, unsigned* first) {
    unsigned bits = blockIdx.x * blockDim.x + threadIdx.x;
    float x = __uint_as_float(bits), y = rcp(x);
    if (x != x) return;
    unsigned sign = bits & 0x80000000u, exponent = bits >> 23 & 255, want;
    if (exponent == 0) want = sign | 0x7F800000u;
    else if (exponent == 255) want = sign;
    else {
        float m = __uint_as_float(0x3F800000u | (bits & 0x7FFFFFu));
        int of_one = (int)__float_as_uint((float)(1.0 / (double)m)) + deviation[bits & 0x7FFFFFu];
        long long scaled = (long long)of_one - ((long long)exponent - 127) * (1ll << 23);
        want = scaled < (1ll << 23) ? sign : sign | (unsigned)scaled;
    }
    if (__float_as_uint(y) != want && !atomicAdd(&differ[0], 1ull)) first[0] = bits;
    float exact = (float)(1.0 / (double)x);
    if (__float_as_uint(1.0f / x) != __float_as_uint(exact) && !atomicAdd(&differ[1], 1ull)) first[1] = bits;
}

int main(int argc, char** argv) {
    const unsigned count = 1u << 23;
    signed char* deviation;
    unsigned long long* differ;
    unsigned* first;
    cudaMalloc(&deviation, count);
    cudaMalloc(&differ, 2 * sizeof *differ);
    cudaMalloc(&first, 2 * sizeof *first);
    cudaMemset(differ, 0, 2 * sizeof *differ);
    mantissas<<<count / 256, 256>>>(deviation);
    others<<<1 << 24, 256>>>(deviation, differ, first);
    std::vector<signed char> host(count);
    unsigned long long counts[2];
    unsigned at[2];
    cudaMemcpy(host.data(), deviation, count, cudaMemcpyDeviceToHost);
    cudaMemcpy(counts, differ, sizeof counts, cudaMemcpyDeviceToHost);
    if (cudaMemcpy(at, first, sizeof at, cudaMemcpyDeviceToHost) != cudaSuccess)
        return fprintf(stderr, "%s\n", cudaGetErrorString(cudaGetLastError())), 2;
    FILE* file = argc > 1 ? fopen(argv[1], "wb") : nullptr;
    if (!file || fwrite(host.data(), 1, count, file) != count || fclose(file)) return fprintf(stderr, "cannot write\n"), 2;
    int least = 0, most = 0;
    unsigned of[3] = {};
    for (signed char d : host) {
        least = d < least ? d : least;
        most = d > most ? d : most;
        if (d >= -1 && d <= 1) of[d + 1]++;
    }
    printf("deviations %d to %d; -1: %u, 0: %u, 1: %u\n", least, most, of[0], of[1], of[2]);
    printf("rcp.approx.ftz: %llu other (%08x), division: %llu other (%08x)\n", counts[0], at[0], counts[1], at[1]);
    return 0;
}
