// The kernels of one instruction set: compiled once for each, as the families are (family.h).
#include "fingerprint.h"
#include "names.h"

namespace lucid {
namespace LUCID_ISA {

#define FAMILY(name) void enter_##name(Kernels<float>&, Kernels<double>&);
#include "kernels.def"

static Isa assembled() {
    Isa isa{LUCID_TEXT(LUCID_ISA), {}, {}, fingerprint};
#define FAMILY(name) enter_##name(isa.f32, isa.f64);
#include "kernels.def"
    return isa;
}

}  // namespace LUCID_ISA

extern const Isa LUCID_PASTE(isa_, LUCID_ISA);
const Isa LUCID_PASTE(isa_, LUCID_ISA) = LUCID_ISA::assembled();

}  // namespace lucid
