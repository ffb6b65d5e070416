#include "elementwise.h"

#define LUCID_FAMILY elementwise
#define LUCID_FAMILY_KERNELS "elementwise/kernels.def"
#include "../family.h"
