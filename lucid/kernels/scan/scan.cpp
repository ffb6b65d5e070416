#include "scan.h"

#define LUCID_FAMILY scan
#define LUCID_FAMILY_KERNELS "scan/kernels.def"
#include "../family.h"
