#define LUCID_ISA baseline
#define LUCID_VECTOR_BYTES 16
#include "isa.h"

namespace lucid {
extern const Isa isa_baseline;
const Isa isa_baseline = {"baseline", baseline::kernels<float>(), baseline::kernels<double>(), baseline::fingerprint};
}  // namespace lucid
