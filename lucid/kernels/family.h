// Enters the kernels of a family into the table of one instruction set. A family's .cpp includes its header, defines
// LUCID_FAMILY (a name) and LUCID_FAMILY_KERNELS (its kernels.def), and includes this file; it is compiled once for each
// instruction set, with its flags and LUCID_ISA (a namespace's name). Nothing there may come from a shared inline function of the
// standard library, which another instruction set's object file could replace.
#include "kernels.h"
#include "names.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
static void enter(Kernels<T>& table) {
#define ENUM(name, ...)
#define STRUCT(name, ...)
#define STRUCT_OF_T(name, ...)
#define KERNEL(result, name, ...) table.name = name<T>;
#include LUCID_FAMILY_KERNELS
}

void LUCID_PASTE(enter_, LUCID_FAMILY)(Kernels<float>& f32, Kernels<double>& f64) {
    enter(f32);
    enter(f64);
}

}  // namespace LUCID_ISA
}  // namespace lucid
