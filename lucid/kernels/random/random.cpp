#include "random.h"

#define LUCID_FAMILY random
#define LUCID_FAMILY_KERNELS "random/kernels.def"
#include "../family.h"
