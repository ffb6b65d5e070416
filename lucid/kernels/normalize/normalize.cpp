#include "normalize.h"

#define LUCID_FAMILY normalize
#define LUCID_FAMILY_KERNELS "normalize/kernels.def"
#include "../family.h"
