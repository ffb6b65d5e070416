#define LUCID_ISA avx2
#define LUCID_VECTOR_BYTES 32
#include "isa.h"

namespace lucid {
extern const Isa isa_avx2;
const Isa isa_avx2 = {"avx2", avx2::kernels<float>(), avx2::kernels<double>(), avx2::fingerprint};
}  // namespace lucid
