#define LUCID_ISA avx512
#define LUCID_VECTOR_BYTES 64
#include "isa.h"

namespace lucid {
extern const Isa isa_avx512;
const Isa isa_avx512 = {"avx512", avx512::kernels<float>(), avx512::kernels<double>(), avx512::fingerprint};
}  // namespace lucid
