#include "index.h"

#define LUCID_FAMILY index
#define LUCID_FAMILY_KERNELS "index/kernels.def"
#include "../family.h"
