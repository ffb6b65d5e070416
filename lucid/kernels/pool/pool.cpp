#include "pool.h"

#define LUCID_FAMILY pool
#define LUCID_FAMILY_KERNELS "pool/kernels.def"
#include "../family.h"
