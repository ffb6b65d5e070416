#include "sort.h"

#define LUCID_FAMILY sort
#define LUCID_FAMILY_KERNELS "sort/kernels.def"
#include "../family.h"
