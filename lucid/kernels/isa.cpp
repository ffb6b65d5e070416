// The instruction sets of this build that this processor has.
#include "kernels.h"

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

}  // namespace lucid
