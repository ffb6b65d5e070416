#include "conv.h"

#define LUCID_FAMILY contraction
#define LUCID_FAMILY_KERNELS "contraction/kernels.def"
#include "../family.h"
