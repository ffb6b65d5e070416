#include "reduce.h"

#define LUCID_FAMILY reduce
#define LUCID_FAMILY_KERNELS "reduce/kernels.def"
#include "../family.h"
