#include "functions.h"
#include "kernels.h"
#include "threads.h"

namespace lucid {

extern const Isa isa_baseline;
#if defined(__x86_64__)
extern const Isa isa_avx2, isa_avx512;
#endif

const Isa* const* supported_isas() {
    static const Isa* list[4] = {};
    static const bool filled = [] {
        int n = 0;
#if defined(__x86_64__)
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
            list[n++] = &isa_avx512;
        if (avx2) list[n++] = &isa_avx2;
#endif
        list[n++] = &isa_baseline;
        return true;
    }();
    (void)filled;
    return list;
}

void philox_words(uint64_t seed, uint64_t stream, uint64_t block, int64_t words, uint32_t* out) {
    parallel_range((words + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            uint32_t word[4];
            philox4x32(seed, stream, block + uint64_t(i), word);
            for (int64_t j = 0; j < 4 && 4 * i + j < words; ++j) out[4 * i + j] = word[j];
        }
    });
}

}  // namespace lucid
