// Compares expf, rsqrtf, cosf and sinf, as nvcc compiles them for PyTorch (no -use_fast_math, subnormals kept), with Mantissa's over
// all 2^32 inputs.
//
//     nvcc -arch=sm_90 -o all_inputs all_inputs.cu && functions FILE THREADS && ./all_inputs FILE
//
// FILE is what the example `functions` of crates/numerics wrote. Blocks of 2^20 inputs are compared by a sum.
#include <cstdio>
#include <vector>

__global__ void sums(int which, unsigned long long* out) {
    unsigned bits = blockIdx.x * blockDim.x + threadIdx.x;
    float x = __uint_as_float(bits), y;
    if (which == 0) y = expf(x);
    else if (which == 1) y = rsqrtf(x);
    else {
        if (!(fabsf(x) <= 105615.0f)) return;
        y = which == 2 ? cosf(x) : sinf(x);
    }
    unsigned o = y != y ? 0x7FFFFFFFu : __float_as_uint(y);
    unsigned long long v = (((unsigned long long)bits << 32) | o) * 0x9E3779B97F4A7C15ull;
    v = (v ^ (v >> 29)) * 0xBF58476D1CE4E5B9ull;
    atomicAdd(&out[bits >> 20], v);
}

int main(int argc, char** argv) {
    const char* names[] = {"expf", "rsqrtf", "cosf", "sinf"};
    FILE* file = argc > 1 ? fopen(argv[1], "rb") : nullptr;
    if (!file) return fprintf(stderr, "no file of sums\n"), 2;
    cudaDeviceProp device;
    int runtime = 0, wrong = 0;
    cudaGetDeviceProperties(&device, 0);
    cudaRuntimeGetVersion(&runtime);
    printf("%s, CUDA %d\n", device.name, runtime);
    unsigned long long* on_device;
    cudaMalloc(&on_device, 4096 * sizeof(unsigned long long));
    for (int which = 0; which < 4; which++) {
        std::vector<unsigned long long> ours(4096), theirs(4096);
        if (fread(ours.data(), 8, 4096, file) != 4096) return fprintf(stderr, "a short file\n"), 2;
        cudaMemset(on_device, 0, 4096 * sizeof(unsigned long long));
        sums<<<1 << 24, 256>>>(which, on_device);
        if (cudaMemcpy(theirs.data(), on_device, 4096 * 8, cudaMemcpyDeviceToHost) != cudaSuccess)
            return fprintf(stderr, "%s\n", cudaGetErrorString(cudaGetLastError())), 2;
        int differ = 0;
        for (int i = 0; i < 4096; i++)
            if (ours[i] != theirs[i] && differ++ < 6) printf("  %s: inputs from %08x\n", names[which], i << 20);
        printf("%s: %d of 4096 blocks of 2^20 inputs differ\n", names[which], differ);
        wrong += differ;
    }
    return wrong != 0;
}
