#include "loss.h"

#define LUCID_FAMILY loss
#define LUCID_FAMILY_KERNELS "loss/kernels.def"
#include "../family.h"
