// The kernels of gemm.cuh. A GPU's are compiled one by one as they are needed; the emulation has them all.
#include "gemm.cuh"

namespace lucid {

#define LIMITS(threads, resident) threads, resident  // one argument of KERNEL
#define CONTRACT(name, SOURCE, TILE, PACK_A, PACK_BC)                                                               \
    KERNEL(name, LIMITS(Tile<TILE>::THREADS, Tile<TILE>::RESIDENT), const Contraction c, const T* a, const T* b,     \
           T* y, T* slots, const T* bias, const T* mean, const T* scale, const T* shift, const T* residual, bool relu) { \
        contract<SOURCE, TILE, PACK_A, PACK_BC>(c, a, b, y, slots, Epilogue{bias, mean, scale, shift, residual, relu}); \
    }

#ifdef LUCID_CONTRACT  // its arguments: name, source, tile, whether A, and B and C, are read in packs
#define CONTRACT_OF(arguments) CONTRACT arguments
CONTRACT_OF((LUCID_CONTRACT))
#endif

#ifndef __CUDACC__
#define FOR_PACKS(SOURCE, TILE)                                    \
    CONTRACT(contract_##SOURCE##_##TILE##_0_0, SOURCE, TILE, false, false) \
    CONTRACT(contract_##SOURCE##_##TILE##_0_1, SOURCE, TILE, false, true)  \
    CONTRACT(contract_##SOURCE##_##TILE##_1_0, SOURCE, TILE, true, false)  \
    CONTRACT(contract_##SOURCE##_##TILE##_1_1, SOURCE, TILE, true, true)
#define FOR_TILES(SOURCE) FOR_PACKS(SOURCE, LARGE) FOR_PACKS(SOURCE, NARROW) FOR_PACKS(SOURCE, SMALL)
FOR_TILES(FORWARD)
FOR_TILES(INPUT_GRAD)
FOR_TILES(WEIGHT_GRAD)
FOR_TILES(FORWARD_DEEP)
FOR_TILES(INPUT_GRAD_DEEP)
FOR_TILES(WEIGHT_GRAD_DEEP)
FOR_TILES(MATMUL_NN)
FOR_TILES(MATMUL_NT)
FOR_TILES(MATMUL_TN)
FOR_TILES(MATMUL_TT)
#endif

#if !defined(LUCID_CONTRACT)
// C from the slots that the chunks of k have filled: segments to groups, groups to the total, then the epilogue. Where
// there are several groups, GROUP_LANES threads add them side by side, and the first of these adds their sums.
KERNEL(combine_chunks, COMBINE_THREADS, const Contraction c, const T* slots, T* y, const T* bias, const T* mean,
       const T* scale, const T* shift, const T* residual, bool relu) {
    __shared__ T group_sum[COMBINE_THREADS];
    const Epilogue epilogue{bias, mean, scale, shift, residual, relu};
    const int64_t segments = (c.k + SEGMENT - 1) / SEGMENT, groups = (segments + GROUP - 1) / GROUP, plane = c.m * c.n;
    const int lanes = groups > 1 ? GROUP_LANES : 1, columns = COMBINE_THREADS / lanes;
    const int column = int(threadIdx.x) % columns, lane = int(threadIdx.x) / columns;
    for (int64_t at0 = int64_t(blockIdx.x) * columns; at0 < plane * c.batch; at0 += int64_t(gridDim.x) * columns) {
        const int64_t at = at0 + column, z = at / plane, m = at % plane / c.n, n = at % c.n;
        const bool exists = at < plane * c.batch;
        T total = T(0);
        for (int64_t g0 = 0; g0 < groups; g0 += lanes) {
            const int64_t g = g0 + lane;
            if (exists && g < groups) {
                const T* slot = slots + (z * c.slots + g * group_slots(c.chunk)) * plane + at % plane;
                const int members = 1 + int(larger<int64_t>(0, smaller<int64_t>(GROUP, segments - g * GROUP) - c.chunk));
                T group = slot[0];
                in_batches<SLOTS_AT_ONCE, T>(
                    members - 1, [&](int64_t i) { return slot[(i + 1) * plane]; }, [&](T s) { group = group + s; });
                group_sum[threadIdx.x] = group;
            }
            if (lanes > 1) __syncthreads();
            if (lane == 0 && exists)
                for (int l = 0; l < smaller<int64_t>(lanes, groups - g0); ++l)
                    total = g0 + l == 0 ? group_sum[column] : total + group_sum[l * columns + column];
            if (lanes > 1) __syncthreads();
        }
        if (lane == 0 && exists) {
            const int64_t offset = z * c.y_step + row_offset<true>(c, m) + n;
            epilogue.apply<1, false>(&total, 1, z * c.n + n, offset);
            y[offset] = total;
        }
    }
}
#endif

}  // namespace lucid
