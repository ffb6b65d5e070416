#include "linalg.h"

#define LUCID_FAMILY linalg
#define LUCID_FAMILY_KERNELS "linalg/kernels.def"
#include "../family.h"
