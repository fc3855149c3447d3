// Single steps of tensor-core instructions on seeded operands, specials included.
//
//   nvcc -gencode arch=compute_90a,code=sm_90a -std=c++17 -o tensor_core tensor_core.cu && ./tensor_core DIRECTORY
//
// writes DIRECTORY/<instruction>.bin: one little-endian binary32 pattern per case. Operands are made from the number of the
// case alone (`operand`, `accumulator`), by the same rule as in crates/numerics/tests, so only results are kept.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

constexpr int CASES = 16384;

struct Format { int exponent_bits, fraction_bits, shift; };  // shift: where the pattern stands in its storage

__host__ __device__ inline uint64_t mix(uint64_t x) {  // SplitMix64
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// side 0: a, side 1: b
__host__ __device__ inline uint32_t operand(Format f, int number, int side, int k) {
    uint64_t r = mix(uint64_t(number) * 256 + side * 64 + k);
    uint32_t sign = r & 1, fraction = (r >> 1) & ((1u << f.fraction_bits) - 1), any = uint32_t(r >> 32);
    uint32_t largest = (1u << f.exponent_bits) - 1, bias = largest >> 1, exponent;
    bool zero = false;
    switch (number % 10) {
        case 0: exponent = any % (largest + 1); break;                           // any pattern
        case 1: exponent = bias - 3 + any % 7; break;                            // like sizes
        case 2: exponent = bias - 3 + any % 7; zero = (any >> 8) & 1; break;     // many zeros
        case 3: exponent = side ? bias + any % 4 : any % 3; break;               // subnormal
        case 4: exponent = largest - 1 - any % 4; break;                         // overflow
        case 5: exponent = side ? bias + any % (bias + 1) : bias - any % bias; zero = !side && ((any >> 8) & 1); break;
        case 6: exponent = any % largest; break;                                 // any finite
        case 8: case 9: {                                                        // tiny products, about the smallest binary32
            uint32_t low = bias > 100 ? bias - 74 : 1;
            exponent = low + any % (bias > 100 ? 16 : 3);
            zero = number % 10 == 9 && ((any >> 8) & 1);
            break;
        }
        default: {                                                               // normal-like
            uint32_t small = 0;
            while (small < 8 && ((any >> small) & 1)) small++;
            exponent = bias - (small < bias ? small : bias - 1);
        }
    }
    if (zero) exponent = fraction = 0;
    return ((sign << (f.exponent_bits + f.fraction_bits)) | (exponent << f.fraction_bits) | fraction) << f.shift;
}

__host__ __device__ inline uint32_t accumulator(int number) {
    uint64_t r = mix(uint64_t(number) * 256 + 255);
    uint32_t sign = uint32_t(r & 1) << 31, fraction = uint32_t(r >> 1) & 0x7FFFFF, any = uint32_t(r >> 32);
    switch ((any >> 16) % 4) {
        case 0: return sign;
        case 1: return number % 10 >= 8 ? sign | ((any % 3) << 23) | (fraction >> (any % 24)) : sign | ((107 + any % 40) << 23) | fraction;
        case 2: return number % 10 == 0 ? uint32_t(r) : sign | ((any % 255) << 23) | fraction;
        default: return sign | ((124 + any % 8) << 23) | fraction;
    }
}

// A register of a fragment: `per` consecutive elements of K from `k`, of one case.
__device__ inline uint32_t packed(Format f, int number, int side, int k, int per) {
    uint32_t word = 0;
    for (int i = 0; i < per; i++) word |= operand(f, number, side, k + i) << (i * (32 / per));
    return word;
}

enum Kind { MMA_BF16, MMA_BF16_K8, MMA_F16, MMA_TF32, MMA_TF32_K4, WG_BF16, WG_F16, WG_TF32, WG_E4M3, WG_E5M2 };

#define MMA4(shape, types) \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." types ".f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};" \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(0), "r"(a[1]), "r"(0), "r"(b[0]), "r"(b[1]))
#define MMA2(shape, types) \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." types ".f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};" \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(0), "r"(b[0]))
#define WG(shape, types, more) \
    asm volatile("{.reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned." shape ".f32." types \
        " {%0,%1,%2,%3},{%4,%5,%6,%7}, %8, p, 1, 1" more ";}" \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(0), "r"(a[1]), "r"(0), "l"(descriptor))

// Case `g` of a block is row g of A and column g of B; its result is D[g][g].
template <Kind kind> __global__ void run(Format f, int k, uint32_t* out) {
    __shared__ alignas(128) uint8_t tile[256];
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, first = blockIdx.x * 8, warp = threadIdx.x / 32;
    int per = f.exponent_bits + f.fraction_bits + 1 + f.shift == 32 ? 1 : 32 / (f.exponent_bits + f.fraction_bits + 1);
    bool wide = kind != MMA_BF16_K8 && kind != MMA_TF32_K4;
    uint32_t a[2], b[2];
    for (int half = 0; half < (wide ? 2 : 1); half++) {
        int at = half * 4 * per + t * per;
        a[half] = warp == 0 ? packed(f, first + g, 0, at, per) : 0;
        b[half] = packed(f, first + g, 1, at, per);
    }
    float d[4] = {0, 0, 0, 0};
    bool mine = g / 2 == t && warp == 0;
    if (mine) d[g % 2] = __uint_as_float(accumulator(first + g));
    if constexpr (kind == MMA_BF16) MMA4("m16n8k16", "bf16.bf16");
    if constexpr (kind == MMA_F16) MMA4("m16n8k16", "f16.f16");
    if constexpr (kind == MMA_TF32) MMA4("m16n8k8", "tf32.tf32");
    if constexpr (kind == MMA_BF16_K8) MMA2("m16n8k8", "bf16.bf16");
    if constexpr (kind == MMA_TF32_K4) MMA2("m16n8k4", "tf32.tf32");
    if constexpr (kind >= WG_BF16) {
        // B as core matrices of 8 columns by 16 bytes of K, the two of K one after the other.
        if (warp == 0)
            for (int half = 0; half < 2; half++)
                *reinterpret_cast<uint32_t*>(tile + half * 128 + g * 16 + t * 4) = b[half];
        __syncthreads();
        asm volatile("fence.proxy.async;" ::: "memory");
        uint64_t start = static_cast<uint64_t>(__cvta_generic_to_shared(tile)) >> 4;
        uint64_t descriptor = (start & 0x3FFF) | (uint64_t(128 >> 4) << 16) | (uint64_t(128 >> 4) << 32);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        if constexpr (kind == WG_BF16) WG("m64n8k16", "bf16.bf16", ", 0");
        if constexpr (kind == WG_F16) WG("m64n8k16", "f16.f16", ", 0");
        if constexpr (kind == WG_TF32) WG("m64n8k8", "tf32.tf32", "");
        if constexpr (kind == WG_E4M3) WG("m64n8k32", "e4m3.e4m3", "");
        if constexpr (kind == WG_E5M2) WG("m64n8k32", "e5m2.e5m2", "");
        asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
    if (mine) out[first + g] = __float_as_uint(d[g % 2]);
}

template <Kind kind> void measure(const std::string& directory, const char* name, Format f, int k) {
    uint32_t* out;
    cudaMalloc(&out, CASES * 4);
    run<kind><<<CASES / 8, kind >= WG_BF16 ? 128 : 32>>>(f, k, out);
    std::vector<uint32_t> host(CASES);
    cudaMemcpy(host.data(), out, CASES * 4, cudaMemcpyDeviceToHost);
    if (auto error = cudaGetLastError()) { printf("%s: %s\n", name, cudaGetErrorString(error)); exit(1); }
    FILE* file = fopen((directory + "/" + name + ".bin").c_str(), "wb");
    fwrite(host.data(), 4, CASES, file);
    fclose(file);
    printf("%s done, first %08x %08x\n", name, host[1], host[7]);
}

int main(int, char** arguments) {
    std::string directory = arguments[1];
    Format bf16{8, 7, 0}, f16{5, 10, 0}, tf32{8, 10, 13}, e4m3{4, 3, 0}, e5m2{5, 2, 0};
    measure<MMA_BF16>(directory, "mma_bf16_k16", bf16, 16);
    measure<MMA_BF16_K8>(directory, "mma_bf16_k8", bf16, 8);
    measure<MMA_F16>(directory, "mma_f16_k16", f16, 16);
    measure<MMA_TF32>(directory, "mma_tf32_k8", tf32, 8);
    measure<MMA_TF32_K4>(directory, "mma_tf32_k4", tf32, 4);
    measure<WG_BF16>(directory, "wgmma_bf16_k16", bf16, 16);
    measure<WG_F16>(directory, "wgmma_f16_k16", f16, 16);
    measure<WG_TF32>(directory, "wgmma_tf32_k8", tf32, 8);
    measure<WG_E4M3>(directory, "wgmma_e4m3_k32", e4m3, 32);
    measure<WG_E5M2>(directory, "wgmma_e5m2_k32", e5m2, 32);
}
