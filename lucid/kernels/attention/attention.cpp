#include "attention.h"

#define LUCID_FAMILY attention
#define LUCID_FAMILY_KERNELS "attention/kernels.def"
#include "../family.h"
