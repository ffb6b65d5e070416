#include "optimizer.h"

#define LUCID_FAMILY optimizer
#define LUCID_FAMILY_KERNELS "optimizer/kernels.def"
#include "../family.h"
